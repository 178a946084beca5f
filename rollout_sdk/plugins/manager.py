"""Plugins: registers them and isolates their faults.

pluggy is the registry: it validates hooks, orders implementations and blocks names. The SDK calls the hooks itself, because
pluggy stops at the first exception and costs 2 us per call: implementations are resolved to direct calls when a rollout is
built, and each is called behind its own guard.

Installed plugins are not active: a plugin acts on a rollout only if that rollout (or its runtime) names it.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator, Sequence
from types import CoroutineType
from typing import Any

import pluggy
from attrs import frozen

from rollout_sdk.concurrency.clocks import perf_counter
from rollout_sdk.concurrency.synchronous import answered
from rollout_sdk.exceptions import PluginError
from rollout_sdk.plugins import hookspecs
from rollout_sdk.plugins.discovery import blocked_names, plugin_name
from rollout_sdk.plugins.hookspecs import PROJECT
from rollout_sdk.resilience.breaker import Breaker, CircuitBreaker
from rollout_sdk.resilience.interruptions import is_fault
from rollout_sdk.resilience.queue_thread import QueueThread

__all__ = ["Failed", "Observer", "PluginSet"]

Failed = Callable[[str, BaseException], None]
"""Called as `failed(name, exception)` whenever a collaborator raised; must not raise itself."""

_PREFIX = "rollout_"
_LONGEST_ON_PATH_S = 5e-3
_THREE_STRIKES = Breaker(window=3, min_runs=3, failure_share=1.0)
_SPECS = frozenset(name for name in vars(hookspecs) if name.startswith(_PREFIX))
_PARSED: dict[str, Any] = {}
"""The specifications as parsed by pluggy, by hook; empty until the first plugin set."""


class _Registry(pluggy.PluginManager):
    """pluggy's manager, with hooks recognised by name: a strategy is a plain class without decorators."""

    def specify(self) -> None:
        """Add the hook specifications. Parsing them takes half a millisecond, so it is done once for all rollouts."""
        if not _PARSED:
            self.add_hookspecs(hookspecs)
            _PARSED.update({name: getattr(self.hook, name).spec for name in sorted(_SPECS)})
            return
        for name, spec in _PARSED.items():
            caller = pluggy.HookCaller(name, self._hookexec)
            caller.spec = spec
            setattr(self.hook, name, caller)

    def parse_hookimpl_opts(self, plugin: object, name: str) -> pluggy.HookimplOpts | None:
        if name in _SPECS:
            # No class of the SDK sets pluggy's options, and looking for them takes microseconds.
            options = None if _is_ours(type(plugin)) else super().parse_hookimpl_opts(plugin, name)
            return _plain_options() if options is None and callable(getattr(plugin, name, None)) else options
        # Skips names of Python's own, and names in the SDK's classes that are not hooks, for the same reason.
        return None if name.startswith("__") or _is_ours(type(plugin)) else super().parse_hookimpl_opts(plugin, name)


def _plain_options() -> pluggy.HookimplOpts:
    """Return the options of a hook without any; pluggy may change what it gets."""
    return {
        "wrapper": False,
        "hookwrapper": False,
        "optionalhook": False,
        "tryfirst": False,
        "trylast": False,
        "specname": None,
    }


class SuspendedError(RuntimeError):
    """A plugin's hook failed three times in a row, or was too slow on the caller's path, and is suspended for a while."""


@frozen(eq=False)
class Observer:
    """A plugin's hook that observes events.

    Attributes:
        name: Plugin and hook, as named in faults.
        observe: Processes an event; never raises.
        thread: The thread that calls it.
    """

    name: str
    observe: Callable[[Any], None]
    thread: QueueThread


def _guarded(name: str, function: Callable[..., Any], failed: Failed) -> Callable[..., Any]:
    """Wrap a hook so that its exceptions are counted as faults, and it returns None."""

    def guarded(*arguments: Any) -> Any:
        try:
            result = function(*arguments)
            return result if result.__class__ is not CoroutineType else answered(name, result)
        # sys.exit() in a plugin must not end the caller's process.
        except BaseException as error:
            if not is_fault(error):
                raise
            failed(name, error)
            return None

    return guarded


