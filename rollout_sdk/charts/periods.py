"""Who was there from when to when."""

from __future__ import annotations

from collections.abc import Sequence

from rollout_sdk.charts.chart import RIGHT, Chart, label, picture, times_below
from rollout_sdk.charts.markup import Markup, element
from rollout_sdk.charts.scale import Scale
from rollout_sdk.formatting import when

__all__ = ["periods"]

_ROW, _LEFT, _TOP = 20.0, 150.0, 8.0
_MOST_DRAWN = 12
_LONGEST_NAME = 22


def periods(title: str, says: str, found: Sequence[tuple[str, float, float]]) -> Chart:
    """Bars from the first time to the last, one below the other; only the first twelve are drawn, and all are in the table.

    Args:
        title: What it is about.
        says: What it shows, in a sentence.
        found: Name, first and last time (in seconds since 1970) of each.
    """
    drawn = found[:_MOST_DRAWN]
    low = min((first_s for _, first_s, _ in drawn), default=0.0)
    high = max((last_s for *_, last_s in drawn), default=0.0)
    xs = Scale(low, max(high, low + 1.0), _LEFT, RIGHT)
    bottom = _TOP + _ROW * (len(drawn) + (len(found) > len(drawn)))
    rows: list[Markup] = []
    for number, (name, first_s, last_s) in enumerate(drawn):
        y = _TOP + _ROW * number
        start, end = xs(first_s), xs(last_s)
        rows.append(label(_LEFT - 8, y + 12, name, "end", longest=_LONGEST_NAME))
        # One call alone must be seen, and stay within the picture.
        rows.append(
            element("rect", x=min(start, RIGHT - 2), y=y + 3, width=max(end - start, 2.0), height=11.0, class_="fill c1")
        )
    if len(found) > len(drawn):
        rows.append(label(_LEFT - 8, bottom - 8, f"+{len(found) - len(drawn)}", "end", "tick"))
    return Chart(
        title,
        says,
        picture(title, says, bottom + 24, *rows, times_below(xs, bottom)),
        ("", "from", "until"),
        tuple((name, when(first_s), when(last_s)) for name, first_s, last_s in found),
    )
