"""What large answers cost: how long they take to compare, beside numpy, and whether any caller waits for it.

    python benchmarks/large_answers.py [--size 200000] [--answer 100000] [--calls 400] [--json]

First, two answers of so many numbers are compared as shadows' are, in turn with numpy's `isclose` on the same numbers (on the
same lists, for lists): the ratio of the least processor times of several rounds. Then a model that computes for some 2 ms
answers with so many numbers, and every call is shadowed. Bare and shadowed calls come in turn, in another order each time, so
that the machine's noise meets both. Said is how long callers wait, and the processor time of their own threads, which knows
nothing of other programs and of waiting for the interpreter's lock; beside answers of ten numbers, what is more is the price of
their size.

Every shadowed caller has a budget: its thread may work `BUDGET_MS` longer than that of the median caller of the bare model, for
two copies of up to a millisecond each (of arguments and answer), the hand-over, and what the machine adds. The program ends
with 1 if one of them worked longer.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import json
import random
import sys
from collections.abc import Callable, Mapping, Sequence
from time import perf_counter, sleep, thread_time
from typing import Any

import numpy as np

from rollout_sdk import Runtime, Shadow, ShadowLimits, rollout
from rollout_sdk.comparators import compare

ROUNDS, EVERY_S = 15, 0.02
BUDGET_MS = 8.0
NOISES = {"equal": 0.0, "close": 1e-12, "different": 1.0}


def library(name: str, make: str) -> Callable[[Any], Any] | None:
    """A function of a library, if it is installed."""
    try:
        found: Any = importlib.import_module(name)
    except ImportError:
        return None
    for part in make.split("."):
        found = getattr(found, part)
    return found  # type: ignore[no-any-return]


def of_pandas(make: Callable[[Any, Any], Any]) -> Callable[[Any], Any] | None:
    """Makes answers with pandas, if it is installed."""
    pandas = library("pandas", "Series") and importlib.import_module("pandas")
    return None if pandas is None else lambda x: make(pandas, x)


def lists_of_arrow() -> Callable[[Any], Any] | None:
    """Makes lists of four numbers each with pyarrow, if it is installed."""
    if library("pyarrow", "array") is None:
        return None
    arrow = importlib.import_module("pyarrow")
    return lambda x: arrow.ListArray.from_arrays(arrow.array(np.arange(0, len(x) + 1, 4, dtype="i4")), arrow.array(x))


def gaps(x: Any) -> Any:
    """Where values are missing: every tenth."""
    return np.arange(len(x)) % 10 == 0


def kinds() -> dict[str, Callable[[Any], Any]]:
    """Makes answers of an array of numbers, by what they are."""
    made = {
        "array of numpy": np.asarray,
        "float32 of numpy": lambda x: x.astype("f4"),
        "mapping of an array": lambda x: {"scores": x},
        "series of pandas": library("pandas", "Series"),
        "series of polars": library("polars", "Series"),
        "array of pyarrow": library("pyarrow", "array"),
        "tensor of torch": library("torch", "from_numpy"),
        "whole numbers beyond 2^53": lambda x: (x * 1e18).astype("i8"),
        "frame of 20 columns": of_pandas(lambda pd, x: pd.DataFrame(x.reshape(-1, 20))),
        "Int64 of pandas": of_pandas(lambda pd, x: pd.Series((x * 1e6).astype("i8"), dtype="Int64")),
        "times with a zone": of_pandas(lambda pd, x: pd.Series(pd.to_datetime((x * 1e6).astype("i8"), unit="us", utc=True))),
        "Int64 with gaps": of_pandas(lambda pd, x: pd.Series((x * 1e6).astype("i8"), dtype="Int64").mask(gaps(x))),
        "array with a mask": lambda x: np.ma.array(x, mask=gaps(x)),
        "category of pandas": of_pandas(lambda pd, x: pd.Series(pd.Categorical((x * 3).round()))),
        "lists of pyarrow": lists_of_arrow(),
        "list of floats": lambda x: x.tolist(),
    }
    return {name: each for name, each in made.items() if each is not None}


def ratio(make: Callable[[Any], Any], one: Any, other: Any) -> float:
    """The least time of a comparison over numpy's."""
    ours, theirs = make(one), make(other)
    least = [float("inf"), float("inf")]
    numbers = (ours, theirs) if isinstance(ours, list) else (one, other)
    functions = (lambda: compare(ours, theirs), lambda: bool(np.isclose(*numbers, 1e-6, 1e-9, equal_nan=True).all()))
    # From here on, the allocator keeps what is freed. Else, either function may pay for memory that the other has given back.
    np.empty(1 << 21)
    for _ in range(ROUNDS):
        for place, function in enumerate(functions):
            # Of this thread, so that other programs have no part in it.
            began = thread_time()
            function()
            least[place] = min(least[place], thread_time() - began)
    return least[0] / least[1]


