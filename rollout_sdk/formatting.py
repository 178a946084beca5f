"""Human-readable formatting: escapes and truncates untrusted text, fits lines and tables to a terminal, and shows values in
notebooks.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime

__all__ = [
    "NOTEBOOK",
    "WIDTH",
    "Shown",
    "brief",
    "class_name",
    "counts",
    "duration",
    "escaped",
    "fitting",
    "nearest",
    "number",
    "percent",
    "plain",
    "quoted",
    "several",
    "size",
    "table",
    "when",
]

NOTEBOOK = "rollout_sdk.notebook"
"""The group of entry points that draw values in a notebook. Each takes a value and returns its HTML, or None if it cannot."""

WIDTH = 80
"""Columns of a terminal of unknown width."""

_WIDEST_LABEL = 40
_LABEL = re.compile(r"\s*(?:\S+\s{2,}|[A-Z_]{4,}\s)(?=\S)")
"""A word and two spaces; or an outcome and one space, because the longest leaves room for one."""
_NONE = "-"
_LONGEST_NAME = 200
_QUALNAME = type.__dict__["__qualname__"]
_LONGEST_EXACT = 10**15


def plain(text: object, longest: int = 200) -> str:
    """Escape non-printable characters of a text, and truncate it."""
    shown = str(text)
    # Truncated before it is scanned: it may have millions of characters.
    shown = shown if len(shown) <= longest else shown[: longest - 2] + ".."
    if shown.isprintable():
        return shown
    shown = "".join(each if each.isprintable() else ascii(each)[1:-1] for each in shown)
    return shown if len(shown) <= longest else shown[: longest - 2] + ".."


def escaped(text: str) -> str:
    """Escape non-printable characters, including newlines, of a text of any length."""
    return text if text.isprintable() else "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)


def brief(value: object, longest: int = 60) -> str:
    """Format a value for an error message, truncated before it is formatted: a text may have millions of characters.

    For values other than text, bytes and numbers, only the class is named: a `repr` of their own may take arbitrarily long,
    raise, or reveal private data.
    """
    if isinstance(value, int) and value.__class__ in (int, bool):
        return repr(value) if value.bit_length() <= 4 * longest else "an integer of very many digits"
    if value is None or value.__class__ is float:
        return repr(value)
    if isinstance(value, str | bytes) and value.__class__ in (str, bytes):
        return repr(value) if len(value) <= longest else f"{value[:longest]!r}.."
    return f"an object of class {class_name(value)}"


def class_name(value: object, longest: int = 200) -> str:
    """Return the name of a value's class, printable and of bounded length: classes can be created and named at run time."""
    # The descriptor of `type`: a metaclass may override `__qualname__`, and raise.
    return plain(_QUALNAME.__get__(type(value)), longest)


def nearest(name: str, names: Iterable[str], *, cutoff: float = 0.6) -> str | None:
    """Return the name that was probably meant; None if none is similar."""
    # Imported on demand, because it is expensive, and rarely needed.
    from difflib import get_close_matches

    found = get_close_matches(name[:_LONGEST_NAME], list(names), n=1, cutoff=cutoff)
    return found[0] if found else None


def quoted(name: object) -> str:
    """Quote a name for a sentence."""
    return f"'{plain(name, 60)}'"


def number(value: float | None) -> str:
    """Format a number of things."""
    if value is None:
        return _NONE
    if abs(value) < _LONGEST_EXACT:
        return f"{value:,}"
    try:
        return f"{value:.3g}"
    # An integer larger than the largest float.
    except OverflowError:
        return f"{'-' if value < 0 else ''}over 1e308"


def several(count: int, one: str, many: str | None = None) -> str:
    """Format a count with its noun: "1 file", "2 files"."""
    return f"{number(count)} {one if count == 1 else many or one + 's'}"


