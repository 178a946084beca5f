"""Targeting: the right segment, its share, sticky and monotone; evidence only where chance decided; found by its name."""

import asyncio
import re
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rollout_sdk import ConfigurationError, PluginError, Runtime, StateError, rollout
from rollout_sdk.testing import StrategyContract
from rollout_sdk_targeting import Rule, Targeting, Where

UNITS = [f"u-{number}" for number in range(4000)]
NL = Where("country", "eq", "NL")
SHARES = st.integers(0, 100).map(lambda percent: f"{percent}%")


def targeted(strategy, *, candidates=None, **options):
    """A model of user and country under the strategy, in a runtime of its own."""
    candidates = candidates or {"v2": lambda user, country: "v2"}
    options = {"unit": "user", "key": "t", "runtime": Runtime(), **options}
    return rollout(candidates=candidates, strategy=strategy, effects="read", **options)(lambda user, country: "control")


def chosen(strategy, country="NL", units=UNITS):
    model = targeted(strategy)
    return {unit for unit in units if model(unit, country) == "v2"}


# Shares ----------------------------------------------------------------------------------------------------------------


def test_a_segment_gets_its_share_and_nobody_else_does():
    strategy = Targeting([Rule("nl", NL, "25%")])
    assert (abs(len(chosen(strategy)) / len(UNITS) - 0.25) < 0.03, chosen(strategy, "FR")) == (True, set())


class TestContract(StrategyContract):
    """What every strategy must hold; segments differ in their shares."""

    def make(self):
        return Targeting([Rule("nl", NL, "25%")], default_share="5%", analysed=("nl",))

    def make_with_share(self, share):
        return Targeting([Rule("nl", NL, share)])

    def features(self, unit):
        return {"country": "NL"}


@settings(max_examples=30, deadline=None)
@given(SHARES, SHARES)
def test_raising_a_share_only_adds_units(one, another):
    low, high = sorted((one, another), key=lambda share: int(share[:-1]))
    few, many = (chosen(Targeting([Rule("nl", NL, share)]), units=UNITS[:200]) for share in (low, high))
    assert few <= many


@settings(max_examples=30, deadline=None)
@given(SHARES, SHARES)
def test_a_unit_that_moves_to_a_segment_with_a_larger_share_keeps_the_candidate(one, another):
    low, high = sorted((one, another), key=lambda share: int(share[:-1]))
    strategy = Targeting([Rule("nl", NL, low), Rule("be", Where("country", "eq", "BE"), high)], analysed=["nl"])
    assert chosen(strategy, "NL", UNITS[:200]) <= chosen(strategy, "BE", UNITS[:200])


def test_each_of_several_candidates_has_its_share():
    candidates = {name: lambda user, country, name=name: name for name in ("v2", "v3")}
    model = targeted(Targeting([Rule("nl", NL, {"v2": "10%", "v3": "30%"})]), candidates=candidates)
    served = [model(unit, "NL") for unit in UNITS]
    assert all(abs(served.count(name) / len(UNITS) - share) < 0.03 for name, share in (("v2", 0.1), ("v3", 0.3)))


def test_after_an_abort_everybody_has_the_control():
    model = targeted(Targeting([Rule("nl", NL, "100%")]))
    before = model("u", "NL")
    model.rollout.abort()
    assert (before, model("u", "NL")) == ("v2", "control")


def test_a_share_is_changed_in_the_rules_not_by_the_operator():
    with pytest.raises(StateError, match="no steps"):
        targeted(Targeting([Rule("nl", NL, "10%")])).rollout.set_share("20%")


# Rules -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("operator", "value", "inside", "outside"),
    [
        ("eq", "NL", "NL", "nl"),
        ("eq", "NL", "NL", None),
        ("eq", 1, 1, True),
        ("eq", True, True, 1),
        ("in", ["NL", "BE"], "BE", "FR"),
        ("in", ["NL"], "NL", "N"),
        ("in", {1, 2}, 2, True),
        ("in", ["NL"], "NL", ["NL"]),
        ("prefix", "N", "NL", "EN"),
        ("prefix", ["N", "B"], "BE", 3),
        ("suffix", "@example.org", "ann@example.org", "ann@example.org.evil"),
        ("suffix", ["L", "E"], "BE", "FR"),
        ("range", [18, 30], 18, 30),
        ("range", (18.5, 30), 29.9, float("nan")),
        ("range", [0, 2], 0, True),
        ("range", ["a", "c"], "b", 1),
    ],
)
def test_each_operator_tells_inside_from_outside(operator, value, inside, outside):
    condition = Where("x.country", operator, value)
    assert [condition.matches({"x": {"country": found}}) for found in (inside, outside)] == [True, False]


class Hostile:
    def __getattr__(self, name):
        raise RuntimeError(name)

    def __eq__(self, other):
        raise RuntimeError

    __lt__ = __le__ = __gt__ = __ge__ = __eq__
    __hash__ = None


