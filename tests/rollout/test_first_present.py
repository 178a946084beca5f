"""A unit that is known by several names: the first that a call has."""

import numpy
import pytest

from rollout_sdk import ABTest, ConfigurationError, MissingUnitError, rollout
from rollout_sdk.engine.first_present import FirstPresent

UNIT = ("user_id", "device_id")


def decorate(runtime, *, unit=UNIT, strategy=ABTest(0.5), key="model", **options):
    return rollout(
        candidate=lambda user_id=None, device_id=None: "candidate",
        strategy=strategy,
        unit=unit,
        key=key,
        runtime=runtime,
        **options,
    )(lambda user_id=None, device_id=None: "control")


def test_the_unit_is_the_first_that_a_call_has(runtime):
    model = decorate(runtime)
    for user, device, unit in (("u-1", "d-1", "u-1"), (None, "d-1", "d-1"), ("u-1", None, "u-1"), (0, "d-1", 0)):
        assert model.rollout.route(user, device).decision.bucket == model.rollout.assign(unit).bucket


@pytest.mark.parametrize("absent", [None, "", b"", (), float("nan"), numpy.float64("nan")])
def test_what_is_empty_is_absent(absent, runtime):
    model = decorate(runtime)
    assert model.rollout.route(absent, "d-1").decision.bucket == model.rollout.assign("d-1").bucket


def test_a_unit_of_a_wrong_type_does_not_lead_to_the_next(runtime):
    model = decorate(runtime)
    assert model.rollout.route(object(), "d-1").decision.reason == "no_unit"


class Detached:
    @property
    def id(self):
        raise RuntimeError("detached")


def test_a_unit_that_cannot_be_read_does_not_lead_to_the_next_and_is_a_fault(runtime):
    model = rollout(
        candidate=lambda user, device: "candidate", strategy=ABTest(1.0), unit=("user.id", "device"), key="m", runtime=runtime
    )(lambda user, device: "control")
    assert model(Detached(), "d-1") == "control"
    assert model.rollout.status().faults == {("unit", "RuntimeError"): 1}


def test_a_call_that_has_none_is_missing_its_unit(runtime):
    assert decorate(runtime).rollout.route().decision.reason == "no_unit"
    with pytest.raises(MissingUnitError):
        decorate(runtime, key="strict", missing_unit="raise")(None, "")


def test_paths_are_followed_and_overrides_are_by_whichever_unit_it_is(runtime):
    model = rollout(
        candidate=lambda request: "candidate",
        strategy=ABTest(0.0),
        unit=("request.user.id", "request.cookies.device"),
        override={"u-1": "candidate", "d-1": "candidate"},
        key="m",
        runtime=runtime,
    )(lambda request: "control")
    assert model({"user": {"id": "u-1"}}) == "candidate"
    assert model({"user": None, "cookies": {"device": "d-1"}}) == "candidate"
    assert model({"user": {"id": "u-2"}, "cookies": {"device": "d-1"}}) == "control"


def test_the_status_tells_how_many_calls_had_which(runtime):
    model = decorate(runtime)
    for user in ("u-1", None, "u-2", "u-1", None):
        model(user, "d-1")
    model()
    assert model.rollout.status().units_from == {"user_id": 3, "device_id": 2}
    assert "  unit from user_id: 3\n  unit from device_id: 2" in str(model.rollout.status())


def test_with_one_unit_the_status_has_nothing_to_tell(runtime):
    model = decorate(runtime, unit="user_id")
    model("u-1")
    assert model.rollout.status().units_from == {}


def rows(texts, users, device):
    return list(texts)


@pytest.mark.parametrize("make", [list, tuple], ids=["list", "tuple"])
def test_each_row_of_a_batch_has_the_first_that_it_has(make, runtime):
    model = rollout(
        candidate=rows, strategy=ABTest(0.5), unit=("users", "device"), batch="texts", key="batch", runtime=runtime
    )(rows)
    users = make(["u-1", None, "u-3", ""])
    decisions = model.rollout.route(["a", "b", "c", "d"], users, "d-1").decisions
    expected = [model.rollout.assign(unit).bucket for unit in ("u-1", "d-1", "u-3", "d-1")]
    assert [decision.bucket for decision in decisions] == expected
    assert model.rollout.status().units_from == {"users": 2, "device": 2}


def test_a_candidate_sees_its_rows_of_every_list_of_units(runtime):
    seen = []

    def candidate(texts, users, devices):
        seen.append((list(texts), list(users), list(devices)))
        return list(texts)

    model = rollout(
        candidate=candidate,
        strategy=ABTest(0.0),
        override={"u-1": "candidate", "d-2": "candidate"},
        unit=("users", "devices"),
        batch="texts",
        key="batch",
        runtime=runtime,
    )(lambda texts, users, devices: list(texts))
    assert model(["a", "b", "c"], ["u-1", None, "u-3"], ["d-1", "d-2", "d-3"]) == ["a", "b", "c"]
    assert seen == [(["a", "b"], ["u-1", None], ["d-1", "d-2"])]


def test_lists_of_units_of_different_lengths_are_a_fault_and_the_control_serves(runtime):
    model = rollout(
        candidate=lambda texts, users, devices: ["candidate"] * len(texts),
        strategy=ABTest(1.0),
        unit=("users", "devices"),
        batch="texts",
        key="batch",
        runtime=runtime,
    )(lambda texts, users, devices: ["control"] * len(texts))
    assert model(["a", "b"], ["u-1", "u-2"], ["d-1"]) == ["control", "control"]
    assert model.rollout.status().faults == {("unit", "ValueError"): 1}


def test_how_many_units_the_lists_have_is_said_where_they_differ():
    getters = {name: lambda args, _, at=at: args[at] for at, name in enumerate(("users", "devices", "mails"))}
    unit = FirstPresent(getters, by_row=True)
    for lists, said in (((["u"] * 2, ["d"], None), "1 and 2"), ((["u"] * 3, ["d"] * 2, ["m"]), "1 and 2 and 3")):
        with pytest.raises(ValueError, match=f"^lists of units of {said} rows$"):
            unit(lists, {})
    assert ["u-1", "d-2"] == unit((["u-1", None], ["d-1", "d-2"], "m"), {})
    assert {"users": 1, "devices": 1} == unit.seen


@pytest.mark.parametrize(
    ("unit", "message"),
    [
        (("user_id",), "does not name several units.*Write unit="),
        ((), "does not name several units"),
        (("user_id", "user_id"), "none of them twice"),
        (("user_id", 7), "does not name several units"),
        (("user_id", "device"), "unit='device' names no parameter of 'model'.*Its parameters are: user_id, device_id"),
        (("user_id", "device_id..x"), "has an empty part"),
        (["user_id", "device_id"], "is a list. Several units are a tuple"),
    ],
)
def test_names_that_cannot_be_several_units_are_refused(unit, message, runtime):
    with pytest.raises(ConfigurationError, match=message):
        decorate(runtime, unit=unit)


def test_a_covariate_is_not_one_of_several(runtime):
    with pytest.raises(ConfigurationError, match=r"covariate=.* is neither a name nor a callable"):
        decorate(runtime, covariate=("user_id", "device_id"))
