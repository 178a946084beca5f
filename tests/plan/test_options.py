"""Options of a plan: how they are given, what they are when they are left out, and where their bounds are."""

import inspect

import pytest

from rollout_sdk import Canary, ConfigurationError, Freeze, Gate, Guardrail, Step
from rollout_sdk.plan import Criteria, is_compared, is_judged, is_measured


@pytest.mark.parametrize(
    ("kind", "given"), [(Guardrail, ("x",)), (Gate, ("x",)), (Step, ("5%",)), (Freeze, ("16:00", "18:00")), (Criteria, ())]
)
def test_every_further_option_is_given_by_its_name(kind, given):
    """Positions would change what a plan means when an option is added."""
    by_position = [
        name for name, each in inspect.signature(kind).parameters.items() if each.kind is not inspect.Parameter.KEYWORD_ONLY
    ]
    assert len(given) == len(by_position)


@pytest.mark.parametrize(
    ("metric", "options", "margin", "harm"),
    [
        ("error_rate", {}, 1.0, 0.25),
        ("error_rate", {"margin": 0.1}, 0.1, 0.1),
        ("error_rate", {"margin": 0.0}, 0.0, 0.0),
        ("error_rate", {"harm": 0.5}, 1.0, 0.5),
        ("latency", {"threshold_s": 0.25}, 0.01, 0.01),
        ("latency_mean", {}, 0.1, 0.1),
        ("latency_mean", {"harm": 0.05}, 0.1, 0.05),
        ("shadow.mismatch", {"margin": 0.02}, 0.02, 0.02),
        ("first_item", {"threshold_s": 0.25}, 0.01, 0.01),
        ("revenue", {"margin": 2.0}, 2.0, 2.0),
        ("revenue", {"margin": 2.0, "harm": 0.0}, 2.0, 0.0),
    ],
)
def test_a_guardrail_has_the_documented_margin_and_harm(metric, options, margin, harm):
    guardrail = Guardrail(metric, **options)
    assert (margin, harm, margin) == (guardrail.margin, guardrail.harm, guardrail.mde)


def test_what_is_left_out_is_what_the_documentation_says():
    guardrail = Guardrail("revenue", margin=1)
    assert ("higher", "call", 0.0, None) == (guardrail.better, guardrail.per, guardrail.window, guardrail.clip)
    assert (0.01, 0.5, None, False) == (guardrail.floor, guardrail.ceiling, guardrail.burst, guardrail.early_harm)
    assert ("rollback", 600.0, False) == (guardrail.on_fail, guardrail.grace, guardrail.dry_run)
    gate = Gate("revenue")
    assert (0.0, 0.02, "higher", "step", "call") == (gate.min_effect, gate.mde, gate.better, gate.before, gate.per)
    assert (0.0, None, None, 600.0, False) == (gate.window, gate.clip, gate.horizon, gate.grace, gate.dry_run)
    step = Step("5%")
    assert (100, 600.0, None, 0.0) == (step.min_units, step.min_time, step.max_time, step.shadow)
    criteria = Criteria()
    assert ((), (Guardrail("error_rate"),), 0.05, None) == (
        criteria.steps,
        criteria.guardrails,
        criteria.alpha,
        criteria.max_calls_per_unit,
    )


def test_a_step_of_a_test_asks_for_units_but_for_interleaved_lists_and_for_no_time():
    ((of_units,), (of_lists,)) = (Criteria.of_test(gates=[Gate("click", per=per)]).steps for per in ("call", "list"))
    assert (100, 0.0, 0.0) == (of_units.min_units, of_units.min_time, of_units.share)
    assert (0, 0.0, 0.0) == (of_lists.min_units, of_lists.min_time, of_lists.share)


