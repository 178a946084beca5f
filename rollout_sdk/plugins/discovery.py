"""Installed plugins and their names: entry points of the group `rollout_sdk`, each loaded only when it is named."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from rollout_sdk.exceptions import ConfigurationError, PluginError, UnknownStrategyError
from rollout_sdk.plugins.hookspecs import PROJECT
from rollout_sdk.resilience.interruptions import is_fault

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

__all__ = ["blocked_names", "load_named", "load_plugins", "make_strategy", "plugin_name", "strategy_name"]


def blocked_names(environment: Mapping[str, str] = os.environ) -> frozenset[str]:
    """Names of installed plugins that must not load, by `ROLLOUT_DISABLED_PLUGINS`."""
    return frozenset(filter(None, map(str.strip, environment.get("ROLLOUT_DISABLED_PLUGINS", "").split(","))))


def plugin_name(plugin: object) -> str:
    """A plugin's own name: its `name`, or the name of its module, class or type."""
    for candidate in (getattr(plugin, "name", None), getattr(plugin, "__name__", None)):
        if isinstance(candidate, str) and candidate:
            return candidate
    return type(plugin).__name__


def _installed() -> Mapping[str, set[EntryPoint]]:
    """The entry points of the group by name; one that is found twice, by an editable install for example, is one."""
    found: dict[str, set[EntryPoint]] = {}
    for entry in _entry_points():
        found.setdefault(entry.name, set()).add(entry)
    return found


def _entry_points() -> Iterable[EntryPoint]:
    """The entry points of the group; a distribution that cannot be read has none, and spoils no other's."""
    # Most processes name no installed plugin, and this is the slowest import of the standard library that the SDK knows.
    from importlib import metadata

    try:
        return metadata.entry_points(group=PROJECT)
    except Exception:
        readable: list[EntryPoint] = []
        for distribution in metadata.distributions():
            with suppress(Exception):
                readable += distribution.entry_points.select(group=PROJECT)
        return readable


def load_named(name: str) -> object:
    """The installed plugin of this entry-point name, a class built; nothing else is imported.

    Raises:
        UnknownStrategyError: None is installed, or it is blocked by ROLLOUT_DISABLED_PLUGINS.
        PluginError: Two are installed, or it cannot be imported or built.
    """
    installed = _installed()
    blocked = blocked_names()
    if name not in installed or name in blocked:
        known = ", ".join(sorted(set(installed) - blocked)) or "none"
        why = "is blocked by ROLLOUT_DISABLED_PLUGINS" if name in installed else "is not installed"
        raise UnknownStrategyError(
            f"Plugin {name!r} {why}. A name must be an entry point of group {PROJECT!r}. Installed and not blocked: {known}."
        )
    entry, *others = installed[name]
    if others:
        values = ", ".join(sorted(each.value for each in installed[name]))
        raise PluginError(
            f"Plugin {name!r} is installed more than once: {values}. An entry-point name names one plugin. "
            "Remove one of the distributions, or pass the plugin itself."
        )
    try:
        plugin = entry.load()
    except BaseException as error:
        if not is_fault(error):
            raise
        raise PluginError(
            f"Plugin {name!r} ({entry.value}) cannot be imported: {type(error).__name__}: {error}. "
            "An entry point must name a module, class or object that can be imported. Fix it or remove the distribution."
        ) from error
    return _built(plugin)


def _built(plugin: object) -> Any:
    """An instance of a class that was named or passed instead of one; anything else as it is."""
    if not isinstance(plugin, type):
        return plugin
    try:
        return plugin()
    except Exception as error:
        raise PluginError(
            f"Plugin {plugin.__name__!r} cannot be built: {type(error).__name__}: {error}. "
            "A class is called without arguments. Pass an instance."
        ) from error


def load_plugins(key: str, plugins: object) -> tuple[object, ...]:
    """The plugins, with names looked up."""
    if isinstance(plugins, str | Mapping) or not isinstance(plugins, Iterable):
        raise ConfigurationError(
            f"plugins={plugins!r:.60} of {key!r} is not a list. It lists plugins, or names of installed ones. "
            "Write plugins=[...]."
        )
    return tuple(load_named(plugin) if isinstance(plugin, str) else plugin for plugin in plugins)


def make_strategy(strategy: object) -> object:
    """The strategy plugin meant: an instance as it is, a class called, an installed name looked up and built.

    Raises:
        UnknownStrategyError: The name is not installed, or its plugin offers no such strategy.
        PluginError: It is not a strategy, or a class that cannot be built.
    """
    strategy = _built(_named_strategy(strategy) if isinstance(strategy, str) else strategy)
    if not callable(getattr(strategy, "rollout_route", None)):
        raise PluginError(
            f"{strategy!r:.80} is not a strategy: it has no rollout_route. A strategy turns a request into a decision. "
            "Pass an instance with a rollout_route method, or the name of an installed one."
        )
    return strategy


def _named_strategy(name: str) -> object:
    plugin = load_named(name)
    if callable(getattr(plugin, "rollout_route", None)):
        return plugin
    factory = getattr(plugin, "rollout_strategies", None)
    try:
        offered: Mapping[str, type] = dict(factory()) if callable(factory) else {}
    except Exception as error:
        raise PluginError(
            f"Plugin {name!r} failed to list its strategies: {type(error).__name__}: {error}. "
            "rollout_strategies() returns classes by name. Fix the plugin."
        ) from error
    if name not in offered:
        raise UnknownStrategyError(
            f"Plugin {name!r} offers no strategy {name!r}. Its rollout_strategies() must list its entry-point name. "
            f"It lists: {', '.join(sorted(map(str, offered))) or 'nothing'}."
        )
    return offered[name]


def strategy_name(strategy: object) -> str:
    """The name under which a strategy's decisions are recorded."""
    return plugin_name(strategy)