def _suspended(name: str, function: Callable[..., Any], failed: Failed, *, longest_s: float) -> Callable[..., Any]:
    """As `_guarded`, for third-party hooks: three strikes in a row (it raised, or took too long) suspend the hook for half a
    minute, and longer after each further failure.
    """

    def on_change(opened: bool, failures: int, runs: int, cooldown_s: float) -> None:  # noqa: FBT001 - see CircuitBreaker
        if opened:
            failed(name, SuspendedError(f"{failures} of {runs} failed; not called for {cooldown_s} s"))

    breaker = CircuitBreaker(_THREE_STRIKES, on_change)

    def guarded(*arguments: Any) -> Any:
        ticket = breaker.admit()
        if ticket is None:
            return None
        started = perf_counter()
        try:
            result = function(*arguments)
            if result.__class__ is CoroutineType:
                result = answered(name, result)
        except BaseException as error:
            if not is_fault(error):
                raise
            breaker.note(ticket, failed=True)
            failed(name, error)
            return None
        breaker.note(ticket, failed=perf_counter() - started > longest_s)
        return result

    return guarded


class PluginSet:
    """The plugins of one rollout, resolved to plain callables."""

    def __init__(self, plugins: Sequence[object], *, failed: Failed) -> None:
        """Register the plugins; if two implement the same hook, the earlier one in `plugins` is called first.

        Args:
            plugins: Objects or modules with hook functions; duplicates count once, at their first position.
            failed: Called with every exception that a plugin raises.

        Raises:
            PluginError: A plugin has a misspelt hook, a hook with unknown arguments, an asynchronous hook, a hook wrapper, or
                no hook at all.
        """
        self._failed = failed
        self._registry = _Registry(PROJECT)
        self._registry.specify()
        blocked = blocked_names()
        for name in blocked:
            self._registry.set_blocked(name)
        # pluggy calls the last registered plugin first.
        for plugin in reversed(list({id(plugin): plugin for plugin in plugins}.values())):
            self._register(plugin)

    def _register(self, plugin: object) -> None:
        name = plugin_name(plugin)
        if self._registry.get_plugin(name) is not None and not self._registry.is_blocked(name):
            name = f"{name}-{id(plugin):x}"
        if _is_ours(type(plugin)):
            # Covered by the SDK's own tests, so not checked again for every rollout.
            self._registry.register(plugin, name)
            return
        unknown = sorted(hook for hook in _hooks_of(plugin) if hook not in _SPECS)
        if unknown:
            raise _misfit(name, f"has an unknown hook {unknown[0]!r}", _KNOWN)
        try:
            registered = self._registry.register(plugin, name)
            self._registry.check_pending()
        # pluggy asserts that a hook is a function or a method.
        except (pluggy.PluginValidationError, AssertionError, ValueError) as error:
            raise _misfit(
                name,
                f"does not fit the hook specifications: {error}",
                "A hook is a function or method with the arguments of its specification, or fewer. "
                "See rollout_sdk.plugins.hookspecs.",
            ) from error
        if registered is not None:
            self._check(plugin, name)

    def _check(self, plugin: object, name: str) -> None:
        """Reject what pluggy allows but the SDK does not."""
        callers = [getattr(self._registry.hook, hook) for hook in sorted(_SPECS)]
        # Compared by identity, since pluggy compares by equality: a strategy with a NaN does not even equal itself.
        found = [(caller.name, impl) for caller in callers for impl in caller.get_hookimpls() if impl.plugin is plugin]
        if not found:
            raise _misfit(name, "has no hook", _KNOWN)
        for hook, impl in found:
            if (why := _fault(impl, hook)) is not None:
                raise _misfit(name, *why)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the registered plugins in the order of calling, without the blocked ones."""
        return tuple(name for name, plugin in reversed(self._registry.list_name_plugin()) if plugin is not None)

    def implementations(self, hook: str) -> list[tuple[str, Callable[..., Any]]]:
        """Return name and direct callable of every implementation of a hook, in the order of calling.

        Each callable takes the specification's arguments by position.
        """
        return [(name, direct) for _, name, direct in self._implementations(hook)]

    def _implementations(self, hook: str) -> Iterator[tuple[object, str, Callable[..., Any]]]:
        """As `implementations`, each with its plugin."""
        caller = getattr(self._registry.hook, hook)
        spec_arguments = caller.spec.argnames
        for impl in reversed(caller.get_hookimpls()):
            direct = impl.function
            if impl.argnames != spec_arguments:
                direct = _with_fewer(impl.function, [spec_arguments.index(name) for name in impl.argnames])
            yield impl.plugin, f"{impl.plugin_name}.{hook}", direct

    def first(self, hook: str) -> Callable[..., Any]:
        """Return one callable for a firstresult hook: it returns the first result that is not None, skipping exceptions."""
        # Comparisons run in the background, and may take longer.
        longest_s = math.inf if hook == "rollout_compare" else _LONGEST_ON_PATH_S
        guarded = [
            _guarded(name, each, self._failed) if _is_ours(each) else _suspended(name, each, self._failed, longest_s=longest_s)
            for name, each in self.implementations(hook)
        ]
        if len(guarded) == 1:
            return guarded[0]

        def first(*arguments: Any) -> Any:
            for implementation in guarded:
                result = implementation(*arguments)
                if result is not None:
                    return result
            return None

        return first

    def every(self, hook: str) -> Callable[..., None] | None:
        """One callable for a hook on the caller's path that all plugins get to hear, each behind a guard; None without any."""
        guarded = [self.guard(name, each) for name, each in self.implementations(hook)]
        if not guarded:
            return None

        def every(*arguments: Any) -> None:
            for implementation in guarded:
                implementation(*arguments)

        return every

    def guard(self, name: str, function: Callable[..., Any], *, longest_s: float = _LONGEST_ON_PATH_S) -> Callable[..., Any]:
        """Put a plugin's function behind a guard of its own: its exceptions are counted, and three strikes suspend it."""
        return _suspended(name, function, self._failed, longest_s=longest_s)

    def observers(self, hook: str, thread_of: Callable[[object], QueueThread]) -> tuple[Observer, ...]:
        """Return the observers of a hook in the order of calling, each with the thread of its plugin."""

        def behind_guard(name: str, implementation: Callable[..., Any]) -> Callable[[Any], None]:
            def observe(event: Any) -> None:
                try:
                    answered(name, implementation(event))
                # Catches everything: the SDK's threads are never cancelled or interrupted.
                except BaseException as error:
                    self._failed(name, error)

            return observe

        return tuple(
            Observer(name, behind_guard(name, implementation), thread_of(plugin))
            for plugin, name, implementation in self._implementations(hook)
        )

    def has(self, hook: str) -> bool:
        """Whether any plugin implements the hook."""
        return bool(getattr(self._registry.hook, hook).get_hookimpls())


