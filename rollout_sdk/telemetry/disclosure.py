"""What a span says of the unit and the input: nothing, unless the application asks for it, and nothing where that fails."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rollout_sdk.concurrency.synchronous import answered
from rollout_sdk.resilience.interruptions import is_fault
from rollout_sdk.telemetry import names

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rollout_sdk.plugins.manager import Failed
    from rollout_sdk.telemetry.settings import Captured, Telemetry

__all__ = ["Disclosure", "kept"]

_LONGEST = 2048
"""Bytes of a captured text, in UTF-8."""
_MOST_CAPTURED = 32
_BITS = 64
"""Of a whole number that OTLP can say, with its sign."""


class Disclosure:
    """Gives the attributes of a call that identify or describe what came in.

    Attributes:
        is_silent: Whether there are none, ever.
    """

    __slots__ = ("_capture", "_failed", "_redact", "_unit_id", "is_silent")

    def __init__(self, settings: Telemetry, failed: Failed) -> None:
        """Take what the application has asked for."""
        self._unit_id = settings.unit_id
        self._capture = settings.capture
        self._redact = settings.redact
        self._failed = failed
        self.is_silent = self._unit_id == "omit" and self._capture is None

    def __call__(self, call: Any) -> dict[str, Captured]:
        """The attributes; never raises, and what fails is left out."""
        # The rows of a batch have a unit each.
        said = {} if call.rows else self.of_unit(call)
        if self._capture is not None:
            try:
                captured = answered("capture=", self._capture(call))
                for name, value in list(captured.items())[:_MOST_CAPTURED]:
                    self._add(said, _cut(str(name)), value)
            except BaseException as error:
                if not is_fault(error):
                    raise
                self._failed("telemetry.capture", error)
        return said

    def of_unit(self, call: Any) -> dict[str, Captured]:
        """The attribute that names the unit of a call or row."""
        if not call.has_unit or self._unit_id == "omit":
            return {}
        return {names.CONTEXT_ID: call.unit if self._unit_id == "hash" else _cut(str(call.said_unit))}

    def _add(self, said: dict[str, Captured], name: str, value: Any) -> None:
        """Add one captured value, as it may be shown: a redaction that fails shows nothing."""
        try:
            shown: Any = value if self._redact is None else answered("redact=", self._redact(name, value))
        except BaseException as error:
            if not is_fault(error):
                raise
            self._failed("telemetry.redact", error)
            return
        # Of these classes only: what else there is may say anything once it is text.
        if type(shown) is str:
            said[names.CAPTURED + name] = _cut(shown)
        elif type(shown) in (bool, float) or (type(shown) is int and shown.bit_length() < _BITS):
            said[names.CAPTURED + name] = shown


def _cut(text: str) -> str:
    # What cannot be encoded could not be exported.
    return text[:_LONGEST].encode("utf-8", "replace")[:_LONGEST].decode("utf-8", "ignore")


def kept(attributes: Mapping[str, Any], excluded: frozenset[str]) -> Mapping[str, Any]:
    """The attributes without the excluded ones."""
    if not excluded:
        return attributes
    return {name: value for name, value in attributes.items() if name not in excluded}
