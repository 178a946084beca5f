"""Pairs of answers that do not match are kept for people: sampled, redacted, blind, and for their owner alone."""

import json
import os
import stat
from dataclasses import dataclass

import pytest
from attrs import evolve
from click.testing import CliRunner

from rollout_sdk import ConfigurationError, Runtime, Shadow, ShadowLimits, rollout
from rollout_sdk.analysis import summarise
from rollout_sdk.cli import main
from rollout_sdk.comparators import Disagreements
from rollout_sdk.journal import KeptPair, KeptPairs, read_pairs
from rollout_sdk.journal.pairs import control_is_first
from rollout_sdk.page import as_html

NOW_S = 1_000_000.0


@dataclass
class Answer:
    text: str
    secret: str = "s3cret"


@pytest.fixture
def model(tmp_path):
    runtime = Runtime(journal=tmp_path, shadows=ShadowLimits(max_jobs=10_000, cpu_share=1.0, max_age_s=60.0, timeout_s=60.0))

    def make(keep, **options):
        options = {"strategy": Shadow(1.0), "effects": "read", "key": "mail", "runtime": runtime, "keep": keep, **options}
        return rollout(candidate=lambda user, n: Answer("candidate's"), **options)(lambda user, n: Answer("control's"))

    make.runtime = runtime
    yield make
    runtime.close(60.0)


def kept(pairs, number, folder, *, seen=0, **about):
    for each in range(seen, seen + number):
        about = {"t": NOW_S, "variant": "v2", "fingerprint": "f1", "reason": "value", "difference": 0.5, **about}
        pairs.offer((f"ours {each}", f"theirs {each}"), {"n": each}, about, f"id-{each}")
    return read_pairs(folder, "mail", now_s=NOW_S)


def test_nothing_is_kept_unless_it_is_asked_for(model, tmp_path):
    model(None)("u", 1)
    model.runtime.flush(60.0)
    assert [path.name for path in tmp_path.iterdir() if "events" not in path.name] == []


def test_both_answers_and_the_arguments_are_kept_as_they_were_redacted(model, tmp_path):
    def redact(value):
        return {"n": value["n"]} if isinstance(value, dict) else value.text

    model(Disagreements(50, redact=redact))("ann@example.com", 7)
    model.runtime.flush(60.0)
    (pair,) = read_pairs(tmp_path, "mail")
    assert ({pair.a, pair.b}, pair.arguments, pair.candidate) == ({"control's", "candidate's"}, {"n": 7}, "candidate")
    assert pair.as_dict(is_revealed=True)["control"] == ("a" if pair.a == "control's" else "b")
    assert "control" not in pair.as_dict()
    for path in (tmp_path / "disagreements").iterdir():
        assert "example.com" not in path.read_text()
        assert "s3cret" not in path.read_text()


def test_objects_are_kept_by_field(model, tmp_path):
    model(Disagreements(50, redact=None))("u", 7)
    model.runtime.flush(60.0)
    (pair,) = read_pairs(tmp_path, "mail")
    assert {"text": "control's", "secret": "s3cret"} in (pair.a, pair.b)


def test_only_the_owner_can_read_them(model, tmp_path):
    model(Disagreements(50, redact=None))("u", 7)
    model.runtime.flush(60.0)
    folder = tmp_path / "disagreements"
    (path,) = folder.iterdir()
    assert [stat.S_IMODE(each.stat().st_mode) for each in (folder, path)] == [0o700, 0o600]


def test_a_redaction_that_fails_keeps_nothing_and_is_a_fault(model, tmp_path):
    controller = model(Disagreements(50, redact=lambda value: 1 / 0)).rollout
    controller.route("u", 7)
    model.runtime.flush(60.0)
    assert read_pairs(tmp_path, "mail") == []
    assert controller.status().faults["keep", "ZeroDivisionError"] == 1


def test_rows_of_a_batch_are_kept_one_by_one(tmp_path):
    runtime = Runtime(journal=tmp_path, shadows=ShadowLimits(cpu_share=1.0))
    options = {"strategy": Shadow(1.0), "effects": "read", "key": "mail", "runtime": runtime, "batch": "rows"}
    keep = Disagreements(50, redact=None)
    rollout(candidate=lambda rows: [1, 2, 4], keep=keep, **options)(lambda rows: rows)([1, 2, 3])
    runtime.close(60.0)
    (pair,) = read_pairs(tmp_path, "mail")
    assert ({pair.a, pair.b}, pair.arguments) == ({3, 4}, None)


def test_no_more_are_kept_than_asked_for_and_each_has_the_same_chance(tmp_path):
    counts = dict.fromkeys(range(20), 0)
    for run in range(60):
        pairs = KeptPairs("mail", tmp_path / str(run), Disagreements(5, redact=None))
        for each in range(20):
            about = {"t": NOW_S, "variant": "v2", "fingerprint": "f1", "reason": "value", "difference": None}
            pairs.offer((1, 2), {"n": each}, about, f"{run}-{each}")
        found = read_pairs(tmp_path / str(run), "mail", now_s=NOW_S)
        assert len(found) == 5
        for pair in found:
            counts[pair.arguments["n"]] += 1
    early, late = (sum(counts[each] for each in half) for half in (range(10), range(10, 20)))
    # 300 of 600 are expected in each half; 3.5 standard errors.
    assert abs(early - late) < 2 * 3.5 * (300 * 0.25) ** 0.5


