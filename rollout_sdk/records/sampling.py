"""Which calls are kept under overload: sampled by a hash of the decision id, so that calls are kept or dropped as a whole.

A queue that fills up keeps one call in 2, then one in 4, 8, ...: the *level* counts the halvings. A call is kept at a rate if
the hash of its id, as a number between 0 and 1, is below the rate. So the calls kept at one level are a subset of those of
lower levels; any process computes the same answer from the id, at any time; and the hash is independent of arm and outcome. It
is blake2b with 8 bytes and the person `rollout-drawn`, not the hash that determines arms and buckets.
"""

from __future__ import annotations

from hashlib import blake2b

__all__ = ["HIGHEST_LEVEL", "Load", "is_drawn", "level_of", "lot_of", "rate_of"]

HIGHEST_LEVEL = 12
"""One call in 4,096. If there is no room even for that, calls are lost without sampling, and counted as lost."""

_ALL = 2.0**64


class Load:
    """The level of a process's queue; written by the recorder, and read by every new call."""

    __slots__ = ("level",)

    def __init__(self) -> None:
        """Start with an empty queue."""
        self.level = 0


def level_of(waiting: int, most: int) -> int:
    """Return the level of a queue: 0 below `most`; above `HIGHEST_LEVEL`, at 1.5 times `most`, it is full.

    Each level may use half of the remaining room, so that every level accepts about as many calls as the next.
    """
    if waiting < most:
        return 0
    room = most // 2
    free = room - (waiting - most)
    return min((room // free).bit_length(), HIGHEST_LEVEL) if free > 0 else HIGHEST_LEVEL + 1


def rate_of(level: int) -> float:
    """Return the share of calls that is kept at a level."""
    return 0.5 ** min(level, HIGHEST_LEVEL)


def is_drawn(name: str, rate: float) -> bool:
    """Whether the call with this id is kept at this rate."""
    if rate >= 1.0:
        return True
    digest = blake2b(name.encode(errors="surrogatepass"), digest_size=8, person=b"rollout-drawn").digest()
    return int.from_bytes(digest, "big") < rate * _ALL


def lot_of(name: str, purpose: str) -> float:
    """Return a number in [0, 1) for a decision id: uniform, the same in every process, independent for every purpose.

    A purpose is a short constant of up to 8 ASCII characters.
    """
    person = f"rollout-{purpose}".encode()
    digest = blake2b(name.encode(errors="surrogatepass"), digest_size=8, person=person).digest()
    # 53 bits are what a float holds: more of them could be rounded up to 1.
    return (int.from_bytes(digest, "big") >> 11) / 2.0**53
