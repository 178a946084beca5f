"""Asking somebody whether a step may be taken, without waiting for them.

Whoever approves may look at a dashboard or ask a person, and may never answer. The thread that asks also watches the store and
judges: it must be free to stop a rollout meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attrs import define, field

from rollout_sdk.concurrency.synchronous import answered
from rollout_sdk.concurrency.threads import Thread
from rollout_sdk.judging import Verdict
from rollout_sdk.plugins.manager import Failed

__all__ = ["Approvals"]

_PATIENCE_S = 0.5


@define(eq=False)
class _Question:
    """One that was asked: of which revision, by which thread, and the answer so far."""

    revision: int
    thread: Thread | None = None
    is_approved: bool = False


@define(eq=False)
class Approvals:
    """The questions that are open, one for each rollout.

    Attributes:
        failed_of: What is told of the faults of a rollout, by its key.
    """

    failed_of: Callable[[str], Failed]
    _open: dict[str, _Question] = field(factory=dict)

    def ask(self, approve: Callable[[Any], bool], verdict: Verdict) -> bool:
        """Whether the step after this verdict is approved by now; no, for as long as there is no answer.

        Waits half a second for it, once. One that comes later is taken at the next look, if the rollout still stands there;
        meanwhile nobody is asked again.
        """
        question, patience_s = self._open.get(verdict.rollout), 0.0
        if question is None or question.revision != verdict.revision:
            question, patience_s = self._asked(approve, verdict), _PATIENCE_S
            self._open[verdict.rollout] = question
        if question.thread is not None:
            question.thread.join(patience_s)
            if question.thread.is_alive():
                return False
        self._open.pop(verdict.rollout, None)
        return question.is_approved

    def _asked(self, approve: Callable[[Any], bool], verdict: Verdict) -> _Question:
        question = _Question(verdict.revision)

        def answer() -> None:
            try:
                question.is_approved = answered("approve=", approve(verdict)) is True
            except BaseException as error:
                self.failed_of(verdict.rollout)("approve", error)

        thread = Thread(answer, "rollout-approval")
        try:
            thread.start()
        # No thread to be had now: the next look asks.
        except RuntimeError as error:
            self.failed_of(verdict.rollout)("approve", error)
        else:
            question.thread = thread
        return question
