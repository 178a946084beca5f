"""What a report says to do, and why: the cases that a person must not be fooled by."""

import json
import random
from pathlib import Path

import jsonschema
import pytest
from click.testing import CliRunner

from rollout_sdk import ABTest, Canary, Gate, Guardrail, Interleave, Runtime, Shadow, Step, rollout
from rollout_sdk.analysis import as_screen, headlines, summarise
from rollout_sdk.cli import main
from tools.report_schema import schema

SCHEMA = Path(__file__).parents[2] / "docs/report.schema.json"


def served(folder, strategy, calls, clicks, *, key="m", version=None, failing=0.0, keep=lambda unit, arm: True):
    """An A/B test with this many calls of each arm, of which so many are clicked, spread evenly over them."""
    rng, runtime = random.Random(4), Runtime(journal=folder)

    def candidate(unit):
        if rng.random() < failing:
            raise ValueError
        return "candidate"

    model = rollout(
        candidate=candidate, strategy=strategy, unit="unit", key=key, version=version, runtime=runtime, breaker=None
    )(lambda unit: "control")
    left, done = dict(calls), dict.fromkeys(calls, 0)
    number = 0
    while any(left.values()):
        number += 1
        unit = f"u{number}"
        arm = model.rollout.assign(unit).variant
        if not left[arm] or not keep(unit, arm):
            continue
        left[arm] -= 1
        routed = model.rollout.route(unit)
        if done[arm] < clicks[arm] * (1 - left[arm] / calls[arm]):
            done[arm] += 1
            model.rollout.record("click", 1.0, decision_id=routed.decision.id)
    runtime.close(30.0)
    return summarise(folder).rollouts[-1].verdict


def even(calls):
    return {"control": calls, "candidate": calls}


def named(verdict, metric):
    return next(each for each in verdict.differences if each.metric == metric)


def test_clicks_that_do_not_differ_enough_wait_and_say_for_how_long(tmp_path):
    """The real clicks of two policies in the Open Bandit data: 130 of 30,000 against 157 of 30,000, p = 0.11."""
    strategy = ABTest(0.5, gates=[Gate("click", mde=0.0005)])
    verdict = served(tmp_path, strategy, even(30_000), {"candidate": 130, "control": 157})
    click = named(verdict, "click")
    assert ("WAIT", "INCONCLUSIVE") == (verdict.headline, click.outcome)
    assert (130, 30_000, 157, 30_000) == (click.value_total, click.value_count, click.control_total, click.control_count)
    assert "130 of 30,000 against 157 of 30,000 calls" in verdict.reason
    assert 0 < verdict.to_go.units_50 < verdict.to_go.units_80
    assert 0 < verdict.to_go.days_50 < verdict.to_go.days_80
    assert click.relative == pytest.approx(130 / 157 - 1)
    assert click.low < 130 / 30_000 - 157 / 30_000 < click.high


def test_a_candidate_without_any_click_is_not_shipped_and_has_its_row(tmp_path):
    verdict = served(tmp_path, ABTest(0.5, gates=[Gate("click")]), even(500), {"candidate": 0, "control": 166})
    click = named(verdict, "click")
    assert ("DO NOT SHIP", "candidate", "FUTILE") == (verdict.headline, verdict.candidate, click.outcome)
    assert (0, 500) == (click.value_total, click.value_count)
    assert "0 of 500 against 166 of 500 calls" in " ".join(as_screen(summarise(tmp_path)).split())


def test_without_a_plan_the_same_candidate_has_its_row_and_nothing_is_concluded(tmp_path):
    verdict = served(tmp_path, ABTest(0.5), even(500), {"candidate": 0, "control": 166})
    click = named(verdict, "click")
    assert ("WAIT", False, True) == (verdict.headline, verdict.is_declared, click.is_discovery)
    assert click.safe_log_e < 0 < click.harm_log_e
    assert verdict.reason.startswith("exploratory: nothing was declared beforehand; click -0.332 [")


def test_without_a_plan_errors_conclude(tmp_path):
    verdict = served(tmp_path, ABTest(0.5), even(400), {"candidate": 40, "control": 40}, failing=0.4)
    assert ("DO NOT SHIP", "FAIL") == (verdict.headline, named(verdict, "error_rate").outcome)


