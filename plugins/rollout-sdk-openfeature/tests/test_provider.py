"""Rollouts as flags: the same arm as the function's, no model run, nothing recorded, and a clear error for the rest."""

import asyncio

import pytest
from openfeature.evaluation_context import EvaluationContext
from openfeature.event import ProviderEvent
from openfeature.exception import ErrorCode
from openfeature.flag_evaluation import Reason

import rollout_sdk
from rollout_sdk import ABTest, Canary, ConfigurationError, Decision, Interleave, Layer, Runtime, Shadow
from rollout_sdk.extending import Versions
from rollout_sdk.testing import ObserverContract
from rollout_sdk_openfeature import RolloutProvider

UNITS = [f"u-{number}" for number in range(10_000)]
KEY = "shop.rank"
RELOADED = """
def rank_v2(user):
    return "new"

@rollout(candidate=rank_v2, strategy=strategy, unit="user", key="shop.rank", runtime=runtime)
def rank(user):
    return "old"
"""


@pytest.mark.parametrize(
    ("units", "options"),
    [
        (10_000, {"strategy": Canary(["5%", "50%"])}),
        (
            10_000,
            {
                "strategy": ABTest(0.5),
                "holdout": 0.2,
                "layer": Layer("page", 0.0, 0.7),
                "override": {"u-1": "v2", "u-2": "control"},
            },
        ),
        (1_000, {"strategy": ABTest({"v2": 0.2, "v3": 0.3}), "candidates": ("v2", "v3")}),
        (1_000, {"strategy": Interleave()}),
        (1_000, {"strategy": Shadow(0.0)}),
    ],
    ids=["canary", "rules", "two candidates", "interleave", "shadow"],
)
def test_a_flag_is_the_decision_of_the_decorated_function_for_every_unit(units, options, ranked, client_of, context):
    rank = ranked(**options)
    client = client_of(RolloutProvider(rank))
    expected = [rank.rollout.route(unit).decision.variant for unit in UNITS[:units]]
    assert [client.get_string_value(KEY, "?", context(unit)) for unit in UNITS[:units]] == expected


def test_a_flag_goes_with_a_ramp(canary, client_of, context):
    client = client_of(RolloutProvider(canary))
    units = UNITS[:2_000]
    before = {unit for unit in units if client.get_boolean_value(KEY, False, context(unit))}
    canary.rollout.promote()
    after = {unit for unit in units if client.get_boolean_value(KEY, False, context(unit))}
    assert (before < after, after) == (True, {unit for unit in units if canary(unit) == "v2"})


def test_the_asynchronous_client_gets_the_same(ranked, client_of, context):
    rank = ranked()
    client = client_of(RolloutProvider(rank))

    async def read():
        return [await client.get_string_value_async(KEY, "?", context(unit)) for unit in UNITS[:200]]

    assert asyncio.run(read()) == [rank(unit) for unit in UNITS[:200]]


def test_reading_a_flag_runs_no_model_and_is_recorded_nowhere(runtime, seen, client_of, context):
    def model(user):
        raise AssertionError("a model ran")

    rank = rollout_sdk.rollout(candidate=model, strategy=ABTest(0.5), unit="user", key=KEY, runtime=runtime)(model)
    client = client_of(RolloutProvider(rank))
    for unit in UNITS[:100]:
        client.get_string_value(KEY, "?", context(unit))
        client.get_object_value(KEY, {}, context(unit))
    assert runtime.flush()
    assert (seen.events, rank.rollout.status().calls) == ([], {})


def test_all_rollouts_of_a_runtime_are_flags_also_those_that_come_later(runtime, ranked, client_of, context):
    client = client_of(RolloutProvider(runtime=runtime))
    before = client.get_string_details(KEY, "?", context("u")).error_code
    rank = ranked(ABTest(1.0))
    assert (before, client.get_string_value(KEY, "?", context("u"))) == (ErrorCode.FLAG_NOT_FOUND, rank("u"))


def test_a_function_of_a_module_that_is_imported_anew_is_the_flag(runtime, client_of, context):
    def imported(share):
        module = {"__name__": "shop", "runtime": runtime, "rollout": rollout_sdk.rollout, "strategy": ABTest(share)}
        exec(RELOADED, module)
        return module["rank"]

    first = imported(0.0)
    client = client_of(RolloutProvider(first.rollout))
    before = client.get_string_value(KEY, "?", context("u"))
    second = imported(1.0)
    assert (before, first("u")) == ("control", "old")
    assert (client.get_string_value(KEY, "?", context("u")), second("u")) == ("candidate", "new")


# Values ------------------------------------------------------------------------------------------------------------------


