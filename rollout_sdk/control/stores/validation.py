"""What may go into a store: names, texts and plain JSON, each of a bounded size. All stores refuse the same."""

from __future__ import annotations

from collections.abc import Mapping
from json import dumps, loads
from typing import Any

from rollout_sdk.exceptions import StoreError

__all__ = [
    "LARGEST_NUMBER",
    "MOST_BYTES",
    "checked_document",
    "checked_name",
    "checked_number",
    "checked_text",
    "is_unicode",
    "parsed",
    "plain",
]

MOST_BYTES = 4 << 20
LARGEST_NUMBER = 2**53 - 1
"""Beyond it, stores that count in floating point (Redis scripts are Lua) are no longer exact."""

_LONGEST_NAME = 200


def checked_name(what: str, name: str) -> str:
    """The name itself, of a key, a writer, a part or a note.

    Raises:
        StoreError: It is no text of 1 to 200 characters that can be written in UTF-8.
    """
    if not isinstance(name, str) or not 0 < len(name) <= _LONGEST_NAME or not is_unicode(name):
        raise StoreError(
            f"A store was given the {what} {name!r:.80}. A {what} is a text of 1 to {_LONGEST_NAME} characters, without "
            "surrogates. Give it another name."
        )
    return name


def checked_text(what: str, text: str) -> str:
    """The text itself, of a part or a note.

    Raises:
        StoreError: It is no text, cannot be written in UTF-8, or has more than 4 MiB in it.
    """
    if not isinstance(text, str) or not is_unicode(text):
        raise StoreError(
            f"The {what} for a store is {text!r:.80}. It must be a text without surrogates. Write it as JSON, say."
        )
    return _small(what, text)


def checked_number(what: str, number: int, *, above: int = -1) -> int:
    """The number itself: a revision, an epoch or a cursor.

    Raises:
        StoreError: It is no whole number, or out of range.
    """
    if not isinstance(number, int) or isinstance(number, bool) or not above < number <= LARGEST_NUMBER:
        raise StoreError(
            f"A store was given the {what} {number!r:.80}. A {what} is here a whole number from {above + 1} to 2**53 - 1. "
            "Count on from what was loaded."
        )
    return number


def checked_document(expected: int | None, document: Mapping[str, Any]) -> tuple[int, int, str]:
    """Revision, epoch and text of a document that shall replace the expected one.

    Raises:
        StoreError: It is no plain JSON, or its revision or epoch is none, or its revision is not above the expected.
    """
    above = -1 if expected is None else checked_number("revision", expected)
    text = plain("document", document)
    return (
        checked_number("revision", document.get("revision", "(none)"), above=above),
        checked_number("epoch", document.get("epoch", "(none)")),
        text,
    )


def plain(what: str, value: Mapping[str, Any]) -> str:
    """A mapping as JSON text.

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
            f"The {what} for a store, {value!r:.200}, is not plain JSON. It may hold None, booleans, finite numbers, texts, "
            "lists, and mappings with texts as keys, because it must come back equal. Write tuples as lists, the rest as text."
        )
    return _small(what, text)


def parsed(text: object) -> dict[str, Any]:
    """What `plain` wrote.

    Raises:
        ValueError: It is something else: the store is damaged.
    """
    try:
        value = loads(text, parse_constant=_no_number) if isinstance(text, str) else None
    except RecursionError:
        value = None
    if not isinstance(value, dict):
        raise ValueError("no JSON object")  # noqa: TRY004 - whoever reads a damaged store catches one kind of error
    return value


def _no_number(text: str) -> None:
    raise ValueError(f"{text} stands where a finite number was written")


def is_unicode(text: str) -> bool:
    """Whether UTF-8 can write a text: one without surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _small(what: str, text: str) -> str:
    size = len(text) if text.isascii() else len(text.encode())
    if size > MOST_BYTES:
        raise StoreError(
            f"The {what} for a store has {size} bytes. {MOST_BYTES} (4 MiB) are the most, because every process reads it. "
            "Split it into several, or keep less."
        )
    return text
