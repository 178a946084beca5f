"""The command: exit codes, JSON with stable keys, a terminal that stays as it was, and nothing imported."""

import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from rollout_sdk import ABTest, Runtime, Shadow, rollout
from rollout_sdk.cli import main
from rollout_sdk.doctor.text import WIDTH
from tests.doctor.lines import SECRET, about, breaker, decision, record, shadow, transition

ROOT = Path(__file__).parent.parent.parent
DOCUMENT = (ROOT / "docs/doctor.md").read_text()


@pytest.fixture
def run(folder, monkeypatch):
    """Runs the command on the journal."""
    monkeypatch.setenv("ROLLOUT_KEY", SECRET)

    def run(*words):
        return CliRunner().invoke(main, ["doctor", *(words or [str(folder)])], catch_exceptions=False)

    return run


@pytest.fixture
def rich(write):
    """A journal in which there is something of everything."""
    write(
        record("journal", sdk="0.1", pid=1, host="h"),
        about(), decision(shadows=["v2"]), decision("v2"), decision("v2", served="control", withheld="breaker_open"),
        decision("v2", served="control", runs=[["v2", 0.1, "ValueError", None], ["control", 0.1, None, None]], error="E"),
        decision(excluded=True, reason="override"), shadow("ok"), shadow("dropped_snapshot", error="unknown type X"),
        shadow("error", error="KeyError"), breaker("open"), breaker("close"), transition("promote", "running", actor="ann"),
        record("outcome", rollout="r", metric="m", value=1.0, id="d"), record("lost", count=2), b"torn",
    )  # fmt: skip


def test_a_healthy_journal_ends_with_0(run, write):
    write(about(), decision())
    assert 0 == run().exit_code


def test_notes_end_with_0(run, write):
    write(about(status="paused"), decision(), record("dance"))
    result = run()
    assert (0, True) == (result.exit_code, "  note     'r' is paused" in result.output)


def test_a_warning_ends_with_1(run, write):
    write(b"torn", decision())
    assert 1 == run().exit_code


def test_an_error_ends_with_1(run, folder):
    folder.chmod(0o777)
    (folder / "events-host-1-1-0.jsonl").touch()
    assert 1 == run().exit_code


@pytest.mark.parametrize("words", [["nowhere"], ["--no-such-option"], [".", "."], [__file__]])
def test_a_wrong_command_ends_with_2(run, words):
    assert 2 == run(*words).exit_code


def test_an_empty_folder_ends_with_0(run):
    assert 0 == run().exit_code


def test_json_has_the_same_findings_and_exit_code(run, rich, folder):
    text, as_json = run(), run(str(folder), "--json")
    found = json.loads(as_json.output)
    assert (1, 1, False, "warning") == (text.exit_code, as_json.exit_code, found["healthy"], found["worst"])
    words = " ".join(text.output.split())
    assert all(" ".join(finding["what"].split()) in words for finding in found["findings"])


KEYS = {
    "": "healthy worst now versions plugins unreadable_metadata settings journal findings",
    "versions": "rollout_sdk python pluggy attrs structlog opentelemetry-api opentelemetry-sdk",
    "plugins.0": "name value distribution version file found blocked",
    "settings": "variables key control folder",
    "settings.variables.0": "name known meant value",
    "settings.key": "is_set length fault",
    "settings.control": "path refused version disabled rollouts",
    "settings.folder": "path is_folder is_link mode is_exposed owner is_mine readable free_bytes fault",
    "findings.0": "severity code what cure",
    "journal": "folder files lines bytes skipped missing repeated cut lost sampled lost_in_files last_lost_s first_s "
    "newest_s lag_s future furthest_s past sdk_versions rollouts",
    "journal.files.0": "name host pid began_s writing bytes mode is_link changed_s lines damaged cut newest_s",
    "journal.rollouts.r": "status calls outcomes failed sets runs not_copied breakers processes",
    "journal.rollouts.r.sets.0": "version fingerprint strategy status phases mismatch processes",
    "journal.rollouts.r.runs.v2": "runs errors",
    "journal.rollouts.r.breakers.v2": "opened closed open_s failures runs cooldown_s last_s open_now",
    "journal.rollouts.r.processes.0": "status phase count",
}


