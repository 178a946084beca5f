"""Values side by side."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from rollout_sdk.charts.chart import PALETTE, WIDTH, Chart, label, legend, picture
from rollout_sdk.charts.markup import Markup, element
from rollout_sdk.charts.scale import Scale

__all__ = ["bars"]

_BAR, _GAP, _LEFT = 15.0, 26.0, 10.0


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
