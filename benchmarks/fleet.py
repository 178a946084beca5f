"""The load of a fleet on its store, and the time until it follows a change: real servers, and 1,000 simulated processes.

python benchmarks/fleet.py ADDRESS [--processes 8] [--seconds 30]
python benchmarks/fleet.py --simulate [--processes 1000] [--seconds 60] [--rollouts 1]
python benchmarks/fleet.py --evidence

With the address of an empty store (redis://..., postgresql://..., sqlite:///...), separate processes serve one judged canary,
while an operator changes it every two seconds. Each process counts its requests to the store, and the bytes of the texts.

The simulation runs the SDK's own code in all processes, on a simulated clock: each has a runtime, a reconciler and evidence, on
one store in memory. A request takes `--network-ms` for the round trip, and waits until the store has served earlier ones, one
after the other, each for `--service-us` plus its bytes at `--megabytes`: a model of one Redis. Computation of the SDK between
two requests takes its processor time on this machine.
"""

from __future__ import annotations

import argparse
import gc
import heapq
import json
import random
import subprocess
import sys
import time
from collections import Counter
from functools import partial
from math import inf
from typing import Any

from greenlet import getcurrent, greenlet

from rollout_sdk import Canary, Gate, Guardrail, Runtime, Step, operate, rollout
from rollout_sdk.control import judge_loop, presence, reconciler
from rollout_sdk.control.stores import MemoryStore
from rollout_sdk.extending import state_of, store_at
from rollout_sdk.judging import PhaseEvidence

KEY = "shop.rank"
METHODS = ("load", "swap", "publish", "gather", "claim", "note", "noted", "history", "keys")
PLAN = Canary(
    [Step(f"{share}%", min_units=10**9) for share in range(2, 92, 2)], guardrails=[Guardrail("error_rate")], gates=[Gate("buy")]
)


class Counting:
    """A store that counts requests, and the bytes of the texts."""

    def __init__(self, store: Any) -> None:
        self.store, self.asked, self.bytes = store, Counter(), Counter()
        self.timeout_s = 5.0
        if hasattr(store, "wait_for_change"):
            self.wait_for_change = store.wait_for_change

    def __getattr__(self, name: str) -> Any:
        """A method of the store, counted."""
        method = getattr(self.store, name)
        if name not in METHODS:
            return method

        def ask(*args: Any) -> Any:
            answer = method(*args)
            self.asked[name] += 1
            self.bytes[name] += size(args) + size(answer)
            return answer

        return ask


def size(value: Any) -> int:
    """Bytes of the texts in a request or an answer."""
    if isinstance(value, str):
        return len(value)
    if isinstance(value, dict):
        return sum(size(each) for pair in value.items() for each in pair)
    if isinstance(value, list | tuple | set | frozenset):
        return sum(map(size, value))
    if hasattr(value, "parts"):
        return size(dict(value.parts))
    return size(dict(value.document)) if hasattr(value, "document") else 8


def percentile(values: list[float], q: float) -> float:
    values = sorted(values)
    return values[min(len(values) - 1, int(q * len(values)))]


def model_in(runtime: Runtime, key: str = KEY) -> Any:
    return rollout(candidate=lambda user: 1, strategy=PLAN, unit="user", key=key, runtime=runtime)(lambda user: 0)


# Real processes -------------------------------------------------------------------------------------------------------------


def serve(address: str, seconds: float, calls_a_second: float) -> None:
    """One process: serves, and prints its requests, and when it has seen each revision."""
    store = Counting(store_at(address))
    runtime = Runtime(store=store)
    model, seen, served = model_in(runtime), {}, 0
    print("ready", flush=True)
    sys.stdin.readline()
    store.asked.clear(), store.bytes.clear()
    began = time.monotonic()
    while (now := time.monotonic()) < began + seconds:
        # As many as it can, if more are asked for; but it looks at the state, and at the clock.
        due = int((now - began) * calls_a_second) - served
        for _ in range(min(due, 1_000)):
            model(f"user-{random.randrange(10**6)}")
            served += 1
        seen.setdefault(state_of(model.rollout).revision, time.monotonic())
        if due < 1_000:
            time.sleep(0.002)
    print(json.dumps({"asked": store.asked, "bytes": store.bytes, "seen": seen, "served": served}), flush=True)
    runtime.close(5.0)


