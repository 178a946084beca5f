"""A flag drives a rollout: its share and its switch, what it names and nothing else, and only what can be believed."""

import os
import subprocess
import sys
import threading

import pytest
import structlog
from openfeature.event import ProviderEventDetails
from openfeature.exception import ErrorCode
from openfeature.flag_evaluation import FlagResolutionDetails, Reason
from openfeature.provider.in_memory_provider import InMemoryFlag
from openfeature.provider.no_op_provider import NoOpProvider

from rollout_sdk import ABTest, Canary, ConfigurationError, Runtime, Shadow
from rollout_sdk_openfeature import FlagDriver, ShareFlag, SwitchFlag

UNITS = [f"u-{number}" for number in range(300)]


def share(rank, candidate="v2"):
    return rank.rollout.phase.shares[candidate]


def serves(rank):
    return {rank(unit) for unit in UNITS}


def saying(value, reason=Reason.STATIC, **options):
    """A flag that is resolved to anything at all."""
    details = FlagResolutionDetails(value, reason=reason, variant="a", **options)
    return InMemoryFlag("a", {"a": value}, context_evaluator=lambda flag, context: details)


def raising(error):
    def fails(flag, context):
        raise error

    return InMemoryFlag("a", {"a": 0.5}, context_evaluator=fails)


def threads():
    return [thread for thread in threading.enumerate() if thread.name == "rollout-flags"]


@pytest.fixture
def driven(canary, flags, client_of):
    """A driver of a canary's share, asked by hand."""
    return FlagDriver(client_of(flags), [ShareFlag("share", canary)])


@pytest.fixture
def switched(canary, flags, client_of):
    """A driver of a canary's switch, asked by hand; half of the units have the candidate."""
    canary.rollout.set_share("50%")
    return FlagDriver(client_of(flags), [SwitchFlag("on", canary)])


# Shares ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [0.25, 1, 0, 1.0, 0.0005])
def test_a_number_is_the_share(value, driven, flags, canary):
    flags(share=value)
    driven.poll()
    assert (share(canary), driven.problems) == (value, {})


def test_the_journal_says_which_flag_of_which_provider_moved_it(driven, flags, runtime, seen):
    flags(share=0.25)
    driven.poll()
    assert runtime.flush()
    (event,) = seen.transitioned
    assert (event.action, event.actor, event.reason, event.shares["v2"]) == (
        "set_share",
        "openfeature:In-Memory Provider",
        "flag 'share' is 0.25 (variant 'a')",
        0.25,
    )


def test_the_same_value_again_does_nothing(driven, flags, canary):
    flags(share=0.25)
    driven.poll()
    before = canary.rollout.status().revision
    for _ in range(50):
        driven.poll()
    assert canary.rollout.status().revision == before


def test_the_share_that_it_has_already_is_no_transition(driven, flags, canary):
    flags(share=0.05)
    driven.poll()
    assert (canary.rollout.status().revision, driven.problems) == (0, {})


def test_a_flag_that_stays_calls_nobody_back_who_promotes_afterwards(driven, flags, canary):
    flags(share=0.25)
    driven.poll()
    canary.rollout.promote()
    driven.poll()
    promoted = share(canary)
    flags(share=0.3)
    driven.poll()
    assert (promoted, share(canary)) == (0.5, 0.3)


def test_a_share_flag_moves_its_candidate_only(ranked, flags, client_of):
    rank = ranked(Canary([{"v2": 0.1, "v3": 0.2}]), candidates=("v2", "v3"))
    driver = FlagDriver(client_of(flags), [ShareFlag("share", rank, candidate="v3")])
    flags(share=0.4)
    driver.poll()
    assert dict(rank.rollout.phase.shares) == {"v2": 0.1, "v3": 0.4}


def test_a_flag_is_evaluated_for_one_key_and_for_no_user(driven, flags, canary):
    flags(share=0.25)
    driven.poll()
    serves(canary)
    assert flags.asked == [("share", "rollout_sdk", {"rollout": "shop.rank"})]


