"""Hostile journals: nothing crashes the doctor, and memory stays bounded."""

import json
import tracemalloc

from hypothesis import example, given, settings
from hypothesis import strategies as st

from rollout_sdk.doctor import as_text, examine
from rollout_sdk.journal import read_journal
from rollout_sdk.journal.schema import FIELDS
from tests.doctor.lines import NOW, SECRET, about, breaker, decision, record, shadow, transition

GOOD = {
    "journal": record("journal", sdk="0", pid=1, host="h"),
    "rollout": about(),
    "decision": decision("v2", served="control", shadows=["v2"], withheld="breaker_open", error="E"),
    "shadow": shadow("error", error="E"),
    "outcome": record("outcome", rollout="r", metric="m", value=1.0, id="d"),
    "breaker": breaker("open"),
    "lost": record("lost", count=1),
    "transition": transition("promote", "running"),
}


def both(folder):
    """The diagnosis as text and as JSON, which must have come about."""
    seen = examine(str(folder), environment={"ROLLOUT_KEY": SECRET}, now=NOW)
    text, as_json = as_text(seen), json.dumps(seen.as_dict(), allow_nan=False)
    assert all(len(line) <= 100 and line.isprintable() for line in text.splitlines())
    return seen, text, as_json


@settings(deadline=None, max_examples=200)
@given(st.lists(st.binary(max_size=300), min_size=1, max_size=3))
@example([b'{"event":"decision"'])
@example([b'{"event":"lost","count":1' + b"0" * 300 + b"}"])
@example([b"\xff\xfe", b"\n\n\n", b""])
def test_arbitrary_bytes_never_crash_it(tmp_path_factory, contents):
    folder = tmp_path_factory.mktemp("journal")
    for number, content in enumerate(contents):
        (folder / f"events-{number}.jsonl").write_bytes(content)
    seen, _, _ = both(folder)
    assert sum(map(len, contents)) == seen.journal.bytes


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from([10**308, -(10**308), 1.7e308, -1.7e308]) | st.floats()
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)  # fmt: skip


lines = st.sampled_from(sorted(GOOD)).flatmap(
    lambda event: st.tuples(
        st.just(event),
        st.dictionaries(st.sampled_from(sorted(FIELDS[event])), values, max_size=3),
    )
)


@settings(deadline=None, max_examples=300)
@given(st.lists(lines, max_size=6))
@example([("lost", {"count": 10**308})] * 3)
@example([("breaker", {"t": 1.7e308, "failures": -(10**308), "runs": 10**308, "cooldown_s": 1e308})] * 2)
@example(
    [("decision", {"t": -1e308}), ("rollout", {"shares": {"v2": 1e308}}), ("transition", {"revision": 10**308, "t": 5e-324})]
)
@example([("outcome", {"value": 10**308, "t": 10**308})])
def test_lines_with_any_values_never_crash_it(tmp_path_factory, wrong):
    folder = tmp_path_factory.mktemp("journal")
    written = [json.dumps({**GOOD[event], **fields}) for event, fields in wrong]
    (folder / "events-h-1-1-0.jsonl").write_text("\n".join(written) + "\n")
    seen, _, _ = both(folder)
    assert len(written) == seen.journal.report.lines


def test_a_line_without_an_end_does_not_fill_the_memory(tmp_path):
    path = tmp_path / "events-a.jsonl"
    with path.open("wb") as file:
        file.write(json.dumps(GOOD["decision"]).encode() + b"\n")
        file.truncate(512 << 20)
        file.seek(512 << 20)
        file.write(b"\n" + json.dumps(GOOD["decision"]).encode() + b"\n")
    tracemalloc.start()
    try:
        found = read_journal(tmp_path)
        assert (2, 3, {"damaged": 1}, 0) == (len(list(found)), found.lines, found.skipped, found.cut)
        assert tracemalloc.get_traced_memory()[1] < 32 << 20
    finally:
        tracemalloc.stop()


def test_a_line_that_is_too_long_at_the_end_is_cut(tmp_path):
    (tmp_path / "events-a.jsonl").write_bytes(b"[" * (5 << 20))
    found = read_journal(tmp_path)
    assert ([], 1, {"damaged": 1}, 1, 5 << 20) == (list(found), found.lines, found.skipped, found.cut, found.bytes)


def test_names_without_number_do_not_fill_the_memory(tmp_path):
    with (tmp_path / "events-a.jsonl").open("w") as file:
        for number in range(6_000):
            # A name of its own in every place where there is one.
            name = f"{number}" + "x" * 1_000
            fields = {"variant": name, "phase": name, "reason": name, "excluded": bool(number % 2), "shadows": [name]}
            file.write(json.dumps({**GOOD["decision"], **fields, "rollout": f"{number % 1_500}"}) + "\n")
    tracemalloc.start()
    try:
        seen = examine(str(tmp_path), environment={}, now=NOW)
        assert tracemalloc.get_traced_memory()[1] < 64 << 20
    finally:
        tracemalloc.stop()
    operations = seen.journal.operations
    assert (1_001, 6_000) == (len(operations), sum(each.calls for each in operations.values()))
    assert 1_000 == len(seen.journal.report.rollouts)
    assert seen.journal.skipped["over the limit"] >= 2_000


def test_a_name_that_is_too_long_is_cut_and_counted_under_one_name(tmp_path):
    long = "r" * 5_000
    (tmp_path / "events-a.jsonl").write_text(f"{json.dumps({**GOOD['decision'], 'rollout': long})}\n" * 3)
    ((name, sums),) = examine(str(tmp_path), environment={}, now=NOW).journal.operations.items()
    assert (f"{'r' * 150}..(5000 characters)", 3) == (name, sums.calls)


def test_progress_is_told_up_to_the_end(tmp_path):
    (tmp_path / "events-a.jsonl").write_text(f"{json.dumps(GOOD['decision'])}\n" * 10_000)
    told = []
    examine(str(tmp_path), environment={}, now=NOW, progress=lambda done, of: told.append((done, of)))
    size = (tmp_path / "events-a.jsonl").stat().st_size
    assert ((size, size), sorted(told), {size}) == (told[-1], told, {of for _, of in told})
    assert len(told) >= 3