@given(
    st.from_type(type).flatmap(st.from_type) | st.integers() | st.text() | st.just(Hostile()),
    st.sampled_from([("eq", 1), ("in", ["a"]), ("prefix", "a"), ("suffix", "a"), ("range", [0, 1])]),
    st.sampled_from(["x", "x.y", "x.y.z", "y"]),
)
def test_no_argument_makes_a_condition_raise(found, operator_and_value, argument):
    assert Where(argument, *operator_and_value).matches({"x": found}) in (True, False)


def test_a_path_goes_through_mappings_and_objects():
    request = SimpleNamespace(geo={"country": "NL"})
    assert Where("request.geo.country", "eq", "NL").matches({"request": request})


def test_all_conditions_of_a_rule_must_hold_and_none_means_everybody():
    both = Rule("nl-ann", [NL, Where("user", "eq", "ann")], "100%")
    assert [both.matches({"user": user, "country": "NL"}) for user in ("ann", "bob")] == [True, False]
    assert Rule("all", [], "100%").matches({})


def test_the_first_rule_that_matches_decides():
    strategy = Targeting([Rule("nobody", NL, "0%"), Rule("everybody", [], "100%")])
    assert [targeted(strategy)("u", country) for country in ("NL", "FR")] == ["control", "v2"]


def test_a_row_of_a_batch_is_looked_at_by_itself():
    strategy = Targeting([Rule("nl", Where("rows.country", "eq", "NL"), "100%")])

    @rollout(
        candidate=lambda rows: ["v2"] * len(rows), strategy=strategy, effects="read", batch="rows", key="b", runtime=Runtime()
    )
    def model(rows):
        return ["control"] * len(rows)

    assert model([{"country": "NL"}, {"country": "FR"}, {}]) == ["v2", "control", "control"]


def test_coroutine_functions_and_methods_are_targeted_alike():
    strategy = Targeting([Rule("nl", Where("self.country", "eq", "NL"), "100%")])

    async def candidate(self, user):
        return "v2"

    class Model:
        country = "NL"

        @rollout(candidate=candidate, strategy=strategy, effects="read", unit="user", key="m", runtime=Runtime())
        async def answer(self, user):
            return "control"

    assert asyncio.run(Model().answer("u")) == "v2"


def test_without_a_call_there_is_nothing_to_look_at():
    model = targeted(Targeting([Rule("nl", NL, "100%")]))
    decision = model.rollout.assign("u-1")
    assert (decision.variant, decision.reason, model.rollout.status().faults) == ("control", "error", {})


# Evidence --------------------------------------------------------------------------------------------------------------


def test_the_decision_says_which_rule_and_with_what_probability():
    model = targeted(Targeting([Rule("nl", NL, "25%")]))
    decisions = [model.rollout.route(unit, "NL").decision for unit in UNITS[:100]]
    seen = {(decision.variant, decision.reason, decision.propensity, decision.share) for decision in decisions}
    assert seen == {("v2", "nl", 0.25, 0.25), ("control", "nl", 0.75, 0.75)}


def test_only_what_chance_decided_is_analysed_and_has_the_shares_of_the_phase():
    model = targeted(
        Targeting([Rule("staff", Where("user", "eq", "u-1"), "100%"), Rule("nl", NL, "25%"), Rule("be", [], "0%")])
    )
    for unit in UNITS[:1000]:
        model(unit, "NL")
        model(unit, "BE")
    status = model.rollout.status()
    assert (status.shares, status.excluded) == ({"control": 0.75, "v2": 0.25}, {"override": 1001})
    assert abs(status.realised["v2"] - 0.25) < 0.05


def test_segments_with_different_shares_are_not_pooled():
    rules = [Rule("nl", NL, "25%"), Rule("be", Where("country", "eq", "BE"), "50%")]
    with pytest.raises(ConfigurationError, match=re.escape("analysed=['nl']")):
        targeted(Targeting(rules))
    model = targeted(Targeting(rules, analysed="be"))
    decisions = [model.rollout.route("u", country).decision for country in ("NL", "BE", "FR")]
    assert [decision.reason for decision in decisions] == ["override", "be", "override"]
    assert model.rollout.phase.shares == {"v2": 0.5}


def test_segments_with_the_same_shares_are_pooled():
    model = targeted(Targeting([Rule("nl", NL, "25%")], default_share="25%"))
    assert [model.rollout.route("u", country).decision.reason for country in ("NL", "FR")] == ["nl", "default"]


def test_other_rules_are_another_phase():
    phases = [targeted(Targeting(default_share=share)).rollout.phase.name for share in ("1%", "2%", 0.01)]
    assert (phases[0] == phases[2], phases[0] == phases[1]) == (True, False)


# By name ---------------------------------------------------------------------------------------------------------------

FILE = """
default_share = "50%"
analysed = ["default"]

[[rules]]
name = "nl"
where = [
    { argument = "country", operator = "in", value = ["NL"] },
    { argument = "user", operator = "prefix", value = "u-" },
]
share = "100%"
"""


