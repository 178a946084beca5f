"""Which of two rankers users prefer, from many interleaved lists: with the user as the unit, and honest under peeking."""

from __future__ import annotations

import math
import random
from collections.abc import Hashable, Mapping
from hashlib import blake2b
from typing import Any, Literal, get_args

from attrs import define, field, validators

from rollout_sdk.assignment import BUCKETS, canonical
from rollout_sdk.exceptions import ConfigurationError
from rollout_sdk.interleaving.activity import Activity
from rollout_sdk.interleaving.preferences import Preference, TrustCheck
from rollout_sdk.interleaving.slots import Interleaved
from rollout_sdk.interleaving.trust import CANDIDATE, CONTROL, WHOLE, Trust, on_offer
from rollout_sdk.stats import (
    MIN_EFFECTIVE_UNITS,
    Estimate,
    StratifiedBuckets,
    confidence_sequence,
    log_e_two_sided,
    sign_log_e,
)

__all__ = ["InterleavingAnalyzer"]

Unit = Literal["user", "impression"]

_MDE = 0.02
_EQUAL = 1e-9
"""Net preferences that are smaller are none: sums of the same parts in another order."""
_FIRST_LOOK, _LOOK_AGAIN = 200, 1.25
"""Trust checks are looked at from so many lists on, and whenever there are so many times as many."""


