"""Deadlines of asynchronous candidates: the caller continues on time even if the candidate ignores its cancellation.

A candidate with a deadline runs in its own task, in a copy of the caller's context. When it answers, the variables it set are
copied to the caller's context (tokens are not: they belong to the copy). `asyncio.wait_for` would wait for a task that swallows
its cancellation, and `asyncio.timeout` cannot abandon one; `asyncio.wait` can.
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
"""Returned instead of a result when the deadline passed."""


def on_asyncio() -> bool:
    """Whether the running coroutine belongs to an asyncio task, so that other tasks can run beside it."""
    try:
        # Asking for the loop is not enough: trio can run as a guest on asyncio's loop, and its tasks are not asyncio's.
        return asyncio.current_task() is not None
    except RuntimeError:
        return False


def asyncio_loop() -> asyncio.AbstractEventLoop | None:
    """Return asyncio's running loop, also from a callback outside any task; None under trio, even in guest mode."""
    trio = sys.modules.get("trio")
    if trio is not None and _on_trio(trio):
        return None
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


async def within_elsewhere(deadline_s: float, awaitable: Awaitable[Any]) -> Any:
    """Await with a deadline on a loop that is not asyncio's; return `LATE` if it passed.

    Trio cancels the awaitable and waits for it to finish. On any other loop there is no known clock, and no deadline applies.
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
    # No loop of it runs in this thread; or another thread is halfway through importing it.
    except (RuntimeError, AttributeError):
        return False
    return True


STOPPED: Any = object()
"""Returned instead of an answer when the operator stopped the candidate before its task started."""

# asyncio holds only weak references to tasks; without this set, one could be collected while it runs.
_left: set[asyncio.Future[Any]] = set()


async def within(deadline_s: float, step: Invoke) -> Any:
    """Run a step's coroutine function with a deadline; return `STOPPED` if the operator stopped the candidate first.

    Raises:
        DeadlineError: It did not answer in time. Its task is cancelled, without waiting for it to finish.
        BaseException: Any exception of its own, or the caller's cancellation, which also cancels the task.
    """
    if not on_asyncio():
        return in_time(await within_elsewhere(deadline_s, step.function(*step.args, **step.kwargs)), step, deadline_s)

    async def run() -> tuple[Any, BaseException | None]:
        try:
            # The task starts after it was created, so check the gate once more; see engine/stopping.py.
            if _is_stopped(step):
                return STOPPED, None
            return await step.function(*step.args, **step.kwargs), None
        # Raised in a task, these two would stop the event loop instead of reaching the caller.
        except (KeyboardInterrupt, SystemExit) as error:
            return None, error

    context = own_context()
    since = context.copy()
    task = _started(run(), context)
    try:
        await asyncio.wait([task], timeout=deadline_s)
    finally:
        # Late, or the caller is gone. Cancelling a finished task has no effect.
        task.cancel()
    if not task.done():
        raise _late(step.variant, deadline_s)
    value, ending = task.result()
    try:
        if ending is not None:
            raise ending
    finally:
        # Its traceback references this frame.
        del ending
    take_over(context, since)
    return value


def in_time(result: Any, step: Invoke, deadline_s: float) -> Any:
    """Return a result of `within_elsewhere`.

    Raises:
        DeadlineError: The deadline passed.
    """
    if result is LATE:
        raise _late(step.variant, deadline_s)
    return result


def _is_stopped(step: Invoke) -> bool:
    return step.gate is not None and (step.gate.closed or kill_switch.off)


def _late(variant: str, deadline_s: float) -> DeadlineError:
    return DeadlineError(
        f"Candidate {variant!r} did not answer within {deadline_s} s. A late candidate is cancelled and counts as failed. "
        "Make it faster, or raise deadline_s=."
    )


def _started(coroutine: Coroutine[Any, Any, Any], context: Context) -> asyncio.Task[Any]:
    task = asyncio.get_running_loop().create_task(coroutine, context=context, name="rollout-candidate")
    _left.add(task)
    task.add_done_callback(_forget)
    return task


def _forget(task: asyncio.Task[Any]) -> None:
    _left.discard(task)
    # Retrieve the exception; otherwise asyncio logs it as never retrieved.
    if not task.cancelled():
        task.exception()


class PumpedStream:
    """An async generator run in its own task, so that the caller can stop waiting for its first item.

    The whole generator runs in that task, so what it opens (an HTTP response, a cancel scope) is closed by the same task.
    It is resumed only on demand, as it would be without a task.
    """

    def __init__(self, function: Callable[..., AsyncGenerator[Any, Any]], step: Invoke, deadline_s: float) -> None:
        """Prepare the stream without starting it.

        Args:
            function: Creates the generator from the step's arguments.
            step: The step to run.
            deadline_s: Seconds until the first item.
        """
        self._function = function
        self._step = step
        self._deadline_s: float | None = deadline_s
        self._asked: asyncio.Queue[tuple[str, tuple[Any, ...], asyncio.Future[Any]]] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None
        self._context = self._since = Context()

    async def __anext__(self) -> Any:
        """Return the next item."""
        return await self._ask("__anext__")

    async def asend(self, value: Any) -> Any:
        """Send the consumer's value and return the next item."""
        return await self._ask("asend", value)

    async def athrow(self, error: BaseException) -> Any:
        """Throw the consumer's exception and return the next item."""
        return await self._ask("athrow", error)

    async def _ask(self, method: str, *arguments: Any) -> Any:
        if self._task is None:
            self._context = own_context()
            self._since = self._context.copy()
            self._task = _started(self._pump(), self._context)
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._asked.put_nowait((method, arguments, answer))
        try:
            # Wait for the task as well: if other code cancels it, the answer never comes.
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
        """Process requests one at a time until the generator ends; its exceptions are answers, too."""
        method, arguments, answer = await self._asked.get()
        # Check the gate once more, as in `within`.
        if _is_stopped(self._step):
            if not answer.done():
                answer.set_result(("item", STOPPED))
            return
        model = self._function(*self._step.args, **self._step.kwargs)
        self._step.args, self._step.kwargs = (), LET_GO
        while True:
            try:
                reply = ("item", await getattr(model, method)(*arguments))
                if self._task is not None and self._task.cancelling():
                    # Either the caller is gone or the model cancelled its own task.
                    raise asyncio.CancelledError
            except BaseException as error:
                reply = ("end", error)
            if not answer.done():
                answer.set_result(reply)
            if reply[0] == "end":
                return
            # Do not keep the item alive while waiting for the next request.
            del reply
            method, arguments, answer = await self._asked.get()
