"""Places candidates on the unit interval so that few units move when shares change.

No rule based on the current shares alone can keep users with their candidate. Take `a` and `b` with 50 % each: raising `b` from
0 must leave `a` its half, and vice versa, so their halves are disjoint; the same holds for `a` and `c`, and for `b` and `c`;
but an interval has no three disjoint halves. So each placement is derived from the previous one (`place`) and stored with the
phase. The first one depends on names only, and on other candidates only where space is short.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from hashlib import blake2b
from itertools import pairwise
from typing import Any, TypeAlias

from rollout_sdk.assignment.hashing import INTERVAL
from rollout_sdk.assignment.shares import Share, parse_share
from rollout_sdk.exceptions import ConfigurationError

__all__ = ["Lane", "check_lanes", "lanes", "moved_units", "place"]

Lane: TypeAlias = tuple[int, int, str]
"""A piece of the unit interval: first point, point after the last (both in 2**-32), and the candidate that owns it."""

_Piece: TypeAlias = tuple[int, int]

_ROUNDING = 8
"""Points by which rounded shares may exceed the whole: see `Phase`."""

_INDEX_BITS = 24
"""More bits than any character needs."""

_DIGITS = "1234567" + "089"


def _start(name: str) -> int:
    """Return the start of a candidate's lane, a function of its name alone.

    Names that differ only in their last character (a, b, c, d; v1, v2, v3, v4) start far apart, by the van der Corput sequence:
    the first two are half an interval apart, the first four a quarter. Other names start anywhere.
    """
    digest = blake2b(name[:-1].encode("utf-8", "surrogatepass"), digest_size=4).digest()
    turned = int(f"{_index(name[-1:]):0{_INDEX_BITS}b}"[::-1], 2) << (32 - _INDEX_BITS)
    return (int.from_bytes(digest, "big") + turned) % INTERVAL


def _index(character: str) -> int:
    """Return a character's position in its series: a, A and 1 come first, and 0 comes eighth, just before 1 on the circle."""
    if character in _DIGITS:
        return _DIGITS.index(character) % 8
    return ord(character.lower()[0]) - ord("a") if "a" <= character.lower() <= "z" else ord(character or " ")


class _Room:
    """The unit interval from one candidate's view: upwards from its start to the next candidate's, then downwards.

    Two candidates fill the space between them from its two ends, so they meet only once everything is taken.
    """

    def __init__(self, start: int, home: int) -> None:
        """Set the view: it begins at `start`, and the next candidate starts `home` points further up."""
        self._start = start
        self._home = home

    def _ahead(self, pieces: Iterable[_Piece]) -> tuple[list[_Piece], list[_Piece]]:
        """Convert pieces to distances: inside the home counted upwards from the start, outside it downwards."""
        up, down = [], []
        for low, high in pieces:
            first = (low - self._start) % INTERVAL
            last = first + high - low
            # A piece that crosses the start is cut there.
            for begin, end in ((first, min(last, INTERVAL)), (0, last - INTERVAL)):
                if begin < min(end, self._home):
                    up.append((begin, min(end, self._home)))
                if max(begin, self._home) < end:
                    down.append((INTERVAL - end, INTERVAL - max(begin, self._home)))
        return sorted(up), sorted(down)

    def _back(self, up: Iterable[_Piece], down: Iterable[_Piece]) -> list[_Piece]:
        """Convert distances back to pieces of the interval: parts of those from which they were made."""
        pieces = []
        for low, high in (*up, *((INTERVAL - end, INTERVAL - begin) for begin, end in down)):
            first = (low + self._start) % INTERVAL
            pieces.append((first, first + high - low))
        return pieces

    def nearest(self, pieces: Iterable[_Piece], size: int, *, at_home: bool = False) -> list[_Piece]:
        """Take `size` points of these pieces in the candidate's filling order; `at_home`: only inside its home."""
        up, down = self._ahead(pieces)
        taken_up = _first(up, size)
        taken_down = [] if at_home else _first(down, size - _size(taken_up))
        return self._back(taken_up, taken_down)


def _first(distances: list[_Piece], size: int) -> list[_Piece]:
    """Take the first `size` points of sorted pieces."""
    taken = []
    for low, high in distances:
        if size <= 0:
            break
        taken.append((low, min(high, low + size)))
        size -= high - low
    return taken


def _size(pieces: Iterable[_Piece]) -> int:
    return sum(high - low for low, high in pieces)


def _joined(pieces: Iterable[_Piece]) -> list[_Piece]:
    """Merge adjacent pieces, in order."""
    joined: list[_Piece] = []
    for low, high in sorted(pieces):
        if joined and low <= joined[-1][1]:
            joined[-1] = joined[-1][0], max(high, joined[-1][1])
        else:
            joined.append((low, high))
    return joined


def _free(owned: Iterable[Iterable[_Piece]]) -> list[_Piece]:
    """Return the rest of the interval, which the control owns."""
    free, position = [], 0
    for low, high in _joined(piece for pieces in owned for piece in pieces):
        free.append((position, low))
        position = high
    return [piece for piece in (*free, (position, INTERVAL)) if piece[0] < piece[1]]


