"""The rules for Prometheus: promtool accepts and tests them, the tests can fail, and a real run emits what they name."""

import re
from typing import get_args

import pytest

from rollout_sdk.records import ShadowEnd
from rollout_sdk.telemetry import names
from tests.contrib.conftest import CONTRIB
from tests.contrib.expressions import matchers, recorded, unknown

yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")

FOLDER = CONTRIB / "prometheus"
RULES = FOLDER / "rollout_rules.yml"
GROUPS = yaml.safe_load(RULES.read_text())["groups"]
RULE_BY_NAME = {rule.get("alert") or rule["record"]: rule for group in GROUPS for rule in group["rules"]}
ALERTS = {name: rule for name, rule in RULE_BY_NAME.items() if "alert" in rule}
TESTS = {path.name: yaml.safe_load(path.read_text()) for path in sorted(FOLDER.glob("rules_*test.yml"))}
UNDER_TEST = [case for file in TESTS.values() for each in file["tests"] for case in each["alert_rule_test"]]


def test_prometheus_accepts_the_rules(promtool):
    checked = promtool("check", "rules", RULES.name, cwd=FOLDER)
    assert (checked.returncode, checked.stderr) == (0, "")


@pytest.mark.parametrize("tests", TESTS)
def test_every_alert_fires_and_keeps_quiet_as_its_tests_say(promtool, tests):
    tested = promtool("test", "rules", tests, cwd=FOLDER)
    assert (tested.returncode, tested.stderr) == (0, "")


@pytest.mark.parametrize("alert", ALERTS)
def test_every_alert_is_tested_to_fire_and_not_to_fire(alert):
    assert {bool(case["exp_alerts"]) for case in UNDER_TEST if case["alertname"] == alert} == {True, False}


