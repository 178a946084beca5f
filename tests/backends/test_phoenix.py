"""Phoenix takes what the program sends, and gives it back through its REST interface. It drops links: attributes of a
shadow name its origin instead.
"""

import json
import urllib.parse
from collections import Counter

import pytest


def spans(phoenix, **filters):
    """Spans of the project, page by page, as Phoenix has them."""
    found, cursor = [], None
    while cursor is not None or not found:
        query = urllib.parse.urlencode({"limit": 200, **filters, **({"cursor": cursor} if cursor else {})})
        page = json.loads(phoenix.server.text(f"v1/projects/shop/spans?{query}"))
        found += page["data"]
        cursor = page["next_cursor"]
        if cursor is None:
            return found
    return found


@pytest.fixture(scope="module")
def stored(phoenix, within, expect):
    """All spans, once Phoenix has as many as the program made."""
    expected = expect(phoenix.did)
    assert expected == within(60, lambda: Counter(span["name"] for span in spans(phoenix)), expected)
    return spans(phoenix)


def named(stored, start):
    return [span for span in stored if span["name"].startswith(start)]


def test_every_run_that_the_models_saw_is_a_span_and_nothing_else_is(stored, phoenix, expect):
    assert expect(phoenix.did) == Counter(span["name"] for span in stored)


def test_phoenix_finds_runs_by_role_and_failures_by_status(stored, phoenix):
    did = phoenix.did
    assert len(spans(phoenix, attribute="rollout.variant.role:shadow")) == sum(call["shadowed"] for call in did["calls"])
    failed = spans(phoenix, name="invoke shop.rank/v2", status_code="ERROR")
    assert did["failed"] == {"shop.rank/v2": len(failed)}
    assert {"ValueError"} == {span["attributes"]["error.type"] for span in failed}


def test_a_decisions_id_from_a_log_line_finds_its_call_its_runs_and_its_shadow(stored, phoenix):
    shadowed = {call["id"] for call in phoenix.did["calls"] if call["shadowed"]}
    line = next(line for line in map(json.loads, phoenix.did["lines"]) if line.get("decision_id") in shadowed)
    (address,) = phoenix.recipe.addresses(DECISION_ID=line["decision_id"])
    found = json.loads(phoenix.server.text(address))["data"]
    assert ["invoke shop.spam/control", "route shop.spam", "shadow shop.spam/v2"] == sorted(span["name"] for span in found)
    on_path = {span["context"]["trace_id"] for span in found if not span["name"].startswith("shadow")}
    assert on_path == {line["trace_id"]}


def test_the_filter_of_a_projects_page_finds_the_same(stored, phoenix):
    decision = next(call["id"] for call in phoenix.did["calls"] if call["shadowed"])
    said = phoenix.recipe.only("text").strip().replace("DECISION_ID", decision)
    question = """query ($said: String) {
        getProjectByName(name: "shop") { spans(filterCondition: $said, first: 9) { edges { node { name } } } }
    }"""
    answer = phoenix.server.text("graphql", {"query": question, "variables": {"said": said}})
    found = [edge["node"]["name"] for edge in json.loads(answer)["data"]["getProjectByName"]["spans"]["edges"]]
    assert ["invoke shop.spam/control", "route shop.spam", "shadow shop.spam/v2"] == sorted(found)


def test_a_fallback_is_a_failed_run_and_the_controls_under_one_call_that_is_no_error(stored, phoenix):
    fallbacks = [span for span in stored if "rollout.fallback.variant" in span["attributes"]]
    assert sum(phoenix.did["failed"].values()) == len(fallbacks) > 0
    for route in fallbacks:
        assert ("UNSET", "v2", "control") == (
            route["status_code"],
            route["attributes"]["feature_flag.result.variant"],
            route["attributes"]["rollout.fallback.variant"],
        )
        runs = sorted(
            (span for span in stored if span["parent_id"] == route["context"]["span_id"]), key=lambda span: span["start_time"]
        )
        assert [("invoke shop.rank/v2", "ERROR"), ("invoke shop.rank/control", "UNSET")] == [
            (span["name"], span["status_code"]) for span in runs
        ]
        assert ["candidate", "control"] == [span["attributes"]["rollout.variant.role"] for span in runs]
        assert {route["attributes"]["rollout.decision.id"]} == {span["attributes"]["rollout.decision.id"] for span in runs}


