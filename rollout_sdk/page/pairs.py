"""Pairs of answers that were kept: those that differ most, blind until one asks whose is whose."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from rollout_sdk.charts import Markup, element, join, text
from rollout_sdk.formatting import several, when
from rollout_sdk.journal import KeptPair

__all__ = ["MOST_SHOWN", "disagreements", "pair_block"]

MOST_SHOWN = 5
"""Pairs of a rollout on a page."""

_LONGEST = 800
_MOST_LINES = 40
_LINE_END = re.compile(r"(?<!\\)\\n")


def disagreements(pairs: Sequence[KeptPair], most: int = MOST_SHOWN) -> Markup:
    """So many of the pairs that differ most, in this order; nothing where none is kept."""
    if not pairs:
        return Markup("")
    shown = pairs[:most]
    more = len(pairs) - len(shown)
    return element(
        "section",
        element("h2", text("Answers that differ")),
        element(
            "p",
            text(f"{several(len(pairs), 'pair')} kept, redacted, those that differ most first. a and b are in random order."),
            class_="muted",
        ),
        *(_opened(number, pair) for number, pair in enumerate(shown, 1)),
        element("p", text(f"{more:,} more: rollout disagreements KEY"), class_="muted") if more else Markup(""),
        class_="block",
    )


def _opened(number: int, pair: KeptPair) -> Markup:
    far = "" if pair.difference is None else f" · difference {pair.difference:.4g}"
    about = f"{number}. {pair.reason or 'different'}{far} · {pair.candidate} · {when(pair.time_s)}"
    whose = "a is the control's answer" if pair.as_dict(is_revealed=True)["control"] == "a" else "b is the control's answer"
    return element(
        "details",
        element("summary", text(about)),
        pair_block(pair, longest=_LONGEST),
        element(
            "details",
            element("summary", text("Whose answers are these?")),
            element("p", text(whose)),
            data_name=f"whose {pair.id}",
        ),
        element("p", element("code", text(pair.id)), class_="muted"),
        data_name=f"pair {pair.id}",
    )


def pair_block(pair: KeptPair, *, longest: int, level: int = 3) -> Markup:
    """The arguments of a call and both answers to it, without saying whose they are.

    Args:
        pair: The pair.
        longest: Characters of each that are shown.
        level: Level of their headings.
    """
    parts = [("a", pair.a), ("b", pair.b)]
    if pair.arguments is not None:
        parts.insert(0, ("arguments", pair.arguments))
    return element("div", *(_answer(name, value, longest, level) for name, value in parts), class_="pair")


def _answer(name: str, value: Any, longest: int, level: int) -> Markup:
    shown = value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False)
    # Lines within a text are read as lines.
    shown = _LINE_END.sub("\n", shown)
    lines = (shown if len(shown) <= longest else f"{shown[:longest]}...").splitlines()
    lines = lines if len(lines) <= _MOST_LINES else [*lines[:_MOST_LINES], "..."]
    return element(
        "div",
        element(f"h{level}", text(name)),
        # Each line is escaped for itself, so that texts keep their lines.
        element(
            "pre", join((text(line, longest + 3) for line in lines), Markup("\n")), tabindex=0, role="group", aria_label=name
        ),
        class_=f"answer {name}",
    )
