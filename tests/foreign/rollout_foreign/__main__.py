"""Run foreign suites bare and decorated, and compare: python -m rollout_foreign [--short] [--settings a,b] [suite ...]

Exits with 1 when a test that passes bare does not pass decorated, in two runs, and the table does not say why, when something
that the table says differs no longer does, when something of ours failed, when no call went through a rollout, or when the bare
run shows nothing: no test passes, a module cannot be collected, or it does not come to its end.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

from attrs import evolve, frozen

from rollout_foreign.archives import unpacked
from rollout_foreign.comparing import COUNTED, IN_COLLECTION, NOT_RUN, Comparison, compare
from rollout_foreign.settings import BARE, SETTINGS
from rollout_foreign.suites import SUITES, Suite

HOME = Path(sys.prefix) / "foreign"
"""In the virtual environment, so that it goes when that goes."""

TEST_TIMEOUT_S = 90
RUN_TIMEOUT_S = 3_600
_MOST_AGAIN = 20
SHORT_SETTINGS = ("default", "raise", "shadow")
"""The candidate alone, guarded and unguarded, and the control beside it."""


@frozen(kw_only=True)
class Run:
    """One pytest run of one suite.

    Attributes:
        outcomes: How tests ended, by node id.
        why: The traceback of what failed.
        counts: What the plugin counted; empty when the run did not get to its end.
        took_s: How long it took.
    """

    outcomes: dict[str, str]
    why: dict[str, str]
    counts: dict[str, Any]
    took_s: float

    def reason(self, test: str) -> str:
        """The last line of what a test failed with."""
        return (self.why.get(test, "").strip().splitlines() or [""])[-1][:160]


def run(name: str, setting: str, *, short: bool = False, only: Sequence[str] = ()) -> Run:
    """Run a suite under a setting, or some of its tests only, in a process of its own that stops by itself."""
    suite = SUITES[name]
    home = unpacked(suite, HOME) if suite.archive else HOME
    stem = f"{name}.{setting}.again" if only else f"{name}.{setting}"
    results, log = HOME / f"{stem}.jsonl", HOME / f"{stem}.log"
    results.unlink(missing_ok=True)
    description = {
        "suite": name,
        "setting": setting,
        "tests": _homes_of_tests(suite, home),
        "results": str(results),
        "journal": str(HOME / f"{name}.journal"),
    }
    options = [
        "-q",
        "-p",
        "no:cacheprovider",
        "-p",
        "rollout_foreign.plugin",
        "-o",
        "addopts=",
        "--continue-on-collection-errors",
        "--tb=native",
        f"--timeout={TEST_TIMEOUT_S}",
    ]
    command = [
        sys.executable,
        "-m",
        "pytest",
        *options,
        "--rootdir",
        str(_root(suite, home)),
        # Tests of an installed package are named by their paths; the options that pytest would find above those are ours.
        *(("-c", str(HOME / "pytest.ini")) if only and not suite.archive else ()),
        *suite.options,
        *(suite.short if short else ()),
        *([str(_root(suite, home) / test) for test in only] or suite.tests),
    ]
    # The same hashes in every run, so that cases of tests have the same names and order.
    environment = {
        **os.environ,
        "PYTHONHASHSEED": "0",
        "PYTHONDONTWRITEBYTECODE": "1",
        # Two suites at once share two cores: their threads would only wait for each other.
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent.parent), os.environ.get("PYTHONPATH", "")]),
        "ROLLOUT_FOREIGN": json.dumps(description),
    }
    begun = time.monotonic()
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=home, env=environment, stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
            start_new_session=True,
        )  # fmt: skip
        try:
            process.wait(RUN_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    return _read(results, time.monotonic() - begun)


def _homes_of_tests(suite: Suite, home: Path) -> list[str]:
    """Where functions are defined that are the tests' own."""
    if suite.archive:
        return [str(home / path) for path in (*suite.tests, "docs_src")]
    return [spec.origin for spec in _installed(suite) if spec.origin]


def _installed(suite: Suite) -> list[ModuleSpec]:
    modules = [test for test in suite.tests if not test.startswith("-")]
    return [spec for module in modules if (spec := importlib.util.find_spec(module)) is not None]


def _root(suite: Suite, home: Path) -> Path:
    """What names of tests begin at."""
    if suite.archive:
        return home
    package = importlib.util.find_spec(_installed(suite)[0].name.partition(".")[0])
    return Path(package.origin).parent.parent if package is not None and package.origin else home


def _read(results: Path, took_s: float) -> Run:
    lines = [json.loads(line) for line in results.read_text().splitlines()] if results.exists() else []
    outcomes: dict[str, str] = {}
    for line in lines:
        # A test can end twice: passed, and failed afterwards.
        if "test" in line and outcomes.get(line["test"], "passed") == "passed":
            outcomes[line["test"]] = line["outcome"]
    why = {line["test"]: line["why"] for line in lines if line.get("why")}
    return Run(outcomes=outcomes, why=why, counts=next((line for line in lines if "cpu_s" in line), {}), took_s=took_s)


