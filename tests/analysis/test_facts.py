"""A journal's line adds to the evidence what its event adds."""

import pytest

from rollout_sdk import Gate, Guardrail
from rollout_sdk.analysis.facts import add_line, add_outcome_line, identity_in, recorded, routed
from rollout_sdk.judging import Evidence, add_outcome, add_routed

LINE = {
    "event": "decision",
    "t": 1000.0,
    "rollout": "m",
    "id": "d",
    "strategy": "ab",
    "phase": "0:50%",
    "variant": "v2",
    "served": "v2",
    "reason": "split",
    "bucket": 3,
    "runs": [["v2", 0.25, None, 0.125]],
}
HALF, SHADOW = {"control": 0.5, "v2": 0.5}, {"control": 1.0, "v2": 1.0}
FAILED = [["v2", 0.25, "ValueError", None], ["control", 9.0, None, 0.5]]


def added(add, line, exposure):
    evidence = Evidence([Guardrail("error_rate"), Guardrail("latency_mean"), Guardrail("first_item", threshold_s=0.2)])
    add(evidence, line, exposure)
    return {name: phase.as_dict() for name, phase in evidence.phases.items()}


@pytest.mark.parametrize("exposure", [HALF, SHADOW], ids=["served", "shadowed"])
@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"unit": "000000000001b9e9"},
        {"unit": "another program's"},
        {"runs": FAILED},
        {"runs": FAILED, "answered": True},
        {"runs": FAILED, "unmeasured": "Future"},
        {"runs": []},
        {"runs": [], "withheld": "open"},
        {"withheld": "aborted"},
        {"withheld": "disabled"},
        {"unmeasured": "Future"},
        {"closed_early": True},
        {"excluded": True},
        {"no_evidence": True},
        {"cov": 2.5},
    ],
    ids=str,
)
def test_as_its_event_does(changed, exposure):
    line = {**LINE, **changed}
    expected = added(lambda evidence, line, exposure: add_routed(evidence, routed(line), exposure), line, exposure)
    assert added(add_line, line, exposure) == expected
    is_left_out = changed.keys() & {"excluded", "no_evidence"} or changed.get("withheld") in ("aborted", "disabled")
    assert bool(expected) == (exposure is HALF and not is_left_out)


OUTCOME = {
    "event": "outcome",
    "t": 1001.0,
    "rollout": "m",
    "metric": "click",
    "value": 1.0,
    "id": "d",
    "phase": "0:50%",
    "variant": "v2",
    "bucket": 3,
    "decided": 1000.0,
}


def counted(add, line, other):
    """What two outcomes add, the second of which may repeat the first."""
    evidence = Evidence([Gate("click", window=3600.0)], fingerprint="f")
    add_line(evidence, LINE, HALF)
    add(evidence, OUTCOME)
    add(evidence, line)
    # Whether it is remembered as the same outcome.
    other(evidence, line)
    return {name: phase.as_dict() for name, phase in evidence.phases.items()}, dict(evidence.outcomes)


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"value": 2},
        {"t": 1001.0004},
        {"t": 1002.0},
        {"t": 9000.0},
        {"event_id": "e"},
        {"id": None, "unit": "u", "phase": None, "decided": None},
        {"item": "film"},
        {"position": 0},
        {"shadow": True},
        {"shadow": True, "source": "human"},
        {"source": "judge", "details": {"judge": "j"}},
        {"excluded": True},
        {"fingerprint": "f"},
        {"fingerprint": "g"},
        {"rate": 0.25},
        {"rate": 0.25, "call_rate": 0.5},
        {"metric": "other"},
    ],
    ids=str,
)
def test_the_line_of_an_outcome_adds_what_its_event_adds(changed):
    line = {name: value for name, value in {**OUTCOME, **changed}.items() if value is not None}

    def by_event(evidence, line):
        add_outcome(evidence, recorded(line))

    expected = counted(by_event, line, by_event)
    assert counted(add_outcome_line, line, add_outcome_line) == expected
    assert counted(add_outcome_line, line, by_event) == counted(by_event, line, add_outcome_line) == expected
    assert identity_in(line) == recorded(line).identity
