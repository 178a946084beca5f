"""Lines and tables for a terminal: never wider than it is."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from textwrap import wrap

__all__ = ["WIDTH", "fitting", "table"]

WIDTH = 80
"""Columns of a terminal, where nothing says how wide it is."""

_WIDEST_LABEL = 40
_LABEL = re.compile(r"\s*(?:\S+\s{2,}|[A-Z_]{4,}\s)(?=\S)")
"""A word and two spaces; or an outcome, the longest of which leaves room for one."""


def fitting(line: str, width: int = WIDTH) -> list[str]:
    """A line as so many lines that none is wider; what goes on stands below what comes after a label and two spaces, if the
    line has one, and is indented further, if not.
    """
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
    """Rows as aligned columns, the first `left` to the left and the others to the right; the first row is the head.

    Columns that do not fit stand in a further table below, which begins with the first `keys` columns again. With `ruled`, the
    head is underlined.
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
    """The columns of each table, by index."""
    own = sum(widths[:keys]) + 2 * (keys - 1)
    tables, free = [[*range(keys)]], width - own
    for column in range(keys, len(widths)):
        free -= 2 + widths[column]
        # One that is too wide alone stands alone.
        if free < 0 and len(tables[-1]) > keys:
            tables.append([*range(keys)])
            free = width - own - 2 - widths[column]
        tables[-1].append(column)
    return tables
