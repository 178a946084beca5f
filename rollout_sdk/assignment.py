"""Who gets which variant: the same answer in every process, for ever, with nothing remembered.

A unit is hashed once, with a keyed 64-bit blake2b digest of (rollout key or layer, unit). The upper 32 bits are its point
on the unit interval, the lowest 9 its statistics bucket, and the bits between decide the holdout: three independent
draws, so that a 1 % arm is spread over all 512 buckets. Candidates own lanes of the interval that grow from a fixed end,
so that raising a share only ever moves units from the control to that candidate.
"""

from __future__ import annotations

import math
import operator
import unicodedata
from bisect import bisect_right
from collections.abc import Callable, Hashable, Iterable, Mapping
from hashlib import blake2b
from numbers import Real
from types import MappingProxyType
from typing import Any, TypeAlias
from uuid import UUID

from attrs import field, frozen

from rollout_sdk.exceptions import ConfigurationError
from rollout_sdk.records import Decision

__all__ = [
    "BUCKETS",
    "DEFAULT_SALT",
    "INTERVAL",
    "Binder",
    "Layer",
    "Outline",
    "Phase",
    "RouteRequest",
    "Share",
    "Split",
    "UnitHash",
    "canonical",
    "parse_share",
    "percent",
    "phase_label",
]

Binder: TypeAlias = Callable[[tuple[Any, ...], Mapping[str, Any]], Mapping[str, Any]]
"""Makes arguments by parameter name of positional and keyword arguments."""

Share: TypeAlias = float | str
"""A share of the units: a number between 0 and 1, or a text such as "5%" or "0.05%"."""

BUCKETS = 512
"""Statistics buckets: enough for a variance with 6 % relative error, few enough for constant memory."""

DEFAULT_SALT = b"rollout_sdk"
"""Hash key when none is set. Public: whoever may choose ids can then choose an arm; set a key where that matters."""

_LONGEST_ID = 1024
_NFD_GROWTH = 4
"""A text of n composed characters has at most 4 n in any other form of Unicode."""

_LONGEST_LABEL = 100
_MOST_PARTS = 64
_DEEPEST = 4
INTERVAL = 1 << 32
"""Points of the unit interval."""

_BUCKET_MASK = BUCKETS - 1
_HOLDOUT_SHIFT = 9
_HOLDOUT_MASK = (1 << 23) - 1


def canonical(unit: object) -> bytes | None:
    """The bytes that stand for a unit, or None when it names nobody (None, NaN, an empty text) or is of no known type.

    Known are text, bytes, integers (numpy's too), floats, booleans, UUIDs, and tuples of these. The type is part of the
    name: 1, "1", 1.0 and True are four units. Text is compared in its composed form (NFC). Of an id over 1,024 characters,
    bytes or bits only both ends and the length count, so that a hostile id costs no time. Never raises.
    """
    # Nearly every unit is a short plain text.
    if type(unit) is str and 0 < len(unit) <= _LONGEST_ID and unit.isascii():
        return b"s" + unit.encode()
    try:
        return _canonical(unit, 0)
    # An object that lies about its type, or whose `__index__` fails, names nobody.
    except (Exception, SystemExit):
        return None


def _canonical(unit: object, depth: int) -> bytes | None:
    if isinstance(unit, str):
        return _text(unit) if unit else None
    if isinstance(unit, bool):
        return b"t" if unit else b"f"
    if isinstance(unit, int):
        return _integer(unit)
    if isinstance(unit, bytes):
        return (b"b" + unit if len(unit) <= _LONGEST_ID else b"B" + _ends(unit)) if unit else None
    if isinstance(unit, float):
        # Adding zero makes one of 0.0 and -0.0.
        return None if math.isnan(unit) else b"r" + repr(float(unit) + 0.0).encode()
    if isinstance(unit, UUID):
        return b"u" + unit.bytes
    if isinstance(unit, tuple):
        if not 0 < len(unit) <= _MOST_PARTS or depth == _DEEPEST:
            return None
        parts = [_canonical(part, depth + 1) for part in unit]
        # Each part's length comes first, so that ("a", "bc") and ("ab", "c") are not one.
        return None if None in parts else b"(" + b"".join(b"%d:" % len(part) + part for part in parts if part is not None)
    return _integer(operator.index(unit))  # type: ignore[arg-type]


def _text(unit: str) -> bytes:
    text = unit
    if not text.isascii() and len(text) <= _LONGEST_ID * _NFD_GROWTH:
        text = unicodedata.normalize("NFC", text)
    if len(text) <= _LONGEST_ID:
        return b"s" + text.encode("utf-8", "surrogatepass")
    half = _LONGEST_ID // 2
    return b"S" + f"{len(text)}:{text[:half]}{text[-half:]}".encode("utf-8", "surrogatepass")


