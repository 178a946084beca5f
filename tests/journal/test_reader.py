"""The reader: damage costs only itself, is counted, and never stops anybody."""

import gzip
import json
import os

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rollout_sdk import ConfigurationError
from rollout_sdk.analysis import summarise
from rollout_sdk.analysis.replay import replay
from rollout_sdk.doctor import examine
from rollout_sdk.journal import SCHEMA, read_journal
from rollout_sdk.journal.schema import FIELDS
from rollout_sdk.plan import Criteria

DECISION = {
    "event": "decision", "v": 1, "t": 1.5, "rollout": "r", "id": "d", "strategy": "ab", "phase": "0:50%", "variant": "control",
    "served": "control", "reason": "split", "propensity": 0.5, "bucket": 7, "share": 0.5, "unit": "u",
    "runs": [["control", 0.1, None, None]], "shadows": ["v"], "blend": ["control", "v"], "items": ["i"], "teams": [None],
    "excluded": True,
}  # fmt: skip
GOOD = {
    "journal": {"event": "journal", "v": 1, "t": 1.0, "sdk": "0", "pid": 1, "host": "h"},
    "rollout": {
        "event": "rollout", "v": 1, "t": 1.0, "rollout": "r", "strategy": "ab", "control": "control",
        "variants": ["control", "v"],
        "phase": "0:50%", "status": "running", "shares": {"control": 0.5, "v": 0.5},
    },
    "decision": DECISION,
    "rows": {
        "event": "rows", "v": 1, "t": 1.5, "rollout": "r", "like": [DECISION, {**DECISION, "variant": "v"}], "kind": [0, 1, 0],
        "ids": ["d1", "d2", "d3"], "buckets": [1, 2, 3], "units": ["u1", None, "u3"], "covs": [None, 0.5, None],
    },
    "shadow": {
        "event": "shadow", "v": 1, "t": 1.0, "rollout": "r", "id": "d", "phase": "0:50%", "variant": "v", "end": "ok",
        "duration_s": 0.1, "match": 1, "difference": 0.0, "bucket": 3, "unit": "u",
    },
    "outcome": {"event": "outcome", "v": 1, "t": 2.0, "rollout": "r", "metric": "m", "value": 1.0, "id": "d", "item": "i"},
    "breaker": {
        "event": "breaker", "v": 1, "t": 1.0, "rollout": "r", "variant": "v2", "action": "open", "failures": 20, "runs": 20,
        "cooldown_s": 30.0,
    },
    "lost": {"event": "lost", "v": 1, "t": 1.0, "count": 3},
    "transition": {
        "event": "transition", "v": 1, "t": 1.0, "rollout": "r", "strategy": "ab", "action": "promote", "status": "running",
        "revision": 1, "from_phase": "0:50%", "to_phase": "1:100%", "shares": {"v": 1.0}, "actor": "", "reason": "",
    },
}  # fmt: skip


def journal(folder, *lines):
    raw = [line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines]
    (folder / "events-a.jsonl").write_bytes(b"\n".join(raw) + b"\n")
    return read_journal(folder)


@pytest.mark.parametrize("event", sorted(GOOD.keys() - {"rows"}))
def test_a_good_line_is_read(event, tmp_path):
    found = journal(tmp_path, GOOD[event])
    assert ([GOOD[event]], 1, {}) == (list(found), found.lines, found.skipped)


def test_a_line_of_rows_is_read_as_a_decision_for_each_row(tmp_path):
    found = journal(tmp_path, GOOD["rows"])
    bare = {name: value for name, value in DECISION.items() if name != "unit"}
    assert [
        {**bare, "id": "d1", "bucket": 1, "unit": "u1"},
        {**bare, "id": "d2", "bucket": 2, "cov": 0.5, "variant": "v"},
        {**bare, "id": "d3", "bucket": 3, "unit": "u3"},
    ] == list(found)
    assert (1, {}) == (found.lines, found.skipped)


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": [0, 2, 0]},
        {"kind": [0, -1, 0]},
        {"ids": ["d1", "d2"]},
        {"buckets": [1, 2, 3, 4]},
        {"units": []},
        {"covs": [0.5]},
        {"like": []},
        {"like": [DECISION, {}]},
        {"like": [DECISION, {"event": "lost", "count": 1}]},
        {"like": [DECISION, {**DECISION, "runs": [["v"]]}]},
    ],
)
def test_rows_that_do_not_fit_together_are_damage(wrong, tmp_path):
    found = journal(tmp_path, {**GOOD["rows"], **wrong}, GOOD["lost"])
    assert ([GOOD["lost"]], {"damaged": 1}) == (list(found), found.skipped)