def measure(address: str, processes: int, seconds: float, calls_a_second: float) -> None:
    """Start the processes, change the rollout, and print what they have seen."""
    command = [sys.executable, __file__, address, "--serve", "--seconds", str(seconds), "--calls", str(calls_a_second)]
    started = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(processes)]
    for each in started:
        assert each.stdout is not None
        each.stdout.readline()
    for each in started:
        assert each.stdin is not None
        each.stdin.write("go\n")
        each.stdin.flush()
    until, changed = time.monotonic() + seconds - 3.0, {}
    with operate(address, KEY, actor="benchmark") as rank:
        while time.monotonic() < until:
            time.sleep(2.0)
            change = rank.promote(reason="benchmark", force=True)
            changed[change.after.revision] = time.monotonic()
    found = [json.loads(each.communicate()[0]) for each in started]
    waits = [max(0.0, float(each["seen"].get(str(n), "inf")) - at) for each in found for n, at in changed.items()]
    asked, moved = Counter(), Counter()
    for each in found:
        asked.update(each["asked"])
        moved.update(each["bytes"])
    report(asked, moved, processes, seconds, waits)
    print(f"calls of the model: {sum(each['served'] for each in found) / seconds:,.0f} a second")


def report(asked: Counter[str], moved: Counter[str], processes: int, seconds: float, waits: list[float]) -> None:
    """Print the table."""
    print(f"{processes:,} processes for {seconds:g} s; of each process, in a second:")
    for name in sorted(asked):
        print(
            f"  {name:<10} {asked[name] / processes / seconds:8.3f} requests {moved[name] / processes / seconds:12,.0f} bytes"
        )
    total, size_ = sum(asked.values()) / seconds, sum(moved.values()) / seconds
    print(f"  {'all':<10} {total / processes:8.3f} requests {size_ / processes:12,.0f} bytes")
    print(f"the store: {total:,.0f} requests and {size_ / 1e6:,.2f} MB a second")
    if waits:
        quantiles = ", ".join(f"{name} {percentile(waits, q) * 1e3:,.0f} ms" for name, q in (("p50", 0.5), ("p99", 0.99)))
        print(f"{len(waits):,} waits for a transition: {quantiles}, at most {max(waits) * 1e3:,.0f} ms")


# Simulated processes ----------------------------------------------------------------------------------------------------------


class Process(greenlet):
    """A process that waits for the clock, for an answer, or for a change; `turn` tells one wait from the next."""

    turn = 0


class World:
    """A clock, a schedule of events, and a store that serves one request after the other."""

    def __init__(self, network_s: float, service_s: float, bytes_a_second: float) -> None:
        self.network_s, self.service_s, self.bytes_a_second = network_s, service_s, bytes_a_second
        self.now_s, self.number, self.events, self.hub = time.time(), 0, [], getcurrent()
        self.store, self.listening = Counting(MemoryStore()), set()
        self.served_until_s = self.busy_s = 0.0
        self.used = time.process_time()

    def at(self, when_s: float, who: Process) -> None:
        """Have a process go on then."""
        self.number += 1
        heapq.heappush(self.events, (when_s, self.number, who, who.turn))

    def wait(self, seconds: float) -> None:
        """Have others go on until then; the processor time that they use is theirs."""
        me = getcurrent()
        self.at(self.now_s + seconds, me)
        self.hub.switch()
        me.turn += 1
        self.used = time.process_time()

    def listen(self, seconds: float) -> None:
        """Wait, for a change at the longest."""
        self.listening.add(getcurrent())
        self.wait(seconds)
        self.listening.discard(getcurrent())

    def run(self, until_s: float) -> None:
        """Let the time pass until then."""
        while self.events and self.events[0][0] <= until_s:
            when_s, _, who, turn = heapq.heappop(self.events)
            # It has been woken by something else meanwhile.
            if who.turn == turn:
                self.now_s = max(self.now_s, when_s)
                who.switch()

    def ask(self, name: str, *args: Any) -> Any:
        """Make a request of the current process; its computation since the last request takes time, too."""
        self.wait(time.process_time() - self.used + self.network_s / 2)
        before = self.store.bytes[name]
        answer = getattr(self.store, name)(*args)
        takes_s = self.service_s + (self.store.bytes[name] - before) / self.bytes_a_second
        self.served_until_s = max(self.now_s, self.served_until_s) + takes_s
        self.busy_s += takes_s
        if name == "swap" and answer:
            for each in self.listening:
                self.at(self.served_until_s + self.network_s / 2, each)
        self.wait(self.served_until_s - self.now_s + self.network_s / 2)
        return answer


class Reached:
    """The store as a simulated process reaches it."""

    def __init__(self, world: World) -> None:
        for name in METHODS:
            setattr(self, name, partial(world.ask, name))


def live(world: World, keys: list[str], calls_a_second: float, seen: dict[int, float]) -> None:
    """One simulated process; notes when it has seen which revision."""
    runtime, rng = Runtime(store=Reached(world), time_ns=lambda: int(world.now_s * 1e9)), random.Random(world.number)
    # Without its own thread: the simulation runs it.
    runtime.reconciler.start, runtime.reconciler.store._threads = lambda: None, None
    models = [model_in(runtime, key) for key in keys]
    add_calls(runtime, rng, 300)
    counted_s = world.now_s
    while True:
        world.listen(0.5)
        if world.now_s - counted_s >= 2.5:
            add_calls(runtime, rng, int((world.now_s - counted_s) * calls_a_second))
            counted_s = world.now_s
            world.used = time.process_time()
        runtime.reconciler._watch()
        seen.setdefault(state_of(models[0].rollout).revision, world.now_s)