@pytest.mark.parametrize(
    ("case", "old", "new"),
    [
        # Which case notices that a condition no longer holds anything back, or holds everything back.
        ("Twice as bad", "rollout:error_ratio_excess:10m > 0.01", "rollout:error_ratio_excess:10m > 0"),
        ("A candidate fails a tenth", "rollout:error_ratio_excess:10m > 0.01", "rollout:error_ratio_excess:10m > 0.1"),
        ("Three points worse", "> 5 * rollout:error_ratio_noise:10m", "> 0 * rollout:error_ratio_noise:10m"),
        ("Both fail together", "> 5 * rollout:error_ratio_noise:10m", "> 0 * rollout:error_ratio_noise:10m"),
        ("Nine failures", '{rollout_variant_role="candidate"} >= 10', '{rollout_variant_role="candidate"} >= 8'),
        ("The circuit breaker is open", '{error_type="breaker_open"}', '{error_type="nothing"}'),
        ("Everybody has the candidate", "excess:10m > 0.01\n          and", "excess:10m or rollout:error_ratio:10m > 0.01 or"),
        ("One shadow in twenty", "rollout:shadow_drop_ratio:15m > 0.1", "rollout:shadow_drop_ratio:15m > 0.01"),
        ("A third of the shadows", "rollout:shadow_drop_ratio:15m > 0.1", "rollout:shadow_drop_ratio:15m > 0.5"),
        ("Every shadow raises", '"abandoned|dropped_closed"', '"abandoned|dropped_closed|error"'),
        ("A third is dropped, while", '{rollout_shadow_end!~"abandoned|dropped_closed"}', ""),
        ("Half of the shadows", "rollout:shadows_dropped:increase15m >= 20", "rollout:shadows_dropped:increase15m >= 10"),
        ("A deployment cuts", '{rollout_drop_reason!="shutdown"}', ""),
        ("A deployment cuts", "or\n          0 * rollout:shadows:increase15m", ""),
        ("There is no shadow traffic", "increase(rollout_shadow_", "max_over_time(rollout_shadow_"),
        ("Four shadows in a hundred", "shadow_error_ratio_excess:10m > 0.05", "shadow_error_ratio_excess:10m > 0.01"),
        ("A tenth of the shadows fails", "shadow_error_ratio_excess:10m > 0.05", "shadow_error_ratio_excess:10m > 0.1"),
        ("Twenty of a hundred", "> 4 * rollout:shadow_error_ratio_noise:10m", "> 5 * rollout:shadow_error_ratio_noise:10m"),
        ("Twenty of a hundred", 'rollout_shadow_end=~"ok|error|dropped_open"', 'rollout_shadow_end!=""'),
        ("Six points more", "> 4 * rollout:shadow_error_ratio_noise:10m", "> 0 * rollout:shadow_error_ratio_noise:10m"),
        ("Every shadow fails", "rollout:shadow_failures:increase10m >= 20", "rollout:shadow_failures:increase10m >= 15"),
        ("Every shadow has failed", 'rollout_shadow_end=~"error|dropped_open"', 'rollout_shadow_end="error"'),
        ("Every shadow has failed", 'rollout_shadow_end=~"ok|error|dropped_open"', 'rollout_shadow_end=~"ok|error"'),
        (
            "Shadows fail on the calls",
            "shadow_error_ratio:10m\n          - on (job, feature_flag_key) group_left ()\n          rollout:error_ratio:10m",
            "shadow_error_ratio:10m or rollout:error_ratio:10m",
        ),
        ("Shadows failed for a minute", "for: 10m", "for: 5m"),
        ("Nothing is shadowed", "increase(rollout_shadow_runs", "max_over_time(rollout_shadow_runs"),
        ("A percent away", "0.1 * (0.5 - abs(", "0 * (0.5 - abs("),
        ("A few percent away", "+ 5 * sqrt(\n", "+ 0 * sqrt(\n"),
        ("A fifth of the calls", "+ 5 * sqrt(\n", "+ 50 * sqrt(\n"),
        ("All of twenty calls", ">= 1000", ">= 0"),
        ("The weights were changed", "rollout:weight:max1h == rollout:weight:min1h", "rollout:weight:max1h"),
        ("Overrides and the kill switch", '{feature_flag_result_reason="split"}', ""),
        ("A candidate that should have some", "rollout_variant_weight(_ratio)?", "rollout_variant_weight"),
        ("A candidate that should have some", "or\n          0 * rollout:weight:max1h", ""),
        ("The command line aborts", "unless\n              max_over_time(", "and\n              max_over_time("),
        ("The command line aborts", "max by (job, feature_flag_key, rollout_tr", "sum by (job, feature_flag_key, rollout_tr"),
        ("The command line aborts", '=~"rollback|abort|invalidate"', '=~"rollback|invalidate"'),
        ("The judge rolls another", '"start"}[10m]) > 0', '"start"}[10m]) > 9'),
        ("The judge rolls another", '=~"rollback|abort|invalidate"', '=~"abort|invalidate"'),
        ("An abort of long ago", '="start"}[1d] offset 10m)', '="start"}[1m] offset 10m)'),
        ("A canary goes its way", '=~"rollback|abort|invalidate"', '=~".+"'),
        ("Nothing was lost", "increase(rollout_facts_lost_total[15m])) > 0", "rollout_facts_lost_total) > 0"),
        ("A process loses facts", "(rollout_facts_lost_total[15m])) > 0", "(rollout_facts_lost_total[15m])) > 500"),
        ("A process loses facts", "(job, instance, rollout_loss_reason)", "(job, instance)"),
        ("A completed canary stays", "rollout:weight:max1d > 0 < 1", "rollout:weight:max1d > 0"),
        ("A canary that was rolled back", "rollout:weight:max1d > 0 < 1", "rollout:weight:max1d >= 0 < 1"),
        ("A canary has been at five percent", "rollout:weight:max1d > 0 < 1", "rollout:weight:max1d > 0.05 < 1"),
        ("Another process promoted it", "rollout:weight:max1d == rollout:weight:min1d", "rollout:weight:max1d"),
        ("A canary that began five hours", " offset 1d\n            )\n            and", "\n            )\n            and"),
        ("An A/B test keeps", 'rollout_strategy_name="canary",', ""),
        ("It has no calls", "[1h])\n            ) > 0\n", "[1h])\n            ) >= 0\n"),
        ("It was paused and resumed", "          unless on (job, feature_flag_key)\n          rollout:changes:1d\n", ""),
        ("It was paused by the command line", " offset 1d\n          )\n", "\n          )\n"),
    ],
)  # fmt: skip
def test_a_broken_condition_is_noticed_by_its_case(promtool, tmp_path, case, old, new):
    rules = RULES.read_text()
    assert old in rules
    ((file, test),) = ((file, test) for file in TESTS.values() for test in file["tests"] if test["name"].startswith(case))
    # The groups read nothing of each other, and the one that is not under test would take its time.
    alerts = {each["alertname"] for each in test["alert_rule_test"]}
    broken = [
        group
        for group in yaml.safe_load(rules.replace(old, new))["groups"]
        if alerts & {rule.get("alert") for rule in group["rules"]}
    ]
    (tmp_path / RULES.name).write_text(yaml.safe_dump({"groups": broken}))
    (tmp_path / "test.yml").write_text(yaml.safe_dump(file | {"tests": [test]}))
    assert promtool("check", "rules", RULES.name, cwd=tmp_path).returncode == 0
    tested = promtool("test", "rules", "test.yml", cwd=tmp_path)
    assert (tested.returncode, "FAILED" in tested.stderr + tested.stdout) == (1, True)


