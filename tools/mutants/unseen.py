"""The faults that change nothing that a caller sees, each with its reason."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

from tools.mutants.faults import Mutant

__all__ = ["shown", "unseen"]

FILE = Path(__file__).with_name("unseen.toml")


def unseen() -> dict[tuple[str, str, str, str], str]:
    """Return the reason of each listed fault, by its key."""
    listed = tomllib.loads(FILE.read_text(encoding="utf-8"))
    return {
        (path, fault["name"], fault["was"], fault["becomes"]): fault["why"]
        for path, faults in listed.items()
        for fault in faults
    }


def shown(mutant: Mutant) -> str:
    """Return a fault as it is listed, without its reason."""
    path, name, was, becomes = (json.dumps(text, ensure_ascii=False) for text in mutant.key)
    return f'[[{path}]]  # line {mutant.line}\nname = {name}\nwas = {was}\nbecomes = {becomes}\nwhy = ""\n'
