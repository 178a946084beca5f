"""The commands of `rollout` by the module that has them: only the module of the command that is run is imported."""

from __future__ import annotations

from importlib import import_module

import click

__all__ = ["ROOMS", "Commands"]

ROOMS: dict[str, tuple[str, ...]] = {
    "looking": ("list", "status", "history", "wait"),
    "operate": ("promote", "promote-full", "pause", "resume", "abort", "set-share", "skip"),
    "journals": ("report", "doctor"),
    "dashboards": ("dashboard",),
    "disagreements": ("disagreements",),
    "auditing": ("audit",),
    "plugin_list": ("plugins",),
    "planning": ("plan", "replay"),
    "simulating": ("simulate",),
    "tables": ("compact", "export", "import"),
}
"""Names of commands by module; the module's `COMMANDS` has them."""

_ROOM_OF = {name: room for room, names in ROOMS.items() for name in names}


class Commands(click.Group):
    """A group whose commands are imported when they are asked for: importing all took as long as many a command takes."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands, in alphabetical order."""
        del ctx
        return sorted(_ROOM_OF)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command; None if there is none of this name."""
        del ctx
        room = _ROOM_OF.get(cmd_name)
        if room is None:
            return None
        commands: tuple[click.Command, ...] = import_module(f"rollout_sdk.cli.{room}").COMMANDS
        return next(command for command in commands if command.name == cmd_name)
