"""An operator at a running canary: what callers get, and what is told."""

import threading

import pytest

from rollout_sdk import (
    ABTest,
    Canary,
    ConfigurationError,
    ConflictError,
    Interleave,
    Shadow,
    StateError,
    TransitionedEvent,
    rollout,
)

ACTIONS = {
    "promote": lambda controller, **options: controller.promote(**options),
    "set_share": lambda controller, **options: controller.set_share("10%", **options),
    "pause": lambda controller, **options: controller.pause(**options),
    "abort": lambda controller, **options: controller.abort(**options),
}


@pytest.fixture
def decorate(runtime):
    def make(strategy=None, *, key="model", candidates=("candidate",)):
        functions = {name: lambda user, name=name: name for name in candidates}

        @rollout(
            candidates=functions,
            strategy=strategy or Canary(["5%", "25%"]),
            effects="read",
            unit="user",
            key=key,
            runtime=runtime,
        )
        def model(user):
            return "control"

        return model

    return make


def transitions(runtime):
    return [event for event in runtime.events() if isinstance(event, TransitionedEvent)]


def test_every_action_gives_the_new_status(decorate):
    controller = decorate().rollout
    assert [action(controller).phase for action in ACTIONS.values()] == ["1:25%", "2:10%", "2:10%", "3:aborted"]
    assert controller.status().revision == 4


def test_a_transition_is_told_with_its_actor_and_its_reason(decorate, watch):
    runtime = watch(time_ns=lambda: 5_000_000_000)

    @rollout(candidate=lambda user: 2, strategy=Canary(["5%", "25%"]), unit="user", key="model", runtime=runtime)
    def model(user):
        return 1

    model.rollout.promote(actor="ann", reason="a quiet day")
    told = transitions(runtime)
    assert told == [
        TransitionedEvent(
            rollout="model",
            strategy="canary",
            action="promote",
            status="running",
            revision=1,
            from_phase="0:5%",
            to_phase="1:25%",
            shares={"control": 0.75, "candidate": 0.25},
            actor="ann",
            reason="a quiet day",
            time_s=5.0,
            fingerprint=model.rollout.status().fingerprint,
            id=told[0].id,
        )
    ]
    assert told[0].id


def test_a_refused_action_is_not_told(decorate, runtime):
    controller = decorate().rollout
    with pytest.raises(StateError):
        controller.resume()
    controller.set_share("5%")
    assert transitions(runtime) == []


@pytest.mark.parametrize("option", ["actor", "reason"])
@pytest.mark.parametrize("action", ACTIONS)
def test_who_and_why_are_texts(decorate, runtime, action, option):
    controller = decorate().rollout
    match = rf"^{option}=7 of {action} of 'model' is not a text. .* Write {option}='...'.$"
    with pytest.raises(ConfigurationError, match=match):
        ACTIONS[action](controller, **{option: 7})
    assert (controller.status().revision, transitions(runtime)) == (0, [])


def test_calls_after_a_promotion_are_of_the_next_phase(decorate):
    model = decorate()
    before = model.rollout.route("u-1").decision
    model.rollout.promote()
    after = model.rollout.route("u-1").decision
    assert (before.phase, after.phase) == ("0:5%", "1:25%")
    assert (before.bucket, before.rollout) == (after.bucket, after.rollout)


def test_the_counts_of_a_status_are_of_the_current_phase(decorate):
    model = decorate(Canary(["50%", "100%"]))
    for user in range(50):
        model(user)
    model.rollout.promote()
    for user in range(10):
        model(user)
    assert (model.rollout.status().calls, model.rollout.status().realised) == ({"candidate": 10}, {"candidate": 1.0})


def test_several_shares_change_in_one_transition(runtime):
    model = rollout(
        candidates={name: lambda user: "new" for name in ("v2", "v3", "v4")},
        strategy=Canary([{"v2": 0.1, "v3": 0.1, "v4": 0.1}]),
        unit="user",
        runtime=runtime,
        key="many",
    )(lambda user: "old")
    before = model.rollout.status()
    after = model.rollout.set_shares({"v2": "20%", "v3": 0.3}, actor="ann", reason="r", revision=before.revision)
    assert (after.shares, after.revision) == ({"control": 0.4, "v2": 0.2, "v3": 0.3, "v4": 0.1}, before.revision + 1)
    assert model.rollout.set_shares({"v2": 0.2}, actor="ann", reason="r").revision == after.revision
    with pytest.raises(ConfigurationError, match="add up to 110"):
        model.rollout.set_shares({"v2": 0.5, "v3": 0.5})
    with pytest.raises(StateError, match="v9"):
        model.rollout.set_shares({"v9": 0.1})
    assert model.rollout.status().shares == after.shares


