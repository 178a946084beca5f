"""A store that holds the state of another fingerprint: what is kept, what begins anew, and what old processes may do."""

import json
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from rollout_sdk import ABTest, Canary, Gate, Layer, Runtime, StateError, rollout
from rollout_sdk.analysis import summarise
from rollout_sdk.comparators import Close
from tests.processes import Processes


@pytest.fixture
def processes():
    with closing(Processes(key=b"key")) as made:
        yield made


GATE = Gate("good", per="outcome")


def decorated(runtime, **options):
    options = {"unit": "user", "key": "m", "strategy": Canary(["20%", "50%"], guardrails=[], gates=[GATE]), **options}
    return rollout(candidate=lambda user, session: "new", runtime=runtime, **options)(lambda user, session: "old")


def served(model):
    return {model(f"u{number}", f"s{number}") for number in range(100)}


def look(runtime):
    runtime.reconciler.look(runtime.reconciler.rollouts["m"])


CHANGES = {
    "unit": {"unit": "session"},
    "layer": {"layer": Layer("l")},
    "holdout": {"holdout": "10%"},
    "missing unit": {"missing_unit": "random"},
    "control name": {"control_name": "legacy"},
    "strategy": {"strategy": ABTest(0.2)},
    "version": {"version": "2"},
    "compare": {"compare": Close(rel=0.1)},
    "measure": {"measure": len},
}


@pytest.mark.parametrize("change", CHANGES)
def test_another_configuration_begins_anew_and_the_old_processes_serve_their_control(processes, change):
    one, two = processes(), processes()
    old = decorated(one)
    old.rollout.record("good", 1.0, decision_id=old.rollout.route("u1", "s1").decision.id)
    old.rollout.promote()
    assert {"counted": 1} == old.rollout.judge().outcomes
    before = processes.stored("m")
    new = decorated(two, **CHANGES[change])
    stored = processes.stored("m")
    assert (before.epoch + 1, before.number + 1, before.number + 1) == (stored.epoch, stored.number, stored.since)
    assert (0.2, new.rollout.status().fingerprint) == (stored.phase.shares["candidate"], stored.fingerprint)
    assert {"old", "new"} == served(new)
    look(one)
    assert {"old"} == served(old)
    with pytest.raises(StateError, match=r"replaced"):
        old.rollout.promote()
    again = decorated(processes())
    assert ({"old"}, stored) == (served(again), processes.stored("m"))
    # Another process of the new configuration joins.
    assert {"old", "new"} == served(decorated(processes(), **CHANGES[change]))
    assert stored == processes.stored("m")


def test_the_number_of_fingerprints_is_in_the_status_because_each_has_an_alpha_of_its_own(processes):
    for number in range(3):
        model = decorated(processes(), holdout=number / 10)
    status = model.rollout.status()
    assert (3, True) == (status.versions, f"fingerprint {status.fingerprint}, number 3 of this rollout" in str(status))


def test_with_another_hash_key_it_begins_anew_because_every_user_may_have_another_arm(processes):
    one, two = processes(), processes(key=b"other")
    old = decorated(one)
    new = decorated(two)
    look(one)
    assert ({"old"}, {"old", "new"}) == (served(old), served(new))
    fault = next(iter(decorated(processes()).rollout.status().faults))
    assert "store" == fault[0]


def test_evidence_of_another_fingerprint_is_refused(processes):
    one, two = processes(), processes()
    old = decorated(one)
    ids = [old.rollout.route(f"u{number}", "s").decision.id for number in range(20)]
    new = decorated(two, holdout="1%")
    for decision_id in ids:
        new.rollout.record("good", 1.0, decision_id=decision_id)
    decisions = [new.rollout.route(f"u{number}", "s").decision for number in range(20)]
    own = next(decision for decision in decisions if decision.reason == "split")
    new.rollout.record("good", 1.0, decision_id=own.id)
    verdict = new.rollout.judge()
    assert ({"unknown": 20, "counted": 1}, 20) == (
        verdict.outcomes, sum(verdict.units.values()) + sum(decision.reason != "split" for decision in decisions)
    )  # fmt: skip


def test_without_a_store_evidence_of_the_process_before_with_other_settings_is_refused():
    """Both call their phase 0:20%."""
    ids = [decorated(Runtime(key=b"key"), holdout="1%").rollout.route("u1", "s").decision for _ in range(3)]
    runtime = Runtime(key=b"key")
    model = decorated(runtime)
    for decision in ids:
        model.rollout.record("good", 1.0, decision_id=decision.id)
    own = model.rollout.route("u1", "s").decision
    assert (own.phase, True) == (ids[0].phase, own.fingerprint != ids[0].fingerprint)
    model.rollout.record("good", 1.0, decision_id=own.id)
    assert {"unknown": 3, "counted": 1} == model.rollout.judge().outcomes


def test_without_a_store_earlier_settings_may_come_back():
    """In a notebook one goes to and fro; with a store, that would be an old process which undoes a deployment."""
    runtime, seen = Runtime(key=b"key"), []
    for share in (1.0, 0.0, 1.0, 0.0, 1.0):
        model = decorated(runtime, strategy=ABTest(share))
        seen.append((served(model), model.rollout.status().status))
        del model
    assert [({"new"}, "running"), ({"old"}, "running")] * 2 + [({"new"}, "running")] == seen
    assert {} == runtime.faults
    runtime.close(1.0)


