"""The result of an interleaved test: the preference, its certainty, and whether it is valid."""

from __future__ import annotations

import math
from typing import Literal

from attrs import frozen

from rollout_sdk.exceptions import ConfigurationError
from rollout_sdk.stats import MIN_EFFECTIVE_UNITS, MOST_OF_ONE_UNIT

__all__ = ["Preference", "TrustCheck", "impressions_needed"]


@frozen
class TrustCheck:
    """A check for a broken experiment.

    Attributes:
        name: "items", "first", "clicks" or "competitive".
        what: What is counted.
        observed: The observed number.
        expected: The number expected in a sound experiment, or the minimum.
        log_e: Logarithm of the evidence that the experiment is broken, valid at every look.
        needed: Threshold from which the experiment is void.
        latched: Whether it failed at an earlier look: the first alarm counts and is kept.
    """

    name: str
    what: str
    observed: float
    expected: float
    log_e: float
    needed: float
    latched: bool = False

    @property
    def is_broken(self) -> bool:
        """Whether the experiment is void."""
        return self.latched or self.log_e >= self.needed


@frozen(kw_only=True)
class Preference:
    """Which of two rankers is preferred.

    Attributes:
        rankers: The control and the candidate.
        impressions: Number of analysed lists.
        not_interleaved: Number of lists that were the control's alone.
        units: Number of users.
        effective_units: Number of equally active users with the same information, by lists won or lost, or by credit
            (`decided_by`).
        heaviest: Share of the most active user in these.
        wins: Number of lists that the candidate won; fractional where the design gives only a probability.
        losses: Number of lists that the control won.
        preference: Chapelle's: (wins + ties / 2) / impressions - 1/2. Above 0, the candidate is preferred.
        std_error: Its standard error, robust to several lists per user; None if unknown.
        low: Lower end of a confidence interval that holds at all looks.
        high: Upper end.
        bootstrap: Bootstrap interval, for one look; None if nothing varies.
        log_e: Logarithm of the evidence for a preference, valid at every look.
        units_for: Number of users who preferred the candidate more often than not.
        units_against: Number of users who preferred the control.
        sign_log_e: Logarithm of the evidence from these two numbers alone, exact even for few users; for one look, because
            users change sides.
        clicked: Number of lists with a click.
        competitive: Share of positions that could be credited.
        credit: Candidate's credit per list minus the control's, in weighted clicks.
        credit_low: Lower end of its confidence interval, which holds at all looks; minus infinity if nothing varies.
        credit_high: Upper end.
        credit_log_e: Logarithm of the evidence that the credit differs, valid at every look.
        decided_by: "wins" if the preference decides; "credit" where counting won lists would be biased
            (`Interleaved.is_won_fairly`).
        checks: Trust checks.
        alpha: Error probability.
    """

    rankers: tuple[str, ...]
    impressions: int
    not_interleaved: int
    units: int
    effective_units: float
    heaviest: float
    wins: float
    losses: float
    preference: float
    std_error: float | None
    low: float
    high: float
    bootstrap: tuple[float, float] | None
    log_e: float
    units_for: int
    units_against: int
    sign_log_e: float
    clicked: int
    competitive: float
    credit: float
    credit_low: float
    credit_high: float
    credit_log_e: float
    decided_by: Literal["wins", "credit"]
    checks: tuple[TrustCheck, ...]
    alpha: float

    @property
    def is_valid(self) -> bool:
        """Whether no trust check has failed."""
        return not any(check.is_broken for check in self.checks)

    @property
    def caution(self) -> str | None:
        """Why no conclusion is drawn, whatever the evidence; None if there are enough units."""
        if self.effective_units >= MIN_EFFECTIVE_UNITS:
            return None
        what = "lists won or lost" if self.decided_by == "wins" else "credit"
        few = f"the {what} of {self.units:,} users count for {self.effective_units:.3g}, and it takes {MIN_EFFECTIVE_UNITS}"
        return f"{few}: the heaviest has {self.heaviest:.1%}" if self.heaviest > MOST_OF_ONE_UNIT else few

    @property
    def is_decided(self) -> bool:
        """Whether the preference is significant, however often it was looked at."""
        log_e = self.log_e if self.decided_by == "wins" else self.credit_log_e
        return self.is_valid and self.caution is None and log_e >= math.log(1 / self.alpha)

    @property
    def winner(self) -> str | None:
        """Name of the preferred ranker; None while undecided."""
        if not self.is_decided or not self.rankers:
            return None
        return self.rankers[1 if (self.preference if self.decided_by == "wins" else self.credit) > 0 else 0]

    @property
    def sign_p_value(self) -> float:
        """Two-sided p-value of the exact sign test over users, for a single planned look."""
        count, extreme = self.units_for + self.units_against, max(self.units_for, self.units_against)
        if 2 * extreme == count:
            return 1.0
        logs = [
            math.lgamma(count + 1) - math.lgamma(k + 1) - math.lgamma(count - k + 1) - count * math.log(2)
            for k in range(extreme, count + 1)
        ]
        return min(1.0, 2 * math.fsum(map(math.exp, logs)))

    def __str__(self) -> str:
        """Format the result in a few lines."""
        if not self.impressions:
            return "No interleaved list has been analysed."
        candidate = self.rankers[1]
        wins, credit = f"Preference for {candidate} {self.preference:+.2%}", f"Credit for {candidate} {self.credit:+.3f} a list"
        if self.caution is None:
            wins += f" [{self.low:+.2%}, {self.high:+.2%}] at any look"
            credit += f" [{self.credit_low:+.3f}, {self.credit_high:+.3f}] at any look"
        first, second, log_e = (wins, credit, self.log_e) if self.decided_by == "wins" else (credit, "", self.credit_log_e)
        lines = [f"{self._headline()} {first}."]
        if self.caution is not None:
            lines.append(f"  No conclusion: {self.caution}.")
        lines.append(
            f"  {self.impressions:,} lists, {self.units:,} users: {self.wins:,.0f} won, {self.losses:,.0f} lost; "
            f"{self.units_for:,} users for, {self.units_against:,} against; "
            f"evidence {math.exp(min(log_e, 200)):.3g} of {1 / self.alpha:.3g}"
        )
        lines.append(f"  {second}." if second else "  Lists that are won mean nothing in this design: the credit decides.")
        lines.append(
            f"  {self.clicked / self.impressions:.1%} of the lists were clicked, {self.competitive:.1%} of the positions "
            f"were competitive, {self.not_interleaved:,} lists were not interleaved"
        )
        lines += [
            f"  {'BROKEN' if check.is_broken else 'sound':<6} {check.what}: {check.observed:,.0f} of {check.expected:,.0f}"
            for check in self.checks
        ]
        return "\n".join(lines)

    def _headline(self) -> str:
        if not self.is_valid:
            return "The experiment is void: it is broken between the merge and the click."
        if self.winner is None:
            return "Undecided."
        return f"{self.winner} is preferred."


