"""Functions and calls of contracts: with named parameters, as users write them, and answered by what is under test."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from inspect import Parameter, Signature
from typing import Any, TypeVar

from rollout_sdk.records import EXCLUDED_REASONS
from rollout_sdk.runtime import Runtime

__all__ = ["check_answered", "taking"]

F = TypeVar("F", bound=Callable[..., Any])


def taking(function: F, *names: str, calls: Iterable[Mapping[str, Any]] = ()) -> F:
    """A function of keyword arguments, with parameters of its own for them, so that hooks find each by its name.

    Args:
        function: The function.
        names: Its first parameters.
        calls: The other arguments of its calls, by name. One that not every call has is None by default.
    """
    arguments = list(calls)
    others = {
        name: Parameter.empty if all(name in each for each in arguments) else None
        for name in dict.fromkeys(name for each in arguments for name in each)
        if name not in names
    }
    parameters = [Parameter(name, Parameter.POSITIONAL_OR_KEYWORD) for name in names]
    parameters += [Parameter(name, Parameter.KEYWORD_ONLY, default=default) for name, default in others.items()]
    function.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
    return function


def check_answered(model: Any, runtime: Runtime) -> None:
    """Fail where something other than the strategy decided or blended the calls so far: the control that answers in its place
    would else pass nearly every test.

    Raises:
        AssertionError: A hook failed, a decision could not be carried out, or a blend was not served.
    """
    runtime.flush(10.0)
    status = model.rollout.status()
    replaced = {
        reason: number for reason, number in status.excluded.items() if reason == "error" or reason not in EXCLUDED_REASONS
    }
    faults = dict(status.faults)
    assert (faults, replaced) == ({}, {}), (
        f"the control answered in its place: faults {faults}, calls not analysed {replaced}, notes {status.notes}. A strategy "
        "that looks at arguments finds those that features() gives in the contract's calls, and one that blends the answers of "
        "answer()"
    )
