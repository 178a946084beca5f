"""`rollout audit`: people compare pairs that were drawn by chance, without knowing whose answer is whose."""

import json
import time

import pytest
from click.testing import CliRunner

from rollout_sdk import Guardrail, Judge, Shadow, rollout
from rollout_sdk.cli import main
from rollout_sdk.comparators import Disagreements
from rollout_sdk.journal import KeptPairs, read_journal, read_pairs
from rollout_sdk.journal.pairs import AUDITS
from rollout_sdk.judging.preferences import is_drawn_for_people
from rollout_sdk.runtime.audits import Label, waiting_pairs

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


def test_people_are_asked_for_no_more_labels_than_the_budget_of_all_processes(tmp_path, watch):
    """Three processes keep 10 pairs each of a budget of 10; people label while more traffic comes, which replaces pairs."""
    folder = tmp_path / "journal"
    chats = [deployed(watch(journal=folder), most=10) for _ in range(3)]
    for _ in range(4):
        for chat in chats:
            for i in range(40):
                chat(f"text {i}")
            assert chat.rollout._settings.runtime.flush(10.0)
        audited(tmp_path, "tie\n" * 4, "--most", "4")
    # More than ten pairs are kept, each of them drawn for people, and without a label.
    kept = {json.loads(line)["id"] for path in (folder / AUDITS).iterdir() for line in path.read_text().splitlines()}
    assert (10, True) == (len(labels(tmp_path)), len(kept) > 20)
    assert audited(tmp_path, "").exit_code == 5


def test_with_a_period_there_are_labels_for_each(tmp_path, monkeypatch):
    day_s, now = 86_400.0, [0.0]
    monkeypatch.setattr("rollout_sdk.journal.kept_pairs.time", lambda: now[0])
    today = time.time() // day_s
    about = {"variant": "candidate", "fingerprint": "f", "reason": None, "difference": None}
    for process in range(2):
        pairs = KeptPairs("chat", tmp_path, Disagreements(5, per="day", redact=None), AUDITS)
        for day in range(3):
            now[0] = (today - day) * day_s
            for each in range(10):
                pairs.offer(("a", "b"), {}, {**about, "t": now[0]}, f"{process} {day} {each}")

    def asked(*labels):
        found = waiting_pairs(tmp_path, "chat", labels={each.pair: each for each in labels})
        return [sum(today - pair.time_s // day_s == day for pair in found) for day in range(3)]

    assert asked() == [5, 5, 5]
    # Of pairs that others have replaced since.
    given = [Label(f"replaced {each}", "candidate", "chat", "f", today * day_s) for each in range(3)]
    others = [Label("x", "candidate", "other", "f", today * day_s), Label("y", "candidate", "chat", "other", today * day_s)]
    assert asked(*given, *others) == [2, 5, 5]


def test_each_candidate_of_a_call_has_labels_of_its_own(tmp_path, watch):
    runtime = watch(journal=tmp_path / "journal")

    @rollout(
        candidates={name: lambda text: "better " + text for name in ("v2", "v3")}, effects="read", runtime=runtime, key="chat",
        strategy=Shadow(1.0, guardrails=[Guardrail("judge.preference", margin=0.05, audit=1.0)]),
        keep=Disagreements(100, redact=None),
    )  # fmt: skip
    def chat(text):
        return text

    for i in range(5):
        chat(f"text {i}")
    assert runtime.flush(10.0)
    assert "10 of 10 pairs labelled" in audited(tmp_path, "tie\n" * 10, "--most", "10").output
    assert audited(tmp_path, "").exit_code == 5
    lines = [line for line in read_journal(tmp_path / "journal") if line["event"] == "outcome"]
    assert sorted(line["variant"] for line in lines) == ["v2"] * 5 + ["v3"] * 5