@pytest.mark.parametrize("rule", RULE_BY_NAME.values(), ids=RULE_BY_NAME)
def test_a_run_emits_every_metric_label_and_value_that_a_rule_names(emitted, rule):
    assert unknown(rule["expr"], emitted) == set()


def test_a_name_that_nothing_emits_is_noticed(emitted):
    expression = 'sum by (job, feature_flag_name) (rate(rollout_choices_total{rollout_variant_role="winner"}[5m]))'
    assert unknown(expression, emitted) == {"feature_flag_name", "rollout_choices_total", "rollout_variant_role='winner'"}


def test_one_value_of_many_that_nothing_emits_is_noticed(emitted):
    expression = 'rate(rollout_shadow_runs_total{rollout_shadow_end=~"ok|error|fine"}[5m])'
    assert unknown(expression, emitted) == {"rollout_shadow_end=~'fine'"}


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: group["name"])
def test_every_recorded_series_that_a_rule_reads_is_recorded_before_it_in_its_group(group):
    known = set()
    for rule in group["rules"]:
        assert recorded(rule["expr"]) - known == set()
        known.add(rule.get("record"))


def test_a_shadow_that_counts_as_ended_was_not_cut_off_by_the_end_of_its_process():
    ((_, operator, ends),) = matchers(RULE_BY_NAME["rollout:shadows:increase15m"]["expr"])
    cut_off = {end for end in get_args(ShadowEnd) if names.drop_reason(end) == "shutdown"}
    assert (operator, set(ends.split("|"))) == ("!~", cut_off)


def test_whoever_reads_that_shadows_are_dropped_reads_what_every_reason_means():
    reasons = {names.drop_reason(end) for end in get_args(ShadowEnd)} - {"ok", "error", "shutdown"}
    assert reasons - _words(ALERTS["RolloutShadowsDropped"]) == set()


def test_whoever_reads_that_facts_are_lost_reads_what_every_reason_means(emitted):
    reasons = emitted["rollout_facts_lost_total"]["rollout_loss_reason"]
    assert (len(reasons), reasons - _words(ALERTS["RolloutFactsLost"])) == (2, set())


@pytest.mark.parametrize("alert", ALERTS)
def test_every_alert_says_whom_it_is_about_and_what_to_do(alert):
    whom = "instance" if alert == "RolloutFactsLost" else "feature_flag_key"
    assert "{{ $labels." + whom + " }}" in ALERTS[alert]["annotations"]["summary"]
    assert len(ALERTS[alert]["annotations"]["runbook"].split()) > 20
    assert f"`{alert}`" in (CONTRIB / "README.md").read_text()


def _words(alert):
    """Words of a runbook."""
    return set(re.findall(r"\w+", alert["annotations"]["runbook"]))
