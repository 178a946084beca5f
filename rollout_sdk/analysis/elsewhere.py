"""The report of a journal that another database reads: on a cluster, or in an object store."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath

from attrs import evolve, frozen

from rollout_sdk.analysis.reduced import IrreducibleError, reduce
from rollout_sdk.analysis.relations import Relations
from rollout_sdk.analysis.report import Report
from rollout_sdk.analysis.summary import report_of
from rollout_sdk.exceptions import ConfigurationError
from rollout_sdk.journal import Journal
from rollout_sdk.journal.compacted import COMPACTED, CompactedPart
from rollout_sdk.journal.parts import in_written_order

__all__ = ["JournalFiles", "report_from"]


@frozen
class JournalFiles:
    """The files of a journal, wherever they are.

    Attributes:
        address: Where the journal is.
        lines: Files of JSON lines: paths, and their bytes.
        parquet: Paths of the Parquet files that parts were compacted into.
        compacted: These parts, by the name of their file.
    """

    address: str
    lines: Mapping[str, int]
    parquet: tuple[str, ...]
    compacted: Mapping[str, CompactedPart]

    @classmethod
    def of(cls, address: str, sizes: Mapping[str, int], read: Callable[[str], str]) -> JournalFiles:
        """Find out what of a folder is to be read, and how: each part once, also while it is compacted.

        Args:
            address: Where the journal is.
            sizes: All files below it: paths with "/" relative to it, and their bytes.
            read: Gives the text of one of them.

        Raises:
            ConfigurationError: There is no journal.
        """
        compacted: dict[str, CompactedPart] = {}
        parquet: dict[str, list[str]] = defaultdict(list)
        for path in sorted(sizes):
            match PurePosixPath(path).parts:
                case (folder, number, "parts.json") if folder == COMPACTED and number.isdigit():
                    for each in json.loads(read(path))["parts"]:
                        part = CompactedPart(each["name"], Path(number), each["bytes"], each["damaged"], each["cut"])
                        compacted[part.name] = part
                case (folder, number, "lines", *_, name) if folder == COMPACTED and name.endswith(".parquet"):
                    parquet[number].append(path)
        whole = {part.folder.name for part in compacted.values()}
        lines = {path: size for path, size in sizes.items() if _is_part(path, sizes, compacted)}
        if not lines and not compacted:
            raise ConfigurationError(
                f"There is no journal at {address!r}. A journal is a folder with files events-*.jsonl, or with compacted/. "
                "Pass the address of the folder."
            )
        return cls(address, lines, tuple(path for number in sorted(whole) for path in parquet[number]), compacted)


def _is_part(path: str, sizes: Mapping[str, int], compacted: Mapping[str, CompactedPart]) -> bool:
    """Whether to read lines from a file: not if it is a copy of one that is read."""
    folder, _, name = path.rpartition("/")
    is_named = name.startswith("events-") and name.removesuffix(".gz").endswith(".jsonl")
    is_here = not folder or ("/" not in folder and folder.startswith("journal-of-user-"))
    is_copy = name.removesuffix(".gz") in compacted or (name.endswith(".gz") and path.removesuffix(".gz") in sizes)
    return is_named and is_here and not is_copy


class _Listed(Journal):
    """A journal of which only the names and sizes of the files are known."""

    def __init__(self, files: JournalFiles) -> None:
        # The folder is one that is there; what is in it is not looked at.
        super().__init__(".")
        self._listed = files
        self._sizes = {PurePosixPath(path).name: size for path, size in files.lines.items()}
        self._sizes |= {name: part.bytes for name, part in files.compacted.items()}

    @property
    def files(self) -> list[Path]:
        return sorted(map(Path, self._sizes), key=in_written_order)

    @property
    def compacted(self) -> Mapping[str, CompactedPart]:
        return self._listed.compacted

    def size(self, path: Path) -> int:
        return self._sizes[path.name]


def report_from(relations: Relations, files: JournalFiles) -> Report:
    """The tables of the report of a journal that a database reads, as `summarise` makes them; without its verdicts.

    Verdicts depend on every look in order of time: `summarise` has them, and `rollout report`. Whether a damaged line is one
    that was cut off is only known of compacted parts.

    Args:
        relations: The journal in the database.
        files: Its files.

    Raises:
        ConfigurationError: Only `summarise` can read it: calls are there twice, outcomes are about shadows' answers, or
            there are more than 1,000 metrics.
    """
    journal = _Listed(files)
    try:
        report = report_of(journal, reduce(journal, relations))
    except IrreducibleError as error:
        raise ConfigurationError(
            f"The journal at {files.address!r} cannot be summed up by a database: {error}. "
            "A copy of a part, or of its lines, is there. Remove it, or copy the journal to a disk and run `rollout report`."
        ) from None
    return evolve(report, folder=files.address)
