"""Draws the pictures of docs/looking.md, as a report draws them: an A/B test on real clicks, and a canary that is stopped.

The A/B test has the clicks of two policies in the Open Bandit data (Saito et al., NeurIPS 2021): 157 of 30,000 and 130 of
30,000, spread over a week. Times come from a simulated clock, so the pictures are always the same.

python -m tools.pictures docs
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from attrs import evolve

from rollout_sdk import ABTest, Canary, Gate, Guardrail, Runtime, rollout
from rollout_sdk.analysis import summarise
from rollout_sdk.analysis.report import RolloutReport
from rollout_sdk.page.pictures import pictures
from rollout_sdk.testing import FakeClock

CLICKS = {"control": 157, "candidate": 130}
UNITS = 30_000
WEEK_S = 7 * 86_400.0
BEGAN_S = 1_764_547_200.0  # 2025-12-01
DRAWN = {
    "looking-differences.svg": ("clicks", "Candidate against control"),
    "looking-course.svg": ("clicks", "click over time"),
    "looking-evidence.svg": ("clicks", "Evidence"),
    "looking-shares.svg": ("ramp", "Share of the traffic"),
}


def recommend(user: str) -> str:
    """A policy."""
    return user


def clicks(folder: Path) -> None:
    """The A/B test."""
    clock = FakeClock(BEGAN_S)
    runtime = Runtime(journal=folder, key=b"k" * 16, time_ns=clock)
    strategy = ABTest(0.5, gates=[Gate("click", mde=0.0005)])
    model = rollout(candidate=recommend, strategy=strategy, unit="user", key="clicks", runtime=runtime)(recommend)
    seen = dict.fromkeys(CLICKS, 0)
    number = 0
    while min(seen.values()) < UNITS:
        number += 1
        variant = model.rollout.assign(f"u{number}").variant
        if seen[variant] == UNITS:
            continue
        decision = model.rollout.route(f"u{number}").decision
        seen[variant] += 1
        # As many as there were, evenly spread.
        before, after = ((seen[variant] + less) * CLICKS[variant] // UNITS for less in (-1, 0))
        if after > before:
            model.rollout.record("click", 1.0, decision_id=decision.id)
        clock.advance(WEEK_S / 2 / UNITS)
        if not number % 1_000:
            runtime.flush()
    runtime.close()


def ramp(folder: Path) -> None:
    """The canary."""
    clock = FakeClock(BEGAN_S)
    runtime = Runtime(journal=folder, key=b"k" * 16, time_ns=clock)
    strategy = Canary(["5%", "25%", "50%"], guardrails=[Guardrail("error_rate", dry_run=True)])
    model = rollout(candidate=recommend, strategy=strategy, unit="user", key="ramp", runtime=runtime)(recommend)
    for hour in range(60):
        for number in range(20):
            model(f"u{hour}-{number}")
        if hour in (12, 30):
            model.rollout.promote(actor="ann", reason="it looks good")
        if hour == 50:
            model.rollout.abort(actor="bob", reason="complaints")
        runtime.flush()
        clock.advance(3_600)
    runtime.close()


def drawn() -> dict[str, str]:
    """The pictures, by the name of their file."""
    with tempfile.TemporaryDirectory() as folder:
        clicks(Path(folder))
        ramp(Path(folder))
        by_key = {each.rollout: each for each in summarise(folder).rollouts}
    return {name: _picture(by_key[key], title) for name, (key, title) in DRAWN.items()}


def _picture(report: RolloutReport, title: str) -> str:
    verdict = report.verdict
    assert verdict is not None
    # How long calls take is another time each time.
    declared = evolve(verdict, differences=tuple(each for each in verdict.differences if each.kind != "exploratory"))
    return next(each for each in pictures(report, declared) if each.title.startswith(title)).svg()


if __name__ == "__main__":
    for file_name, svg in drawn().items():
        (Path(sys.argv[1]) / file_name).write_text(svg, encoding="utf-8")
