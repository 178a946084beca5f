"""Requests the phases that a strategy plans when the function is decorated, and validates them."""

from __future__ import annotations

from typing import Any

from rollout_sdk.assignment import Phase
from rollout_sdk.assignment.ids import check_name
from rollout_sdk.exceptions import ConfigurationError, PluginError
from rollout_sdk.plugins.manager import PluginSet
from rollout_sdk.records import INTERLEAVED

__all__ = ["planned_phases"]


def planned_phases(
    key: str, hooks: PluginSet, strategy: str, control: str, candidates: tuple[str, ...], *, batch: bool
) -> tuple[Phase, ...]:
    """Return the validated phases of the strategy; without a plan, one phase without shares.

    Args:
        key: Key of the rollout, for errors.
        hooks: The plugins; the first that plans phases is used.
        strategy: Name of the strategy, for errors.
        control: Name of the control.
        candidates: Names of the candidates.
        batch: Whether calls are split by row.

    Raises:
        ConfigurationError: The strategy rejects the candidates, or it blends and calls are split by row.
        PluginError: Its plan cannot be carried out.
    """
    phases: tuple[Any, ...] | None = None
    for _, plan in hooks.implementations("rollout_phases"):
        try:
            planned = plan(control, candidates)
            phases = None if planned is None else tuple(planned)
        except ConfigurationError:
            raise
        except Exception as error:
            raise _bad_plan(key, strategy, f"failed to plan its phases: {type(error).__name__}: {error}") from error
        if phases is not None:
            break
    if phases is None:
        return (Phase("whole", {}, control),)
    if not phases or not all(isinstance(phase, Phase) for phase in phases):
        raise _bad_plan(key, strategy, f"gave {phases!r:.80} as its phases")
    for phase in phases:
        check_name(phase.name, f"name of a phase of {key!r}")
        unknown = set(phase.shares) - {*candidates, INTERLEAVED}
        if phase.control != control or unknown or phase.shares.keys() != phases[0].shares.keys():
            raise _bad_plan(key, strategy, f"gave {phase!r:.200} as a phase for {control!r} and {', '.join(candidates)}")
    if batch and INTERLEAVED in phases[0].shares:
        raise ConfigurationError(
            f"batch= of {key!r} does not work with interleaving. "
            "Interleaving makes one list of a call's lists; a batch splits a call by row. Leave batch= out."
        )
    return phases


def _bad_plan(key: str, strategy: str, what: str) -> PluginError:
    return PluginError(
        f"Strategy {strategy!r} of {key!r} {what}. rollout_phases gives at least one Phase (or None): "
        "each with the control's name, and all with shares of the same candidates. Fix the strategy."
    )