def _without(free: Iterable[_Piece], taken: Iterable[_Piece]) -> list[_Piece]:
    """Remove taken points from free pieces."""
    left, cuts = [], sorted(taken)
    for low, high in free:
        position = low
        for begin, end in cuts:
            if low <= begin < high:
                left.append((position, begin))
                position = end
        left.append((position, high))
    return [piece for piece in left if piece[0] < piece[1]]


def place(previous: Iterable[Lane], shares: Mapping[str, float]) -> tuple[Lane, ...]:
    """Derive the lanes of new shares from the previous lanes, moving as few units as possible.

    A candidate whose share falls, or that is removed, gives units to the control, the last acquired first; one whose share
    rises, or that is new, takes units from the control. Along any chain of changes, no unit moves from one candidate to
    another, except where the control has too few: then one candidate takes what another gives in the same change. The result
    depends on nothing else: every process that makes the same changes gets the same lanes.

    Args:
        previous: The previous lanes; empty for a new rollout.
        shares: Share of each candidate, at most 1 together; the control gets the rest.
    """
    return _placed(tuple(previous), tuple(shares.items()))


# Services that decorate in each request ask for the same lanes again and again.
@lru_cache(maxsize=256)
def _placed(previous: tuple[Lane, ...], of_each: tuple[tuple[str, float], ...]) -> tuple[Lane, ...]:
    shares = dict(of_each)
    starts = sorted((_start(name), name) for name in shares)
    nexts = [start for start, _ in starts[1:]] + [start + INTERVAL for start, _ in starts[:1]]
    rooms = {name: _Room(start, after - start) for (start, name), after in zip(starts, nexts, strict=True)}
    wants = {name: round(shares[name] * INTERVAL) for name in sorted(shares)}
    before: dict[str, list[_Piece]] = {name: [] for name in wants}
    for low, high, name in previous:
        before.setdefault(name, []).append((low, high))
    owned = {name: rooms[name].nearest(before[name], want) for name, want in wants.items()}
    # First the units that the control already had, then those released now; each time homes first, so that no other
    # candidate lacks them there.
    for taken in ((*before.values(), *owned.values()), owned.values()):
        free = _free(taken)
        for at_home in (True, False):
            for name, want in wants.items():
                if (missing := want - _size(owned[name])) > 0:
                    more = rooms[name].nearest(free, missing, at_home=at_home)
                    owned[name] += more
                    free = _without(free, more)
    return tuple(sorted((low, high, name) for name, pieces in owned.items() for low, high in _joined(pieces)))


def lanes(shares: Mapping[str, float]) -> list[tuple[float, float, str]]:
    """Return the pieces (start, end, candidate) of the unit interval owned by candidates of a new rollout, sorted."""
    return [(low / INTERVAL, high / INTERVAL, name) for low, high, name in place((), shares)]


def moved_units(before: Mapping[str, Share], after: Mapping[str, Share]) -> dict[tuple[str, str], float]:
    """Return the share of the units that moves from one variant to another if shares change between two starts without a store.

    With two candidates, no more units move than necessary, whatever their shares. Check this before you restart three or more
    with other shares, or add or remove one: `moved_units({"a": 0.2, "b": 0.2}, {"a": 0.2, "b": 0.2, "c": 0.2})` is
    `{("control", "c"): 0.2}`. With a store (`Runtime(store=...)`), a rollout continues from its current lanes, and no unit
    moves from one candidate to another.

    Args:
        before: Share of each candidate before; the control, here "control", gets the rest.
        after: Share of each candidate after.

    Returns:
        Share by (variant before, variant after), without units that stay.

    Raises:
        ConfigurationError: A value is not a share.
    """
    placed = [
        place((), {name: parse_share(share, f"share of {name!r}") for name, share in each.items()}) for each in (before, after)
    ]
    edges = sorted({0, INTERVAL, *(edge for lanes_ in placed for low, high, _ in lanes_ for edge in (low, high))})
    moved: dict[tuple[str, str], float] = {}
    for low, high in pairwise(edges):
        one, other = (next((name for first, end, name in lanes_ if first <= low < end), "control") for lanes_ in placed)
        if one != other:
            moved[one, other] = moved.get((one, other), 0.0) + (high - low) / INTERVAL
    return moved


def check_lanes(pieces: Iterable[Any], shares: Mapping[str, float]) -> tuple[Lane, ...]:
    """Validate lanes from elsewhere and return them.

    Raises:
        ConfigurationError: They are not lanes of these shares.
    """
    lanes_ = tuple(sorted((low, high, name) for low, high, name in pieces))
    position, sizes = 0, dict.fromkeys(shares, 0)
    for low, high, name in lanes_:
        if type(low) is not int or type(high) is not int or not position <= low < high <= INTERVAL or name not in sizes:
            raise _not_lanes(lanes_, shares)
        position = high
        sizes[name] += high - low
    # A lane may lack a few points if the rounded sizes exceed the whole.
    if any(abs(size - round(shares[name] * INTERVAL)) > len(shares) + _ROUNDING for name, size in sizes.items()):
        raise _not_lanes(lanes_, shares)
    return lanes_


def _not_lanes(lanes_: tuple[Lane, ...], shares: Mapping[str, float]) -> ConfigurationError:
    return ConfigurationError(
        f"{lanes_!r:.200} are not the lanes of {dict(shares)!r:.100}. A lane is a first point, the point after the last, and a "
        "candidate; lanes do not overlap, and give each candidate its share. Leave lanes= out."
    )
