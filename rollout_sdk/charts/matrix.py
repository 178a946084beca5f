"""Which answers were given instead of which."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rollout_sdk.charts.chart import WIDTH, Chart, label, picture
from rollout_sdk.charts.markup import Markup, element
from rollout_sdk.formatting import number

__all__ = ["matrix"]

_LEFT, _TOP, _MOST_LABELS = 96.0, 44.0, 12


def matrix(title: str, counts: Mapping[tuple[str, str], int], *, rows: str = "control", columns: str = "candidate") -> Chart:
    """A disagreement matrix: a row for each answer of one arm, a column for each of the other.

    Args:
        title: What it is about.
        counts: Calls by the answers of both arms.
        rows: Whose answers the rows are.
        columns: Whose the columns are.
    """
    names = _names(counts)
    side = min(64.0, (WIDTH - _LEFT - 8) / max(1, len(names)))
    highest = max(counts.values(), default=0) or 1
    cells = [
        part
        for y, one in enumerate(names)
        for x, other in enumerate(names)
        for part in _cell(counts.get((one, other), 0), highest, _LEFT + x * side, _TOP + y * side, side, is_same=one == other)
    ]
    heads = [
        label(_LEFT + (x + 0.5) * side, _TOP - 6, name, "middle", "tick", longest=int(side / 6)) for x, name in enumerate(names)
    ]
    heads += [label(_LEFT - 6, _TOP + (y + 0.5) * side + 4, name, "end", "tick", longest=14) for y, name in enumerate(names)]
    same = sum(count for (one, other), count in counts.items() if one == other)
    total = sum(counts.values())
    says = f"{number(same)} of {number(total)} answers are the same."
    return Chart(
        title,
        says,
        picture(
            title,
            says,
            _TOP + side * len(names) + 8,
            label(_LEFT, 14, f"{columns} answered", class_="strong"),
            label(6, _TOP - 6, rows, class_="strong", longest=12),
            *heads,
            *cells,
        ),
        (rows, columns, "calls"),
        tuple((one, other, number(count)) for (one, other), count in sorted(counts.items(), key=lambda each: -each[1])[:100]),
    )


def _names(counts: Mapping[tuple[str, str], int]) -> Sequence[str]:
    """The most frequent answers."""
    frequent: dict[str, int] = {}
    for (one, other), count in counts.items():
        frequent[one] = frequent.get(one, 0) + count
        frequent[other] = frequent.get(other, 0) + count
    return sorted(sorted(frequent, key=lambda name: -frequent[name])[:_MOST_LABELS])


def _cell(count: int, highest: int, x: float, y: float, side: float, *, is_same: bool) -> list[Markup]:
    return [
        element(
            "rect",
            x=x,
            y=y,
            width=side,
            height=side,
            fill_opacity=0.08 + 0.5 * count / highest,
            class_=f"fill cell {'c1' if is_same else 'c2'}",
        ),
        *([label(x + side / 2, y + side / 2 + 4, number(count), "middle")] if count else ()),
    ]
