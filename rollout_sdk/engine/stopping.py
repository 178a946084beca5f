"""Guaranteed stop: once an abort returns, no candidate starts in any thread.

Every start checks its gate immediately before the call, so calls do not pay for a lock. What remains is a thread suspended
between the check and the candidate's first instruction. The interpreter exposes the frame of every thread, so the code that
closes the gate waits until no thread is at that point.
"""

from __future__ import annotations

import dis
import gc
import sys
from types import CodeType, FrameType

from rollout_sdk.concurrency.clocks import monotonic, sleep
from rollout_sdk.concurrency.forking import notice_fork, same_process, was_announced
from rollout_sdk.concurrency.threads import native_ident
from rollout_sdk.engine import deadline, execute
from rollout_sdk.engine.returned import stand_ins, streams
from rollout_sdk.engine.shadows.shadow import ShadowRun
from rollout_sdk.engine.shadows.under_way import UnderWay
from rollout_sdk.engine.tracebacks import is_ours
from rollout_sdk.resilience import kill_switch

__all__ = ["disable", "wait_for_starts"]

_LOOK_EVERY_S = 1e-4
_LONGEST_WAIT_S = 1.0
_TURNS = 20


def _with_inner(code: CodeType) -> set[CodeType]:
    inner = [each for each in code.co_consts if isinstance(each, CodeType)]
    return {code}.union(*map(_with_inner, inner))


_STARTERS = frozenset[CodeType]().union(
    *(
        _with_inner(function.__code__)
        for function in (
            execute.run,
            execute.attempt,
            execute.run_async,
            deadline.within,
            deadline.PumpedStream._pump,  # noqa: SLF001 - one floor
            streams.Stream.resume,
            stand_ins.ReturnedStream.begin,
            streams.AsyncStream.resume,
            ShadowRun._run,  # noqa: SLF001
            ShadowRun.run_async,
            # An event loop runs between this check and the candidate.
            UnderWay.whole_async,
        )
    )
)
"""Code that checks the gate and then starts a candidate, directly or through its callees."""


def disable() -> None:
    """Switch the SDK off in this process: from now on the control answers every call, and nothing is recorded.

    Once it returns, no candidate starts in any thread. Same effect as starting the process with ROLLOUT_DISABLED=1.
    """
    kill_switch.off = True
    wait_for_starts()


def wait_for_starts(timeout_s: float = _LONGEST_WAIT_S) -> bool:
    """Wait until no other thread is about to start a candidate whose gate check has passed; return False on a timeout.

    Takes microseconds. A candidate written in C appears about to start for as long as it runs: if it runs longer than the
    timeout, the result is False although it has started.

    In a child whose fork bypassed Python's fork hooks, it waits 0.1 s, so that every thread gets a turn.
    """
    if not same_process[0]:
        notice_fork()
    if not was_announced():
        # The interpreter still lists the parent's threads, whose stacks have been reused: reading their frames would crash.
        sleep(_TURNS * sys.getswitchinterval())
        return True
    me, until = native_ident(), monotonic() + timeout_s
    about = _starting() - {me}
    while about and monotonic() < until:
        sleep(_LOOK_EVERY_S)
        about &= _starting()
    return not about


def _starting() -> set[int]:
    """Return the ids of threads about to start a candidate."""
    # Before Python 3.12, this call allocates, which may trigger a garbage collection, during which another thread may run: its
    # frame may then be gone, and the interpreter would read reused memory and crash.
    collects = gc.isenabled()
    try:
        gc.disable()
        frames = sys._current_frames()  # noqa: SLF001 - there is no other way to ask
        return {thread for thread, frame in frames.items() if _is_starting(frame)}
    finally:
        if collects:
            gc.enable()


def _is_starting(frame: FrameType) -> bool:
    found: FrameType | None = frame
    if not is_ours(frame.f_globals) and frame.f_lasti <= _entry(frame.f_code):
        found = frame.f_back
    # A starter's callees on the way to the candidate count as well.
    while found is not None and is_ours(found.f_globals):
        if found.f_code in _STARTERS:
            return True
        found = found.f_back
    return False


def _entry(code: CodeType) -> int:
    """Return the offset of a function's first instruction, where it may be suspended before its first line."""
    return next((each.offset for each in dis.get_instructions(code) if each.opname == "RESUME"), 0)
