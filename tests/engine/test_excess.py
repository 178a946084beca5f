"""An outage of both opens no breaker and is no evidence; a candidate that fails while the control does well is left alone."""

import asyncio
from collections import Counter

import pytest

from rollout_sdk import ABTest, Breaker, Interleave, Shadow, rollout
from rollout_sdk.resilience.breaker import CircuitBreaker
from tests.faults.kinds import KINDS, of_kind, read


class Database:
    """What both models depend on."""

    down = False

    def __call__(self, *_):
        if self.down:
            raise ConnectionError
        return ["answer"]


@pytest.fixture
def database():
    return Database()


@pytest.fixture
def loop():
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


def fail(*_):
    raise ValueError


def made(kind, candidate, control, runtime, **options):
    options = {"strategy": ABTest(0.5), "effects": "read", "key": "model", "unit": lambda *user: user[0], **options}
    return rollout(candidate=of_kind(kind, candidate), runtime=runtime, **options)(of_kind(kind, control))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("share", [0.1, 0.5, 1.0])
def test_an_outage_of_both_leaves_the_breaker_closed(share, kind, database, runtime, loop):
    model = made(kind, database, database, runtime, strategy=ABTest(share))
    for down in (False, True, False):
        database.down = down
        for user in range(300):
            read(kind, lambda user=user: model(user), loop)
    assert () == model.rollout.status().open_breakers
    assert {None} == {event.withheld for event in runtime.routed()}
    assert not any(event.no_evidence for event in runtime.routed())


def test_an_outage_of_both_leaves_it_closed_where_nothing_runs_twice(database, runtime, loop):
    model = made("function", database, database, runtime, on_error="raise")
    for down in (False, True, False):
        database.down = down
        for user in range(300):
            read("function", lambda user=user: model(user), loop)
    assert () == model.rollout.status().open_breakers


@pytest.mark.parametrize(("strategy", "pause"), [(Shadow(1.0), True), (Interleave(), False)], ids=["shadow", "blend"])
@pytest.mark.parametrize("kind", ["function", "coroutine"])
def test_shadows_and_blends_are_held_against_the_control_of_the_same_call(kind, strategy, pause, database, runtime, loop):
    model = made(kind, database, database, runtime, strategy=strategy)
    database.down = True

    async def wait():
        await asyncio.sleep(0.001)

    for user in range(60):
        assert isinstance(read(kind, lambda user=user: model(user), loop)[1], ConnectionError)
        if pause:
            loop.run_until_complete(wait())
    assert runtime.flush()
    status = model.rollout.status()
    assert {"control": 60} == {variant: count for (variant, _), count in status.errors.items() if variant == "control"}
    assert ({("candidate", "error"): 60} if pause else {}) == status.shadows
    assert () == status.open_breakers


def test_batches_are_held_against_the_control_of_the_same_rows(runtime):
    def down(rows):
        raise ConnectionError

    model = rollout(candidate=down, strategy=ABTest(1.0), batch="rows", key="rows", runtime=runtime)(down)
    for _ in range(60):
        with pytest.raises(ConnectionError):
            model([1, 2, 3])
    assert () == model.rollout.status().open_breakers


@pytest.mark.parametrize("strategy", [ABTest(1.0), Shadow(1.0), Interleave()], ids=["fallback", "shadow", "blend"])
def test_a_failure_is_charged_with_what_the_control_did_in_the_same_call(strategy, database, runtime, loop, monkeypatch):
    charged = []
    monkeypatch.setattr(CircuitBreaker, "note", lambda _, ticket, **how: charged.append(how))
    model = made("function", fail, database, runtime, strategy=strategy)
    for down in (False, True, False):
        database.down = down
        read("function", lambda: model(1), loop)
        runtime.flush()
    # Without the control's own list there is no blend: the others do not run.
    expected = [False, False] if isinstance(strategy, Interleave) else [False, True, False]
    assert [{"failed": True, "control_failed": control_failed} for control_failed in expected] == charged