# What is kept -----------------------------------------------------------------------------------------------------------


def test_an_abort_stays_until_there_is_another_version(processes):
    decorated(processes()).rollout.abort()
    changed = decorated(processes(), holdout="10%")
    assert ("aborted", {"old"}) == (changed.rollout.status().status, served(changed))
    assert "running" == decorated(processes(), holdout="10%", version="2").rollout.status().status


def test_a_candidate_that_was_rolled_back_stays_so_until_there_is_another_version(processes):
    runtime = processes()
    decorated(runtime)
    runtime.reconciler.transitions.change("m", "roll_back", lambda state: state.roll_back(), actor="judge", reason="harm")
    changed = decorated(processes(), holdout="10%")
    assert ("rolled_back", {"old"}) == (changed.rollout.status().status, served(changed))
    assert "running" == decorated(processes(), holdout="10%", version="2").rollout.status().status


def test_of_several_candidates_the_one_that_was_rolled_back_stays_out(processes):
    def several(runtime, **options):
        functions = {name: lambda user, session: "new" for name in "ab"}
        strategy = Canary([{"a": "10%", "b": "20%"}], guardrails=[])
        options = {"strategy": strategy, "unit": "user", "key": "m", "runtime": runtime, **options}
        return rollout(candidates=functions, **options)(lambda user, session: "old")

    runtime = processes()
    several(runtime)
    runtime.reconciler.transitions.change("m", "roll_back", lambda state: state.roll_back("b"), actor="judge", reason="harm")
    status = several(processes(), holdout="10%").rollout.status()
    assert ("running", {"control": 0.9, "a": 0.1, "b": 0.0}) == (status.status, status.shares)
    assert 0.2 == several(processes(), version="2").rollout.status().shares["b"]


# What an earlier version has stored -------------------------------------------------------------------------------------


def forget_fingerprints(store):
    """As an earlier version, which knows of none, would have stored it."""
    stored = store.load("m")
    document = {name: value for name, value in stored.document.items() if name not in ("fingerprint", "replaced")}
    assert store.swap("m", stored.revision, {**document, "revision": stored.revision + 1}, {"time_s": 1.0})


def test_what_an_earlier_version_has_stored_goes_on_where_it_is(processes):
    one = processes()
    old = decorated(one)
    old.rollout.promote()
    forget_fingerprints(processes.store)
    new = decorated(processes())
    status = new.rollout.status()
    assert ("running", "1:50%", old.rollout.status().fingerprint) == (status.status, status.phase, status.fingerprint)
    # So do processes that were there before, and it is known from the next change on.
    look(one)
    assert {"old", "new"} == served(old) == served(new)
    new.rollout.set_share("60%")
    assert (status.fingerprint, 0) == (processes.stored("m").fingerprint, processes.stored("m").epoch)


def test_what_an_earlier_version_has_stored_of_another_version_begins_anew(processes):
    decorated(processes(), version="1")
    forget_fingerprints(processes.store)
    assert (1, 2) == (processes.stored("m").epoch + 1, decorated(processes(), version="2").rollout.status().versions)


# A rolling update, with real processes ----------------------------------------------------------------------------------

DEPLOYED = """
    import json, os, pathlib, time
    from collections import Counter
    from rollout_sdk import ABTest, Runtime, rollout

    up, version = pathlib.Path("up"), os.environ["VERSION"]
    deadline = time.monotonic() + 60
    while version == "2" and not up.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    runtime = Runtime(journal="journal", store=f"sqlite:///{os.getcwd()}/rollouts.db", key="0123456789abcdef")
    model = rollout(
        candidate=lambda user: "new", strategy=ABTest(0.5), unit="user", key="m", version=version, runtime=runtime
    )(lambda user: "old")
    decided, answers = Counter(), Counter()

    def serve(users):
        for user in range(users):
            routed = model.rollout.route(f"u{user}")
            decided[routed.decision.variant] += 1
            answers[routed.value] += 1

    serve(100)
    up.touch()
    while version == "1" and not model.rollout.is_disabled and time.monotonic() < deadline:
        serve(10)
        time.sleep(0.01)
    answers.clear()
    serve(100)
    status = model.rollout.status()
    runtime.close(10.0)
    print(json.dumps([status.fingerprint, decided, answers]))
"""


def test_two_deployments_at_once_are_two_sets_of_arms_and_the_older_one_serves_the_control(run_python, tmp_path):
    with ThreadPoolExecutor() as both:
        running = [both.submit(run_python, DEPLOYED, timeout=100, VERSION=version) for version in "12"]
        results = [each.result() for each in running]
    assert ["", ""] == [result.stderr for result in results]
    (one, decided_one, answers_one), (two, decided_two, answers_two) = (json.loads(result.stdout) for result in results)
    assert ({"old": 100}, {"old", "new"}) == (answers_one, set(answers_two))
    report = summarise(tmp_path / "journal")
    calls = {
        each.fingerprint: Counter({variant.variant: variant.calls for phase in each.phases for variant in phase.variants})
        for each in report.rollouts
    }
    assert {one: Counter(decided_one), two: Counter(decided_two)} == calls
    assert [("1", "replaced", 0), ("2", "running", 1)] == [
        (each.version, each.status, len(each.transitions)) for each in report.rollouts
    ]
    assert [one] == [record["replaced"] for each in report.rollouts for record in each.transitions]