def test_a_pause_keeps_the_shares_and_refuses_promotion(decorate):
    model = decorate(Canary(["100%"]))
    model.rollout.pause()
    assert model("u-1") == "candidate"
    with pytest.raises(StateError, match="it is paused"):
        model.rollout.promote()
    assert model.rollout.resume().status == "running"


def test_a_promoted_candidate_serves_everybody(decorate):
    model = decorate(Canary(["5%"]))
    model.rollout.promote()
    assert {model(user) for user in range(100)} == {"candidate"}


def test_of_several_candidates_the_named_one_serves_everybody(decorate):
    model = decorate(Canary([{"v2": "5%", "v3": "5%"}]), candidates=("v2", "v3"))
    model.rollout.promote("v3")
    assert {model(user) for user in range(100)} == {"v3"}


@pytest.mark.parametrize(
    "strategy", [Canary(["100%"]), ABTest(1.0), Shadow(1.0), Canary(["5%"], shadow=1.0), Interleave()], ids=repr
)
def test_after_an_abort_no_candidate_runs(runtime, strategy):
    ran = []

    @rollout(
        candidate=lambda user: ran.append(user) or ["x"],
        strategy=strategy,
        effects="read",
        unit="user",
        key="model",
        runtime=runtime,
    )
    def model(user):
        return ["control"]

    model.rollout.abort(actor="pager", reason="errors")
    assert [model(user) for user in range(50)] == [["control"]] * 50
    assert runtime.flush(5.0)
    assert ran == []
    assert model.rollout.status().excluded == {"aborted": 50}


def test_an_abort_is_told_once(decorate, runtime):
    controller = decorate().rollout
    assert controller.abort().revision == controller.abort().revision == 1
    assert len(transitions(runtime)) == 1


def test_no_candidate_starts_after_an_abort_has_returned(runtime):
    started, stop = [], threading.Event()

    @rollout(candidate=lambda user: started.append(user), strategy=Canary(["100%"]), unit="user", key="model", runtime=runtime)
    def model(user):
        return None

    def serve():
        while not stop.is_set():
            model("u-1")

    threads = [threading.Thread(target=serve) for _ in range(3)]
    for thread in threads:
        thread.start()
    while len(started) < 50:
        stop.wait(0.001)
    model.rollout.abort()
    # Whoever had decided before the abort may just be starting; nobody else may.
    stop.wait(0.05)
    seen = len(started)
    stop.wait(0.1)
    stop.set()
    for thread in threads:
        thread.join()
    assert len(started) == seen


@pytest.mark.parametrize("action", ACTIONS)
def test_an_action_on_an_outdated_revision_is_refused(decorate, action):
    controller = decorate().rollout
    looked_at = controller.status().revision
    controller.promote(revision=looked_at)
    with pytest.raises(ConflictError, match=r"'model' is at revision 1, not 0. Another change was made since you looked."):
        ACTIONS[action](controller, revision=looked_at)
    assert controller.status().phase == "1:25%"


def test_of_two_operators_at_once_one_wins_and_one_is_told(decorate):
    controller = decorate(Canary([number / 100 for number in range(1, 50)])).rollout
    start, results = threading.Barrier(8), []

    def promote():
        start.wait()
        try:
            results.append(controller.promote(revision=0).revision)
        except ConflictError:
            results.append("conflict")

    threads = [threading.Thread(target=promote) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results, key=str) == [1, *["conflict"] * 7]


def test_operators_who_do_not_look_lose_no_step(decorate, runtime):
    controller = decorate(Canary([number / 100 for number in range(1, 50)])).rollout
    threads = [threading.Thread(target=controller.promote) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (controller.status().revision, controller.phase.name) == (20, "20:21%")
    assert sorted(event.revision for event in transitions(runtime)) == list(range(1, 21))


@pytest.mark.parametrize("strategy", [ABTest(0.5), Shadow(0.1), Interleave()], ids=lambda strategy: strategy.name)
@pytest.mark.parametrize("action", ["promote", "set_share"])
def test_a_strategy_without_steps_can_be_paused_and_aborted_and_nothing_else(decorate, strategy, action):
    controller = decorate(strategy).rollout
    with pytest.raises(StateError, match="its strategy has no steps"):
        ACTIONS[action](controller)
    controller.pause()
    controller.resume()
    assert controller.abort().status == "aborted"


def test_the_status_is_a_few_lines_for_a_person(decorate):
    model = decorate(Canary(["100%"]))
    for user in (1, 2, None):
        model(user)
    assert str(model.rollout.status()).splitlines() == [
        "model: canary, running, phase 0:100%",
        "  control          configured   0.0000%  realised         -  calls 1",
        "  candidate        configured 100.0000%  realised 100.0000%  calls 2",
        "  not analysed, no_unit: 1",
    ]
