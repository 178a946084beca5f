"""`rollout audit`: people compare pairs that were drawn by chance, without knowing whose answer is whose."""

import json

import pytest
from click.testing import CliRunner

from rollout_sdk import Guardrail, Judge, Shadow, rollout
from rollout_sdk.cli import main
from rollout_sdk.comparators import Disagreements
from rollout_sdk.journal import read_journal, read_pairs
from rollout_sdk.journal.kept_pairs import AUDITS
from rollout_sdk.judging.preferences import is_drawn_for_people

WORSE = Guardrail("judge.preference", margin=0.05, audit=0.5)


def deployed(runtime, *, judge=None, redact=None, guardrails=(WORSE,), most=500):
    @rollout(
        candidate=lambda text: "better " + text, strategy=Shadow(1.0, guardrails=guardrails), effects="read", judge=judge,
        keep=Disagreements(most, redact=redact), runtime=runtime, key="chat",
    )  # fmt: skip
    def chat(text):
        return text

    return chat


@pytest.fixture
def chat(tmp_path, watch):
    runtime = watch(journal=tmp_path / "journal", store=f"sqlite:///{tmp_path}/rollouts.db")
    found = deployed(runtime, judge=Judge(lambda request, a, b: "tie", sample=1.0))
    found.ids = [found.rollout.route(f"text {i}").decision.id for i in range(40)]
    assert runtime.flush(10.0)
    return found


def audited(tmp_path, said, *options):
    return CliRunner().invoke(main, ["audit", "chat", "--journal", str(tmp_path / "journal"), *options], input=said)


def labels(tmp_path):
    lines = read_journal(tmp_path / "journal")
    return {line["id"]: line["value"] for line in lines if line["event"] == "outcome" and line.get("source") == "human"}


def asked_of(output):
    """Which of a and b each pair of the output calls better."""
    shown = [line.split(": ", 1) for line in output.splitlines() if line.startswith(("  a: ", "  b: "))]
    return [("a" if a.startswith("better") else "b") for (_, a), (_, _b) in zip(shown[::2], shown[1::2], strict=True)]


def test_the_pairs_drawn_for_people_are_kept_and_no_others(chat, tmp_path):
    drawn = {each for each in chat.ids if is_drawn_for_people(each, 0.5)}
    assert {pair.id for pair in read_pairs(tmp_path / "journal", "chat", folder=AUDITS)} == drawn
    assert 8 < len(drawn) < 32


def test_what_a_person_says_is_recorded_about_the_candidate(chat, tmp_path):
    looked = audited(tmp_path, "quit\n")
    assert looked.exit_code == 0
    best = [asked_of(audited(tmp_path, "tie\n" * 40, "--most", "40").output)]
    assert set(labels(tmp_path).values()) == {0.0}
    assert len(best[0]) == len(labels(tmp_path))
    # Both orders occur, so that nobody who labels can know.
    assert {"a", "b"} == set(best[0])


def test_the_better_answer_is_the_candidates_in_either_order(chat, tmp_path):
    for _ in range(6):
        # The order of the pairs stays, so the next one is known before it is labelled.
        shown = asked_of(audited(tmp_path, "quit\n").output)[0]
        assert audited(tmp_path, f"{shown}\n", "--most", "1").exit_code == 0
    assert list(labels(tmp_path).values()) == [1.0] * 6


def test_the_processes_that_judge_count_the_labels(chat, tmp_path):
    number = len(read_pairs(tmp_path / "journal", "chat", folder=AUDITS))
    chat.rollout.judge()
    said = audited(tmp_path, "tie\n" * number, "--most", "40", "--store", f"sqlite:///{tmp_path}/rollouts.db")
    assert f"{number} of {number} pairs labelled.\n" in said.output
    finding = next(each for each in chat.rollout.judge().findings if each.name == "judge.preference")
    assert (finding.numbers["people"], finding.numbers["asked"]) == (number, number)


def test_a_pair_that_is_labelled_is_not_asked_for_again(chat, tmp_path):
    number = len(read_pairs(tmp_path / "journal", "chat", folder=AUDITS))
    assert "Without --store" in audited(tmp_path, "tie\n" * number, "--most", "40").output
    assert audited(tmp_path, "").exit_code == 5


def test_nothing_is_kept_without_keep_and_what_is_kept_is_redacted(tmp_path, watch):
    runtime = watch(journal=tmp_path / "journal")
    chat = deployed(runtime, redact=lambda value: "(hidden)")
    for i in range(30):
        chat(f"secret {i}")
    runtime.flush(10.0)
    files = list((tmp_path / "journal" / AUDITS).iterdir())
    assert ([0o600], False) == ([file.stat().st_mode & 0o777 for file in files], "secret" in files[0].read_text())
    assert {json.loads(line)["a"] for line in files[0].read_text().splitlines()} == {"(hidden)"}


def test_without_a_metric_about_preferences_nobody_is_asked(tmp_path, watch):
    runtime = watch(journal=tmp_path / "journal")
    chat = deployed(runtime, guardrails=())
    chat("text")
    runtime.flush(10.0)
    assert not (tmp_path / "journal" / AUDITS).exists()
    assert audited(tmp_path, "").exit_code == 5


def test_pairs_are_shown_as_text_that_is_safe_for_a_terminal(tmp_path, watch):
    runtime = watch(journal=tmp_path / "journal")
    chat = deployed(runtime, guardrails=(Guardrail("judge.preference", margin=0.05, audit=1.0),))
    chat("\x1b[31mred")
    runtime.flush(10.0)
    assert "\x1b" not in audited(tmp_path, "quit\n").output