@pytest.mark.parametrize("place", KEYS)
def test_the_keys_of_the_json_are_those_of_the_document(run, rich, folder, monkeypatch, place):
    monkeypatch.setenv("ROLLOUT_CONTROL", str(folder / "control.toml"))
    found = json.loads(run(str(folder), "--json").output)
    for step in filter(None, place.split(".")):
        found = found[int(step)] if isinstance(found, list) else found[step]
    assert KEYS[place].split() == list(found)
    assert [] == [key for key in found if re.search(rf"`([\w.*]+\.)?{key}[.`]", DOCUMENT) is None]


def test_every_finding_is_documented_and_has_a_test():
    code = re.compile(r'"((?:versions|plugins|settings|folder|journal|rollouts?)\.\w+)"')
    made = set().union(*(code.findall(path.read_text()) for path in (ROOT / "rollout_sdk/doctor").glob("advice_*.py")))
    documented = set(
        re.findall(r"`((?:versions|plugins|settings|folder|journal|rollouts?)\.\w+)`", DOCUMENT.partition("## JSON")[0])
    )
    tests = "".join(path.read_text() for path in Path(__file__).parent.glob("test_*_findings.py"))
    assert (made, []) == (documented, sorted(each for each in made if f'"{each}"' not in tests and "{status}" not in tests))
    assert len(made) > 50


def test_the_value_of_the_key_is_nowhere(run, rich, folder, monkeypatch):
    monkeypatch.setenv("ROLLOUT_KEYS", SECRET)
    for words in ([str(folder)], [str(folder), "--json"]):
        assert (False, True) == (SECRET in run(*words).output, "ROLLOUT_KEY" in run(*words).output)


EVIL = "\x1b[31mred\x1b]0;title\x07\r\n\x9b2J\u202eltr\u2028\x7f\ud800"


@pytest.fixture
def hostile(write, folder):
    """A journal in which every text is an attack on a terminal."""
    texts = {"strategy": EVIL, "phase": EVIL, "status": EVIL, "control": EVIL, "variant": EVIL}
    write(
        record("journal", sdk=EVIL, host=EVIL),
        {**about(EVIL), **texts, "shares": {EVIL: 0.5}},
        {
            **decision(EVIL, rollout=EVIL, error=EVIL, withheld=EVIL, shadows=[EVIL], runs=[[EVIL, 0.1, EVIL, None]]),
            "phase": EVIL,
        },
        {**decision(EVIL, rollout=EVIL), "excluded": True, "reason": EVIL},
        {**shadow(EVIL), "rollout": EVIL, "variant": EVIL, "error": EVIL},
        {**breaker("open"), "rollout": EVIL, "variant": EVIL},
        {**transition(EVIL, EVIL, to_phase=EVIL, actor=EVIL, reason=EVIL), "rollout": EVIL},
        name="events-\x1b[31m\n\x9b-1-1-1.jsonl",
    )


@pytest.mark.parametrize("more", [[], ["--json"]])
def test_nothing_of_a_hostile_journal_reaches_the_terminal_raw(run, hostile, folder, more, monkeypatch):
    monkeypatch.setenv("ROLLOUT_DISABLED", EVIL[:-1])
    monkeypatch.setenv("ROLLOUT_DISABLED_PLUGINS", EVIL[:-1])
    monkeypatch.setenv(f"ROLLOUT_{EVIL[:-1]}", "x")
    output = run(str(folder), *more).output
    assert [] == [each for each in set(output) - {"\n"} if not each.isprintable()]
    assert "\\x1b[31m" in output or "\\u001b[31m" in output


@pytest.mark.parametrize("journal", ["rich", "hostile", "long"])
def test_no_line_of_the_text_is_wider_than_100_columns(run, write, request, journal):
    if journal == "long":
        write(
            *[decision("v" * 500 + str(number), rollout=f"{'r' * 500}{number}", shadows=["s" * 9_000]) for number in range(50)]
        )
    else:
        request.getfixturevalue(journal)
    assert [] == [line for line in run().output.splitlines() if len(line) > WIDTH]