def test_a_better_candidate_is_shipped_with_its_price_in_the_same_line(tmp_path):
    strategy = ABTest(0.5, gates=[Gate("click", mde=0.05)], guardrails=[Guardrail("error_rate")])
    verdict = served(tmp_path, strategy, even(2_000), {"candidate": 800, "control": 600}, version="7")
    assert ("SHIP", "candidate", "7") == (verdict.headline, verdict.candidate, verdict.version)
    assert verdict.reason.startswith("click +33.3 % [")
    assert "errors good enough" in verdict.reason
    assert "Make candidate the function" in verdict.action


def test_the_smallest_effect_that_would_be_seen_goes_beyond_the_interval_by_what_chance_takes_away(tmp_path):
    verdict = served(tmp_path, ABTest(0.5, gates=[Gate("click", mde=0.05)]), even(500), {"control": 150, "candidate": 170})
    click = named(verdict, "click")
    # An effect is seen with a probability of .8 if it is larger by the normal quantile of .8, in standard errors.
    assert click.mde == pytest.approx((click.high - click.low) / 2 + 0.8416 * click.numbers["std_error"], rel=0.02)


def test_broken_shares_are_told_before_anything_else(tmp_path):
    def lost(unit, arm):
        return arm == "control" or int(unit[1:]) % 10 >= 4

    strategy = ABTest(0.5, gates=[Gate("click", mde=0.05)])
    calls = {"control": 3_000, "candidate": 1_800}
    verdict = served(tmp_path, strategy, calls, {"candidate": 900, "control": 900}, keep=lost)
    assert "CHECK" == verdict.headline
    (shares,) = [check for check in verdict.checks if check.is_fatal]
    assert ("shares", True) == (shares.name, shares.since_s is not None)
    assert "control 62.5 % (configured 50.0 %)" in shares.what
    assert shares.cure == verdict.action


@pytest.mark.parametrize(("failing", "headline", "status"), [(0.0, "WAIT", "running"), (0.5, "DO NOT SHIP", "rolled_back")])
def test_a_canary_says_where_it_stands(tmp_path, failing, headline, status):
    rng, runtime = random.Random(4), Runtime(journal=tmp_path)

    def candidate(unit):
        if rng.random() < failing:
            raise ValueError
        return 2

    model = rollout(candidate=candidate, strategy=Canary(["20%", "50%"]), unit="unit", key="m", runtime=runtime, breaker=None)(
        lambda unit: 1
    )
    for number in range(1_000):
        model(f"u{number}")
    runtime.flush(10.0)
    model.rollout.judge()
    runtime.close(10.0)
    (report,) = summarise(tmp_path).rollouts
    assert (headline, status) == (report.verdict.headline, report.status)
    if failing:
        assert report.verdict.reason.startswith("rolled back: candidate: error_rate: ")
    else:
        assert (1, 2, "errors: 0 of") == (report.verdict.step, report.verdict.steps, report.verdict.reason[:12])


def test_the_history_of_a_canary_has_every_verdict_with_its_arithmetic(tmp_path):
    runtime = Runtime(journal=tmp_path)
    strategy = Canary([Step("50%", min_time=0, min_units=50)], guardrails=[Guardrail("error_rate", floor=0.2)])
    model = rollout(candidate=lambda unit: 2, strategy=strategy, unit="unit", key="m", runtime=runtime)(lambda unit: 1)
    for number in range(200):
        model(f"u{number}")
    runtime.flush(10.0)
    verdict = model.rollout.judge()
    runtime.close(10.0)
    assert verdict.outcome == "PASS"
    full = " ".join(CliRunner().invoke(main, ["report", str(tmp_path), "--full"], catch_exceptions=False).output.split())
    (finding,) = [each for each in verdict.findings if each.name == "error_rate"]
    told = full.partition("promote to 1:100% by judge")[2]
    assert " ".join(str(finding).split()) in told
    assert f"units: control {verdict.units['control']} candidate {verdict.units['candidate']}" in told
    # What another program wrote has none, and hides nothing.
    (path,) = tmp_path.glob("*.jsonl")
    path.write_text(path.read_text().replace('"findings":[{', '"findings":[{"more":1,'))
    full = CliRunner().invoke(main, ["report", str(tmp_path), "--full"], catch_exceptions=False).output
    assert "promote to 1:100% by judge" in full
    assert "as good by chance" not in full


