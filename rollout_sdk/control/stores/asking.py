"""Asking what may never answer, in a thread of its own, for a bounded time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rollout_sdk.concurrency.threads import Flag
from rollout_sdk.exceptions import StoreError
from rollout_sdk.resilience.queue_thread import QueueThread

__all__ = ["AskingThreads"]

_GIVE_UP_AFTER_S = 30.0
_MOST_GIVEN_UP = 3


class _Question:
    """Something that is asked, and what came of it."""

    __slots__ = ("_answer", "_ask", "_error", "answered", "is_withdrawn")

    def __init__(self, ask: Callable[[], Any]) -> None:
        self._ask = ask
        self._answer: Any = None
        self._error: BaseException | None = None
        self.answered = Flag()
        self.is_withdrawn = False

    def put(self) -> None:
        """Ask, in the thread; not when whoever wanted to know has gone: a write must not be done long after it has failed."""
        if not self.is_withdrawn:
            try:
                self._answer = self._ask()
            # Raised where it was asked.
            except BaseException as error:
                self._error = error
        self.answered.set()

    def answer(self) -> Any:
        """The answer; or raise what came instead."""
        try:
            if self._error is not None:
                raise self._error
            return self._answer
        finally:
            # Its traceback holds this frame.
            self._error = None


class AskingThreads:
    """Asks one question at a time. A thread that has waited for its answer for 30 s is left, and the next question is asked in
    another: a connection whose other end is gone never answers, and a new one may. At most three are left at a time.
    """

    def __init__(self) -> None:
        """Ask nothing yet."""
        self._thread = self._begun()
        self._left: list[QueueThread] = []

    @staticmethod
    def _begun() -> QueueThread:
        def lost(_what: str, _error: BaseException) -> None:
            """A question keeps what is raised."""

        return QueueThread("rollout-store", _Question.put, failed=lost, called=str, most_waiting=float("inf"))

    def ask(self, ask: Callable[[], Any], name: str, patience_s: float) -> Any:
        """The answer to a question.

        Args:
            ask: The question.
            name: What is wrong when there is no answer, for errors: "The store ... has not answered load".
            patience_s: Seconds to wait for the answer. Where another question has waited for so long, there is no wait.

        Raises:
            StoreError: There is no answer in time.
            BaseException: Whatever is raised in place of an answer.
        """
        thread = self._in_use()
        if not thread.can_start():
            # As at the end of the interpreter: nothing else is left to do.
            return ask()
        busy_s = thread.busy_s
        if busy_s and busy_s >= patience_s:
            raise _silent(name, busy_s)
        question = _Question(ask)
        thread.put(question)
        if not question.answered.wait(patience_s):
            question.is_withdrawn = True
            raise _silent(name, patience_s)
        return question.answer()

    def end(self) -> None:
        """Have the thread end; the next question starts another."""
        self._thread.end()

    def _in_use(self) -> QueueThread:
        thread = self._thread
        if thread.busy_s > _GIVE_UP_AFTER_S:
            self._left = [each for each in self._left if each.busy_s]
            if len(self._left) < _MOST_GIVEN_UP:
                self._left.append(thread)
                thread = self._thread = self._begun()
        return thread


def _silent(name: str, waited_s: float) -> StoreError:
    return StoreError(
        f"{name} for {waited_s:.1f} s. A store answers, or raises StoreError, within a time of its "
        "own. See to its server or disk, and give its client a time-out; it is asked again twice a second."
    )
