"""The four built-in strategies: who gets what, and why."""

from importlib.metadata import entry_points

import numpy as np
import pytest

from rollout_sdk import ABTest, Canary, Interleave, Phase, Shadow, rollout
from rollout_sdk.interleaving import TeamDraft

BUILT_IN = {"ab": ABTest, "canary": Canary, "interleave": Interleave, "shadow": Shadow}


@pytest.fixture
def decorate(runtime):
    def make(strategy, *, candidates=("candidate",), key="model", **options):
        functions = {name: lambda user, name=name: name for name in candidates}

        @rollout(candidates=functions, strategy=strategy, effects="read", unit="user", key=key, runtime=runtime, **options)
        def model(user):
            return "control"

        return model

    return make


def decisions(model, users=500):
    return [model.rollout.route(user).decision for user in range(users)]


# The door ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "strategy"), BUILT_IN.items())
def test_a_built_in_strategy_enters_by_the_entry_point_group(name, strategy):
    (entry,) = entry_points(group="rollout_sdk", name=name)
    assert entry.load().rollout_strategies() == {name: strategy}


@pytest.mark.parametrize("name", BUILT_IN)
def test_a_strategy_is_found_by_name_by_class_and_by_instance(decorate, name):
    strategy = BUILT_IN[name]
    models = [decorate(given, key=f"{name}.{number}") for number, given in enumerate((name, strategy, strategy()))]
    assert [model.rollout.strategy for model in models] == [strategy()] * 3
    assert {model.rollout.strategy_name for model in models} == {name}


def test_the_package_offers_what_the_group_offers():
    found = {each.name for each in entry_points(group="rollout_sdk") if each.value.startswith("rollout_sdk.")}
    assert set(BUILT_IN) == found


@pytest.mark.parametrize("strategy", [strategy() for strategy in BUILT_IN.values()])
def test_a_strategy_is_a_frozen_value(strategy):
    assert strategy == type(strategy)()
    with pytest.raises(AttributeError):
        strategy.name = "mine"


# ABTest -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shares", "expected"),
    [
        (ABTest(), {"control": 0.5, "candidate": 0.5}),
        (ABTest(0.1), {"control": 0.9, "candidate": 0.1}),
        (ABTest("10%"), {"control": 0.9, "candidate": 0.1}),
        (ABTest({"candidate": "10%"}), {"control": 0.9, "candidate": 0.1}),
        (ABTest(0), {"control": 1.0, "candidate": 0.0}),
        (ABTest(1), {"control": 0.0, "candidate": 1.0}),
    ],
)
def test_an_ab_test_has_one_phase_with_its_shares(decorate, shares, expected):
    assert decorate(shares).rollout.status().shares == expected


def test_an_ab_test_of_several_candidates_gives_each_its_share(decorate):
    model = decorate(ABTest({"v3": "30%", "v2": "20%"}), candidates=("v2", "v3"))
    assert model.rollout.phase == Phase("0:v2=20%,v3=30%", {"v2": 0.2, "v3": 0.3})
    counts = dict.fromkeys(("control", "v2", "v3"), 0)
    for decision in decisions(model, 2_000):
        counts[decision.variant] += 1
    assert [counts[name] / 2_000 for name in ("control", "v2", "v3")] == pytest.approx([0.5, 0.2, 0.3], abs=0.05)


def test_an_ab_decision_says_its_reason_its_propensity_and_its_share(decorate):
    found = {(each.variant, each.reason, each.propensity, each.share) for each in decisions(decorate(ABTest(0.25)))}
    assert found == {("control", "split", 0.75, 0.75), ("candidate", "split", 0.25, 0.25)}


# Canary -----------------------------------------------------------------------------------------------------------------


def test_a_canary_begins_with_its_first_step(decorate):
    model = decorate(Canary(["5%", "50%"]))
    assert model.rollout.phase == Phase("0:5%", {"candidate": 0.05})