def test_the_one_that_needs_a_person_comes_first(tmp_path):
    served(tmp_path, ABTest(0.5), even(50), even(5), key="a.waits")
    served(tmp_path, ABTest(0.5), even(400), even(40), key="z.hurts", failing=0.4)
    lines = [line for line in headlines(summarise(tmp_path)).splitlines() if not line.startswith(" ")]
    assert ["DO NOT SHIP  z.hurts", "WAIT         a.waits"] == [line[:20].rstrip() for line in lines]


@pytest.mark.parametrize("width", [80, 120])
def test_no_line_is_wider_than_the_terminal(tmp_path, width):
    served(tmp_path, ABTest(0.5, gates=[Gate("click")]), even(50), even(5), key="a" * 60, version="v" * 50)
    runtime = Runtime(journal=tmp_path)
    shadowed = rollout(
        candidate=lambda unit: 2, strategy=Shadow(1.0, guardrails=[Guardrail("error_rate")]), unit="unit", key="evil",
        runtime=runtime, effects="read",
    )(lambda unit: 1)  # fmt: skip
    for number in range(30):
        shadowed(f"u{number}")
    runtime.close(10.0)
    for path in tmp_path.glob("*.jsonl"):
        path.write_text(path.read_text().replace('"evil"', r'"\u001b[2J \n' + "k" * 300 + '"').replace('"click"', r'"c\u001b"'))
    text = as_screen(summarise(tmp_path), width=width)
    assert "kkkk" in text
    assert [] == [line for line in text.splitlines() if len(line) > width or not line.isprintable()]


def test_the_json_is_as_its_schema_says(tmp_path):
    assert schema() == json.loads(SCHEMA.read_text()), "run: python -m tools.report_schema docs/report.schema.json"
    strategy = ABTest(0.5, gates=[Gate("click")], guardrails=[Guardrail("latency", threshold_s=1)])
    served(tmp_path, strategy, even(300), {"candidate": 30, "control": 90})
    served(tmp_path, Canary(["50%"]), even(20), {"candidate": 1, "control": 1}, key="canary")
    printed = CliRunner().invoke(main, ["report", str(tmp_path), "--json"], catch_exceptions=False).stdout
    found = json.loads(printed, parse_constant=lambda name: pytest.fail(name))
    jsonschema.validate(found, schema())
    del found["rollouts"][0]["verdict"]["headline"]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(found, schema())


def test_only_what_is_asked_for_is_reported(tmp_path):
    served(tmp_path, ABTest(0.5), even(20), even(4), key="one")
    served(tmp_path, Canary(["20%", "50%"]), {"control": 40, "candidate": 10}, {"control": 4, "candidate": 1}, key="two")

    def reported(*options):
        printed = CliRunner().invoke(main, ["report", str(tmp_path), "--json", *options], catch_exceptions=False).stdout
        return {each["rollout"]: sum(each["verdict"]["calls"].values()) for each in json.loads(printed)["rollouts"]}

    assert {"one": 40, "two": 50} == reported()
    assert {"two": 50} == reported("--rollout", "two")
    assert {"one": 40, "two": 50} == reported("--phase", "0")
    assert {"one": 40, "two": 0} == reported("--phase", "0:50%")
    assert {"one": 40, "two": 50} == reported("--since", "1h")
    assert {"one": 0, "two": 0} == reported("--since", "2100-01-01")
    wrong = CliRunner().invoke(main, ["report", str(tmp_path), "--since", "yesterday"])
    assert (2, True) == (wrong.exit_code, "Give a time (2026-11-24, in UTC) or how long ago (2d, 12h)." in wrong.stderr)


def test_only_a_canary_has_steps(tmp_path):
    split = served(tmp_path, ABTest(0.5, gates=[Gate("click")]), even(20), even(4), key="split")
    canary = served(tmp_path, Canary(["20%", "50%"]), {"control": 40, "candidate": 10}, even(4), key="canary")
    assert [(None, 0), (1, 2)] == [(each.step, each.steps) for each in (split, canary)]


def test_a_word_stands_beside_every_colour(tmp_path):
    served(tmp_path, ABTest(0.5), even(20), even(4))
    coloured = as_screen(summarise(tmp_path), style=lambda text, headline: f"<{headline}>{text}</>")
    assert "<WAIT>WAIT candidate</>" in coloured
    assert as_screen(summarise(tmp_path)) == coloured.replace("<WAIT>", "").replace("</>", "")


