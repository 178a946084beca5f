"""Plugins: finding them, registering them, and calling them so that one bad plugin harms nobody.

pluggy is the registry: it validates hooks, orders implementations and blocks names. Calling is ours, because pluggy stops
at the first exception and costs 2 us a call: implementations are resolved to direct calls when a rollout is built, and
each is called behind its own guard.

Installed is not active: a plugin acts on a rollout only when that rollout (or its runtime) names it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import pluggy

from rollout_sdk import hookspecs
from rollout_sdk.exceptions import PluginError, UnknownStrategyError
from rollout_sdk.hookspecs import PROJECT

__all__ = ["Failed", "PluginSet", "load_named", "make_strategy", "strategy_name"]

Failed = Callable[[str, BaseException], None]
"""Called with (what failed, the exception) wherever a collaborator raised; must not raise itself."""

_PREFIX = "rollout_"
_SPECS = frozenset(name for name in vars(hookspecs) if name.startswith(_PREFIX))


class _Registry(pluggy.PluginManager):
    """pluggy's manager, with hooks recognised by their name: a strategy is a plain class without decorators."""

    def parse_hookimpl_opts(self, plugin: object, name: str) -> pluggy.HookimplOpts | None:
        options = super().parse_hookimpl_opts(plugin, name)
        if options is None and name.startswith(_PREFIX) and callable(getattr(plugin, name, None)):
            return {
                "wrapper": False,
                "hookwrapper": False,
                "optionalhook": False,
                "tryfirst": False,
                "trylast": False,
                "specname": None,
            }
        return options


def _blocked_names() -> frozenset[str]:
    return frozenset(filter(None, os.environ.get("ROLLOUT_DISABLED_PLUGINS", "").split(",")))


class PluginSet:
    """The plugins of one rollout, resolved to plain callables."""

    def __init__(self, plugins: Sequence[object], *, failed: Failed) -> None:
        """Register the plugins; of two that implement one hook, the earlier in `plugins` comes first.

        Args:
            plugins: Objects, classes or modules with hook functions.
            failed: Told of every exception a plugin raises.

        Raises:
            PluginError: One has a misspelt hook, a hook with unknown arguments, a hook wrapper, or no hook at all.
        """
        self._failed = failed
        self._registry = _Registry(PROJECT)
        self._registry.add_hookspecs(hookspecs)
        blocked = _blocked_names()
        for name in blocked:
            self._registry.set_blocked(name)
        # pluggy calls the last registered first.
        for plugin in reversed(plugins):
            self._register(plugin)

    def _register(self, plugin: object) -> None:
        name = plugin_name(plugin)
        if self._registry.get_plugin(name) is not None and not self._registry.is_blocked(name):
            name = f"{name}-{id(plugin):x}"
        hooks = [attribute for attribute in dir(plugin) if attribute.startswith(_PREFIX)]
        unknown = sorted(set(hooks) - _SPECS)
        if unknown or not hooks:
            found = f"has an unknown hook {unknown[0]!r}" if unknown else "has no hook"
            raise PluginError(
                f"Plugin {name!r} {found}. Functions whose names start with 'rollout_' are hooks. "
                f"The hooks are: {', '.join(sorted(_SPECS))}."
            )
        try:
            self._registry.register(plugin, name)
            self._registry.check_pending()
        except (pluggy.PluginValidationError, ValueError) as error:
            raise PluginError(
                f"Plugin {name!r} does not fit the hook specifications: {error}. "
                "A hook takes the arguments of its specification, or fewer. See rollout_sdk.hookspecs."
            ) from error
        for hook in _SPECS:
            if any(impl.wrapper or impl.hookwrapper for impl in getattr(self._registry.hook, hook).get_hookimpls()):
                raise PluginError(
                    f"Plugin {name!r} wraps hook {hook!r}. Hooks are called directly, so that no plugin can stop another. "
                    "Implement the hook itself, with tryfirst=True where it must come first."
                )

    def implementations(self, hook: str) -> list[tuple[str, Callable[..., Any]]]:
        """Name and direct callable of every implementation of a hook, first called first.

        Each callable takes the arguments of the specification by position.
        """
        caller = getattr(self._registry.hook, hook)
        spec_arguments = caller.spec.argnames
        found = []
        for impl in reversed(caller.get_hookimpls()):
            direct = impl.function
            if impl.argnames != spec_arguments:
                direct = _with_fewer(impl.function, [spec_arguments.index(name) for name in impl.argnames])
            found.append((f"{impl.plugin_name}.{hook}", direct))
        return found

    def first(self, hook: str) -> Callable[..., Any]:
        """One callable for a firstresult hook: the first result that is not None; those that raise are passed over."""
        implementations = self.implementations(hook)
        failed = self._failed

        def first(*arguments: Any) -> Any:
            for name, implementation in implementations:
                try:
                    result = implementation(*arguments)
                # sys.exit() in a plugin must not end the caller's process.
                except (Exception, SystemExit) as error:
                    failed(name, error)
                else:
                    if result is not None:
                        return result
            return None

        return first

    def every(self, hook: str) -> Callable[..., None]:
        """One callable for an observing hook: every implementation is called, whatever the others do."""
        implementations = self.implementations(hook)
        failed = self._failed

        def every(*arguments: Any) -> None:
            for name, implementation in implementations:
                try:
                    implementation(*arguments)
                except (Exception, SystemExit) as error:
                    failed(name, error)

        return every

    def has(self, hook: str) -> bool:
        """Whether any plugin implements the hook."""
        return bool(getattr(self._registry.hook, hook).get_hookimpls())


