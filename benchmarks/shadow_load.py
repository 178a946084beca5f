"""The effect of a hung shadow on the control: a candidate that sleeps 10 s, at 100 calls a second.

    make bench, or: python benchmarks/shadow_load.py [--json] [--seconds 12] [--control burn] [--candidate-s 10]

Every 10 ms, the same control is called three times, in another order each time: bare, bare again, and decorated with a shadow
on every call. The difference between the two bare series is the noise of this machine. In every third second nothing is
decorated, and the bare calls of these quiet seconds show the cost of the background for code that does not use rollouts.

The output is p50 and p99 of each, and decorated over bare (both series together) with a 95 % interval from 2,000 resamples of
100 ms blocks; the ends of the shadows, read from the journal after the process has ended, so that each must be accounted for;
and the time until the process exits while shadows hang.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from time import perf_counter, sleep
from typing import Any

TICK_S = 0.01
BLOCK = 10
"""Ticks that are resampled together: neighbours share their noise."""


def burning(x: int) -> int:
    """Some 2 ms of Python: it holds the interpreter's lock, and has to share it."""
    return sum(n * n for n in range(25_000)) + x


def sleeping(x: int) -> int:
    """2 ms of waiting, as for a model server."""
    sleep(0.002)
    return x


CONTROLS = {"burn": burning, "sleep": sleeping}


def serve(seconds: float, control_name: str, candidate_s: float, journal: str) -> None:
    """The process under test: calls, then says its latencies (in ms) and ends while shadows hang."""
    from rollout_sdk import Runtime, Shadow, rollout

    control = CONTROLS[control_name]

    def candidate(x: int) -> int:
        sleep(candidate_s)
        return x

    runtime = Runtime(journal=journal)
    decorated = rollout(candidate=candidate, strategy=Shadow(1.0), effects="read", key="load", runtime=runtime)(control)
    times: dict[str, list[list[float]]] = {"shadowed": [], "quiet": []}
    for function in (control, control, decorated):
        function(0)
    turns = [control, control, decorated]
    order = [0, 1, 2]
    began = perf_counter()
    tick = 0
    while perf_counter() - began < seconds:
        quiet = int(tick * TICK_S) % 3 == 2
        taken = [0.0, 0.0, 0.0]
        random.shuffle(order)
        for turn in order:
            function = control if quiet else turns[turn]
            start = perf_counter()
            function(tick)
            taken[turn] = (perf_counter() - start) * 1000
        times["quiet" if quiet else "shadowed"].append(taken)
        tick += 1
        sleep(max(0.0, began + tick * TICK_S - perf_counter()))
    late = perf_counter() - began - tick * TICK_S
    print(json.dumps({"times": times, "late_s": late, "ended": perf_counter()}), flush=True)


def quantile(values: list[float], q: float) -> float:
    return sorted(values)[min(len(values) - 1, int(q * len(values)))]


def ratio(ticks: list[list[float]], q: float) -> float:
    """Decorated over bare."""
    return quantile([tick[2] for tick in ticks], q) / quantile([taken for tick in ticks for taken in tick[:2]], q)


def interval(ticks: list[list[float]], q: float, resamples: int = 2_000) -> tuple[float, float]:
    """95 % of the ratios of resampled blocks."""
    blocks = [ticks[start : start + BLOCK] for start in range(0, len(ticks), BLOCK)]
    found = sorted(
        ratio([tick for block in random.choices(blocks, k=len(blocks)) for tick in block], q) for _ in range(resamples)
    )
    return found[int(0.025 * resamples)], found[int(0.975 * resamples)]


def ends_of(journal: str) -> Counter[str]:
    """How the shadows ended, from the journal."""
    ends: Counter[str] = Counter()
    for path in Path(journal).rglob("*.jsonl"):
        for line in path.read_text(encoding="utf-8").splitlines():
            record = json.loads(line)
            if record["event"] == "shadow":
                ends[record["end"]] += 1
            elif record["event"] == "lost":
                ends["lost"] += record["count"]
    return ends


