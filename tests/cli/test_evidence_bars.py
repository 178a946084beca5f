"""The screen of `rollout status --watch` shows how far the evidence is from deciding."""

import math

import pytest

from rollout_sdk.cli.screens import as_page
from rollout_sdk.control.stored import StoredStatus
from rollout_sdk.judging import Finding, Verdict

NEEDED = math.log(20)


def finding(name="error_rate", candidate="v2", **about):
    about = {"outcome": "INCONCLUSIVE", "reason": "not yet", "numbers": {}, "kind": "guardrail", **about}
    return Finding(name=name, candidate=candidate, **about)


def bars(*findings):
    verdict = Verdict(
        rollout="shop.rank", outcome="INCONCLUSIVE", reason="not yet", phase="1:5%", revision=1, time_s=0.0,
        findings=findings, units={}, outcomes={},
    )  # fmt: skip
    status = StoredStatus(
        key="shop.rank", status="running", phase="1:5%", step=0, steps=("5%",), shares={"control": 0.95, "v2": 0.05},
        revision=1, entered_s=0.0, now_s=1.0, verdict=verdict,
    )  # fmt: skip
    page, drawn = as_page(status).splitlines(), as_page(status, bars=True).splitlines()
    after = 1 + next(index for index, line in enumerate(page) if "INCONCLUSIVE" in line)
    lines = drawn[after : after + len(drawn) - len(page)]
    # Below what the verdict says, and above its details and the plan, which may not fit a window.
    assert drawn == [*page[:after], *lines, *page[after:]]
    assert not any(line.startswith("  plan") for line in drawn[:after])
    return lines


@pytest.mark.parametrize(
    ("share", "filled"), [(-3.0, 0), (0.0, 0), (0.5, 10), (0.999, 19), (1.0, 20), (40.0, 20)]
)  # fmt: skip
def test_a_bar_is_full_where_the_evidence_decides_and_not_before(share, filled):
    (line,) = bars(finding(safe_log_e=share * NEEDED, safe_needed=NEEDED))
    assert line.split()[:3] == ["evidence", "error_rate", "good"]
    assert line.split()[3] == "#" * filled + "." * (20 - filled)
    assert line.endswith("of 20")


def test_good_and_harm_of_each_check_are_drawn_and_fit_a_terminal():
    found = finding(safe_log_e=1.0, safe_needed=NEEDED, harm_log_e=0.2, harm_needed=math.log(60))
    lines = bars(found, finding("a metric with a long name", safe_log_e=2.0, safe_needed=NEEDED))
    assert [line.split()[-4] for line in lines[:2]] == ["#" * 6 + "." * 14, "." * 20]
    assert "harm" in lines[1]
    assert max(map(len, lines)) <= 80


def test_what_decides_nothing_has_no_bar():
    dry = finding(dry_run=True, safe_log_e=9.0, safe_needed=NEEDED)
    early = finding(outcome="INSUFFICIENT_DATA")
    shares = finding("assignment", None, kind="assignment", harm_log_e=0.0, harm_needed=7.0)
    assert bars(dry, early, shares) == []


def test_a_threshold_of_another_version_that_cannot_be_reached_has_no_bar():
    assert [] == bars(finding(safe_log_e=1.0, safe_needed=0.0), finding(safe_log_e=1.0, safe_needed=math.nan))


def test_with_several_candidates_each_bar_names_its_own():
    two = [finding(candidate=name, safe_log_e=1.0, safe_needed=NEEDED) for name in ("v2", "v3")]
    assert ["error_rate v2", "error_rate v3"] == [line[13:35].strip() for line in bars(*two)]