def _with_fewer(function: Callable[..., Any], positions: list[int]) -> Callable[..., Any]:
    def call(*arguments: Any) -> Any:
        return function(*[arguments[position] for position in positions])

    return call


def plugin_name(plugin: object) -> str:
    """A plugin's own name: its `name`, or the name of its module, class or type."""
    for candidate in (getattr(plugin, "name", None), getattr(plugin, "__name__", None)):
        if isinstance(candidate, str) and candidate:
            return candidate
    return type(plugin).__name__


def _installed() -> Mapping[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=PROJECT)}


def load_named(name: str) -> object:
    """The installed plugin of this entry-point name; nothing else is imported.

    Raises:
        UnknownStrategyError: None is installed, or it is blocked by ROLLOUT_DISABLED_PLUGINS.
        PluginError: It cannot be imported.
    """
    installed = _installed()
    blocked = _blocked_names()
    if name not in installed or name in blocked:
        known = ", ".join(sorted(set(installed) - blocked)) or "none"
        why = "is blocked by ROLLOUT_DISABLED_PLUGINS" if name in installed else "is not installed"
        raise UnknownStrategyError(
            f"Plugin {name!r} {why}. A name must be an entry point of group {PROJECT!r}. Installed and not blocked: {known}."
        )
    try:
        return installed[name].load()
    except (Exception, SystemExit) as error:
        raise PluginError(
            f"Plugin {name!r} ({installed[name].value}) cannot be imported: {type(error).__name__}: {error}. "
            "An entry point must name a module, class or object that can be imported. Mend it or remove the distribution."
        ) from error


def make_strategy(strategy: object) -> object:
    """The strategy plugin meant: an instance as it is, a class called, an installed name looked up and built.

    Raises:
        UnknownStrategyError: The name is not installed, or its plugin offers no such strategy.
        PluginError: It is no strategy at all.
    """
    if isinstance(strategy, str):
        strategy = _named_strategy(strategy)
    if isinstance(strategy, type):
        strategy = strategy()
    if not callable(getattr(strategy, "rollout_route", None)):
        raise PluginError(
            f"{strategy!r:.80} is no strategy: it has no rollout_route. A strategy turns a request into a decision. "
            "Pass an instance with a rollout_route method, or the name of an installed one."
        )
    return strategy


def _named_strategy(name: str) -> object:
    plugin = load_named(name)
    if callable(getattr(plugin, "rollout_route", None)):
        return plugin
    factory = getattr(plugin, "rollout_strategies", None)
    offered: Mapping[str, type] = factory() if callable(factory) else {}
    if name not in offered:
        raise UnknownStrategyError(
            f"Plugin {name!r} offers no strategy {name!r}. Its rollout_strategies() must list its entry-point name. "
            f"It lists: {', '.join(sorted(offered)) or 'nothing'}."
        )
    return offered[name]


def strategy_name(strategy: object) -> str:
    """The name under which a strategy's decisions are recorded."""
    return plugin_name(strategy)
