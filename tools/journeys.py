"""Four ways through the code, and the files on each: `python -m tools.journeys`.

A new reader who follows one of them has to open these files. A file counts if one of its functions runs, on any thread.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import set_tracer_provider

import rollout_sdk
from rollout_sdk import ABTest, Canary, Gate, Guardrail, Runtime, Shadow, rollout

PACKAGE = Path(rollout_sdk.__file__).parent
WAIT_S = 10.0


@contextmanager
def watched(found: dict[str, None]) -> Iterator[None]:
    """Record the files whose functions are called, on all threads."""

    def note(frame: FrameType, event: str, _: Any) -> None:
        if event == "call" and frame.f_code.co_name != "<module>":
            path = Path(frame.f_code.co_filename)
            if PACKAGE in path.parents:
                found.setdefault(str(path.relative_to(PACKAGE)))

    # Before Python 3.12, only threads that start in the meantime.
    everywhere = getattr(threading, "setprofile_all_threads", threading.setprofile)
    everywhere(note)
    sys.setprofile(note)
    try:
        yield
    finally:
        sys.setprofile(None)
        everywhere(None)


def control(user: str) -> int:
    """The model that serves today."""
    return len(user)


def candidate(user: str) -> int:
    """The model that may replace it."""
    return len(user) + 1


def call(runtime: Runtime) -> Callable[[], Any]:
    """A call of a plain function, to its journal line and span."""
    model = rollout(candidate=candidate, strategy=ABTest(1.0), unit="user", key="call", runtime=runtime)(control)
    return lambda: model("ann")


def shadow(runtime: Runtime) -> Callable[[], Any]:
    """A call with a shadow."""
    model = rollout(candidate=candidate, strategy=Shadow(1.0), effects="read", unit="user", key="shadow", runtime=runtime)(
        control
    )
    return lambda: model("ann")


def outcome(runtime: Runtime) -> Callable[[], Any]:
    """From an outcome to the verdict."""
    plan = Canary(["50%", "100%"], guardrails=[Guardrail("error_rate")], gates=[Gate("click")])
    model = rollout(candidate=candidate, strategy=plan, unit="user", key="outcome", runtime=runtime)(control)
    routed = model.rollout.route("ann")

    def go() -> None:
        model.rollout.record("click", 1.0, decision_id=routed.decision.id)
        runtime.flush(WAIT_S)
        model.rollout.judge()

    return go


def abort(runtime: Runtime) -> Callable[[], Any]:
    """From `rollout abort` in a terminal to the process that serves."""
    model = rollout(candidate=candidate, strategy=Canary(["50%", "100%"]), unit="user", key="abort", runtime=runtime)(control)
    model("ann")
    runtime.flush(WAIT_S)

    def go() -> None:
        command = [sys.executable, "-m", "rollout_sdk.cli", "abort", "abort", "--store", str(runtime.store), "--actor", "ann"]
        subprocess.run([*command, "--reason", "a try"], check=True, capture_output=True)
        pause = threading.Event()
        while model.rollout.status().status != "aborted":
            pause.wait(0.05)

    return go


def main() -> None:
    """Print the journeys."""
    set_tracer_provider(TracerProvider())
    for journey in (call, shadow, outcome, abort):
        with tempfile.TemporaryDirectory() as folder:
            runtime = Runtime(journal=Path(folder, "journal"), store=f"sqlite:///{folder}/rollouts.db")
            go = journey(runtime)
            found: dict[str, None] = {}
            with watched(found):
                go()
                runtime.flush(WAIT_S)
            runtime.close()
        rooms = list(dict.fromkeys(name.partition("/")[0] for name in found))
        print(f"{(journey.__doc__ or '').rstrip('.')}: {len(found)} files in {len(rooms)} rooms")
        print("   " + ", ".join(found))


if __name__ == "__main__":
    main()