def test_a_canary_has_default_steps(decorate):
    plan = Canary().rollout_phases("control", ("candidate",))
    assert [phase.name for phase in plan] == ["1%", "5%", "25%", "50%"]


def test_the_steps_of_a_canary_may_come_from_anywhere():
    assert Canary(np.array([0.1, 0.2])).steps == Canary(iter([0.1, 0.2])).steps == Canary([0.1, 0.2]).steps


def test_one_candidate_of_a_canary_may_wait_while_another_grows(decorate):
    steps = [{"v2": "5%", "v3": "5%"}, {"v2": "5%", "v3": "20%"}]
    model = decorate(Canary(steps), candidates=("v2", "v3"))
    model.rollout.promote()
    assert model.rollout.phase == Phase("1:v2=5%,v3=20%", {"v2": 0.05, "v3": 0.2})


# Shadow -----------------------------------------------------------------------------------------------------------------


def test_a_shadow_test_answers_every_call_with_the_control(decorate):
    model = decorate(Shadow(rate=1.0))
    found = {(each.variant, each.reason, each.propensity, each.shadows) for each in decisions(model, 50)}
    assert found == {("control", "static", 1.0, ("candidate",))}


def test_a_shadow_test_runs_every_candidate(decorate):
    model = decorate(Shadow(rate="100%"), candidates=("v2", "v3"))
    assert {each.shadows for each in decisions(model, 20)} == {("v2", "v3")}


@pytest.mark.parametrize("rate", [0, 0.2, 1])
def test_a_shadow_test_shadows_its_rate_of_the_calls_of_every_user(decorate, rate):
    model = decorate(Shadow(rate))
    shadowed = [bool(model.rollout.route("u-1").decision.shadows) for _ in range(1_000)]
    assert sum(shadowed) / 1_000 == pytest.approx(rate, abs=0.08)


def test_a_shadow_test_of_no_call_shadows_nothing():
    assert [Shadow(0).shadows, Shadow(0.1).shadows] == [False, True]


# Together ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", [Canary(["30%"], shadow="100%"), ABTest(0.3, shadow=1.0)])
def test_users_outside_the_canary_are_shadowed_and_users_inside_are_not(decorate, runtime, strategy):
    model = decorate(strategy)
    found = decisions(model, 100)
    assert {(each.variant, each.shadows) for each in found} == {("control", ("candidate",)), ("candidate", ())}
    assert len(runtime.shadowed()) == sum(each.variant == "control" for each in found)


def test_shadows_beside_a_canary_have_a_rate_of_their_own(decorate):
    model = decorate(Canary(["20%"], shadow="25%"))
    control = [each for each in decisions(model, 3_000) if each.variant == "control"]
    assert sum(bool(each.shadows) for each in control) / len(control) == pytest.approx(0.25, abs=0.05)


def test_shadowing_is_no_matter_of_the_user(decorate):
    model = decorate(Canary(["0%", "5%"], shadow="50%"))
    assert {bool(model.rollout.route("u-1").decision.shadows) for _ in range(50)} == {True, False}


# Interleave -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def rank(runtime):
    def make(strategy, ours=("a", "b", "c"), theirs=("c", "d", "a"), *, key="page", convert=list):
        @rollout(
            candidate=lambda user: convert(theirs), strategy=strategy, effects="read", unit="user", key=key, runtime=runtime
        )
        def page(user):
            return convert(ours)

        return page

    return make


def test_an_interleaved_answer_has_items_of_all_variants(rank):
    pages = {tuple(rank(Interleave())(user)) for user in range(50)}
    assert all(len(page) == len(set(page)) == 3 for page in pages)
    assert len(pages) > 1


def test_an_interleaved_decision_blends_the_control_and_every_candidate(rank):
    decision = rank(Interleave()).rollout.route("u-1").decision
    assert (decision.variant, decision.blend, decision.reason, decision.propensity) == (
        "interleaved",
        ("control", "candidate"),
        "static",
        1.0,
    )


