"""Measures the budget: a call, a shadow for its caller, the end of a process while shadows hang, and the loss of a kill -9.

    make bench, or: python benchmarks/budget.py [--json] [--calls 20000] [--kills 20]

Everything is measured in fresh processes on this machine. Calls are timed one by one, alternating between the bare and the
decorated function; the figure is the difference of their quantiles, which cancels the cost of the clock. A process that calls
without a pause, about 1,000 times a second, is killed at a random moment; a call is lost if it was answered but is not in the
journal.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter, perf_counter_ns, sleep
from typing import Any

PAUSE_S = 2e-4
"""Between the pairs of calls: a server waits for requests, and the background gets its turn."""

HUNG = {
    "none": "",
    "sleeping": "import threading; threading.Event().wait()",
    "burning": "while True: pass",
}


def control(user: str) -> int:
    return len(user)


def candidate(user: str) -> int:
    return -len(user)


def quantile(values: list[int], q: float) -> float:
    return sorted(values)[min(len(values) - 1, int(q * len(values)))]


def calls(count: int, journal: str) -> dict[str, dict[str, float]]:
    """Return the added microseconds per call at p50 and p99, by subject."""
    from rollout_sdk import ABTest, Runtime, Shadow, rollout

    def decorate(strategy: Any, runtime: Runtime, key: str) -> Any:
        return rollout(candidate=candidate, strategy=strategy, unit="user", effects="read", key=key, runtime=runtime)(control)

    silent, kept = Runtime(), Runtime(journal=journal)
    functions = {
        "A/B test": decorate(ABTest(0.5), silent, "ab"),
        "A/B test, journal": decorate(ABTest(0.5), kept, "ab"),
        "shadow on every call, journal": decorate(Shadow(1.0), kept, "shadow"),
    }
    found = {}
    for name, function in functions.items():
        times: dict[bool, list[int]] = {True: [], False: []}
        for number in range(count + 500):
            user = f"u-{number % 5000}"
            for ours in random.sample((True, False), 2):
                model = function if ours else control
                began = perf_counter_ns()
                model(user)
                times[ours].append(perf_counter_ns() - began)
            sleep(PAUSE_S)
        # Neither is measured warm before it is.
        ours, bare = times[True][500:], times[False][500:]
        found[name] = {f"p{q * 100:g}_us": (quantile(ours, q) - quantile(bare, q)) / 1000 for q in (0.5, 0.99)}
    return found


EXITS = """
import sys, time
{imports}
print(time.time(), flush=True)
{end}
"""

HANGING = """
from rollout_sdk import Runtime, Shadow, rollout
def hang(x):
    {hang}
model = rollout(candidate=hang, strategy=Shadow(1.0), effects="read", key="m", runtime=Runtime())(lambda x: x)
for number in range(20):
    model(number)
time.sleep(0.3)
"""


def exits(runs: int) -> dict[str, float]:
    """Return the median seconds from the end of the main module to the end of the process, by the shadows' behaviour."""
    from time import time

    found = {}
    for name, hang in {"bare interpreter": None, **HUNG}.items():
        imports = "" if hang is None else HANGING.format(hang=hang or "return x")
        took = []
        for _ in range(runs):
            program = EXITS.format(imports=imports, end="")
            finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
            took.append(time() - float(finished.stdout))
        found[name] = sorted(took)[len(took) // 2]
    return found


KILLED = """
import os, sys, time
from rollout_sdk import ABTest, Runtime, rollout
runtime = Runtime(journal={journal!r}, durability={durability!r})
model = rollout(candidate=len, strategy=ABTest(0.5), unit="user", key="killed", runtime=runtime)(lambda user: 0)
number = 0
while True:
    model(str(number))
    number += 1
    os.write(1, b"%d\\n" % number)
    time.sleep(0.001)
"""


def kills(runs: int, durability: str) -> dict[str, float]:
    """Calls that a kill -9 took from the journal although they had been answered, and how many had been."""
    lost, answered = [], 0
    for _ in range(runs):
        with tempfile.TemporaryDirectory(prefix="rollout-bench-") as journal:
            program = "def len(user): return 1\n" + KILLED.format(journal=journal, durability=durability)
            process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
            assert process.stdout is not None
            process.stdout.readline()
            sleep(random.uniform(0.2, 1.2))
            process.send_signal(signal.SIGKILL)
            said = process.stdout.read().split()
            process.stdout.close()
            process.wait()
            done = int(said[-1]) if said else 1
            lines = [line for path in Path(journal).glob("*.jsonl") for line in path.read_bytes().split(b"\n")]
            lost.append(done - sum(line.startswith(b'{"event":"decision"') and line.endswith(b"}") for line in lines))
            answered += done
    return {"answered": answered, "lost a kill, mean": sum(lost) / runs, "lost a kill, most": max(lost)}


def in_fresh_process(what: str, *arguments: str) -> Any:
    command = [sys.executable, __file__, "--measure", what, *arguments]
    return json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, timeout=600).stdout)


def report(found: dict[str, Any]) -> str:
    lines = ["A call costs more than the bare one's, in microseconds:"]
    lines += [f"  {name:<34} p50 {each['p50_us']:7.1f}   p99 {each['p99_us']:7.1f}" for name, each in found["calls"].items()]
    lines += ["", "The process ends so many seconds after its main module:"]
    lines += [f"  {'shadows: ' + name if name in HUNG else name:<34} {each:.2f}" for name, each in found["exits"].items()]
    lines += ["", "A kill -9 loses so many of the calls that had been answered:"]
    for name, each in found["kills"].items():
        lines.append(
            f"  durability={name!r:<23} mean {each['lost a kill, mean']:.1f}, most {each['lost a kill, most']:.0f}, "
            f"of {each['answered']:,} calls in all"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--calls", type=int, default=20_000)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--measure", choices=["calls"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        with tempfile.TemporaryDirectory(prefix="rollout-bench-") as journal:
            print(json.dumps(calls(options.calls, str(Path(journal) / "journal"))))
        return
    began = perf_counter()
    found = {
        "calls": in_fresh_process("calls", "--calls", str(options.calls)),
        "exits": exits(5),
        "kills": {durability: kills(options.kills, durability) for durability in ("flush", "call")},
        "took_s": perf_counter() - began,
    }
    print(json.dumps(found, indent=2) if options.json else report(found))


if __name__ == "__main__":
    main()