def _integer(number: int) -> bytes:
    bits = number.bit_length()
    if bits <= _LONGEST_ID:
        return b"i%d" % number
    half = _LONGEST_ID // 2
    return b"I%d:%d:%d" % (bits, number >> (bits - half), number & ((1 << half) - 1))


def _ends(raw: bytes) -> bytes:
    half = _LONGEST_ID // 2
    return b"%d:" % len(raw) + raw[:half] + raw[-half:]


def _slot_edge(share: Share) -> float:
    return parse_share(share, "edge of a layer's slot")


@frozen
class Layer:
    """A share of the units that a rollout may use, so that rollouts of one layer never meet the same unit.

    Rollouts that name the same layer hash units alike; each takes a slot of the layer of its own. A unit outside the slot
    gets the control and is not analysed. Shares of the rollout are shares of its slot.

    Attributes:
        name: Name of the layer.
        start: Where the slot starts, from 0 to 1 (or "50%").
        end: Where it ends, excluded.
    """

    name: str
    start: float = field(default=0.0, converter=_slot_edge)
    end: float = field(default=1.0, converter=_slot_edge)

    def __attrs_post_init__(self) -> None:
        """Refuse an empty slot."""
        if self.start >= self.end:
            raise ConfigurationError(
                f"The slot of layer {self.name!r} runs from {self.start} to {self.end}. "
                "A slot must end after it starts. Give start= and end= in that order."
            )

    def has(self, point: float) -> bool:
        """Whether a unit's point lies in the slot."""
        return self.start <= point < self.end

    def position(self, point: float) -> float:
        """Where a point lies in the slot, from 0 to 1; a point outside stays as it is."""
        return (point - self.start) / (self.end - self.start) if self.has(point) else point

    def overlaps(self, other: Layer) -> bool:
        """Whether a unit could be in both slots."""
        return self.name == other.name and self.start < other.end and other.start < self.end


class UnitHash:
    """The keyed hash of one rollout (or layer): a prepared hasher that is copied for every unit.

    Attributes:
        prepared: The hasher to copy.
    """

    __slots__ = ("prepared",)

    def __init__(self, salt: str, key: bytes | None = None) -> None:
        """Prepare the hash.

        Args:
            salt: The rollout's key, or the layer's name: what makes two rollouts independent.
            key: Secret of at most 64 bytes; `DEFAULT_SALT` when there is none.
        """
        self.prepared = blake2b(digest_size=8, key=DEFAULT_SALT if key is None else key)
        name = salt.encode("utf-8", "surrogatepass")
        # The length comes first, so that ("a", "bc") and ("ab", "c") are not one.
        self.prepared.update(b"%d:" % len(name) + name)

    def __call__(self, unit: bytes) -> int:
        """The 64-bit digest of a canonical unit."""
        hasher = self.prepared.copy()
        hasher.update(unit)
        return int.from_bytes(hasher.digest(), "big")


def point_of(digest: int) -> float:
    """The unit's point, a multiple of 2**-32 in [0, 1)."""
    return (digest >> 32) / INTERVAL


def bucket_of(digest: int) -> int:
    """The unit's statistics bucket, from 0 to 511."""
    return digest & _BUCKET_MASK


def holdout_point(digest: int) -> float:
    """A second point in [0, 1), independent of the first and of the bucket."""
    return (digest >> _HOLDOUT_SHIFT & _HOLDOUT_MASK) / (_HOLDOUT_MASK + 1)


def parse_share(value: object, subject: str = "share") -> float:
    """A share as a number from 0 to 1.

    Args:
        value: A number from 0 to 1, or a text with a percent sign ("5%", "0.05%").
        subject: What is named in the error.

    Raises:
        ConfigurationError: It is neither, is not finite, or is outside 0 to 1.
    """
    share: float | None = None
    try:
        if isinstance(value, str) and value.strip().endswith("%"):
            share = float(value.strip()[:-1]) / 100
        elif not isinstance(value, bool) and isinstance(value, Real):
            share = float(value)
    # An integer beyond the largest float is no share either.
    except (OverflowError, ValueError):
        share = None
    if share is None or not math.isfinite(share):
        raise ConfigurationError(
            f"The {subject} is {value!r:.60}. A share is a number from 0 to 1 or a text with a percent sign. "
            "Write 0.05 or '5%'."
        )
    if not 0 <= share <= 1:
        hint = f" Did you mean '{value}%'?" if not isinstance(value, str) and 1 < share <= 100 else ""
        raise ConfigurationError(f"The {subject} is {value!r:.60}. A share lies between 0 (nobody) and 1 (everybody).{hint}")
    # Adding zero makes one of 0.0 and -0.0.
    return share + 0.0


