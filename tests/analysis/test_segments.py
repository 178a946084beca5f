"""Segments: the sums of the judge, split; alike in both readers; and no more false findings than were allowed."""

import json
import math
import random
from collections import Counter, defaultdict

import numpy
import pytest
from attrs import asdict

from rollout_sdk import ABTest, Gate, Guardrail, Runtime, rollout
from rollout_sdk.analysis import as_screen, as_text, live_segments, summarise
from rollout_sdk.analysis.compact import compact
from rollout_sdk.analysis.gather import gather
from rollout_sdk.analysis.judged import Judged, judged
from rollout_sdk.analysis.live import Live
from rollout_sdk.analysis.reduced import gather_reduced
from rollout_sdk.analysis.segment_differences import asked_of, segment_differences
from rollout_sdk.analysis.segment_sums import SegmentSums
from rollout_sdk.dashboard.live import LivePages
from rollout_sdk.journal import Journal
from rollout_sdk.page import as_html
from rollout_sdk.stats import StratifiedBuckets
from tests.analysis.random_journals import random_journal
from tests.analysis.test_wiring import by_unit
from tests.waiting import until

SPLIT = {"country": ["NL", "DE"], "is_member": [True]}


class Clock:
    now_s = 1_800_000_000.0

    def __call__(self):
        return int(self.now_s * 10**9)


def lived(folder, seed, calls=150, users=60):
    """A journal with random calls and outcomes, some of them late, repeated, or of a batch."""
    rng, clock = random.Random(seed), Clock()
    strategy = ABTest(
        0.4,
        gates=[Gate("click", mde=0.1), Gate("label", per="outcome")],
        guardrails=[Guardrail("spend", margin=0.5, clip=(0, 4), window=rng.choice([0, "90s"])), Guardrail("error_rate")],
        segments=SPLIT,
    )
    runtime = Runtime(journal=folder, time_ns=clock)

    def failing(user, country, is_member):
        if rng.random() < 0.1:
            raise ValueError
        return 1

    options = {"strategy": strategy, "runtime": runtime, "breaker": None}
    model = rollout(candidate=failing, unit="user", key="one", **options)(lambda user, country, is_member: 0)
    rows = rollout(candidate=lambda users, country, is_member: users, unit="users", batch="users", key="rows", **options)(
        lambda users, country, is_member: users
    )
    ids, owner = [], {}
    for _ in range(calls):
        clock.now_s += rng.expovariate(1)
        user, country, is_member = rng.randrange(users), rng.choice(["NL", "DE", "FR", None]), rng.random() < 0.5
        ids.append(model.rollout.route(user, country, is_member).decision.id)
        owner[ids[-1]] = model
        if rng.random() < 0.02:
            routed = rows.rollout.route(list(range(5)), rng.choices(["NL", "BE"], k=5), False)
            ids.extend(decision.id for decision in routed.decisions)
            owner.update((decision.id, rows) for decision in routed.decisions)
        for metric, value in (("click", 1.0), ("spend", rng.lognormvariate(1, 1)), ("label", rng.random()), ("other", 2.0)):
            for _ in range(rng.choice([0, 0, 1, 1, 2])):
                clock.now_s += rng.random()
                # Of a call some time ago: its window may be over.
                which = ids[-min(len(ids), rng.choice([1, 1, 2, 80]))]
                owner[which].rollout.record(
                    metric, value, decision_id=which, event_id=rng.choice([None, None, f"again {which}"])
                )
    runtime.close(10)


def read(folder, gathering, found=None):
    """What the judge saw, the sums of a reader, and the differences by segment."""
    found = judged(Journal(folder))[0] if found is None else found
    asked = {which: asked_of(one) for which, one in found.items() if one.segments}
    aggregate = gathering(Journal(folder), asked=asked)
    rows = [
        segment_differences(one, aggregate.rollouts[which[0]][which[1]].segments, ["candidate", "v2"])
        for which, one in sorted(found.items())
    ]
    return found, aggregate, [each for of_one in rows for each in of_one]


def alike(one, other):
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-9)
    return one == other


def differing(one, other):
    """Numbers of segments that differ between two readers."""
    assert len(one) == len(other)
    rows = zip(map(asdict, one), map(asdict, other), strict=True)
    return [(mine, name, theirs[name]) for mine, theirs in rows for name in mine if not alike(mine[name], theirs[name])]