def overlapping(folder, seconds):
    """Two versions that have calls at the same time for so many of a thousand seconds; their checks of versions."""
    now_s = [1_800_000_000.0]
    for version, begins_s in (("1", 0), ("2", 1_000 - seconds)):
        runtime = Runtime(journal=folder, time_ns=lambda: int(now_s[0] * 1e9))
        model = rollout(
            candidate=lambda unit: 2, strategy=ABTest(0.5), unit="unit", key="m", version=version, runtime=runtime
        )(lambda unit: 1)  # fmt: skip
        for call in range(100):
            now_s[0] = 1_800_000_000.0 + begins_s + call * 10
            model(f"u{call}")
        runtime.close(10.0)
    return [check for each in summarise(folder).rollouts for check in each.verdict.checks if check.name == "versions"]


def test_two_versions_at_once_are_told_and_void_the_numbers_beyond_a_deployment(tmp_path):
    mixed = overlapping(tmp_path / "mixed", 800)
    assert [True, True] == [check.is_fatal for check in mixed]
    assert "2 sets of arms ran at the same time; they differ in version" == mixed[0].what
    assert [False, False] == [check.is_fatal for check in overlapping(tmp_path / "deployed", 50)]
    assert [] == overlapping(tmp_path / "after", -50)


def test_labels_that_one_arm_lacks_are_a_caution_for_a_metric_that_was_not_declared(tmp_path):
    rng, runtime = random.Random(4), Runtime(journal=tmp_path)
    model = rollout(candidate=lambda unit: 2, strategy=ABTest(0.5), unit="unit", key="m", runtime=runtime)(lambda unit: 1)
    for number in range(600):
        routed = model.rollout.route(f"u{number}")
        if rng.random() < (0.9 if routed.value == 1 else 0.5):
            model.rollout.record("stars", float(rng.randrange(1, 6)), decision_id=routed.decision.id)
    runtime.close(10.0)
    (check,) = summarise(tmp_path).rollouts[0].verdict.checks
    assert ("labels", False) == (check.name, check.is_fatal)
    assert "stars is recorded for more units of one arm than of another: control 8" in check.what


