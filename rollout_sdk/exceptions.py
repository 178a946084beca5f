"""Every error raised by the SDK itself: one tree, each leaf with a built-in parent that people already catch.

A model's own exception is never wrapped: it reaches the caller unchanged.
"""

from __future__ import annotations

__all__ = [
    "BatchError",
    "ConfigurationError",
    "ConflictError",
    "DeadlineError",
    "DecisionIdError",
    "DuplicateKeyError",
    "JournalError",
    "MissingUnitError",
    "MutationError",
    "NotAllowedError",
    "OutcomeError",
    "PluginError",
    "RolloutError",
    "ShadowEffectError",
    "SignatureError",
    "StateError",
    "StoreError",
    "UnknownItemError",
    "UnknownStrategyError",
    "UnreachableError",
    "WaitTimeoutError",
]


class RolloutError(Exception):
    """The base class of every error that `rollout_sdk` raises."""


class ConfigurationError(RolloutError, ValueError):
    """A rollout has invalid options; raised when decorating, never when serving."""


class SignatureError(ConfigurationError, TypeError):
    """A candidate cannot be called as the control is, or is another kind of function."""


class DuplicateKeyError(ConfigurationError):
    """Two different rollouts of one runtime have the same key."""


class UnknownStrategyError(ConfigurationError, LookupError):
    """No installed plugin provides a strategy of this name."""


class PluginError(ConfigurationError):
    """A plugin cannot be loaded or does not fit the hook specifications."""


class MissingUnitError(RolloutError, ValueError):
    """A call has no unit, and the rollout rejects such calls (`missing_unit="raise"`)."""


class BatchError(RolloutError, ValueError):
    """A variant's answer does not have one result per row of the batch, or the variants' results cannot be joined."""


class DeadlineError(RolloutError, TimeoutError):
    """A candidate did not answer within its `deadline_s`; with `on_error="control"`, callers never see it."""


class MutationError(RolloutError, RuntimeError):
    """A candidate changed its arguments, which `detect_mutation=True` forbids."""


class ShadowEffectError(RolloutError, RuntimeError):
    """A shadow called a function guarded by `shadow_guard`."""


class ShadowProcessError(RolloutError, RuntimeError):
    """The process of a shadow ended, or its candidate raised an exception that cannot be sent from there."""


class OutcomeError(RolloutError, ValueError):
    """An outcome cannot be recorded: its metric, value or subject is invalid."""


class DecisionIdError(OutcomeError):
    """A decision id is damaged, forged, or belongs to another rollout."""


class UnknownItemError(OutcomeError, LookupError):
    """An outcome names an item that its decision did not show."""


class StateError(RolloutError, RuntimeError):
    """A transition is not possible from the rollout's current state."""


class ConflictError(StateError):
    """The rollout has been changed meanwhile: the expected revision is not the current one."""


class NotAllowedError(StateError, PermissionError):
    """An actor wants what it may not do, by `Runtime(allow=...)`."""


class UnreachableError(StateError):
    """What is waited for can no longer come: a rollout that was aborted, say, is not promoted."""


class WaitTimeoutError(RolloutError, TimeoutError):
    """What was waited for did not come in time."""


class JournalError(RolloutError, OSError):
    """The journal's folder cannot be used at present: facts are counted as lost, and every write retries."""


class StoreError(RolloutError, OSError):
    """The store could not be read or written; a write may or may not have been done: load, and try again."""
