"""The contract of comparators."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from typing import Any

from rollout_sdk.assignment import RouteRequest
from rollout_sdk.decorator import rollout
from rollout_sdk.plugins.manager import PluginSet
from rollout_sdk.records import Comparison, ShadowedEvent
from rollout_sdk.strategies.shadow import Shadow
from rollout_sdk.testing.calls import silent_runtime, taking
from rollout_sdk.testing.doubles import RecordingPlugin

__all__ = ["ComparatorContract"]


class _Ambiguous(list[Any]):
    """Like an array: a comparison has no truth value."""

    def __eq__(self, other: object) -> Any:
        return _Ambiguous([other])

    __hash__ = None

    def __bool__(self) -> bool:
        raise ValueError("the truth of an array is ambiguous")


class _Asked:
    """Keeps the requests of comparisons."""

    name = "asked"

    def __init__(self) -> None:
        self.requests: list[RouteRequest] = []

    def rollout_compare(self, request: RouteRequest) -> None:
        self.requests.append(request)


def _nested(levels: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(levels):
        value = [value]
    return value


class ComparatorContract:
    """Subclass it in a test module, as `class TestMine(ComparatorContract)`, and implement `make`.

    Attributes:
        is_symmetric: Whether the result must not depend on the order of the outputs.
    """

    is_symmetric = True
    _request: RouteRequest | None = None

    def make(self) -> object:
        """Return a new comparator."""
        raise NotImplementedError

    def outputs(self) -> Sequence[Any]:
        """Return typical outputs of models; each must match its copy."""
        return [0, 1, -2.5, "text", True, None, [1, 2, 3], [], (1, "a"), {"score": 0.5}, {}, b"bytes", [{"id": 1}, {"id": 2}]]

    def arguments(self) -> Mapping[str, Any]:
        """Return the arguments of the compared calls, by name, for a comparator that uses them; none by default."""
        return {}

    def test_it_fits_the_hooks(self) -> None:
        """It implements the hook with the specified name and arguments."""
        assert self._implementation() is not None

    def test_an_output_matches_its_copy(self) -> None:
        """Equal outputs match, or are left to another comparator, but not all of them."""
        outputs = list(self.outputs())
        compared = [self._compared(output, copy.deepcopy(output)) for output in outputs]
        for output, found in zip(outputs, compared, strict=True):
            assert found is None or found.match, f"{output!r:.60} does not match its copy: {found}"
        assert any(found is not None for found in compared), (
            "it leaves every output to another comparator; return some from outputs() that it compares"
        )

    def test_it_gives_a_comparison_or_none(self) -> None:
        """It returns a comparison or None, and differences are finite or None."""
        for ours, theirs in self._pairs():
            found = self._compared(ours, theirs)
            assert found is None or isinstance(found, Comparison), f"it returned {found!r:.60}"
            if found is not None and found.difference is not None:
                assert math.isfinite(found.difference), (
                    f"the difference of {ours!r:.40} and {theirs!r:.40} is {found.difference}"
                )

    def test_it_never_fails(self) -> None:
        """Outputs of different types, NaN, without a truth value or deeply nested are compared, or left to another."""
        nan = float("nan")
        odd = [nan, None, math.inf, _Ambiguous([1]), _nested(30), object(), 10**400, "\ud800", {1: {2: {3: nan}}}, [None, nan]]
        for ours, theirs in (*self._pairs(), *((a, b) for a in odd for b in odd)):
            self._compared(ours, theirs)

    def test_it_changes_no_output(self) -> None:
        """Both outputs stay unchanged: the caller may still hold them."""
        for ours, theirs in self._pairs():
            kept = copy.deepcopy((ours, theirs))
            self._compared(ours, theirs)
            assert (ours, theirs) == kept, f"{kept!r:.80} became {(ours, theirs)!r:.80}"

    def test_it_treats_both_alike(self) -> None:
        """Whether two outputs match does not depend on which is the control's."""
        if not self.is_symmetric:
            return
        for ours, theirs in self._pairs():
            one, other = self._compared(ours, theirs), self._compared(theirs, ours)
            matches = [None if found is None else bool(found.match) for found in (one, other)]
            assert matches[0] == matches[1], f"{ours!r:.40} and {theirs!r:.40} match one way only"

    def test_a_shadow_is_compared_by_it(self) -> None:
        """In a real rollout, its comparison is used, and nothing fails."""
        outputs = list(self.outputs())
        events = self._shadowed(self.make(), outputs)
        assert [event.end for event in events] == ["ok"] * len(outputs)
        for output, event in zip(outputs, events, strict=True):
            alone = self._compared(output, copy.deepcopy(output))
            found = event.comparison
            assert alone is None or (found is not None and (found.name, found.match) == (alone.name, alone.match)), (
                f"a shadow that gave {output!r:.60} was compared as {found}, not as {alone}"
            )

    def _implementation(self) -> Any:
        def raise_it(_: str, error: BaseException) -> None:
            raise error

        plugins = PluginSet([self.make()], failed=raise_it)
        ((_, compare),) = plugins.implementations("rollout_compare")
        return compare

    def _compared(self, ours: Any, theirs: Any) -> Comparison | None:
        if self._request is None:
            asked = _Asked()
            self._shadowed(asked, [0])
            (self._request,) = asked.requests
        return self._implementation()(self._request, ours, theirs)  # type: ignore[no-any-return]

    def _shadowed(self, comparator: object, outputs: Sequence[Any]) -> list[ShadowedEvent]:
        """Return the ends of shadows with these outputs, equal to their controls', under a comparator."""
        seen, waiting = RecordingPlugin(), iter([each for output in outputs for each in (output, copy.deepcopy(output))])
        runtime = silent_runtime(seen)

        def model(**_: Any) -> Any:
            return next(waiting)

        arguments = self.arguments()
        taking(model, calls=[arguments])
        options: dict[str, Any] = {"strategy": Shadow(1.0), "effects": "read", "key": "contract", "plugins": [comparator]}
        shadowed = rollout(candidate=model, runtime=runtime, **options)(model)
        for _ in outputs:
            # One by one, so that each control's answer is followed by its shadow's.
            shadowed(**arguments)
            runtime.flush(10.0)
        runtime.close(10.0)
        assert runtime.faults == {}, f"it failed: {runtime.faults}"
        return seen.shadowed

    def _pairs(self) -> list[tuple[Any, Any]]:
        outputs = list(self.outputs())
        return [(a, b) for a in outputs for b in outputs]
