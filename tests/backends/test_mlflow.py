"""MLflow takes what the program sends, links included, and gives it back through its REST interface."""

import base64
import json
import urllib.parse
from collections import Counter

import pytest

API = "api/3.0/mlflow/traces/"
PAGE = 50


WHERE = [{"type": "MLFLOW_EXPERIMENT", "mlflow_experiment": {"experiment_id": "0"}}]


def traces(mlflow, **asked):
    """Ids of the experiment's traces, page by page."""
    found, token = [], ""
    while token is not None:
        asked |= {"locations": WHERE, "max_results": 500, "page_token": token}
        page = json.loads(mlflow.server.text(f"{API}search", asked))
        found += [trace["trace_id"] for trace in page.get("traces", [])]
        token = page.get("next_page_token")
    return found


def raw(mlflow):
    """Answers with all traces of the experiment and their spans, as they are."""
    found = traces(mlflow)
    for start in range(0, len(found), PAGE):
        query = urllib.parse.urlencode([("trace_ids", trace) for trace in found[start : start + PAGE]])
        yield mlflow.server.text(f"{API}batchGet?{query}")


def spans(mlflow):
    return [
        {**span, "said": {each["key"]: next(iter(each["value"].values())) for each in span["attributes"]}}
        for answer in raw(mlflow)
        for trace in json.loads(answer)["traces"]
        for span in trace["spans"]
    ]


@pytest.fixture(scope="module")
def stored(mlflow, within, expect):
    """All spans, once MLflow has as many as the program made."""
    expected = expect(mlflow.did)
    assert expected == within(60, lambda: Counter(span["name"] for span in spans(mlflow)), expected)
    return spans(mlflow)


def status(span):
    return span.get("status", {}).get("code", "STATUS_CODE_UNSET")


def test_every_run_that_the_models_saw_is_a_span_and_nothing_else_is(stored, mlflow, expect):
    assert expect(mlflow.did) == Counter(span["name"] for span in stored)


def test_every_shadow_and_every_transition_with_a_request_behind_it_is_linked(stored):
    by_id = {(span["trace_id"], span["span_id"]): span for span in stored}
    linked = Counter()
    for span in stored:
        for link in span.get("links", []):
            (kind,) = [each["value"]["string_value"] for each in link["attributes"] if each["key"] == "rollout.link.type"]
            linked[span["name"], kind, by_id[link["trace_id"], link["span_id"]]["name"]] += 1
    shadows = sum(span["name"].startswith("shadow ") for span in stored)
    assert linked == {
        ("shadow shop.spam/v2", "shadow_of", "route shop.spam"): shadows,
        ("transition shop.rank", "triggered_by", "POST /promote"): 1,
    }


def test_a_decisions_id_finds_the_traces_of_its_call_and_its_shadow(stored, mlflow):
    decision = next(call["id"] for call in mlflow.did["calls"] if call["shadowed"])
    expected = {span["trace_id"] for span in stored if span["said"].get("rollout.decision.id") == decision}
    found = traces(mlflow, filter=mlflow.recipe.only("sql").strip().replace("DECISION_ID", decision))
    assert 2 == len(expected)
    assert {f"tr-{base64.b64decode(trace).hex()}" for trace in expected} == set(found)


def test_a_shadow_says_its_origin_as_its_link_does(stored):
    for span in stored:
        if span["name"].startswith("shadow "):
            (link,) = span["links"]
            assert (span["said"]["rollout.shadow.origin.trace_id"], span["said"]["rollout.shadow.origin.span_id"]) == tuple(
                base64.b64decode(link[name]).hex() for name in ("trace_id", "span_id")
            )


def test_a_fallback_is_a_failed_run_and_the_controls_under_one_call_that_is_no_error(stored, mlflow):
    fallbacks = [span for span in stored if "rollout.fallback.variant" in span["said"]]
    assert sum(mlflow.did["failed"].values()) == len(fallbacks) > 0
    for route in fallbacks:
        assert status(route) == "STATUS_CODE_UNSET"
        runs = sorted(
            (
                span
                for span in stored
                if (span["trace_id"], span.get("parent_span_id")) == (route["trace_id"], route["span_id"])
            ),
            key=lambda span: span["start_time_unix_nano"],
        )
        assert [("invoke shop.rank/v2", "STATUS_CODE_ERROR"), ("invoke shop.rank/control", "STATUS_CODE_UNSET")] == [
            (span["name"], status(span)) for span in runs
        ]


def test_an_exception_is_recorded_once_on_the_run_that_raised(stored, mlflow):
    recorded = Counter(span["name"] for span in stored for event in span.get("events", []) if event["name"] == "exception")
    shadows = sum(call["shadow_fails"] for call in mlflow.did["calls"])
    assert recorded == {"invoke shop.rank/v2": mlflow.did["failed"]["shop.rank/v2"], "shadow shop.spam/v2": shadows}


def test_no_unit_payload_item_reason_or_message_reached_mlflow(stored, mlflow):
    said = "".join(raw(mlflow))
    assert ("shop.spam" in said, "marker-" in said) == (True, False)
