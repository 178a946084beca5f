"""Targeting: the right segment, sticky and monotone, found by its name."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollout_sdk import ConfigurationError, Runtime, rollout
from rollout_sdk_targeting import Rule, Targeting

UNITS = [f"u-{number}" for number in range(4000)]


def targeted(strategy, runtime=None, candidate=lambda user, country: "new"):
    decorate = rollout(candidate=candidate, strategy=strategy, unit="user", key="t", runtime=runtime or Runtime())
    return decorate(lambda user, country: "old")


def chosen(share, country="NL"):
    model = targeted(Targeting([Rule("nl", "country", "eq", "NL", share)]))
    return {unit for unit in UNITS if model(unit, country) == "new"}


def test_a_segment_gets_its_share_and_nobody_else_does():
    assert abs(len(chosen("25%")) / len(UNITS) - 0.25) < 0.03
    assert set() == chosen("25%", country="FR")


def test_raising_a_share_only_adds_units():
    shares = [chosen(share) for share in ("1%", "5%", "40%")]
    assert shares[0] <= shares[1] <= shares[2]


@pytest.mark.parametrize(
    ("operator", "value", "inside", "outside"),
    [
        ("eq", "NL", "NL", "nl"),
        ("in", ["NL", "BE"], "BE", "FR"),
        ("prefix", "N", "NL", "EN"),
        ("suffix", "L", "NL", "LN"),
        ("range", [1, 5], 1, 5),
        ("prefix", "N", "N", 3),
        ("range", [1, 5], 2, "text"),
        ("eq", "NL", "NL", None),
    ],
)
def test_each_operator_tells_inside_from_outside(operator, value, inside, outside):
    rule = Rule("r", "x.country", operator, value, 1.0)
    assert [True, False] == [rule.matches({"x": {"country": country}}) for country in (inside, outside)]


@given(
    st.from_type(type).flatmap(st.from_type) | st.integers() | st.text(),
    st.sampled_from(["eq", "in", "prefix", "suffix", "range"]),
)
def test_no_argument_makes_a_rule_raise(found, operator):
    value = {"in": ["a"], "range": [0, 1]}.get(operator, "a")
    assert Rule("r", "x", operator, value, 1.0).matches({"x": found}) in (True, False)


def test_the_first_matching_rule_decides_and_is_the_reason():
    rules = [Rule("all", "country", "prefix", "", "100%"), Rule("nl", "country", "eq", "NL", "0%")]
    decision = targeted(Targeting(rules)).rollout.route("u", "NL").decision
    assert ("candidate", "all", 1.0) == (decision.variant, decision.reason, decision.propensity)


def test_it_is_found_by_its_name_and_reads_its_file(tmp_path, monkeypatch):
    assert "old" == targeted("targeting")("u", "NL")
    path = tmp_path / "rules.toml"
    path.write_text('[[rules]]\nname="nl"\nargument="country"\noperator="eq"\nvalue="NL"\nshare="100%"\n')
    monkeypatch.setenv("ROLLOUT_TARGETING", str(path))
    model = targeted("targeting")
    assert ["new", "old", "targeting"] == [model("u", "NL"), model("u", "FR"), model.rollout.strategy_name]


@pytest.mark.parametrize(
    "content", ["not toml", "[[rules]]\nname='x'", "[[rules]]\nname='x'\nargument='a'\noperator='regex'\nvalue=1\nshare=1"]
)
def test_a_bad_file_is_a_clear_error(content, tmp_path):
    path = tmp_path / "rules.toml"
    path.write_text(content)
    with pytest.raises(ConfigurationError, match="cannot be used"):
        targeted(Targeting.from_toml(path))


def test_bad_shares_are_refused_when_decorating():
    with pytest.raises(ConfigurationError, match="which is no candidate"):
        targeted(Targeting([Rule("r", "country", "eq", "NL", {"v9": 0.5})]))
    with pytest.raises(ConfigurationError, match="share"):
        targeted(Targeting([Rule("r", "country", "eq", "NL", 2.0)]))


def test_other_rules_are_another_phase():
    phases = {targeted(Targeting(default_share=share)).rollout.phase.name for share in ("1%", "2%")}
    assert 2 == len(phases)
