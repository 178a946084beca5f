"""Running sums by phase, arm and bucket, and the difference between two arms computed from them.

The bucket is a hash of the randomisation unit, so all calls of a user fall into one bucket, in every phase and whichever arm
answers them. The sums therefore take constant memory, merge by addition across processes and machines, contain no user ids, and
account for the correlation of one user's calls. Cf. Chamandy, Muralidharan, Najmi and Naidu, "Estimating
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Mapping, Sequence
from itertools import compress
from operator import add
from typing import Any

from attrs import define, field

from rollout_sdk.stats.concentration import Concentration, concentration_of, skewness_squared_of
from rollout_sdk.stats.contrast import Cell, Estimate, Pair, difference_of, meetings, relative_of

__all__ = ["StratifiedBuckets"]

_LARGEST, _SMALLEST = 1e50, 1e-50
_ZERO = bytes(array("d").itemsize)
_LARGEST_SUM = 1e60
"""Of ten billion values: their fourth powers are still numbers."""


def _are_sums(cell: Cell) -> bool:
    """Whether all of them may be sums of what `StratifiedBuckets.add` accepts."""
    # NaN and inf would make both the sum and the extremes below meaningless.
    if not (math.isfinite(sum(cell.values)) and math.isfinite(sum(cell.weights))):
        return False
    weights = [weight for weight in cell.weights if weight]
    return (
        min(cell.values) >= -_LARGEST_SUM
        and max(cell.values) <= _LARGEST_SUM
        and (not weights or (min(weights) >= _SMALLEST and max(weights) <= _LARGEST_SUM))
    )


def _sum(sums: array[float], added: array[float]) -> array[float]:
    """The sums of both by bucket. A minute with little traffic has few buckets: merging those takes a third of the time."""
    # Zeros are zero bytes; counting those is the fastest estimate of how many there are.
    if added.tobytes().count(_ZERO) < len(added) * 2 // 3:
        return array("d", list(map(add, sums, added)))
    total = sums[:]
    for bucket in compress(range(len(added)), added):
        total[bucket] += added[bucket]
    return total


@define(eq=False)
class StratifiedBuckets:
    """Sums of one metric by (phase, arm, bucket); use one instance per metric.

    A phase is a period of constant shares: evidence is compared within phases and then combined, never pooled across them. The
    sums are plain doubles (their relative error stays near 1e-13 after millions of additions); statistics computed from them
    are summed exactly (`math.fsum`). Takes 16 bytes per bucket of each (phase, arm). Not thread-safe: use one writer or a lock.

    Attributes:
        buckets: Number of buckets B: 256 to 1024. The standard error has a relative error of 1 / sqrt(2 (B - 1)).

    Raises:
        ValueError: `buckets` is less than 1.
    """

    buckets: int = field(default=512)
    _cells: dict[tuple[str, str], Cell] = field(factory=dict, init=False, repr=False)

    @buckets.validator
    def _at_least_one(self, _attribute: object, buckets: int) -> None:
        if buckets < 1:
            raise ValueError(f"StratifiedBuckets(buckets={buckets!r}): at least 1 bucket, and 256 to 1024 in practice.")

    def add(self, phase: str, arm: str, bucket: int, value: float, weight: float = 1.0) -> None:
        """Add `value` to the numerator and `weight` to the denominator of the metric, a ratio of sums.

        A mean per call adds weight 1 with every call. A value that arrives later than its call is added with weight 0, under
        the phase, arm and bucket of the call.

        Raises:
            ValueError: The bucket is not one of `range(buckets)`; the value is NaN or beyond +-1e50; the weight is neither 0
                nor within 1e-50..1e50. Nothing is added then.
        """
        # Every value of a call comes through here: the one check is all that it costs.
        if not (
            0 <= bucket < self.buckets and -_LARGEST <= value <= _LARGEST and (_SMALLEST <= weight <= _LARGEST or weight == 0)
        ):
            raise ValueError(self._fault(phase, arm, bucket, value, weight, _LARGEST))
        cell = self._cells.get((phase, arm)) or self._cell(phase, arm)
        cell.values[bucket] += value
        cell.weights[bucket] += weight

    def _fault(self, phase: str, arm: str, bucket: int, value: float, weight: float, most: float) -> str | None:
        """What is wrong with a value and its weight, or None."""
        if not 0 <= bucket < self.buckets:
            return f"Bucket {bucket!r} of phase {phase!r}, arm {arm!r}: buckets are 0..{self.buckets - 1}."
        if -most <= value <= most and (_SMALLEST <= weight <= most or weight == 0):
            return None
        return (
            f"Value {value!r} with weight {weight!r} of phase {phase!r}, arm {arm!r}: it would spoil all sums. "
            f"Values lie within +-{most:g}, weights are 0 or within {_SMALLEST:g}..{most:g}. Cap it."
        )

    def add_sums(self, phase: str, arm: str, values: Sequence[float], weights: Sequence[float]) -> None:
        """Add the sums of all buckets at once, for instance from a GROUP BY: one value and one weight per bucket.

        Raises:
            ValueError: There is not exactly one value and one weight per bucket, or one of them is NaN, beyond +-1e60, or a
                weight between 0 and 1e-50; nothing is added then.
        """
        if not len(values) == len(weights) == self.buckets:
            raise ValueError(
                f"{phase!r}, {arm!r}: {len(values)} values, {len(weights)} weights, but there are {self.buckets} buckets. "
                "Give one of each for every bucket, 0 for the empty ones."
            )
        added = Cell(array("d", values), array("d", weights))
        if not _are_sums(added):
            # The error names the first that is wrong.
            pairs = enumerate(zip(added.values, added.weights, strict=True))
            raise ValueError(next(filter(None, (self._fault(phase, arm, each, *pair, _LARGEST_SUM) for each, pair in pairs))))
        self._put(phase, arm, added)

    def merge(self, other: StratifiedBuckets) -> None:
        """Add the sums of another process or machine to these.

        Raises:
            ValueError: The other has a different number of buckets.
        """
        if other.buckets != self.buckets:
            raise ValueError(
                f"{other.buckets} buckets cannot be merged into {self.buckets}: units would fall into different ones. "
                "Use the same number everywhere."
            )
        for (phase, arm), theirs in list(other._cells.items()):
            self._put(phase, arm, theirs)

    def arms(self) -> tuple[str, ...]:
        """Names of all arms, sorted."""
        return tuple(sorted({arm for _, arm in self._cells}))

    def phases(self) -> tuple[str, ...]:
        """Names of all phases, sorted."""
        return tuple(sorted({phase for phase, _ in self._cells}))

    def totals(self, phase: str, arm: str) -> tuple[float, float]:
        """The sums of values and of weights of one arm in one phase; (0.0, 0.0) if there are none."""
        cell = self._cells.get((phase, arm))
        return cell.totals if cell else (0.0, 0.0)

    def cell(self, phase: str, arm: str) -> tuple[Sequence[float], Sequence[float]]:
        """The values and the weights of one arm in one phase, by bucket."""
        cell = self._cells.get((phase, arm))
        return ([0.0] * self.buckets,) * 2 if cell is None else (cell.values, cell.weights)

    def difference(
        self, arm: str, control: str, *, times: float = 1.0, covariate: StratifiedBuckets | None = None, paired: bool = False
    ) -> Estimate:
        """The metric of `arm` minus `times` that of `control`, within phases, with a standard error robust to clusters.

        With R = sum X / sum D by arm and phase h, w_h = D_T D_C / (D_T + D_C) and W = sum w_h:
        d = sum_h w_h (R_Th - times R_Ch) / W, and bucket b of arm a has the influence
        psi_ab = sum_h w_h (X_ahb - R_ah D_ahb) / (D_ah W), times `times` for the control;
        s^2 = B/(B - 1) sum_b (psi_Tb - psi_Cb)^2 with B - 1 degrees of freedom. A user who moves from the control to the
        candidate stays in one bucket, so the variance includes the covariance across phases.

        An arm with few units leaves buckets empty, and those say nothing about the variance: instead of by B, each arm's part
        of psi is scaled with its own occupied buckets G, and the degrees of freedom are Welch's from the two arms, at most
        the number of all occupied buckets less one. If no bucket is empty, this is the formula above.

        **Floor.** A small arm that has not seen the tail of a metric, or any of its rare events, has both a low mean and a low
        variance, and looks significantly different. So neither arm's variance per unit of weight is taken to be below the
        other's: with V_a = sum_b psi_ab^2 and F_a = sum_b (sum_h sqrt(D_oh / D_ah) psi_ohb)^2 from the other arm o (its
        influences with arm a's factor in place of its own), s^2 grows by max(0, F_T - V_T) + max(0, F_C - V_C). If the
        arms have the same variance, this costs about 2 % of the standard error with 512 buckets.

        If the variance is still 0, because all units of an arm are alike (one always slow, the other never), each occupied
        bucket gets half an event to either side, of the size of d: s^2 = d^2/12 sum_a sum_b share_ab^2, with the bucket's
        share of the arm's weight. With n units in either arm, z^2 = 6 n, and the t-form is n log(1 + 6 n / 2 n) = log(4^n),
        about that of the permutation test, C(2 n, n); it stops growing once all buckets are occupied. Arms that are constant
        and equal have the standard error 0.0.

        **Covariate.** Given the sums of a covariate known before each call (CUPED: Deng, Xu, Kohavi and Walker, WSDM 2013),
        theta = sum_b psi_b chi_b / sum_b chi_b^2 with chi the influences on the difference of the covariate's means, both
        arms together; d - theta (C_T - C_C), with influences psi - theta chi and one degree of freedom less. The variance
        falls by about the squared correlation. `times` does not apply to the covariate, whose means randomisation makes
        equal. Phases without a covariate in both arms are unchanged, and so is everything if the covariate does not vary.

        Only phases in which both arms have weight count. Without any, the estimate is 0.0 with an infinite standard error.

        Args:
            arm: The candidate's name.
            control: The control's.
            times: Factor on the control's metric: 1.25 tests for an excess over a rise by a quarter.
            covariate: The covariate's sums by the same phases, arms and buckets, with the number of calls as weights.
            paired: Both arms are measured on the same calls, as in a shadow or an interleaved list: neither can lack what the
                other has, so the floor is left out.

        Raises:
            ValueError: `arm` and `control` are the same, or the covariate has a different number of buckets.
        """
        empty = StratifiedBuckets(self.buckets)
        return difference_of(self._meetings(arm, control, covariate or empty), times=times, paired=paired)

    def relative(self, arm: str, control: str, *, paired: bool = False) -> Estimate | None:
        """The logarithm of the ratio of the metric of `arm` to that of `control`, within phases; None if it is undefined.

        log M_T - log M_C with M_a = sum_h w_h R_ah / sum w_h and the influences psi_ab / M_a (the delta method); the rest is as
        in `difference`. `math.expm1` converts the estimate and the ends of its `confidence_sequence` to relative lifts; `rho`
        is then a precision of the logarithm, 1 / log(1 + lift)^2. None if no phase has both arms, or the mean of an arm is
        not positive.

        Raises:
            ValueError: `arm` and `control` are the same.
        """
        return relative_of(self._meetings(arm, control, StratifiedBuckets(self.buckets)), paired=paired)

    def concentration(self, arm: str) -> Concentration:
        """How much of an arm's weight, over all phases, belongs to a few units, such as a bot.

        With the share p_b of bucket b in the arm's weight, sum p_b^2 is on average sum q^2 + (1 - sum q^2) / B, q being the
        shares of the units: 1 / n_eff = (sum p_b^2 - 1/B) / (1 - 1/B) estimates 1 / [(sum d)^2 / sum d^2]. It is nearly exact
        for few or uneven units; for many even ones, it is some large number or inf. `heaviest` is
        (max p_b - 1/B) / (1 - 1/B), at least 0.
        """
        cells = [cell.weights for cell in self._of(arm)]
        return concentration_of([math.fsum(column) for column in zip(*cells, strict=True)])

    def nonzero(self, arm: str) -> int:
        """The number of buckets in which the arm's sum of values differs from 0 in some phase.

        At most the number of units with such a value, however often one of them calls (unless values cancel).
        """
        cells = [cell.values for cell in self._of(arm)]
        return sum(any(column) for column in zip(*cells, strict=True))

    def skewness_squared(self, arm: str, *, units: float) -> float:
        """A conservative (low) estimate of the squared skewness of one unit's contribution to the arm's metric.

        Means of skewed units converge slowly to normality: a test of means needs about 355 times this many units in each arm
        (Kohavi, Deng, Longbotham and Xu, KDD 2014). A bucket with m units has 1 / sqrt(m) of their skewness: with the skewness
        g of the influences X_b - R D_b of the G occupied buckets, it is (max(0, |g| - 2 sqrt(6 / G)))^2 units / G, less two
        standard errors of a normal sample's skewness, so that chance does not demand more units. g cannot exceed about
        sqrt(G): for extreme tails the estimate is too low. With fewer than 30 non-zero values it is a guess.

        Args:
            arm: The arm, usually the control: it has more units.
            units: The number of its units, counted elsewhere, since full buckets do not reveal it.

        Raises:
            ValueError: `units` is negative, NaN or infinite.
        """
        return skewness_squared_of(self._of(arm), units=units)

    def _of(self, arm: str) -> list[Cell]:
        return [cell for (_, name), cell in sorted(self._cells.items(), key=lambda item: item[0]) if name == arm]

    def _meetings(self, arm: str, control: str, covariate: StratifiedBuckets) -> list[Pair]:
        if arm == control:
            raise ValueError(f"Arm {arm!r} cannot be compared with itself. Give the control's name as the second.")
        if covariate.buckets != self.buckets:
            raise ValueError(
                f"A covariate with {covariate.buckets} buckets does not go with a metric with {self.buckets}: units would fall "
                "into different ones. Use the same number everywhere."
            )
        others = covariate._cells
        return meetings(
            ((self._cells.get((h, arm)), self._cells.get((h, control))), (others.get((h, arm)), others.get((h, control))))
            for h in self.phases()
        )

    def as_dict(self) -> dict[str, Any]:
        """The sums as plain JSON values, without empty buckets; `from_dict` reads them."""
        cells = []
        for (phase, arm), cell in sorted(self._cells.items(), key=lambda item: item[0]):
            used = [b for b in range(self.buckets) if cell.values[b] or cell.weights[b]]
            cells.append(
                {
                    "phase": phase,
                    "arm": arm,
                    "bucket": used,
                    "value": [cell.values[b] for b in used],
                    "weight": [cell.weights[b] for b in used],
                }
            )
        return {"buckets": self.buckets, "cells": cells}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> StratifiedBuckets:
        """The sums that `as_dict` wrote.

        Raises:
            ValueError: The three lists of a cell differ in length, or a number is rejected as by `add_sums`.
            KeyError: A part is missing.
        """
        made = cls(plain["buckets"])
        for cell in plain["cells"]:
            phase, arm = cell["phase"], cell["arm"]
            kept = made._cell(phase, arm)
            for bucket, value, weight in zip(cell["bucket"], cell["value"], cell["weight"], strict=True):
                if (fault := made._fault(phase, arm, bucket, value, weight, _LARGEST_SUM)) is not None:
                    raise ValueError(fault)
                kept.values[bucket] += value
                kept.weights[bucket] += weight
        return made

    def __eq__(self, other: object) -> bool:
        """Whether both hold the same sums."""
        if not isinstance(other, StratifiedBuckets):
            return NotImplemented
        return self.buckets == other.buckets and self._cells == other._cells

    __hash__ = None  # type: ignore[assignment]  # mutable

    def _put(self, phase: str, arm: str, added: Cell) -> None:
        cell = self._cells.get((phase, arm))
        if cell is not None:
            added = Cell(_sum(cell.values, added.values), _sum(cell.weights, added.weights))
        else:
            added = Cell(added.values[:], added.weights[:])
        self._cells[phase, arm] = added

    def _cell(self, phase: str, arm: str) -> Cell:
        zeros = bytes(8 * self.buckets)
        return self._cells.setdefault((phase, arm), Cell(array("d", zeros), array("d", zeros)))