def measure(options: argparse.Namespace) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="rollout-bench-") as journal:
        command = [sys.executable, __file__, "--serve", journal]
        for option in ("seconds", "control", "candidate_s"):
            command += [f"--{option.replace('_', '-')}", str(getattr(options, option))]
        finished = subprocess.run(command, capture_output=True, text=True, check=False, timeout=options.seconds + 60)
        exited = perf_counter()
        if finished.returncode:
            sys.exit(finished.stderr)
        ends = ends_of(journal)
    run = json.loads(finished.stdout)
    ticks, quiet = run["times"]["shadowed"], run["times"]["quiet"]
    series = {
        "bare, first": [tick[0] for tick in ticks],
        "bare, second": [tick[1] for tick in ticks],
        "decorated": [tick[2] for tick in ticks],
        "bare, quiet seconds": [taken for tick in quiet for taken in tick],
    }
    figures: dict[str, Any] = {
        "latency_ms": {
            name: {"calls": len(values), "p50": quantile(values, 0.5), "p99": quantile(values, 0.99)}
            for name, values in series.items()
        }
    }
    for name, q in (("p50", 0.5), ("p99", 0.99)):
        figures[f"{name}_ratio"] = {
            "decorated over bare": ratio(ticks, q),
            "interval": interval(ticks, q),
            "bare over bare": quantile(series["bare, second"], q) / quantile(series["bare, first"], q),
            "bare over quiet": quantile(series["bare, first"] + series["bare, second"], q)
            / quantile(series["bare, quiet seconds"], q),
        }
    figures["added_us"] = statistics.median(tick[2] - min(tick[:2]) for tick in ticks) * 1000
    # One more call than ticks: the first, which warms up.
    figures["shadows"] = {"submitted": len(ticks) + 1, "accounted": sum(ends.values()), "ends": dict(ends)}
    figures["exit_s"] = exited - run["ended"]
    figures["late_s"] = run["late_s"]
    return figures


def show(figures: dict[str, Any], options: argparse.Namespace) -> None:
    print(f"Control: {options.control}; candidate sleeps {options.candidate_s:g} s; {os.cpu_count()} cores\n")
    print(f"{'ms':24}{'calls':>8}{'p50':>9}{'p99':>9}")
    for name, found in figures["latency_ms"].items():
        print(f"{name:24}{found['calls']:>8}{found['p50']:>9.3f}{found['p99']:>9.3f}")
    print(f"\n{'ratio':48}{'p50':>9}{'p99':>9}")
    fifty, ninety_nine = figures["p50_ratio"], figures["p99_ratio"]
    for name, what in (
        ("decorated over bare", "decorated over bare (target: within 1.05)"),
        ("bare over bare", "bare over bare: the machine's noise"),
        ("bare over quiet", "bare beside shadows over bare in quiet seconds"),
    ):
        print(f"{what:48}{fifty[name]:>9.3f}{ninety_nine[name]:>9.3f}")
    (low, high), (low99, high99) = fifty["interval"], ninety_nine["interval"]
    print(f"95 % intervals of decorated over bare: p50 {low:.3f} to {high:.3f}, p99 {low99:.3f} to {high99:.3f}")
    shadows = figures["shadows"]
    ends = ", ".join(f"{end} {number}" for end, number in sorted(shadows["ends"].items()))
    print(f"\nShadows: {shadows['submitted']} submitted, {shadows['accounted']} accounted for in the journal: {ends}")
    print(f"Exit while shadows hang: {figures['exit_s']:.2f} s (target: below 2)")
    if figures["late_s"] > 5 * TICK_S:
        print(f"The machine was too slow for 100 calls a second: {figures['late_s']:.2f} s late.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.add_argument("--seconds", type=float, default=12.0, help="how long to call (12)")
    parser.add_argument("--control", choices=sorted(CONTROLS), default="burn", help="what the control does for 2 ms (burn)")
    parser.add_argument("--candidate-s", type=float, default=10.0, help="how long the candidate sleeps (10)")
    parser.add_argument("--serve", metavar="JOURNAL", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve is not None:
        serve(options.seconds, options.control, options.candidate_s, options.serve)
        return
    figures = measure(options)
    if options.json:
        print(json.dumps(figures, indent=2))
    else:
        show(figures, options)


if __name__ == "__main__":
    main()