@pytest.mark.parametrize("share", [0.5, 1.0])
def test_a_candidate_that_fails_alone_is_left_alone_after_twenty_runs(share, runtime, loop):
    model = made("function", fail, lambda user: "old", runtime, strategy=ABTest(share))
    assert ["old"] * 300 == [model(user) for user in range(300)]
    assert 20 == Counter(event.withheld for event in runtime.routed() if event.decision.variant == "candidate")[None]


def test_while_the_breaker_is_open_what_the_control_fails_at_is_no_evidence_in_either_arm(database, runtime, loop):
    model = made("function", fail, database, runtime)
    for user in range(100):
        model(user)
    assert ("candidate",) == model.rollout.status().open_breakers
    database.down = True
    for user in range(100):
        read("function", lambda user=user: model(user), loop)
    database.down = False
    for user in range(100):
        model(user)
    events = runtime.routed()
    assert 300 == len(events)
    before, outage, after = (events[number : number + 100] for number in (0, 100, 200))
    assert not any(event.no_evidence for event in (*before, *after))
    assert {("candidate", "breaker_open"), ("control", None)} == {(e.decision.variant, e.withheld) for e in outage}
    assert all(event.no_evidence and not event.excluded for event in outage)


def test_what_the_control_fails_at_counts_while_another_candidate_runs(database, runtime, loop):
    """That one's failures count, and it is compared with the control, too."""
    model = rollout(
        candidates={"v2": fail, "v3": database}, strategy=ABTest({"v2": 0.3, "v3": 0.3}), unit=lambda *user: user[0],
        key="three", runtime=runtime,
    )(database)  # fmt: skip
    for user in range(300):
        model(user)
    assert ("v2",) == model.rollout.status().open_breakers
    database.down = True
    for user in range(100):
        read("function", lambda user=user: model(user), loop)
    found = Counter((event.decision.variant, event.no_evidence) for event in runtime.routed()[300:])
    assert {("v2", True), ("v3", False), ("control", False)} == set(found)


def test_rows_of_a_batch_are_no_evidence_by_themselves(runtime):
    calls = []

    def control(rows, users):
        calls.append(rows)
        if len(calls) > 1:
            raise ConnectionError
        return rows

    def candidate(rows, users):
        raise ValueError

    model = rollout(
        candidate=candidate, strategy=ABTest(1.0), unit="users", batch="rows", breaker=Breaker(min_runs=1), key="rows",
        runtime=runtime,
    )(control)  # fmt: skip
    assert [1, 2] == model([1, 2], [1, 2])
    with pytest.raises(ConnectionError):
        model([1, 2], [1, 2])
    assert [False, False, True, True] == [event.no_evidence for event in runtime.routed()]


def test_a_rollout_decorated_anew_shares_what_is_known_of_the_control(database, runtime, loop):
    def candidate(user):
        return database(user)

    def control(user):
        return database(user)

    first, second = (
        rollout(candidate=candidate, strategy=ABTest(0.5), unit="user", on_error="raise", key="again", runtime=runtime)(control)
        for _ in range(2)
    )
    database.down = True
    # The one serves the control's users alone, and the other the candidate's.
    users = {user: first.rollout.assign(user).variant for user in range(200)}
    for user, variant in users.items():
        model = second if variant == "control" else first
        read("function", lambda user=user, model=model: model(user), loop)
    assert () == first.rollout.status().open_breakers


def test_no_evidence_does_not_reach_the_judge(database, runtime, loop):
    heard = []

    class Evidence:
        most_calls = None

        def add_call(self, phase, arm, *_, failed, **__):
            heard.append((arm, failed))

    model = made("function", fail, database, runtime, breaker=Breaker(min_runs=1))
    from rollout_sdk.engine.call import Call

    call = Call(model.rollout._rollout, (1,), {})
    model.rollout._router(call, 1, model.rollout._rollout.state)
    call.add_to_evidence(Evidence())
    call.no_evidence = True
    call.add_to_evidence(Evidence())
    assert 1 == len(heard)
