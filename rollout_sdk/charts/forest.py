"""Differences with their intervals, one above the other."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from attrs import frozen

from rollout_sdk.charts.chart import WIDTH, Chart, axis_below, label, line, picture
from rollout_sdk.charts.markup import Markup, element, join
from rollout_sdk.charts.scale import Scale, spread, ticks

__all__ = ["Effect", "forest"]

_ROW, _TOP, _LEFT, _RIGHT = 42.0, 4.0, 10.0, WIDTH - 10.0
_FAR = 8.0


@frozen
class Effect:
    """A difference between two arms.

    Attributes:
        name: Of the metric, the segment, or both.
        estimate: The difference; None where it is not known.
        low: Lower end of its interval; may be minus infinity.
        high: Upper end.
        word: What it means, in a word or two.
        tone: "good", "bad" or "unsure", for the colour beside the word.
        limit: The difference that would decide; None where there is none.
    """

    name: str
    estimate: float | None
    low: float
    high: float
    word: str = ""
    tone: str = "unsure"
    limit: float | None = None


def forest(title: str, effects: Sequence[Effect], *, written: Callable[[float], str]) -> Chart:
    """A forest plot: a row for each difference, with a line at no difference and one where it would decide.

    Args:
        title: What the differences are of.
        effects: The differences, on one scale.
        written: How a difference is written.
    """
    known = [each for each in effects if each.estimate is not None and math.isfinite(each.estimate)]
    limits = [each.limit for each in effects if each.limit is not None]
    scale = _scale(known, limits)
    bottom = _TOP + _ROW * len(effects)
    rows = (_row(each, _TOP + _ROW * number, scale, written) for number, each in enumerate(effects))
    drawn = picture(
        title,
        says := "; ".join(_sentence(each, written) for each in effects),
        bottom + 24,
        *rows,
        axis_below(scale, bottom, ((value, written(value)) for value in ticks(scale.low, scale.high, 4))),
    )
    return Chart(
        title,
        says,
        drawn,
        ("", "difference", "from", "to", ""),
        tuple(
            (each.name, _value(each.estimate, written), _value(each.low, written), _value(each.high, written), each.word)
            for each in effects
        ),
    )


def _scale(known: Sequence[Effect], limits: Sequence[float]) -> Scale:
    """Wide enough for most of the differences: what is far larger than the others is drawn as an arrow."""
    reach = sorted(
        max([abs(end) for end in (each.low, each.high, each.estimate or 0.0) if math.isfinite(end)]) for each in known
    )
    # Of one that is far larger, all others would be dots.
    most = max(_FAR * reach[(len(reach) - 1) // 2] if reach else 1.0, *(1.2 * abs(each) for each in limits), 1e-9)
    ends = [end for each in known for end in (each.low, each.estimate or 0.0, each.high) if abs(end) <= most]
    low, high = spread(ends, around=(0.0, *limits))
    return Scale(low, high, _LEFT, _RIGHT)


def _row(effect: Effect, y: float, scale: Scale, written: Callable[[float], str]) -> Markup:
    middle = y + 28
    parts = [
        line(scale(0.0), y + 17, scale(0.0), y + _ROW, "zero"),
        label(_LEFT, y + 12, effect.name, class_="strong", longest=26),
    ]
    said = " ".join(filter(None, [_value(effect.estimate, written) if effect.estimate is not None else "", effect.word]))
    parts.append(label(_RIGHT, y + 12, said, "end", f"word {effect.tone}", longest=32))
    if effect.estimate is None:
        return join([*parts, label(scale(0.0) + 6, middle + 4, "not known yet", class_="tick")])
    if effect.limit is not None:
        parts.append(line(scale(effect.limit), middle - 9, scale(effect.limit), middle + 9, "decide"))
    parts.append(line(scale(effect.low), middle, scale(effect.high), middle, f"line {effect.tone}"))
    parts += [_end(end, middle, scale, effect.tone) for end in (effect.low, effect.high)]
    if scale.holds(effect.estimate):
        parts.append(element("circle", cx=scale(effect.estimate), cy=middle, r=4, class_=f"fill {effect.tone}"))
    return join(parts)


def _end(value: float, y: float, scale: Scale, tone: str) -> Markup:
    """A short bar at the end of an interval; an arrow where it goes on outside of the picture."""
    x = scale(value)
    if scale.holds(value):
        return line(x, y - 5, x, y + 5, f"line {tone}")
    inwards = 7 if value < scale.low else -7
    return element("path", d=f"M{x:.2f} {y:.2f}l{inwards} -5v10z", class_=f"fill {tone}")


def _value(value: float | None, written: Callable[[float], str]) -> str:
    if value is None:
        return "-"
    return written(value) if math.isfinite(value) else "no bound"


def _sentence(effect: Effect, written: Callable[[float], str]) -> str:
    if effect.estimate is None:
        return f"{effect.name}: not known yet"
    ends = f"{_value(effect.low, written)} to {_value(effect.high, written)}"
    return f"{effect.name}: {written(effect.estimate)} ({ends})" + (f", {effect.word}" if effect.word else "")
