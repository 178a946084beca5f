"""The latency of calls under load: at 1,000 and 10,000 calls a second, from the median to one in a thousand.

    python benchmarks/latency.py [--seconds 10] [--passes 3]

A process calls at a steady rate, sleeps until the next call is due, and records the duration of each call: once of the bare
function, once of the same function decorated, under an A/B test with a journal; so the recorder's thread works in the meantime,
and sometimes takes the interpreter's lock from the caller. Processes take turns, and the calls of all passes are combined.
Other work on the machine shows in the tails of both.
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
from time import perf_counter, perf_counter_ns, sleep

from rollout_sdk import ABTest, Runtime, rollout

RATES = (1_000, 10_000)
QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p99.9": 0.999}
# Of the longest sleep that is precise; the rest is spent waiting for the moment.
CLOSE_S = 0.0002


def model(user: str) -> int:
    return len(user)


def candidate(user: str) -> int:
    return len(user)


def serve(is_ours: bool, rate: int, seconds: float, folder: str) -> dict[str, object]:
    """How long each call took, in nanoseconds, and how many facts were lost."""
    runtime = Runtime(journal=folder)
    decorate = rollout(candidate=candidate, strategy=ABTest(0.5), unit="user", key="latency", runtime=runtime)
    served = decorate(model) if is_ours else model
    took, users, late = [], [f"user-{number}" for number in range(1_000)], 0
    for user in users[:200]:
        served(user)
    began = perf_counter()
    for number in range(int(rate * seconds)):
        due = began + number / rate
        left = due - perf_counter()
        late += left < 0
        if left > CLOSE_S:
            sleep(left - CLOSE_S)
        while perf_counter() < due:
            pass
        user = users[number % 1_000]
        before = perf_counter_ns()
        served(user)
        took.append(perf_counter_ns() - before)
    runtime.flush()
    lost = served.rollout.status().lost if is_ours else 0
    runtime.close()
    return {"took": took, "late": late, "lost": lost}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10.0, help="seconds of each run (10)")
    parser.add_argument("--passes", type=int, default=3, help="passes over the rows (3)")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.add_argument("--row", nargs=2, type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    if options.row:
        with tempfile.TemporaryDirectory() as folder:
            print(json.dumps(serve(bool(options.row[0]), options.row[1], options.seconds, folder)), flush=True)
        os._exit(0)
    figures = {}
    for rate in RATES:
        rows = {"bare": 0, "decorated": 1}
        took: dict[str, list[int]] = {name: [] for name in rows}
        late, lost = dict.fromkeys(rows, 0), 0
        for _ in range(options.passes):
            for name, is_ours in rows.items():
                finished = subprocess.run(
                    [sys.executable, __file__, "--seconds", str(options.seconds), "--row", str(is_ours), str(rate)],
                    capture_output=True, text=True, check=True,
                )  # fmt: skip
                found = json.loads(finished.stdout.splitlines()[-1])
                took[name] += found["took"]
                late[name] += found["late"]
                lost += found["lost"]
        for name in rows:
            took[name].sort()
            quantiles = {title: took[name][int(share * len(took[name]))] / 1_000 for title, share in QUANTILES.items()}
            figures[f"{name}, {rate:,} calls/s"] = {**quantiles, "late": late[name] / len(took[name])}
        figures[f"decorated, {rate:,} calls/s"]["lost"] = lost
    if options.json:
        print(json.dumps(figures, indent=2))
        return
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores. Microseconds a call:\n")
    print(f"{'':30}{''.join(f'{title:>9}' for title in QUANTILES)}{'begun late':>12}{'lost':>6}")
    for title, row in figures.items():
        lost = f"{row['lost']:>6}" if "lost" in row else ""
        print(f"{title:30}{''.join(f'{row[each]:>9.1f}' for each in QUANTILES)}{row['late']:>11.1%} {lost}")


if __name__ == "__main__":
    sys.exit(main())
