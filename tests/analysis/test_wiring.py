"""One implementation of every number: judge, replay, report and database come to the same, on random journals."""

import json
import random
from collections import defaultdict

import pytest

from rollout_sdk import ABTest, Canary, Gate, Guardrail, Runtime, Shadow, Step, rollout
from rollout_sdk.analysis import summarise
from rollout_sdk.analysis.in_duckdb import InDuckDB
from rollout_sdk.analysis.judged_in_sql import judged_by_sums
from rollout_sdk.analysis.relations import IrreducibleError
from rollout_sdk.analysis.replay import replay
from rollout_sdk.journal import Journal
from tests.analysis.test_database import differing, read, reduced

BEGIN_S = 1_800_000_000
EVERY_S = 60.0
EXACT = ("estimate", "low", "high", "relative", "relative_low", "relative_high", "control", "value", "harm_log_e", "safe_log_e")


class Clock:
    """Stands still until it is set."""

    now_s = float(BEGIN_S)

    def __call__(self):
        return int(self.now_s * 10**9)


def strategies(rng, *, is_plain):
    """A strategy with a random plan; a plain one needs no more than sums."""
    guardrails = [
        Guardrail("error_rate", floor=0.1),
        Guardrail("latency", threshold_s=0.5),
        Guardrail("latency_mean", on_fail="warn"),
    ]
    recorded = [Guardrail("spend", margin=0.5, clip=(0, 40), window=0 if is_plain else rng.choice([0, "90s"]))]
    gates = [
        # Without a horizon, whose looks are taken when somebody looks: test_replay has those.
        Gate("click", mde=0.1),
        Gate("label", per="outcome", dry_run=rng.random() < 0.3),
    ]
    some = rng.sample(guardrails, rng.randint(1, 3))
    kind = rng.choice(["ab", "canary"] if is_plain else ["ab", "canary", "shadow"])
    if kind == "shadow":
        return Shadow(1.0, guardrails=some)
    if kind == "canary":
        steps = [Step(share, min_units=0, min_time=0) for share in ("30%", "60%")]
        return Canary(
            steps,
            guardrails=[*some, *recorded],
            gates=gates[:1],
            max_calls_per_unit=None if is_plain else rng.choice([None, 5]),
            approve=lambda verdict: False,
        )
    return ABTest(rng.choice([0.3, 0.5]), guardrails=[*some, *recorded], gates=gates, alpha=rng.choice([0.05, 0.1]))


def lived(folder, seed, *, is_plain):
    """A rollout with random traffic: its strategy, whether it has a covariate, and its last verdict.

    With `is_plain`, nothing in its journal keeps the database from its verdict.
    """
    rng, clock, clicks = random.Random(seed), Clock(), []
    strategy = strategies(rng, is_plain=is_plain)
    runtime = Runtime(journal=folder, time_ns=clock)
    runtime.reconciler.start = lambda: None  # the test looks by hand

    def failing(chance, draws):
        def model(user, before=0.0):
            if draws.random() < chance:
                raise ValueError
            return 1

        return model

    candidate = failing(rng.choice([0.02, 0.2]), random.Random(seed + 1))
    covariate = None if is_plain else rng.choice([None, "before"])
    model = rollout(
        candidate=candidate, strategy=strategy, unit="user", key="m", runtime=runtime, breaker=None, effects="read",
        covariate=covariate,
    )(failing(0.05, random.Random(seed + 2)))  # fmt: skip
    next_s = None
    for call in range(rng.choice([50, 400, 800])):
        clock.now_s += rng.expovariate(2)
        next_s = clock.now_s + EVERY_S if next_s is None else next_s
        if clock.now_s >= next_s:
            # As often as a replay looks: what an outage is, depends on when it is looked at.
            now_s, clock.now_s = clock.now_s, next_s
            runtime.flush(10)
            model.rollout.judge()
            clock.now_s = now_s
            next_s = next_s + EVERY_S if now_s - next_s < EVERY_S else now_s + EVERY_S
        decided_s = clock.now_s
        user = rng.randrange(rng.choice([5, 300]))
        try:
            routed = model.rollout.route(user, float(user % 7))
        except ValueError:
            continue
        finally:
            if strategy.name == "shadow":
                runtime.flush(10)
        for metric, value in (("click", 1.0), ("spend", rng.lognormvariate(1, 1)), ("label", rng.random()), ("other", 2.0)):
            if rng.random() < 0.3:
                clock.now_s += rng.random()
                event_id = None if is_plain else rng.choice([None, "again"])
                for _ in range(1 if is_plain else rng.choice([1, 1, 2])):
                    model.rollout.record(metric, value, decision_id=routed.decision.id, event_id=event_id)
        if strategy.name == "canary" and call == 300 and model.rollout.status().status == "running":
            model.rollout.promote(actor="test")
        clicks.append(routed)
    # The journal ends with the last call.
    clock.now_s = decided_s
    runtime.flush(10)
    verdict = model.rollout.judge()
    runtime.close(10)
    return strategy, covariate is not None, verdict


