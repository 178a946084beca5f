"""The command starts quickly: it imports what the command that is run needs."""

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from rollout_sdk import cli
from rollout_sdk.cli import main
from rollout_sdk.cli.rooms import ROOMS


def imported(*words):
    code = (
        "import sys; from rollout_sdk.cli import main; main(sys.argv[1:], standalone_mode=False); print(*sorted(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split())


@pytest.mark.parametrize(
    ("words", "without"),
    [
        (["--version"], ["rollout_sdk.control", "rollout_sdk.analysis", "structlog"]),
        (["status", "--help"], ["rollout_sdk.analysis", "rollout_sdk.runtime.runtime"]),
        (["report", "--help"], ["rollout_sdk.doctor", "rollout_sdk.analysis.rehearsal", "starlette"]),
    ],
)
def test_a_command_does_not_import_what_only_others_need(words, without):
    modules = imported(*words)
    assert [name for name in without if name in modules] == []


@pytest.mark.parametrize("room", ROOMS)
def test_the_table_of_rooms_names_the_commands_of_each(room):
    assert tuple(command.name for command in import_module(f"rollout_sdk.cli.{room}").COMMANDS) == ROOMS[room]


def test_every_module_with_commands_is_in_the_table():
    modules = [path for path in Path(cli.__file__).parent.glob("*.py") if "\nCOMMANDS = " in path.read_text()]
    assert sorted(ROOMS) == sorted(path.stem for path in modules)


def test_the_help_lists_every_command_and_an_unknown_one_is_wrong_usage():
    text = CliRunner().invoke(main, ["--help"]).output
    context = click.Context(main)
    assert [name for name in main.list_commands(context) if f"\n  {name} " not in text] == []
    result = CliRunner().invoke(main, ["reprot"])
    assert (result.exit_code, "No such command 'reprot'" in result.output) == (2, True)


@pytest.mark.parametrize(
    ("command", "option"),
    [
        ("audit", "--journal"),
        ("disagreements", "--journal"),
        ("status", "--store"),
        ("history", "--store"),
        ("abort", "--store"),
    ],
)
def test_a_command_says_which_option_it_lacks(command, option):
    result = CliRunner().invoke(main, [command, "m"], env={"ROLLOUT_JOURNAL": None, "ROLLOUT_STORE": None})
    assert (2, True) == (result.exit_code, f"Missing option '{option}'" in result.stderr), result.stderr
