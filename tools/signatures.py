"""The signatures of everything public, one line each: `python -m tools.signatures tests/signatures.txt` writes them.

A test compares them with that file, so that a changed parameter, default or keyword is seen in a review.
"""

from __future__ import annotations

import importlib
import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

__all__ = ["lines"]

_PAGE = Path(__file__).parent.parent / "docs" / "public.md"
_PLAIN = (bool, int, float, str, bytes, type(None))


class _Other:
    """A default that is made for each call, or has no text of its own."""

    def __repr__(self) -> str:
        return "..."


def lines() -> list[str]:
    """Every public class, method and function with its parameters, and with those defaults that are plain values."""
    found: dict[str, str] = {}
    for module in re.findall(r"^## `([\w.]+)`", _PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE):
        exported = importlib.import_module(module)
        for name in exported.__all__:
            value = getattr(exported, name)
            if inspect.isclass(value) or inspect.isroutine(value):
                found.update(_signatures(f"{module}.{name}", value))
    return [f"{name}{signature}" for name, signature in sorted(found.items())]


def _signatures(name: str, value: Any) -> Iterator[tuple[str, str]]:
    try:
        yield name, _shown(inspect.signature(value))
    # Some classes, such as exceptions, have no constructor of their own.
    except (TypeError, ValueError):
        yield name, ""
    if inspect.isclass(value):
        for own, member in vars(value).items():
            if not own.startswith("_") and inspect.isfunction(function := getattr(member, "__func__", member)):
                yield f"{name}.{own}", _shown(inspect.signature(function))


def _shown(signature: inspect.Signature) -> str:
    parameters = [
        each.replace(annotation=each.empty, default=each.default if _is_plain(each.default) else _Other())
        for each in signature.parameters.values()
    ]
    return str(signature.replace(parameters=parameters, return_annotation=signature.empty))


def _is_plain(default: Any) -> bool:
    if default is inspect.Parameter.empty or type(default) in _PLAIN:
        return True
    return type(default) is tuple and all(map(_is_plain, default))


if __name__ == "__main__":
    Path(sys.argv[1]).write_text("".join(f"{line}\n" for line in lines()), encoding="utf-8")
