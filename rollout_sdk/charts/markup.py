"""Markup that is safe to put into a page: text is escaped, and plain strings are type errors. And the style sheet of charts."""

from __future__ import annotations

import math
from collections.abc import Iterable
from html import escape
from typing import NewType

from rollout_sdk.formatting import plain

__all__ = ["STYLE", "Markup", "element", "join", "text"]

Markup = NewType("Markup", str)
"""A piece of HTML or SVG. Names in a journal are hostile text: they become markup by `text` only."""

_VOID = frozenset({"br", "hr", "img", "input", "link", "meta"})
"""HTML elements without an end tag."""

_LONGEST_TEXT = 2_000


def text(value: object, longest: int = _LONGEST_TEXT) -> Markup:
    """Escape a text: markup in it is shown and not obeyed, and other control characters are written out."""
    return Markup(escape(plain(value, longest)))


def element(tag: str, /, *children: Markup, **attributes: object) -> Markup:
    """An element of HTML or SVG.

    Args:
        tag: Its name.
        children: What is in it.
        attributes: Its attributes: `class_` is `class`, an underscore within a name is a hyphen, and numbers are written with
            two decimals. None and False leave an attribute out, and True writes it without a value.
    """
    written = "".join(_attribute(each, value) for each, value in attributes.items() if value is not None and value is not False)
    if not children and tag in _VOID:
        return Markup(f"<{tag}{written}>")
    return Markup(f"<{tag}{written}>{''.join(children)}</{tag}>")


def join(parts: Iterable[Markup], between: Markup = Markup("")) -> Markup:
    """Put markup together."""
    return Markup(between.join(parts))


def _attribute(name: str, value: object) -> str:
    written = name.rstrip("_").replace("_", "-")
    return f" {written}" if value is True else f' {written}="{_value(value)}"'


def _value(value: object) -> str:
    if isinstance(value, float):
        # A coordinate that is not a number would keep a browser from drawing all of it.
        return f"{value:.2f}".rstrip("0").rstrip(".") if math.isfinite(value) else "0"
    return escape(plain(value, _LONGEST_TEXT))


# Each colour has a contrast of 4.5 to its background. The first is the control's, the others are candidates'.
STYLE = """
:root{color-scheme:light dark;--text:#1c2430;--muted:#566275;--rule:#d5dbe3;--page:#fff;--panel:#f6f8fa;
--k0:#5b6778;--k1:#0b7285;--k2:#a34a00;--k3:#7438c4;--k4:#b0245f;--k5:#4b6b00;
--good:#1b6e3a;--bad:#b3261e;--unsure:#7a5b00;--decide:#b3261e}
@media screen and (prefers-color-scheme:dark){:root{--text:#e6eaf0;--muted:#a3afbf;--rule:#39424f;--page:#12161c;
--panel:#1a2028;--k0:#a3afbf;--k1:#4cc3d9;--k2:#f0a35e;--k3:#b79af5;--k4:#f28db3;--k5:#b4d455;
--good:#6fd695;--bad:#ff8f86;--unsure:#e8c35a;--decide:#ff8f86}}
svg{font:12px system-ui,sans-serif;fill:var(--text);width:100%;height:auto;max-width:560px}
svg .tick{fill:var(--muted);font-size:11px}svg .strong{font-weight:600}
svg .axis{stroke:var(--muted)}svg .grid{stroke:var(--rule)}
svg .zero{stroke:var(--text)}svg .decide{stroke:var(--decide);stroke-dasharray:5 3;stroke-width:1.5}
svg .mark{stroke:var(--muted);stroke-dasharray:2 3}
.c0{--c:var(--k0)}.c1{--c:var(--k1)}.c2{--c:var(--k2)}.c3{--c:var(--k3)}.c4{--c:var(--k4)}.c5{--c:var(--k5)}
.good{--c:var(--good)}.bad{--c:var(--bad)}.unsure{--c:var(--unsure)}
svg .fill{fill:var(--c)}svg .band{fill:var(--c);fill-opacity:.18}svg .pale{fill:var(--c);fill-opacity:.35}
svg .line{stroke:var(--c);stroke-width:2;fill:none}svg .word{fill:var(--c);font-weight:600}
svg .cell{stroke:var(--page)}
""".strip()
"""The style sheet of charts, alone and in a page."""
