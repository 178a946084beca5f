"""Error rates of a judge of shadows, alone and corrected by people; and the number of labels that it needs.

Every experiment draws pairs of answers: people prefer the candidate by a true amount on average, and a judge agrees with them
with some correlation and a bias of its own. The sums of the pairs are drawn by numpy and put into the SDK's evidence, look by
look, once with the judge's preferences and once with people's labels only. All experiments of a line are drawn together, and
numpy estimates each look; the SDK's judge is called at every look at which that estimate may decide anything, and its answer
counts. So neither calls nor outcomes go through the public API: judged_calls.py compares one experiment with one that does.

- margin: the candidate is worse by exactly the margin (.05). Every PASS is an error, whose rate may be at most alpha, plus
  three standard errors of the experiments. For comparison: how often the judge alone would have passed it, by the same e-value.
- worse: it is worse by .15, and should fail.
- equal: it is as good as the control, and should pass. For comparison: how often the judge alone would have rolled it back.

    python benchmarks/judged_canary.py [--experiments 300] [--looks 200] [--pairs 20000] [--mode margin] [--jobs 2]
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from array import array
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from itertools import product

import numpy as np
from attrs import frozen

from rollout_sdk import Guardrail, Step
from rollout_sdk.assignment import BUCKETS
from rollout_sdk.judging import Evidence, Finding, Situation, judge
from rollout_sdk.judging.e_values import MIN_UNITS, mean_log_e
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
COLUMNS = (
    "judge", "correlation", "audited", "candidate", "PASS", "FAIL", "judge alone passes", "judge alone fails", "labels",
    "people alone", "seconds",
)  # fmt: skip
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
    """How one experiment ended: the outcome, the labels until then, and what the judge alone would have done until then."""

    outcome: str
    labels: float
    alone: bool
    alone_fails: bool = False


def drawn(rng: np.random.Generator, cell: Cell, pairs: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Draw the preferences of people and of the judge, for these numbers of pairs and experiments."""
    truth, bias = TRUTHS[cell.mode], JUDGES[cell.judge]
    wins = (1 - TIES + truth) / 2
    people = rng.choice([1.0, 0.0, -1.0], size=pairs, p=[wins, TIES, 1 - TIES - wins])
    correlation = 0.0 if cell.judge == "random" else cell.correlation
    known = correlation * (people - truth) / math.sqrt(1 - TIES - truth**2)
    noise = math.sqrt(1 - correlation**2) * rng.normal(size=pairs) * (2.0 if cell.judge == "noisy" else 1.0)
    return people, np.clip(truth + bias + 0.5 * (known + noise), -1, 1)


def reached(
    mean: np.ndarray, error: np.ndarray, occupied: np.ndarray | int, *, sign: int, null: float, less: float = 0.0
) -> np.ndarray:
    """By experiment, whether the evidence that `sign` times the mean exceeds `null` is enough, or `less` than that away.

    An e-value is a mean of likelihood ratios, so it is at most exp(z^2 / 2): most looks need no more than a comparison.
    """
    needed = math.log(1 / ALPHA) - less
    found = sign * mean - null > math.sqrt(1.9 * needed) * error
    for each in np.flatnonzero(found):
        df = float(np.broadcast_to(occupied, mean.shape)[each]) - 1
        numbers = {"estimate": mean[each], "std_error": error[each], "df": df}
        found[each] = mean_log_e(numbers, sign=sign, null=null, mde=MARGIN) >= needed
    return found


