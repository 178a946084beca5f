"""Put one fault at a time into the code, run the tests that reach it, and list the faults that no test notices.

    python -m tools.mutants --number 20 --seed 1 engine judging

The first run records which test reaches which line, in `.mutants/` (it takes a few times as long as the tests; `--tests
tests/engine` records and uses only those, and a recorded part is not recorded again). A fault is noticed if one of the tests
that reach its line fails, or takes far longer than before. The output is the score of each package, and every unnoticed fault,
to be read: either a test is missing, or the fault changes nothing.
"""

from __future__ import annotations

import argparse
import random
import tempfile
from pathlib import Path

from tools.mutants.faults import PACKAGE, ROOT, mutants_of
from tools.mutants.reached import Reached
from tools.mutants.trial import Copy


def package_of(path: Path) -> str:
    """Return the room of a file; the files at the top are their own room."""
    return path.parts[1] if len(path.parts) > 2 else PACKAGE


def room_of(path: Path, asked: list[str]) -> str:
    """Return the requested file or folder that contains a file, or else its package."""
    return next((name for name in asked if name in {str(path), *map(str, path.parents)}), package_of(path))


def main() -> None:
    """Try faults, and print the results."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("packages", nargs="*", help="rooms of rollout_sdk, or files and folders; without any, all rooms")
    parser.add_argument("--number", type=int, default=20, help="faults for each room")
    parser.add_argument("--seed", type=int, default=1, help="draws the faults")
    parser.add_argument("--tests", nargs="+", default=["tests", "plugins"], help="tests to record, unless they are recorded")
    asked = parser.parse_args()
    reached = Reached(asked.tests)
    files = [path.relative_to(ROOT) for path in sorted((ROOT / PACKAGE).rglob("*.py"))]
    rooms: dict[str, list[Path]] = {}
    for path in files:
        name = room_of(path, asked.packages)
        if not asked.packages or name in asked.packages:
            rooms.setdefault(name, []).append(path)
    for path in files:
        if str(path) in reached.changed and any(path in paths for paths in rooms.values()):
            print(f"{path} has changed since it was recorded: remove .mutants to record it again", flush=True)
    scores: dict[str, tuple[int, int]] = {}
    with tempfile.TemporaryDirectory() as folder:
        copy = Copy(Path(folder))
        for room, paths in rooms.items():
            every = [mutant for path in paths for mutant in mutants_of(path, (ROOT / path).read_bytes())]
            drawn = random.Random(f"{asked.seed} {room}").sample(every, min(asked.number, len(every)))
            noticed = 0
            for mutant in drawn:
                found: bool | None = False
                why = "   (no test reaches it)"
                for tests in reached.rounds(mutant):
                    found = copy.is_noticed(mutant, tests, sum(map(reached.times.__getitem__, tests)))
                    why = "   (its tests fail without it)" if found is None else ""
                    if found is not False:
                        break
                noticed += found is True
                if not found:
                    print(f"unnoticed: {mutant.shown((ROOT / mutant.path).read_bytes())}{why}", flush=True)
            scores[room] = noticed, len(drawn)
            print(f"{room}: {noticed} of {len(drawn)} noticed", flush=True)
    print("\n| room | faults | noticed | score |\n|---|---|---|---|")
    for room, (noticed, drawn_count) in scores.items():
        print(f"| {room} | {drawn_count} | {noticed} | {noticed / max(1, drawn_count):.0%} |")


if __name__ == "__main__":
    main()