@pytest.mark.parametrize(
    ("metric", "compared", "measured"),
    [
        ("shadow.mismatch", True, True),
        ("shadow.difference", True, True),
        ("shadow.mismatch.price", True, True),
        ("shadow.difference.offer.price", True, True),
        ("shadow.latency", False, False),
        ("shadow", False, False),
        ("shadows.mismatch", False, False),
        ("shadow.mismatched", False, False),
        ("my.shadow.mismatch", False, False),
        ("error_rate", False, True),
        ("latency", False, True),
        ("latency_mean", False, True),
        ("first_item", False, True),
        ("items_per_s", False, False),
        ("judge.preference", False, False),
        ("click", False, False),
    ],
)
def test_which_metrics_the_sdk_measures_and_which_it_takes_from_comparisons(metric, compared, measured):
    assert (compared, measured) == (is_compared(metric), is_measured(metric))
    assert is_judged(metric) == (metric == "judge.preference")
    limit = {"threshold_s": 0.25} if metric in ("latency", "first_item") else {}
    assert Guardrail(metric, margin=0.5, **limit).better == ("lower" if measured else "higher")
    if measured:
        with pytest.raises(ConfigurationError, match="metrics are guardrails"):
            Gate(metric)


MISMATCH = "shadow.mismatch"


@pytest.mark.parametrize(
    "make",
    [
        lambda: Step("1%", min_units=0),
        lambda: Step("1%", min_time="1h", max_time="61m"),
        lambda: Guardrail("error_rate", margin=0.0),
        lambda: Guardrail("click", margin=0.1, harm=0.0),
        lambda: Guardrail(MISMATCH, margin=0.99),
        lambda: Guardrail("shadow.difference", margin=3.0, clip=(0, 5)),
        lambda: Guardrail("click", margin=0.1, window="1h", early_harm=True),
        lambda: Guardrail("error_rate", better="lower"),
        lambda: Guardrail("judge.preference", margin=0.1, per="outcome"),
        lambda: Gate("judge.preference", audit=0.0),
        lambda: Gate("judge.preference", audit=1),
        lambda: Gate("x" * 128),
        lambda: Gate("click", horizon=1),
        lambda: Freeze("2026-12-20", "2026-12-20T00:01"),
        lambda: Canary(["5%"], max_calls_per_unit=1),
        lambda: Canary(["5%"], alpha=0.49),
    ],
)
def test_an_option_may_be_at_its_bound(make):
    make()