def test_an_object_says_all_and_the_metadata_is_that_of_the_decision(canary, client_of, context):
    canary.rollout.set_share("100%")
    details = client_of(RolloutProvider(canary)).get_object_details(KEY, {}, context("u-1"))
    decision, phase = canary.rollout.route("u-1").decision, canary.rollout.phase
    assert details.value == {
        "variant": "v2",
        "candidate": True,
        "phase": decision.phase,
        "propensity": 1.0,
        "share": 1.0,
        "shadows": [],
        "blend": [],
    }
    assert details.flag_metadata == {
        "phase": decision.phase,
        "strategy": "canary",
        "bucket": decision.bucket,
        "propensity": decision.propensity,
        "version": Versions.of(phase.fingerprint, phase.name, phase.all_shares),
    }


def test_a_boolean_is_whether_a_candidate_answers(ranked, client_of, context):
    rank = ranked()
    client = client_of(RolloutProvider(rank))
    expected = [rank.rollout.assign(unit).variant == "v2" for unit in UNITS[:500]]
    assert [client.get_boolean_value(KEY, None, context(unit)) for unit in UNITS[:500]] == expected


def test_shadowed_and_blended_variants_are_listed_and_answer_nobody(ranked, client_of, context):
    shadow, blend = ranked(Shadow(1.0), key="shadow"), ranked(Interleave(), key="blend")
    client = client_of(RolloutProvider(shadow, blend))
    shadowed, blended = (client.get_object_value(key, {}, context("u")) for key in ("shadow", "blend"))
    assert (shadowed["shadows"], shadowed["candidate"]) == (["v2"], False)
    assert (set(blended["blend"]), blended["candidate"]) == ({"control", "v2"}, False)


def test_the_unit_can_be_made_of_the_context(ranked, client_of):
    rank = ranked()
    client = client_of(RolloutProvider(rank, unit=lambda context: int(context.attributes["id"])))
    read = [client.get_string_value(KEY, "?", EvaluationContext("x", {"id": number})) for number in range(500)]
    assert read == [rank(number) for number in range(500)]


# Reasons -----------------------------------------------------------------------------------------------------------------


class _Saying:
    """Decides as it is told."""

    name = "saying"

    def __init__(self, reason):
        self.decision = Decision("control", reason)

    def rollout_phases(self, control, candidates):
        return [rollout_sdk.Phase("one", dict.fromkeys(candidates, 0.5), control)]

    def rollout_route(self, request):
        return self.decision


class _Raising(_Saying):
    def rollout_route(self, request):
        raise OSError


@pytest.mark.parametrize(
    ("strategy", "options", "reason"),
    [
        (ABTest(0.5), {}, Reason.SPLIT),
        (_Saying("static"), {}, Reason.STATIC),
        (_Saying("benelux"), {}, Reason.TARGETING_MATCH),
        (ABTest(0.5), {"override": {"u": "v2"}}, Reason.TARGETING_MATCH),
        (ABTest(0.5), {"holdout": 1.0}, Reason.TARGETING_MATCH),
        (_Raising(""), {}, Reason.ERROR),
    ],
    ids=["split", "static", "rule", "override", "holdout", "failed strategy"],
)
def test_a_reason_is_the_one_of_our_telemetry(strategy, options, reason, ranked, client_of, context):
    details = client_of(RolloutProvider(ranked(strategy, **options))).get_string_details(KEY, "?", context("u"))
    assert (details.reason, details.error_code, details.value) == (reason, None, details.variant)


def _abort(rank):
    rank.rollout.abort()


def _disable(rank):
    rollout_sdk.disable()


@pytest.mark.parametrize("stop", [_abort, _disable])
def test_while_candidates_are_off_everybody_has_the_control_and_the_flag_is_disabled(stop, ranked, client_of, context):
    rank = ranked()
    unit = next(unit for unit in UNITS if rank(unit) == "v2")
    client = client_of(RolloutProvider(rank))
    before = client.get_string_details(KEY, "?", context(unit))
    try:
        stop(rank)
        after = client.get_string_details(KEY, "?", context(unit))
        served = rank(unit)
    finally:
        rollout_sdk.enable()
    assert [(each.value, each.reason) for each in (before, after)] == [("v2", "SPLIT"), ("control", "DISABLED")]
    assert (served, "bucket" in after.flag_metadata) == ("control", False)


def test_what_the_control_file_disables_is_off_as_a_flag_too(tmp_path, client_of, context, ranked):
    file = tmp_path / "control.toml"
    file.write_text("version = 1\ndisabled = true\n")
    runtime = Runtime(control=file)
    rank = ranked(ABTest(1.0), runtime=runtime)
    details = client_of(RolloutProvider(rank)).get_boolean_details(KEY, True, context("u"))
    assert (details.value, details.reason, rank("u")) == (False, "DISABLED", "control")
    runtime.close()


