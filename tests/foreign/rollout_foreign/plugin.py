"""The pytest plugin of a run: decorates, and writes down how each test ended and how many calls went through a rollout.

Loaded into the foreign suite's own pytest by `-p rollout_foreign.plugin`; ROLLOUT_FOREIGN says which suite and setting.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from rollout_foreign.comparing import IN_COLLECTION
from rollout_foreign.decorating import Decorating
from rollout_foreign.settings import BARE, make_runtime
from rollout_foreign.suites import SUITES

_run = json.loads(os.environ["ROLLOUT_FOREIGN"])
_decorating: Decorating | None = None
if _run["setting"] != BARE:
    _decorating = Decorating(
        SUITES[_run["suite"]], _run["setting"], make_runtime(_run["setting"], _run["journal"]), _run["tests"]
    )
    _decorating.install()


def _write(**line: Any) -> None:
    # At once: a run that is stopped has said how far it came.
    with Path(_run["results"]).open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def _outcome(report: pytest.TestReport) -> str | None:
    """How a test ended, of its call or of what failed before or after it."""
    if report.when == "call" or report.outcome != "passed":
        if hasattr(report, "wasxfail"):
            return "xfailed" if report.skipped else "xpassed"
        return report.outcome if report.when == "call" or report.skipped else f"{report.outcome} in {report.when}"
    return None


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    outcome = _outcome(report)
    # What is within a test fails the test as well.
    if outcome is not None and not isinstance(report, pytest.SubtestReport):
        _write(test=report.nodeid, outcome=outcome, why=report.longreprtext[-4_000:] if report.failed else "")


def pytest_collectreport(report: pytest.CollectReport) -> None:
    if report.failed:
        _write(test=report.nodeid, outcome=IN_COLLECTION, why=report.longreprtext[-4_000:])


def pytest_sessionfinish() -> None:
    if _decorating is None:
        _write(cpu_s=time.process_time())
        return
    runtime = _decorating.runtime
    flushed = runtime.flush(20.0)
    tallies = [runtime.tally(key) for key in _decorating.rollouts]
    _write(
        rollouts=len(tallies),
        called=sum(bool(tally.decisions) for tally in tallies),
        calls=sum(sum(tally.decisions.values()) for tally in tallies),
        candidate=sum(
            count for tally in tallies for (_, variant, *_), count in tally.decisions.items() if variant == "candidate"
        ),
        shadows=sum(count for tally in tallies for (_, end), count in tally.shadows.items() if end == "ok"),
        fallbacks=sum(sum(tally.fallbacks.values()) for tally in tallies),
        refused=_decorating.refused,
        faults={f"{what}: {error}": count for (what, error), count in runtime.faults.items()},
        flushed=flushed,
        cpu_s=time.process_time(),
    )
    runtime.close(1.0)
