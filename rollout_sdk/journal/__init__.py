"""The journal: the append-only record from which every result is computed; unsampled unless a process is overloaded."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from rollout_sdk.journal.kept_pairs import KeptPairs
from rollout_sdk.journal.schema import SCHEMA
from rollout_sdk.journal.sink import JournalSink
from rollout_sdk.journal.writer import JournalWriter

if TYPE_CHECKING:
    from rollout_sdk.journal.pairs import KeptPair, read_pairs
    from rollout_sdk.journal.reader import Journal, read_journal

__all__ = ["SCHEMA", "Journal", "JournalSink", "JournalWriter", "KeptPair", "KeptPairs", "read_journal", "read_pairs"]

_READERS = {"Journal": "reader", "read_journal": "reader", "KeptPair": "pairs", "read_pairs": "pairs"}
"""Home of what reads a journal: a process that serves only writes one."""

if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        """Import what reads a journal when it is first used."""
        if (home := _READERS.get(name)) is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        found = globals()[name] = getattr(import_module(f"{__name__}.{home}"), name)
        return found
