"""Rankings as the designs read them: unique keys, the caller's items by key, and the length of the list."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from hashlib import blake2b, shake_128
from operator import index
from struct import unpack
from typing import Any, Generic, TypeVar

from rollout_sdk.exceptions import ConfigurationError
from rollout_sdk.interleaving.slots import Interleaved

__all__ = ["Coins", "Rankings", "Seed", "of_two"]

T = TypeVar("T")

Seed = int | str | bytes


class Rankings(Generic[T]):
    """The rankings to merge.

    Attributes:
        names: Names of the rankers; the first is the control.
        orders: For every ranker, the keys of its items, best first, without duplicates.
        items: For every ranker, its items.
        length: Length of the list.
        duplicates: Number of items dropped because their ranking already had their key.
    """

    __slots__ = ("duplicates", "items", "length", "names", "orders")

    def __init__(
        self,
        rankings: Mapping[str, Sequence[T]],
        k: int | None,
        key: Callable[[T], Hashable] | None,
        *,
        most: int | None = None,
    ) -> None:
        """Read the rankings.

        Raises:
            ConfigurationError: There are fewer than two rankings, or more than `most`, `k` is not a number of items, or a key
                is not hashable.
        """
        if len(rankings) < 2 or not _is_length(k):
            raise ConfigurationError(
                f"merge got {len(rankings)} rankings and k={k!r:.60}. Interleaving needs at least two rankings, and k is "
                "a whole number >= 0. Pass one ranking per ranker, by name."
            )
        if most is not None and len(rankings) > most:
            raise ConfigurationError(
                f"merge got {len(rankings)} rankings: {', '.join(rankings)}. This design is defined for {most} only. "
                "Use TeamDraft(), Probabilistic() or PairwisePreference() for more."
            )
        self.names = tuple(rankings)
        self.orders: list[list[Hashable]] = []
        self.items: list[list[T]] = []
        self.duplicates = 0
        for name, ranking in rankings.items():
            items: Any = list(ranking)
            order = items if key is None else [key(item) for item in items]
            try:
                different = len(set(order))
            except TypeError as error:
                raise ConfigurationError(
                    f"An item of {name!r:.60} cannot be distinguished from the others: {error}. Items are the same when their "
                    'keys are, and keys must be hashable. Pass key=lambda item: item["id"], or whatever identifies your items.'
                ) from error
            if different != len(order):
                # Of several items with one key, keep the first.
                by_key = dict(zip(reversed(order), reversed(items), strict=True))
                self.duplicates += len(order) - len(by_key)
                order = list(dict.fromkeys(order))
                items = [by_key[item_key] for item_key in order]
            self.orders.append(order)
            self.items.append(items)
        self.length = len(next(iter(rankings.values()))) if k is None else index(k)

    def page(self, shown: dict[Hashable, T], design: str, teams: Sequence[int] = (), **rule: Any) -> Interleaved[T]:
        """Build the list: the design's choice, filled up with unshown items, the control's first, without credit."""
        counted = len(shown)
        if counted < self.length:
            for order, items in zip(self.orders, self.items, strict=True):
                for key, item in zip(order, items, strict=True):
                    if len(shown) < self.length:
                        shown.setdefault(key, item)
            if design == "team_draft":
                teams = [*teams, *[-1] * (len(shown) - counted)]
        return Interleaved(
            items=tuple(shown.values()),
            keys=tuple(shown),
            rankers=self.names,
            design=design,
            orders=self.orders,
            teams=teams,
            counted=counted,
            duplicates=self.duplicates,
            **rule,
        )


def _is_length(k: object) -> bool:
    """Whether `k` is None or a whole number from 0, of any type."""
    try:
        return k is None or index(k) >= 0  # type: ignore[arg-type]
    except TypeError:
        return False


def of_two(rankings: Mapping[str, Sequence[T]], k: int | None, key: Callable[[T], Hashable] | None) -> Rankings[T]:
    """Read exactly two rankings, whose possible lists are enumerated.

    Raises:
        ConfigurationError: There are not two, or as for `Rankings`.
    """
    if len(rankings) > 2:
        raise ConfigurationError(
            f"distribution got {len(rankings)} rankings: {', '.join(rankings)}. More than two have too many possible lists to "
            "enumerate. Pass two."
        )
    return Rankings(rankings, k, key)


class Coins:
    """Fair coins from a seed: the same on every machine and in every version of Python.

    Bits come from BLAKE2b in counter mode, numbers from SHAKE128. Seeding a generator of `random` would cost more than merging
    a list.
    """

    __slots__ = ("_bits", "_blocks", "_left", "_seed")

    def __init__(self, seed: Seed) -> None:
        """Start at the first coin of this seed.

        Raises:
            ConfigurationError: The seed is not text, bytes or a whole number.
        """
        if isinstance(seed, int):
            seed = b"%d" % seed
        elif isinstance(seed, str):
            seed = seed.encode("utf-8", "surrogatepass")
        elif not isinstance(seed, bytes):
            raise ConfigurationError(
                f"The seed is {seed!r:.60}. It is text, bytes or a whole number, and the same one gives the same list. "
                'Pass something that identifies the request, such as f"{rollout}/{user}/{query}".'
            )
        self._seed, self._blocks, self._left, self._bits = seed, 0, 0, 0

    def bits(self, count: int) -> int:
        """Return a whole number of this many random bits, at most 64."""
        if self._left < count:
            # The first block omits the salt, which is equivalent to a salt of zeros and twice as fast.
            block = blake2b(self._seed, salt=self._blocks.to_bytes(8, "little")) if self._blocks else blake2b(self._seed)
            self._bits, self._left = int.from_bytes(block.digest(), "little"), 512
            self._blocks += 1
        found = self._bits & (1 << count) - 1
        self._bits >>= count
        self._left -= count
        return found

    def below(self, limit: int) -> int:
        """Return a whole number below `limit`; probabilities differ by at most limit / 2**48."""
        return self.bits(1) if limit == 2 else self.bits(48) * limit >> 48

    def unit(self) -> float:
        """Return a number in the open interval (0, 1)."""
        return self.units(1)[0]

    def units(self, count: int) -> list[float]:
        """Return `count` numbers in the open interval (0, 1), of 52 bits each; a large block costs little more than one."""
        block = shake_128(b"%d %b" % (self._blocks, self._seed)).digest(8 * count)
        self._blocks += 1
        return [((bits >> 12) + 0.5) / 4503599627370496.0 for bits in unpack(f"<{count}Q", block)]

    @classmethod
    def from_bits(cls, bits: int) -> Coins:
        """Return coins whose first 512 bits are given, the lowest first."""
        coins = cls(b"")
        coins._bits, coins._left = bits, 512
        return coins

    def order(self, count: int) -> list[int]:
        """Return the numbers below `count` in a uniformly random order."""
        if count == 2:
            return [0, 1] if self.bits(1) else [1, 0]
        order = list(range(count))
        for last in range(count - 1, 0, -1):
            other = self.below(last + 1)
            order[last], order[other] = order[other], order[last]
        return order