def shows_nothing(bare: Run) -> list[str]:
    """Why tests may be missing from a bare run, which nothing decorated can be compared with then."""
    missing = [test for test, outcome in bare.outcomes.items() if outcome == IN_COLLECTION]
    return [
        *([] if bare.counts else ["The bare run did not end."]),
        *([] if any(outcome in COUNTED for outcome in bare.outcomes.values()) else ["No test passes bare."]),
        *(f"{test} cannot be collected bare: {bare.reason(test)}" for test in missing),
    ]


def again(name: str, setting: str, result: Comparison) -> Comparison:
    """Run what is new once more, with nothing beside it: tests with limits of time fail on a busy machine.

    What passes then is printed, and is no difference.
    """
    tests = [test for test, outcome in result.new.items() if outcome == "failed"]
    if not 0 < len(tests) <= _MOST_AGAIN:
        return result
    passed = [test for test, outcome in run(name, setting, only=tests).outcomes.items() if test in tests and outcome in COUNTED]
    for test in passed:
        print(f"    ONCE: {test} failed beside another suite, and passed when it was run again", flush=True)
    return evolve(result, new={test: outcome for test, outcome in result.new.items() if test not in passed})


def report(name: str, setting: str, decorated: Run, result: Comparison) -> bool:
    """Print a line of the table, and what it rests on; whether all is well."""
    counts = decorated.counts
    print(
        f"{name:15} {setting:8} {result.passed:6} {result.same:9} {len(result.known):6} {len(result.new):5}"
        f" {counts.get('called', 0):6}/{counts.get('rollouts', 0):<5} {counts.get('calls', 0):8} {counts.get('candidate', 0):9}"
        f" {counts.get('fallbacks', 0):9} {counts.get('shadows', 0):7} {decorated.took_s:6.0f}"
        f" {counts.get('cpu_s', 0):6.0f}",
        flush=True,
    )
    not_run = [test for test, outcome in result.new.items() if outcome == NOT_RUN]
    if not_run:
        print(f"    NEW: {len(not_run)} tests did not run, {not_run[0]} first. See {HOME / f'{name}.{setting}.log'}.")
    for test, outcome in result.new.items():
        if outcome == NOT_RUN:
            continue
        print(f"    NEW: {test} {outcome}: {decorated.reason(test)}")
    for known in result.gone:
        print(f"    GONE: {known.test} no longer differs. Take it off the table of known differences.")
    for place, error in counts.get("refused", {}).items():
        print(f"    REFUSED: {place}: {error:.160}")
    if faults := counts.get("faults"):
        print(f"    FAULTS of ours: {faults}")
    if not counts:
        print("    The run did not end.")
    elif not counts["calls"]:
        print("    No call went through a rollout: this run shows nothing.")
    clean = not (result.new or result.gone or counts.get("refused") or counts.get("faults"))
    return clean and bool(counts.get("calls"))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line asks for; the exit code."""
    parser = argparse.ArgumentParser(prog="rollout_foreign", description=__doc__)
    parser.add_argument("suites", nargs="*", choices=[*SUITES, []], help="all by default")
    parser.add_argument("--short", action="store_true", help="the selection of CI")
    parser.add_argument("--settings", help=f"some of {', '.join(SETTINGS)}, with commas")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--requirements", action="store_true", help="print what pip has to install, and run nothing")
    options = parser.parse_args(arguments)
    names = options.suites or list(SUITES)
    if options.requirements:
        print(*sorted({requirement for name in names for requirement in SUITES[name].installed}), sep="\n")
        return 0
    settings = options.settings.split(",") if options.settings else SHORT_SETTINGS if options.short else tuple(SETTINGS)

    def taken(name: str, setting: str) -> bool:
        return SUITES[name].runs_under(setting) and (not options.short or SUITES[name].is_steady_under(setting))

    HOME.mkdir(exist_ok=True)
    # Where an archive has no options for pytest, its tests must not find ours.
    (HOME / "pytest.ini").write_text("[pytest]\n")
    for name in names:
        if SUITES[name].archive:
            unpacked(SUITES[name], HOME)
    print(
        "suite           setting  passed decorated  known   new      called    calls candidate fallbacks shadows      s  cpu s",
        "               in all   bare                                of rollouts",
        sep="\n",
    )
    well = True
    doubtful: list[tuple[str, str, Run, Comparison]] = []
    begun = time.monotonic()
    with ThreadPoolExecutor(options.jobs) as pool:
        runs = {
            (name, setting): pool.submit(run, name, setting, short=options.short)
            for name in names
            for setting in (BARE, *settings)
            if taken(name, setting)
        }
        for name in names:
            bare = runs[name, BARE].result()
            for why in shows_nothing(bare):
                well = False
                print(f"{name:15} {BARE:8} {why} See {HOME / f'{name}.{BARE}.log'}.", flush=True)
            for setting in (each for each in settings if taken(name, each)):
                decorated = runs[name, setting].result()
                result = compare(bare.outcomes, decorated.outcomes, SUITES[name].known, setting)
                if result.new:
                    doubtful.append((name, setting, decorated, result))
                else:
                    well = report(name, setting, decorated, result) and well
    for name, setting, decorated, result in doubtful:
        well = report(name, setting, decorated, again(name, setting, result)) and well
    print(f"{time.monotonic() - begun:.0f} s; tests' output and reasons are in {HOME}")
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