def add_calls(runtime: Runtime, rng: random.Random, calls: int) -> None:
    """So many calls, as the recorder adds them to the evidence."""
    for managed in runtime.reconciler.rollouts.values():
        phase, now_s = managed.state.phase, runtime.reconciler.now_s
        for _ in range(calls):
            arm = "candidate" if rng.random() < phase.shares["candidate"] else "control"
            where = phase.name, arm, phase.all_shares, rng.getrandbits(32), rng.randrange(512)
            managed.evidence.add_call(*where, failed=False, duration_s=0.01, time_s=now_s)


def move(world: World, changed: dict[int, float]) -> None:
    """An operator, who changes the rollout every ten seconds."""
    with operate(Reached(world), KEY, actor="benchmark") as rank:
        rank._store._threads = None
        while True:
            world.wait(10.0)
            changed[rank.promote(reason="benchmark", force=True).after.revision] = world.now_s


def simulate(options: argparse.Namespace) -> None:
    """Print the load of this number of processes on their store, and the time until they follow a change."""
    world = World(options.network_ms / 1e3, options.service_us / 1e6, options.megabytes * 1e6)
    # It would look through the objects of all processes, on the time of one.
    gc.disable()
    for module in (reconciler, judge_loop, presence):
        module.monotonic = lambda: world.now_s
    keys = [KEY if number == 0 else f"{KEY}.{number}" for number in range(options.rollouts)]
    seen: list[dict[int, float]] = [{} for _ in range(options.processes)]
    rng, began_s = random.Random(1), world.now_s
    for each in seen:
        world.at(began_s + rng.uniform(0, 5), Process(partial(live, world, keys, options.calls, each)))
    world.run(began_s + 30)
    changed: dict[int, float] = {}
    world.at(world.now_s, Process(partial(move, world, changed)))
    for counted in (world.store.asked, world.store.bytes):
        counted.clear()
    world.busy_s, until_s = 0.0, began_s + 30 + options.seconds
    world.run(until_s)
    past = {revision: at for revision, at in changed.items() if at < until_s - 5}
    waits = [
        min(each.get(n, inf) for n in range(revision, revision + 99)) - at for each in seen for revision, at in past.items()
    ]
    report(world.store.asked, world.store.bytes, options.processes, options.seconds, [max(0.0, wait) for wait in waits])
    print(f"the store is busy for {world.busy_s / options.seconds:.1%} of the time")
    print(f"seconds between two verdicts: {world.store.store.noted(KEY, 'pace') or 5}")


def weigh() -> None:
    """Print the size of a process's sums after this number of calls of as many users, and a judge's cost to add them up."""
    world = World(0.0, 0.0, inf)
    runtime, rng, calls = Runtime(store="memory:", time_ns=lambda: int(world.now_s * 1e9)), random.Random(1), 0
    model_in(runtime)
    managed = runtime.reconciler.rollouts[KEY]
    for more in (1_000, 9_000, 90_000):
        add_calls(runtime, rng, more)
        calls += more
        (phase,) = managed.evidence.phases.values()
        text = json.dumps(phase.as_dict(), separators=(",", ":"))
        began = time.process_time()
        whole = PhaseEvidence()
        for _ in range(20):
            whole.merge(PhaseEvidence.from_dict(json.loads(text)))
        print(f"{calls:>9,} calls: {len(text):>9,} bytes, {(time.process_time() - began) / 20 * 1e3:.1f} ms to read and add up")


def main() -> None:
    """Measure, simulate, or be one of the processes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("address", nargs="?")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--simulate", action="store_true")
    parser.add_argument("--evidence", action="store_true", help="what one process publishes")
    parser.add_argument("--processes", type=int, default=8)
    parser.add_argument("--rollouts", type=int, default=1, help="of each simulated process")
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--calls", type=float, default=20.0, help="of each process, in a second")
    parser.add_argument("--network-ms", type=float, default=1.0)
    parser.add_argument("--service-us", type=float, default=20.0)
    parser.add_argument("--megabytes", type=float, default=500.0, help="that the store moves in a second")
    options = parser.parse_args()
    if options.evidence:
        weigh()
    elif options.simulate:
        simulate(options)
    elif options.serve:
        serve(options.address, options.seconds, options.calls)
    else:
        measure(options.address, options.processes, options.seconds, options.calls)


if __name__ == "__main__":
    main()
