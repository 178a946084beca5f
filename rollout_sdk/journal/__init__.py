"""The journal: the append-only record from which every result is computed; unsampled unless a process is overloaded."""

from rollout_sdk.journal.kept_pairs import KeptPairs
from rollout_sdk.journal.pairs import KeptPair, read_pairs
from rollout_sdk.journal.reader import Journal, read_journal
from rollout_sdk.journal.schema import SCHEMA
from rollout_sdk.journal.sink import JournalSink
from rollout_sdk.journal.writer import JournalWriter

__all__ = ["SCHEMA", "Journal", "JournalSink", "JournalWriter", "KeptPair", "KeptPairs", "read_journal", "read_pairs"]