def held(folder, seed):
    lived(folder, seed)
    found, aggregate, rows = read(folder, gather)
    assert [] == differing(rows, read(folder, gather_reduced, found)[2])
    compact(folder, idle_s=-1.0)
    assert [] == differing(rows, read(folder, gather_reduced, found)[2])
    adding_up(folder, found, aggregate)
    return rows


def adding_up(folder, found, aggregate):
    """The parts add up to what the judge has."""
    recorded = defaultdict(set)
    for line in Journal(folder).only("outcome"):
        recorded[line["rollout"]].add(line["metric"])
    for which, one in found.items():
        gathered, asked = aggregate.rollouts[which[0]][which[1]], asked_of(one)
        # Undeclared, "other" is there if it was recorded.
        assert {"click", "label", "spend"} | ({"other"} & recorded[which[0]]) == asked.criteria.keys()
        for attribute in SPLIT:
            segments = [name for name in gathered.segments.calls if name[0] == attribute]
            for criterion in asked.criteria.values():
                until_s = one.now_s - criterion.window if criterion.window else None
                whole = one.course.evidence.sums(criterion, until_s)
                assert same(whole, added_up(gathered.segments, segments, criterion)), (criterion.metric, attribute)
            errors = added_up(gathered.segments, segments, None)
            failed = sum(errors.totals(phase, arm)[0] for phase in errors.phases() for arm in errors.arms())
            assert failed == sum(arm.errors.total() for arm in gathered.arms.values())


def added_up(sums, segments, criterion):
    whole = StratifiedBuckets()
    for segment in segments:
        whole.merge(sums.of(segment, criterion))
    return whole


def same(one, other):
    cells = {(phase, arm) for each in (one, other) for phase in each.phases() for arm in each.arms()}
    return all(
        numpy.allclose(mine, theirs, rtol=1e-9, atol=1e-9)
        for cell in cells
        for mine, theirs in zip(one.cell(*cell), other.cell(*cell), strict=True)
    )


@pytest.mark.parametrize("seed", range(2))
def test_the_parts_add_up_to_what_the_judge_has_and_both_readers_have_the_same(tmp_path, seed):
    rows = held(tmp_path, seed)
    assert {"click", "label", "spend", "other", "error_rate"} == {each.metric for each in rows}


def compact_json(folder):
    """Write lines as the SDK does, so that the database reads them."""
    for path in folder.glob("*.jsonl"):
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        path.write_text("".join(json.dumps(line, separators=(",", ":"), ensure_ascii=False) + "\n" for line in lines))


@pytest.mark.parametrize("seed", range(2))
def test_the_parts_have_outcomes_that_were_recorded_by_unit(tmp_path, seed):
    lived(tmp_path / "calls", seed)
    by_unit(tmp_path / "calls", tmp_path / "units", random.Random(seed))
    found, aggregate, rows = read(tmp_path / "units", gather)
    adding_up(tmp_path / "units", found, aggregate)
    assert sum(each.joined for of_one in aggregate.rollouts.values() for each in of_one.values()) > 50
    assert {"click", "label", "spend", "other", "error_rate"} == {each.metric for each in rows}
    compact_json(tmp_path / "units")
    assert [] == differing(rows, read(tmp_path / "units", gather_reduced, found)[2])
    compact(tmp_path / "units", idle_s=-1.0)
    assert [] == differing(rows, read(tmp_path / "units", gather_reduced, found)[2])


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2, 60))
def test_the_parts_add_up_on_many_journals(tmp_path, seed):
    held(tmp_path, seed)


@pytest.mark.parametrize("seed", range(2))
def test_both_readers_have_the_same_of_what_other_programs_write(tmp_path, seed):
    random_journal(tmp_path, seed, segments=True)
    found, _, rows = read(tmp_path, gather)
    assert {"NL", "D\u00e9", "True", "other"} == {each.segment for each in rows}
    assert [] == differing(rows, read(tmp_path, gather_reduced, found)[2])


def made_up(folder, effects, calls=3_000, seed=1, segments=None, **options):
    """A test whose clicks are more likely by so much in a country."""
    rng, runtime = random.Random(seed), Runtime(journal=folder)
    strategy = ABTest(0.5, segments={"country": list(effects)} if segments is None else segments, **options)
    shop = rollout(candidate=lambda user, country: 1, strategy=strategy, unit="user", key="shop", runtime=runtime)(
        lambda user, country: 0
    )
    countries = [*effects, "elsewhere"]
    for number in range(calls):
        country = countries[number % len(countries)]
        routed = shop.rollout.route(number, country)
        gain = effects.get(country, 0.0) if routed.decision.variant == "candidate" else 0.0
        if rng.random() < 0.2 + gain:
            shop.rollout.record("click", 1.0, decision_id=routed.decision.id)
        if number % 2_000 == 0:
            runtime.flush(10)
    runtime.close(30)
    return summarise(folder)


