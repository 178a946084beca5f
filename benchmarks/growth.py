"""The cost of a call, and the growth of memory, by number of rollouts, units, threads, and calls so far.

    python benchmarks/growth.py [--calls 1000000] [--units 1000000]

Each row is a separate process with a journal, and shows the cost of one call (the least of rounds of 20,000 calls, each round
written before the next begins), the growth of memory since the warm-up, and lost facts. Rows for threads call as fast as
possible for two seconds: in Python with a global interpreter lock, more threads do not make more calls, but should not make
fewer. Under such a load facts are sampled or dropped on purpose, so "lost" is not shown.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import platform
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from time import perf_counter, process_time, thread_time

from rollout_sdk import ABTest, Runtime, rollout

ROUND = 20_000


def resident() -> float:
    """Resident memory in MiB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    return 0.0


def models(number: int, runtime: Runtime):
    """So many rollouts of one trivial function."""
    decorate = [
        rollout(candidate=lambda user: None, strategy=ABTest(0.1), unit="user", key=f"growth-{each}", runtime=runtime)
        for each in range(number)
    ]
    return [each(lambda user: None) for each in decorate]


def calls(rollouts: int, units: int, number: int, folder: str) -> dict[str, float]:
    """Measure the cost of a call, for these numbers of calls, rollouts and units."""
    runtime = Runtime(journal=folder)
    served = models(rollouts, runtime)
    costs, before = [], 0.0
    for start in range(0, number, ROUND):
        names = [f"user-{unit % units}" for unit in range(start, start + ROUND)]
        turns = [served[place % rollouts] for place in range(ROUND)]
        began = thread_time()
        for model, name in zip(turns[: ROUND // 2], names, strict=False):
            model(name)
        took = thread_time() - began
        runtime.flush()
        began = thread_time()
        for model, name in zip(turns[ROUND // 2 :], names[ROUND // 2 :], strict=False):
            model(name)
        costs.append(took + thread_time() - began)
        runtime.flush()
        if start <= number // 10:
            before = resident()
    lost = sum(model.rollout.status().lost for model in served[:1])
    early, late = costs[1 : max(2, len(costs) // 5)], costs[-max(1, len(costs) // 5) :]
    found = {
        "us": min(costs) / ROUND * 1e6, "first_us": min(early) / ROUND * 1e6, "last_us": min(late) / ROUND * 1e6,
        "grown_mib": resident() - before, "lost": lost,
    }  # fmt: skip
    runtime.close()
    return found


def threads(number: int, folder: str) -> dict[str, float]:
    """How often so many threads call in two seconds, all together."""
    runtime = Runtime(journal=folder)
    (model,) = models(1, runtime)
    counts, stop = [0] * number, threading.Event()

    def work(place: int) -> None:
        done = 0
        while not stop.is_set():
            for unit in range(100):
                model(f"user-{place}-{unit}")
            done += 100
        counts[place] = done

    model("first")
    workers = [threading.Thread(target=work, args=(place,)) for place in range(number)]
    began, began_all = perf_counter(), process_time()
    for worker in workers:
        worker.start()
    stop.wait(2.0)
    stop.set()
    for worker in workers:
        worker.join()
    found = {"calls_per_s": sum(counts) / (perf_counter() - began), "us": (process_time() - began_all) / sum(counts) * 1e6}
    runtime.close(10.0)
    return found


def in_process(*arguments: object) -> dict[str, float]:
    finished = subprocess.run(
        [sys.executable, __file__, "--row", *map(str, arguments)], capture_output=True, text=True, check=True
    )
    return json.loads(finished.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=1_000_000, help="calls of the run whose memory is measured (1,000,000)")
    parser.add_argument("--units", type=int, default=1_000_000, help="the most distinct units (1,000,000)")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.add_argument("--row", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    if options.row:
        name, *numbers = options.row
        with tempfile.TemporaryDirectory() as folder:
            found = {"calls": calls, "threads": threads}[name](*map(int, numbers), folder)
        print(json.dumps(found), flush=True)
        os._exit(0)
    figures = {
        "rollouts": {number: in_process("calls", number, 1_000, 10 * ROUND) for number in (1, 10, 100, 1_000)},
        "units": {number: in_process("calls", 1, number, max(10 * ROUND, number)) for number in (1, 1_000, options.units)},
        "calls": {options.calls: in_process("calls", 1, 1_000, options.calls)},
        "threads": {number: in_process("threads", number) for number in (1, 4, 16, 64)},
    }
    if options.json:
        print(json.dumps(figures, indent=2))
        return
    print(
        f"Python {platform.python_version()}, {os.cpu_count()} cores. Microseconds of processor time on the caller's thread:\n"
    )
    print(f"{'':24}{'a call':>8}{'first fifth':>13}{'last fifth':>12}{'grown':>11}{'lost':>7}")
    for what in ("rollouts", "units", "calls"):
        for number, row in figures[what].items():
            print(
                f"{number:>12,} {what:11}{row['us']:>8.2f}{row['first_us']:>13.2f}{row['last_us']:>12.2f}"
                f"{row['grown_mib']:>+7.1f} MiB{row['lost']:>7}"
            )
    for number, row in figures["threads"].items():
        print(
            f"{number:>12,} threads    {row['calls_per_s']:>12,.0f} calls a second, {row['us']:.1f} us of processor time each"
        )


if __name__ == "__main__":
    sys.exit(main())
