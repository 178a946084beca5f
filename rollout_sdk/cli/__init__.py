"""The command `rollout`: looks at rollouts in a store, operates them, reads journals, and plans tests. Needs the extra [cli].

Its exit codes are in `rollout --help` and in docs/operating.md.
"""

import sys

try:
    import click
except ModuleNotFoundError:
    sys.exit("rollout needs click, which is not installed. Run: pip install 'rollout-sdk[cli]'")

from rollout_sdk._version import __version__
from rollout_sdk.cli.output import EXIT_CODES
from rollout_sdk.cli.rooms import Commands

__all__ = ["main"]

_EPILOG = f"""\b
Settings
  ROLLOUT_STORE    address of the store, for every command that has --store
  ROLLOUT_JOURNAL  folder of the journal, for every command that reads one

{EXIT_CODES}
\b
Completion of commands and keys, for bash (zsh, fish: docs/operating.md)
  eval "$(_ROLLOUT_COMPLETE=bash_source rollout)"
"""


@click.group(cls=Commands, epilog=_EPILOG, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 80})
@click.version_option(__version__, prog_name="rollout")
def main() -> None:
    """Put a new model beside the one in production, and find out safely which is better."""