def test_what_stops_candidates_is_asked_before_what_gives_them_more(canary, flags, client_of):
    flags(share=0.25, on=True)
    FlagDriver(client_of(flags), [ShareFlag("share", canary), SwitchFlag("on", canary)]).poll()
    assert [flag for flag, _, _ in flags.asked] == ["on", "share"]


def test_raising_a_share_only_moves_units_to_the_candidate(driven, flags, canary):
    def candidates():
        driven.poll()
        return {unit for unit in UNITS if canary(unit) == "v2"}

    flags(share=0.2)
    few = candidates()
    flags(share=0.6)
    assert few < candidates()


# What is not believed ----------------------------------------------------------------------------------------------------

BAD_SHARES = {
    "above 1": (5.0, "a share is a number"),
    "a whole number above 1": (25, "a share is a number"),
    "below 0": (-0.1, "a share is a number"),
    "NaN": (float("nan"), "a share is a number"),
    "infinite": (float("inf"), "a share is a number"),
    "a percentage": ("10%", "type_mismatch"),
    "a text": ("0.1", "type_mismatch"),
    "a boolean": (True, "its value is True"),
    "an object": ({"share": 0.1}, "type_mismatch"),
    "nothing": (None, "type_mismatch"),
    "a default": (saying(0.3, Reason.DEFAULT), "its reason is default"),
    "disabled": (saying(0.3, Reason.DISABLED), "its reason is disabled"),
    "stale": (saying(0.3, Reason.STALE), "its reason is stale"),
    "an error": (saying(0.3, Reason.ERROR), "its reason is error"),
    "an error code": (saying(0.3, error_code=ErrorCode.PARSE_ERROR), "parse_error"),
}


@pytest.mark.parametrize(("value", "why"), BAD_SHARES.values(), ids=BAD_SHARES)
def test_what_is_no_share_changes_nothing_and_is_told_once(value, why, driven, flags, canary):
    flags(share=0.25)
    driven.poll()
    flags(share=value)
    with structlog.testing.capture_logs() as logs:
        for _ in range(5):
            driven.poll()
    assert (share(canary), [line["event"] for line in logs]) == (0.25, ["rollout.flag.refused"])
    assert why in driven.problems["share"]


def test_a_boolean_is_no_share_whatever_client_says_it_is(driven, flags, canary):
    flags(share=saying(True))
    driven.poll()
    assert (share(canary), list(driven.problems)) == (0.05, ["share"])


@pytest.mark.parametrize("value", ["10%", "0.1", True, None, float("nan"), 7, {"share": 0.1}])
def test_a_provider_without_a_client_is_believed_no_more(value, flags, canary):
    driver = FlagDriver(flags, [ShareFlag("share", canary), SwitchFlag("on", canary)])
    flags(share=saying(value), on=saying(0 if value is True else value))
    driver.poll()
    assert (share(canary), serves(canary), sorted(driver.problems)) == (0.05, {"control", "v2"}, ["on", "share"])


@pytest.mark.parametrize("error", [OSError("down"), SystemExit(1), RecursionError()])
def test_a_provider_that_raises_changes_nothing(error, canary, flags, caplog):
    driver = FlagDriver(flags, [ShareFlag("share", canary), SwitchFlag("on", canary)])
    flags(share=raising(error), on=raising(error))
    assert driver.poll()
    assert (share(canary), driver.problems) == (
        0.05,
        dict.fromkeys(("on", "share"), f"its evaluation raised {type(error).__name__}"),
    )


def test_a_flag_that_goes_missing_leaves_what_held(driven, flags, canary):
    flags(share=0.25)
    driven.poll()
    flags()
    driven.poll()
    missing = driven.problems
    flags(share=0.25)
    driven.poll()
    assert (share(canary), missing, driven.problems) == (0.25, {"share": "its evaluation failed: flag_not_found"}, {})


def test_a_client_without_a_provider_changes_nothing(canary, client_of):
    driver = FlagDriver(client_of(NoOpProvider()), [ShareFlag("share", canary), SwitchFlag("on", canary)])
    driver.poll()
    assert (share(canary), serves(canary), sorted(driver.problems)) == (0.05, {"control", "v2"}, ["on", "share"])


