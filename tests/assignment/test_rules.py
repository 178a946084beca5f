"""What outranks the strategy: overrides, missing units, units that cannot be read."""

import unicodedata
from decimal import Decimal
from uuid import UUID

import numpy as np
import pytest

from rollout_sdk import ABTest, Canary, ConfigurationError, MissingUnitError, Runtime, rollout


def fits(user, query="q"):
    return "v2"


@pytest.fixture
def decorate(runtime):
    def make(strategy=None, *, key="model", **options):
        @rollout(
            candidate=options.pop("candidate", fits),
            strategy=strategy or ABTest(0.0),
            key=key,
            runtime=runtime,
            **{"unit": "user", **options},
        )
        def model(user, query="q"):
            return "control"

        return model

    return make


def reason(model, *args):
    return model.rollout.route(*args).decision.reason


def raising(error):
    def function(user, query="q"):
        raise error

    return function


# Overrides --------------------------------------------------------------------------------------------------------------


def test_an_override_fixes_a_units_variant(decorate):
    model = decorate(override={"u-qa": "candidate"})
    assert (model("u-qa"), model("u-1")) == ("v2", "control")


def test_an_override_can_fix_the_control(decorate):
    model = decorate(ABTest(1.0), override={"u-boss": "control"})
    assert (model("u-boss"), model("u-1")) == ("control", "v2")


def test_an_override_by_a_callable_sees_the_functions_own_parameters(decorate):
    model = decorate(override=lambda user, query="q": "candidate" if query == "beta" else None)
    assert (model("u-1", "beta"), model("u-1", query="beta"), model("u-1")) == ("v2", "v2", "control")


def test_overridden_calls_are_not_analysed(decorate):
    model = decorate(override={"u-qa": "candidate"})
    for user in ("u-qa", "u-qa", "u-1"):
        model(user)
    status = model.rollout.status()
    assert (status.excluded, status.realised) == ({"override": 2}, {"control": 1.0})


def test_an_override_outranks_the_holdout_and_a_missing_unit(decorate):
    model = decorate(holdout=1.0, missing_unit="raise", override=lambda user, query="q": "candidate")
    assert (model("u-1"), model(None)) == ("v2", "v2")


@pytest.mark.parametrize(
    ("named", "called"),
    [
        (unicodedata.normalize("NFC", "Zoë"), unicodedata.normalize("NFD", "Zoë")),
        (7, np.int64(7)),
        (42, "42"),
        ("42", 42.0),
        (UUID(int=5), str(UUID(int=5))),
        (("acme", 7), ("acme", np.int32(7))),
    ],
    ids=["unicode", "numpy", "text", "float", "uuid", "tuple"],
)
def test_an_override_finds_a_unit_in_whatever_form_it_comes(decorate, named, called):
    assert decorate(override={named: "candidate"})(called) == "v2"


@pytest.mark.parametrize("called", ["01", 1.5, True, b"1", (1,), [1], None], ids=repr)
def test_an_override_takes_no_unit_of_another_text(decorate, runtime, called):
    assert decorate(override={1: "candidate"})(called) == "control"
    assert runtime.faults == {}


def test_an_override_that_gives_one_unit_two_variants_is_refused(decorate):
    with pytest.raises(ConfigurationError, match="They are one unit: a unit is its text"):
        decorate(override={42: "candidate", "42": "control"})
    assert "v2" == decorate(override={42: "candidate", "42": "candidate"}, key="alike")(42.0)


def notes_about(units, model):
    for unit in units:
        model(unit)
    return [note for note in model.rollout.status().notes if "come as" in note]


@pytest.mark.parametrize(
    ("units", "kinds"),
    [
        ([42, "42"], "numbers and as text"),
        (["u", "v", 7.0, "w", 8], "numbers and as text"),
        ([b"u", "u"], "bytes and as text"),
        ([UUID(int=5), str(UUID(int=5)), 3], "UUIDs and as text"),
        ([("a", 1), True], "booleans and as tuples"),
    ],
    ids=repr,
)
def test_units_of_two_kinds_are_noted_once(decorate, units, kinds):
    [note] = notes_about(units * 2, decorate())
    assert f"Units of 'model' come as {kinds}. A unit is its text" in note


@pytest.mark.parametrize(
    "units", [["u", np.str_("v")], [1, 2.0, np.int64(3), Decimal(4)], ["u", None, [1]], [UUID(int=1)]], ids=repr
)
def test_units_of_one_kind_are_not_noted(decorate, units):
    assert [] == notes_about(units, decorate())


def test_an_outcome_of_a_unit_of_another_kind_is_noted(decorate):
    model = decorate()
    model(42)
    model.rollout.record("click", 1.0, unit="42")
    [note] = notes_about([], model)
    assert "numbers and as text" in note


def test_overrides_are_those_that_were_given_when_decorating(decorate):
    given = {"u-1": "candidate"}
    model = decorate(override=given)
    given["u-2"] = "typo"
    assert (model("u-1"), model("u-2")) == ("v2", "control")