def percent(share: float) -> str:
    """A share as text: 0.05 is "5%"."""
    return f"{share * 100:.6g}%"


def phase_label(shares: Mapping[str, float]) -> str:
    """The shares of a phase as its name: "5%" for one candidate, "v2=5%,v3=10%" for several, "12 candidates 60%" for many."""
    if len(shares) == 1:
        return percent(next(iter(shares.values())))
    label = ",".join(f"{name}={percent(share)}" for name, share in shares.items())
    return label if len(label) <= _LONGEST_LABEL else f"{len(shares)} candidates {percent(math.fsum(shares.values()))}"


def _fill(gaps: list[tuple[int, int]], want: int, *, upwards: bool, start: int) -> list[tuple[int, int]]:
    """Take `want` points out of the free gaps, from `start` on in one direction and round the end; shrinks `gaps`."""
    taken = []
    ordered = sorted(gaps, key=lambda gap: (gap[0] - start) % INTERVAL if upwards else (start - gap[1]) % INTERVAL)
    for low, high in ordered:
        size = min(want, high - low)
        if size == 0:
            continue
        piece = (low, low + size) if upwards else (high - size, high)
        taken.append(piece)
        gaps.remove((low, high))
        rest = (low + size, high) if upwards else (low, high - size)
        if rest[0] < rest[1]:
            gaps.append(rest)
        want -= size
    return taken


