"""`rollout plugins`: which plugins are installed, active, blocked or broken, and why."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Literal

import click
from attrs import asdict, frozen

from rollout_sdk.cli.options import examples, json_option
from rollout_sdk.cli.output import say, say_fitting, warn
from rollout_sdk.comparators.close import DefaultComparator
from rollout_sdk.doctor.installed import Plugin, plugins
from rollout_sdk.formatting import plain
from rollout_sdk.journal import read_journal

__all__ = ["COMMANDS", "Listed", "listed"]

_LONGEST = 200
_MOST_KEYS = 3
_NOTHING = "No plugin is installed, and no rollout of the journal has one."


@frozen
class Listed:
    """A plugin, as the list shows it.

    Attributes:
        name: Its name.
        distribution: Name and version of the distribution that installed it; empty for one that an application made itself.
        state: "active" (a rollout has it), "installed" (none has), "blocked", or "broken".
        why: Which rollouts have it, or what is wrong.
    """

    name: str
    distribution: str
    state: Literal["active", "installed", "blocked", "broken"]
    why: str


def listed(installed: Iterable[Plugin], used: Mapping[str, list[str]], environment: Mapping[str, str]) -> list[Listed]:
    """Every installed plugin, and every other that a rollout has.

    Args:
        installed: The entry points.
        used: Keys of the rollouts that have a plugin, by its name.
        environment: Variables of the environment: the store's address names the plugin that opens it.
    """
    found = list(installed)
    number_of = Counter(plugin.name for plugin in found)
    scheme = environment.get("ROLLOUT_STORE", "").partition("://")[0]
    lines = []
    for plugin in found:
        whose = " ".join(filter(None, (plugin.distribution, plugin.version)))
        uses = _uses(plugin.name, used, is_store=plugin.name == scheme)
        if plugin.blocked:
            lines.append(Listed(plugin.name, whose, "blocked", "ROLLOUT_DISABLED_PLUGINS names it"))
        elif plugin.found is False:
            lines.append(Listed(plugin.name, whose, "broken", f"it names {plugin.value!r}, and there is no such module"))
        elif number_of[plugin.name] > 1:
            lines.append(
                Listed(plugin.name, whose, "broken", "several distributions have this name, so that none can be named")
            )
        elif uses:
            lines.append(Listed(plugin.name, whose, "active", uses))
        else:
            lines.append(Listed(plugin.name, whose, "installed", "no rollout has it"))
    others = sorted(used.keys() - number_of.keys())
    return lines + [Listed(name, "", "active", f"{_uses(name, used)}, in whose code it is made") for name in others]


def _uses(name: str, used: Mapping[str, list[str]], *, is_store: bool = False) -> str:
    keys = used.get(name, [])
    more = f" and {len(keys) - _MOST_KEYS} more" if len(keys) > _MOST_KEYS else ""
    rollouts = f"of {', '.join(keys[:_MOST_KEYS])}{more}" if keys else ""
    return ", ".join(filter(None, (rollouts, "opens ROLLOUT_STORE" if is_store else "")))


def _used(folder: str | None) -> dict[str, list[str]]:
    """Keys of the rollouts of a journal that have a plugin, by its name: as the last line about each rollout says."""
    lines = (line for line in read_journal(folder) if line["event"] == "rollout") if folder is not None else ()
    last = {line["rollout"]: [line["strategy"], *line.get("plugins", ())] for line in lines}
    used: dict[str, list[str]] = {}
    for key, names in sorted(last.items()):
        # Every rollout has the default comparator, which is not a plugin.
        for name in dict.fromkeys(each for each in names if each != DefaultComparator.name):
            used.setdefault(name, []).append(key)
    return used


@click.command("plugins", epilog=examples("rollout plugins", "rollout plugins journal/ --json"))
@click.argument(
    "folder", metavar="[DIR]", required=False, type=click.Path(exists=True, file_okay=False), envvar="ROLLOUT_JOURNAL"
)
@json_option
def plugins_command(folder: str | None, as_json: bool) -> None:
    """List plugins: active, installed, blocked, broken, and why.

    Installed is not active: a plugin acts on the rollouts that name it. Which do, is read from the journal in DIR (by default
    that of ROLLOUT_JOURNAL); without one, only the plugin of ROLLOUT_STORE is known to be active. Imports no plugin.
    """
    installed, unreadable = plugins(os.environ)
    for where in unreadable:
        warn(f"The metadata in {where} cannot be read: its plugins are not found.")
    found = listed(installed, _used(folder), os.environ)
    if as_json:
        say(json.dumps([asdict(each) for each in found], indent=2))
        return
    if not found:
        say(_NOTHING)
        return
    if folder is None:
        warn("Without a journal, it is not known which plugins the rollouts have: rollout plugins DIR")
    widest = max(len(plain(each.name, _LONGEST)) for each in found)
    for each in found:
        whose = f" ({each.distribution})" if each.distribution else ""
        say_fitting(f"{each.state:<9}  {plain(each.name, _LONGEST):<{widest}}  {plain(each.why, _LONGEST)}{whose}")


COMMANDS = (plugins_command,)