def test_calls_nest_under_the_applications_request_and_the_models_own_spans_under_their_run(stored):
    by_id = {span["context"]["span_id"]: span for span in stored}
    for route in named(stored, "route "):
        assert by_id[route["parent_id"]]["name"] == f"GET /{route['attributes']['feature_flag.key']}"
    for chat in named(stored, "chat "):
        assert by_id[chat["parent_id"]]["name"] == "invoke shop.price/v2"


def test_a_shadow_is_a_trace_of_its_own_that_names_the_call_it_shadows(stored):
    by_id = {span["context"]["span_id"]: span for span in stored}
    shadows = named(stored, "shadow ")
    assert {None} == {shadow["parent_id"] for shadow in shadows}
    for shadow in shadows:
        origin = by_id[shadow["attributes"]["rollout.shadow.origin.span_id"]]
        assert ("route shop.spam", shadow["attributes"]["rollout.shadow.origin.trace_id"]) == (
            origin["name"],
            origin["context"]["trace_id"],
        )
        assert origin["attributes"]["rollout.decision.id"] == shadow["attributes"]["rollout.decision.id"]
        assert origin["context"]["trace_id"] != shadow["context"]["trace_id"]


def test_comparisons_are_what_the_models_answers_say(stored, phoenix):
    expected = Counter(call["matches"] for call in phoenix.did["calls"] if call["shadowed"])
    assert expected == Counter(
        span["attributes"].get("rollout.comparison.match") for span in stored if span["name"].startswith("shadow ")
    )


def test_an_exception_is_recorded_once_on_the_run_that_raised(stored, phoenix):
    recorded = Counter(span["name"] for span in stored for event in span["events"] if event["name"] == "exception")
    shadows = sum(call["shadow_fails"] for call in phoenix.did["calls"])
    assert recorded == {"invoke shop.rank/v2": phoenix.did["failed"]["shop.rank/v2"], "shadow shop.spam/v2": shadows}
    assert {"ERROR"} == {span["status_code"] for span in stored for event in span["events"] if event["name"] == "exception"}


def test_an_interleaved_call_says_who_contributed_what(stored):
    routes = named(stored, "route shop.films")
    assert 6 == len(routes)
    for route in routes:
        said = route["attributes"]
        teams = said["rollout.interleave.teams"]
        assert ("interleaved", 3, ["control", "v2"]) == (
            said["feature_flag.result.variant"], said["rollout.interleave.size"], sorted(said["rollout.interleave.variants"])
        )  # fmt: skip
        # Where both agree, the item is neither's.
        assert (len(teams), said["rollout.interleave.contributions"]) == (3, [teams.count(0), teams.count(1)])


def test_transitions_are_roots_with_every_variants_share_before_and_after(stored):
    transitions = named(stored, "transition shop.rank")
    assert {None} == {span["parent_id"] for span in transitions}
    shares = {
        span["attributes"]["rollout.transition.action"]: {
            event["attributes"]["feature_flag.result.variant"]: (
                event["attributes"].get("rollout.variant.weight.previous"),
                event["attributes"]["rollout.variant.weight"],
            )
            for event in span["events"]
        }
        for span in transitions
    }
    assert shares == {
        "start": {"control": (None, 0.5), "v2": (None, 0.5)},
        "complete": {"control": (0.5, 0.0), "v2": (0.5, 1.0)},
        "abort": {"control": (0.0, 1.0), "v2": (1.0, 0.0)},
    }


def test_no_unit_payload_item_reason_or_message_reached_phoenix(stored, phoenix):
    for what in ("spans?limit=1000", "spans/otlpv1?limit=1000", "traces?limit=1000&include_spans=true"):
        said = phoenix.server.text(f"v1/projects/shop/{what}")
        assert ("shop.spam" in said, "marker-" in said) == (True, False)