OURS = "is measured by the SDK itself, for every call and at once"
PREFERENCE = "is a preference for the candidate from -1 to 1"


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda: Step("1%", min_time="1h", max_time="1h"), "It can never pass"),
        (lambda: Guardrail("click", margin=-0.1), "has the margin -0.1"),
        (lambda: Guardrail(MISMATCH), "has no margin"),
        (lambda: Guardrail(MISMATCH, margin=1.0), "It is a share of the pairs, above 0 and below 1"),
        (lambda: Guardrail("shadow.mismatch.price", margin=1.0), "It is a share of the pairs, above 0 and below 1"),
        (lambda: Guardrail("first_item"), "has no threshold_s"),
        (lambda: Guardrail("click", margin=0.1, threshold_s=0.1), "has a threshold_s"),
        (lambda: Guardrail("error_rate", window="1h"), OURS),
        (lambda: Guardrail("error_rate", clip=(0, 1)), OURS),
        (lambda: Guardrail(MISMATCH, margin=0.1, clip=(0, 1)), OURS),
        (lambda: Guardrail("latency_mean", per="outcome"), OURS),
        (lambda: Guardrail("latency_mean", early_harm=True), OURS),
        (lambda: Guardrail("click", margin=0.1, early_harm=True), "has early_harm=True and no window"),
        (lambda: Guardrail("click", margin=0.1, better="up"), "better='up' of Guardrail('click') is unknown"),
        (lambda: Guardrail("click", margin=0.1, on_fail="abort"), "on_fail='abort' of Guardrail('click') is unknown"),
        (lambda: Guardrail("click", margin=0.1, per="list"), "per='list' of Guardrail('click') is unknown"),
        (lambda: Guardrail("click", margin=0.1, audit=0.1), "has an audit share, which belongs to 'judge.preference'"),
        (lambda: Gate("click", audit=0.1), "has an audit share, which belongs to 'judge.preference'"),
        (lambda: Gate("judge.preference", better="lower"), PREFERENCE),
        (lambda: Gate("judge.preference", per="list"), PREFERENCE),
        (lambda: Gate("judge.preference", window="1h"), PREFERENCE),
        (lambda: Gate("judge.preference", clip=(0, 1)), PREFERENCE),
        (lambda: Gate("judge.preference", horizon=500), PREFERENCE),
        (lambda: Gate("click", better="up"), "better='up' of Gate('click') is unknown"),
        (lambda: Gate("click", per="unit"), "per='unit' of Gate('click') is unknown"),
        (lambda: Gate("x" * 129), "has the metric 'xxx"),
        (lambda: Gate("a\nb"), "has the metric 'a\\nb'"),
        (lambda: Gate(b"click"), "has the metric b'click'"),
        (lambda: Gate("click", clip=(1, 1)), "clip=(1, 1) is not a range"),
        (lambda: Gate("click", clip=(1,)), "clip=(1,) is not a range"),
        (lambda: Gate("click", clip="01"), "clip='01' is not a range"),
        (lambda: Gate("click", clip=(False, True)), "clip=(False, True) is not a range"),
        (lambda: Gate("click", horizon=0), "horizon=0 is neither a number of units nor a duration"),
        (lambda: Gate("click", horizon=float("inf")), "horizon=inf is neither a number of units nor a duration"),
        (lambda: Freeze("2026-12-20", "2026-12-20"), "ends before it starts"),
        (lambda: Canary(["5%"], max_calls_per_unit=True), "max_calls_per_unit=True is not a number of calls"),
        (lambda: Canary(["5%"], alpha=0.5), "alpha=0.5 is not an error probability"),
        (lambda: Canary(["5%"], alpha=True), "alpha=True is not an error probability"),
        (lambda: Canary("5%"), "A canary has a list of shares"),
        (lambda: Canary({"v2": "5%"}), "A canary has a list of shares"),
        (lambda: Canary(Step("5%")), "A canary has a list of shares"),
        (lambda: Canary(0.05), "A canary has a list of shares"),
        (lambda: Canary(["5%"], gates="click"), "'click' is not a Gate"),
        (lambda: Canary(["5%"], gates=[Guardrail("error_rate")]), "is not a Gate"),
        (lambda: Canary(["5%"], guardrails=[Guardrail("x", margin=1)], gates=[Gate("x")]), "'x' is judged twice"),
    ],
)
def test_an_option_beyond_its_bound_is_refused(make, problem):
    with pytest.raises(ConfigurationError) as caught:
        make()
    assert problem in str(caught.value)


def test_a_criterion_may_stand_alone_and_be_the_same_metric_at_two_thresholds():
    one = Canary(["5%"], guardrails=Guardrail("latency", threshold_s=0.25), gates=Gate("click")).criteria
    assert (["latency>0.25s", "click"], True) == ([each.label for each in one.all], one.decides)
    two = [Guardrail("latency", threshold_s=0.25), Guardrail("latency", threshold_s=1.0)]
    assert ["latency>0.25s", "latency>1s"] == [each.label for each in Canary(["5%"], guardrails=two).criteria.all]


def test_a_failure_decides_unless_it_only_warns_or_is_tried_dry():
    guardrails = {"rollback": True, "pause": True, "warn": False}
    assert guardrails == {each: Guardrail("error_rate", on_fail=each).decides for each in guardrails}
    assert not Guardrail("error_rate", dry_run=True).decides


@pytest.mark.parametrize(
    ("share", "shadow", "label", "everybody", "only_shadows"),
    [
        ("5%", 0, "5%", False, False),
        (0, "10%", "0%", False, True),
        (0, 0, "0%", False, False),
        ("5%", "10%", "5%", False, False),
        ("100%", 0, "100%", True, False),
        ({"v2": "5%", "v3": "10%"}, 0, "v2=5%,v3=10%", False, False),
        ({"v2": 0, "v3": 0}, "10%", "v2=0%,v3=0%", False, True),
        ({"v2": 0, "v3": "1%"}, "10%", "v2=0%,v3=1%", False, False),
        ({"v2": 0, "v3": 1}, 0, "v2=0%,v3=100%", True, False),
        ({}, 0, "", False, False),
    ],
)
def test_what_a_step_says_of_itself(share, shadow, label, everybody, only_shadows):
    step = Step(share, shadow=shadow)
    assert (label, everybody, only_shadows) == (step.label, step.serves_everybody, step.only_shadows)


