"""The signatures of everything public, one line each. After a change that is meant: `python -m tests.signatures`."""

import inspect
from pathlib import Path

from tests.test_public import PUBLIC, exported, getattr_of

FILE = Path(__file__).with_name("signatures.txt")
_SIMPLE = (bool, int, float, str, bytes, type(None))


def lines():
    """Every public class, function and method with its parameters and their defaults, where these are plain values."""
    found = {}
    for module in PUBLIC:
        for name in exported(module):
            value = getattr_of(module, name)
            if inspect.isclass(value) or inspect.isroutine(value):
                found.update(_lines(f"{module}.{name}", value))
    return [f"{name}{shown}" for name, shown in sorted(found.items())]


def _lines(name, value):
    try:
        yield name, _shown(inspect.signature(value))
    # Classes of the standard library's kinds, such as exceptions and protocols without a constructor of their own.
    except (TypeError, ValueError):
        yield name, ""
    if inspect.isclass(value):
        for own, member in vars(value).items():
            if not own.startswith("_") and inspect.isroutine(function := getattr(member, "__func__", member)):
                yield f"{name}.{own}", _shown(inspect.signature(function))


def _shown(signature):
    parameters = [
        each.replace(annotation=each.empty, default=each.default if _is_simple(each.default) else _Other())
        for each in signature.parameters.values()
    ]
    return str(signature.replace(parameters=parameters, return_annotation=signature.empty))


def _is_simple(default):
    if default is inspect.Parameter.empty or type(default) in _SIMPLE:
        return True
    return type(default) is tuple and all(map(_is_simple, default))


class _Other:
    """A default that is made, or has no text of its own."""

    def __repr__(self):
        return "..."


if __name__ == "__main__":
    FILE.write_text("".join(f"{line}\n" for line in lines()))
