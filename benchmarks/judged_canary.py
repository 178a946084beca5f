"""How often a judge of shadows is wrong, alone and corrected by people; and how many labels that takes.

Every experiment draws pairs of answers: people prefer the candidate by a true amount on average, and a judge says what people
say with some correlation and a bias of its own. The pairs go through the SDK's own evidence and judge, look by look, once with
the judge's preferences and once with people's labels alone.

- margin: the candidate is worse by exactly the margin (.05). Every PASS is an error, of which at most alpha may be made, plus
  three standard errors of the experiments. Beside it: how often the judge alone would have passed it, by the same e-value.
- worse: it is worse by .15, and is to fail.
- equal: it is as good as the control, and is to pass.

    python benchmarks/judged_canary.py [--experiments 300] [--looks 200] [--pairs 20000] [--mode margin] [--jobs 2]
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from array import array
from concurrent.futures import ProcessPoolExecutor
from itertools import product
from typing import Any

import numpy as np
from attrs import frozen

from rollout_sdk import Guardrail, Step
from rollout_sdk.assignment import BUCKETS
from rollout_sdk.judging import Evidence, Situation, judge
from rollout_sdk.judging.e_values import MIN_UNITS, mean_log_e, safe_needed
from rollout_sdk.judging.phase_evidence import BASE, Sums
from rollout_sdk.judging.preferences import ASKED, FIRST, JUDGED, PEOPLE, label_of
from rollout_sdk.plan import Criteria
from rollout_sdk.stats import StratifiedBuckets

MARGIN, ALPHA = 0.05, 0.05
TRUTHS = {"margin": -MARGIN, "worse": -0.15, "equal": 0.0}
JUDGES = {"flattering": 0.3, "spiteful": -0.3, "noisy": 0.0, "random": 0.0}
"""Bias of each judge; the noisy one has twice the noise, and the random one knows nothing of people's opinion."""
CORRELATIONS, AUDITS = (0.2, 0.5, 0.8), (0.01, 0.05, 0.2)
TIES = 0.4
PHASE, CANDIDATE = "0:0%", "candidate"
PAIRED = {"control": 1.0, CANDIDATE: 1.0}


@frozen
class Cell:
    """One line of the table."""

    judge: str
    correlation: float
    audit: float
    mode: str


@frozen
class Run:
    """How one experiment ended: the outcome, the labels until then, and whether the judge alone would have passed it."""

    outcome: str
    labels: float
    alone: bool


def drawn(rng: np.random.Generator, cell: Cell, pairs: int) -> tuple[np.ndarray, np.ndarray]:
    """What people and the judge say about so many pairs."""
    truth, bias = TRUTHS[cell.mode], JUDGES[cell.judge]
    wins = (1 - TIES + truth) / 2
    people = rng.choice([1.0, 0.0, -1.0], size=pairs, p=[wins, TIES, 1 - TIES - wins])
    correlation = 0.0 if cell.judge == "random" else cell.correlation
    known = correlation * (people - truth) / people.std()
    noise = math.sqrt(1 - correlation**2) * rng.normal(size=pairs) * (2.0 if cell.judge == "noisy" else 1.0)
    return people, np.clip(truth + bias + 0.5 * (known + noise), -1, 1)


