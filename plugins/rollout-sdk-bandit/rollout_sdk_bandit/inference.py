"""Unbiased estimates for shares that followed the rewards.

Raw means of arms are biased: an arm with bad luck gets fewer units and keeps its bad mean, and if rewards change with time,
arms that were served at different times are compared with each other (Crook, Frasca, Kohavi and Longbotham, KDD 2009). So each
decision is weighted by the inverse of its logged propensity, and centred by the mean of the rewards before it:

    phi_t(a) = m_{t-1} + 1[A_t = a] (y_t - m_{t-1}) / pi_t

Its mean over all decisions is unbiased for the mean of arm a under every rule that chooses shares, because m_{t-1} and pi_t are
known before A_t is drawn. Variances are computed by the 512 buckets of units, and intervals hold at every look
(`rollout_sdk.stats.confidence_sequence`; for the argument, Waudby-Smith et al., arXiv:2103.06476 and Bibaut et al., 2021).
"""

from __future__ import annotations

import math
import os
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from attrs import frozen

from rollout_sdk.journal import read_journal
from rollout_sdk.stats import confidence_sequence, plan_rho

__all__ = ["ArmEstimate", "Estimates", "estimate"]


@frozen
class ArmEstimate:
    """The estimates of one arm.

    Attributes:
        arm: Its name.
        calls: Number of decisions for it.
        mean: Its estimated mean reward, over the times and units of all arms.
        raw_mean: The mean of its rewards, which is biased; for comparison.
        difference: Its mean minus the control's; None for the control.
        low: Lower end of the difference's interval, which holds at every look; None for the control.
        high: Upper end.
    """

    arm: str
    calls: int
    mean: float
    raw_mean: float
    difference: float | None = None
    low: float | None = None
    high: float | None = None


@frozen
class Estimates:
    """The arms of a rollout, the control first.

    Attributes:
        rollout: Key of the rollout.
        metric: Name of the reward.
        alpha: The intervals of all differences hold jointly with a probability of 1 - alpha.
        calls: Number of decisions that count.
        arms: The arms.
    """

    rollout: str
    metric: str
    alpha: float
    calls: int
    arms: tuple[ArmEstimate, ...]

    def __str__(self) -> str:
        """Return a table of the arms."""
        holds = f"intervals hold at every look, together at {1 - self.alpha:.0%}"
        lines = [f"{self.metric} of {self.rollout}, {self.calls:,} decisions; {holds}"]
        for each in self.arms:
            against = (
                "" if each.difference is None else f"  difference {each.difference:+.4g} [{each.low:+.4g}, {each.high:+.4g}]"
            )
            lines.append(f"  {each.arm:<16} calls {each.calls:>9,}  mean {each.mean:.4g}  (raw {each.raw_mean:.4g}){against}")
        return "\n".join(lines)


def estimate(
    journal: str | os.PathLike[str],
    rollout: str,
    metric: str,
    *,
    window_s: float | None = None,
    alpha: float = 0.05,
    planned_calls: float = 10_000,
    reward_deviation: float = 0.5,
) -> Estimates:
    """Estimate the arms of a bandit from its journal.

    Args:
        journal: Folder of the journal.
        rollout: Key of the rollout.
        metric: Name of the reward.
        window_s: The strategy's: decisions older than this count, with the first reward recorded within it, or 0. None: only
            decisions with a reward count, as if rewards were missing at random.
        alpha: Joint error probability of all intervals.
        planned_calls: Approximate number of decisions, chosen before looking at the data: intervals are narrowest there.
        reward_deviation: Approximate standard deviation of a reward, likewise. It affects widths, but not the coverage.

    Raises:
        ValueError: The journal has no decision of this rollout that counts.
    """
    decisions, rewards, control = _read(journal, rollout, metric, window_s)
    if not decisions:
        raise ValueError(f"There is no decision of {rollout!r} with a reward {metric!r} that counts in this journal.")
    arms = [control, *sorted({each["variant"] for each in decisions} - {control})]
    cells, calls, raw = _weighted(decisions, rewards, arms)
    total = math.fsum(cell["calls"] for cell in cells.values())
    information = planned_calls / (2 * len(arms) * reward_deviation**2)
    level = alpha / max(1, len(arms) - 1)
    rho = plan_rho(information, alpha=level)
    means = {arm: math.fsum(cell[arm] for cell in cells.values()) / total for arm in arms}
    found = [ArmEstimate(control, calls[control], means[control], _mean(raw[control], calls[control]))]
    for arm in arms[1:]:
        difference = means[arm] - means[control]
        pairs = ((cell[arm] - cell[control], cell["calls"]) for cell in cells.values())
        error = _standard_error(pairs, difference, total, len(cells))
        low, high = confidence_sequence(difference, error, rho=rho, alpha=level)
        found.append(ArmEstimate(arm, calls[arm], means[arm], _mean(raw[arm], calls[arm]), difference, low, high))
    return Estimates(rollout, metric, alpha, len(decisions), tuple(found))


