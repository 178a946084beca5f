"""What a hung shadow does to the control: a candidate that sleeps 10 s, at 100 calls a second; the control works for some ms.

Run it: make bench, or python benchmarks/shadow_load.py [--json] [--seconds 10]. Bare and decorated calls of the same control
take turns, so that the machine's noise meets both alike. Said: latency of both and its ratio, how the shadows ended, whether
every one is accounted for, and how long the process takes to exit while shadows hang.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from time import perf_counter

PROGRAM = """
import json, sys
from time import perf_counter, sleep
from rollout_sdk import Runtime, Shadow, rollout

def control(x):
    return sum(n * n for n in range(60_000)) + x

def candidate(x):
    sleep(10)
    return x

runtime = Runtime()
model = rollout(candidate=candidate, strategy=Shadow(1.0), key="load", runtime=runtime)(control)
bare, decorated = [], []
began = perf_counter()
calls = 0
while perf_counter() - began < {seconds}:
    for function, times in ((control, bare), (model, decorated)) if calls % 2 else ((model, decorated), (control, bare)):
        start = perf_counter()
        function(calls)
        times.append(perf_counter() - start)
    calls += 1
    sleep(max(0.0, began + calls * 0.01 - perf_counter()))
status = model.rollout.status()
waiting = len(runtime.background._threads.jobs)
print(json.dumps({{"bare": bare, "decorated": decorated, "ends": {{end: n for (_, end), n in status.shadows.items()}},
    "waiting": waiting, "ended": perf_counter()}}))
sys.stdout.flush()
"""


def quantile(values: list[float], q: float) -> float:
    return sorted(values)[min(len(values) - 1, int(q * len(values)))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.add_argument("--seconds", type=float, default=10.0, help="how long to call")
    options = parser.parse_args()
    code = PROGRAM.format(seconds=options.seconds)
    finished = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=options.seconds + 60
    )
    exited = perf_counter()
    run = json.loads(finished.stdout)
    calls, accounted = len(run["decorated"]), sum(run["ends"].values()) + run["waiting"]
    figures = {
        "calls": calls,
        "exit_s": exited - run["ended"],
        "shadows": run["ends"] | {"still waiting or running": run["waiting"]},
        "accounted": accounted,
        **{
            f"{name}_p{percent}_ms": quantile(run[name], percent / 100) * 1000
            for name in ("bare", "decorated")
            for percent in (50, 99)
        },
    }
    figures["p50_ratio"] = figures["decorated_p50_ms"] / figures["bare_p50_ms"]
    figures["p99_ratio"] = figures["decorated_p99_ms"] / figures["bare_p99_ms"]
    if options.json:
        print(json.dumps(figures, indent=2))
        return
    for percent in (50, 99):
        bare, ours, ratio = (figures[name] for name in (f"bare_p{percent}_ms", f"decorated_p{percent}_ms", f"p{percent}_ratio"))
        print(f"p{percent}: bare {bare:.3f} ms, decorated {ours:.3f} ms, ratio {ratio:.3f}")
    print(
        f"{calls} calls, {accounted} shadows accounted for: " + ", ".join(f"{end} {n}" for end, n in figures["shadows"].items())
    )
    print(f"exit with hung shadows: {figures['exit_s']:.2f} s")


if __name__ == "__main__":
    main()
