"""Validation of what may go into a store: names, texts and plain JSON of bounded size. All stores refuse the same."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from json import dumps, loads
from typing import Any

from rollout_sdk.exceptions import ConfigurationError, StoreError

__all__ = [
    "LARGEST_NUMBER",
    "MOST_BYTES",
    "checked_document",
    "checked_name",
    "checked_number",
    "checked_text",
    "checked_timeout",
    "is_unicode",
    "parsed",
    "plain",
]

MOST_BYTES = 4 << 20
LARGEST_NUMBER = 2**53 - 1
"""Larger numbers are not exact in stores with floating-point numbers, such as Lua scripts in Redis."""

_LONGEST_NAME = 200
_LONGEST_TIMEOUT_S = 10.0


def checked_name(what: str, name: str) -> str:
    """Return the name of a key, a writer, a part or a note, after validation.

    Raises:
        StoreError: It is not a text of 1 to 200 characters that can be encoded in UTF-8.
    """
    if not isinstance(name, str) or not 0 < len(name) <= _LONGEST_NAME or not is_unicode(name):
        raise StoreError(
            f"A store was given the {what} {name!r:.80}. A {what} is a text of 1 to {_LONGEST_NAME} characters, without "
            "surrogates. Give it another name."
        )
    return name


def checked_text(what: str, text: str) -> str:
    """Return the text of a part or a note, after validation.

    Raises:
        StoreError: It is not a text, cannot be encoded in UTF-8, or has more than 4 MiB.
    """
    if not isinstance(text, str) or not is_unicode(text):
        raise StoreError(
            f"The {what} for a store is {text!r:.80}. It must be a text without surrogates. Write it as JSON, for example."
        )
    return _small(what, text)


def checked_number(what: str, number: int, *, above: int = -1) -> int:
    """Return a revision, an epoch or a cursor, after validation.

    Raises:
        StoreError: It is not a whole number, or out of range.
    """
    if not isinstance(number, int) or isinstance(number, bool) or not above < number <= LARGEST_NUMBER:
        raise StoreError(
            f"A store was given the {what} {number!r:.80}. Here, a {what} is a whole number from {above + 1} to 2**53 - 1. "
            "Count on from the loaded one."
        )
    return number


def checked_timeout(store: str, timeout_s: object) -> float:
    """Return the time-out of a store on a server, in seconds, after validation.

    Args:
        store: The store as messages show it: without login and options.
        timeout_s: A number, or its text in an address.

    Raises:
        ConfigurationError: It is not a number above 0 and at most 10.
    """
    try:
        seconds = float(timeout_s) if isinstance(timeout_s, int | float | str) and not isinstance(timeout_s, bool) else 0.0
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= _LONGEST_TIMEOUT_S:
        raise ConfigurationError(
            f"The store {store!r:.80} has timeout_s={timeout_s!r:.20}. It must be a number of seconds above 0 and at most "
            f"{_LONGEST_TIMEOUT_S:g}, because an operator waits for it. Leave it at 1."
        )
    return seconds


def checked_document(expected: int | None, document: Mapping[str, Any]) -> tuple[int, int, str]:
    """Return revision, epoch and text of a document that will replace the expected one.

    Raises:
        StoreError: It is not plain JSON, its revision or epoch is not valid, or its revision is not above the expected one.
    """
    above = -1 if expected is None else checked_number("revision", expected)
    text = plain("document", document)
    return (
        checked_number("revision", document.get("revision", "(none)"), above=above),
        checked_number("epoch", document.get("epoch", "(none)")),
        text,
    )


def plain(what: str, value: Mapping[str, Any]) -> str:
    """Return a mapping as JSON text.

    Raises:
        StoreError: It would not come back equal, or has more than 4 MiB.
    """
    try:
        value = dict(value)
        text = dumps(value, allow_nan=False)
        is_plain = bool(loads(text) == value)
    except (TypeError, ValueError, RecursionError, OverflowError):
        is_plain = False
    if not is_plain:
        raise StoreError(
            f"The {what} for a store, {reprlib.repr(value):.200}, is not plain JSON. It may hold None, booleans, finite "
            "numbers, texts, lists, and mappings with texts as keys, because it must come back equal. Write tuples as lists, "
            "the rest as text."
        )
    return _small(what, text)


def parsed(text: object) -> dict[str, Any]:
    """Return the mapping that `plain` wrote.

    Raises:
        ValueError: The text is damaged.
    """
    try:
        value = loads(text, parse_constant=_refuse_constant) if isinstance(text, str) else None
    except RecursionError:
        value = None
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")  # noqa: TRY004 - callers catch one kind of error
    return value


def _refuse_constant(text: str) -> None:
    raise ValueError(f"{text} stands where a finite number was written")


def is_unicode(text: str) -> bool:
    """Whether a text can be encoded in UTF-8: one without surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _small(what: str, text: str) -> str:
    size = len(text) if text.isascii() else len(text.encode())
    if size > MOST_BYTES:
        raise StoreError(
            f"The {what} for a store has {size} bytes. The limit is {MOST_BYTES} (4 MiB), because every process reads it. "
            "Split it into several, or keep less."
        )
    return text
