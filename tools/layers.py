"""Writes the layers of rollout_sdk as a table, from the import contract: `python -m tools.layers docs/architecture.md`.

A room imports from the rooms below it, never from one beside or above it.
"""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BEGIN, END = "<!-- layers: made by tools/layers.py -->\n", "<!-- end of layers -->"


def layers() -> list[list[str]]:
    """Return the rooms by floor, from the top, according to the contract."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    contract = next(each for each in settings["tool"]["importlinter"]["contracts"] if each["type"] == "layers")
    return [[name.strip().removeprefix("rollout_sdk.") for name in floor.split("|")] for floor in contract["layers"]]


def about(room: str) -> str:
    """Return a room's purpose: the first sentence of its docstring."""
    path = ROOT / "rollout_sdk" / room
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    line = (ast.get_docstring(ast.parse(file.read_text())) or "").partition("\n")[0]
    return re.split(r"(?<=[^.])\. ", line)[0].rstrip(".")


def picture() -> str:
    """Return the table for the documentation."""
    rows = ["| room | what is in it |", "|---|---|"]
    for number, floor in enumerate(layers()):
        rows += ["| | |"] if number else []
        rows += [f"| `{room}` | {about(room)} |" for room in floor]
    return "\n".join(rows) + "\n"


def main() -> None:
    """Replace the table in a page."""
    page = Path(sys.argv[1])
    before, _, rest = page.read_text().partition(BEGIN)
    page.write_text(f"{before}{BEGIN}\n{picture()}\n{END}{rest.partition(END)[2]}")


if __name__ == "__main__":
    main()
