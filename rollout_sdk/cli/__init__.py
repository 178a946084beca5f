"""The command `rollout`: reads journals, operates rollouts in a store, and plans tests. Needs the extra [cli].

Exit codes: 0 done; 1 refused, or (doctor) something needs attention; 2 wrong usage; 3 somebody else was faster; 4 the store did
not answer.
"""

import sys

try:
    import click
except ModuleNotFoundError:
    sys.exit("rollout needs click, which is not installed. Run: pip install 'rollout-sdk[cli]'")

from rollout_sdk._version import __version__
from rollout_sdk.cli import journals, operate, planning, simulating

__all__ = ["main"]


@click.group(epilog="Exit codes: 0 done, 1 refused, 2 wrong usage, 3 somebody else was faster, 4 the store did not answer.")
@click.version_option(__version__, prog_name="rollout")
def main() -> None:
    """Put a new model beside the one in production, and find out safely which is better."""


for command in (*journals.COMMANDS, *operate.COMMANDS, *planning.COMMANDS, *simulating.COMMANDS):
    main.add_command(command)
