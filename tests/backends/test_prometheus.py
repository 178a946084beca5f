"""Prometheus scrapes the program while it runs, and answers PromQL about it."""

import json
import re
import urllib.parse
from collections import Counter

import pytest

from tools.telemetry_contract import METRICS


@pytest.fixture(scope="module")
def ask(prometheus):
    """The value of every series of a query, by the values of some labels."""

    def asker(query, *labels):
        path = "api/v1/query?" + urllib.parse.urlencode({"query": query})
        result = json.loads(prometheus.server.text(path))["data"]["result"]
        return {tuple(series["metric"].get(label, "") for label in labels): float(series["value"][1]) for series in result}

    return asker


VARIANT = ("feature_flag_key", "feature_flag_result_variant")


def test_decisions_add_up_to_the_calls_by_variant(prometheus, ask, within):
    expected = Counter((call["rollout"], call["variant"]) for call in prometheus.did["calls"])
    query = f"sum by ({','.join(VARIANT)}) (rollout_decisions_total)"
    assert expected == within(60, lambda: ask(query, *VARIANT), expected)


def test_durations_are_as_many_as_the_runs_that_the_models_saw(prometheus, ask, within):
    expected = {tuple(name.split("/")): runs for name, runs in prometheus.did["ran"].items()}
    query = f"sum by ({','.join(VARIANT)}) (rollout_call_duration_seconds_count)"
    assert expected == within(60, lambda: ask(query, *VARIANT), expected)
    failed = 'sum by (feature_flag_key,feature_flag_result_variant) (rollout_call_duration_seconds_count{error_type!=""})'
    assert {tuple(name.split("/")): runs for name, runs in prometheus.did["failed"].items()} == ask(failed, *VARIANT)
    longest = ask("rollout_call_duration_seconds_bucket", "le")
    assert {f"{bound}" for bound in (0.001, 0.0025, 0.005, 0.01, 60.0)} | {"+Inf"} <= {bound for (bound,) in longest}


def test_fallbacks_are_as_many_as_the_failures(prometheus, ask, within):
    expected = {(*name.split("/"), "ValueError"): runs for name, runs in prometheus.did["failed"].items()}
    assert expected == within(60, lambda: ask("rollout_fallbacks_total", *VARIANT, "error_type"), expected)


def test_comparisons_are_what_the_models_answers_say(prometheus, ask, within):
    matches = Counter(call["matches"] for call in prometheus.did["calls"] if call["matches"] is not None)
    expected = {(str(match).lower(),): runs for match, runs in matches.items()}
    query = "sum by (rollout_comparison_match) (rollout_comparisons_total)"
    assert expected == within(60, lambda: ask(query, "rollout_comparison_match"), expected)


def test_weights_are_the_shares_that_stand_after_the_abort(ask, within):
    expected = {
        ("shop.rank", "control"): 1.0, ("shop.rank", "v2"): 0.0,
        ("shop.spam", "control"): 1.0, ("shop.spam", "v2"): 0.0,
        ("shop.price", "control"): 0.5, ("shop.price", "v2"): 0.5,
        ("shop.films", "control"): 0.0, ("shop.films", "interleaved"): 1.0,
    }  # fmt: skip
    query = '{__name__=~"rollout_variant_weight(_ratio)?"}'
    assert expected == within(60, lambda: ask(query, *VARIANT), expected)


def test_transitions_and_shadows_that_are_over_are_counted(ask, within):
    expected = {("shop.rank", "start"): 1, ("shop.rank", "complete"): 1, ("shop.rank", "abort"): 1}
    query = 'rollout_transitions_total{feature_flag_key="shop.rank"}'
    assert expected == within(60, lambda: ask(query, "feature_flag_key", "rollout_transition_action"), expected)
    assert {()} >= set(ask("rollout_shadow_active != 0"))
    assert {} == ask("rollout_shadow_dropped_total > 0")


def test_the_documents_questions_have_answers(prometheus, ask, within):
    """What the document asks in PromQL, with rates over the time since the start."""
    for query in prometheus.recipe.only("promql").split("\n\n"):
        total = re.sub(r"rate\((\w+(?:{[^}]*})?)\[\w+\]\)", r"\1", query)
        assert within(60, lambda total=total: len(ask(total)) > 0, True), query


def test_the_recording_and_alerting_rules_are_loaded_and_evaluate(prometheus, within, rules):
    def health():
        groups = json.loads(prometheus.server.text("api/v1/rules"))["data"]["groups"]
        return {rule["name"]: rule["health"] for group in groups for rule in group["rules"]}

    expected = dict.fromkeys(re.findall(r"^\s*-?\s*(?:record|alert): *(\S+)", rules, re.MULTILINE), "ok")
    assert len(expected) > 0
    assert expected == within(90, health, expected)


def test_no_unit_payload_item_reason_message_or_decision_is_in_a_label(prometheus):
    said = prometheus.server.text("api/v1/series?" + urllib.parse.urlencode({"match[]": '{job="shop"}'}))
    assert ("shop.spam" in said, "marker-" in said) == (True, False)
    assert not [call["id"] for call in prometheus.did["calls"] if call["id"] in said]
    scraped = {name for series in json.loads(said)["data"] for name in series if name.startswith(("rollout_", "feature_flag_"))}
    allowed = {name.rstrip("?").replace(".", "_") for metric in METRICS for name in metric.attributes}
    assert scraped <= allowed