def test_a_user_who_loads_the_page_again_sees_the_same_page(rank):
    page = rank(Interleave())
    assert all(page(user) == page(user) for user in range(50))


def test_only_its_share_of_the_users_is_interleaved(rank):
    page = rank(Interleave(share="30%"))
    variants = [page.rollout.route(user).decision.variant for user in range(2_000)]
    assert variants.count("interleaved") / 2_000 == pytest.approx(0.3, abs=0.05)
    others = [user for user in range(2_000) if variants[user] == "control"]
    assert {("a", "b", "c")} == {tuple(page(user)) for user in others}


def test_the_list_is_as_long_as_asked(rank):
    assert [len(rank(Interleave(k=k), key=f"page.{k}")("u-1")) for k in (1, 2, 4)] == [1, 2, 4]


def test_a_tuple_stays_a_tuple(rank):
    assert isinstance(rank(Interleave(), convert=tuple)("u-1"), tuple)


def test_items_are_told_apart_by_their_key(rank):
    page = rank(Interleave(key=lambda item: item["id"]), ours=[{"id": 1}, {"id": 2}], theirs=[{"id": 2}, {"id": 1}])
    assert sorted(item["id"] for item in page("u-1")) == [1, 2]


def test_a_list_inside_an_answer_is_taken_out_and_put_back(rank):
    def rebuild(output, items):
        return {**output, "items": items}

    def convert(items):
        return {"items": np.array(items), "source": "us"}

    page = rank(Interleave(items=lambda output: output["items"], rebuild=rebuild), convert=convert)("u-1")
    assert page["source"] == "us"
    assert set(page["items"]) <= {"a", "b", "c", "d"}


class Page(tuple):
    __slots__ = ()


@pytest.mark.parametrize("convert", ["".join, set, dict.fromkeys, np.array, lambda items: iter(items), Page, lambda items: 7])
def test_an_answer_that_is_no_list_is_the_controls_own_and_counted(rank, runtime, convert):
    page = rank(Interleave(), convert=convert)
    assert type(page("u-1")) is type(convert(("a", "b", "c")))
    # What can be read only once is not even handed to the strategy.
    what = "merge" if hasattr(convert("a"), "__next__") else "interleave.rollout_merge"
    assert set(runtime.faults) == {(what, "TypeError")}


@pytest.mark.parametrize(("ours", "theirs"), [([], ["a"]), (["a"], []), ([], [])])
def test_an_empty_list_is_not_interleaved(rank, runtime, ours, theirs):
    page = rank(Interleave(), ours=ours, theirs=theirs)
    assert page("u-1") == ours
    assert page.rollout.status().realised == {}
    assert runtime.faults == {}


def test_a_candidate_that_fails_leaves_the_controls_list(runtime):
    def fail(user):
        raise RuntimeError("no ranking")

    @rollout(candidate=fail, strategy=Interleave(), unit="user", key="page", runtime=runtime)
    def page(user):
        return ["a", "b"]

    assert page("u-1") == ["a", "b"]
    assert [event.excluded for event in runtime.routed()] == [True]


def test_a_design_of_ones_own_makes_the_list(rank):
    class Alternate:
        def merge(self, rankings, *, k=None, key=None, seed):
            return TeamDraft(neutral="off").merge(dict(reversed(rankings.items())), k=k, key=key, seed=0)

    assert rank(Interleave(Alternate()))("u-1") == rank(Interleave(Alternate()), key="other")("u-2")


def test_an_interleaved_test_of_three_rankers_has_three_teams(runtime):
    others = {"v2": lambda user: ["c", "d", "e"], "v3": lambda user: ["f", "g", "h"]}

    @rollout(candidates=others, strategy=Interleave(k=6), unit="user", key="page", runtime=runtime)
    def page(user):
        return ["a", "b", "c"]

    page("u-1")
    (event,) = runtime.routed()
    assert sorted(event.teams) == ["control", "control", "v2", "v2", "v3", "v3"]
