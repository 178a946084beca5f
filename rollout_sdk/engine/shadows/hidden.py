"""Context variables that shadows do not get: those that carry the callbacks of their caller.

A framework that hands callbacks, a connection or the run under way to whatever is called inside, by a context variable, would
hand them to a shadow as well: its words would reach the caller's user. Where a variable is missing, a shadow runs as if nobody
listened, or fails. Frameworks are looked up among what the application has imported; none is imported for this.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet
from contextvars import Context, ContextVar
from typing import Any

from rollout_sdk.concurrency.context_vars import alone
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
"""Where each variable is, as "module:name", and what it carries; a list of tuples stands for the variables they begin with."""

_PLACE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")


class Hidden:
    """The variables that the shadows of a runtime do not get."""

    def __init__(self, more: Iterable[str] = ()) -> None:
        """Hide the variables of the table, and these.

        Raises:
            ConfigurationError: One is not written as "module:name", or is something else than a context variable.
        """
        for place in more:
            _check(place)
        places = (place.partition(":") for place in (*(place for place, _ in HIDDEN), *more))
        self._places = [(module, path) for module, _, path in places]
        self._loaded: list[tuple[str, str]] = []
        self._modules = 0

    def out_of(self, context: Context) -> Context:
        """The context without them; the same where none of them is set."""
        if len(sys.modules) != self._modules:
            # Looked up only when something was imported: it is on the path of every shadowed call.
            self._modules = len(sys.modules)
            self._loaded = [(module, path) for module, path in self._places if module in sys.modules]
        if not self._loaded:
            return context
        hidden = {var for module, path in self._loaded for var in _variables(module, path) if var in context}
        if not hidden:
            return context
        return _left_of(context, hidden)


def _without(context: Context, hidden: AbstractSet[ContextVar[Any]]) -> Context:
    # Python has no way to unset a variable.
    left = Context()
    left.run(_set_all, [(var, value) for var, value in context.items() if var not in hidden])
    return left


def _empty(*_: object) -> Context:
    """In the midst of another change of the context: nothing can be set, and nothing of the caller's must be left."""
    return Context()


_left_of = alone(_without, _empty)


def _set_all(values: Iterable[tuple[ContextVar[Any], Any]]) -> None:
    for var, value in values:
        var.set(value)


def _variables(module: str, path: str) -> Iterator[ContextVar[Any]]:
    first, *names = path.split(".")
    # Not by `getattr`: some modules import others when they are asked.
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
            f"shadow_without of Runtime names {place!r:.60}. It lists context variables by where they are. "
            "Write 'module:name', such as 'app.context:current_socket'."
        )
    module, path = place.split(":")
    # What is not imported yet is looked up when a shadow runs.
    if module in sys.modules and next(_variables(module, path), None) is None:
        raise ConfigurationError(
            f"shadow_without of Runtime names {place!r:.60}, which is not a context variable. It lists context variables by "
            "where they are. Write 'module:name', such as 'app.context:current_socket'."
        )
