"""A plan as it was written: what is written of it makes the same plan, and says nothing that is a default."""

import json

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from rollout_sdk import Freeze, Gate, Guardrail, Step
from rollout_sdk.plan import MEASURED, Criteria, as_criteria, written

TIMES = st.one_of(st.sampled_from(["30m", "1h 30m", "2d", 5405, 0.25, 61]))
METRICS = st.sampled_from(["click", "revenue", "label"])


@st.composite
def steps(draw):
    share = draw(st.sampled_from(["1%", "5%", 0.125, "0.3%", {"v2": "5%", "v3": "10%"}]))
    options = draw(
        st.fixed_dictionaries(
            {}, optional={"min_units": st.integers(0, 10_000), "min_time": TIMES, "shadow": st.sampled_from(["10%", 0.5])}
        )
    )
    if draw(st.booleans()):
        options["max_time"] = "3d"
    return Step(share, **options)


@st.composite
def guardrails(draw):
    metric = draw(st.sampled_from([*MEASURED, "revenue"]))
    options = draw(
        st.fixed_dictionaries(
            {},
            optional={
                "harm": st.floats(0, 5, width=16), "grace": TIMES, "on_fail": st.sampled_from(["pause", "warn", "rollback"]),
                "dry_run": st.booleans(),
            },
        )
    )  # fmt: skip
    if metric == "revenue" or draw(st.booleans()):
        options["margin"] = draw(st.floats(0.125, 2, width=16))
    if metric in ("latency", "first_item"):
        options["threshold_s"] = 0.25
    if metric == "revenue":
        options |= draw(st.fixed_dictionaries({}, optional={"window": st.just("1h"), "clip": st.just((0.0, 200.0))}))
    if metric == "error_rate":
        options |= draw(st.fixed_dictionaries({}, optional={"floor": st.just(0.2), "burst": TIMES, "ceiling": st.just(0.25)}))
    return Guardrail(metric, **options)


@st.composite
def gates(draw):
    options = draw(
        st.fixed_dictionaries(
            {},
            optional={
                "min_effect": st.floats(-1, 1, width=16), "mde": st.floats(0.125, 1, width=16), "window": TIMES,
                "before": st.sampled_from(["step", "promotion"]), "better": st.sampled_from(["higher", "lower"]),
                "horizon": st.one_of(st.integers(100, 10**6), st.just("14d")),
            },
        )
    )  # fmt: skip
    return Gate("click", **options)


@given(
    st.lists(steps(), min_size=1, max_size=4),
    st.lists(guardrails(), max_size=3, unique_by=lambda each: each.label),
    st.lists(gates(), max_size=1),
    st.sampled_from([{}, {"alpha": 0.01}, {"max_calls_per_unit": 100}]),
    st.sampled_from(
        [(), (Freeze("16:00", "08:00", days=("fri",), zone="Europe/Berlin"),), (Freeze("2026-12-20", "2027-01-04"),)]
    ),
)
def test_what_is_written_of_a_plan_is_the_plan(made, judged, asked, options, frozen):
    plan = Criteria(steps=made, guardrails=judged, gates=asked, freeze=frozen, **options)
    table = json.loads(json.dumps(written(plan)))
    assert plan == as_criteria(table, "what is written")


def test_what_was_not_said_is_not_written():
    assert written(Criteria(steps=["1%", Step("5%"), 0.25])) == {
        "steps": [{"share": "1%"}, {"share": "5%"}, {"share": "25%"}], "guardrails": [{"metric": "error_rate"}], "gates": [],
    }  # fmt: skip


def test_an_approval_is_said_to_be_asked_and_a_planned_end_stands_at_its_gate():
    plan = Criteria(steps=["1%"], gates=[Gate("click")], horizon="14d", approve=lambda verdict: True)
    table = written(plan)
    assert (True, "2w") == (table.pop("approve"), table["gates"][0]["horizon"])
    assert as_criteria(table, "it") == evolve(plan, horizon=None, approve=None)


@pytest.mark.parametrize(("seconds", "said"), [(5400, "1h 30m"), (5405, 5405.0), (0.0, None), (90_061, 90_061.0)])
def test_a_duration_is_written_exactly(seconds, said):
    (step,) = written(Criteria(steps=[Step("1%", min_time=seconds)]))["steps"]
    assert step.get("min_time") == (said if said is not None else "0s")
