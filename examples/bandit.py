"""Real clicks of two real policies, read as an A/B test: an honest WAIT.

A fashion shop showed items by Bernoulli Thompson sampling and at random, and logged the clicks: the Open Bandit Dataset (Saito,
Aihara, Matsutani and Narita, NeurIPS 2021). 10,000 impressions of each policy and campaign are in the wheel obp 0.4.1.

Run it: pip install --no-deps obp==0.4.1, then python examples/bandit.py [DIR].
"""

from __future__ import annotations

import csv
import importlib.util
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from rollout_sdk import ABTest, Gate, Guardrail, Runtime, rollout
from rollout_sdk.analysis import as_screen, summarise

CAMPAIGNS = ("all", "men", "women")


def logged(policy: str) -> Iterator[tuple[int, bool]]:
    """Yield the impressions of a policy: the item that was shown, and whether it was clicked."""
    spec = importlib.util.find_spec("obp")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("The data are not installed. Run: pip install --no-deps obp==0.4.1")
    folder = Path(spec.origin).parent / "dataset" / "obd" / policy
    for campaign in CAMPAIGNS:
        with (folder / campaign / f"{campaign}.csv").open(newline="") as file:
            for row in csv.DictReader(file):
                yield int(row["item_id"]), row["click"] == "1"


def main(folder: str) -> str:
    """Send both logs through an A/B test, and return the report of its journal."""
    impressions = {name: list(logged(name)) for name in ("bts", "random")}
    shown = {name: iter(each) for name, each in impressions.items()}
    left = {name: len(each) for name, each in impressions.items()}
    runtime = Runtime(journal=folder)
    plan = ABTest(0.5, gates=[Gate("click", mde=0.0005)], guardrails=[Guardrail("error_rate")])

    def at_random(visit: int) -> tuple[int, bool]:
        return next(shown["random"])

    @rollout(
        candidates={"random": at_random},
        strategy=plan,
        unit="visit",
        key="zozo.items",
        control_name="bts",
        runtime=runtime,
    )
    def choose(visit: int) -> tuple[int, bool]:
        return next(shown["bts"])

    visit = 0
    while any(left.values()):
        visit += 1
        # Each visit goes to the arm that its hash selects, while the log of that arm has impressions left.
        arm = choose.rollout.assign(visit).variant
        if left[arm]:
            left[arm] -= 1
            routed = choose.rollout.route(visit)
            if routed.value[1]:
                choose.rollout.record("click", 1.0, decision_id=routed.decision.id)
    runtime.close(30.0)
    return as_screen(summarise(folder))


if __name__ == "__main__":
    print(main(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp(prefix="rollout-bandit-")))
