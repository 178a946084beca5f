"""Plans: what can be said, what is refused, and that code and file say the same."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollout_sdk import Canary, ConfigurationError, Freeze, Gate, Guardrail, Step
from rollout_sdk.plan import Criteria, as_criteria, as_duration, load_criteria, parse_duration


@pytest.mark.parametrize(
    ("said", "seconds"),
    [("30m", 1800), ("2d", 172_800), ("1h 30m", 5400), ("1.5h", 5400), ("90s", 90), ("1w", 604_800), (0, 0), (12.5, 12.5)],
)
def test_a_duration_is_what_people_write(said, seconds):
    assert seconds == parse_duration(said)


@pytest.mark.parametrize("said", ["", "30", "m", "-1h", "1x", -1, float("nan"), float("inf"), None, True, "1h later"])
def test_what_is_no_duration_is_refused_with_an_example(said):
    with pytest.raises(ConfigurationError, match="Write 1800 or '30m'"):
        parse_duration(said)


@given(st.integers(0, 10**8))
def test_a_duration_in_words_says_its_two_largest_units(seconds):
    said = parse_duration(as_duration(seconds))
    assert said <= seconds < said * 1.14 + 60


def moment(text):
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("freeze", "inside", "outside"),
    [
        (Freeze("2026-12-20", "2027-01-04"), ["2026-12-20T00:00", "2027-01-03T23:59"], ["2026-12-19T23:59", "2027-01-04"]),
        (Freeze("2026-12-20T12:00+02:00", "2026-12-21"), ["2026-12-20T10:00"], ["2026-12-20T09:59"]),
        (Freeze("16:00", "08:00", days=("fri",)), ["2026-11-27T16:00", "2026-11-28T07:59"], ["2026-11-28T08:00"]),
        (Freeze("09:00", "17:00", days=("sat", "sun")), ["2026-11-28T09:00"], ["2026-11-27T10:00", "2026-11-28T17:00"]),
        (Freeze("16:00", "18:00", days=("fri",), zone="Europe/Berlin"), ["2026-11-27T15:00"], ["2026-11-27T17:00"]),
    ],
)  # fmt: skip
def test_a_freeze_holds_inside_its_window_and_nowhere_else(freeze, inside, outside):
    assert [True] * len(inside) + [False] * len(outside) == [freeze.holds(moment(each)) for each in (*inside, *outside)]


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda: Guardrail("click"), "has no margin. Only you know how much worse is acceptable"),
        (lambda: Guardrail("latency"), "has no threshold_s"),
        (lambda: Guardrail("error_rate", threshold_s=1.0), "has a threshold_s, which belongs to 'latency'"),
        (lambda: Guardrail("error_rate", better="higher"), "is measured by the SDK itself"),
        (lambda: Guardrail("error_rate", margin=-1.0), "has the margin -1.0"),
        (lambda: Guardrail("click", margin=0.0), "has the margin 0.0"),
        (lambda: Guardrail("click", margin="5%"), "margin='5%' of Guardrail('click') is not a number"),
        (lambda: Guardrail("click", margin=0.1, per="user"), "per='user' of Guardrail('click') is unknown"),
        (lambda: Guardrail("click", margin=0.1, clip=(5, 1)), "clip=(5, 1) is not a range"),
        (lambda: Guardrail("", margin=0.1), "has the metric ''"),
        (lambda: Gate("error_rate"), "The SDK's own metrics are guardrails"),
        (lambda: Gate("click", mde=0), "mde=0 of Gate('click') is not a difference"),
        (lambda: Gate("click", before="lunch"), "before='lunch' of Gate('click') is unknown"),
        (lambda: Gate("click", dry_run="no"), "dry_run='no' of Gate('click') is neither True nor False"),
        (lambda: Guardrail("click", margin=0.1, harm=-0.1), "has harm=-0.1"),
        (lambda: Step("1%", min_units=-1), "min_units=-1 of Step(1%) is not a whole number"),
        (lambda: Step("1%", min_units=True), "min_units=True of Step(1%) is not a whole number"),
        (lambda: Step("1%", min_units=0.5), "min_units=0.5 of Step(1%) is not a whole number"),
        (lambda: Step("1%", min_time="2h", max_time="1h"), "It can never pass"),
        (lambda: Gate("shadow.mismatch.price"), "The SDK's own metrics are guardrails"),
        (lambda: Freeze("2027-01-01", "2026-01-01"), "ends before it starts"),
        (lambda: Freeze("16:00", "18:00", days=("friday",)), "has the day 'friday'"),
        (lambda: Freeze("soon", "later"), "cannot be read"),
        (lambda: Freeze("16:00", "18:00", days=("fri",), zone="Mars/Olympus"), "cannot be read"),
        (lambda: Canary(["5%"], alpha=0.7), "alpha=0.7 is not an error probability"),
        (lambda: Canary(["5%"], guardrails=["error_rate"]), "'error_rate' is not a Guardrail"),
        (lambda: Canary(["5%"], gates=[Gate("click"), Gate("click")]), "'click' is judged twice"),
        (lambda: Canary(["5%"], max_calls_per_unit=0), "max_calls_per_unit=0 is not a number of calls"),
        (lambda: Canary(["5%"], horizon=True), "horizon=True is neither a number of units nor a duration"),
        (lambda: Canary(["5%"], approve=True), "approve=True of Canary cannot be called"),
    ],
)
def test_a_plan_that_cannot_work_is_refused_with_what_to_write(make, problem):
    with pytest.raises(ConfigurationError) as caught:
        make()
    assert problem in str(caught.value)


def test_the_short_form_has_sensible_defaults():
    criteria = Canary(["1%", "5%", "25%"]).criteria
    assert (["error_rate"], (), 0.05) == ([each.metric for each in criteria.guardrails], criteria.gates, criteria.alpha)
    assert {(100, 600.0, None)} == {(step.min_units, step.min_time, step.max_time) for step in criteria.steps}


def test_a_metric_may_have_a_name_of_one_letter():
    assert "x" == Gate("x").metric


@pytest.mark.parametrize(("harm", "warns"), [(None, False), (0.1, False), (0.02, False), (0.01, False), (0.0095, True)])
def test_a_candidate_that_is_accepted_and_then_rolled_back_is_warned_of(harm, warns):
    (*warnings,) = Canary(["5%"], guardrails=[Guardrail("click", margin=0.1, harm=harm)]).criteria.warnings
    assert warns == any("is less than a tenth of margin=0.1" in each for each in warnings)


@pytest.mark.parametrize(("last", "steps"), [("100%", 1), ({"v2": "100%"}, 1), ("99%", 2), ({"v2": "50%", "v3": "50%"}, 2)])
def test_a_last_step_that_serves_everybody_is_the_promotion(last, steps):
    first = dict.fromkeys(last, "1%") if isinstance(last, dict) else "1%"
    assert steps == len(Canary([first, last]).criteria.steps)


def test_without_guardrails_and_gates_nothing_is_decided():
    assert [True, False] == [Canary(["5%"]).criteria.decides, Canary(["5%"], guardrails=[]).criteria.decides]


FILE = """
alpha = 0.01
shadow = "2%"
steps = [{ share = "1%", min_units = 1000, min_time = "30m", max_time = "2d" }, "5%", { share = "25%", shadow = "10%" }, "100%"]

