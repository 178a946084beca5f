"""The alarm about shares is latched: no step is taken until a person clears it, whatever later verdicts say."""

import json

import pytest
from click.testing import CliRunner
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from structlog.testing import capture_logs

from rollout_sdk import (
    Canary,
    ConfigurationError,
    Guardrail,
    Runtime,
    StateError,
    Step,
    Telemetry,
    TransitionedEvent,
    rollout,
)
from rollout_sdk.cli import main
from rollout_sdk.control.state_document import as_document, from_document
from rollout_sdk.control.stores import SQLiteStore

STEPS = [Step("20%", min_units=0, min_time=0, max_time="2d"), Step("50%", min_units=0, min_time=0)]
CLEAR = {"clear_invalid": True, "actor": "ann", "reason": "a redirect lost users; it is fixed"}


def decorate(runtime, *, candidates=("candidate",), steps=STEPS, version=""):
    functions = {name: lambda user, name=name: name for name in candidates}
    strategy = Canary(steps, guardrails=[Guardrail("error_rate")])
    options = {"unit": "user", "key": "model", "version": version, "runtime": runtime}
    return rollout(candidates=functions, strategy=strategy, **options)(lambda user: "control").rollout


@pytest.fixture
def controller(clock):
    return decorate(Runtime(time_ns=clock))


def stand(controller):
    status = controller.status()
    return status.status, status.phase, bool(status.invalid)


def raise_alarm(controller, says):
    says(outcome="ERROR", valid=False)
    controller.judge()


def test_an_alarm_is_latched_and_no_later_verdict_goes_on(controller, says):
    raise_alarm(controller, says)
    says(outcome="PASS")
    for _ in range(3):
        controller.judge()
    assert ("running", "0:20%", True) == stand(controller)
    assert "held as invalid until a person clears it" in controller.status().verdict.reason
    assert "the shares are broken." == controller.status().invalid


def test_an_alarm_is_a_transition_of_the_judge_on_its_evidence(clock, watch, says):
    runtime = watch(time_ns=clock)
    controller = decorate(runtime)
    raise_alarm(controller, says)
    controller.judge()
    (event,) = [event for event in runtime.events() if isinstance(event, TransitionedEvent)]
    assert ("invalidate", "judge", "the shares are broken.", "the shares are broken.") == (
        event.action,
        event.actor,
        event.reason,
        event.invalid,
    )
    assert ("running", 1, "0:20%", "0:20%", False) == (
        event.status,
        event.revision,
        event.from_phase,
        event.to_phase,
        event.evidence["valid"],
    )


def test_an_alarm_is_a_warning_in_the_log_and_named_in_the_span_and_the_metric(clock, says):
    exporter, reader = InMemorySpanExporter(), InMemoryMetricReader()
    tracers = TracerProvider()
    tracers.add_span_processor(SimpleSpanProcessor(exporter))
    telemetry = Telemetry(tracer_provider=tracers, meter_provider=MeterProvider([reader]))
    runtime = Runtime(time_ns=clock, telemetry=telemetry)
    with capture_logs() as logs:
        controller = decorate(runtime)
        controller.route("user-1")
        raise_alarm(controller, says)
        runtime.flush()
    (log,) = [each for each in logs if each["event"] == "rollout.transition"]
    (span,) = [each for each in exporter.get_finished_spans() if each.attributes.get("rollout.gate.name")]
    metrics = reader.get_metrics_data().resource_metrics[0].scope_metrics[0].metrics
    (changes,) = [metric for metric in metrics if metric.name == "rollout.transitions"]
    counted = [point.attributes["rollout.transition.action"] for point in changes.data.data_points]
    runtime.close(1.0)
    assert ("warning", "invalidate", "assignment", 9.0, 7.0) == (
        log["log_level"],
        log["action"],
        log["gate"],
        log["value"],
        log["threshold"],
    )
    assert ("invalidate", "verdict", "assignment", 9.0) == tuple(
        span.attributes[name]
        for name in ("rollout.transition.action", "rollout.transition.reason", "rollout.gate.name", "rollout.gate.value")
    )
    assert "invalidate" in counted


def test_an_invalid_rollout_can_still_be_rolled_back(controller, says):
    raise_alarm(controller, says)
    says(outcome="FAIL", valid=False)
    controller.judge()
    assert "rolled_back" == controller.status().status


def test_a_verdict_that_is_both_fails_one_candidate_and_latches_for_the_others(clock, says):
    steps = [{"a": "10%", "b": "10%"}, {"a": "20%", "b": "20%"}]
    controller = decorate(Runtime(time_ns=clock), candidates=("a", "b"), steps=steps)
    says(outcome="FAIL", valid=False)
    controller.judge()
    says(outcome="PASS")
    controller.judge()
    assert (("running", "1:a=0%,b=10%", True), ("a",)) == (stand(controller), controller._rollout.state.dropped)


def test_the_time_to_wait_does_not_run_out_while_it_is_invalid(controller, clock, says):
    raise_alarm(controller, says)
    says()
    clock.advance(86_400 * 3)
    controller.judge()
    assert "running" == controller.status().status
    controller.resume(**CLEAR)
    controller.judge()
    assert "running" == controller.status().status


