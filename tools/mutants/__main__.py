"""Put one fault at a time into the code, run the tests that reach it, and list the faults that no test notices.

    python -m tools.mutants --number 20 --seed 1 engine judging

The first run records which test reaches which line, in `.mutants/` (it takes a few times as long as the tests; `--tests
tests/engine` records and uses only those, and a recorded part is not recorded again). A fault is noticed if one of the tests
that reach its line fails, or takes far longer than before. The output is every unnoticed fault, to be read, and the score of
each package. Either a test is missing, or the fault changes nothing that a caller sees, and `unseen.toml` says why.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from tools.mutants.faults import PACKAGE, ROOT, Mutant, drawn, mutants_of
from tools.mutants.reached import Reached
from tools.mutants.trial import Copy
from tools.mutants.unseen import shown, unseen


def package_of(path: Path) -> str:
    """Return the room of a file; the files at the top are their own room."""
    return path.parts[1] if len(path.parts) > 2 else PACKAGE


def room_of(path: Path, asked: list[str]) -> str:
    """Return the requested file or folder that contains a file, or else its package."""
    return next((name for name in asked if name in {str(path), *map(str, path.parents)}), package_of(path))


class Worker:
    """One of the processes that try faults, each in a copy of its own."""

    reached: Reached
    copy: Copy
    most_s: float

    @classmethod
    def start(cls, reached: Reached, most_s: float, folder: str) -> None:
        """Copy the project, once in each process."""
        cls.reached, cls.most_s, cls.copy = reached, most_s, Copy(Path(tempfile.mkdtemp(dir=folder)))

    @classmethod
    def is_noticed(cls, mutant: Mutant) -> bool:
        """Whether a test notices a fault; noticed ones are remembered, as tests are added and not taken away."""
        if not cls.reached.has_noticed(mutant):
            rounds = cls.reached.rounds(mutant, cls.most_s)
            if not any(cls.copy.is_noticed(mutant, tests, cls.reached.times) for tests in rounds):
                return False
            cls.reached.notice(mutant)
        return True


def main() -> None:
    """Try faults, and print the results."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("packages", nargs="*", help="rooms of rollout_sdk, or files and folders; without any, all rooms")
    parser.add_argument("--number", type=int, default=20, help="faults for each room")
    parser.add_argument("--seed", type=int, nargs="+", default=[1], help="draws the faults; several draw as many each")
    parser.add_argument("--tests", nargs="+", default=["tests", "plugins"], help="tests to record, unless they are recorded")
    parser.add_argument("--seconds", type=float, default=240.0, help="what the tests of a fault take at most")
    parser.add_argument("--processes", type=int, default=os.cpu_count(), help="faults that are tried at the same time")
    asked = parser.parse_args()
    reached = Reached(asked.tests)
    rooms: dict[str, list[Path]] = {}
    for path in (path.relative_to(ROOT) for path in sorted((ROOT / PACKAGE).rglob("*.py"))):
        name = room_of(path, asked.packages)
        if not asked.packages or name in asked.packages:
            rooms.setdefault(name, []).append(path)
            if str(path) in reached.changed:
                print(f"{path} has changed since it was recorded (remove .mutants to record again): more tests are tried")
    every = {
        room: [mutant for path in paths for mutant in mutants_of(path, (ROOT / path).read_bytes())]
        for room, paths in rooms.items()
    }
    found = {(seed, room): drawn(mutants, seed, asked.number) for room, mutants in every.items() for seed in asked.seed}
    listed = unseen()
    tried = [(drawing, mutant) for drawing, mutants in found.items() for mutant in mutants if mutant.key not in listed]
    noticed: Counter[tuple[int, str]] = Counter()
    with (
        tempfile.TemporaryDirectory() as folder,
        ProcessPoolExecutor(asked.processes, get_context("fork"), Worker.start, (reached, asked.seconds, folder)) as pool,
    ):
        for (drawing, mutant), is_noticed in zip(tried, pool.map(Worker.is_noticed, (pair[1] for pair in tried)), strict=True):
            noticed[drawing] += is_noticed
            if not is_noticed:
                print(shown(mutant), flush=True)
    print("\n| room | seed | faults | change nothing | noticed | score |\n|---|---|---|---|---|---|")
    counts = Counter(drawing for drawing, _ in tried)
    for (seed, room), mutants in found.items():
        count, seen = counts[seed, room], noticed[seed, room]
        print(f"| {room} | {seed} | {len(mutants)} | {len(mutants) - count} | {seen} | {seen / max(1, count):.0%} |")


if __name__ == "__main__":
    main()
