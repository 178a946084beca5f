"""Calls a judge within its time: a plain function in a thread for each call, coroutines on one event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from inspect import isawaitable, iscoroutinefunction
from typing import Any

from rollout_sdk.concurrency.threads import Flag, Lock, Thread
from rollout_sdk.engine.context import COMPARING, aside

__all__ = ["Calls", "Ended"]

_ANSWERS_WITHIN_S = 1.0


class Ended:
    """How a call ended: whether in time, and what it returned or raised."""

    __slots__ = ("error", "in_time", "value")

    def __init__(self) -> None:
        """Start as a call that has not returned."""
        self.in_time = False
        self.value: Any = None
        self.error: BaseException | None = None


class Calls:
    """Calls one judge; calls that do not return are left behind, a limited number of them."""

    def __init__(self, function: Callable[..., Any], most_left: int) -> None:
        """Start nothing.

        Args:
            function: The judge.
            most_left: Calls that may be left behind; while so many still run, further calls end at once, out of time.
        """
        self._function = function
        inner = getattr(function, "func", function)
        self._is_async = iscoroutinefunction(inner) or iscoroutinefunction(type(inner).__call__)
        self._most_left = most_left
        self._left: list[Thread] = []
        self._starting = Lock()
        self._loop: asyncio.AbstractEventLoop | None = None

    def __call__(self, arguments: tuple[Any, ...], timeout_s: float) -> Ended:
        """Call it, in one of the judge's own threads."""
        with self._starting:
            self._left = [thread for thread in self._left if thread.is_alive()]
            is_full = len(self._left) >= self._most_left
        ended, done = Ended(), Flag()
        if is_full:
            return ended
        if self._is_async:
            ended.in_time = self._on_loop(arguments, timeout_s, ended, done)
        else:
            thread = Thread(lambda: self._run(arguments, ended, done), "rollout-judge-call")
            thread.start()
            ended.in_time = done.wait(timeout_s, inside=True)
            if not ended.in_time:
                with self._starting:
                    self._left.append(thread)
        return ended

    def _run(self, arguments: tuple[Any, ...], ended: Ended, done: Flag) -> None:
        try:
            with aside(COMPARING):
                value = self._function(*arguments)
                # A callable that only turns out to be asynchronous when it is called.
                ended.value = asyncio.run(_awaited(value)) if isawaitable(value) else value
        # SystemExit of a judge ends its own thread only.
        except BaseException as error:
            ended.error = error
        finally:
            done.set()

    def _on_loop(self, arguments: tuple[Any, ...], timeout_s: float, ended: Ended, done: Flag) -> bool:
        loop = self._running_loop()
        tasks: list[asyncio.Task[None]] = []

        async def judged() -> None:
            try:
                with aside(COMPARING):
                    ended.value = await self._function(*arguments)
            except BaseException as error:
                ended.error = error
            finally:
                done.set()

        loop.call_soon_threadsafe(lambda: tasks.append(loop.create_task(judged())))
        if done.wait(timeout_s, inside=True):
            return True
        # A loop that does not answer is blocked, and is left behind.
        answers = Flag()

        def cancel() -> None:
            for task in tasks:
                task.cancel()
            answers.set()

        loop.call_soon_threadsafe(cancel)
        if not answers.wait(_ANSWERS_WITHIN_S, inside=True):
            with self._starting:
                if self._loop is loop:
                    self._left.append(self._looping)
                    self._loop = None
        return False

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        """Return the event loop of all calls, so that they can share their clients."""
        with self._starting:
            if self._loop is None:
                loop = self._loop = asyncio.new_event_loop()
                self._looping = Thread(lambda: _run_loop(loop), "rollout-judge-loop")
                self._looping.start()
            return self._loop

    def close(self) -> None:
        """Stop the event loop."""
        loop, self._loop = self._loop, None
        if loop is not None:
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(loop.stop)

    def __del__(self) -> None:
        """Stop the event loop of a judge that is gone."""
        with suppress(Exception):
            self.close()


def _run_loop(loop: asyncio.AbstractEventLoop) -> None:
    """Run a loop until it is stopped; then cancel what is left, and close it."""
    try:
        loop.run_forever()
        if left := asyncio.all_tasks(loop):
            for task in left:
                task.cancel()
            loop.run_until_complete(asyncio.wait(left, timeout=_ANSWERS_WITHIN_S))
    finally:
        loop.close()


async def _awaited(value: Any) -> Any:
    return await value
