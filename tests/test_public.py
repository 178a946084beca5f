"""What is public: every exported name has a docstring that says what is promised, and plugins need nothing else."""

import ast
import importlib
import inspect
import re
from pathlib import Path
from types import ModuleType

import pytest

from tools.signatures import lines

ROOT = Path(__file__).resolve().parents[1]
PUBLIC = [
    "rollout_sdk",
    "rollout_sdk.analysis",
    "rollout_sdk.comparators",
    "rollout_sdk.control.stores",
    "rollout_sdk.doctor",
    "rollout_sdk.extending",
    "rollout_sdk.interleaving",
    "rollout_sdk.journal",
    "rollout_sdk.otel",
    "rollout_sdk.plan",
    "rollout_sdk.stats",
    "rollout_sdk.telemetry",
    "rollout_sdk.testing",
]
PAGE = (ROOT / "docs/public.md").read_text()
# Written by hand, so that a name that comes or goes is seen in a review.
NAMES = dict(re.findall(r"^## `([\w.]+)`\n\n.*?\n\n(.*?)\n\n", PAGE, flags=re.MULTILINE | re.DOTALL))


def exported(module):
    return [name for name in importlib.import_module(module).__all__ if not isinstance(getattr_of(module, name), ModuleType)]


def getattr_of(module, name):
    return getattr(importlib.import_module(module), name)


@pytest.mark.parametrize("module", PUBLIC)
def test_the_page_about_what_is_public_lists_every_exported_name(module):
    listed = re.findall(r"`(\w+)`", NAMES[module])
    assert sorted(importlib.import_module(module).__all__) == sorted(listed)


def test_the_page_lists_no_other_module():
    assert sorted(PUBLIC) == sorted(NAMES)


@pytest.mark.parametrize(("module", "name"), [(module, name) for module in PUBLIC for name in exported(module)])
def test_every_public_class_and_function_has_a_docstring(module, name):
    value = getattr_of(module, name)
    if inspect.isclass(value) or inspect.isroutine(value):
        assert (inspect.getdoc(value) or "").strip()
        assert value.__module__.startswith("rollout_sdk")


@pytest.mark.parametrize("path", sorted(ROOT.glob("plugins/*/*_*/*.py")), ids=lambda path: f"{path.parent.name}/{path.name}")
def test_plugins_beside_the_sdk_import_public_names_only(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "rollout_sdk":
            public = importlib.import_module(node.module).__all__ if node.module in PUBLIC else ()
            private = [alias.name for alias in node.names if alias.name not in public]
            assert private == [], (
                f"{path.name} imports {', '.join(private)} from {node.module}, which is private. "
                f"Public names are listed in docs/public.md; what a plugin needs besides belongs into rollout_sdk.extending."
            )


def test_every_public_signature_is_the_one_that_was_meant():
    known = (ROOT / "tests/signatures.txt").read_text().splitlines()
    now = lines()
    assert (sorted({*now} - {*known}), sorted({*known} - {*now})) == ([], []), (
        "a public signature has changed. If that is meant: python -m tools.signatures tests/signatures.txt"
    )