def test_by_its_name_nobody_has_the_candidate(monkeypatch):
    monkeypatch.delenv("ROLLOUT_TARGETING", raising=False)
    model = targeted("targeting")
    assert ({model(unit, "NL") for unit in UNITS[:100]}, model.rollout.strategy_name) == ({"control"}, "targeting")


def test_by_its_name_it_reads_the_file_that_the_environment_names(tmp_path, monkeypatch):
    path = tmp_path / "rules.toml"
    path.write_text(FILE)
    monkeypatch.setenv("ROLLOUT_TARGETING", str(path))
    model, same = targeted("targeting"), targeted(Targeting.from_toml(path))
    assert {model(unit, "NL") for unit in UNITS[:100]} == {"v2"}
    assert {model(unit, "FR") for unit in UNITS[:100]} == {"v2", "control"}
    assert model.rollout.phase == same.rollout.phase


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ("not toml", "Expected '='"),
        ("defaultshare = 1", "defaultshare"),
        ("rules = 'all'", "They are a list"),
        ("rules = ['all']", "is not a rule"),
        ("[[rules]]\nname='x'", "missing 2 required positional arguments"),
        ("[[rules]]\nname='x'\nwhere={argument='a', operator='regex', value='.*'}\nshare=1", "The operators are"),
    ],
)
def test_a_bad_file_is_a_clear_error(content, what, tmp_path, monkeypatch):
    path = tmp_path / "rules.toml"
    path.write_text(content)
    with pytest.raises(ConfigurationError, match=rf"(?s)rules\.toml' cannot be used: .*{what}"):
        Targeting.from_toml(path)
    monkeypatch.setenv("ROLLOUT_TARGETING", str(path))
    with pytest.raises(PluginError, match=what):
        targeted("targeting")


def test_a_file_that_is_not_there_is_a_clear_error(tmp_path):
    with pytest.raises(ConfigurationError, match="cannot be used"):
        Targeting.from_toml(tmp_path / "nowhere.toml")


# Bad input -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argument", "operator", "value", "what"),
    [
        ("", "eq", 1, "names no argument"),
        ("a..b", "eq", 1, "names no argument"),
        (None, "eq", 1, "names no argument"),
        ("a", "regex", ".*", "unknown operator"),
        ("a", "in", "NL", "no list of values"),
        ("a", "in", [], "no list of values"),
        ("a", "in", [["NL"]], "no list of values"),
        ("a", "prefix", "", "has no text"),
        ("a", "suffix", 3, "has no text"),
        ("a", "range", [1], "no range"),
        ("a", "range", [2, 1], "no range"),
        ("a", "range", [1, "b"], "no range"),
        ("a", "range", 5, "no range"),
    ],
)
def test_a_condition_that_could_never_match_is_refused(argument, operator, value, what):
    with pytest.raises(ConfigurationError, match=what):
        Where(argument, operator, value)


@pytest.mark.parametrize("name", ["", None, "a\nb", "x" * 101])
def test_a_name_that_records_could_not_hold_is_refused(name):
    with pytest.raises(ConfigurationError, match="printable text"):
        Rule(name, [], 0.5)


@pytest.mark.parametrize("where", ["country", None, [1]])
def test_a_rule_needs_conditions(where):
    with pytest.raises(ConfigurationError, match="is not a condition"):
        Rule("r", where, 0.5)


@pytest.mark.parametrize("share", [2, -0.1, "many", {"v2": 2}])
def test_what_is_no_share_is_refused_with_the_name_of_its_rule(share):
    with pytest.raises(ConfigurationError, match="'r'"):
        Rule("r", [], share)


@pytest.mark.parametrize("name", ["override", "error", "default"])
def test_a_name_that_means_something_else_is_refused(name):
    with pytest.raises(ConfigurationError, match="Choose another name"):
        Targeting([Rule(name, [], 0.5)])


def test_two_rules_of_one_name_are_refused():
    with pytest.raises(ConfigurationError, match="two segments"):
        Targeting([Rule("r", NL, 0.5), Rule("r", [], 0.5)])


def test_an_unknown_segment_cannot_be_analysed():
    with pytest.raises(ConfigurationError, match="They are: nl, default"):
        Targeting([Rule("nl", NL, 0.5)], analysed=["be"])


@pytest.mark.parametrize(
    ("share", "candidates", "what"),
    [
        ({"v9": 0.5}, ["v2"], "no share to 'v2'"),
        ({"v2": 0.5, "v9": 0.5}, ["v2"], "a share to 'v9'"),
        (0.3, ["v2", "v3"], "one share for 2 candidates"),
        ({"v2": 0.6, "v3": 0.6}, ["v2", "v3"], "at most 100 %"),
    ],
)
def test_shares_that_do_not_fit_the_candidates_are_refused_when_decorating(share, candidates, what):
    functions = {name: lambda user, country: name for name in candidates}
    with pytest.raises(ConfigurationError, match=what):
        targeted(Targeting([Rule("r", [], share)]), candidates=functions)
