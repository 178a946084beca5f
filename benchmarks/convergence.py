"""The time until every process follows: four processes on one SQLite file, one abort, and the time until the last has stopped.

python benchmarks/convergence.py [--processes 4] [--rounds 10]
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path

from rollout_sdk.control.state import RolloutState
from rollout_sdk.control.stored_state import change_stored
from rollout_sdk.control.stores import SQLiteStore

PROGRAM = """
    import sys, time
    from rollout_sdk import Canary, Runtime, rollout

    runtime = Runtime(store=sys.argv[1])

    @rollout(candidate=lambda user: "new", strategy=Canary(["50%"]), unit="user", key="m", runtime=runtime)
    def model(user):
        return "old"

    print("ready", flush=True)
    number, last = 0, 0.0
    while model.rollout.phase.shares["candidate"]:
        number += 1
        if model(f"user-{number}") == "new":
            last = time.time()
        time.sleep(0.001)
    # Whatever was served by the candidate after this moment would be too late.
    print(last, flush=True)
"""


def one_round(folder: Path, number: int, processes: int) -> float:
    """Seconds from the abort to the last call that a candidate answered, in any process."""
    program, store = folder / "program.py", SQLiteStore(folder / f"{number}.db")
    program.write_text(textwrap.dedent(PROGRAM))
    command = [sys.executable, str(program), f"sqlite:///{store.path}"]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=folder) for _ in range(processes)]
    for process in started:
        assert process.stdout is not None
        process.stdout.readline()
    time.sleep(1.0)
    began = time.time()
    change_stored(store, "m", "abort", RolloutState.abort, now_s=began, actor="benchmark", reason="")
    return max(float(process.communicate(timeout=60)[0]) for process in started) - began


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=10)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        took = [one_round(Path(folder), number, options.processes) for number in range(options.rounds)]
    print(
        f"{options.processes} processes, {options.rounds} aborts: the last candidate was served "
        f"{statistics.median(took):.2f} s after the abort (median), {max(took):.2f} s at most"
    )


if __name__ == "__main__":
    main()
