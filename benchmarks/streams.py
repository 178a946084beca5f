"""What an item of a stream costs over an item of the bare one, for each kind of stream.

    python benchmarks/streams.py [--rounds 60] [--items 2000]

Processor time of the reading thread, under an A/B test with a journal: the least of all rounds, in which the bare stream and
the decorated one take turns. The call itself is in it, spread over the items.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import platform
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from time import thread_time
from typing import Any

from rollout_sdk import ABTest, Runtime, rollout

ITEMS = 2_000


def generator(user: str) -> Iterator[int]:
    yield from range(ITEMS)


async def async_generator(user: str) -> AsyncIterator[int]:
    for item in range(ITEMS):
        yield item


def returned_generator(user: str) -> Iterator[int]:
    return generator(user)


def returned_iterator(user: str) -> Iterator[int]:
    return map(abs, range(ITEMS))


def returned_async_generator(user: str) -> AsyncIterator[int]:
    return async_generator(user)


KINDS = (generator, async_generator, returned_generator, returned_iterator, returned_async_generator)


def read(stream: Callable[[str], Any], user: str) -> float:
    """Seconds that it takes to read a stream."""
    began = thread_time()
    for _ in stream(user):
        pass
    return thread_time() - began


async def read_async(stream: Callable[[str], Any], user: str) -> float:
    """Seconds that it takes to read an async stream."""
    began = thread_time()
    async for _ in stream(user):
        pass
    return thread_time() - began


def measure(kind: Callable[[str], Any], rounds: int, runtime: Runtime) -> tuple[float, float]:
    """Nanoseconds an item: bare, and decorated."""
    decorated = rollout(candidate=kind, strategy=ABTest(0.5), unit="user", key=kind.__name__, runtime=runtime)(kind)
    took: tuple[list[float], list[float]] = ([], [])
    for turn in range(rounds):
        for place, stream in enumerate((kind, decorated)):
            user = f"user-{turn}"
            is_async = "async" in kind.__name__
            took[place].append(asyncio.run(read_async(stream, user)) if is_async else read(stream, user))
    bare, ours = (min(each) / ITEMS * 1e9 for each in took)
    return bare, ours


def main() -> None:
    global ITEMS  # noqa: PLW0603 - the streams are module-level functions, as users' are
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=60, help="how often each stream is read (60)")
    parser.add_argument("--items", type=int, default=ITEMS, help=f"items of a stream ({ITEMS:,})")
    options = parser.parse_args()
    ITEMS = options.items
    logging.disable(logging.CRITICAL)
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores. Nanoseconds an item:\n")
    print(f"{'':28}{'bare':>8}{'ours':>8}{'more':>8}")
    with tempfile.TemporaryDirectory() as folder:
        runtime = Runtime(journal=folder)
        for kind in KINDS:
            bare, ours = measure(kind, options.rounds, runtime)
            print(f"{kind.__name__.replace('_', ' '):28}{bare:8.0f}{ours:8.0f}{ours - bare:8.0f}")
        runtime.close()


if __name__ == "__main__":
    main()