def percent(share: float | None) -> str:
    """Format a share between 0 and 1."""
    if share is None:
        return _NONE
    return f"{share * 100:.1f} %" if abs(share) <= 100 else f"{share * 100:.3g} %"


def duration(seconds: float | None) -> str:
    """Format seconds in the largest unit of which there are at least two."""
    if seconds is None:
        return _NONE
    for unit, length in (("days", 86_400), ("hours", 3_600), ("minutes", 60)):
        if abs(seconds) >= 2 * length:
            return f"{number(round(seconds / length))} {unit}"
    return f"{seconds:.1f} s"


def size(count: float | None) -> str:
    """Format a number of bytes."""
    if count is None:
        return _NONE
    for unit, length in (("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if count >= length:
            return f"{count / length:.1f} {unit}"
    return f"{count:.0f} bytes"


def when(seconds: float | None) -> str:
    """Format a time in UTC."""
    if seconds is None:
        return _NONE
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    # A year outside the calendar.
    except (OverflowError, ValueError, OSError):
        return f"{seconds:.3g} s after 1970"


def counts(numbers: Mapping[str, int]) -> str:
    """Format numbers by name, the largest first."""
    ordered = sorted(numbers.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{plain(name, 40)} {number(count)}" for name, count in ordered[:8]) or _NONE


def fitting(line: str, width: int = WIDTH) -> list[str]:
    """Wrap a line; continuation lines are aligned after its label, if it starts with one and two spaces, or indented."""
    from textwrap import wrap

    if len(line) <= width:
        return [line]
    label = _LABEL.match(line)
    own = len(line) - len(line.lstrip())
    indent = (
        label.end()
        if label is not None and label.end() <= min(_WIDEST_LABEL, width // 2)
        else min(own + 4 if own else 2, width // 2)
    )
    return wrap(line, width, subsequent_indent=" " * indent, break_on_hyphens=False, replace_whitespace=False) or [line]


def table(
    rows: Sequence[Sequence[str]], *, indent: str = "  ", left: int = 1, keys: int = 1, width: int = WIDTH, ruled: bool = False
) -> Iterator[str]:
    """Align rows as columns, the first `left` to the left and the others to the right; the first row is the head.

    Columns that do not fit go into another table below, which repeats the first `keys` columns. With `ruled`, the head is
    underlined.
    """
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for number, columns in enumerate(_folds(widths, width - len(indent), keys)):
        if number:
            yield ""
        for index, row in enumerate(rows):
            cells = [row[each].ljust(widths[each]) if each < left else row[each].rjust(widths[each]) for each in columns]
            yield (indent + "  ".join(cells)).rstrip()
            if ruled and not index:
                yield indent + "  ".join("-" * widths[each] for each in columns)


def _folds(widths: Sequence[int], width: int, keys: int) -> list[list[int]]:
    """Return the indices of the columns of each table."""
    own = sum(widths[:keys]) + 2 * (keys - 1)
    tables, free = [[*range(keys)]], width - own
    for column in range(keys, len(widths)):
        free -= 2 + widths[column]
        # A column that is too wide by itself gets its own table.
        if free < 0 and len(tables[-1]) > keys:
            tables.append([*range(keys)])
            free = width - own - 2 - widths[column]
        tables[-1].append(column)
    return tables


class Shown:
    """A value that a notebook shows as HTML, and everything else as its text.

    What draws it is in a higher layer, and is found by an entry point.
    """

    __slots__ = ()

    def _repr_html_(self) -> str | None:
        """Return the HTML of this value; None if nothing that draws it is installed."""
        from importlib.metadata import entry_points

        for found in entry_points(group=NOTEBOOK):
            html: str | None = found.load()(self)
            if html is not None:
                return html
        return None

    def _repr_markdown_(self) -> str:
        """Return its text, as it is printed."""
        # Names in a journal may contain anything, also the end of the block.
        said = str(self).replace("```", "'''")
        return f"```text\n{said}\n```"
