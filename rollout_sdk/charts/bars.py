"""Bars: values side by side, and who was there from when to when."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from rollout_sdk.charts.chart import PALETTE, RIGHT, WIDTH, Chart, label, legend, picture, times_below
from rollout_sdk.charts.markup import Markup, element
from rollout_sdk.charts.scale import Scale
from rollout_sdk.formatting import when

__all__ = ["bars", "periods"]

_BAR, _GAP, _LEFT = 15.0, 26.0, 10.0
_ROW, _NAMES, _TOP = 20.0, 150.0, 8.0
_MOST_DRAWN = 12
_LONGEST_NAME = 22


def bars(
    title: str, groups: Mapping[str, Mapping[str, float | None]], *, written: Callable[[float], str], most: float | None = None
) -> Chart:
    """Bars in groups: the latency of each arm by quantile, say, or the shares as configured and as they came about.

    Args:
        title: What it is about.
        groups: Values by group and by name; None where one is not known.
        written: How a value is written.
        most: The value at full length; the highest when left out.
    """
    names = list(dict.fromkeys(name for values in groups.values() for name in values))
    known = [value for values in groups.values() for value in values.values() if value is not None]
    scale = Scale(0.0, most or max(known, default=0.0) or 1.0, _LEFT, WIDTH - 90)
    key, y = legend(names)
    drawn: list[Markup] = [key]
    for group, values in groups.items():
        drawn.append(label(_LEFT, y + 12, group, class_="strong", longest=50))
        y += 18
        for number, name in enumerate(names):
            if name in values:
                drawn += _bar(values[name], y, scale, number, written)
                y += _BAR
        y += _GAP - _BAR
    says = "; ".join(
        f"{group}: " + ", ".join(f"{name} {_value(value, written)}" for name, value in values.items())
        for group, values in groups.items()
    )
    return Chart(
        title,
        says,
        picture(title, says, y, *drawn),
        ("", *names),
        tuple((group, *(_value(values.get(name), written) for name in names)) for group, values in groups.items()),
    )


def _bar(value: float | None, y: float, scale: Scale, number: int, written: Callable[[float], str]) -> list[Markup]:
    end = scale(value or 0.0)
    return [
        element("rect", x=_LEFT, y=y + 1, width=max(end - _LEFT, 1.0), height=_BAR - 3, class_=f"fill c{number % PALETTE}"),
        label(end + 5, y + 11, _value(value, written)),
    ]


def _value(value: float | None, written: Callable[[float], str]) -> str:
    return "-" if value is None else written(value)


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
    xs = Scale(low, max(high, low + 1.0), _NAMES, RIGHT)
    bottom = _TOP + _ROW * (len(drawn) + (len(found) > len(drawn)))
    rows: list[Markup] = []
    for number, (name, first_s, last_s) in enumerate(drawn):
        y = _TOP + _ROW * number
        start, end = xs(first_s), xs(last_s)
        rows.append(label(_NAMES - 8, y + 12, name, "end", longest=_LONGEST_NAME))
        # One call alone must be seen, and stay within the picture.
        rows.append(
            element("rect", x=min(start, RIGHT - 2), y=y + 3, width=max(end - start, 2.0), height=11.0, class_="fill c1")
        )
    if len(found) > len(drawn):
        rows.append(label(_NAMES - 8, bottom - 8, f"+{len(found) - len(drawn)}", "end", "tick"))
    return Chart(
        title,
        says,
        picture(title, says, bottom + 24, *rows, times_below(xs, bottom)),
        ("", "from", "until"),
        tuple((name, when(first_s), when(last_s)) for name, first_s, last_s in found),
    )