def impressions_needed(
    preference: float, deviation: float | None = None, *, ties: float | None = None, alpha: float = 0.05, power: float = 0.8
) -> int | None:
    """The number of lists needed to detect a preference in a fixed-size test; None if there is no preference.

    n = ((z_{1 - alpha/2} + z_power) deviation / preference)^2. A test valid at every look needs about twice as many, and lists
    of one user who clicks alike count for less than as many lists of different users.

    Args:
        preference: Mean result of a list (+1 won, -1 lost, 0 a tie), or any mean.
        deviation: Its standard deviation.
        ties: Alternatively, the share of tied lists, with or without a click. Of the others, the candidate wins the share
            (1 + preference / (1 - ties)) / 2.
        alpha: Two-sided error probability.
        power: Probability of detecting it.

    Raises:
        ConfigurationError: Both or neither of `deviation` and `ties` are given, or this many ties allow no such preference.
    """
    from statistics import NormalDist

    if (deviation is None) == (ties is None):
        raise ConfigurationError(
            f"impressions_needed got deviation={deviation!r:.30} and ties={ties!r:.30}. Either one determines how "
            "much lists differ. Pass one of them."
        )
    if deviation is None:
        # 1 - .8 is a little less than .2.
        if ties is None or not 0 <= ties <= 1 or abs(preference) > 1 - ties + 1e-12:
            raise ConfigurationError(
                f"A preference of {preference!r:.30} is impossible with ties={ties!r:.30}. Of all lists, the share "
                "won minus the share lost is at most the share without ties. Pass a smaller preference, or fewer ties."
            )
        deviation = math.sqrt(max(0.0, 1 - ties - preference**2))
    if not preference or not math.isfinite(preference):
        return None
    normal = NormalDist()
    # If every list has the same result, one is enough.
    return max(1, math.ceil(((normal.inv_cdf(1 - alpha / 2) + normal.inv_cdf(power)) * deviation / preference) ** 2))