def test_a_file_never_grows_beyond_its_bytes(tmp_path):
    pairs = KeptPairs("mail", tmp_path, Disagreements(4, redact=lambda value: "x" * 10_000, max_bytes=8_000))
    found = kept(pairs, 400, tmp_path)
    (path,) = (tmp_path / "disagreements").iterdir()
    assert path.stat().st_size <= 8_000
    assert len(found) == 4
    assert all("characters)" in pair.a for pair in found)


def test_old_pairs_are_not_shown_and_their_files_go(tmp_path):
    settings = Disagreements(5, redact=None, max_age_s=100.0)
    kept(KeptPairs("mail", tmp_path, settings), 1, tmp_path, t=NOW_S - 40 * 86_400.0)
    assert read_pairs(tmp_path, "mail", now_s=NOW_S) == []
    (old,) = (tmp_path / "disagreements").iterdir()
    os.utime(old, (1.0, 1.0))
    kept(KeptPairs("mail", tmp_path, settings), 1, tmp_path)
    assert not old.exists()


def test_a_forked_child_keeps_its_own(tmp_path):
    pairs = KeptPairs("mail", tmp_path, Disagreements(5, redact=None))
    kept(pairs, 2, tmp_path)
    child = os.fork()
    if child == 0:
        kept(pairs, 1, tmp_path, seen=100)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert len(read_pairs(tmp_path, "mail", now_s=NOW_S)) == 3


def test_damaged_lines_and_other_rollouts_are_left_out(tmp_path):
    kept(KeptPairs("mail", tmp_path, Disagreements(5, redact=None)), 2, tmp_path)
    (path,) = (tmp_path / "disagreements").iterdir()
    path.write_bytes(path.read_bytes() + b'{"rollout": "mail", "place": 3}\n[1]\n{"broken\n')
    assert len(read_pairs(tmp_path, "mail", now_s=NOW_S)) == 2
    assert read_pairs(tmp_path, "other", now_s=NOW_S) == []


def test_which_answer_comes_first_is_a_coin_of_the_decision():
    first = sum(control_is_first(f"id-{number}") for number in range(1000))
    assert 420 < first < 580


class Odd:
    def __init__(self):
        self.me = self


@pytest.mark.parametrize("answer", [{(1, 2): 3}, Odd(), float("nan"), object(), {1, 2}, "\ud800"])
def test_answers_that_json_does_not_have_are_kept_all_the_same(answer, tmp_path):
    pairs = KeptPairs("mail", tmp_path, Disagreements(5, redact=None))
    pairs.offer((answer, 1), {}, {"t": NOW_S, "variant": "v2", "fingerprint": "f1", "reason": None, "difference": None}, "id")
    assert len(read_pairs(tmp_path, "mail", now_s=NOW_S)) == 1


@pytest.mark.parametrize("make", [
    lambda: Disagreements(0, redact=None), lambda: Disagreements(1.5, redact=None), lambda: Disagreements(5, redact="x"),
    lambda: Disagreements(5, redact=None, max_bytes=0),
])  # fmt: skip
def test_settings_that_keep_nothing_are_refused(make):
    with pytest.raises(ConfigurationError):
        make()


def test_what_is_no_disagreements_is_refused(runtime):
    with pytest.raises(ConfigurationError, match="is not a Disagreements"):
        rollout(candidate=lambda: 1, strategy=Shadow(), effects="read", keep=50, runtime=runtime)(lambda: 1)


# The command -----------------------------------------------------------------------------------------------------------------


def command(*words, code=0):
    result = CliRunner().invoke(main, ["disagreements", *map(str, words)])
    assert result.exit_code == code, result.output
    return result.output


@pytest.fixture
def journal(tmp_path):
    pairs = KeptPairs("mail", tmp_path, Disagreements(50, redact=None))
    for number, difference in enumerate([0.1, 0.9, 0.5]):
        about = {"t": 4e9, "variant": "v2", "fingerprint": "f1", "reason": "value", "difference": difference}
        pairs.offer((f"ours {number}", f"theirs {number}"), {"n": number}, about, f"id-{number}")
    return tmp_path


def test_the_command_shows_the_worst_first_and_blind(journal):
    text = command("mail", "--journal", journal)
    assert text.index("difference 0.9") < text.index("difference 0.5") < text.index("difference 0.1")
    assert "control" not in text
    assert "ours 1" in text


def test_it_says_which_is_whose_when_asked(journal):
    text = command("mail", "--journal", journal, "--reveal")
    (line,) = [line for line in text.splitlines() if "ours 1" in line]
    assert "(control)" in line


