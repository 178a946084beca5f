"""Markup that is safe to put into a page: text is escaped, and the type checker keeps plain strings out."""

from __future__ import annotations

import math
from collections.abc import Iterable
from html import escape
from typing import NewType

from rollout_sdk.formatting import plain

__all__ = ["Markup", "element", "join", "text"]

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
        # A coordinate that is no number would keep a browser from drawing all of it.
        return f"{value:.2f}".rstrip("0").rstrip(".") if math.isfinite(value) else "0"
    return escape(plain(value, _LONGEST_TEXT))