def lasting(folder, days, effects, value=1.0, calls=2_000):
    """A test whose candidate has one effect after the other; its verdict."""
    now_s, rng = [1_800_000_000.0], random.Random(4)
    runtime = Runtime(journal=folder, time_ns=lambda: int(now_s[0] * 1e9))
    model = rollout(
        candidate=lambda unit: 1, strategy=ABTest(0.5, gates=[Gate("click", mde=0.05)]), unit="unit", key="m", runtime=runtime
    )(lambda unit: 0)
    for number in range(calls):
        now_s[0] += days * 86_400 / calls
        routed = model.rollout.route(f"u{number}")
        effect = effects[number * len(effects) // calls]
        if rng.random() < 0.3 + effect * routed.value:
            model.rollout.record("click", value, decision_id=routed.decision.id)
    runtime.close(10.0)
    return summarise(folder).rollouts[0].verdict


def test_an_effect_that_fades_is_named_with_both_its_parts(tmp_path):
    verdict = lasting(tmp_path / "fading", 6, (0.4, 0.0))
    (check,) = verdict.checks
    novelty = named(verdict, "click").novelty
    assert ("novelty", False) == (check.name, check.is_fatal)
    assert f"{novelty.first:+.3g} first, {novelty.later:+.3g} later" in check.what
    assert novelty.first == pytest.approx(0.4, abs=0.1)
    assert novelty.later == pytest.approx(0, abs=0.1)
    lasting_effect = lasting(tmp_path / "lasting", 6, (0.4, 0.4))
    assert () == lasting_effect.checks
    assert abs(named(lasting_effect, "click").novelty.z) < 3
    # Within a day, users differ by the hour, too.
    assert named(lasting(tmp_path / "short", 1, (0.4, 0.0)), "click").novelty is None


def test_values_whose_sum_is_out_of_range_hide_no_report(tmp_path):
    verdict = lasting(tmp_path, 6, (0.0,), value=9e49)
    assert "click" in [each.metric for each in verdict.differences]


@pytest.mark.parametrize(("lost", "sampled", "is_told"), [(30, 0, True), (3, 0, False), (30, 28, False)])
def test_facts_that_were_lost_void_the_numbers_beyond_one_percent(tmp_path, lost, sampled, is_told):
    served(tmp_path, ABTest(0.5, gates=[Gate("click")]), even(200), {"candidate": 60, "control": 60})
    (path,) = tmp_path.glob("*.jsonl")
    with path.open("a") as file:
        file.write(json.dumps({"event": "lost", "v": 1, "t": 2e9, "count": lost, "sampled": sampled}) + "\n")
    verdict = summarise(tmp_path).rollouts[0].verdict
    told = [check for check in verdict.checks if check.name == "lost"]
    assert (is_told, is_told) == (bool(told), verdict.headline == "CHECK")
    assert all(check.is_fatal and "% of the facts are lost" in check.what and "doctor" in check.cure for check in told)


def test_labels_that_one_arm_lacks_void_a_gate_that_is_about_them(tmp_path):
    rng, runtime = random.Random(4), Runtime(journal=tmp_path)
    strategy = ABTest(0.5, gates=[Gate("stars", per="outcome", mde=0.5)])
    model = rollout(candidate=lambda unit: 2, strategy=strategy, unit="unit", key="m", runtime=runtime)(lambda unit: 1)
    for number in range(600):
        routed = model.rollout.route(f"u{number}")
        if rng.random() < (0.9 if routed.value == 1 else 0.5):
            model.rollout.record("stars", float(rng.randrange(1, 6)), decision_id=routed.decision.id)
    runtime.close(10.0)
    verdict = summarise(tmp_path).rollouts[0].verdict
    (check,) = [each for each in verdict.checks if each.is_fatal]
    assert ("CHECK", "labels", True) == (verdict.headline, check.name, check.since_s is not None)
    assert check.cure == verdict.action


def test_a_heavy_unit_and_units_in_several_arms_are_notes(tmp_path):
    runtime = Runtime(journal=tmp_path)
    model = rollout(candidate=lambda unit: 2, strategy=ABTest(0.5), unit="unit", key="m", runtime=runtime)(lambda unit: 1)
    for number in range(400):
        model(f"u{number}")
        model("a bot")
    runtime.close(10.0)
    (path,) = tmp_path.glob("*.jsonl")
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    calls = [line for line in lines if line["event"] == "decision"]
    # Two users share a unit, and have one arm each.
    (one, other) = (next(call for call in calls if call["variant"] == arm) for arm in ("control", "candidate"))
    path.write_text(path.read_text().replace(other["unit"], one["unit"]))
    checks = {check.name: check for check in summarise(tmp_path).rollouts[0].verdict.checks}
    assert {"heavy": False, "crossed": False} == {name: check.is_fatal for name, check in checks.items()}
    assert "the heaviest makes" in checks["heavy"].what
    assert checks["crossed"].what.startswith("1 of 400 units")


def test_an_interleaved_test_says_how_many_units_more_it_takes(tmp_path):
    now_s, rng = [1_800_000_000.0], random.Random(3)
    runtime = Runtime(journal=tmp_path, time_ns=lambda: int(now_s[0] * 1e9))
    model = rollout(
        candidate=lambda user: ["c", "d", "a"], strategy=Interleave(gates=[Gate("click", mde=0.02)]), unit="user", key="m",
        runtime=runtime, effects="read",
    )(lambda user: ["a", "b", "c"])  # fmt: skip
    for number in range(600):
        now_s[0] += 86_400 / 600
        page = model.rollout.route(f"u{number}")
        for item in page.value:
            if rng.random() < 0.12:
                model.rollout.record("click", 1.0, decision_id=page.decision.id, item=item)
    runtime.close(10.0)
    verdict = summarise(tmp_path).rollouts[0].verdict
    click = named(verdict, "click")
    assert ("WAIT", click.to_go) == (verdict.headline, verdict.to_go)
    # The gate passes at 0.96 and 1.73 times the sample of a test at one look, with a probability of 50 % and 80 %.
    fixed = (1.96 + 0.84) ** 2 * (click.numbers["std_error"] / 0.02) ** 2 * 600
    assert click.to_go.units_50 + 600 == pytest.approx(0.96 * fixed, rel=0.2)
    assert click.to_go.units_80 + 600 == pytest.approx(1.73 * fixed, rel=0.2)
    assert click.to_go.days_50 == pytest.approx(click.to_go.units_50 / 600, rel=0.01)
    assert " units more, " in " ".join(as_screen(summarise(tmp_path)).split())