# Contexts without a unit, and other errors -------------------------------------------------------------------------------


def test_without_a_targeting_key_the_control_answers_as_it_does_without_a_unit(ranked, client_of, context):
    details = client_of(RolloutProvider(ranked(ABTest(1.0)))).get_string_details(KEY, "?", context())
    assert (details.value, details.reason, details.error_code) == ("control", "DEFAULT", None)


def test_without_a_targeting_key_a_rollout_that_draws_at_random_does_so(ranked, client_of, context):
    client = client_of(RolloutProvider(ranked(missing_unit="random")))
    assert {client.get_string_value(KEY, "?", context()) for _ in range(200)} == {"control", "v2"}


def test_a_rollout_that_refuses_calls_without_a_unit_refuses_contexts_without_a_targeting_key(ranked, client_of, context):
    details = client_of(RolloutProvider(ranked(missing_unit="raise"))).get_string_details(KEY, "mine", context())
    assert (details.value, details.error_code, details.reason) == ("mine", ErrorCode.TARGETING_KEY_MISSING, "ERROR")


def _read(client, kind, default, context, *, asynchronous):
    if asynchronous:
        return asyncio.run(getattr(client, f"get_{kind}_details_async")(KEY, default, context))
    return getattr(client, f"get_{kind}_details")(KEY, default, context)


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize(("kind", "default"), [("integer", 7), ("float", 0.7)])
def test_no_rollout_is_a_number(kind, default, asynchronous, ranked, client_of, context):
    details = _read(client_of(RolloutProvider(ranked())), kind, default, context("u"), asynchronous=asynchronous)
    assert (details.value, details.error_code) == (default, ErrorCode.TYPE_MISMATCH)


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize(("kind", "default"), [("boolean", True), ("string", "mine"), ("object", {"a": 1}), ("float", 0.7)])
def test_an_unknown_key_gives_the_callers_default(kind, default, asynchronous, client_of, context):
    details = _read(client_of(RolloutProvider()), kind, default, context("u"), asynchronous=asynchronous)
    assert (details.value, details.error_code, details.reason) == (default, ErrorCode.FLAG_NOT_FOUND, "ERROR")


def test_a_unit_that_cannot_be_made_is_an_invalid_context_and_its_message_names_nobody(ranked, client_of, context):
    client = client_of(RolloutProvider(ranked(), unit=lambda context: int(context.targeting_key)))
    details = client.get_string_details(KEY, "mine", context("marker-ann"))
    assert (details.value, details.error_code) == ("mine", ErrorCode.INVALID_CONTEXT)
    assert "marker" not in details.error_message


def test_two_rollouts_of_one_key_cannot_be_one_flag(ranked):
    other = Runtime()
    with pytest.raises(ConfigurationError, match=r"two rollouts with the key 'shop\.rank'"):
        RolloutProvider(ranked(), ranked(runtime=other))


@pytest.mark.parametrize("thing", [None, "shop.rank", lambda user: user])
def test_what_is_no_rollout_cannot_be_a_flag(thing):
    with pytest.raises(ConfigurationError, match="is not a rollout"):
        RolloutProvider(thing)


# Events ------------------------------------------------------------------------------------------------------------------


def test_as_a_plugin_it_tells_clients_of_transitions(ranked, client_of, until):
    provider, told = RolloutProvider(), []
    rank = ranked(Canary(["5%", "50%"]), plugins=[provider])
    provider.add(rank)
    client = client_of(provider)
    client.add_handler(ProviderEvent.PROVIDER_CONFIGURATION_CHANGED, lambda details: told.append(details.flags_changed))
    rank.rollout.promote()
    assert until(lambda: told, [[KEY]]) == [[KEY]]


def test_clients_hear_of_what_another_process_does_and_then_read_it(ranked, client_of, until, tmp_path):
    provider, told = RolloutProvider(), []
    here, elsewhere = (Runtime(store=f"sqlite:///{tmp_path}/rollouts.db") for _ in range(2))
    rank = ranked(Canary(["5%", "50%"]), plugins=[provider], runtime=here)
    provider.add(rank)
    client = client_of(provider)
    # As the handler reads it: the flag has changed by then.
    client.add_handler(
        ProviderEvent.PROVIDER_CONFIGURATION_CHANGED,
        lambda details: told.append((details.flags_changed, rank.rollout.phase.name)),
    )
    ranked(Canary(["5%", "50%"]), runtime=elsewhere).rollout.promote()
    assert until(lambda: told, [([KEY], "1:50%")]) == [([KEY], "1:50%")]
    here.close()
    elsewhere.close()


class TestObserver(ObserverContract):
    """What every observer must hold."""

    def make(self):
        return RolloutProvider()
