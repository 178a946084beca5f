"""Words and numbers as people read them; nothing that a hostile journal holds reaches a terminal raw, or fills the page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

__all__ = [
    "brief",
    "class_name",
    "counts",
    "duration",
    "escaped",
    "nearest",
    "number",
    "percent",
    "plain",
    "quoted",
    "several",
    "size",
    "when",
]

_NONE = "-"
_LONGEST_NAME = 200
_QUALNAME = type.__dict__["__qualname__"]
_LONGEST_EXACT = 10**15


def plain(text: object, longest: int = 200) -> str:
    """A text in which every character is printable, cut to so many characters; what is not printable is escaped."""
    said = str(text)
    # Before it is looked at letter by letter: it may have millions.
    said = said if len(said) <= longest else said[: longest - 2] + ".."
    if said.isprintable():
        return said
    said = "".join(each if each.isprintable() else ascii(each)[1:-1] for each in said)
    return said if len(said) <= longest else said[: longest - 2] + ".."


def escaped(text: str) -> str:
    """A text of any length in which every character is printable; what is not is escaped, newlines, too."""
    return text if text.isprintable() else "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)


def brief(value: object, longest: int = 60) -> str:
    """A value for an error message, cut before it is written out: a text may have millions of letters.

    Of anything but texts, bytes and numbers, only the class is named: its own `repr` may take as long as it likes, raise, or
    say what is nobody's business.
    """
    if isinstance(value, int) and value.__class__ in (int, bool):
        return repr(value) if value.bit_length() <= 4 * longest else "an integer of very many digits"
    if value is None or value.__class__ is float:
        return repr(value)
    if isinstance(value, str | bytes) and value.__class__ in (str, bytes):
        return repr(value) if len(value) <= longest else f"{value[:longest]!r}.."
    return f"an object of class {class_name(value)}"


def class_name(value: object, longest: int = 200) -> str:
    """The name of a value's class, printable and of a bounded length: classes can be made, and named, at run time."""
    # As type itself has it: a class of classes may have its own idea of a name, and raise.
    return plain(_QUALNAME.__get__(type(value)), longest)


def nearest(name: str, names: Iterable[str], *, cutoff: float = 0.6) -> str | None:
    """The name that was probably meant; None where none is near."""
    # Costs more to import than all of this module, and few processes ask.
    from difflib import get_close_matches

    found = get_close_matches(name[:_LONGEST_NAME], list(names), n=1, cutoff=cutoff)
    return found[0] if found else None


def quoted(name: object) -> str:
    """A name in quotes, for a sentence."""
    return f"'{plain(name, 60)}'"


def number(value: float | None) -> str:
    """A number of things."""
    if value is None:
        return _NONE
    if abs(value) < _LONGEST_EXACT:
        return f"{value:,}"
    try:
        return f"{value:.3g}"
    # An integer beyond the largest float.
    except OverflowError:
        return f"{'-' if value < 0 else ''}over 1e308"


def several(count: int, one: str, many: str | None = None) -> str:
    """So many of something: "1 file", "2 files"."""
    return f"{number(count)} {one if count == 1 else many or one + 's'}"


def percent(share: float | None) -> str:
    """A share between 0 and 1."""
    if share is None:
        return _NONE
    return f"{share * 100:.1f} %" if abs(share) <= 100 else f"{share * 100:.3g} %"


def duration(seconds: float | None) -> str:
    """So many seconds, in the largest unit of which there are two."""
    if seconds is None:
        return _NONE
    for unit, length in (("days", 86_400), ("hours", 3_600), ("minutes", 60)):
        if abs(seconds) >= 2 * length:
            return f"{number(round(seconds / length))} {unit}"
    return f"{seconds:.1f} s"


def size(count: float | None) -> str:
    """So many bytes."""
    if count is None:
        return _NONE
    for unit, length in (("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if count >= length:
            return f"{count / length:.1f} {unit}"
    return f"{count:.0f} bytes"


def when(seconds: float | None) -> str:
    """A time in UTC."""
    if seconds is None:
        return _NONE
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    # A year that the calendar does not have.
    except (OverflowError, ValueError, OSError):
        return f"{seconds:.3g} s after 1970"


def counts(numbers: Mapping[str, int]) -> str:
    """Numbers by name, the largest first."""
    ordered = sorted(numbers.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{plain(name, 40)} {number(count)}" for name, count in ordered[:8]) or _NONE
