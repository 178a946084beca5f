"""A canary that decides by itself, on real models: the better one goes from 1 % to all users, the broken one is rolled back.

Control: VADER, a dictionary of good and bad words. Candidate: a trained text classifier, which is more often right and slower.
Visitors send real reviews; whether the answer was right is recorded as an outcome. Then the same with a build that fails on
long texts. The canary takes, or takes back, every step, and prints it with its arithmetic.

Run it: python examples/canary_auto.py [DIR]. The journal goes to DIR, for `rollout report` and `rollout replay`.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Sequence

from reviews import Review, Trained, load, vader
from rollout_sdk import Canary, Gate, Guardrail, Runtime, Step, rollout

VISITORS = 40_000
REQUESTS_PER_SECOND = 50

PLAN = Canary(
    [
        Step("1%", min_units=100, min_time="1m", max_time="1h"),
        Step("5%", min_units=100, min_time="1m", max_time="1h"),
        Step("25%", min_units=100, min_time="1m", max_time="1h"),
        Step("50%", min_units=100, min_time="1m", max_time="1h"),
        "100%",
    ],
    guardrails=[
        # Roll back on significantly more errors than the control's; go on if significantly fewer than 5 % of visitors see one.
        Guardrail("error_rate", floor=0.05),
        Guardrail("latency", threshold_s=0.25, margin=0.05),
    ],
    gates=[Gate("correct", mde=0.05, per="outcome", before="promotion")],
)


class Clock:
    """The time of the simulated traffic: an afternoon passes in half a minute."""

    def __init__(self) -> None:
        """Start in November 2026."""
        self.now_ns = 1_795_000_000 * 10**9

    def __call__(self) -> int:
        """Return the time, in nanoseconds since 1970."""
        return self.now_ns


def fragile(candidate: Callable[[str], bool]) -> Callable[[str], bool]:
    """Return the candidate in a build that limits the input's length: one review in nine is too long for it."""

    def classify(text: str) -> bool:
        if len(text) > 490:
            raise ValueError("the text is longer than 490 characters")
        return candidate(text)

    return classify


def run(version: str, candidate: Callable[[str], bool], reviews: Sequence[Review], runtime: Runtime, clock: Clock) -> str:
    """Run a candidate through the plan on simulated traffic; return the decisions, with their arithmetic."""

    def classify(visitor: str, text: str) -> bool:
        return candidate(text)

    @rollout(
        candidate=classify, strategy=PLAN, unit="visitor", key="reviews", version=version, control_name="vader", runtime=runtime
    )
    def legacy(visitor: str, text: str) -> bool:
        return vader(text)

    controller, rng, lines = legacy.rollout, random.Random(version), [f"=== Version {version} ==="]
    seen = controller.phase
    for number in range(1, 60_001):
        review = rng.choice(reviews)
        routed = controller.route(f"visitor-{rng.randrange(VISITORS)}", review.text)
        right = routed.value == review.recommended
        controller.record("correct", float(right), decision_id=routed.decision.id)
        clock.now_ns += 10**9 // REQUESTS_PER_SECOND
        if number % 250 == 0:
            # The background judges every few seconds, too, and may have come first.
            verdict = controller.judge() if controller.phase == seen else controller.status().verdict
            if controller.phase != seen or controller.status().status == "paused":
                lines += [f"\nAfter {number:,} requests: {seen.name} -> {controller.phase.name}", str(verdict)]
                seen = controller.phase
            if controller.status().status not in ("running", "shadowing"):
                break
    else:
        lines += [f"\nAfter {number:,} requests, still in phase {controller.phase.name}", str(controller.status().verdict)]
    lines.append(f"\nVersion {version} is {controller.status().status}.")
    return "\n".join(lines)


def main(folder: str | None = None) -> str:
    """Run both versions, one after the other."""
    reviews = load()
    half = len(reviews) // 2
    trained = Trained(reviews[:half])
    clock = Clock()
    runtime = Runtime(journal=folder, time_ns=clock)
    try:
        return "\n\n".join(
            run(version, candidate, reviews[half:], runtime, clock)
            for version, candidate in (("tfidf-1", trained), ("tfidf-2", fragile(trained)))
        )
    finally:
        runtime.close(10.0)


if __name__ == "__main__":
    print(main(*sys.argv[1:2]))