@pytest.mark.parametrize(
    "nonsense",
    [
        lambda user, query="q": "v9",
        lambda user, query="q": 7,
        lambda user, query="q": ["candidate"],
        raising(KeyError("x")),
        raising(SystemExit(1)),
    ],
)
def test_an_override_callable_that_fails_or_gives_nonsense_is_counted_and_overrides_nothing(decorate, runtime, nonsense):
    model = decorate(ABTest(1.0), override=nonsense)
    assert model("u-1") == "v2"
    assert {what for what, _ in runtime.faults} == {"override"}


# Missing units ----------------------------------------------------------------------------------------------------------

MISSING = [None, "", b"", float("nan"), [1], {"id": 1}, object()]


@pytest.mark.parametrize("missing", MISSING, ids=lambda unit: type(unit).__name__)
def test_a_call_without_its_unit_gets_the_control_and_is_not_analysed(decorate, missing):
    model = decorate(ABTest(1.0))
    assert (model(missing), reason(model, missing)) == ("control", "no_unit")
    assert model.rollout.status().excluded == {"no_unit": 2}


def test_a_call_without_its_unit_can_get_a_random_variant(decorate):
    model = decorate(ABTest(0.5), missing_unit="random")
    answers = [model(None) for _ in range(1_000)]
    assert answers.count("v2") / 1_000 == pytest.approx(0.5, abs=0.1)


def test_a_call_without_its_unit_can_be_refused(decorate):
    model = decorate(missing_unit="raise")
    with pytest.raises(MissingUnitError, match=r"The call of 'model' has no unit: got None. .* Pass it, or choose"):
        model(None)


def test_a_refused_call_is_no_other_calls_trouble(decorate):
    model = decorate(ABTest(1.0), missing_unit="raise")
    with pytest.raises(MissingUnitError):
        model(None)
    assert model("u-1") == "v2"


def test_calls_without_their_unit_are_not_one_hot_bucket(decorate):
    model = decorate(ABTest(0.5), missing_unit="random")
    assert len({model.rollout.route(None).decision.bucket for _ in range(200)}) > 100


# Finding the unit -------------------------------------------------------------------------------------------------------


class Request:
    def __init__(self, user):
        self.user = user


@pytest.mark.parametrize(
    ("unit", "argument"),
    [
        ("user", "u-1"),
        ("user.user", Request("u-1")),
        ("user.user.id", Request({"id": "u-1"})),
        ("user.id", {"id": "u-1"}),
        (lambda user, query="q": user["who"], {"who": "u-1"}),
    ],
    ids=["parameter", "attribute", "attribute-key", "key", "callable"],
)
def test_a_unit_is_found_by_parameter_by_path_or_by_a_callable(decorate, unit, argument):
    routed = decorate(ABTest(0.5), unit=unit).rollout.route(argument)
    assert routed.decision.bucket == decorate(ABTest(0.5), key="model", unit="user").rollout.route("u-1").decision.bucket


@pytest.mark.parametrize("argument", ["u-1", None, 7, {}, Request(None)], ids=["text", "none", "number", "mapping", "object"])
def test_a_path_that_leads_nowhere_is_a_missing_unit(decorate, runtime, argument):
    model = decorate(ABTest(1.0), unit="user.user.id")
    assert (model(argument), runtime.faults) == ("control", {})


@pytest.mark.parametrize("error", [KeyError("who"), SystemExit(2), RecursionError()], ids=lambda error: type(error).__name__)
def test_a_unit_callable_that_raises_is_counted_and_the_control_answers(decorate, runtime, error):
    model = decorate(ABTest(1.0), unit=raising(error))
    assert (model("u-1"), reason(model, "u-1")) == ("control", "no_unit")
    assert runtime.faults == {("unit", type(error).__name__): 2}


def test_a_unit_whose_attribute_raises_is_counted_and_the_control_answers(decorate, runtime):
    class Broken:
        @property
        def id(self):
            raise RuntimeError("database is away")

    assert decorate(ABTest(1.0), unit="user.id")(Broken()) == "control"
    assert runtime.faults == {("unit", "RuntimeError"): 1}


def test_a_default_value_can_be_the_unit(runtime):
    @rollout(candidate=lambda user="guest": "v2", strategy=ABTest(1.0), unit="user", key="default", runtime=runtime)
    def model(user="guest"):
        return "control"

    assert (model(), model.rollout.route().decision.reason) == ("v2", "static")


def test_a_unit_can_be_a_keyword_that_the_function_takes_with_others(runtime):
    @rollout(candidate=lambda text, **context: "v2", strategy=ABTest(1.0), unit="user", key="kwargs", runtime=runtime)
    def model(text, **context):
        return "control"

    assert (model("t", user="u-1"), model("t")) == ("v2", "control")