class _Garbage:
    """A provider whose answers are none."""

    def __getattr__(self, name):
        return lambda *_, **__: None


def test_a_provider_that_gives_nothing_changes_nothing(canary):
    driver = FlagDriver(_Garbage(), [ShareFlag("share", canary), SwitchFlag("on", canary)])
    driver.poll()
    why = "its evaluation returned NoneType, which is not an evaluation's details"
    assert (share(canary), driver.problems) == (0.05, {"on": why, "share": why})


@pytest.mark.parametrize("value", ["false", 0, 0.0, None, saying(False, Reason.DEFAULT), saying(False, Reason.DISABLED)])
def test_what_is_no_switch_switches_nothing(value, switched, flags, canary):
    flags(on=value)
    switched.poll()
    assert (serves(canary), list(switched.problems)) == ({"control", "v2"}, ["on"])


# Aborts ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [0.25, 0.0])
def test_an_abort_is_never_undone(value, driven, flags, canary, seen, runtime):
    canary.rollout.abort()
    before = canary.rollout.status()
    flags(share=value)
    with structlog.testing.capture_logs() as logs:
        for _ in range(5):
            driven.poll()
    after = canary.rollout.status()
    told = [line["event"] for line in logs if line["event"].startswith("rollout.flag")]
    assert (after.status, after.revision, serves(canary)) == ("aborted", before.revision, {"control"})
    # A share of nothing is what an aborted rollout has.
    assert told == (["rollout.flag.refused"] if value else [])


def test_a_switch_does_not_undo_an_abort(switched, flags, canary):
    flags(on=False)
    switched.poll()
    canary.rollout.abort()
    flags(on=True)
    switched.poll()
    assert (canary.rollout.status().status, serves(canary)) == ("aborted", {"control"})


# Switches ----------------------------------------------------------------------------------------------------------------


def test_a_switch_that_is_false_lets_no_candidate_run_and_one_that_is_true_lets_them_go_on(switched, flags, canary):
    before = [canary(unit) for unit in UNITS]
    flags(on=False)
    switched.poll()
    off = serves(canary)
    flags(on=True)
    switched.poll()
    assert (off, [canary(unit) for unit in UNITS]) == ({"control"}, before)


def test_a_switch_is_no_transition_and_its_calls_are_recorded_as_withheld(switched, flags, canary, runtime, seen):
    unit = next(unit for unit in UNITS if canary(unit) == "v2")
    before = canary.rollout.status().revision
    flags(on=False)
    switched.poll()
    canary(unit)
    assert runtime.flush()
    last = seen.routed[-1]
    assert (canary.rollout.status().revision, last.decision.variant, last.served) == (before, "v2", "control")
    assert last.withheld == "disabled"


def test_switching_is_logged_once_with_who_and_why(switched, flags):
    flags(on=False)
    with structlog.testing.capture_logs() as logs:
        for _ in range(5):
            switched.poll()
    assert logs == [
        {
            "event": "rollout.flag.switched",
            "log_level": "warning",
            "rollout": "shop.rank",
            "flag": "on",
            "disabled": True,
            "actor": "openfeature:In-Memory Provider",
            "reason": "flag 'on' is false (variant 'a')",
        }
    ]


def test_a_switch_works_for_every_strategy(ranked, flags, client_of):
    rank = ranked(ABTest(1.0))
    driver = FlagDriver(client_of(flags), [SwitchFlag("on", rank)])
    flags(on=False)
    driver.poll()
    assert serves(rank) == {"control"}


def test_a_switch_stops_shadows_too(ranked, flags, client_of, runtime, seen):
    rank = ranked(Shadow(1.0))
    driver = FlagDriver(client_of(flags), [SwitchFlag("on", rank)])
    for on in (False, True):
        flags(on=on)
        driver.poll()
        rank("u-1")
        assert runtime.flush(10.0)
    assert [(event.end == "ok", event.duration_s is None) for event in seen.shadowed] == [(False, True), (True, False)]


def test_a_switch_that_cannot_be_read_any_more_stays_as_it_was(switched, flags, canary):
    flags(on=False)
    switched.poll()
    flags()
    switched.poll()
    assert (serves(canary), list(switched.problems)) == ({"control"}, ["on"])


