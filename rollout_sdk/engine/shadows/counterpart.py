"""What a shadow is compared with: the control's answer to the same call, copied when it is there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from rollout_sdk.engine.call import Call
from rollout_sdk.engine.copies.snapshot import Snapshot, copy_output
from rollout_sdk.engine.steps import Result, error_type
from rollout_sdk.formatting import class_name
from rollout_sdk.records import Comparison
from rollout_sdk.resilience.interruptions import is_fault

if TYPE_CHECKING:
    from rollout_sdk.assignment import RouteRequest

__all__ = ["Counterpart", "overall"]


class Counterpart:
    """The control's part in a comparison.

    Attributes:
        value: A copy of the control's answer, or of its stream's items.
        error: Class name of the control's exception; None when it answered, or it is unknown.
        size: Bytes that the copy takes, as `Snapshot` counts them.
        awaited: Whether an event loop carried out what the control returned.
        is_comparable: Whether there is a whole answer of both to compare.
    """

    __slots__ = ("_call", "_rollout", "awaited", "error", "is_comparable", "size", "value")

    def __init__(self, call: Call) -> None:
        """Know of no answer yet."""
        self._call = call
        self._rollout = call.rollout
        self.value: Any = None
        self.error: str | None = None
        self.size = 0
        self.awaited = False
        self.is_comparable = False

    def keep(self, control: Result) -> None:
        """Copy the control's value: the caller may change it while the shadow still runs."""
        rollout = self._rollout
        self.awaited = control.awaited
        if control.interrupted or control.variant != rollout.control or self._call.decision.blend:
            # Not the control's own whole answer.
            return
        if control.error is not None:
            self.error = error_type(control.error)
            return
        if rollout.streams or control.streamed:
            if control.kept is None or control.kept.items is None:
                return
            self.value = control.kept.items
            self.size = control.kept.bytes
        else:
            snapshot = Snapshot(is_compared=True)
            try:
                self.value = copy_output(control.value, rollout.isolate, snapshot)
            # Its own methods may raise anything: the shadow runs all the same.
            except BaseException as error:
                if not is_fault(error):
                    raise
                return
            self.size = snapshot.bytes
        self.is_comparable = True

    def compared(self, result: Result, about: Callable[[], RouteRequest]) -> Comparison | None:
        """How the candidate's result compares with the control's; None when there is nothing to compare.

        Args:
            result: The candidate's.
            about: Gives the call's request, for the comparator; not called where an error decides.

        Raises:
            TypeError: The comparator gave something else.
        """
        if result.error is not None:
            if self.error is None:
                return None
            same = self.error == error_type(result.error)
            return Comparison(match=same, reason=None if same else "error", name="error")
        if self.error is not None:
            return Comparison(match=False, reason="control_error", name="error")
        if not self.is_comparable:
            return None
        if self.awaited != result.awaited and self._rollout.kind == "function":
            # Whoever awaits the one cannot use the other.
            return Comparison(match=False, reason="type")
        found = self._rollout.compare(about(), self.value, result.value)
        if found is None or isinstance(found, Comparison):
            return found
        raise TypeError(f"rollout_compare gave an object of class {class_name(found)}, which is not a Comparison")

    def forget(self) -> None:
        """Let go of the answer: the run has ended."""
        self.value = None


def overall(comparisons: Sequence[Comparison | None]) -> Comparison | None:
    """What all comparisons of a run found: of several rows, whether every one matches, and the greatest difference."""
    found = [each for each in comparisons if each is not None]
    if len(found) < 2:
        return found[0] if found else None
    differences = [each.difference for each in found if each.difference is not None]
    return Comparison(match=all(each.match for each in found), difference=max(differences, default=None), name=found[0].name)