def test_it_exports_them_for_labelling(journal, tmp_path):
    target = tmp_path / "pairs.jsonl"
    assert "3 pairs" in command("mail", "--journal", journal, "--export", target)
    tables = [json.loads(line) for line in target.read_text().splitlines()]
    assert [table["arguments"]["n"] for table in tables] == [1, 2, 0]
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert json.loads(command("mail", "--journal", journal, "--json")) == tables


def test_it_says_how_many_more_there_are_and_how_to_keep_some(journal):
    assert "2 more" in command("mail", "--journal", journal, "--most", 1)
    assert "keep=Disagreements(50, redact=...)" in command("other", "--journal", journal, code=5)


@pytest.fixture
def page(model, tmp_path):
    """The page that the command writes of a journal with pairs."""
    for number in range(20):
        model(Disagreements(50, redact=lambda value: "<b>redacted</b>" if isinstance(value, Answer) else None))("u", number)
    model.runtime.flush(60.0)

    def page(*options, path=tmp_path / "report.html"):
        looked = CliRunner().invoke(main, ["report", str(tmp_path), "--html", str(path), *options])
        assert looked.exit_code == 0
        return path.read_text(), stat.S_IMODE(path.stat().st_mode), looked.stderr

    return page


def test_the_report_as_a_page_shows_pairs_redacted_and_blind_for_its_owner_alone(page, tmp_path):
    shown, mode, said = page()
    assert ("&lt;b&gt;redacted" in shown, "<b>redacted" in shown, mode) == (True, False, 0o600)
    assert shown.count("Whose answers are these?") == 5
    assert "15 more" in shown
    assert "--no-answers" in said
    # Neither does a page keep the mode of one that was there before.
    public = tmp_path / "public.html"
    public.write_text("")
    public.chmod(0o644)
    assert page(path=public)[1] == 0o600


def test_a_report_to_send_can_leave_them_out(page, tmp_path):
    shown, mode, _ = page("--no-answers", path=tmp_path / "to-send.html")
    assert ("redacted" in shown, mode & 0o600) == (False, 0o600)


def test_with_a_period_each_has_pairs_of_its_own(tmp_path, monkeypatch):
    now = [NOW_S]
    monkeypatch.setattr("rollout_sdk.journal.kept_pairs.time", lambda: now[0])
    pairs = KeptPairs("mail", tmp_path, Disagreements(3, per="day", redact=None))
    assert len(kept(pairs, 10, tmp_path)) == 3
    now[0] += 86_400.0
    found = kept(pairs, 10, tmp_path, seen=10, t=now[0])
    assert (len(found), sum(pair.arguments["n"] >= 10 for pair in found)) == (6, 3)


def test_all_processes_of_a_folder_keep_one_sample(tmp_path):
    """Three processes, one with most of the traffic: each pair of any has the same chance."""
    counts, runs, sizes = [0, 0, 0], 200, (60, 25, 15)
    for run in range(runs):
        folder = tmp_path / str(run)
        for process, size in enumerate(sizes):
            pairs = KeptPairs("mail", folder, Disagreements(10, redact=None))
            for each in range(size):
                about = {"t": NOW_S, "variant": "v2", "fingerprint": "f1", "reason": "value", "difference": None}
                pairs.offer((1, 2), {"process": process}, about, f"{run}-{process}-{each}")
        found = read_pairs(folder, "mail", now_s=NOW_S)
        assert len(found) == 10
        for pair in found:
            counts[pair.arguments["process"]] += 1
    # 10 of 100 pairs are kept each time; 3.5 standard errors of a draw without replacement.
    for count, size in zip(counts, sizes, strict=True):
        share = size / 100
        assert abs(count / runs - 10 * share) < 3.5 * (10 * share * (1 - share) * (90 / 99) / runs) ** 0.5


def test_other_settings_have_a_sample_of_their_own(tmp_path):
    for fingerprint in ("f1", "f2"):
        pairs = KeptPairs("mail", tmp_path, Disagreements(5, redact=None))
        found = kept(pairs, 20, tmp_path, fingerprint=fingerprint)
    assert sorted(pair.budget.fingerprint for pair in found) == ["f1"] * 5 + ["f2"] * 5


def test_a_period_that_is_none_is_refused():
    with pytest.raises(ConfigurationError, match="is not one of hour, day, week"):
        Disagreements(3, per="year", redact=None)


def test_a_page_of_many_rollouts_shows_fewer_pairs_of_each(page, tmp_path):
    page("--no-answers")
    report = summarise(tmp_path)
    long = {"text": "words & <b>markup</b> " * 200}
    pairs = [KeptPair("i" * 100, NOW_S, "candidate", "value", 0.5, long, long, long) for _ in range(50)]
    for number, shown in ((1, 5), (20, 1)):
        many = evolve(report, rollouts=report.rollouts * number)
        kept_of = {f"other {each}": pairs for each in range(number - 1)} | {"mail": pairs}
        text = as_html(many, pairs=kept_of)
        assert text.count("Whose answers are these?") == shown * number
        assert len(text) < 500_000