def run(cell: Cell, seed: int, *, pairs: int, looks: int, judged: bool = True) -> Run:
    """One experiment, to its first conclusion; the judge alone is looked at to the end of that."""
    rng = np.random.default_rng([seed, 7])
    step = Step(0, shadow=1.0, min_units=0, min_time=0)
    criteria = Criteria(steps=[step], guardrails=[Guardrail("judge.preference", margin=MARGIN, audit=cell.audit)])
    situation = Situation(
        rollout="chat",
        phase=PHASE,
        revision=0,
        control="control",
        candidates=(CANDIDATE,),
        step=step,
        entered_s=0.0,
        shadowing=True,
    )
    evidence = Evidence(criteria.all)
    phase = evidence.phase(PHASE)
    for arm in PAIRED:
        evidence.add_call(PHASE, arm, PAIRED, 1, 1, failed=False, duration_s=0.1, time_s=60.0)
    sums = phase.sums.setdefault(label_of(CANDIDATE), Sums()).slices.setdefault(BASE, StratifiedBuckets())
    outcome, labels, alone = "INCONCLUSIVE", 0.0, False
    for _ in range(looks):
        people, said = drawn(rng, cell, pairs // looks)
        bucket, asked = rng.integers(0, BUCKETS, len(people)), rng.random(len(people)) < cell.audit
        first = np.where(rng.random(len(people)) < 0.5, said, -said)
        everything = np.ones(len(people), bool)
        for arm, values, which in (
            (JUDGED, said, everything), (FIRST, first, everything), (ASKED, said, asked), (PEOPLE, people, asked),
        ):  # fmt: skip
            if judged or arm == PEOPLE:
                both = [np.bincount(bucket[which], weights=w[which], minlength=BUCKETS) for w in (values, everything)]
                sums.add_sums(PHASE, arm, *(array("d", each) for each in both))
        if sums.totals(PHASE, PEOPLE)[1] < MIN_UNITS:
            continue
        finding = next(each for each in judge(evidence, criteria, situation, 600.0).findings if each.name == "judge.preference")
        labels = finding.numbers["people"]
        alone = alone or would_pass(finding.numbers)
        outcome = finding.outcome
        if outcome in ("PASS", "FAIL"):
            break
    return Run(outcome, labels, alone)


def would_pass(numbers: Any) -> bool:
    """Whether the judge alone would pass the candidate, by the e-value with which the corrected preference does."""
    log_e = mean_log_e(numbers["alone"], sign=1, null=-MARGIN, mde=MARGIN) if numbers["judged"] else 0.0
    return log_e >= safe_needed(numbers)


def row(task: tuple[Cell, int, int, int]) -> tuple[str, bool]:
    """A line of the table, and whether more errors were made than may be."""
    cell, experiments, pairs, looks = task
    begin = time.perf_counter()
    runs = [run(cell, seed, pairs=pairs, looks=looks) for seed in range(experiments)]
    count = 0 if cell.mode == "margin" else experiments
    people = [run(cell, seed, pairs=pairs, looks=looks, judged=False) for seed in range(count)]
    shares = [sum(each.outcome == outcome for each in runs) / experiments for outcome in ("PASS", "FAIL")]
    wanted = {"worse": "FAIL", "equal": "PASS"}.get(cell.mode)
    needed = [np.median([each.labels for each in these if each.outcome == wanted] or [math.nan]) for these in (runs, people)]
    right = sum(each.outcome == wanted for each in people) / max(1, count)
    most = ALPHA + 3 * math.sqrt(ALPHA * (1 - ALPHA) / experiments)
    is_over = cell.mode == "margin" and shares[0] > most
    labels = "" if wanted is None else f"{needed[0]:.0f} | {right:.2f} with {needed[1]:.0f}"
    mark = " **over**" if is_over else ""
    cells = [
        cell.judge,
        f"{cell.correlation:g}",
        f"{cell.audit:.0%}",
        cell.mode,
        f"{shares[0]:.3f}{mark}",
        f"{shares[1]:.3f}",
        f"{sum(each.alone for each in runs) / experiments:.3f}",
        labels or " | ",
        f"{time.perf_counter() - begin:.0f}",
    ]
    return f"| {' | '.join(cells)} |", is_over


def main() -> int:
    """Print the table; return 1 if more errors were made than may be."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--experiments", type=int, default=300)
    parser.add_argument("--looks", type=int, default=200)
    parser.add_argument("--pairs", type=int, default=20_000)
    parser.add_argument("--mode", choices=list(TRUTHS), default=None)
    parser.add_argument("--audit", type=float, default=None)
    parser.add_argument("--jobs", type=int, default=1)
    options = parser.parse_args()
    audits = AUDITS if options.audit is None else (options.audit,)
    modes = list(TRUTHS) if options.mode is None else [options.mode]
    cells = [
        Cell(name, correlation, audit, mode)
        for mode, name, correlation, audit in product(modes, JUDGES, CORRELATIONS, audits)
        # Without a correlation, there is one random judge.
        if name != "random" or correlation == CORRELATIONS[0]
    ]
    print(f"{options.experiments} experiments, {options.looks} looks, {options.pairs} pairs each\n")
    print("| judge | correlation | audited | candidate | PASS | FAIL | judge alone passes | labels | people alone | seconds |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    tasks = [(cell, options.experiments, options.pairs, options.looks) for cell in cells]
    is_over = False
    with ProcessPoolExecutor(options.jobs) as pool:
        for line, over in pool.map(row, tasks):
            print(line, flush=True)
            is_over = is_over or over
    return int(is_over)


if __name__ == "__main__":
    sys.exit(main())