@pytest.mark.parametrize("seed", range(8))
def test_judge_report_and_replay_are_one(tmp_path, seed):
    agree(tmp_path, seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(8, 200))
def test_judge_report_and_replay_are_one_on_many_journals(tmp_path, seed):
    agree(tmp_path, seed)


def agree(folder, seed):
    # Of every other one, the database has the verdict, too.
    is_plain = seed % 2 == 0
    strategy, is_covered, verdict = lived(folder / "calls", seed, is_plain=is_plain)
    hold(folder / "calls", strategy, verdict, is_covered=is_covered, is_plain=is_plain)
    # Had outcomes been recorded by unit, those who read the journal would come to the same.
    by_unit(folder / "calls", folder / "units", random.Random(seed))
    hold(folder / "units", strategy, verdict, is_covered=is_covered)


def by_unit(folder, to, rng):
    """Write a journal again, with most of its outcomes as `record(unit=)` writes them, and some of these as an import does."""
    to.mkdir()
    units, imported = {}, []
    # What is recorded twice, is recorded twice in the same way.
    drawn = defaultdict(rng.random)
    for path in sorted(folder.glob("*.jsonl")):
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        for line in lines:
            if line["event"] == "decision":
                units[line["id"]] = line["unit"]
            elif line["event"] == "outcome" and line["id"] in units and drawn[line["id"], line["metric"]] < 0.7:
                line["unit"], drawn_at = units[line["id"]], drawn[line["id"], line["metric"]]
                for name in ("id", "phase", "variant", "decided", "fingerprint"):
                    line.pop(name, None)
                # Of an event that is recorded for several calls, readers of files and of time have another one first.
                if "event_id" not in line and drawn_at < 0.2:
                    imported.append({**line})
                    line["event"] = "elsewhere"
        (to / path.name).write_text("".join(json.dumps(line) + "\n" for line in lines if line["event"] != "elsewhere"))
    (to / "events-imported-1-1f-0.jsonl").write_text("".join(json.dumps(line) + "\n" for line in imported))


def judged_in_database(folder, *, is_plain):
    """The verdict by sums of the database; None where it must leave that to the reader of lines."""
    journal = Journal(folder)
    with InDuckDB(journal) as database:
        try:
            (found,) = judged_by_sums(journal, database).values()
        except IrreducibleError as error:
            # Twice as many errors as usual within a minute may be the beginning of an outage.
            assert not is_plain or str(error) == "there may be an outage"
            return None
    return found.verdict


def hold(folder, strategy, verdict, *, is_covered, is_plain=False):
    """Hold the report, the replay and the database of a journal against the verdict of the judge."""
    # What is below the verdict: every table.
    by_database = reduced(folder)
    assert [] == differing(read(folder), by_database)
    (reported,) = summarise(folder).rollouts
    if verdict is None or verdict.phase != reported.verdict.phase:
        # It was rolled back at this look: calls of the phase are over, and all three have judged it before.
        assert reported.status in ("rolled_back", "aborted")
        return
    replayed = replay(folder, strategy.criteria).phases[-1].last
    ours = {(each.name, each.candidate): each for each in verdict.findings if each.kind != "assignment"}
    theirs = {(each.name, each.candidate): each for each in replayed.findings if each.kind != "assignment"}
    shown = {(each.metric, each.candidate): each for each in reported.verdict.differences if each.kind != "exploratory"}
    by_sums = judged_in_database(folder, is_plain=is_plain)
    summed = theirs if by_sums is None else {(each.name, each.candidate): each for each in by_sums.findings}
    assert ours.keys() == theirs.keys() == shown.keys()
    assert len(ours) > 0
    for name, one in ours.items():
        assert one.outcome == theirs[name].outcome == shown[name].outcome == summed[name].outcome
        for field in EXACT:
            numbers = [getattr(each, field) for each in (one, theirs[name], shown[name], summed[name])]
            assert close(numbers[1:]), (name, field, numbers)
            # A journal has whole nanoseconds, of which these calls take a few hundred.
            assert close(numbers, 1e-3 if name[0] == "latency_mean" else 1e-9), (name, field, numbers)
    assert dict(verdict.outcomes) == dict(replayed.outcomes)
    if strategy.name == "ab" and not is_covered:
        # A metric without cap, clip and window: what the judge compares is what the database has summed up. The tables have
        # all calls, also those that the judge left out, because the control failed too often just then.
        (phase,) = by_database.rollouts[0].phases
        calls = {arm.variant: arm.calls for arm in phase.variants}
        means = {arm.variant: each.per_call.mean for arm in phase.variants for each in arm.metrics if each.metric == "click"}
        click = ours["click", "candidate"]
        if (click.numbers["value_count"], click.numbers["control_count"]) == (calls["candidate"], calls["control"]):
            assert close([click.estimate, means["candidate"] - means["control"]])
        else:
            assert click.numbers["value_count"] + click.numbers["control_count"] < sum(calls.values())


def close(numbers, to=1e-9):
    """Whether numbers are the same; None is only the same as None."""
    first, *others = numbers
    if first is None:
        return others == [None] * len(others)
    return all(each is not None and each == pytest.approx(first, abs=to, rel=to) for each in others)
