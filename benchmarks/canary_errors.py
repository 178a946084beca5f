"""Error rates of the canary with fifty looks, over whole plans; with --power, the sample until it decides correctly.

Every experiment sends simulated calls through the SDK's own evidence, judge and transitions (`worlds.canary`). In the A/A
worlds, candidate and control are identical: every rollback and every passed gate is an error, and so is every alarm about
the shares or the labels. At the margin, the candidate is worse by exactly the smallest unacceptable amount: every passed
guardrail is an error. At harm, it is worse by exactly the largest tolerated amount: every rollback is an error. No error may be
more frequent than alpha, plus three standard errors of the experiments.

    python benchmarks/canary_errors.py [--experiments 400] [--looks 50] [--only ramp] [--mode same] [--jobs 2] [--power]
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from worlds.catalog import WORLDS, world_named
from worlds.running import ALPHA, SRM_ALPHA, bound, errors
from worlds.traffic import Mode

COUNTED: dict[str, tuple[tuple[str, float], ...]] = {
    "same": (
        ("rolled back", ALPHA),
        ("gate passed", ALPHA),
        ("invalid", SRM_ALPHA),
        ("labels", SRM_ALPHA),
        ("step in outage", 0.0),
    ),
    "margin": (("guardrail passed", ALPHA), ("invalid", SRM_ALPHA)),
    "harm": (("rolled back", ALPHA), ("invalid", SRM_ALPHA)),
}
"""The errors of each mode, and their permitted rates."""


def exceeded(made: Counter[str], experiments: int, mode: Mode) -> list[str]:
    """Return the errors that are too frequent, and the checks that could not be judged."""
    # One event whose probability is .001 shows nothing, however few the experiments.
    most = {name: max(experiments * bound(experiments, alpha), float(alpha > 0)) for name, alpha in COUNTED[mode]}
    found = [name for name, number in most.items() if made[name] > number]
    return found + [name for name in made if name.startswith("broken")]


def row(task: tuple[str, Mode, int, int]) -> str:
    """A line of the table."""
    name, mode, experiments, looks = task
    begin = time.perf_counter()
    made = errors(world_named(name), experiments, looks, mode)
    shown = {each for each, _ in COUNTED[mode]}
    rates = [f"{made[each] / experiments:.3f}" if each in shown else "" for each in COLUMNS]
    over = ", ".join(exceeded(made, experiments, mode))
    others = ", ".join(f"{each} {made[each] / experiments:.2f}" for each in sorted(made) if each not in shown)
    seconds = time.perf_counter() - begin
    return f"| {name} | {mode} | {' | '.join(rates)} | {over and f'**{over}**'} | {others} | {experiments} | {seconds:.0f} |"


COLUMNS = ("rolled back", "gate passed", "guardrail passed", "invalid", "labels", "step in outage")


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--experiments", type=int, default=400)
    parser.add_argument("--looks", type=int, default=50)
    parser.add_argument("--only", default="", help="worlds whose name has this; several with a bar between them")
    parser.add_argument("--mode", default="", choices=("", "same", "margin", "harm"))
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--power", action="store_true", help="only the speed of detection")
    options = parser.parse_args()
    if options.power:
        from worlds.power import tables

        tables(options.experiments, options.only)
        return
    number = options.experiments
    print(
        f"{number} experiments, {options.looks} looks: at alpha {ALPHA} no share may exceed {bound(number):.3f}, "
        f"at {SRM_ALPHA} (invalid, labels) {bound(number, SRM_ALPHA):.4f}\n"
    )
    print(f"| world | candidate | {' | '.join(COLUMNS)} | exceeded | also | runs | s |")
    print("|" + "---|" * (len(COLUMNS) + 6), flush=True)
    tasks = [
        (world.name, mode, number, options.looks)
        for world in WORLDS
        for mode in world.checks
        if any(part in world.name for part in options.only.split("|")) and options.mode in ("", mode)
    ]
    with ProcessPoolExecutor(options.jobs) as pool:
        for line in pool.map(row, tasks):
            print(line, flush=True)


if __name__ == "__main__":
    main()