@define
class InterleavingAnalyzer:
    """Collects the credit of interleaved lists, and says which ranker is preferred, how sure that is, and whether to trust it.

    The preference is Chapelle's: the share of lists that the candidate wins, a tie counting half, less one half: -0.5..0.5.
    Lists without a click are ties. Lists that were not interleaved are counted and left out.

    Nothing is concluded before the credit is that of 100 equally active units (`Preference.effective_units`): a bot with most
    of the clicks decides nothing, and `Preference.caution` names its share. More is not asked for: so many units with a
    click are enough for a mean, and that nearly all of them prefer one ranker makes it surer, not less sure.

    A trust check that has once been broken stays so, as the first alarm is the one whose error probability is bounded: checks
    are looked at whenever a result is asked for, and now and then while lists are added. Fix the cause, and begin anew.

    Takes 8 bytes times 512 buckets for each of a handful of sums, and about 250 bytes for every user. Not thread-safe.

    Attributes:
        unit: "user": lists of one user belong together, and are never taken for independent. "impression": every list is a unit
            of its own, which is right only if no user sees two.
        alpha: Error probability of the intervals and of the verdict.
        mde: The preference at which the test is most sensitive. Fix it before looking.
        least_clicked: The share of lists with a click below which clicks must be getting lost: the experiment is void.
        least_competitive: The share of positions that can be credited below which there is nothing to compare: it is void, too.
        seed: Of the bootstrap.
    """

    unit: Unit = field(default="user", validator=validators.in_(get_args(Unit)))
    alpha: float = field(default=0.05, kw_only=True, validator=[validators.gt(0), validators.lt(1)])
    mde: float = field(default=_MDE, kw_only=True, validator=[validators.gt(0), validators.lt(0.5)])
    least_clicked: float = field(default=0.001, kw_only=True, validator=[validators.ge(0), validators.lt(1)])
    least_competitive: float = field(default=0.01, kw_only=True, validator=[validators.ge(0), validators.lt(1)])
    seed: int = field(default=0, kw_only=True)
    rankers: tuple[str, ...] = field(default=(), init=False)
    impressions: int = field(default=0, init=False)
    not_interleaved: int = field(default=0, init=False)
    wins: float = field(default=0.0, init=False)
    losses: float = field(default=0.0, init=False)
    clicked: int = field(default=0, init=False)
    competitive: int = field(default=0, init=False)
    positions: int = field(default=0, init=False)
    _won: StratifiedBuckets = field(init=False)
    _credit: StratifiedBuckets = field(init=False)
    _shown: StratifiedBuckets = field(init=False)
    _first: StratifiedBuckets = field(init=False)
    _clicks: StratifiedBuckets = field(init=False)
    _contested: StratifiedBuckets = field(init=False)
    _by_share: bool = field(default=False, init=False, repr=False)
    _by_credit: bool = field(default=False, init=False, repr=False)
    _activity: Activity = field(factory=Activity, init=False, repr=False)
    _broken: set[str] = field(factory=set, init=False, repr=False, eq=False)
    _next_look: int = field(default=_FIRST_LOOK, init=False, repr=False, eq=False)

    def __attrs_post_init__(self) -> None:
        """Begin with nothing."""
        self._won, self._credit, self._shown, self._first = (StratifiedBuckets(BUCKETS) for _ in range(4))
        self._clicks, self._contested = (StratifiedBuckets(BUCKETS) for _ in range(2))

    def add(self, unit: Hashable, page: Interleaved[Any], clicks: Mapping[Any, float]) -> None:
        """Add one list that was shown, and what was clicked on it, when no more clicks are to come.

        Args:
            unit: Id of the user; of every list with `unit="impression"`. It is not kept.
            page: The list.
            clicks: Weight of each clicked item by its key; none for no click.

        Raises:
            ConfigurationError: It has not two rankers, or others than the lists before.
            UnknownItemError: A clicked item is not in the list.
        """
        if len(page.rankers) != 2 or (self.rankers and page.rankers != self.rankers):
            raise ConfigurationError(
                f"A list of {', '.join(page.rankers)} cannot be analysed"
                f"{' with lists of ' + ', '.join(self.rankers) if self.rankers else ''}. "
                "An analyzer compares two rankers, always the same. Make one for every pair."
            )
        if not page.is_interleaved:
            self.not_interleaved += 1
            return
        preferred, credit = page.preference(clicks), page.credit(clicks)
        self.rankers = page.rankers
        digest = _digest(unit)
        bucket = digest % BUCKETS
        self.impressions += 1
        clicked = any(weight for weight in clicks.values())
        self.clicked += clicked
        self._clicks.add(WHOLE, CANDIDATE, bucket, float(clicked))
        self.wins += max(preferred, 0.0)
        self.losses += max(-preferred, 0.0)
        self._add(self._won, bucket, max(-preferred, 0.0), max(preferred, 0.0))
        self._add(self._credit, bucket, *(credit[name] for name in page.rankers))
        self.positions += len(page)
        contested, offered, first = on_offer(page)
        if offered is not None:
            self._add(self._shown, bucket, *offered)
        if first is not None:
            self._add(self._first, bucket, *first)
        self._by_share |= bool(page.shares)
        self._by_credit |= not page.is_won_fairly
        self.competitive += contested
        self._contested.add(WHOLE, CANDIDATE, bucket, contested / max(1, len(page)))
        self._activity.add(digest if self.unit == "user" else None, preferred, math.fsum(map(abs, credit.values())))
        if self.impressions >= self._next_look:
            self._next_look = math.ceil(self.impressions * _LOOK_AGAIN)
            self._checks()

    @staticmethod
    def _add(sums: StratifiedBuckets, bucket: int, control: float, candidate: float) -> None:
        sums.add(WHOLE, CONTROL, bucket, control)
        sums.add(WHOLE, CANDIDATE, bucket, candidate)

    def merge(self, other: InterleavingAnalyzer) -> None:
        """Add what another process has collected.

        Raises:
            ConfigurationError: It compares other rankers, or by another unit.
        """
        if self.unit != other.unit or (self.rankers and other.rankers and self.rankers != other.rankers):
            raise ConfigurationError(
                f"An analyzer of {', '.join(other.rankers)} by {other.unit} cannot be added to one of "
                f"{', '.join(self.rankers)} by {self.unit}. They say different things. Merge what compares the same."
            )
        self.rankers = self.rankers or other.rankers
        self._by_share |= other._by_share
        self._by_credit |= other._by_credit
        for name in ("impressions", "not_interleaved", "wins", "losses", "clicked", "competitive", "positions"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for mine, theirs in zip(self._sums, other._sums, strict=True):
            mine.merge(theirs)
        self._activity.merge(other._activity)
        self._broken |= other._broken
        self._next_look = max(self._next_look, other._next_look)

    @property
    def _sums(self) -> tuple[StratifiedBuckets, ...]:
        return self._won, self._credit, self._shown, self._first, self._clicks, self._contested

    def result(self, *, bootstrap: bool = True) -> Preference:
        """What is known by now; may be asked after every list.

        Args:
            bootstrap: Whether to resample, too, which takes some tenths of a second.
        """
        # Twice Chapelle's preference is the difference of the shares of lists won.
        found, low, high, log_e = self._sequence(self._won, self._activity.effective("wins")[0])
        credit, credit_low, credit_high, credit_log_e = self._sequence(self._credit, self._activity.effective("credit")[0])
        known = math.isfinite(found.std_error) and found.std_error > 0
        decided_by: Literal["wins", "credit"] = "credit" if self._by_credit else "wins"
        effective, heaviest = self._activity.effective(decided_by)
        checks = self._checks()
        more, fewer = self._signs()
        return Preference(
            rankers=self.rankers,
            impressions=self.impressions,
            not_interleaved=self.not_interleaved,
            units=len(self._activity) if self.unit == "user" else self.impressions,
            effective_units=effective,
            heaviest=heaviest,
            wins=self.wins,
            losses=self.losses,
            preference=found.estimate / 2,
            std_error=found.std_error / 2 if known else None,
            low=max(-0.5, low / 2),
            high=min(0.5, high / 2),
            bootstrap=self._bootstrap() if known and bootstrap and effective >= MIN_EFFECTIVE_UNITS else None,
            log_e=log_e,
            units_for=more,
            units_against=fewer,
            sign_log_e=sign_log_e(more, fewer),
            clicked=self.clicked,
            competitive=self.competitive / self.positions if self.positions else 0.0,
            credit=credit.estimate,
            credit_low=credit_low,
            credit_high=credit_high,
            credit_log_e=credit_log_e,
            decided_by=decided_by,
            checks=checks,
            alpha=self.alpha,
        )

    def _sequence(self, sums: StratifiedBuckets, effective: float) -> tuple[Estimate, float, float, float]:
        """Candidate's mean less the control's, an interval that holds at all looks, and the evidence that it is not 0."""
        found, rho = sums.difference(CANDIDATE, CONTROL, paired=True), (2 * self.mde) ** -2
        if effective < MIN_EFFECTIVE_UNITS or not math.isfinite(found.std_error):
            return found, -math.inf, math.inf, 0.0
        # Where all units prefer the same alike, half a unit more may prefer the opposite: that is sure, and not unknown.
        std_error = max(found.std_error, math.sqrt(2) * abs(found.estimate) / effective)
        if not std_error:
            return found, -math.inf, math.inf, 0.0
        df = found.df or None
        low, high = confidence_sequence(found.estimate, std_error, rho=rho, alpha=self.alpha, df=df)
        return found, low, high, log_e_two_sided(found.estimate, std_error, rho=rho, df=df)

    def _signs(self) -> tuple[int, int]:
        if self.unit == "impression":
            return round(self.wins), round(self.losses)
        signs = [preferred for preferred in self._activity.preferences() if abs(preferred) > _EQUAL]
        more = sum(preferred > 0 for preferred in signs)
        return more, len(signs) - more

    def _checks(self) -> tuple[TrustCheck, ...]:
        if not self.impressions:
            return ()
        items, first = (
            ("credit on offer to the candidate, as to the control", "the same at the first position that counts")
            if self._by_share
            else (
                "items that the candidate placed, as the control did",
                "lists on which the candidate was the first to place one, as the control was",
            )
        )
        is_known = self._activity.effective("lists")[0] >= MIN_EFFECTIVE_UNITS
        trust = Trust(self.impressions, is_known, self.mde, frozenset(self._broken))
        checks = (
            *((trust.fair("items", items, self._shown),) if self._shown.arms() else ()),
            *((trust.fair("first", first, self._first),) if self._first.arms() else ()),
            trust.enough("clicks", "lists with a click, at least", self._clicks, self.least_clicked),
            trust.enough(
                "competitive", "lists' worth of positions to credit, at least", self._contested, self.least_competitive
            ),
        )
        self._broken.update(check.name for check in checks if check.is_broken)
        return checks

    def _bootstrap(self, rounds: int = 1000) -> tuple[float, float]:
        """An interval from resampling buckets of users: for a single look, and without any assumption of normality."""
        rng = random.Random(self.seed)
        cells = [self._won.cell(WHOLE, arm) for arm in (CONTROL, CANDIDATE)]
        (lost, shown), (won, _) = cells
        full = [bucket for bucket in range(BUCKETS) if shown[bucket]]
        gains, sizes = [won[b] - lost[b] for b in full], [shown[b] for b in full]
        found = []
        for _ in range(rounds):
            drawn = rng.choices(range(len(full)), k=len(full))
            found.append(sum(gains[at] for at in drawn) / sum(sizes[at] for at in drawn) / 2)
        found.sort()
        cut = self.alpha / 2 * rounds
        return found[int(cut)], found[rounds - 1 - int(cut)]


def _digest(unit: Hashable) -> int:
    raw = canonical(unit)
    if raw is None:
        raise ConfigurationError(
            f"{unit!r:.60} is no user's id: it has no bytes that are the same in every process. "
            "Who a list was shown to is needed to put the lists of one user together. Pass text or a number."
        )
    return int.from_bytes(blake2b(raw, digest_size=8, person=b"rollout.ilv").digest(), "big")