DAMAGED = {
    "cut short": json.dumps(DECISION).encode()[:40],
    "two glued": json.dumps(DECISION).encode()[:40] + json.dumps(DECISION).encode(),
    "binary": bytes(range(128, 256)),
    "zeros": b"\0" * 100,
    "utf-16": json.dumps(DECISION).encode("utf-16"),
    "deep": b"[" * 100_000,
    "deep objects": b'{"a":' * 100_000,
    "a list": b"[1,2]",
    "a text": b'"decision"',
    "null": b"null",
    "no event": b'{"v":1}',
    "NaN": b'{"event":"lost","v":1,"count":NaN}',
    "NaN in a field that is not ours": b'{"event":"lost","v":1,"count":1,"other":[-Infinity]}',
    "infinite": b'{"event":"outcome","v":1,"rollout":"r","metric":"m","value":1e999,"id":"d"}',
    "more than a float holds": b'{"event":"outcome","v":1,"rollout":"r","metric":"m","value":1' + b"0" * 400 + b"}",
    "more digits than Python reads": b'{"event":"lost","v":1,"count":1' + b"0" * 5000 + b"}",
    "version a text": b'{"event":"lost","v":"1","count":1}',
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_line_is_skipped_and_counted(name, tmp_path):
    found = journal(tmp_path, GOOD["lost"], DAMAGED[name], GOOD["lost"])
    assert ([GOOD["lost"]] * 2, 3, {"damaged": 1}) == (list(found), found.lines, found.skipped)


@pytest.mark.parametrize(("event", "field"), [(event, field) for event, fields in FIELDS.items() for field in fields])
def test_a_field_of_a_wrong_type_is_damage(event, field, tmp_path):
    values = ({"a": "b"}, {"a": [1]}, [["x"]], [1], "text", 1.5, 10**400, True)
    wrong = [value for value in values if not FIELDS[event][field].holds(value)]
    found = journal(tmp_path, *[{**GOOD[event], field: value} for value in wrong])
    assert ([], {"damaged": len(wrong)}) == (list(found), found.skipped)
    assert len(wrong) >= 5


@pytest.mark.parametrize("value", [1.5, 1.0, True, "1", 10**400])
@pytest.mark.parametrize(("event", "field"), [("lost", "count"), ("decision", "bucket"), ("transition", "revision")])
def test_a_count_that_is_not_a_whole_number_is_damage(event, field, value, tmp_path):
    found = journal(tmp_path, {**GOOD[event], field: value}, {**GOOD[event], field: 3})
    assert ([{**GOOD[event], field: 3}], {"damaged": 1}) == (list(found), found.skipped)


@pytest.mark.parametrize(("event", "field"), [("outcome", "value"), ("decision", "t")])
def test_a_number_that_no_sum_can_hold_is_damage(event, field, tmp_path):
    found = journal(tmp_path, {**GOOD[event], field: 10**400}, {**GOOD[event], field: 3}, {**GOOD[event], field: 2.5})
    assert ([{**GOOD[event], field: 3}, {**GOOD[event], field: 2.5}], {"damaged": 1}) == (list(found), found.skipped)


@pytest.mark.parametrize(
    ("event", "field"), [(event, name) for event, fields in FIELDS.items() for name, field in fields.items() if field.required]
)
def test_a_required_field_that_is_missing_or_null_is_damage(event, field, tmp_path):
    without = {name: value for name, value in GOOD[event].items() if name != field}
    found = journal(tmp_path, without, {**without, field: None})
    assert ([], {"damaged": 2}) == (list(found), found.skipped)


def test_lines_of_a_newer_version_and_unknown_events_are_counted_apart(tmp_path):
    found = journal(tmp_path, {**DECISION, "v": SCHEMA + 1}, {"event": "dance", "v": 1}, DECISION)
    assert ([DECISION], {"schema": 1, "unknown event": 1}) == (list(found), found.skipped)


def test_a_field_that_may_be_missing_may_be_null_and_is_then_missing(tmp_path):
    found = journal(tmp_path, {**GOOD["transition"], "t": None, "actor": None})
    without = {name: value for name, value in GOOD["transition"].items() if name not in ("t", "actor")}
    assert ([without], {}) == (list(found), found.skipped)


@pytest.mark.parametrize(("before", "after"), [(b"", b""), (b"", b"\r\n"), (b"  ", b" \n"), (b"\t", b"\n")])
def test_a_line_that_another_program_has_written_anew_is_read(before, after, tmp_path):
    (tmp_path / "events-a.jsonl").write_bytes(
        before + json.dumps(DECISION, sort_keys=True, separators=(", ", " : ")).encode() + after
    )
    found = read_journal(tmp_path)
    assert ([DECISION], {}) == (list(found), found.skipped)


@pytest.mark.parametrize(
    ("last", "skipped", "cut", "damaged"),
    [
        (json.dumps(DECISION).encode()[:40], {"damaged": 2}, 1, 1),
        (json.dumps(DECISION).encode()[:40] + b"\n", {"damaged": 2}, 0, 2),
        (json.dumps(DECISION).encode(), {"damaged": 1}, 0, 1),
        (b'{"event":"dance","v":1}', {"damaged": 1, "unknown event": 1}, 0, 2),
        (json.dumps({**DECISION, "v": SCHEMA + 1}).encode(), {"damaged": 1, "schema": 1}, 0, 2),
        pytest.param(json.dumps({**DECISION, "id": "x" * (5 << 20)}).encode(), {"damaged": 2}, 1, 1, id="too long"),
    ],
)
def test_only_a_last_line_without_its_end_is_cut_and_is_not_counted_as_damaged(last, skipped, cut, damaged, tmp_path):
    found = read_journal(tmp_path)
    assert (0, 0, 0, 0, 0) == (found.lines, found.cut, found.bytes, found.repeated, found.damaged)
    (path := tmp_path / "events-a.jsonl").write_bytes(json.dumps(DECISION).encode() + b"\nx\n" + last)
    list(found)
    assert (skipped, cut, damaged) == (found.skipped, found.cut, found.damaged)
    assert path.stat().st_size == found.bytes
    packed = tmp_path / "events-a.jsonl.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert [bool(cut), bool(cut)] == [found.is_cut(path), found.is_cut(packed)]


def test_blank_lines_are_nothing(tmp_path):
    found = journal(tmp_path, b"", b"  \t", DECISION, b"")
    assert ([DECISION], 1, {}) == (list(found), found.lines, found.skipped)


def test_every_reading_counts_anew(tmp_path):
    found = journal(tmp_path, DECISION, b"x")
    for _ in range(2):
        assert ([DECISION], 2, {"damaged": 1}) == (list(found), found.lines, found.skipped)


lines_between = st.lists(st.binary(max_size=60).filter(lambda raw: b"\n" not in raw), max_size=3)


@settings(deadline=None)
@given(lines_between, lines_between, lines_between)
@example([b"\r"], [b"\x0b\x0c"], ["\u2028".encode()])
def test_whatever_stands_between_good_lines_loses_only_itself(tmp_path_factory, first, second, third):
    folder = tmp_path_factory.mktemp("journal")
    found = journal(folder, *first, GOOD["lost"], *second, DECISION, *third)
    good = [record for record in found if record in (GOOD["lost"], DECISION)]
    assert ([GOOD["lost"], DECISION], found.lines) == (good, 2 + found.skipped.total())


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@settings(deadline=None, max_examples=200)
@example([("decision", {"blend": None, "excluded": None})])
@example([("outcome", {"bucket": None, "t": None})])
@example([("transition", {"t": None})])
@example([("shadow", {"t": None})])
@given(st.lists(st.sampled_from(sorted(GOOD)).flatmap(
    lambda event: st.tuples(st.just(event), st.dictionaries(st.sampled_from(sorted(FIELDS[event])), values, max_size=3))
), max_size=5))  # fmt: skip
def test_no_line_however_wrong_stops_a_report(tmp_path_factory, wrong):
    folder = tmp_path_factory.mktemp("journal")
    journal(folder, *[{**GOOD[event], **fields} for event, fields in wrong], *GOOD.values())
    assert "r" in {rollout.rollout for rollout in summarise(folder).rollouts}
    assert "r" in examine(str(folder), environment={}).journal.operations
    assert replay(folder, Criteria(), rollout="r").phases


def test_what_is_no_file_or_cannot_be_read_is_passed_over(tmp_path):
    journal(tmp_path, DECISION)
    (tmp_path / "events-folder.jsonl").mkdir()
    os.mkfifo(tmp_path / "events-pipe.jsonl")
    (tmp_path / "events-dangling.jsonl").symlink_to(tmp_path / "nothing")
    (tmp_path / "other.jsonl").write_text("x\n")
    found = read_journal(tmp_path)
    assert (["events-a.jsonl"], [DECISION], {}) == ([path.name for path in found.files], list(found), found.skipped)


def test_a_file_that_cannot_be_opened_is_counted(tmp_path, monkeypatch):
    found = journal(tmp_path, DECISION)
    (tmp_path / "events-b.jsonl").write_text(json.dumps(DECISION) + "\n")
    path = type(tmp_path)
    opened = path.open

    def refused(self, *args, **kwargs):
        if self.name == "events-a.jsonl":
            raise PermissionError
        return opened(self, *args, **kwargs)

    monkeypatch.setattr(path, "open", refused)
    assert ([DECISION], {"unreadable file": 1}) == (list(found), found.skipped)


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(ConfigurationError, match="There is no journal folder"):
        read_journal(tmp_path / "nowhere")


def test_what_has_been_read_is_counted_from_nothing(tmp_path):
    found = journal(tmp_path, GOOD["decision"], GOOD["outcome"])
    (path,) = found.files
    assert (0, 0, 0, 0) == (found.lines, found.bytes, found.cut, found.repeated)
    assert 2 == len(list(found.records_of(path)))
    assert (2, path.stat().st_size) == (found.lines, found.bytes)
    # A pass over everything starts anew.
    for _ in range(2):
        assert 2 == len(list(found))
        assert (2, path.stat().st_size) == (found.lines, found.bytes)
