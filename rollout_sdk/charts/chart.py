"""A chart: its picture, what it shows in words, and its numbers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from attrs import field, frozen

from rollout_sdk.charts.markup import STYLE, Markup, element, join, text
from rollout_sdk.charts.scale import Scale, time_ticks

__all__ = [
    "BOTTOM",
    "HEIGHT",
    "PALETTE",
    "RIGHT",
    "WIDTH",
    "Chart",
    "axis_below",
    "label",
    "legend",
    "line",
    "picture",
    "side_axis",
    "times_below",
]

WIDTH = 400.0
"""Of every chart, in user units: wide enough for a phone without making its text small."""

HEIGHT = 210.0
"""Of a chart whose height does not depend on how much it shows."""

RIGHT, BOTTOM = WIDTH - 8.0, HEIGHT - 24.0
"""Where the area of a chart over time ends."""

_LEGEND_LINE = 16.0

PALETTE = 6
"""How many colours there are; the control has the first."""


@frozen
class Chart:
    """A chart.

    Attributes:
        title: What it is about.
        says: What it shows, in a sentence: the text alternative.
        picture: The SVG element.
        columns: Names of the columns of its numbers.
        rows: Its numbers, formatted.
    """

    title: str
    says: str
    picture: Markup
    columns: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = field(factory=tuple)

    def html(self) -> Markup:
        """The chart as a figure that can be opened to its numbers."""
        return element(
            "figure",
            element("figcaption", text(self.title)),
            self.picture,
            *([element("details", element("summary", text("Numbers")), self.table())] if self.rows else ()),
            class_="chart",
        )

    def table(self) -> Markup:
        """The numbers as a table."""
        head = element("tr", *(element("th", text(name), scope="col") for name in self.columns))
        body = (element("tr", *(element("td", text(cell)) for cell in row)) for row in self.rows)
        # Wider than a phone, it scrolls by itself; and must be reachable by keyboard.
        return element(
            "div",
            element("table", element("thead", head), element("tbody", *body)),
            class_="scroll",
            tabindex=0,
            role="group",
            aria_label=f"Numbers: {self.title}",
        )

    def svg(self) -> str:
        """The chart as a file of its own, with its style."""
        opening, _, rest = self.picture.partition(">")
        return f'{opening} xmlns="http://www.w3.org/2000/svg"><style>{STYLE}</style>{rest}\n'


def picture(title: str, says: str, height: float, *children: Markup) -> Markup:
    """The SVG element around a chart."""
    return element(
        "svg",
        element("title", text(title)),
        *children,
        viewBox=f"0 0 {WIDTH:g} {height:g}",
        role="img",
        aria_label=f"{title}. {says}",
    )


def label(x: float, y: float, content: object, anchor: str = "start", class_: str | None = None, longest: int = 60) -> Markup:
    """A text in a chart."""
    return element("text", text(content, longest), x=x, y=y, text_anchor=None if anchor == "start" else anchor, class_=class_)


def line(x1: float, y1: float, x2: float, y2: float, class_: str) -> Markup:
    """A straight line in a chart."""
    return element("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=class_)


def axis_below(scale: Scale, y: float, marks: Iterable[tuple[float, str]]) -> Markup:
    """The axis below a chart, with its ticks."""
    parts = [line(scale.start, y, scale.end, y, "axis")]
    for value, name in marks:
        x = scale(value)
        # At the borders, half of a name would be cut off.
        half = 3.2 * len(name)
        anchor = "start" if x < half else "end" if x > WIDTH - half else "middle"
        parts += [line(x, y, x, y + 4, "axis"), label(x, y + 16, name, anchor, "tick")]
    return join(parts)


_TIME_WIDTH = 80.0
"""Room for a time with seconds, and some between two of them."""


def times_below(scale: Scale, y: float) -> Markup:
    """The axis of time below a chart, in UTC."""
    return axis_below(scale, y, time_ticks(scale.low, scale.high, max(2, int((scale.end - scale.start) // _TIME_WIDTH))))


def side_axis(scale: Scale, x: float, marks: Iterable[tuple[float, str]]) -> Markup:
    """The axis at the left of a chart: names of its ticks, and a thin line for each across it."""
    return join(
        part
        for value, name in marks
        for part in (
            line(x, scale(value), WIDTH - 6, scale(value), "grid"),
            label(x - 5, scale(value) + 4, name, "end", "tick"),
        )
    )


def legend(names: Sequence[str], first: int = 0) -> tuple[Markup, float]:
    """Which colour is whose, from the colour `first` on, in up to three lines at the top; and how high these are."""
    parts, x, y = [], 6.0, 2.0
    for number, name in enumerate(names):
        width = 24 + 6.4 * min(len(name), 24)
        if x + width > WIDTH - 30:
            if y > 2 * _LEGEND_LINE:
                parts.append(label(x, y + 9, f"+{len(names) - number}", class_="tick"))
                break
            x, y = 6.0, y + _LEGEND_LINE
        colour = f"fill c{(first + number) % PALETTE}"
        parts += [element("rect", x=x, y=y, width=10, height=10, class_=colour), label(x + 14, y + 9, name, longest=24)]
        x += width
    return join(parts), y + _LEGEND_LINE
