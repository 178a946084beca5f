"""Which calls are kept under overload: drawn by a hash of the decision id, so that whole calls stay or go uniformly.

A queue that fills up keeps one call in 2, then one in 4, 8, ...: the *level* counts the halvings. A call is kept at a rate when
the hash of its id, as a number between 0 and 1, is below it. So the calls that are kept at one level are among those of every
lower level; whoever has the id, in any process and at any time, comes to the same answer; and the hash knows neither the arm
nor the outcome. The hash is blake2b with 8 bytes and the person `rollout-drawn`: not the one that gives arms and buckets.
"""

from __future__ import annotations

from hashlib import blake2b

__all__ = ["HIGHEST_LEVEL", "Load", "is_drawn", "level_of", "rate_of"]

HIGHEST_LEVEL = 12
"""One call in 4,096. What comes when there is no room for that is lost without a draw, and counted as such."""

_ALL = 2.0**64


class Load:
    """How full the queue of a process is, as a level; written by the recorder, and read by every call that begins."""

    __slots__ = ("level",)

    def __init__(self) -> None:
        """There is room."""
        self.level = 0


def level_of(waiting: int, most: int) -> int:
    """The level at which a queue takes what comes: 0 below `most`; above `HIGHEST_LEVEL` there is no room, at 1.5 times that.

    Each level may take half of the room that is left. So one after the other takes as many calls before it is full.
    """
    if waiting < most:
        return 0
    room = most // 2
    free = room - (waiting - most)
    return min((room // free).bit_length(), HIGHEST_LEVEL) if free > 0 else HIGHEST_LEVEL + 1


def rate_of(level: int) -> float:
    """The share of the calls that is kept at a level."""
    return 0.5 ** min(level, HIGHEST_LEVEL)


def is_drawn(name: str, rate: float) -> bool:
    """Whether what has this name is kept at this rate."""
    if rate >= 1.0:
        return True
    digest = blake2b(name.encode(errors="surrogatepass"), digest_size=8, person=b"rollout-drawn").digest()
    return int.from_bytes(digest, "big") < rate * _ALL