def _is_ours(function: Callable[..., Any]) -> bool:
    """Whether a hook belongs to this package: it raises only what the user's callbacks raise, and takes microseconds."""
    return (getattr(function, "__module__", None) or "").startswith("rollout_sdk.")


_KNOWN = f"Functions whose names start with {_PREFIX!r} are hooks. The hooks are: {', '.join(sorted(_SPECS))}."


def _hooks_of(plugin: object) -> list[str]:
    """Return the names of a plugin's functions that look like hooks, excluding imports such as `rollout_sdk`."""
    named = {name: getattr(plugin, name, None) for name in dir(plugin) if name.startswith(_PREFIX)}
    return [name for name, value in named.items() if callable(value) and not isinstance(value, type)]


def _misfit(name: str, what: str, rule: str) -> PluginError:
    return PluginError(f"Plugin {name!r} {what}. {rule}")


def _fault(impl: pluggy.HookImpl, hook: str) -> tuple[str, str] | None:
    """Return what is wrong with an implementation, and the violated rule; None if it can be called."""
    if impl.wrapper or impl.hookwrapper:
        return f"wraps hook {hook!r}", (
            "Hooks are called directly, so that no plugin can stop another. "
            "Implement the hook itself, with tryfirst=True if it must come first."
        )
    function = impl.function
    if inspect.iscoroutinefunction(function) or inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        return f"has a hook {hook!r} that is asynchronous or a generator", (
            "Hooks are called and return directly; nothing awaits them. Make it a plain function."
        )
    try:
        inspect.signature(function).bind(*impl.argnames)
    except TypeError as error:
        if isinstance(impl.plugin, type):
            return (
                f"is a class, and its hook {hook!r} needs an instance",
                "A plugin is an object or a module. Pass an instance.",
            )
        return f"has a hook {hook!r} that cannot be called: {error}", "Arguments are passed by position. Leave others optional."
    return None


def _with_fewer(function: Callable[..., Any], positions: list[int]) -> Callable[..., Any]:
    def call(*arguments: Any) -> Any:
        return function(*[arguments[position] for position in positions])

    # Keeps the owner recognisable: see _is_ours.
    call.__module__ = getattr(function, "__module__", None) or ""
    return call
