"""Who was served by what, over time, and who changed it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from attrs import frozen

from rollout_sdk.charts.chart import BOTTOM, HEIGHT, PALETTE, RIGHT, Chart, label, legend, line, picture, side_axis, times_below
from rollout_sdk.charts.markup import Markup, element
from rollout_sdk.charts.scale import Scale
from rollout_sdk.formatting import percent, when

__all__ = ["Mark", "shares"]

_LEFT, _MARKS = 46.0, 18.0
_BETWEEN = 6.0


@frozen
class Mark:
    """Something that happened.

    Attributes:
        time_s: When, in seconds since 1970.
        action: What: "promote", "pause", "abort".
        actor: Who did it.
        reason: Why.
    """

    time_s: float
    action: str
    actor: str = ""
    reason: str = ""


def shares(
    title: str,
    periods: Sequence[tuple[float, Mapping[str, float]]],
    *,
    until_s: float,
    control: str,
    marks: Sequence[Mark] = (),
) -> Chart:
    """The shares of the variants over time, the control's below, with what was done and by whom.

    Args:
        title: What it is about.
        periods: When each period began, in seconds since 1970, with the share of each variant from then on.
        until_s: When the last period ended.
        control: Name of the control.
        marks: What happened.
    """
    names = list(dict.fromkeys([control, *(name for _, given in periods for name in given)]))
    begin = min([time_s for time_s, _ in periods] + [each.time_s for each in marks])
    key, below_key = legend(names)
    top = below_key + _MARKS
    xs, ys = Scale(begin, max(until_s, begin + 1.0), _LEFT, RIGHT), Scale(0.0, 1.0, BOTTOM, top)
    says = "; ".join(f"from {when(time_s)} {_written(given)}" for time_s, given in periods)
    ends = [*(time_s for time_s, _ in periods[1:]), xs.high]
    return Chart(
        title,
        says,
        picture(
            title,
            says,
            HEIGHT,
            side_axis(ys, _LEFT, ((value, f"{value:.0%}") for value in (0.0, 0.5, 1.0))),
            *(
                part
                for (time_s, given), end in zip(periods, ends, strict=True)
                for part in _stack(given, names, xs(time_s), xs(end), ys)
            ),
            *_marked(marks, xs, top),
            key,
            times_below(xs, BOTTOM),
        ),
        ("time", "what", "by", "why"),
        tuple(
            sorted(
                [(when(each.time_s), each.action, each.actor, each.reason) for each in marks]
                + [(when(time_s), _written(given), "", "") for time_s, given in periods]
            )
        ),
    )


def _stack(given: Mapping[str, float], names: Sequence[str], start: float, end: float, ys: Scale) -> list[Markup]:
    drawn, below = [], 0.0
    for number, name in enumerate(names):
        share = given.get(name, 0.0)
        if share > 0:
            top, bottom = ys(below + share), ys(below)
            # One of 1 % must be seen.
            height = max(bottom - top, 1.5)
            colour = f"pale c{number % PALETTE}"
            drawn.append(element("rect", x=start, y=bottom - height, width=max(end - start, 1.0), height=height, class_=colour))
        below += share
    return drawn


def _marked(marks: Sequence[Mark], xs: Scale, top: float) -> list[Markup]:
    """Lines for what happened; names for as many as have room."""
    drawn: list[Markup] = []
    free = _LEFT
    for each in marks:
        x = xs(each.time_s)
        drawn.append(line(x, top - 6, x, BOTTOM, "mark"))
        for said in (f"{each.action}, {each.actor}", each.action) if each.actor else (each.action,):
            width = 6.2 * len(said)
            start = min(max(x - width / 2, _LEFT), RIGHT - width)
            if start >= free:
                drawn.append(label(start, top - 9, said, class_="tick"))
                free = start + width + _BETWEEN
                break
    return drawn


def _written(given: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {percent(share)}" for name, share in given.items())