@pytest.mark.parametrize(
    "forward",
    [
        lambda controller: controller.promote(),
        lambda controller: controller.promote_full(),
        lambda controller: controller.skip_step(),
        lambda controller: controller.set_share("30%"),
    ],
)
def test_a_person_goes_forward_only_after_clearing_it(clock, says, forward):
    controller = decorate(Runtime(time_ns=clock), steps=[*STEPS, Step("80%", min_units=0, min_time=0)])
    raise_alarm(controller, says)
    with pytest.raises(StateError, match=r"it is invalid: the shares are broken\. .* call resume\(clear_invalid=True, actor="):
        forward(controller)
    assert ("running", "0:20%", True) == stand(controller)
    controller.resume(**CLEAR)
    assert "0:20%" != forward(controller).phase


@pytest.mark.parametrize(
    ("back", "expected"),
    [
        (lambda controller: controller.set_share("10%"), ("running", "1:10%", True)),
        (lambda controller: controller.set_share("0%"), ("running", "1:0%", True)),
        (lambda controller: controller.pause(), ("paused", "0:20%", True)),
        (lambda controller: controller.abort(), ("aborted", "1:aborted", True)),
    ],
)
def test_a_person_goes_back_as_ever(controller, says, back, expected):
    raise_alarm(controller, says)
    back(controller)
    assert expected == stand(controller)


def test_clearing_it_goes_on_and_checks_units_from_then_on(controller, clock, says):
    raise_alarm(controller, says)
    clock.advance(3600)
    controller.resume(**CLEAR)
    assert ("running", "1:20%", False) == stand(controller)
    says(outcome="PASS")
    controller.judge()
    situations = [situation for situation, _ in says.asked]
    assert [("", 0), ("", 1)] == [(each.invalid, each.valid_from) for each in situations]
    assert "2:50%" == controller.status().phase


def test_clearing_it_also_ends_a_pause_and_a_plain_resume_keeps_the_latch(controller, says):
    raise_alarm(controller, says)
    controller.pause(actor="ann", reason="let me look")
    controller.resume(actor="ann", reason="go on")
    assert ("running", "0:20%", True) == stand(controller)
    controller.pause(actor="ann", reason="let me look")
    controller.resume(**CLEAR)
    assert ("running", "1:20%", False) == stand(controller)


@pytest.mark.parametrize("missing", ["actor", "reason"])
@pytest.mark.parametrize("text", ["", "  "])
def test_it_is_cleared_by_a_name_and_a_reason(controller, says, missing, text):
    raise_alarm(controller, says)
    with pytest.raises(ConfigurationError, match=rf"cleared with an empty {missing}\. .* Pass {missing}='...'"):
        controller.resume(**{**CLEAR, missing: text})
    assert ("running", "0:20%", True) == stand(controller)


def test_what_is_not_invalid_is_not_cleared(controller):
    with pytest.raises(StateError, match="it is not invalid"):
        controller.resume(**CLEAR)


def test_a_running_rollout_that_is_invalid_says_how_it_is_resumed(controller, says):
    raise_alarm(controller, says)
    with pytest.raises(StateError, match=r"It is running, and invalid\. Find out why, then call resume\(clear_invalid=True"):
        controller.resume(actor="ann", reason="go on")


def test_a_new_alarm_after_clearing_latches_again(controller, says):
    raise_alarm(controller, says)
    controller.resume(**CLEAR)
    raise_alarm(controller, says)
    assert ("running", "1:20%", True) == stand(controller)


def test_the_status_says_so_first(controller, says):
    raise_alarm(controller, says)
    lines = str(controller.status()).splitlines()
    assert (
        "  INVALID, no step is taken until resume(clear_invalid=True, actor=..., reason=...): the shares are broken."
        == lines[1]
    )


def test_a_document_keeps_it_and_one_of_an_earlier_sdk_has_none(controller, says):
    raise_alarm(controller, says)
    document = as_document(controller._rollout.state)
    assert controller._rollout.state == from_document(json.loads(json.dumps(document)))
    for name in ("invalid", "valid_from", "paused_by", "futile"):
        del document[name]
    earlier = from_document(document)
    assert ("", 0, (), ()) == (earlier.invalid, earlier.valid_from, earlier.paused_by, earlier.futile)


# A real judge -------------------------------------------------------------------------------------------------------------


def test_users_of_the_candidate_that_are_lost_latch_the_rollout_although_the_shares_look_right_again_later(clock):
    runtime = Runtime(time_ns=clock)
    steps = [Step("50%", min_units=20, min_time=0), Step("60%", min_units=20, min_time=0)]
    strategy = Canary(steps, guardrails=[Guardrail("error_rate", floor=0.2)])
    model = rollout(candidate=lambda user: "new", strategy=strategy, unit="user", key="m", runtime=runtime)(lambda user: "old")
    users = [f"user-{number}" for number in range(6000)]
    for user in users[:400]:
        if model.rollout.assign(user).variant == "control":
            model(user)
    assert not model.rollout.judge().valid
    for user in users:
        model(user)
    model.rollout.judge()
    assert ("running", "0:50%", True) == stand(model.rollout)


