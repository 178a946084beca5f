"""The cost of a decorated call over the bare call, compared with the installed peers and a hand-written router.

    make bench, or: python benchmarks/overhead.py [--json] [--passes 5] [--check benchmarks/baseline.json] [--picture FILE]

Each row has its own process; the rows take turns, in another order each pass, so that the machine's noise affects all alike. A
row's figure is processor time of the calling thread, in microseconds per call over the bare call: the least of all rounds, and
the median. Read the ratios, which come from one run, rather than the figures, which depend on the machine.

It also measures: the cost of a second of calls for the process, including the recorder's and the journal's threads; whether
facts are lost at 100,000 calls a second; calls that come one at a time; the imports; and the growth of memory with the number
of units.

`--check` compares the ratios with a baseline and fails if one is worse by more than a quarter; `--write` writes the baseline.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from rows import FLOOR, QUERY, ROWS, bare, candidate

from rollout_sdk import ABTest, Runtime, rollout

ROUNDS = 12
USERS = [f"u-{number}" for number in range(1_000)]
TOLERANCE = 1.25


def rounds(call: Any, number: int) -> list[float]:
    """Nanoseconds a call, for each round."""
    users, taken = USERS[:number], []
    for _ in range(ROUNDS):
        began = time.thread_time_ns()
        for user in users:
            call(user)
        taken.append((time.thread_time_ns() - began) / number)
        # The background's turn.
        time.sleep(0.03)
    return taken


async def rounds_of_coroutines(call: Any, number: int) -> list[float]:
    users, taken = USERS[:number], []
    for _ in range(ROUNDS):
        began = time.thread_time_ns()
        for user in users:
            await call(user)
        taken.append((time.thread_time_ns() - began) / number)
        await asyncio.sleep(0.03)
    return taken


def measure_row(name: str) -> dict[str, float] | None:
    """Run one pass of a row; return None if its peer is not installed."""
    make, number, needs = ROWS[name]
    try:
        call, without = make()
    except ModuleNotFoundError:
        if not needs:
            raise
        return None
    if asyncio.iscoroutinefunction(call):
        base, costs = asyncio.run(rounds_of_coroutines(without, number)), asyncio.run(rounds_of_coroutines(call, number))
    else:
        base, costs = rounds(without, number), rounds(call, number)
    return {
        "least_us": (min(costs) - min(base)) / 1e3,
        "median_us": (statistics.median(costs) - statistics.median(base)) / 1e3,
    }


def journalled_call() -> tuple[Any, Runtime]:
    runtime = Runtime(journal=tempfile.mkdtemp(prefix="rollout-bench-"))
    model = rollout(candidate=candidate, strategy=ABTest(0.1), unit="user_id", key="bench", runtime=runtime)(bare)
    return model, runtime


def processor() -> dict[str, float]:
    """Processor time of the whole process for each call with a journal; bursts with a pause between them."""
    model, runtime = journalled_call()

    def bursts(number: int) -> float:
        began = time.process_time()
        for _ in range(number):
            for user in USERS:
                model(user, QUERY)
            time.sleep(0.01)
        runtime.flush(5.0)
        return (time.process_time() - began) * 1e6 / (number * len(USERS))

    bursts(3)
    return {"us": min(bursts(10) for _ in range(3))}


def sustained(rate: int = 100_000, seconds: float = 10.0) -> dict[str, float]:
    """Calls in portions of a millisecond at a rate; how many facts were lost."""
    model, runtime = journalled_call()
    model("u-0", QUERY)
    portion, calls, began = rate // 1_000, 0, time.perf_counter()
    while (now := time.perf_counter() - began) < seconds:
        if calls >= now * rate:
            time.sleep(0.0002)
            continue
        for user in USERS[:portion]:
            model(user, QUERY)
        calls += portion
    took = time.perf_counter() - began
    runtime.flush(10.0)
    return {"calls_per_s": calls / took, "lost": model.rollout.status().lost, "calls": calls}


def apart(rate: int = 100, seconds: float = 4.0) -> dict[str, float]:
    """Wall time of calls that come one at a time, over the bare function called likewise: the 50th and 99th of 100."""
    model, _ = journalled_call()
    model("u-0", QUERY)
    taken: dict[Any, list[float]] = {bare: [], model: []}
    for number in range(int(rate * seconds)):
        time.sleep(1 / rate)
        call = model if number % 2 else bare
        began = time.perf_counter_ns()
        call(USERS[number % 1_000], QUERY)
        taken[call].append((time.perf_counter_ns() - began) / 1e3)
    marks = {"p50_us": 0.5, "p99_us": 0.99}
    found = {name: [sorted(each)[int(q * len(each))] for each in (taken[model], taken[bare])] for name, q in marks.items()}
    return {name: ours - theirs for name, (ours, theirs) in found.items()}


RESIDENT = """
import json, sys, threading
from time import process_time
def resident():
    with open("/proc/self/status") as status:
        return next((int(line.split()[1]) for line in status if line.startswith("VmRSS")), 0) / 1024
