"""One experiment of judged_canary.py through the public API: its verdict must be the one of the drawn sums.

Pairs are drawn as there. Each is a call of a function with `@rollout(judge=Judge(...))`, whose judge says what was drawn for
it, and a label of `record("judge.preference", ..., source="human")` for the pairs that are drawn for people. The same pairs
then go into the sums of judged_canary.py, with the bucket and the draws of each decision. Both must come to the same outcome,
preference, standard error and number of labels; else this ends with 1.

    python benchmarks/judged_calls.py [--pairs 2000] [--judge spiteful] [--mode worse]
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
from judged_canary import CANDIDATE, JUDGES, MARGIN, TRUTHS, Cell, Experiments, drawn

from rollout_sdk import Decision, Guardrail, Judge, Runtime, Shadow, ShadowLimits, rollout
from rollout_sdk.judging import Finding
from rollout_sdk.judging.preferences import ASKED, FIRST, JUDGED, PEOPLE, is_drawn_for_people

CORRELATION, AUDIT = 0.5, 0.2
CHUNK = 200
COMPARED = ("estimate", "std_error", "people", "asked", "judged")


def called(people: Sequence[float], said: Sequence[float]) -> tuple[Finding, list[Decision], dict[str, bool]]:
    """Serve, judge and label these pairs; return the finding, the decisions, and whether the candidate's answer came first."""
    runtime = Runtime(shadows=ShadowLimits(max_jobs=2 * CHUNK, cpu_share=1.0, max_age_s=60.0, timeout_s=60.0))
    firsts: dict[int, bool] = {}

    def preferring(request: Any, a: str, _: str) -> float:
        number = request.arguments["number"]
        firsts[number] = a == "candidate"
        return said[number] if firsts[number] else -said[number]

    @rollout(
        candidate=lambda number: "candidate",
        strategy=Shadow(1.0, guardrails=[Guardrail("judge.preference", margin=MARGIN, audit=AUDIT)]),
        judge=Judge(preferring, sample=1.0, queue=2 * CHUNK),
        effects="read",
        key="chat",
        runtime=runtime,
    )
    def chat(number: int) -> str:
        return "control"

    decisions = []
    for number in range(len(people)):
        decisions.append(chat.rollout.route(number).decision)
        if number % CHUNK == CHUNK - 1:
            runtime.flush(60.0)
    runtime.flush(60.0)
    for decision, preference in zip(decisions, people, strict=True):
        # Labels of other pairs would not count.
        if is_drawn_for_people(decision.id, AUDIT):
            chat.rollout.record("judge.preference", preference, decision_id=decision.id, source="human")
    runtime.flush(60.0)
    finding = next(each for each in chat.rollout.judge().findings if each.name == "judge.preference")
    runtime.close(10.0)
    return finding, decisions, {decisions[number].id: is_first for number, is_first in firsts.items()}


def summed(
    cell: Cell, people: Sequence[float], said: Sequence[float], decisions: Sequence[Decision], firsts: dict[str, bool]
) -> Finding:
    """Return the finding of judged_canary.py about the same pairs."""
    these = Experiments(cell, 1, judged=True)
    for decision, preference, judged in zip(decisions, people, said, strict=True):
        added = {JUDGED: judged, FIRST: judged if firsts[decision.id] else -judged}
        if is_drawn_for_people(decision.id, AUDIT):
            added |= {ASKED: judged, PEOPLE: preference}
        for arm, value in added.items():
            these.sums[arm][:, 0, decision.bucket] += value, 1.0
    return these.judged(0)


def both(judge: str, mode: str, pairs: int) -> tuple[Finding, Finding]:
    """Draw pairs; return the findings through the public API and from the sums."""
    cell = Cell(judge, CORRELATION, AUDIT, mode)
    people, said = (each[0].tolist() for each in drawn(np.random.default_rng(7), cell, (1, pairs)))
    found, decisions, firsts = called(people, said)
    return found, summed(cell, people, said, decisions, firsts)


def are_equal(one: Finding, other: Finding) -> bool:
    """Whether two findings have the same outcome and, but for rounding, the same numbers."""
    numbers = ((one.numbers[name], other.numbers[name]) for name in COMPARED)
    return one.outcome == other.outcome and all(math.isclose(*each, rel_tol=1e-9, abs_tol=1e-9) for each in numbers)


def main() -> int:
    """Print both findings; return 1 if they differ."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=2_000)
    parser.add_argument("--judge", choices=list(JUDGES), default="spiteful")
    parser.add_argument("--mode", choices=list(TRUTHS), default="worse")
    options = parser.parse_args()
    found = both(options.judge, options.mode, options.pairs)
    for name, each in zip(("public API", "drawn sums"), found, strict=True):
        print(f"{name}: {each.outcome} of {CANDIDATE}, {', '.join(f'{one} {each.numbers[one]:.6g}' for one in COMPARED)}")
    return int(not are_equal(*found))


if __name__ == "__main__":
    sys.exit(main())