def test_a_segment_in_which_it_is_worse_is_named_although_the_whole_is_not(tmp_path):
    report = made_up(tmp_path, {"NL": 0.2, "DE": -0.12}, gates=[Gate("click", mde=0.05)])
    (shop,) = report.rollouts
    found = {each.segment: each for each in shop.verdict.segments if each.metric == "click"}
    assert {"NL": True, "DE": True, "other": False} == {name: each.is_discovery for name, each in found.items()}
    assert {"NL": False, "DE": True, "other": False} == {name: each.is_worse for name, each in found.items()}
    assert ["candidate is significantly worse in country=DE (click), corrected over 6 differences"] == [
        each.what for each in shop.verdict.checks if each.name == "segment"
    ]
    screen, text = as_screen(report), as_text(report)
    assert "country=DE    click -0." in screen
    assert "segments      2 of 6 differences significant, by country, corrected" in screen
    assert max(map(len, (*screen.splitlines(), *text.splitlines()))) <= 80
    (row,) = [line.split() for line in text.splitlines() if line.startswith("    country=DE")]
    assert row[3] == "*"
    assert "click by segment" in as_html(report)
    json.dumps(report.as_dict())


def test_counts_of_a_segment_are_those_of_its_calls(tmp_path):
    report = made_up(tmp_path, {"NL": 0.0}, calls=400)
    lines = [json.loads(line) for path in tmp_path.glob("*.jsonl") for line in path.read_text().splitlines()]
    arms = {line["id"]: (line["segments"]["country"], line["variant"]) for line in lines if line["event"] == "decision"}
    calls, clicks = Counter(arms.values()), Counter(arms[line["id"]] for line in lines if line["event"] == "outcome")
    for each in report.rollouts[0].verdict.segments:
        if each.metric == "click":
            where = each.segment, "candidate"
            assert (calls[where], clicks[where], calls[where]) == (each.value_count, each.value_total, each.value_units)
            assert clicks[each.segment, "control"] == each.control_total
            difference = clicks[where] / calls[where] - each.control_total / each.control_count
            assert difference == pytest.approx(each.estimate)


def test_the_counts_of_a_segment_are_of_calls_or_of_outcomes(tmp_path):
    report = made_up(tmp_path, {"NL": 0.0}, calls=400, gates=[Gate("click", per="outcome")])
    counted = {each.metric: each.counted for each in report.rollouts[0].verdict.segments}
    assert {"click": "outcomes", "error_rate": "calls"} == counted


def test_without_gates_segments_are_exploratory_and_nothing_is_declared(tmp_path):
    (shop,) = made_up(tmp_path, {"NL": 0.0}, calls=400).rollouts
    # Harm by failures that the SDK sees itself concludes in any case.
    kinds = {each.metric: each.kind for each in shop.verdict.segments}
    assert (False, {"click": "exploratory", "error_rate": "guardrail"}) == (shop.verdict.is_declared, kinds)


def test_without_segments_there_are_none_and_a_hostile_journal_adds_none(tmp_path):
    (shop,) = made_up(tmp_path / "one", {"NL": 0.0}, calls=100, segments={}).rollouts
    assert () == shop.verdict.segments
    made_up(tmp_path / "two", {"NL": 0.0}, calls=100)
    (path,) = (tmp_path / "two").glob("*.jsonl")
    hostile = path.read_text().replace('"country":"elsewhere"', '"country":"forged"').replace('"country":"other"', '"town":"x"')
    path.write_text(hostile)
    (shop,) = summarise(tmp_path / "two").rollouts
    assert {("country", "NL")} == {(each.attribute, each.segment) for each in shop.verdict.segments}


# How often it is wrong ----------------------------------------------------------------------------------------------------


def findings(rng, effect, segments=10, units=4_000, alpha=0.05):
    """Whether each of so many segments is found, in a test with this effect in the first ones."""
    one = Judged.begun("key")
    one.segments = {"segment": tuple(str(number) for number in range(segments))}
    one.course.criteria = ABTest(0.5, gates=[Gate("click", mde=0.05)], alpha=alpha).criteria
    sums = SegmentSums()
    for number in range(segments):
        for arm, gain in (("control", 0.0), ("candidate", effect[number])):
            buckets = rng.integers(0, 512, units)
            clicks = numpy.bincount(buckets, rng.random(units) < 0.2 + gain, minlength=512)
            name = ("segment", str(number))
            sums.calls[name].add_sums(
                "0:50%", arm, [0.0] * 512, [float(each) for each in numpy.bincount(buckets, minlength=512)]
            )
            sums.sums[name, "click"].add_sums("0:50%", arm, [float(each) for each in clicks], [0.0] * 512)
            sums.units[name, arm] = set(map(str, range(units)))
    return [each for each in segment_differences(one, sums, ["candidate"]) if each.metric == "click"]


