"""Draws docs/interleaving.svg: one served page, coloured by the ranker that placed each item.

python benchmarks/interleaving_picture.py docs/interleaving.svg
"""

from __future__ import annotations

import sys
from pathlib import Path

from rollout_sdk.interleaving import TeamDraft

LEGACY = ["rain jacket", "umbrella", "rubber boots", "poncho", "rain hat", "raincoat"]
CANDIDATE = ["rain jacket", "raincoat", "umbrella", "trench coat", "rubber boots", "poncho"]
COLOURS = {"legacy": "#b45309", "candidate": "#0f766e", None: "#6b7280"}
ROW, TOP = 34, 62


def column(x: int, title: str, rows: list[tuple[str, str | None, str]]) -> str:
    """A ranking or the page, with a note on each item."""
    drawn = f'<text x="{x}" y="40" font-weight="600">{title}</text>'
    for number, (item, team, said) in enumerate(rows):
        y, colour = TOP + ROW * number, COLOURS[team]
        drawn += (
            f'<rect x="{x}" y="{y}" width="190" height="26" rx="4" fill="{colour}" fill-opacity=".14" stroke="{colour}"/>'
            f'<text x="{x + 10}" y="{y + 18}">{number + 1}. {item}</text>'
            f'<text x="{x + 200}" y="{y + 18}" fill="{colour}" font-size="12">{said}</text>'
        )
    return drawn


def picture() -> str:
    """The picture as SVG."""
    page = TeamDraft().merge({"legacy": LEGACY, "candidate": CANDIDATE}, seed="a visit")
    shown = [
        (
            str(slot.key),
            slot.team,
            "both agree: no vote" if slot.team is None else f"a click votes for {slot.team} (round {(slot.pair or 0) + 1})",
        )
        for slot in page.slots
    ]
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 940 290" font-family="system-ui, sans-serif" font-size="13">'
        '<rect width="940" height="290" fill="#fff"/>'
        + column(20, "legacy ranks", [(item, "legacy", "") for item in LEGACY])
        + column(240, "candidate ranks", [(item, "candidate", "") for item in CANDIDATE])
        + column(470, "what the user sees", shown)
        + "</svg>\n"
    )


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(picture(), encoding="utf-8")