def callers(make: Callable[[Any], Any], size: int, calls: int) -> dict[str, Any]:
    """Milliseconds of a caller by the clock and of its thread's processor time, bare and shadowed; and how shadows ended."""
    answer = make(np.random.default_rng(2).normal(size=size))
    other = make(np.random.default_rng(2).normal(size=size) + 1e-12)
    runtime = Runtime(shadows=ShadowLimits(max_jobs=calls, max_age_s=120.0, max_bytes=1 << 30))

    def control(x: int) -> Any:
        sum(n * n for n in range(25_000))
        return answer

    model = rollout(candidate=lambda x: other, strategy=Shadow(1.0), effects="read", key="large", runtime=runtime)(control)
    times: dict[str, list[float]] = {"bare": [], "shadowed": []}
    worked: dict[str, list[float]] = {"bare": [], "shadowed": []}
    model(0)
    # What the libraries have loaded is not searched for garbage: it takes as long as a copy, and which call does it is chance.
    gc.collect()
    gc.freeze()
    began = perf_counter()
    for tick in range(calls):
        for name in random.sample(sorted(times), 2):
            function = control if name == "bare" else model
            begin, work = perf_counter(), thread_time()
            function(tick)
            worked[name].append((thread_time() - work) * 1000)
            times[name].append((perf_counter() - begin) * 1000)
        sleep(max(0.0, began + (tick + 1) * EVERY_S - perf_counter()))
    runtime.flush(120.0)
    ends = {end: number for (_, end), number in model.rollout.status().shadows.items()}
    runtime.close(5.0)
    found = {**times, **{f"{name}, worked": each for name, each in worked.items()}}
    return {
        **{name: {f"p{q:g}": float(np.percentile(each, q)) for q in (50, 99, 100)} for name, each in found.items()},
        "ends": ends,
    }


def over_budget(waits: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """By how many milliseconds the slowest shadowed caller worked longer than the median bare one, where that is too long."""
    longer = {name: each["shadowed, worked"]["p100"] - each["bare, worked"]["p50"] for name, each in waits.items()}
    return {name: each for name, each in longer.items() if each > BUDGET_MS}


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the figures; 1 if a caller is over its budget."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=200_000, help="numbers of a compared answer (200,000)")
    parser.add_argument("--answer", type=int, default=100_000, help="numbers of a model's answer (100,000)")
    parser.add_argument("--calls", type=int, default=400, help="calls (400)")
    parser.add_argument("--kinds", help="only kinds of answers whose name contains this")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    options = parser.parse_args(arguments)
    one = np.random.default_rng(1).normal(size=options.size)
    ratios: dict[str, dict[str, float]] = {}
    waits: dict[str, dict[str, Any]] = {}
    if not options.json:
        print(f"{'comparing over isclose':26}" + "".join(f"{noise:>10}" for noise in NOISES))
    chosen = {name: make for name, make in kinds().items() if not options.kinds or options.kinds in name}
    for name, make in chosen.items():
        found = ratios[name] = {noise: ratio(make, one, one + by) for noise, by in NOISES.items()}
        if not options.json:
            print(f"{name:26}" + "".join(f"{found[noise]:>10.2f}" for noise in NOISES), flush=True)
    if not options.json:
        heads = ("bare", "shadowed", "bare, worked", "shadowed, worked")
        print(f"\n{'a caller, ms at p50, p99, most':32}" + "".join(f"{head:>24}" for head in heads))
    sizes = {"ten numbers": 10, **dict.fromkeys(chosen, options.answer)}
    for name, size in sizes.items():
        each = waits[name] = callers(chosen.get(name, np.asarray), size, options.calls)
        if not options.json:
            cells = "".join("".join(f"{each[head][q]:>8.2f}" for q in ("p50", "p99", "p100")) for head in heads)
            print(f"{name:32}{cells}   {each['ends']}", flush=True)
    if options.json:
        print(json.dumps({"ratios": ratios, "callers": waits, "over_budget": over_budget(waits)}, indent=2))
    else:
        for name, longer in over_budget(waits).items():
            print(f"{name}: a caller worked {longer:.2f} ms longer than without a shadow; its budget is {BUDGET_MS:g} ms")
    return int(bool(over_budget(waits)))


if __name__ == "__main__":
    sys.exit(main())