def _read(
    journal: str | os.PathLike[str], rollout: str, metric: str, window_s: float | None
) -> tuple[list[Mapping[str, Any]], dict[str, float], str]:
    """Return the decisions that count, ordered by time, rewards by decision id, and the control."""
    decisions: dict[str, Mapping[str, Any]] = {}
    outcomes: list[Mapping[str, Any]] = []
    control, fingerprint, latest = "control", None, 0.0
    for line in read_journal(journal):
        if line.get("rollout") != rollout:
            continue
        latest = max(latest, line["t"])
        if line["event"] == "rollout":
            control, fingerprint = line["control"], line.get("fingerprint", fingerprint)
        elif line["event"] == "decision" and not line.get("excluded"):
            decisions[line["id"]] = line
        elif line["event"] == "outcome" and line.get("metric") == metric and line.get("id"):
            outcomes.append(line)
    rewards: dict[str, float] = {}
    for outcome in sorted(outcomes, key=lambda each: each["t"]):
        decision = decisions.get(outcome["id"])
        if decision is not None and (window_s is None or outcome["t"] <= decision["t"] + window_s):
            rewards.setdefault(outcome["id"], float(outcome["value"]))
    counted = (
        each
        for each in decisions.values()
        # Another version, or other arms, are another experiment: only the last one counts.
        if each.get("fingerprint", fingerprint) == fingerprint
        and (each["id"] in rewards if window_s is None else each["t"] + window_s <= latest)
    )
    return sorted(counted, key=lambda line: line["t"]), rewards, control


def _weighted(
    decisions: list[Mapping[str, Any]], rewards: Mapping[str, float], arms: list[str]
) -> tuple[dict[int, dict[str, float]], dict[str, int], dict[str, float]]:
    """Return sums of phi of each arm, and of calls, by bucket; calls and raw sums by arm."""
    cells: dict[int, dict[str, float]] = {}
    calls, raw = dict.fromkeys(arms, 0), dict.fromkeys(arms, 0.0)
    seen = total = 0.0
    for each in decisions:
        weight, reward = 1 / each.get("rate", 1.0), rewards.get(each["id"], 0.0)
        before = total / seen if seen else 0.0
        cell = cells.setdefault(each["bucket"], defaultdict(float))
        cell["calls"] += weight
        for arm in arms:
            cell[arm] += weight * before
        cell[each["variant"]] += weight * (reward - before) / each["propensity"]
        calls[each["variant"]] += 1
        raw[each["variant"]] += reward
        seen, total = seen + weight, total + weight * reward
    return cells, calls, raw


def _standard_error(pairs: Iterable[tuple[float, float]], difference: float, total: float, clusters: int) -> float:
    if clusters < 2:
        return math.inf
    squares = math.fsum((value - difference * calls) ** 2 for value, calls in pairs)
    return math.sqrt(squares * clusters / (clusters - 1)) / total


def _mean(total: float, count: int) -> float:
    return total / count if count else math.nan