[[guardrails]]
metric = "error_rate"
margin = 0.5

[[guardrails]]
metric = "latency"
threshold_s = 0.25
dry_run = true

[[gates]]
metric = "click"
window = "1h"
before = "promotion"

[[freeze]]
start = "16:00"
end = "08:00"
days = ["fri"]
zone = "Europe/Berlin"
"""


def test_a_file_says_what_code_says(tmp_path):
    path = tmp_path / "plan.toml"
    path.write_text(FILE)
    expected = Canary(
        [Step("1%", min_units=1000, min_time="30m", max_time="2d"), "5%", Step("25%", shadow="10%"), "100%"],
        guardrails=[Guardrail("error_rate", margin=0.5), Guardrail("latency", threshold_s=0.25, dry_run=True)],
        gates=[Gate("click", window="1h", before="promotion")],
        freeze=[Freeze("16:00", "08:00", days=("fri",), zone="Europe/Berlin")],
        alpha=0.01,
        shadow="2%",
    ).criteria
    assert expected == load_criteria(path)
    assert expected == Canary.from_file(path).criteria


GUARDRAIL = """
metric = "returns"
margin = 0.02
harm = 0.01
better = "lower"
per = "outcome"
window = "1h"
clip = [0, 200]
early_harm = true
on_fail = "pause"
grace = "5m"
ceiling = 0.4
floor = 0.02
"""
MEASURED = """
audit = 0.05
metric = "first_item"
threshold_s = 0.25
burst = "2m"
on_fail = "warn"
dry_run = true
"""
GATE = """
metric = "click"
min_effect = 0.001
mde = 0.01
better = "higher"
before = "promotion"
per = "outcome"
window = 3600
clip = [0, 1]
horizon = 20000
grace = 900
dry_run = true
"""
EVERYTHING = f"""
steps = [{{ share = "1%", min_units = 7, min_time = "30m", max_time = 7200, shadow = "3%" }}]
alpha = 0.01
shadow = "2%"
max_calls_per_unit = 50
horizon = "14d"
[[guardrails]]{GUARDRAIL}[[guardrails]]{MEASURED}[[gates]]{GATE}[[gates]]
metric = "spend"
[[gates]]
metric = "judge.preference"
audit = 0.2
[[freeze]]
start = "16:00"
end = "08:00"
days = ["fri"]
zone = "Europe/Berlin"
"""


def expected_of_everything():
    return Canary(
        [Step("1%", min_units=7, min_time=1800, max_time="2h", shadow=0.03)],
        alpha=0.01,
        shadow="2%",
        max_calls_per_unit=50,
        horizon="14d",
        guardrails=[
            Guardrail(
                "returns", margin=0.02, harm=0.01, better="lower", per="outcome", window=3600, clip=(0, 200), early_harm=True,
                on_fail="pause", grace=300, ceiling=0.4, floor=0.02,
            ),
            Guardrail("first_item", threshold_s=0.25, burst=120, on_fail="warn", dry_run=True),
        ],
        gates=[
            Gate(
                "click", min_effect=0.001, mde=0.01, better="higher", before="promotion", per="outcome", window="1h",
                clip=(0, 1), horizon=20_000, grace="15m", dry_run=True,
            ),
            Gate("spend"),
            Gate("judge.preference", audit=0.2),
        ],
        freeze=[Freeze("16:00", "08:00", days=("fri",), zone="Europe/Berlin")],
    )  # fmt: skip


def test_every_option_can_be_set_in_a_file(tmp_path):
    path = tmp_path / "plan.toml"
    path.write_text(EVERYTHING)
    canary = Canary.from_file(path)
    assert expected_of_everything().criteria == canary.criteria == load_criteria(path)
    assert (50, 14 * 86_400.0) == (canary.max_calls_per_unit, canary.horizon)


def test_the_file_that_sets_every_option_leaves_none_out():
    """Which fails for a new option until that file sets it, too."""
    import tomllib

    from attrs import fields

    table = tomllib.loads(EVERYTHING)
    for kind, tables in (
        (Guardrail, table["guardrails"]),
        (Gate, table["gates"]),
        (Step, table["steps"]),
        (Freeze, table["freeze"]),
    ):
        assert {each.name for each in fields(kind) if each.init} == {name for each in tables for name in each}
    # An approval is a function, and the rest is for all of a kind.
    assert {each.name for each in fields(Canary) if each.init} - {"approve"} == set(table)


def test_a_control_file_takes_every_option_of_a_plan(tmp_path):
    from rollout_sdk.control.control_file import ControlFile

    path = tmp_path / "control.toml"
    head, *tables = EVERYTHING.replace("[[", '[[rollouts."shop.rank".canary.').split("[[")
    path.write_text("\n".join(["version = 1", '[rollouts."shop.rank".canary]', head, *("[[" + each for each in tables)]))
    path.chmod(0o600)
    assert expected_of_everything().criteria == ControlFile(path).wanted.rollouts["shop.rank"].criteria


def test_a_horizon_is_that_of_every_gate_without_its_own():
    gates = Canary(["5%"], horizon="14d", gates=[Gate("click"), Gate("spend", horizon=5_000)]).criteria.gates
    assert [14 * 86_400.0, 5_000] == [gate.horizon for gate in gates]
    assert [None] == [gate.horizon for gate in Canary(["5%"], gates=[Gate("click")]).criteria.gates]


def test_the_example_in_the_documentation_of_a_plan_is_one():
    import tomllib

    from rollout_sdk.plan import table

    text = table.__doc__.split("not at all.", 1)[1]
    assert 3 == len(as_criteria(tomllib.loads(text.replace("\n    ", "\n")), "It").steps)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "has no steps"),
        ('steps = "5%"', "has no steps"),
        ('steps = ["5%"]\nstep = 1', "has 'step', which is not one of steps, shadow, alpha"),
        ('steps = [{share = "5%", min_unit = 5}]', "has 'min_unit', which is not one of share, min_units"),
        ('steps = ["5%"]\n[[guardrails]]\nmargin = 0.1', "has a Guardrail without metric"),
        ('steps = ["5%"]\n[[guardrails]]\nmetric = "click"', "has no margin"),
        ('steps = ["5%"]\nguardrails = 5', "has guardrails that are not a list of tables"),
        ('steps = ["500%"]', "The share of a Step is '500%'"),
        ("steps = [", "cannot be read"),
    ],
)
def test_a_file_is_taken_as_a_whole_or_not_at_all(tmp_path, text, problem):
    path = tmp_path / "plan.toml"
    path.write_text(text)
    with pytest.raises(ConfigurationError) as caught:
        load_criteria(path)
    assert problem in str(caught.value)
    assert str(caught.value).startswith("The plan ")


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(ConfigurationError, match="cannot be read"):
        load_criteria(tmp_path / "none.toml")


def test_a_plan_is_a_value():
    assert Criteria(steps=["5%"]) == Criteria(steps=[Step("5%")])