def test_of_two_switches_each_can_stop_and_both_must_let_go(canary, flags, client_of):
    canary.rollout.set_share("50%")
    driver = FlagDriver(client_of(flags), [SwitchFlag("all", canary), SwitchFlag("rank", canary)])
    served = []
    for everything, rank in ((False, True), (False, False), (True, False), (True, True)):
        flags(all=everything, rank=rank)
        driver.poll()
        served.append("v2" in serves(canary))
    assert served == [False, False, False, True]


def test_while_one_switch_holds_another_lets_nothing_go_even_for_a_moment(canary, flags, client_of, runtime):
    driver, off = FlagDriver(client_of(flags), [SwitchFlag("all", canary), SwitchFlag("rank", canary)]), []

    def held(flag, context):
        off.append(canary.rollout.is_disabled)
        return FlagResolutionDetails(False, reason=Reason.STATIC)

    for everything in (False, True):
        flags(all=everything, rank=InMemoryFlag("a", {"a": False}, context_evaluator=held))
        driver.poll()
    assert off == [True, True]


def test_a_switch_lets_nothing_go_that_the_control_file_holds(tmp_path, ranked, flags, client_of):
    file = tmp_path / "control.toml"
    file.write_text("version = 1\ndisabled = true\n")
    runtime = Runtime(control=file)
    rank = ranked(ABTest(1.0), runtime=runtime)
    driver = FlagDriver(client_of(flags), [SwitchFlag("on", rank)])
    served = []
    for on in (True, False, True):
        flags(on=on)
        driver.poll()
        served.append(serves(rank))
    runtime.close()
    assert served == [{"control"}] * 3


def test_a_switch_holds_when_somebody_else_lets_go(switched, flags, canary, runtime):
    flags(on=False)
    switched.poll()
    canary.rollout.enable(holder="somebody else")
    switched.poll()
    assert serves(canary) == {"control"}


def test_a_rollout_that_is_paused_stays_so(switched, flags, canary):
    canary.rollout.pause()
    for on in (False, True):
        flags(on=on)
        switched.poll()
    assert canary.rollout.status().status == "paused"


# The thread --------------------------------------------------------------------------------------------------------------


def test_nothing_starts_before_it_is_told_to_and_one_thread_serves_all(canary, flags, client_of):
    driver = FlagDriver(client_of(flags), [ShareFlag("share", canary), SwitchFlag("on", canary)])
    before = len(threads())
    for _ in range(3):
        driver.start()
    running = len(threads())
    driver.close()
    assert (before, running, len(threads())) == (0, 1, 0)


def test_in_its_thread_it_sees_what_changes(canary, flags, client_of, until):
    flags(share=0.25)
    with FlagDriver(client_of(flags), [ShareFlag("share", canary)], every_s=0.01):
        first = until(lambda: share(canary), 0.25)
        flags(share=0.3)
        assert (first, until(lambda: share(canary), 0.3)) == (0.25, 0.3)


def test_a_provider_that_says_something_has_changed_is_asked_at_once(canary, flags, client_of, until):
    flags(share=0.25)
    with FlagDriver(client_of(flags), [ShareFlag("share", canary)], every_s=3600):
        first = until(lambda: share(canary), 0.25)
        flags(share=0.3)
        flags.emit_provider_configuration_changed(ProviderEventDetails())
        assert (first, until(lambda: share(canary), 0.3)) == (0.25, 0.3)


def test_after_it_is_closed_nothing_moves_and_what_held_goes_on(switched, flags, canary):
    flags(on=False)
    switched.poll()
    switched.close()
    flags(on=True)
    assert (switched.poll(), switched.start() is switched, threads(), serves(canary)) == (False, True, [], {"control"})


@pytest.fixture
def hanging(flags):
    """A flag whose evaluation hangs until it is let go; says when it is asked."""
    asked, go = threading.Event(), threading.Event()

    def hang(flag, context):
        asked.set()
        go.wait(30)
        return FlagResolutionDetails(0.75, reason=Reason.STATIC)

    flags(share=InMemoryFlag("a", {"a": 0.75}, context_evaluator=hang))
    yield asked, go
    go.set()


