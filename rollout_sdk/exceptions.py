"""Every error that the SDK raises itself: one tree, each leaf with the built-in parent people already catch.

A model's own exception is never wrapped: it reaches the caller untouched.
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
    """The root of every error that `rollout_sdk` raises."""


class ConfigurationError(RolloutError, ValueError):
    """A rollout was described in a way that cannot work; raised when decorating, never when serving."""


class SignatureError(ConfigurationError, TypeError):
    """A candidate cannot be called as the control is, or is another kind of function."""


class DuplicateKeyError(ConfigurationError):
    """Two different rollouts of one runtime want the same key."""


class UnknownStrategyError(ConfigurationError, LookupError):
    """No installed plugin offers a strategy of this name."""


class PluginError(ConfigurationError):
    """A plugin could not be loaded or does not fit the hook specifications."""


class MissingUnitError(RolloutError, ValueError):
    """A call has no unit, and the rollout was told to refuse such calls (`missing_unit="raise"`)."""


class BatchError(RolloutError, ValueError):
    """A variant's answer for a batch has not one result for each row, or results of several variants make no whole."""


class DeadlineError(RolloutError, TimeoutError):
    """A candidate did not answer within its `deadline_s`; with `on_error="control"`, callers never see it."""


class MutationError(RolloutError, RuntimeError):
    """A candidate changed its arguments, and the rollout was told to watch for that (`detect_mutation=True`)."""


class ShadowEffectError(RolloutError, RuntimeError):
    """A shadow called a function that is guarded by `shadow_guard`."""


class OutcomeError(RolloutError, ValueError):
    """An outcome cannot be recorded: its metric, value or address is not valid."""


class DecisionIdError(OutcomeError):
    """A decision id is damaged, forged, or belongs to another rollout."""


class UnknownItemError(OutcomeError, LookupError):
    """An outcome names an item that its decision did not show."""


class StateError(RolloutError, RuntimeError):
    """A transition is not possible from the state in which the rollout is."""


class ConflictError(StateError):
    """Somebody else changed the rollout first: the expected revision is not the current one."""


class NotAllowedError(StateError, PermissionError):
    """An actor wants what it may not do, by `Runtime(allow=...)`."""


class UnreachableError(StateError):
    """What is waited for can no longer come: a rollout that was aborted, say, is not promoted."""


class WaitTimeoutError(RolloutError, TimeoutError):
    """What was waited for did not come in time."""


class JournalError(RolloutError, OSError):
    """The journal's folder cannot be used now: facts are counted as lost, and every write tries it again."""


class StoreError(RolloutError, OSError):
    """The store could not be read or written; what was asked of it may or may not have been done: load, and ask again."""
