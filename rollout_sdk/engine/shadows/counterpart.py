"""The control's answer to the same call, copied for the comparison with a shadow."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from rollout_sdk.engine.copies.kinds import PLAIN
from rollout_sdk.engine.copies.snapshot import Snapshot, copy_output
from rollout_sdk.engine.rollout import STREAMING
from rollout_sdk.engine.steps import Result, error_type
from rollout_sdk.formatting import class_name
from rollout_sdk.records import ERRORS, Comparison
from rollout_sdk.resilience.interruptions import is_fault

if TYPE_CHECKING:
    from rollout_sdk.assignment import RouteRequest
    from rollout_sdk.engine.rollout import Rollout

__all__ = ["Counterpart", "overall"]


class Counterpart:
    """The control's side of a comparison.

    Attributes:
        value: A copy of the control's answer, or of its stream's items.
        error: Class name of the control's exception; None if it answered or its outcome is unknown.
        size: Bytes that the copy takes, as `Snapshot` counts them.
        awaited: Whether an event loop ran what the control returned.
        is_comparable: Whether both sides have a complete answer.
    """

    # Class-level defaults: the caller pays for each attribute that is set.
    value: Any = None
    error: str | None = None
    size = 0
    awaited = False
    is_comparable = False

    def keep(self, control: Result, rollout: Rollout) -> None:
        """Copy the control's answer, because the caller may change it while the shadow runs."""
        if control.awaited:
            # An attribute that is not set costs the caller nothing.
            self.awaited = True
        if control.interrupted or control.variant != rollout.control:
            # Not a complete answer of the control alone.
            return
        if control.error is not None:
            self.error = error_type(control.error)
            return
        value, isolate, limits = control.value, rollout.isolate, rollout.limits
        if rollout.kind in STREAMING or control.streamed:
            if control.kept is None or control.kept.items is None:
                return
            self.value = control.kept.items
            self.size = control.kept.bytes
        # As `sized`, for a single value.
        elif isolate == "auto" and type(value) in PLAIN and (size := value.__sizeof__()) <= limits.copy_bytes:
            self.value, self.size = value, size
        else:
            snapshot = Snapshot(limits, is_compared=True)
            try:
                self.value = copy_output(value, isolate, snapshot)
            # The value's own methods may raise anything; the shadow still runs.
            except BaseException as error:
                if not is_fault(error):
                    raise
                return
            self.size = snapshot.bytes
        self.is_comparable = True

    def compared(self, result: Result, rollout: Rollout, about: Callable[[], RouteRequest]) -> Comparison | None:
        """Compare the candidate's result with the control's; None if there is nothing to compare.

        Args:
            result: The candidate's result.
            rollout: The rollout.
            about: Returns the call's request, for the comparator; not called if an error decides.

        Raises:
            TypeError: The comparator returned something that is not a Comparison.
        """
        if result.error is not None:
            if self.error is None:
                return None
            same = self.error == error_type(result.error)
            return Comparison(match=same, reason=None if same else "error", name=ERRORS)
        if self.error is not None:
            return Comparison(match=False, reason="control_error", name=ERRORS)
        if not self.is_comparable:
            return None
        if self.awaited != result.awaited and rollout.kind == "function":
            # Code that awaits one answer cannot use the other.
            return Comparison(match=False, reason="type")
        found = rollout.compare(about(), self.value, result.value)
        if found is None or isinstance(found, Comparison):
            return found
        raise TypeError(f"rollout_compare gave an object of class {class_name(found)}, which is not a Comparison")

    def forget(self) -> None:
        """Release the answer at the end of the run."""
        self.value = None


def overall(comparisons: Sequence[Comparison | None]) -> Comparison | None:
    """Summarise a run's comparisons: whether all match, and the largest difference."""
    found = [each for each in comparisons if each is not None]
    if len(found) < 2:
        return found[0] if found else None
    differences = [each.difference for each in found if each.difference is not None]
    return Comparison(match=all(each.match for each in found), difference=max(differences, default=None), name=found[0].name)
