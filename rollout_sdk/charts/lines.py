"""What became of a difference, and of the evidence, over time."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from attrs import frozen

from rollout_sdk.charts.chart import BOTTOM, HEIGHT, PALETTE, RIGHT, Chart, label, legend, line, picture, side_axis, times_below
from rollout_sdk.charts.markup import Markup, element
from rollout_sdk.charts.scale import Scale, log_ticks, spread, ticks
from rollout_sdk.formatting import when

__all__ = ["Interval", "evidence", "sequence"]

_LEFT, _TOP = 58.0, 12.0
_MOST_EXPONENT = 12.0
"""Evidence beyond 10^12 is drawn at the border: more does not decide more."""


@frozen
class Interval:
    """What was known at one time.

    Attributes:
        time_s: When, in seconds since 1970.
        low: Lower end; may be minus infinity.
        middle: The estimate.
        high: Upper end.
    """

    time_s: float
    low: float
    middle: float
    high: float


def sequence(
    title: str, points: Sequence[Interval], *, written: Callable[[float], str], limit: float | None = None, limit_name: str = ""
) -> Chart:
    """A confidence sequence: valid at each time, however often it is looked at.

    Args:
        title: What it is about.
        points: What was known, in order of time.
        written: How a difference is written.
        limit: The difference that decides; None where there is none.
        limit_name: What crossing it means.
    """
    last = points[-1]
    reach = [value for each in points[len(points) // 4 :] for value in (each.low, each.high)]
    # The first looks know next to nothing: their intervals would flatten all others.
    low, high = spread([*reach, last.low, last.middle, last.high], around=(0.0, *([limit] if limit is not None else ())))
    xs, ys = _times([each.time_s for each in points]), Scale(low, high, BOTTOM, _TOP)
    upper = [(xs(each.time_s), ys(each.high)) for each in points]
    lower = [(xs(each.time_s), ys(each.low)) for each in points]
    says = f"At the end {written(last.middle)}, between {_bound(last.low, written)} and {_bound(last.high, written)}."
    return Chart(
        title,
        says,
        picture(
            title,
            says,
            HEIGHT,
            side_axis(ys, _LEFT, ((value, written(value)) for value in ticks(low, high, 4))),
            element("path", d=f"M{_path(upper)}L{_path(lower[::-1])}Z", class_="band c1"),
            element("path", d=f"M{_path([(xs(each.time_s), ys(each.middle)) for each in points])}", class_="line c1"),
            # Of two lines in one place, the one that decides is drawn.
            *([] if limit == 0 else [line(_LEFT, ys(0.0), RIGHT, ys(0.0), "zero")]),
            *_decision(limit, limit_name, ys),
            times_below(xs, BOTTOM),
        ),
        ("time", "difference", "from", "to"),
        tuple(
            (when(each.time_s), written(each.middle), _bound(each.low, written), _bound(each.high, written)) for each in points
        ),
    )


def evidence(title: str, series: Mapping[str, Sequence[tuple[float, float]]], *, needed: float) -> Chart:
    """Evidence over time against what is needed, on a logarithmic scale.

    Args:
        title: What the evidence is for.
        series: By name, times in seconds since 1970 with the natural logarithm of the e-value at each.
        needed: The natural logarithm of the e-value that decides.
    """
    by_ten = {name: [(time_s, _tens(log_e)) for time_s, log_e in points] for name, points in series.items() if points}
    decides = needed / math.log(10)
    values = [value for points in by_ten.values() for _, value in points]
    low, high = min([-1.0, *values]) - 0.2, max([decides, *values]) + 0.6
    key, top = legend(list(by_ten), first=1)
    xs, ys = _times([time_s for points in by_ten.values() for time_s, _ in points]), Scale(low, high, BOTTOM, top + 4)
    says = "; ".join(f"{name}: {_times_of(points[-1][1])} of {_times_of(decides)} needed" for name, points in by_ten.items())
    return Chart(
        title,
        says,
        picture(
            title,
            says,
            HEIGHT,
            side_axis(ys, _LEFT, ((value, _times_of(value)) for value in log_ticks(low, high))),
            key,
            *(
                element(
                    "path",
                    d=f"M{_path([(xs(time_s), ys(value)) for time_s, value in points])}",
                    class_=f"line c{number % PALETTE}",
                )
                for number, points in enumerate(by_ten.values(), 1)
            ),
            *_decision(decides, "decides", ys, at_left=True),
            times_below(xs, BOTTOM),
        ),
        ("", "time", "evidence"),
        tuple((name, when(time_s), _times_of(value)) for name, points in by_ten.items() for time_s, value in points),
    )


def _times(times_s: Sequence[float]) -> Scale:
    low, high = min(times_s), max(times_s)
    return Scale(low, max(high, low + 1.0), _LEFT, RIGHT)


def _decision(limit: float | None, name: str, ys: Scale, *, at_left: bool = False) -> list[Markup]:
    """The line that decides; its name stands where other lines are seldom: those of evidence rise from the left."""
    if limit is None:
        return []
    y = ys(limit)
    named = label(_LEFT + 4, y - 4, name, class_="word bad") if at_left else label(RIGHT, y - 4, name, "end", "word bad")
    return [line(_LEFT, y, RIGHT, y, "decide"), named]


def _path(points: Sequence[tuple[float, float]]) -> str:
    # A path through one point would not be seen.
    drawn = points if len(points) > 1 else [(points[0][0] - 3, points[0][1]), (points[0][0] + 3, points[0][1])]
    return "L".join(f"{x:.1f} {y:.1f}" for x, y in drawn)


def _tens(log_e: float) -> float:
    return min(max(log_e / math.log(10), -_MOST_EXPONENT), _MOST_EXPONENT)


def _times_of(exponent: float) -> str:
    """An e-value as odds: "20 to 1" is what a test at 5 % asks for."""
    if abs(exponent) >= 6:
        return f"10^{exponent:.0f}"
    return f"{10.0**exponent:,.3g}" if exponent < 3 else f"{10.0**exponent:,.0f}"


def _bound(value: float, written: Callable[[float], str]) -> str:
    return written(value) if math.isfinite(value) else "no bound"
