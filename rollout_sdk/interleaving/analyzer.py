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
from rollout_sdk.interleaving.parity import on_offer
from rollout_sdk.interleaving.preferences import Preference, TrustCheck
from rollout_sdk.interleaving.slots import Interleaved
from rollout_sdk.stats import Estimate, StratifiedBuckets, confidence_sequence, log_e_one_sided, log_e_two_sided, sign_log_e

__all__ = ["InterleavingAnalyzer"]

Unit = Literal["user", "impression"]

_CONTROL, _CANDIDATE = "control", "candidate"
_ALL = ""
_TRUST = math.log(1000)
_MDE = 0.02
_LEAST = 100
"""Impressions below which nothing is said to be broken for always being the same."""
_EQUAL = 1e-9
"""Means that differ by less are equal: sums of the same parts in another order, or what a linear program leaves open."""
_FEWEST = 10
"""Expected events of which not one came: with fewer, that may be chance."""


@define
class InterleavingAnalyzer:
    """Collects the credit of interleaved lists, and says which ranker is preferred, how sure that is, and whether to trust it.

    The preference is Chapelle's: the share of lists that the candidate wins, a tie counting half, less one half: -0.5..0.5.
    Lists without a click are ties. Lists that were not interleaved are counted and left out.

    Takes 8 bytes times 512 buckets for each of a handful of sums, and about 120 bytes for every user (for the sign test).
    Not thread-safe.

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
    _by_unit: dict[int, float] = field(factory=dict, init=False, repr=False)

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
        self._clicks.add(_ALL, _CANDIDATE, bucket, float(clicked))
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
        self._contested.add(_ALL, _CANDIDATE, bucket, contested / max(1, len(page)))
        if self.unit == "user":
            self._by_unit[digest] = self._by_unit.get(digest, 0.0) + preferred

    @staticmethod
    def _add(sums: StratifiedBuckets, bucket: int, control: float, candidate: float) -> None:
        sums.add(_ALL, _CONTROL, bucket, control)
        sums.add(_ALL, _CANDIDATE, bucket, candidate)

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
        for digest, preferred in other._by_unit.items():
            self._by_unit[digest] = self._by_unit.get(digest, 0.0) + preferred

    @property
    def _sums(self) -> tuple[StratifiedBuckets, ...]:
        return self._won, self._credit, self._shown, self._first, self._clicks, self._contested

    def result(self, *, bootstrap: bool = True) -> Preference:
        """What is known by now; may be asked after every list.

        Args:
            bootstrap: Whether to resample, too, which takes some tenths of a second.
        """
        # Twice Chapelle's preference is the difference of the shares of lists won.
        found, low, high, log_e = self._sequence(self._won)
        credit, credit_low, credit_high, credit_log_e = self._sequence(self._credit)
        known = math.isfinite(found.std_error) and found.std_error > 0
        checks = self._checks()
        more, fewer = self._signs()
        return Preference(
            rankers=self.rankers,
            impressions=self.impressions,
            not_interleaved=self.not_interleaved,
            units=len(self._by_unit) if self.unit == "user" else self.impressions,
            wins=self.wins,
            losses=self.losses,
            preference=found.estimate / 2,
            std_error=found.std_error / 2 if known else None,
            low=max(-0.5, low / 2),
            high=min(0.5, high / 2),
            bootstrap=self._bootstrap() if known and bootstrap else None,
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
            decided_by="credit" if self._by_credit else "wins",
            checks=checks,
            alpha=self.alpha,
        )

    def _sequence(self, sums: StratifiedBuckets) -> tuple[Estimate, float, float, float]:
        """Candidate's mean less the control's, an interval that holds at all looks, and the evidence that it is not 0."""
        found, rho = sums.difference(_CANDIDATE, _CONTROL), (2 * self.mde) ** -2
        if not (math.isfinite(found.std_error) and found.std_error > 0):
            return found, -math.inf, math.inf, 0.0
        df = found.df or None
        low, high = confidence_sequence(found.estimate, found.std_error, rho=rho, alpha=self.alpha, df=df)
        return found, low, high, log_e_two_sided(found.estimate, found.std_error, rho=rho, df=df)

    def _signs(self) -> tuple[int, int]:
        if self.unit == "impression":
            return round(self.wins), round(self.losses)
        signs = [preferred for preferred in self._by_unit.values() if abs(preferred) > 1e-9]
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
        return (
            *((self._fair("items", items, self._shown),) if self._shown.arms() else ()),
            *((self._fair("first", first, self._first),) if self._first.arms() else ()),
            self._enough("clicks", "lists with a click, at least", self._clicks, self.least_clicked),
            self._enough(
                "competitive", "lists' worth of positions to credit, at least", self._contested, self.least_competitive
            ),
        )

    def _enough(self, name: str, what: str, sums: StratifiedBuckets, least: float) -> TrustCheck:
        """Whether a share of all lists is as large as it should be at least."""
        total, log_e = sums.totals(_ALL, _CANDIDATE)[0], 0.0
        if least and total < least * self.impressions:
            limit = StratifiedBuckets(BUCKETS)
            limit.merge(sums)
            limit.add_sums(_ALL, _CONTROL, [0.0] * BUCKETS, sums.cell(_ALL, _CANDIDATE)[1])
            found = limit.difference(_CANDIDATE, _CONTROL)
            if found.std_error > 0 and math.isfinite(found.std_error):
                log_e = log_e_one_sided(-found.estimate, found.std_error, rho=least**-2, null=-least, df=found.df or None)
            elif found.std_error == 0 and self.impressions * least >= _FEWEST:
                # The same everywhere, and that is too little.
                log_e = math.inf
        return TrustCheck(name, what, total, least * self.impressions, log_e, _TRUST)

    def _fair(self, name: str, what: str, sums: StratifiedBuckets) -> TrustCheck:
        """Whether two numbers that a fair coin makes equal are equal."""
        mine, theirs = (sums.totals(_ALL, arm)[0] for arm in (_CONTROL, _CANDIDATE))
        found = sums.difference(_CANDIDATE, _CONTROL)
        if found.std_error == 0:
            # The same in every bucket: with a fair coin impossible, unless they are equal.
            log_e = math.inf if abs(found.estimate) > _EQUAL and self.impressions >= _LEAST else 0.0
        elif math.isfinite(found.std_error):
            log_e = log_e_two_sided(found.estimate, found.std_error, rho=(2 * self.mde) ** -2, df=found.df)
        else:
            log_e = 0.0
        return TrustCheck(name, what, theirs, mine, log_e, _TRUST)

    def _bootstrap(self, rounds: int = 1000) -> tuple[float, float]:
        """An interval from resampling buckets of users: for a single look, and without any assumption of normality."""
        rng = random.Random(self.seed)
        cells = [self._won.cell(_ALL, arm) for arm in (_CONTROL, _CANDIDATE)]
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
