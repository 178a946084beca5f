"""Shared by the contracts: a runtime, functions with named parameters, and a check that the plugin itself answered."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from inspect import Parameter, Signature
from typing import Any, TypeVar

from rollout_sdk.records import EXCLUDED_REASONS
from rollout_sdk.runtime import Runtime
from rollout_sdk.telemetry import Telemetry

__all__ = ["check_answered", "silent_runtime", "taking"]

F = TypeVar("F", bound=Callable[..., Any])


def silent_runtime(*plugins: object) -> Runtime:
    """Return a runtime without journal and telemetry."""
    return Runtime(plugins=plugins, telemetry=Telemetry(spans="off", metrics=False, logs=False))


def taking(function: F, *names: str, calls: Iterable[Mapping[str, Any]] = ()) -> F:
    """Give a function of keyword arguments a signature with named parameters, so that hooks find them by name.

    Args:
        function: The function.
        names: Its first parameters.
        calls: The other arguments of its calls, by name. Those that some calls lack default to None.
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
    """Fail unless the strategy itself decided or blended all calls: the control in its place would pass nearly every test.

    Raises:
        AssertionError: A hook failed, a decision was not valid, or a blend was not served.
    """
    runtime.flush(10.0)
    status = model.rollout.status()
    replaced = {
        reason: number for reason, number in status.excluded.items() if reason == "error" or reason not in EXCLUDED_REASONS
    }
    faults = dict(status.faults)
    assert (faults, replaced) == ({}, {}), (
        f"the control answered in its place: faults {faults}, calls not analysed {replaced}, notes {status.notes}. If the "
        "strategy uses arguments, return them from features(); if it blends answers, return suitable ones from answer()"
    )