"""

IMPORT = """
before = resident()
began = process_time()
for name in sys.argv[1:]:
    __import__(name)
took = process_time() - began
print(json.dumps({"ms": took * 1000, "mib": resident() - before, "threads": threading.active_count() - 1}))
"""

DEPENDENCIES = ["pluggy", "attrs", "structlog", "opentelemetry.trace", "opentelemetry.metrics"]

MEMORY = """
from rollout_sdk import ABTest, Runtime, rollout
runtime = Runtime()
@rollout(candidate=lambda user: None, strategy=ABTest(0.1), unit="user", key="memory", runtime=runtime)
def model(user): return None
def call(first, number):
    for start in range(first, first + number, 5_000):
        for user in range(start, start + 5_000):
            model(f"u-{user}")
        runtime.flush()
number = int(sys.argv[1])
call(0, 50_000)
before = resident()
call(50_000, number)
print(json.dumps({"units": number, "grown_mib": resident() - before, "lost": model.rollout.status().lost}))
"""


def in_fresh_interpreter(*arguments: str, cache: str | None = None) -> Any:
    """Run a program with compiled files in `cache`, and return its JSON output."""
    environment = dict(os.environ)
    if cache is not None:
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        environment["PYTHONPYCACHEPREFIX"] = cache
    finished = subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, text=True, check=True)
    return json.loads(finished.stdout.splitlines()[-1])


def imports(repeats: int = 5) -> dict[str, dict[str, float]]:
    """Return the cost of imports in fresh interpreters, from compiled files; the least of several runs."""
    programs = {
        "its four dependencies": DEPENDENCIES,
        "rollout_sdk": ["rollout_sdk"],
        "and of what an A/B test needs": ["rollout_sdk", "rollout_sdk.decorator", "rollout_sdk.strategies.ab"],
    }
    with tempfile.TemporaryDirectory() as cache:
        runs: dict[str, list[dict[str, float]]] = {title: [] for title in programs}
        for _ in range(repeats + 1):
            for title, names in programs.items():
                runs[title].append(in_fresh_interpreter("-c", RESIDENT + IMPORT, *names, cache=cache))
    return {title: min(each[1:], key=lambda run: run["ms"]) for title, each in runs.items()}


def measure(passes: int, names: list[str]) -> dict[str, dict[str, Any]]:
    """The rows that are installed, by name."""
    found: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    missing: dict[str, str] = {}
    for _ in range(passes):
        order = [name for name in names if name not in missing]
        random.shuffle(order)
        for name in order:
            row = in_fresh_interpreter(__file__, "--row", name)
            if row is None:
                missing[name] = ROWS[name][2]
            else:
                found[name].append(row)
    figures: dict[str, dict[str, Any]] = {name: {"not_installed": needs} for name, needs in missing.items()}
    for name in names:
        if name not in missing:
            figures[name] = {
                "least_us": min(row["least_us"] for row in found[name]),
                "median_us": statistics.median(row["median_us"] for row in found[name]),
            }
    for row in figures.values():
        if "least_us" in row:
            row["times_the_floor"] = row["least_us"] / figures[FLOOR]["least_us"]
    return {name: figures[name] for name in names}


def show(figures: dict[str, Any]) -> None:
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores. Microseconds a call over the bare call:\n")
    print(f"{'':36}{'least':>9}{'median':>9}{'x by hand':>12}")
    for name, found in figures["rows"].items():
        if "not_installed" in found:
            print(f"{name:36}  not installed: pip install {found['not_installed']}")
        else:
            print(f"{name:36}{found['least_us']:>9.2f}{found['median_us']:>9.2f}{found['times_the_floor']:>11.2f}x")
    if "processor" not in figures:
        return
    steady, single, grown = figures["sustained"], figures["apart"], figures["memory"]
    print(f"\nProcessor time of the process for each call with a journal: {figures['processor']['us']:.1f} us")
    print(
        f"At {steady['calls_per_s']:,.0f} calls a second for ten seconds: {steady['lost']:,} of {steady['calls']:,} facts lost"
    )
    print(
        f"Calls that come one at a time, 100 a second: {single['p50_us']:.0f} us more at p50, {single['p99_us']:.0f} us at p99"
    )
    least = figures["imports"]["its four dependencies"]["ms"]
    for title, cost in figures["imports"].items():
        took = f"{cost['ms']:>7.1f} ms{cost['ms'] / least:>6.2f}x"
        print(f"import of {title:32}{took}{cost['mib']:>7.1f} MiB{cost['threads']:>4} threads")
    print(f"Memory: {grown['grown_mib']:+.1f} MiB over {grown['units']:,} distinct units; {grown['lost']:,} facts lost")


def check(rows: dict[str, dict[str, Any]], baseline: dict[str, float]) -> list[str]:
    """Return the ratios that are worse than the baseline by more than the tolerance."""
    return [
        f"{name} costs {rows[name]['times_the_floor']:.2f} times the router written by hand; the baseline is {before:.2f}, and "
        f"{before * TOLERANCE:.2f} is allowed."
        for name, before in baseline.items()
        if rows[name]["times_the_floor"] > before * TOLERANCE
    ]


def picture(rows: dict[str, dict[str, Any]]) -> str:
    """The rows that only decide, as SVG: bars as many times as long as that of the router written by hand."""
    more = ("disabled", "every call", "interleave", "OTel", "laboratory")
    shown = [(name, row) for name, row in rows.items() if "least_us" in row and not any(word in name for word in more)]
    shown.sort(key=lambda each: each[1]["times_the_floor"])
    left, width, height = 230, 430, 22
    scale = width / max(row["times_the_floor"] for _, row in shown)
    bars = []
    for place, (name, row) in enumerate(shown):
        top, times = 10 + place * height, row["times_the_floor"]
        colour = "#0f766e" if name.startswith("ours") else "#64748b" if name == FLOOR else "#c2410c"
        bars.append(
            f'<text x="{left - 8}" y="{top + 14}" text-anchor="end">{name}</text>'
            f'<rect x="{left}" y="{top + 3}" width="{max(1.0, times * scale):.1f}" height="{height - 7}" fill="{colour}"/>'
            f'<text x="{left + times * scale + 6:.1f}" y="{top + 14}">{times:.1f}</text>'
        )
    tall = 20 + len(shown) * height
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {left + width + 50} {tall}" font-family="sans-serif" '
        f'font-size="11" fill="#64748b">{"".join(bars)}</svg>\n'
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.add_argument("--passes", type=int, default=5, help="passes over the rows (5)")
    parser.add_argument("--units", type=int, default=1_000_000, help="distinct units of the memory run (1,000,000)")
    parser.add_argument("--check", type=Path, metavar="FILE", help="compare the ratios with this baseline, and measure no more")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the ratios as a baseline")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="draw the rows as SVG")
    parser.add_argument("--row", help=argparse.SUPPRESS)
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    parts = {"processor": processor, "sustained": sustained, "apart": apart}
    if options.row:
        made = parts[options.row]() if options.row in parts else measure_row(options.row)
        print(json.dumps(made), flush=True)
        # Some peers' threads do not end.
        os._exit(0)
    names = list(ROWS)
    if options.check is not None:
        baseline = json.loads(options.check.read_text())
        rows = measure(options.passes, [FLOOR, *baseline])
        show({"rows": rows})
        worse = check(rows, baseline)
        print("\n" + ("\n".join(worse) if worse else "None is worse than the baseline by more than a quarter."))
        return int(bool(worse))
    figures: dict[str, Any] = {"rows": measure(options.passes, names)}
    figures.update({name: in_fresh_interpreter(__file__, "--row", name) for name in parts})
    figures["imports"] = imports()
    figures["memory"] = in_fresh_interpreter("-c", RESIDENT + MEMORY, str(options.units))
    if options.write is not None:
        ours = {name: row["times_the_floor"] for name, row in figures["rows"].items() if name.startswith("ours")}
        # Of the others, copies, designs or OpenTelemetry make up the cost.
        named = ("A/B", "coroutine", "canary", "not sampled", "assign")
        kept = {name: round(times, 2) for name, times in ours.items() if any(word in name for word in named)}
        options.write.write_text(json.dumps(kept, indent=2) + "\n")
    if options.picture is not None:
        options.picture.write_text(picture(figures["rows"]))
    print(json.dumps(figures, indent=2)) if options.json else show(figures)
    return 0


if __name__ == "__main__":
    sys.exit(main())
