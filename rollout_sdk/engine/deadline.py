"""Deadlines of asynchronous candidates: the caller goes on in time, whatever the candidate does with its cancellation.

A candidate with a deadline runs in a task of its own, in a copy of the caller's context; what it sets there is the caller's
when it answers (but for tokens: they belong to the copy). `asyncio.wait_for` would wait for a
task that swallows its cancellation, and `asyncio.timeout` cannot leave one; `asyncio.wait` does.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from contextvars import Context
from typing import TYPE_CHECKING, Any

from rollout_sdk.engine.ambient import own_context, take_over
from rollout_sdk.engine.steps import LET_GO
from rollout_sdk.exceptions import DeadlineError
from rollout_sdk.resilience import kill_switch

if TYPE_CHECKING:
    from rollout_sdk.engine.steps import Invoke

__all__ = ["LATE", "STOPPED", "PumpedStream", "asyncio_loop", "in_time", "on_asyncio", "within", "within_elsewhere"]

LATE = object()
"""In place of a result: the time was up."""


def on_asyncio() -> bool:
    """Whether the running coroutine is part of an asyncio task, so that others can run beside it."""
    try:
        # Not the loop: trio can be a guest of asyncio's, and then its tasks are not asyncio's.
        return asyncio.current_task() is not None
    except RuntimeError:
        return False


def asyncio_loop() -> asyncio.AbstractEventLoop | None:
    """The running loop of asyncio, also in a callback that belongs to no task; None where trio drives, be it as its guest."""
    trio = sys.modules.get("trio")
    if trio is not None and _on_trio(trio):
        return None
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


async def within_elsewhere(deadline_s: float, awaitable: Awaitable[Any]) -> Any:
    """What an awaitable gives within so many seconds, on a loop that is not asyncio's; `LATE` when it took longer.

    Trio cancels it, and waits until it has obeyed. Anything else has no clock that is known here, and the deadline is not kept.
    """
    trio = sys.modules.get("trio")
    if trio is None or not _on_trio(trio):
        return await awaitable
    with trio.move_on_after(deadline_s) as scope:
        result = await awaitable
    return LATE if scope.cancelled_caught else result


def _on_trio(trio: Any) -> bool:
    try:
        trio.lowlevel.current_task()
    except RuntimeError:
        return False
    return True


STOPPED: Any = object()
"""In place of an answer: the operator stopped the candidate before its task began, and it was not run."""

# A task that nobody refers to can be collected while it runs.
_left: set[asyncio.Future[Any]] = set()


async def within(deadline_s: float, step: Invoke) -> Any:
    """What the coroutine function of a step gives within so many seconds; `STOPPED` where the operator was faster.

    Raises:
        DeadlineError: It did not answer in time. It is cancelled, and not waited for.
        BaseException: Whatever it raised itself; or the caller was cancelled, and then it is cancelled, too.
    """
    if not on_asyncio():
        return in_time(await within_elsewhere(deadline_s, step.function(*step.args, **step.kwargs)), step, deadline_s)

    async def run() -> tuple[Any, BaseException | None]:
        try:
            # The task begins later than it was made: the last look, see engine/stopping.py.
            if _is_stopped(step):
                return STOPPED, None
            return await step.function(*step.args, **step.kwargs), None
        # Out of a task, these two end the event loop, past the caller.
        except (KeyboardInterrupt, SystemExit) as error:
            return None, error

    context = own_context()
    since = context.copy()
    task = _started(run(), context)
    try:
        await asyncio.wait([task], timeout=deadline_s)
    finally:
        # Late, or nobody waits for it any more. One that is done takes no notice.
        task.cancel()
    if not task.done():
        raise _late(step.variant, deadline_s)
    value, ending = task.result()
    try:
        if ending is not None:
            raise ending
    finally:
        # Its traceback holds this frame.
        del ending
    take_over(context, since)
    return value


def in_time(result: Any, step: Invoke, deadline_s: float) -> Any:
    """A result of `within_elsewhere` that was there in time.

    Raises:
        DeadlineError: It was not.
    """
    if result is LATE:
        raise _late(step.variant, deadline_s)
    return result


def _is_stopped(step: Invoke) -> bool:
    return step.gate is not None and (step.gate.closed or kill_switch.off)


def _late(variant: str, deadline_s: float) -> DeadlineError:
    return DeadlineError(
        f"Candidate {variant!r} did not answer within {deadline_s} s. A late candidate is cancelled, and that is a failure. "
        "Make it faster, or raise deadline_s=."
    )


def _started(coroutine: Coroutine[Any, Any, Any], context: Context) -> asyncio.Task[Any]:
    task = asyncio.get_running_loop().create_task(coroutine, context=context, name="rollout-candidate")
    _left.add(task)
    task.add_done_callback(_forget)
    return task


def _forget(task: asyncio.Task[Any]) -> None:
    _left.discard(task)
    # Asked for, because the loop would log an exception that nobody has asked for.
    if not task.cancelled():
        task.exception()


class PumpedStream:
    """An async generator that lives in a task of its own, so that its first item can be waited for and left.

    All of it runs in that one task: what it opens there (an HTTP response, a cancel scope) belongs to the task that closes it.
    It is resumed only when the consumer asks, as without a task.
    """

    def __init__(self, function: Callable[..., AsyncGenerator[Any, Any]], step: Invoke, deadline_s: float) -> None:
        """Start nothing yet.

        Args:
            function: Makes the generator, of the step's arguments.
            step: What to run.
            deadline_s: Seconds until the first item.
        """
        self._function = function
        self._step = step
        self._deadline_s: float | None = deadline_s
        self._asked: asyncio.Queue[tuple[str, tuple[Any, ...], asyncio.Future[Any]]] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None
        self._context = self._since = Context()

    async def __anext__(self) -> Any:
        """The next item."""
        return await self._ask("__anext__")

    async def asend(self, value: Any) -> Any:
        """The next item, with what the consumer sent."""
        return await self._ask("asend", value)

    async def athrow(self, error: BaseException) -> Any:
        """The next item, with what the consumer threw."""
        return await self._ask("athrow", error)

    async def _ask(self, method: str, *arguments: Any) -> Any:
        if self._task is None:
            self._context = own_context()
            self._since = self._context.copy()
            self._task = _started(self._pump(), self._context)
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._asked.put_nowait((method, arguments, answer))
        try:
            # The task itself, too: one that was cancelled by somebody else answers nothing.
            await asyncio.wait([answer, self._task], timeout=self._deadline_s, return_when=asyncio.FIRST_COMPLETED)
        except BaseException:
            self._task.cancel()
            raise
        if not answer.done():
            self._task.cancel()
            if self._task.done():
                raise asyncio.CancelledError
            assert self._deadline_s is not None
            raise _late(self._step.variant, self._deadline_s)
        self._deadline_s = None
        kind, value = answer.result()
        if kind == "item" or isinstance(value, StopAsyncIteration):
            take_over(self._context, self._since)
            self._since = self._context.copy()
        if kind == "item":
            return value
        raise value

    async def _pump(self) -> None:
        """Do what is asked, one thing after the other, until the model ends; its exceptions are answers."""
        method, arguments, answer = await self._asked.get()
        # The last look, as in `within`.
        if _is_stopped(self._step):
            if not answer.done():
                answer.set_result(("item", STOPPED))
            return
        model = self._function(*self._step.args, **self._step.kwargs)
        self._step.args, self._step.kwargs = (), LET_GO
        while True:
            try:
                said = ("item", await getattr(model, method)(*arguments))
                if self._task is not None and self._task.cancelling():
                    # Not by us, or nobody waits for this any more: the model has cancelled its own task.
                    raise asyncio.CancelledError
            except BaseException as error:
                said = ("end", error)
            if not answer.done():
                answer.set_result(said)
            if said[0] == "end":
                return
            # What it has given is not held while it waits.
            del said
            method, arguments, answer = await self._asked.get()