class Experiments:
    """The bucket sums of all experiments of a line: values and weights by arm, experiment and bucket."""

    def __init__(self, cell: Cell, number: int, *, judged: bool) -> None:
        """Start without a pair; not `judged`, with people's labels alone."""
        self.cell, self.number = cell, number
        self.sums = {arm: np.zeros((2, number, BUCKETS)) for arm in ((JUDGED, FIRST, ASKED, PEOPLE) if judged else (PEOPLE,))}

    def add(self, rng: np.random.Generator, pairs: int) -> None:
        """Draw so many pairs more for each experiment."""
        shape = self.number, pairs
        people, said = drawn(rng, self.cell, shape)
        bucket, asked = rng.integers(0, BUCKETS, shape), rng.random(shape) < self.cell.audit
        place = bucket + BUCKETS * np.arange(self.number)[:, None]
        first = np.where(rng.random(shape) < 0.5, said, -said)
        everything = np.ones(shape, bool)
        for arm, values, which in (
            (JUDGED, said, everything), (FIRST, first, everything), (ASKED, said, asked), (PEOPLE, people, asked),
        ):  # fmt: skip
            if arm in self.sums:
                both = [np.bincount(place[which], w[which], self.number * BUCKETS) for w in (values, everything)]
                self.sums[arm] += np.reshape(both, self.sums[arm].shape)

    def keep(self, which: np.ndarray) -> None:
        """Forget the others."""
        self.sums = {arm: sums[:, which] for arm, sums in self.sums.items()}
        self.number = int(which.sum())

    def labels(self) -> np.ndarray:
        """Labels of people so far, by experiment."""
        return self.sums[PEOPLE][1].sum(axis=1)

    def _scores(self, arm: str) -> tuple[np.ndarray, np.ndarray]:
        """The mean of an arm, and the influence of each bucket on it."""
        values, weights = self.sums[arm]
        total = np.maximum(weights.sum(axis=1, keepdims=True), 1e-9)
        mean = values.sum(axis=1, keepdims=True) / total
        return mean[:, 0], (values - mean * weights) / total

    def may_decide(self) -> np.ndarray:
        """By experiment, whether a look may end it, by an independent computation of the corrected preference."""
        mean, scores = self._scores(PEOPLE)
        if ASKED in self.sums:
            (drawn_mean, drawn_scores), (whole, whole_scores) = self._scores(ASKED), self._scores(JUDGED)
            known = drawn_scores - whole_scores
            slope = np.einsum("ij,ij->i", scores, known) / np.maximum(np.einsum("ij,ij->i", known, known), 1e-300)
            mean, scores = mean - slope * (drawn_mean - whole), scores - slope[:, None] * known
        labels = self.labels()
        error = np.sqrt(np.einsum("ij,ij->i", scores, scores) + 3 / np.maximum(labels, 1) ** 2)
        # A wide margin for the degrees of freedom, which the SDK counts more carefully.
        is_near = reached(mean, error, BUCKETS, sign=1, null=-MARGIN, less=0.15) | reached(
            mean, error, BUCKETS, sign=-1, null=MARGIN, less=0.15
        )
        return (labels >= MIN_UNITS) & is_near

    def alone(self, *, fails: bool = False) -> np.ndarray:
        """By experiment, whether the judge alone would pass the candidate, or fail it, by the SDK's e-value."""
        if JUDGED not in self.sums:
            return np.zeros(self.number, bool)
        mean, scores = self._scores(JUDGED)
        occupied = (self.sums[JUDGED][1] > 0).sum(axis=1)
        error = np.sqrt(np.einsum("ij,ij->i", scores, scores) * occupied / (occupied - 1))
        return reached(mean, error, occupied, sign=-1 if fails else 1, null=MARGIN if fails else -MARGIN)

    def judged(self, experiment: int) -> Finding:
        """Return what the SDK's judge finds about an experiment so far."""
        step = Step(0, shadow=1.0, min_units=0, min_time=0)
        criteria = Criteria(steps=[step], guardrails=[Guardrail("judge.preference", margin=MARGIN, audit=self.cell.audit)])
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
        for arm, (values, weights) in self.sums.items():
            sums.add_sums(PHASE, arm, array("d", values[experiment]), array("d", weights[experiment]))
        findings = judge(evidence, criteria, situation, 600.0).findings
        return next(each for each in findings if each.name == "judge.preference")


def run(cell: Cell, number: int, *, pairs: int, looks: int, judged: bool = True) -> list[Run]:
    """So many experiments, each to its first conclusion; the judge alone is looked at to the end of that."""
    rng = np.random.default_rng([7, number, judged])
    these = Experiments(cell, number, judged=judged)
    # Experiments that have ended are drawn no further.
    left = np.arange(number)
    found: dict[int, Run] = {}
    alone, alone_fails = np.zeros(number, bool), np.zeros(number, bool)
    for _ in range(looks):
        these.add(rng, pairs // looks)
        labels = these.labels()
        alone |= these.alone() & (labels >= MIN_UNITS)
        alone_fails |= these.alone(fails=True) & (labels >= MIN_UNITS)
        goes_on = np.ones(these.number, bool)
        for place in np.flatnonzero(these.may_decide()):
            if (outcome := these.judged(place).outcome) in ("PASS", "FAIL"):
                found[left[place]] = Run(outcome, labels[place], bool(alone[place]), bool(alone_fails[place]))
                goes_on[place] = False
        if not goes_on.all():
            left, alone, alone_fails, labels = (each[goes_on] for each in (left, alone, alone_fails, labels))
            these.keep(goes_on)
        if not these.number:
            break
    found |= {
        each: Run("INCONCLUSIVE", labels[place], bool(alone[place]), bool(alone_fails[place]))
        for place, each in enumerate(left)
    }
    return [found[each] for each in range(number)]


@cache
def people_alone(audit: float, mode: str, number: int, pairs: int, looks: int) -> list[Run]:
    """The experiments with people's labels alone, which are the same whatever the judge says."""
    return run(Cell("random", 0.0, audit, mode), number, pairs=pairs, looks=looks, judged=False)


def row(task: tuple[Cell, int, int, int]) -> tuple[str, bool]:
    """A line of the table, and whether more errors were made than may be."""
    cell, experiments, pairs, looks = task
    begin = time.perf_counter()
    runs = run(cell, experiments, pairs=pairs, looks=looks)
    people = [] if cell.mode == "margin" else people_alone(cell.audit, cell.mode, experiments, pairs, looks)
    shares = [sum(each.outcome == outcome for each in runs) / experiments for outcome in ("PASS", "FAIL")]
    wanted = {"worse": "FAIL", "equal": "PASS"}.get(cell.mode)
    needed = [np.median([each.labels for each in these if each.outcome == wanted] or [math.nan]) for these in (runs, people)]
    right = sum(each.outcome == wanted for each in people) / max(1, len(people))
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
        f"{sum(each.alone_fails for each in runs) / experiments:.3f}",
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
    print(f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}")
    tasks = [(cell, options.experiments, options.pairs, options.looks) for cell in cells]
    is_over = False
    with ProcessPoolExecutor(options.jobs) as pool:
        for line, over in pool.map(row, tasks):
            print(line, flush=True)
            is_over = is_over or over
    return int(is_over)


if __name__ == "__main__":
    sys.exit(main())
