"""A small journal is decoded once for a report, and the report is the same as of one that is read again."""

import gzip
from itertools import count

import pytest

from rollout_sdk import ABTest, Interleave, Runtime, Shadow, rollout
from rollout_sdk.analysis import summarise
from rollout_sdk.analysis.selected import SelectedJournal
from rollout_sdk.journal import reader

STRATEGIES = {"ab": ABTest(0.5), "shadow": Shadow(), "interleave": Interleave(k=3)}


def first(unit):
    return ["a", "b", "c"]


def second(unit):
    return ["c", "d", "a"]


@pytest.fixture
def folder(tmp_path):
    """Two processes' files, the second of which is there twice; with damaged lines, and outcomes that are there twice."""
    folder = tmp_path / "journal"
    for _ in range(2):
        runtime = Runtime(journal=folder, key=b"k" * 16)
        for key, strategy in STRATEGIES.items():
            model = rollout(
                candidates={"two": second}, strategy=strategy, unit="unit", key=key, effects="read", runtime=runtime
            )(first)
            for number in range(60):
                routed = model.rollout.route(f"u{number % 20}")
                item = {"item": "a"} if key == "interleave" else {}
                for _ in range(1 + (number == 7)):
                    model.rollout.record("click", 1.0, decision_id=routed.decision.id, event_id=str(number), **item)
        runtime.close()
    path = max(folder.glob("events-*.jsonl"))
    with path.open("ab") as file:
        file.write(b'{"damaged\n{"event":"later"}\n{"cut')
    (folder / f"{path.name[:-8]}-7.jsonl.gz").write_bytes(gzip.compress(path.read_bytes()))
    return folder


@pytest.fixture
def decoded(monkeypatch):
    """Counts the lines that are decoded."""
    numbers, decode = count(), reader.decoded

    def counting(line):
        next(numbers)
        return decode(line)

    monkeypatch.setattr(reader, "decoded", counting)
    return lambda: next(numbers)


@pytest.mark.parametrize("options", [{}, {"rollout": "ab"}, {"phase": "0"}], ids=str)
@pytest.mark.parametrize("limit", ["_MOST_KEPT", "_MOST_KEPT_BYTES"])
def test_the_report_is_the_same_as_when_every_line_is_decoded_again(folder, monkeypatch, options, limit):
    kept = summarise(folder, **options)
    assert kept.skipped["damaged"]
    assert kept.repeated
    monkeypatch.setattr(f"rollout_sdk.analysis.selected.{limit}", 5)
    assert kept.as_dict() == summarise(folder, **options).as_dict()


def test_every_line_is_decoded_once(folder, decoded):
    lines = summarise(folder).lines
    assert lines == decoded()


def test_what_is_written_meanwhile_is_left_for_the_next_report(folder):
    journal = SelectedJournal(folder)
    before, lines = list(journal), journal.lines
    path = journal.files[0]
    path.write_bytes(path.read_bytes() * 2)
    assert before == list(journal)
    assert lines == journal.lines
    # Of a file that comes meanwhile, nothing is known yet.
    path.rename(path.with_name(f"{path.name[:-8]}-9.jsonl"))
    list(journal)
    assert lines < journal.lines


def test_a_reading_that_was_not_finished_is_no_source_of_the_next(folder):
    journal = SelectedJournal(folder)
    whole = list(SelectedJournal(folder))
    next(iter(journal))
    assert whole == list(journal)


def test_a_reader_may_change_its_records(folder):
    journal = SelectedJournal(folder)
    for record in journal:
        record["seen_s"] = 1.0
    assert all("seen_s" not in record for record in journal)
