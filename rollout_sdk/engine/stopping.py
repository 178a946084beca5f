"""Stopping for good: when an abort returns, no candidate starts any more, in any thread.

Every start looks at its gate with nothing between the look and the call, so that a call pays for no lock. What is left is a
thread that was suspended just there, or at the candidate's first instruction: the interpreter tells where every thread
stands, and whoever closed the gate waits until none stands there.
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
            execute.run_async,
            deadline.within,
            deadline.PumpedStream._pump,  # noqa: SLF001 - one floor
            streams.Stream.resume,
            stand_ins.ReturnedStream.resume,
            streams.AsyncStream.resume,
            ShadowRun._run,  # noqa: SLF001
            ShadowRun.run_async,
            # An event loop stands between it and the run.
            UnderWay.whole_async,
        )
    )
)
"""The code that looks at the gate and then starts a candidate, itself or by what it calls."""


def disable() -> None:
    """From now on, in this process, every call is answered by its control, and nothing is recorded.

    When it returns, no candidate starts any more, in any thread. The same as starting the process with ROLLOUT_DISABLED=1.
    """
    kill_switch.off = True
    wait_for_starts()


def wait_for_starts(timeout_s: float = _LONGEST_WAIT_S) -> bool:
    """Wait until no other thread is about to start a candidate that passed its gate before; False when time ran out.

    It takes microseconds. A candidate written in C looks as if it were about to start for as long as it runs: for one that
    takes longer than the timeout, the answer is False although it has begun.

    In a child whose fork Python was not told of, it waits until every thread has had its turn: 0.1 s.
    """
    if not same_process[0]:
        notice_fork()
    if not was_announced():
        # The interpreter still knows the threads of the parent, whose frames are on stacks that are in use again: it crashes.
        sleep(_TURNS * sys.getswitchinterval())
        return True
    me, until = native_ident(), monotonic() + timeout_s
    about = _starting() - {me}
    while about and monotonic() < until:
        sleep(_LOOK_EVERY_S)
        about &= _starting()
    return not about


def _starting() -> set[int]:
    """The threads that are about to start a candidate."""
    # Before Python 3.12, asking allocates, which may collect garbage, in the midst of which another thread may go on: the
    # interpreter then takes for a frame whatever stands where that thread's frame was, and crashes.
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
    # What a starter calls on its way to the candidate is on that way, too.
    while found is not None and is_ours(found.f_globals):
        if found.f_code in _STARTERS:
            return True
        found = found.f_back
    return False


def _entry(code: CodeType) -> int:
    """Offset of the instruction at which a function is entered, and may be suspended before its first line."""
    return next((each.offset for each in dis.get_instructions(code) if each.opname == "RESUME"), 0)
