"""Context variables withheld from shadows: those that carry their caller's callbacks.

Some frameworks pass callbacks, a connection or the current run to nested code in a context variable. A shadow would inherit it,
and its output would reach the caller's user. Without the variable, a shadow runs without listeners, or fails. Only frameworks
that the application has already imported are looked at.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet
from contextvars import Context, ContextVar
from typing import Any

from rollout_sdk.exceptions import ConfigurationError

__all__ = ["HIDDEN", "Hidden"]

HIDDEN: tuple[tuple[str, str], ...] = (
    (
        "langchain_core.runnables.config:var_child_runnable_config",
        "LangChain, LangGraph: the run configuration, with the callbacks and the event stream of the run under way",
    ),
    (
        "langchain_core.tracers.context:_configure_hooks",
        "LangChain: every variable given to `register_configure_hook` (tracers, run collectors, counters of tokens)",
    ),
    ("langsmith._internal._context:_PARENT_RUN_TREE_REF", "LangSmith: the run under way"),
    ("langsmith._internal._context:_PARENT_RUN_TREE", "LangSmith, older: the same"),
    ("langsmith.run_helpers:_PARENT_RUN_TREE", "LangSmith, before that: the same"),
    ("langsmith.run_trees:_DISTRIBUTED_PARENT_ID", "LangSmith: the run under way, of another process"),
    ("langfuse.decorators.langfuse_decorator:_observation_stack_context", "Langfuse 2: the observations under way"),
    ("chainlit.context:context_var", "Chainlit: the session, and with it the way to the user's screen"),
    ("chainlit.context:local_steps", "Chainlit: the steps under way"),
    ("gradio.context:LocalContext.event_id", "Gradio: the event that progress and messages are shown for"),
    ("gradio.context:LocalContext.progress", "Gradio: the progress bar"),
    ("mcp.server.lowlevel.server:request_ctx", "MCP: the request, and with it the client's session"),
)
"""Location of each variable as "module:name", and its content; a list of tuples stands for the tuples' first elements."""

_PLACE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")


class Hidden:
    """The context variables that the shadows of a runtime do not get."""

    def __init__(self, more: Iterable[str] = ()) -> None:
        """Hide the variables of the table and those in `more`.

        Raises:
            ConfigurationError: One is not written as "module:name", or is not a context variable.
        """
        for place in more:
            _check(place)
        places = (place.partition(":") for place in (*(place for place, _ in HIDDEN), *more))
        self._places = [(module, path) for module, _, path in places]
        self._loaded: list[tuple[str, str]] = []
        self._modules = 0

    def out_of(self, context: Context) -> Context:
        """Return the context without the hidden variables; the same object if none of them is set."""
        if len(sys.modules) != self._modules:
            # Recomputed only after an import, because this runs on every shadowed call.
            self._modules = len(sys.modules)
            self._loaded = [(module, path) for module, path in self._places if module in sys.modules]
        if not self._loaded:
            return context
        hidden = {var for module, path in self._loaded for var in _variables(module, path) if var in context}
        if not hidden:
            return context
        return _left_of(context, hidden)


def _left_of(context: Context, hidden: AbstractSet[ContextVar[Any]]) -> Context:
    # Python cannot unset a variable.
    left = Context()
    left.run(_set_all, [(var, value) for var, value in context.items() if var not in hidden])
    return left


def _set_all(values: Iterable[tuple[ContextVar[Any], Any]]) -> None:
    for var, value in values:
        var.set(value)


def _variables(module: str, path: str) -> Iterator[ContextVar[Any]]:
    first, *names = path.split(".")
    # Read from `__dict__`: a module's `__getattr__` may import other modules.
    found = getattr(sys.modules.get(module), "__dict__", {}).get(first)
    for name in names:
        found = getattr(found, name, None)
    for each in found if isinstance(found, list) else [found]:
        var = each[0] if isinstance(each, tuple) and each else each
        if isinstance(var, ContextVar):
            yield var


def _check(place: object) -> None:
    if not isinstance(place, str) or not _PLACE.fullmatch(place):
        raise ConfigurationError(
            f"shadow_without of Runtime names {place!r:.60}. It lists context variables by location. "
            "Write 'module:name', such as 'app.context:current_socket'."
        )
    module, path = place.split(":")
    # Modules that are not imported yet are checked when a shadow runs.
    if module in sys.modules and next(_variables(module, path), None) is None:
        raise ConfigurationError(
            f"shadow_without of Runtime names {place!r:.60}, which is not a context variable. It lists context variables by "
            "location. Write 'module:name', such as 'app.context:current_socket'."
        )