def test_while_a_provider_hangs_calls_go_on_and_nobody_else_waits(canary, flags, client_of, hanging, monkeypatch):
    asked, go = hanging
    monkeypatch.setattr("rollout_sdk_openfeature.driver._PATIENCE_S", 0.0)
    driver = FlagDriver(client_of(flags), [ShareFlag("share", canary)], every_s=0.01).start()
    assert asked.wait(10)
    assert (serves(canary), driver.poll(), len(threads())) == ({"control", "v2"}, False, 1)
    assert "has not returned for" in driver.problems["share"]
    driver.close(0.01)
    (thread,) = threads()
    go.set()
    thread.join(10)
    # It came back after the end: too late to move anything.
    assert (thread.is_alive(), share(canary)) == (False, 0.05)


# From Python 3.12 on, forking a process that has threads warns: here, that is the point.
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_has_a_thread_of_its_own_and_holds_what_was_held(canary, flags, until):
    canary.rollout.set_share("50%")
    driver = FlagDriver(flags, [SwitchFlag("on", canary)], every_s=0.01)
    flags(on=False)
    driver.poll()
    driver.start()
    child = os.fork()
    if child == 0:
        try:
            held, number = serves(canary), len(threads())
            flags(on=True)
            went_on = until(lambda: serves(canary), {"control", "v2"})
            driver.close()
            good = (held, number, went_on, threads()) == ({"control"}, 1, {"control", "v2"}, [])
            os._exit(0 if good else 1)
        finally:
            os._exit(2)
    _, status = os.waitpid(child, 0)
    running = len(threads())
    driver.close()
    assert (os.waitstatus_to_exitcode(status), running, serves(canary)) == (0, 1, {"control"})


PROGRAM = """
from openfeature import api
from openfeature.provider.in_memory_provider import InMemoryFlag, InMemoryProvider
from rollout_sdk import Canary, rollout
from rollout_sdk_openfeature import FlagDriver, RolloutHook, RolloutProvider, ShareFlag

rank = rollout(candidate=lambda user: "new", strategy=Canary(["5%"]), unit="user", key="k")(lambda user: "old")
api.set_provider_and_wait(InMemoryProvider({"share": InMemoryFlag("a", {"a": 1.0})}))
driver = FlagDriver(api.get_client(), [ShareFlag("share", rank)], every_s=0.01).start()
while rank("u") != "new":
    pass
"""


def test_a_program_ends_with_a_driver_that_nobody_closed_and_prints_nothing():
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


# What can never work -----------------------------------------------------------------------------------------------------


def test_a_share_flag_needs_steps(ranked):
    with pytest.raises(ConfigurationError, match="its strategy has no steps"):
        ShareFlag("share", ranked(ABTest(0.5)))


@pytest.mark.parametrize("candidate", [None, "v9"])
def test_a_share_flag_names_one_candidate(candidate, ranked):
    rank = ranked(Canary([{"v2": 0.1, "v3": 0.2}]), candidates=("v2", "v3"))
    with pytest.raises(ConfigurationError, match="They are: v2, v3"):
        ShareFlag("share", rank, candidate=candidate)


@pytest.mark.parametrize("flag", ["", None, 3])
def test_a_flag_has_a_key(flag, canary):
    with pytest.raises(ConfigurationError, match="A key is a text"):
        SwitchFlag(flag, canary)


def test_a_share_has_one_master(canary, flags):
    with pytest.raises(ConfigurationError, match="Only one flag can set a share"):
        FlagDriver(flags, [ShareFlag("a", canary), ShareFlag("b", canary, candidate="v2")])


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"source": None}, "evaluates no flags"),
        ({"flags": ["share"]}, "drives nothing"),
        ({"every_s": 0}, "is not a time"),
        ({"every_s": float("nan")}, "is not a time"),
        ({"every_s": True}, "is not a time"),
    ],
)
def test_what_is_no_driver_is_refused(options, what, flags):
    with pytest.raises(ConfigurationError, match=what):
        FlagDriver(**{"source": flags, "flags": [], **options})
