"""What an interleaved test says: the preference, how sure it is, and whether to trust it."""

from __future__ import annotations

import math
from typing import Literal

from attrs import frozen

from rollout_sdk.exceptions import ConfigurationError
from rollout_sdk.stats import MIN_EFFECTIVE_UNITS, MOST_OF_ONE_UNIT

__all__ = ["Preference", "TrustCheck", "impressions_needed"]


@frozen
class TrustCheck:
    """A number that tells a broken experiment.

    Attributes:
        name: "items", "first", "clicks" or "competitive".
        what: What is counted.
        observed: How much was.
        expected: What a sound experiment makes of it, or what it takes at least.
        log_e: Evidence that the experiment is not sound; it may be looked at at any time.
        needed: From where on the experiment is void.
        latched: Whether it was so at an earlier look: the first alarm counts, and is not forgotten.
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
        impressions: Lists that were analysed.
        not_interleaved: Lists that were the control's alone.
        units: Users.
        effective_units: Number of equally active users who would say as much, by the lists won or lost, or the credit, of each
            (`decided_by`).
        heaviest: Share of the most active user in these.
        wins: Lists that the candidate won; parts of lists where its design says only how likely.
        losses: Lists that the control won.
        preference: Chapelle's: (wins + ties / 2) / impressions - 1/2. Above 0, the candidate is preferred.
        std_error: Its standard error, robust to lists of one user; None where it is not known.
        low: Lower end of an interval that holds at all looks at once.
        high: Its upper end.
        bootstrap: An interval by resampling, for one look; None where nothing varies.
        log_e: Evidence that there is a preference, at any look.
        units_for: Users who preferred the candidate more often than not.
        units_against: Users who preferred the control.
        sign_log_e: Evidence from these two numbers alone, exact for few users too; for one look, because users change sides.
        clicked: Lists with a click.
        competitive: Share of positions that could be credited.
        credit: Candidate's credit per list less the control's: by how many weighted clicks it is ahead.
        credit_low: Lower end of an interval for that, which holds at all looks at once; minus infinity where nothing varies.
        credit_high: Its upper end.
        credit_log_e: Evidence that the credit differs, at any look.
        decided_by: What decides who is preferred: "wins", the preference; or "credit", where lists that are won mean nothing
            (`Interleaved.is_won_fairly`).
        checks: Whether to trust it.
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
        """Whether no check is broken."""
        return not any(check.is_broken for check in self.checks)

    @property
    def caution(self) -> str | None:
        """Why nothing is concluded, whatever the evidence; None where there are units enough."""
        if self.effective_units >= MIN_EFFECTIVE_UNITS:
            return None
        what = "lists won or lost" if self.decided_by == "wins" else "credit"
        few = f"the {what} of {self.units:,} users count for {self.effective_units:.3g}, and it takes {MIN_EFFECTIVE_UNITS}"
        return f"{few}: the heaviest has {self.heaviest:.1%}" if self.heaviest > MOST_OF_ONE_UNIT else few

    @property
    def is_decided(self) -> bool:
        """Whether it is sure which is preferred, however often it was looked at."""
        log_e = self.log_e if self.decided_by == "wins" else self.credit_log_e
        return self.is_valid and self.caution is None and log_e >= math.log(1 / self.alpha)

    @property
    def winner(self) -> str | None:
        """Who is surely preferred; None while that is not known."""
        if not self.is_decided or not self.rankers:
            return None
        return self.rankers[1 if (self.preference if self.decided_by == "wins" else self.credit) > 0 else 0]

    @property
    def sign_p_value(self) -> float:
        """Two-sided p-value of the exact sign test over users, for a single look planned beforehand."""
        count, extreme = self.units_for + self.units_against, max(self.units_for, self.units_against)
        if 2 * extreme == count:
            return 1.0
        logs = [
            math.lgamma(count + 1) - math.lgamma(k + 1) - math.lgamma(count - k + 1) - count * math.log(2)
            for k in range(extreme, count + 1)
        ]
        return min(1.0, 2 * math.fsum(map(math.exp, logs)))

    def __str__(self) -> str:
        """The result in a few lines."""
        if not self.impressions:
            return "No interleaved list has been analysed."
        candidate = self.rankers[1]
        wins, credit = f"Preference for {candidate} {self.preference:+.2%}", f"Credit for {candidate} {self.credit:+.3f} a list"
        if self.caution is None:
            wins += f" [{self.low:+.2%}, {self.high:+.2%}] at any look"
            credit += f" [{self.credit_low:+.3f}, {self.credit_high:+.3f}] at any look"
        first, second, log_e = (wins, credit, self.log_e) if self.decided_by == "wins" else (credit, "", self.credit_log_e)
        lines = [f"{self._said()} {first}."]
        if self.caution is not None:
            lines.append(f"  Nothing is concluded: {self.caution}.")
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

    def _said(self) -> str:
        if not self.is_valid:
            return "The experiment is void: it is broken between the merge and the click."
        if self.winner is None:
            return "Undecided."
        return f"{self.winner} is preferred."


def impressions_needed(
    preference: float, deviation: float | None = None, *, ties: float | None = None, alpha: float = 0.05, power: float = 0.8
) -> int | None:
    """How many lists it takes to see a preference in a fixed-size test; None when there is no preference to see.

    n = ((z_{1 - alpha/2} + z_power) deviation / preference)^2. A test that may be looked at all the time takes about twice
    that, and lists of one user who clicks alike count for less than as many of different users.

    Args:
        preference: The mean of a list's result (+1 won, -1 lost, 0 a tie), or any mean.
        deviation: Its standard deviation.
        ties: Instead: the share of lists that nobody wins, with or without a click. Of the others, the candidate wins the share
            (1 + preference / (1 - ties)) / 2.
        alpha: Two-sided error probability.
        power: Probability of seeing it.

    Raises:
        ConfigurationError: Both or neither of `deviation` and `ties` are given, or so many ties leave no such preference.
    """
    from statistics import NormalDist

    if (deviation is None) == (ties is None):
        raise ConfigurationError(
            f"impressions_needed got deviation={deviation!r:.30} and ties={ties!r:.30}. How much lists differ follows "
            "from either. Pass one of them."
        )
    if deviation is None:
        # 1 - .8 is a little less than .2.
        if ties is None or not 0 <= ties <= 1 or abs(preference) > 1 - ties + 1e-12:
            raise ConfigurationError(
                f"A preference of {preference!r:.30} is not to be had with ties={ties!r:.30}. Of all lists, the share "
                "that is won less the share that is lost is at most what is no tie. Pass a smaller preference, or fewer ties."
            )
        deviation = math.sqrt(max(0.0, 1 - ties - preference**2))
    if not preference or not math.isfinite(preference):
        return None
    normal = NormalDist()
    # Where every list says the same, one is enough.
    return max(1, math.ceil(((normal.inv_cdf(1 - alpha / 2) + normal.inv_cdf(power)) * deviation / preference) ** 2))