def measured(runs, seed=1):
    """Share of false findings among all (with effects in half of the segments), and of runs with one (without an effect)."""
    rng = numpy.random.default_rng(seed)
    false, power, any_ = [], [], 0
    for _ in range(runs):
        found = findings(rng, [0.0] * 5 + [0.05] * 5)
        picked = [each.is_discovery for each in found]
        false.append(sum(picked[:5]) / max(1, sum(picked)))
        power.append(sum(picked[5:]) / 5)
        for each in found:
            assert each.is_discovery == (not each.low <= 0 <= each.high)
        any_ += any(each.is_discovery for each in findings(rng, [0.0] * 10))
    return sum(false) / runs, any_ / runs, sum(power) / runs


def test_few_findings_are_false_and_exactly_the_found_intervals_leave_out_zero():
    false, any_, power = measured(6)
    assert (false, any_) <= (0.05, 0.1)
    assert power > 0.5


@pytest.mark.slow
def test_findings_are_false_as_rarely_as_was_allowed():
    false, any_, power = measured(400)
    # alpha, and three standard errors.
    assert false <= 0.05 + 3 * 0.1 / math.sqrt(400)
    assert any_ <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 400)
    assert power > 0.5


# Live


def of_another_process(path, line):
    """Where a line of a journal would be, had another process recorded the outcomes."""
    return path.name.replace("events-", "events-other-") if b'"event":"outcome"' in line else path.name


def said_live(source, folder, pieces, *, apart=False, ahead=0):
    """What the lines of a journal say when they are read while they are written.

    With `apart`, another process has recorded the outcomes; so many pieces of them are there before their calls.
    """
    (path,) = source.glob("events-*.jsonl")
    lines = path.read_bytes().splitlines(keepends=True)
    live, size = Live(folder), -(-len(lines) // pieces)
    for piece in range(pieces + ahead):
        for number, line in enumerate(lines):
            name = of_another_process(path, line) if apart else path.name
            if number // size == (piece if name != path.name else piece - ahead):
                with (folder / name).open("ab") as file:
                    file.write(line)
        live.read()
        live.report()
    return live, {each.rollout: each.verdict for each in live.report().rollouts}


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 4))])
@pytest.mark.parametrize(
    "how", [{}, {"apart": True}, {"apart": True, "ahead": 2}], ids=["one process", "outcomes of another", "before their calls"]
)
def test_the_live_page_says_of_segments_what_the_report_says(tmp_path, seed, how):
    source, folder = tmp_path / "source", tmp_path / "live"
    folder.mkdir()
    lived(source, seed, calls=1_500, users=2_000)
    _, said = said_live(source, folder, 7, **how)
    report = {each.rollout: each.verdict for each in summarise(folder).rollouts}
    assert any(each.low is not None for each in report["one"].segments)
    assert said.keys() == report.keys()
    for key, verdict in report.items():
        assert [] == differing(said[key].segments, verdict.segments)
        assert totals(verdict) == pytest.approx(totals(said[key]), rel=1e-9)
        assert verdict.outcomes == said[key].outcomes


def totals(verdict):
    """What a verdict has counted of each metric."""
    return {
        f"{each.metric} {name}": getattr(each, name)
        for each in verdict.differences
        for name in ("control_total", "control_count", "value_total", "value_count")
        if getattr(each, name) is not None
    }


def test_the_live_page_remembers_the_latest_calls(tmp_path, monkeypatch):
    monkeypatch.setattr(live_segments, "_MOST_CALLS", 20)
    source, folder = tmp_path / "source", tmp_path / "live"
    folder.mkdir()
    lived(source, 1)
    live, _ = said_live(source, folder, 3)
    assert len(live._recent) == 20


def test_the_live_page_has_a_chart_of_segments(tmp_path):
    lived(tmp_path, 2, calls=1_500, users=2_000)
    with LivePages(tmp_path, every_s=0.05) as pages:
        until(lambda: "click by segment" in (pages.rollout("one") or ""), 120.0)