def test_an_aborted_rollout_gives_overridden_units_the_control_too(decorate):
    model = decorate(Canary(["50%"]), override={"u-qa": "candidate"})
    model.rollout.abort()
    assert (model("u-qa"), reason(model, "u-qa")) == ("control", "aborted")


@pytest.mark.parametrize(
    ("options", "problem", "cure"),
    [
        (
            {"override": {"u-1": "v9"}},
            "override= of 'model' gives unit 'u-1' the variant 'v9', which does not exist",
            "The variants are: control, candidate.",
        ),
        ({"override": {"u-1": None}}, "the variant None, which does not exist", "The variants are: control, candidate."),
        ({"override": {"u-1": ["v2"]}}, "the variant ['v2'], which does not exist", "The variants are: control, candidate."),
        ({"override": {None: "candidate"}}, "override= of 'model' names the unit None, which no call can have", "Take it out."),
        ({"override": {"": "candidate"}}, "names the unit '', which no call can have", "Take it out."),
        (
            {"override": ["u-1"]},
            "override=['u-1'] of 'model' is neither a mapping nor a callable",
            "Write override={'u-1': 'v2'}.",
        ),
        (
            {"override": {"u-1": "candidate"}, "unit": None},
            "override= of 'model' names units, and calls of 'model' have none",
            "Set unit=",
        ),
        (
            {"override": lambda user: None},
            "override= of 'model' cannot be called as the control is: it does not take 'query'",
            "Give it the control's parameters",
        ),
        (
            {"unit": lambda: 1},
            "unit= of 'model' cannot be called as the control is: it does not take 'user'",
            "Give it the control's parameters",
        ),
        ({"holdout": 0.1, "unit": None}, "holdout= of 'model' holds units out, and calls of 'model' have none", "Set unit=."),
        ({"holdout": 1.1}, "The holdout of 'model' is 1.1", "A share lies between 0 (no units) and 1 (all units)"),
        ({"holdout": "ten"}, "The holdout of 'model' is 'ten'", "Write 0.05 or '5%'."),
        ({"missing_unit": "none"}, "missing_unit='none' of 'model' is unknown", "It must be one of: control, random, raise."),
        ({"unit": "person"}, "unit='person' names no parameter of 'model'", "Its parameters are: user, query."),
        ({"unit": "person.id"}, "unit='person' names no parameter of 'model'", "Its parameters are: user, query."),
        ({"unit": "user."}, "unit='user.' of 'model' has an empty part", "Write 'user_id' or 'request.user.id'."),
        ({"unit": ""}, "unit='' of 'model' has an empty part", "Write 'user_id' or 'request.user.id'."),
        ({"unit": 7}, "unit=7 of 'model' is neither a name nor a callable", "Write unit='user_id'."),
        ({"layer": "checkout"}, "layer='checkout' of 'model' is not a Layer", "Write layer=Layer("),
    ],
)
def test_a_rule_that_cannot_work_is_refused_when_decorating(decorate, options, problem, cure):
    with pytest.raises(ConfigurationError) as caught:
        decorate(**options)
    assert problem in str(caught.value)
    assert cure in str(caught.value)


@pytest.mark.parametrize(("unit", "named"), [("users", r"\*users"), ("context", r"\*\*context")])
def test_many_arguments_are_no_unit(runtime, unit, named):
    with pytest.raises(
        ConfigurationError, match=f"unit='{unit}' of 'many' names {named}, which holds many arguments. It must name one."
    ):

        @rollout(candidate=lambda *users, **context: 2, strategy=ABTest(0.5), unit=unit, key="many", runtime=runtime)
        def model(*users, **context):
            return 1


@pytest.mark.parametrize(
    ("unit", "user", "why"),
    [
        ("user.name.id", "x", "unit='user.name.id' of 'm' leads to nothing in a call: no such attribute or key, or None."),
        ("user", object(), "unit= of 'm' gives a object, which is not a unit."),
        ("user", ["ann"], "unit= of 'm' gives a list, which is not a unit."),
    ],
)
def test_a_unit_that_cannot_be_read_is_told_once(unit, user, why):
    runtime = Runtime()
    model = rollout(candidate=lambda user: 1, strategy=ABTest(0.5), unit=unit, key="m", runtime=runtime)(lambda user: 0)
    for _ in range(2):
        assert "no_unit" == model.rollout.route(user).decision.reason
    (note,) = model.rollout.status().notes
    assert note.startswith(why)
    assert "ann" not in note
    runtime.close(1.0)


@pytest.mark.parametrize("user", [None, "", float("nan"), (), b""])
def test_a_call_without_a_user_is_no_news(user):
    runtime = Runtime()
    model = rollout(candidate=lambda user: 1, strategy=ABTest(0.5), unit="user", key="m", runtime=runtime)(lambda user: 0)
    assert "no_unit" == model.rollout.route(user).decision.reason
    assert () == tuple(model.rollout.status().notes)
    runtime.close(1.0)