def test_a_terminal_without_unicode_is_written_to_all_the_same(folder, write):
    write(about("r\u00e4nk\u4e2d"))
    command = [sys.executable, "-m", "rollout_sdk.cli", "doctor", str(folder)]
    done = subprocess.run(command, capture_output=True, env={**os.environ, "PYTHONIOENCODING": "ascii"}, check=False)
    assert (0, True) == (done.returncode, rb"  r\xe4nk\u4e2d: ab" in done.stdout)


def test_no_plugin_is_imported(install, folder):
    place = install("killer", "deadly = deadly.inner:Thing", files=["deadly/__init__.py", "deadly/inner.py"])
    command = [sys.executable, "-m", "rollout_sdk.cli", "doctor", str(folder), "--json"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(place), str(ROOT)])}
    done = subprocess.run(command, capture_output=True, env=environment, check=False)
    found = {plugin["name"]: plugin["file"] for plugin in json.loads(done.stdout)["plugins"]}
    assert (0, str(place / "deadly/inner.py")) == (done.returncode, found["deadly"])


def test_importing_that_plugin_would_have_ended_the_process(install):
    place = install("killer", "deadly = deadly.inner:Thing", files=["deadly/__init__.py", "deadly/inner.py"])
    done = subprocess.run(
        [sys.executable, "-c", "import deadly.inner"], env={**os.environ, "PYTHONPATH": str(place)}, check=False
    )
    assert 9 == done.returncode


def test_a_bar_is_shown_on_a_terminal_only(folder, write):
    write(*[decision()] * 10_000)
    command = [sys.executable, "-m", "rollout_sdk.cli", "doctor", str(folder), "--json"]
    silent = subprocess.run(command, capture_output=True, check=False)
    assert b"" == silent.stderr
    ours, theirs = pty.openpty()
    # It is drawn from two seconds on, which no test has to wait for.
    at_once = "import rollout_sdk.cli.output as output; output._PATIENCE_S = 0; from rollout_sdk.cli import main; main()"
    command[1:3] = ["-c", at_once]
    shown = subprocess.run(command, stdout=subprocess.PIPE, stderr=theirs, check=False)
    os.close(theirs)
    try:
        assert b"Reading the journal" in os.read(ours, 4096)
    finally:
        os.close(ours)
    assert json.loads(shown.stdout)["journal"]["lines"] == json.loads(silent.stdout)["journal"]["lines"]


def test_a_journal_that_the_sdk_wrote_is_healthy(run, folder):
    runtime = Runtime(journal=folder)

    @rollout(candidate=lambda user: 1, strategy=ABTest(0.5), unit="user", key="healthy", runtime=runtime)
    def model(user):
        return 0

    for number in range(100):
        model(f"u-{number}")
    assert runtime.flush(10.0)
    result = run()
    runtime.close()
    assert (0, True) == (result.exit_code, "100 calls" in result.output)


def test_a_candidate_that_crashes_is_seen_in_the_journal_that_the_sdk_wrote(run, folder):
    runtime = Runtime(journal=folder)

    def crash(text):
        raise ValueError(text)

    @rollout(candidate=crash, strategy=ABTest(1.0), unit="text", key="answered", runtime=runtime)
    def answered(text):
        return 0

    @rollout(candidate=crash, strategy=Shadow(rate=1.0), effects="read", key="shadowed", runtime=runtime)
    def shadowed(text):
        return 0

    for number in range(50):
        answered(f"{number}")
        shadowed(f"{number}")
    assert runtime.flush(10.0)
    found = json.loads(run(str(folder), "--json").output)
    runtime.close()
    codes = {(finding["severity"], finding["code"]) for finding in found["findings"]}
    assert {("error", "rollout.breaker_open"), ("warning", "rollout.candidate_fails")} <= codes
    assert ("warning", "rollout.shadows_incomplete") in codes
