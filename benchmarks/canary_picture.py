"""Draws docs/canary.svg: the evidence of harm after every error, for a healthy candidate and for two bad ones.

python benchmarks/canary_picture.py docs/canary.svg
"""

from __future__ import annotations

import math
import random
import sys
from collections.abc import Sequence
from pathlib import Path

from rollout_sdk.stats import rare_event_log_e

SHARE = 0.05
ERRORS = 160
NEEDED = math.log(20)
LEFT, TOP, WIDTH, HEIGHT = 96, 40, 560, 260
LOW, HIGH = math.log(1 / 100), math.log(10_000)
COLOURS = {"ten times the errors": "#c2410c", "three times": "#7c3aed", "the same errors (six runs)": "#0f766e"}


def path(ratio: float, seed: int) -> list[float]:
    """Evidence of harm after each error of either arm, where the candidate's rate is so many times the control's."""
    rng = random.Random(seed)
    chance = SHARE * ratio / (SHARE * ratio + 1 - SHARE)
    ours, evidence = 0, [0.0]
    for number in range(1, ERRORS + 1):
        ours += rng.random() < chance
        evidence.append(rare_event_log_e([(ours, number - ours, SHARE)]))
    return evidence


def x(errors: float) -> float:
    return LEFT + WIDTH * errors / ERRORS


def y(log_e: float) -> float:
    return TOP + HEIGHT * (HIGH - min(max(log_e, LOW), HIGH)) / (HIGH - LOW)


def line(evidence: Sequence[float], colour: str) -> str:
    """A run, up to the moment at which it is rolled back."""
    end = next((number for number, each in enumerate(evidence) if each >= NEEDED), len(evidence) - 1)
    points = " ".join(f"{x(number):.1f},{y(each):.1f}" for number, each in enumerate(evidence[: end + 1]))
    dot = f'<circle cx="{x(end):.1f}" cy="{y(evidence[end]):.1f}" r="4" fill="{colour}"/>' if evidence[end] >= NEEDED else ""
    return f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.6"/>{dot}'


def picture() -> str:
    """The picture as SVG."""
    runs = [("the same errors (six runs)", path(1.0, seed)) for seed in range(6)]
    runs += [("three times", path(3.0, seed)) for seed in (1, 2)]
    runs += [("ten times the errors", path(10.0, seed)) for seed in (1, 2)]
    drawn = "".join(line(evidence, COLOURS[name]) for name, evidence in runs)
    grid = "".join(
        f'<line x1="{LEFT}" x2="{LEFT + WIDTH}" y1="{y(math.log(value)):.1f}" y2="{y(math.log(value)):.1f}" stroke="#8884"/>'
        f'<text x="{LEFT - 8}" y="{y(math.log(value)) + 4:.1f}" text-anchor="end">{label}</text>'
        for value, label in ((0.01, "0.01"), (0.1, "0.1"), (1, "1"), (10, "10"), (100, "100"), (1000, "1,000"))
    )
    ticks = "".join(
        f'<text x="{x(number):.1f}" y="{TOP + HEIGHT + 20}" text-anchor="middle">{number}</text>'
        for number in range(0, ERRORS + 1, 40)
    )
    legend = "".join(
        f'<line x1="{LEFT + WIDTH + 16}" x2="{LEFT + WIDTH + 38}" y1="{TOP + 40 + 24 * number}" y2="{TOP + 40 + 24 * number}" '
        f'stroke="{colour}" stroke-width="2"/><text x="{LEFT + WIDTH + 44}" y="{TOP + 44 + 24 * number}">{name}</text>'
        for number, (name, colour) in enumerate(COLOURS.items())
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 880 370" font-family="system-ui, sans-serif" font-size="13">'
        f'<rect width="880" height="370" fill="#fff"/>'
        f'<text x="{LEFT}" y="22" font-weight="600">Evidence that the candidate makes more errors, at a share of 5 %</text>'
        f"{grid}{ticks}"
        f'<line x1="{LEFT}" x2="{LEFT + WIDTH}" y1="{y(NEEDED):.1f}" y2="{y(NEEDED):.1f}" stroke="#b91c1c" stroke-width="1.5" '
        f'stroke-dasharray="6 4"/>'
        f'<text x="{LEFT + WIDTH + 8}" y="{y(NEEDED) + 4:.1f}" fill="#b91c1c">20 : 1, rolled back</text>'
        f"{drawn}{legend}"
        f'<text x="{LEFT + WIDTH / 2}" y="{TOP + HEIGHT + 48}" text-anchor="middle">units that saw an error, of both arms'
        f"</text>"
        f"</svg>\n"
    )


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(picture(), encoding="utf-8")
