"""The cost of a shadow in a process compared with one in a thread, and the latency of callers while a candidate holds the GIL.

Run it from the repository: python benchmarks/shadow_lanes.py
"""

from __future__ import annotations

import ctypes
import statistics
import time
from collections.abc import Callable

from rollout_sdk import Runtime, Shadow, ShadowLimits, rollout
from rollout_sdk.engine.shadows.processes import ProcessLane

_CALLS, _EVERY_S = 200, 0.03


def light(n: int) -> int:
    """Return at once."""
    return n


def heavy(n: int) -> int:
    """Hold the interpreter's lock for longer than until the next call, as C code without threads does."""
    ctypes.PyDLL(None).usleep(60_000)
    return n


def round_trip() -> str:
    """Time a call to a worker process."""
    lane = ProcessLane(light, timeout_s=30.0, most_bytes=1 << 30)
    began = time.perf_counter()
    lane.call((1,), {})
    start = time.perf_counter() - began
    times = []
    for number in range(1000):
        began = time.perf_counter()
        lane.call((number,), {})
        times.append(time.perf_counter() - began)
    lane.close()
    return f"start {start:.2f} s, round trip p50 {statistics.median(times) * 1e6:.0f} us"


def callers(candidate: Callable[[int], int], where: str) -> str:
    """Time the callers of a control while a candidate is shadowed."""
    runtime = Runtime(shadows=ShadowLimits(cpu_share=1.0))
    strategy = Shadow(1.0, where=where)  # type: ignore[arg-type]
    options = {"effects": "read", "key": f"{candidate.__name__} {where}", "runtime": runtime}
    model = rollout(candidate=candidate, strategy=strategy, **options)(light)
    model(0)
    runtime.background.wait(30.0)
    times = []
    for number in range(_CALLS):
        due = time.perf_counter() + _EVERY_S
        time.sleep(_EVERY_S)
        model(number)
        # From when the call was due: a caller that waits for the interpreter's lock has not even begun.
        times.append(time.perf_counter() - due)
    runtime.background.wait(30.0)
    ends = {end: number for (_, end), number in model.rollout.status().shadows.items()}
    runtime.close(5.0)
    times.sort()
    return f"caller p50 {times[_CALLS // 2] * 1e6:6.0f} us, p99 {times[_CALLS * 99 // 100] * 1e6:8.0f} us   {ends}"


def main() -> None:
    """Print the figures."""
    print("worker process: ", round_trip())
    for candidate in (light, heavy):
        for where in ("thread", "process"):
            print(f"{candidate.__name__:>6} in a {where:<8}", callers(candidate, where))


if __name__ == "__main__":
    # A worker imports this module by its name: a script has none.
    import shadow_lanes

    shadow_lanes.main()