def lanes(shares: Mapping[str, float]) -> list[tuple[float, float, str]]:
    """The pieces (start, end, candidate) of the unit interval that the candidates own, sorted; the rest is the control's.

    Each of n candidates, in order of name, has a lane 1/n wide; every other lane fills from its upper end, so that two
    candidates only meet when together they own everything. While no candidate has more than 1/n (for two candidates:
    always), changing one share never moves another candidate's units. A larger share overflows into free lanes.
    """
    names = sorted(shares)
    if not names:
        return []
    edges = [INTERVAL * index // len(names) for index in range(len(names) + 1)]
    wants = {name: round(shares[name] * INTERVAL) for name in names}
    owned: list[tuple[int, int, str]] = []
    gaps: list[tuple[int, int]] = []
    for index, name in enumerate(names):
        low, high = edges[index], edges[index + 1]
        size = min(wants[name], high - low)
        upwards = index % 2 == 0
        owned.append((low, low + size, name) if upwards else (high - size, high, name))
        gaps.append((low + size, high) if upwards else (low, high - size))
    for index, name in enumerate(names):
        low, high = edges[index], edges[index + 1]
        if wants[name] > high - low:
            upwards = index % 2 == 0
            start = high % INTERVAL if upwards else low
            pieces = _fill(gaps, wants[name] - (high - low), upwards=upwards, start=start)
            owned.extend((piece[0], piece[1], name) for piece in pieces)
    return sorted((low / INTERVAL, high / INTERVAL, name) for low, high, name in owned if low < high)


class Split:
    """The decisions of one set of shares, built once: a call costs a binary search and no new object."""

    __slots__ = ("_bounds", "_decisions", "_shadowed")

    def __init__(self, shares: Mapping[str, float], control: str) -> None:
        """Lay the lanes.

        Args:
            shares: Share of each candidate; the control gets what is left.
            control: Name of the control.
        """
        candidates = tuple(shares)
        rest = max(0.0, 1.0 - math.fsum(shares.values()))
        served = {name: self._decision(name, share) for name, share in shares.items()}
        served[control] = self._decision(control, rest)
        bounds: list[float] = []
        owners: list[str] = []
        position = 0.0
        for low, high, name in lanes(shares):
            if position < low:
                bounds.append(position)
                owners.append(control)
            bounds.append(low)
            owners.append(name)
            position = high
        if position < 1.0:
            bounds.append(position)
            owners.append(control)
        self._bounds = bounds[1:]
        self._decisions = [served[owner] for owner in owners]
        self._shadowed = [self._with_shadows(decision, control, candidates) for decision in self._decisions]

    @staticmethod
    def _decision(name: str, share: float) -> Decision:
        return Decision(variant=name, reason="static" if share >= 1.0 else "split", propensity=share, share=share)

    @staticmethod
    def _with_shadows(decision: Decision, control: str, candidates: tuple[str, ...]) -> Decision:
        if decision.variant != control:
            return decision
        return Decision(control, decision.reason, decision.propensity, shadows=candidates, share=decision.share)

    def decide(self, point: float) -> Decision:
        """The decision for a point of the unit interval."""
        return self._decisions[bisect_right(self._bounds, point)]

    def decide_shadowed(self, point: float) -> Decision:
        """The same, and where the control answers, every candidate runs as a shadow."""
        return self._shadowed[bisect_right(self._bounds, point)]


def _as_shares(shares: Mapping[str, Share]) -> Mapping[str, float]:
    return MappingProxyType({name: parse_share(share, f"share of {name!r}") for name, share in shares.items()})


@frozen
class Phase:
    """A period of constant shares. Evidence is never pooled across phases.

    Attributes:
        name: What it is called in records; the controller numbers the phases, as in "1:5%".
        shares: Share of every candidate: a number from 0 to 1, or a text such as "5%". The control has the rest.
        control: Name of the control.
    """

    name: str
    shares: Mapping[str, float] = field(converter=_as_shares)
    control: str = "control"
    split: Split = field(init=False, eq=False, repr=False)

    def __attrs_post_init__(self) -> None:
        """Lay the lanes once."""
        total = math.fsum(self.shares.values())
        if total > 1 + 1e-9:
            listed = ", ".join(f"{name} {share:.4%}" for name, share in self.shares.items())
            raise ConfigurationError(
                f"The shares of phase {self.name!r} add up to {total:.4%} ({listed}). "
                "Together, candidates can have at most 100 %. Lower one of them."
            )
        object.__setattr__(self, "split", Split(self.shares, self.control))

    @property
    def all_shares(self) -> dict[str, float]:
        """Share of every variant, the control included; empty where the strategy states none."""
        if not self.shares:
            return {}
        return {self.control: max(0.0, 1.0 - math.fsum(self.shares.values())), **self.shares}


@frozen
class Outline:
    """What all requests of one rollout have in common.

    Attributes:
        key: Key of the rollout.
        control: Name of the control.
        candidates: Names of the candidates.
        bind: Makes the arguments by name.
        random: Gives a random number in [0, 1).
    """

    key: str
    control: str
    candidates: tuple[str, ...]
    bind: Binder
    random: Callable[[], float]


class RouteRequest:
    """One call (or one row of a batch), described: what a strategy may decide by. Read it; never change it.

    Attributes:
        args: The positional arguments as they came; none once the call is over.
        kwargs: The keyword arguments as they came.
        phase: The current phase, with the shares and their ready-made split.
        digest: The 64-bit keyed hash behind point and bucket; a seed for anything that must be the same for a unit.
        point: The unit's point in [0, 1): constant for a unit, uniform over units.
        has_unit: Whether the call named a unit; without one the call is its own unit, and point is random.
    """

    # Built for every call: what nobody asks for is not set.
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    phase: Phase
    digest: int
    point: float
    has_unit: bool
    outline: Outline
    _draw: float | None = None

    @property
    def key(self) -> str:
        """Key of the rollout."""
        return self.outline.key

    @property
    def control(self) -> str:
        """Name of the control."""
        return self.outline.control

    @property
    def candidates(self) -> tuple[str, ...]:
        """Names of the candidates."""
        return self.outline.candidates

    @property
    def bucket(self) -> int:
        """The unit's statistics bucket, from 0 to 511."""
        return self.digest & _BUCKET_MASK

    @property
    def draw(self) -> float:
        """A random number in [0, 1), drawn for this call when first asked for, for what need not be sticky."""
        if self._draw is None:
            self._draw = self.outline.random()
        return self._draw

    @property
    def arguments(self) -> Mapping[str, Any]:
        """The arguments of the call by parameter name, defaults applied; while the call is under way."""
        return self.outline.bind(self.args, self.kwargs)

    def about(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> RouteRequest:
        """The same request about other arguments: a shadow's copies."""
        request = RouteRequest()
        request.args, request.kwargs = args, kwargs
        request.describe_as(self)
        return request

    def describe_as(self, other: RouteRequest) -> None:
        """Take over everything but the arguments."""
        self.phase, self.digest, self.point = other.phase, other.digest, other.point
        self.has_unit, self.outline, self._draw = other.has_unit, other.outline, other._draw


def pseudonym(digest: int) -> str:
    """A digest as it stands in records: 16 hexadecimal digits."""
    return f"{digest:016x}"


def pseudonyms(hash_: UnitHash, keys: Iterable[Hashable]) -> tuple[str, ...]:
    """Pseudonyms of item keys; a key of no canonical form stands for itself by its repr."""
    return tuple(pseudonym(hash_(canonical(key) or b"o" + repr(key).encode("utf-8", "surrogatepass"))) for key in keys)
