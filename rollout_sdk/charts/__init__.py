"""Charts as inline SVG, without a chart library: each with a text alternative and the numbers it is drawn from.

Colours are classes, so one style sheet serves light, dark and printed pages; see `STYLE`.
"""

from __future__ import annotations

from rollout_sdk.charts.bars import bars, periods
from rollout_sdk.charts.chart import Chart
from rollout_sdk.charts.forest import Effect, forest
from rollout_sdk.charts.lines import Interval, evidence, sequence
from rollout_sdk.charts.markup import STYLE, Markup, element, join, text
from rollout_sdk.charts.matrix import matrix
from rollout_sdk.charts.shares import Mark, shares

__all__ = [
    "STYLE",
    "Chart",
    "Effect",
    "Interval",
    "Mark",
    "Markup",
    "bars",
    "element",
    "evidence",
    "forest",
    "join",
    "matrix",
    "periods",
    "sequence",
    "shares",
    "text",
]
