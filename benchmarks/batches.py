"""The cost of a batch per row, compared with the bare call and a hand-written batch router.

    python benchmarks/batches.py [--rows 100000] [--rounds 7]

The models only return their rows, and each row has a unit. The hand-written router is a minimal A/B test of a batch: it hashes
each distinct unit, splits the rows, calls both models, orders the answers, and appends a tuple for each row to a list; it
records nothing else. "All threads" is the processor time of the process until all rows are in the journal. Costs are processor
time, the least of all rounds. At the end: whether rows were lost, and the memory that a batch needs until it is written.
"""

from __future__ import annotations

import argparse
import gc
import json
import logging
import platform
import random
import sys
import tempfile
from functools import partial
from hashlib import blake2b
from pathlib import Path
from time import process_time, thread_time

from rollout_sdk import ABTest, Runtime, rollout

COLUMNS = ("as lists", "as numpy arrays")


def by_hand(rows, users, log):
    """An A/B test at 50 % of a batch."""
    known: dict[str, int] = {}
    sides: list[list[int]] = [[], []]
    for index, user in enumerate(users):
        digest = known.get(user)
        if digest is None:
            digest = known[user] = int.from_bytes(blake2b(user.encode(), digest_size=8, key=b"k").digest(), "big")
        sides[digest >> 63].append(index)
        log.append((digest, digest >> 63, index))
    out = [None] * len(rows)
    for side in sides:
        for index, answer in zip(side, list(map(rows.__getitem__, side)), strict=True):
            out[index] = answer
    return out


def resident() -> float:
    """Resident memory in MiB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    return 0.0


def least(rounds, call, after=lambda: None) -> tuple[float, float]:
    """Return the least processor time of this thread, and of the process until everything is written."""
    own, whole = [], []
    for _ in range(rounds):
        gc.collect()
        began, began_all = thread_time(), process_time()
        call()
        own.append(thread_time() - began)
        after()
        whole.append(process_time() - began_all)
    return min(own), min(whole)


def measure(number: int, rounds: int) -> dict[str, dict[str, float]]:
    """Return nanoseconds per row, by subject."""
    import numpy as np

    figures: dict[str, dict[str, float]] = {}
    for distinct in (1_000, number):
        units = [f"user-{index % distinct}" for index in range(number)]
        random.Random(7).shuffle(units)
        rows = list(range(number))
        log: list[tuple[int, int, int]] = []
        own, _ = least(rounds, partial(by_hand, rows, units, log), log.clear)
        figures[f"by hand, {distinct:,} units"] = {"ns_per_row": own / number * 1e9}
        for title in COLUMNS:
            given = (rows, units) if title == COLUMNS[0] else (np.array(rows), np.array(units))
            with tempfile.TemporaryDirectory() as folder:
                runtime = Runtime(journal=folder)
                model = rollout(
                    candidate=lambda rows, units: rows,
                    strategy=ABTest(0.5),
                    unit="units",
                    batch="rows",
                    key="batch",
                    runtime=runtime,
                )(lambda rows, units: rows)
                model(*given)
                runtime.flush()
                own, whole = least(rounds, partial(model, *given), runtime.flush)
                figures[f"ours {title}, {distinct:,} units"] = {
                    "ns_per_row": own / number * 1e9,
                    "all_threads_ns_per_row": whole / number * 1e9,
                    "lost": model.rollout.status().lost,
                }
                runtime.close()
    return figures


def memory(number: int) -> dict[str, float]:
    """Return the memory that a batch needs until it is written, without its rows and units."""
    rows, units = list(range(number)), [f"user-{index % 1_000}" for index in range(number)]
    with tempfile.TemporaryDirectory() as folder:
        runtime = Runtime(journal=folder)
        model = rollout(
            candidate=lambda rows, units: rows, strategy=ABTest(0.5), unit="units", batch="rows", key="batch", runtime=runtime
        )(lambda rows, units: rows)
        model(rows[:1_000], units[:1_000])
        runtime.flush()
        before = resident()
        model(rows, units)
        after_call = resident()
        while not runtime.flush():
            pass
        found = {"rows": number, "after_call_mib": after_call - before, "written_mib": resident() - before}
        found["lost"] = model.rollout.status().lost
        runtime.close()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000, help="rows of a batch (100,000)")
    parser.add_argument("--rounds", type=int, default=7, help="rounds, of which the least counts (7)")
    parser.add_argument("--most", type=int, default=1_000_000, help="rows of the batch whose memory is measured (1,000,000)")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    figures = {"rows": measure(options.rows, options.rounds), "memory": memory(options.most)}
    if options.json:
        print(json.dumps(figures, indent=2))
        return
    print(f"Python {platform.python_version()}. Batches of {options.rows:,} rows; nanoseconds of processor time a row:\n")
    print(f"{'':36}{'caller':>9}{'all threads':>13}{'lost':>7}")
    for title, row in figures["rows"].items():
        whole = f"{row['all_threads_ns_per_row']:>13.0f}{row['lost']:>7}" if "lost" in row else ""
        print(f"{title:36}{row['ns_per_row']:>9.0f}{whole}")
    grown = figures["memory"]
    mib = f"{grown['after_call_mib']:+.0f} MiB after the call, {grown['written_mib']:+.0f} MiB once it is written"
    print(f"\nA batch of {grown['rows']:,} rows: {mib}; {grown['lost']} rows lost")


if __name__ == "__main__":
    sys.exit(main())