def test_a_plan_warns_of_a_shadowing_step_whose_answers_no_guardrail_judges():
    steps = [Step(0, shadow="10%"), "5%"]
    (warning,) = Canary(steps).criteria.warnings
    assert warning.startswith("step 0% only shadows, and no guardrail judges the answers")
    judged = [Guardrail("shadow.mismatch.price", margin=0.02)]
    assert () == Canary(steps, guardrails=judged).criteria.warnings == Canary(["5%"]).criteria.warnings


def test_a_step_is_found_by_its_index():
    criteria = Canary(["1%", "5%"]).criteria
    assert [None, "1%", "5%", None] == [step and step.label for step in map(criteria.step, (-1, 0, 1, 2))]


def test_the_open_freeze_window_is_the_one_that_is_named():
    one, two = Freeze("2026-12-20", "2026-12-22"), Freeze("2026-12-21", "2026-12-23")
    criteria = Canary(["1%"], freeze=[one, two]).criteria
    day = 86_400
    first_s = 1_797_724_800.0  # 2026-12-20 in UTC
    at = [criteria.frozen_by(first_s + offset * day) for offset in (-0.5, 0.5, 1.5, 2.5, 3.5)]
    assert [None, one, one, two, None] == at
    assert "2026-12-20 to 2026-12-22" == str(one)
    weekly = Freeze("16:00", "08:00", days=("fri", "sat"), zone="Europe/Berlin")
    assert "fri, sat 16:00-08:00 Europe/Berlin" == str(weekly)


def test_a_planned_end_is_no_end_of_a_judge_s_preference():
    gates = Canary(["5%"], horizon=5_000, gates=[Gate("click"), Gate("judge.preference")]).criteria.gates
    assert [5_000, None] == [gate.horizon for gate in gates]
    assert ["call", "outcome"] == [gate.per for gate in gates]


@pytest.mark.parametrize(
    ("segments", "as_texts"),
    [
        (None, {}),
        ({}, {}),
        (
            {"country": ["NL", "DE"], "request.user.age": (30, True)},
            {"country": ("NL", "DE"), "request.user.age": ("30", "True")},
        ),
        ({"a": ["x" * 60]}, {"a": ("x" * 60,)}),
        ({"a": list(range(20))}, {"a": tuple(map(str, range(20)))}),
        ({key: ["x"] for key in "abcd"}, dict.fromkeys("abcd", ("x",))),
    ],
)
def test_segments_are_the_texts_of_their_values(segments, as_texts):
    assert as_texts == Criteria(segments=segments).segments


@pytest.mark.parametrize(
    ("segments", "problem"),
    [
        (["country"], "does not list up to 4 attributes"),
        ({key: ["x"] for key in "abcde"}, "does not list up to 4 attributes"),
        ({1: ["x"]}, "has the attribute 1"),
        ({"a b": ["x"]}, "has the attribute 'a b'"),
        ({"a..b": ["x"]}, "has the attribute 'a..b'"),
        ({"a": []}, "It lists 1 to 20 different"),
        ({"a": list(range(21))}, "It lists 1 to 20 different"),
        ({"a": "NL"}, "It lists 1 to 20 different"),
        ({"a": b"NL"}, "It lists 1 to 20 different"),
        ({"a": {"NL"}}, "It lists 1 to 20 different"),
        ({"a": ["NL", "NL"]}, "It lists 1 to 20 different"),
        ({"a": ["1", 1]}, "It lists 1 to 20 different"),
        ({"a": ["NL", 1.5]}, "It lists 1 to 20 different"),
        ({"a": ["NL", None]}, "It lists 1 to 20 different"),
        ({"a": [""]}, "It lists 1 to 20 different"),
        ({"a": ["x" * 61]}, "It lists 1 to 20 different"),
        ({"a": ["NL\n"]}, "It lists 1 to 20 different"),
        ({"a": ["other"]}, "calls with another value are 'other'"),
    ],
)
def test_segments_that_could_not_be_told_apart_are_refused(segments, problem):
    with pytest.raises(ConfigurationError) as caught:
        Criteria(segments=segments)
    assert problem in str(caught.value)
