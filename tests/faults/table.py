"""Renders the figures that the fault suite measured as the table of docs/reliability.md.

    ROLLOUT_FIGURES=figures.jsonl pytest tests/faults
    python tests/faults/table.py figures.jsonl docs/reliability.md

The table stands between two marker comments; everything else in the document is left alone. Of a test that runs with several
parameters, the last figure counts. A row without a figure says so: nothing is made up.
"""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"

ROWS: Mapping[str, str] = {
    "F1": "a shadow raises anything, SystemExit and KeyboardInterrupt among it",
    "F2": "every shadow hangs for ever",
    "F3": "8 threads submit more than the queue holds",
    "F4": "large inputs behind a slow shadow",
    "F5": "a candidate changes its input",
    "F6": "an input that can be read only once",
    "F7": "an input that cannot be copied",
    "F8": "a comparison that raises, exits or is slow",
    "F9": "the process ends while shadows hang",
    "F10": "the process ends while shadows wait",
    "F11": "fork while threads submit",
    "F12": "gunicorn with --preload",
    "F13": "fork while a lock is held",
    "F14": "finalisers and signal handlers that call what they interrupt",
    "F15": "an asynchronous candidate swallows its cancellation",
    "F16": "the caller is cancelled",
    "F17": "an asynchronous shadow raises SystemExit",
    "F18": "a loop closes while shadows are pending",
    "F19": "garbage collection while a shadow runs",
    "F20": "a shadow sets context variables",
    "F21": "a recursive function, shadowed",
    "F22": "a strategy raises, exits, or decides nonsense",
    "F23": "an observer raises, is slow, or changes its event",
    "F24": "an installed plugin cannot be imported",
    "F25": "the disk is full, read-only, gone; no descriptor left",
    "F26": "half a line is written",
    "F27": "kill -9 at random",
    "F28": "the journal's disk hangs",
    "F29": "a strategy waits for a dead store",
    "F30": "a control file is half written, damaged, wrong",
    "F31": "the application's logging raises",
    "F32": "the application's tracing raises",
    "F33": "the wall clock jumps by an hour",
    "F34": "any object as a unit",
    "F35": "one unit in six processes",
    "F36": "a circuit breaker is open",
    "F37": "the candidate and the control both fail",
    "F38": "pickle, spawn, reload",
    "F39": "every kind of function is decorated",
    "F40": "no thread can be started",
    "F41": "a shadow burns processor time",
    "F42": "a failed candidate held much memory",
    "S1": "line breaks and escape codes in ids and messages",
    "S2": "personal data in records",
    "S3": "choosing an id that falls into an arm",
    "S4": "huge ids",
    "S5": "units and classes of exceptions without number",
    "S6": "an installed distribution that nobody named",
    "S7": "an open port; I/O on the caller's path",
    "S8": "code out of data",
    "S9": "hostile outputs of a shadow",
    "S10": "patterns out of data",
    "S11": "a control file that was tampered with",
    "S12": "a shadow that charges, sends or writes",
    "S13": "a shadow that takes all there is",
    "S14": "who may read and redirect the journal",
    "S15": "an answer that tells its arm",
    "sabotage": "each collaborator in turn raises on any use",
    "machine": "anything in any order",
}
"""What is injected, by row; in the order of the table."""


def figures_of(lines: Iterable[str]) -> tuple[dict[str, list[str]], list[str]]:
    """The figures of each row, one for each test, and the Pythons that measured them."""
    by_test: dict[tuple[str, str], str] = {}
    pythons: set[str] = set()
    for line in lines:
        noted: dict[str, Any] = json.loads(line)
        if noted["row"] not in ROWS:
            raise SystemExit(
                f"Row {noted['row']!r} of {noted['test']} is unknown. Each row has its description. Add it to ROWS of table.py."
            )
        by_test[noted["row"], noted["test"].partition("[")[0]] = noted["figure"]
        pythons.add(noted["python"])
    found: dict[str, list[str]] = {}
    for (row, _), figure in by_test.items():
        if figure not in found.setdefault(row, []):
            found[row].append(figure)
    return found, sorted(pythons)


def rendered(lines: Iterable[str], machine: str) -> str:
    """The table, in Markdown."""
    figures, pythons = figures_of(lines)
    head = [
        f"Measured with Python {', '.join(pythons)} on {machine}.",
        "",
        "| row | what is injected | what was measured |",
        "|---|---|---|",
    ]
    rows = [f"| {row} | {what} | {'; '.join(figures.get(row, ['not measured in this run']))} |" for row, what in ROWS.items()]
    return "\n".join([*head, *(row.replace("\n", " ") for row in rows)])


def put_into(document: str, table: str) -> str:
    """The document with the table between its markers.

    Raises:
        SystemExit: It has not both markers, once each and in order.
    """
    before, begin, rest = document.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end or BEGIN in rest or END in after:
        raise SystemExit(
            f"The document has no place for the table. It stands between {BEGIN} and {END}, once each. Put them in."
        )
    return f"{before}{BEGIN}\n{table}\n{END}{after}"


def this_machine() -> str:
    """System, architecture and processors."""
    return f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"


def main(arguments: list[str]) -> None:
    """Read the figures, and write the document when it has changed."""
    if len(arguments) != 2:
        raise SystemExit("usage: python tests/faults/table.py FIGURES DOCUMENT")
    figures, document = map(Path, arguments)
    lines = figures.read_text(encoding="utf-8").splitlines()
    text = document.read_text(encoding="utf-8")
    document.write_text(put_into(text, rendered(lines, this_machine())), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
