"""Context variables that shadows do not get."""

import contextvars
import pickle
import re
import sys
import types
from pathlib import Path

import pytest

from rollout_sdk import ConfigurationError, Runtime
from rollout_sdk.engine.shadows.hidden import HIDDEN, Hidden

kept = contextvars.ContextVar("kept", default=None)


@pytest.fixture
def framework(monkeypatch):
    """A module with variables, as a framework has them."""
    module = types.ModuleType("rollout_test_framework")
    module.one = contextvars.ContextVar("one", default="nobody")
    module.registered = []
    module.Local = type("Local", (), {"event": contextvars.ContextVar("event", default=None)})
    module.function = len
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return module


def without(*places, of):
    """What a context in which these are set has left of them, by name."""
    context = contextvars.Context()
    for var in (*of, kept):
        context.run(var.set, "caller")
    left = Hidden([f"rollout_test_framework:{place}" for place in places]).out_of(context)
    return {var.name for var in left}, {left.run(var.get) for var in left}


def test_a_hidden_variable_is_unset_and_the_others_are_kept(framework):
    assert ({"kept"}, {"caller"}) == without("one", of=[framework.one])
    assert ({"kept", "one"}, {"caller"}) == without("Local.event", of=[framework.one, framework.Local.event])


def test_every_variable_that_was_registered_in_a_list_is_hidden(framework):
    framework.registered += [(framework.one, True), (framework.Local.event, False), (None, 3), ()]
    hidden = Hidden(["rollout_test_framework:registered"])
    later = contextvars.ContextVar("later", default=None)
    context = contextvars.Context()
    for var in (framework.one, framework.Local.event, later):
        context.run(var.set, 1)
    assert {"later"} == {var.name for var in hidden.out_of(context)}
    # What is registered later, too: it is looked up for every shadow.
    framework.registered.append((later, True))
    assert set() == {var.name for var in hidden.out_of(context)}


def test_a_module_that_is_imported_later_counts_from_then_on(monkeypatch, framework):
    module = types.ModuleType("rollout_test_later")
    module.one = framework.one
    hidden, context = Hidden(["rollout_test_later:one"]), contextvars.Context()
    context.run(framework.one.set, 1)
    assert context is hidden.out_of(context)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    assert [] == list(hidden.out_of(context))


def test_without_anything_to_hide_the_context_is_not_copied():
    context = contextvars.copy_context()
    assert context is Hidden().out_of(context)


def test_no_module_is_asked_for_what_it_has_not(monkeypatch):
    module = types.ModuleType("rollout_test_lazy")
    module.__getattr__ = lambda name: pytest.fail(f"{name} was imported")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    context = contextvars.copy_context()
    hidden = Hidden()
    hidden._places = [("rollout_test_lazy", "var")]
    assert context is hidden.out_of(context)


@pytest.mark.parametrize("place", ["one", "a:b:c", ":one", "a:", "a b:c", "", 7, kept, None])
def test_what_is_not_a_place_is_refused(place):
    with pytest.raises(ConfigurationError, match=r"^shadow_without of Runtime names .*Write 'module:name'"):
        Runtime(shadow_without=[place])


@pytest.mark.parametrize("path", ["function", "missing", "Local.missing"])
def test_what_is_there_and_not_a_variable_is_refused(path, framework):
    with pytest.raises(ConfigurationError, match="which is not a context variable"):
        Runtime(shadow_without=[f"rollout_test_framework:{path}"])


def test_one_place_may_be_written_without_a_list(framework):
    assert ("rollout_test_framework:one",) == Runtime(shadow_without="rollout_test_framework:one").shadow_without


def test_a_runtime_is_pickled_with_its_places(framework):
    made = pickle.loads(pickle.dumps(Runtime(shadow_without=["rollout_test_framework:one"])))
    assert ("rollout_test_framework:one",) == made.shadow_without


def test_the_places_of_langchain_and_langsmith_are_where_the_table_has_them():
    pytest.importorskip("langchain_core.runnables.config", reason="langchain-core is not installed")
    import langchain_core.tracers.context
    import langsmith._internal._context
    from langchain_core.runnables.config import var_child_runnable_config

    registered = [each[0] for each in langchain_core.tracers.context._configure_hooks]
    variables = [var_child_runnable_config, langsmith._internal._context._PARENT_RUN_TREE_REF, *registered]
    context = contextvars.Context()
    for var in variables:
        context.run(var.set, None)
    assert [] == list(Hidden().out_of(context))


def test_the_documentation_lists_what_is_hidden():
    text = (Path(__file__).parents[2] / "docs" / "reliability.md").read_text(encoding="utf-8")
    listed = re.search(r"<!-- hidden: begin -->\n(.*?)\n<!-- hidden: end -->", text, re.DOTALL)
    rows = ["| variable | what it carries |", "|---|---|", *(f"| `{place}` | {what} |" for place, what in HIDDEN)]
    assert rows == listed[1].splitlines()