# Several processes --------------------------------------------------------------------------------------------------------


@pytest.fixture
def fleet(tmp_path, clock):
    """Two processes of one SQLite store, and the command line at it."""
    address, runtimes = f"sqlite:///{tmp_path}/rollouts.db", []

    def process(version=""):
        runtime = Runtime(store=address, time_ns=clock)
        runtime.reconciler.start = lambda: None
        runtimes.append(runtime)
        return decorate(runtime, version=version)

    def command(*words, code=0):
        result = CliRunner().invoke(main, [*words, "--store", address], catch_exceptions=False)
        assert code == result.exit_code, result.output
        return result.output

    process.store, process.command = SQLiteStore(tmp_path / "rollouts.db"), command
    yield process
    for runtime in runtimes:
        runtime.close(1.0)


def look(controller):
    controller.runtime.reconciler.look(controller.runtime.reconciler.rollouts["model"])
    return stand(controller)


def test_an_alarm_of_one_process_holds_all_and_clearing_it_reaches_all(fleet, says):
    first, second = fleet(), fleet()
    raise_alarm(first, says)
    assert [("running", "0:20%", True)] * 2 == [look(first), look(second)]
    says(outcome="PASS")
    second.judge(), first.judge()
    assert [("running", "0:20%", True)] * 2 == [look(first), look(second)]
    second.resume(**CLEAR)
    assert [("running", "1:20%", False)] * 2 == [look(first), look(second)]
    first.judge()
    assert [("running", "2:50%", False)] * 2 == [look(first), look(second)]
    records = fleet.store.history("model")
    assert [
        ("start", "", ""),
        ("invalidate", "judge", "the shares are broken."),
        ("resume", "ann", ""),
        ("promote", "judge", ""),
    ] == [(record["action"], record["actor"], record["invalid"]) for record in records]


def test_a_process_that_has_not_seen_the_alarm_yet_does_not_go_on(fleet, says):
    first, second = fleet(), fleet()
    raise_alarm(first, says)
    says(outcome="PASS")
    second.judge()
    assert ("running", "0:20%", True) == look(second)


def test_two_processes_that_see_it_at_once_raise_one_alarm(fleet, says):
    first, second = fleet(), fleet()
    raise_alarm(first, says)
    raise_alarm(second, says)
    assert ["start", "invalidate"] == [record["action"] for record in fleet.store.history("model")]


def test_a_process_that_starts_later_is_held_too_and_a_new_version_starts_clean(fleet, says):
    raise_alarm(fleet(version="v1"), says)
    later = fleet(version="v1")
    says(outcome="PASS")
    later.judge()
    assert ("running", "0:20%", True) == look(later)
    fresh = fleet(version="v2")
    fresh.judge()
    assert ("running", "2:50%", False) == look(fresh)


def test_a_verdict_of_a_version_that_was_replaced_since_changes_nothing_and_is_noted(fleet, says):
    old, fresh = fleet(version="v1"), fleet(version="v2")
    says(outcome="ERROR", valid=False)
    old.judge()
    assert (("running", "1:20%", False), {("judge", "StateError"): 1}) == (look(fresh), old.status().faults)


def test_the_verdict_before_is_given_to_the_judge_whichever_process_came_to_it_and_never_another_versions(fleet, says):
    first, second = fleet(version="v1"), fleet(version="v1")
    verdicts = [first.judge(), second.judge()]
    fleet(version="v2").judge()
    assert [None, verdicts[0], None] == [previous for _, previous in says.asked]


def test_a_verdict_in_the_store_that_cannot_be_read_is_replaced(fleet, says):
    controller = fleet()
    fleet.store.note("model", "verdict", '{"rollout": "model"}')
    controller.judge()
    assert ([None], {("judge", "ValueError"): 1}) == ([previous for _, previous in says.asked], controller.status().faults)
    assert "INCONCLUSIVE" == json.loads(fleet.store.noted("model", "verdict"))["outcome"]


def test_the_command_line_shows_it_and_clears_it_for_every_process(fleet, says):
    first, second = fleet(), fleet()
    raise_alarm(first, says)
    text = fleet.command("status", "model")
    assert "INVALID, no step is taken until: rollout resume model --clear-invalid --reason ..." in " ".join(text.split())
    assert "the shares are broken." == json.loads(fleet.command("status", "model", "--json"))["invalid"]
    assert "it is invalid" in fleet.command("promote", "model", "--reason", "x", code=1)
    assert "empty reason" in fleet.command("resume", "model", "--clear-invalid", "--reason", " ", code=1)
    assert "It is running, and invalid." in fleet.command("resume", "model", "--reason", "x", code=1)
    fleet.command("resume", "model", "--clear-invalid", "--actor", "ann", "--reason", "the redirect is fixed")
    assert [("running", "1:20%", False)] * 2 == [look(first), look(second)]
    assert "" == json.loads(fleet.command("status", "model", "--json"))["invalid"]
