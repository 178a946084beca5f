"""Writes the table of docs/reliability.md from figures that tests have recorded: python tests/faults/table.py FIGURES

FIGURES is the file that ROLLOUT_FIGURES named while the tests ran, on one Python or on several. `make faults` does both.
"""

from __future__ import annotations

import json
import re
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from string import Formatter
from typing import TypeAlias

DOCUMENT = Path(__file__).parent.parent.parent / "docs" / "reliability.md"
BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"

ROWS = {
    "F1": "a shadow raises exceptions of any kind",
    "F2": "every shadow hangs forever",
    "F3": "eight threads submit into a full queue",
    "F4": "large inputs behind a slow shadow",
    "F5": "a shadow, or a candidate that then fails, changes its input",
    "F6": "an input that can be read once: generator, file, socket, async iterator",
    "F7": "an input that cannot be copied: locks, files, raising copies, 100,000 levels",
    "F8": "a comparison raises, exits, takes 0.3 s, or returns an object without a truth value",
    "F9": "the process ends (normally, exit code 3, exception, SIGTERM) while shadows hang or use the processor",
    "F10": "the process ends while waiting shadows could still finish",
    "F11": "a fork while four threads submit",
    "F12": "gunicorn (sync, gthread, gevent; --preload), uvicorn, eventlet, Celery, with the SDK used in the master",
    "F13": "a fork while the SDK's locks are held",
    "F14": "finalisers and signal handlers call the function that they interrupt",
    "F15": "an asynchronous candidate swallows its cancellation",
    "F16": "the client disconnects: the caller is cancelled",
    "F17": "SystemExit or KeyboardInterrupt in an asynchronous shadow",
    "F18": "event loops end while shadows are pending",
    "F19": "garbage collection while a shadow runs",
    "F20": "a shadow sets context variables",
    "F21": "a recursive function, ten levels",
    "F22": "a strategy raises, exits, or returns an invalid value",
    "F23": "an observer raises, is slow, or changes its event",
    "F24": "a plugin cannot be imported",
    "F25": "the disk is full, missing or read-only, or file descriptors run out",
    "F26": "a write is cut short",
    "F27": "kill -9 at random moments, eight writers in one folder",
    "F28": "the journal blocks forever",
    "F29": "a strategy waits for a server that never answers",
    "F30": "a control file is incomplete, damaged or misspelt",
    "F31": "the application's logger raises",
    "F32": "the application's span processor or sampler raises",
    "F33": "the wall clock jumps by an hour",
    "F34": "hostile units: empty, 10 MB, surrogates, NaN, objects",
    "F35": "other processes, other hash seeds",
    "F36": "a circuit breaker is open, and probes the candidate",
    "F37": "candidate and control both fail",
    "F38": "pickle, cloudpickle, spawn, joblib, deepcopy, clone, reload, notebook",
    "F39": "every kind of callable",
    "F40": "no thread can be started, and the interpreter is shutting down",
    "F41": "a shadow uses the processor continuously",
    "F42": "a failed candidate held 10 MB",
    "F43": "a candidate panics: it raises something that is not an Exception",
    "F44": "a strategy, option, copier, comparator, observer or span processor panics",
    "F45": "a candidate raises a cancellation of its own, or cancels its own task; and the caller is really cancelled",
    "F46": "a soft time limit interrupts a call: SIGALRM, Celery, gevent",
    "F47": "exceptions that refuse attributes, printing or inspection",
    "F48": "the innermost of several nested rollouts fails",
    "F49": "an exception with large frames passes through two rollouts",
    "F50": "a function returns a coroutine, task, future or awaitable object that fails",
    "F51": "a client's stream object fails before its first item",
    "F52": "a stream object is slow to read",
    "F53": "an answer has work to come that cannot be measured",
    "F54": "the candidate of a shadow returns an awaitable or an asynchronous stream",
    "F55": "the candidate is the control, and a copy of its input can be distinguished: identities, views, constants, order",
    "F56": "two rankers return items that are equal only if they are identical",
    "F57": "inputs of any size are changed in place, by a candidate that answers or one that fails",
    "F58": "a candidate changes containers, objects, arrays and random number generators, and fails",
    "F59": "an input that can be read only once inside another: list, request, upload; sockets, queues, cursors, receive",
    "F60": "a request whose body can be read only once, behind an ASGI application",
    "F61": "a session that cannot be copied, next to a list that can",
    "F62": "objects with __del__, and lazy objects",
    "F63": "a frame of 10,000 columns, and inputs that exceed the budget",
    "F64": "a type that only the application can copy; a model that is its own iterator",
    "F65": "a context variable holds a caller's callbacks, session or current run, and a shadow would use them",
    "F66": "a candidate sets context variables, then fails or succeeds",
    "F67": "a candidate changes the decimal context, numpy's or torch's state, then fails",
    "F68": "a caller has its own decimal context, numpy error state, torch mode or device",
    "F69": "a plugin's `rollout_surround` raises, exits or returns an invalid value, or cannot be entered or left",
    "F70": "a batch has more rows than the recorder's queue can hold facts",
    "F71": "variants that return (labels, scores) for a batch",
    "F72": "variants whose results for a batch have other types, columns or indexes",
    "F73": "a batch that is a sparse matrix or a table",
    "F74": "batches, blends and deadlines on an event loop other than asyncio's",
    "F75": "calls with wrong arguments, and code that inspects signature and defaults",
    "F76": "streams that hold large inputs, or into which exceptions are thrown",
    "F77": "a function that would have to be awaited is passed as an option that must answer at once",
    "F78": "a plain function for the unit or an override returns a coroutine",
    "F79": "shares change, and candidates are added and removed",
    "F80": "a user logs in, and becomes another unit",
    "F81": "at the start, a disk, mount, folder, key, store or control file cannot be used",
    "F82": "a script starts a server that imports the script itself: one file is two modules",
    "F83": "the store is deleted, emptied, replaced, restored from a backup after an abort",
    "F84": "runtimes are created, used and dropped; shadows of one hang; the process ends at that moment",
    "F85": "a handler decorates in every request",
    "F86": "an event loop for each request: asyncio.run, views of Flask, handlers of Lambda",
    "F87": "features that Windows lacks are missing: forks, owners, mode bits, flags of files",
    "F88": "gevent and eventlet patch early, late, and in the middle of the work",
    "F89": "an observer, log handler or comparator calls the decorated function, or records an outcome",
    "F90": "decision ids are forged while there is no key",
    "F91": "escape codes and newlines in an actor, a reason or a stored name",
    "F92": "names of exceptions, outcomes and reprs of any size, content or duration",
    "F93": "records of a store are damaged, and printed on a terminal",
    "F94": "a test replaces clocks, sleep, threads, files and telemetry providers while the SDK's threads run",
    "F95": "C code forks, which Python does not notice",
    "F96": "uWSGI: workers with and without fork hooks, lazy apps, threads; aborts, a control file, workers that are killed",
    "F97": "RQ: each job has its own process, which ends by os._exit",
    "F98": "an observer or log handler hangs forever, or is slower than the calls",
    "F99": "the journal's disk hangs, at the start or later",
    "F100": "a store never answers: when decorating, while it is used, at the end of the process",
    "F101": "a store is locked while a service starts",
    "F102": "a process forks while things in it hang; no thread can be started; a process ends at once",
    "F103": "Ctrl-C arrives while a thread of the background is being started",
    "F104": "the garbage collector ends abandoned calls, or makes calls, while the application sets a context variable",
    "S1": "line breaks and escape codes in ids and messages",
    "S2": "personal data in records",
    "S3": "choosing an id that falls into an arm",
    "S4": "huge ids",
    "S5": "an unlimited number of units and classes of exceptions",
    "S6": "an installed distribution that the application does not name",
    "S7": "an open port; I/O on the caller's path",
    "S8": "code from data",
    "S9": "hostile outputs of a shadow",
    "S10": "regular expressions from data",
    "S11": "a control file was tampered with",
    "S12": "a shadow charges, sends or writes",
    "S13": "a shadow takes all resources",
    "S14": "access to the journal, and redirecting it",
    "S15": "an answer reveals its arm",
    "sabotage": "every collaborator is replaced by one that raises on any use",
    "machine": "any actions in any order",
}


Measured: TypeAlias = Mapping[str, int | float | str]
"""The values that one run of a test has measured, by the names of the fields in its text.

An int is a count: the counts of a test's parameters are added up. A float is a time or a size: the largest is shown. A str is a
case: the number of different cases is shown. `runs` is the number of parameters that passed.
"""


def words_of(text: str) -> str:
    """Return the fixed part of a text: everything except its fields and the names of quantiles."""
    return re.sub(r"\bp\d\d\b", "", "".join(literal for literal, *_ in Formatter().parse(text)))


def refusal(text: str, measured: Measured) -> str | None:
    """Return why a figure is not acceptable; None for one that is measured."""
    fields = {name for _, name, *_ in Formatter().parse(text) if name is not None}
    if re.search(r"\d", words_of(text)):
        return (
            f"{text!r} has a number of its own. Numbers are measured: figure(row, '{{right}} of {{calls}}', right=right, ...)."
        )
    if not fields:
        return f"{text!r} has no measured value. Count what the test has seen."
    if fields - {"runs"} != set(measured) or "runs" in measured:
        return f"{text!r} has the fields {sorted(fields)}, and {sorted(measured)} was measured. They must be the same."
    wrong = {name: value for name, value in measured.items() if not isinstance(value, int | float | str)}
    return f"{wrong} of {text!r} are not counts, times or cases. Give int, float or str." if wrong else None


def figure_of(text: str, runs: Iterable[Measured]) -> str:
    """Return the figure of a test, from the values of all its runs."""
    measured = list(runs)
    whole: dict[str, int | float | str] = {"runs": len(measured)}
    for name in measured[0]:
        values = [each[name] for each in measured]
        if isinstance(values[0], str):
            whole[name] = len(set(values))
        else:
            whole[name] = max(values) if isinstance(values[0], float) else sum(values)  # type: ignore[arg-type]
    return text.format(**whole)


def table(path: Path) -> str:
    """Return the rows with their figures, as Markdown: figures of the first Python in the file, and all Pythons that passed."""
    figures: defaultdict[str, defaultdict[tuple[str, str], dict[str, Measured]]] = defaultdict(lambda: defaultdict(dict))
    pythons: defaultdict[str, set[str]] = defaultdict(set)
    first = ""
    for line in path.read_text(encoding="utf-8").splitlines():
        noted = json.loads(line)
        if noted["row"] not in ROWS:
            raise SystemExit(
                f"{noted['test']} measured {noted['row']!r}, which is not a row. Every row has a text here. Add it to ROWS."
            )
        version = ".".join(noted["python"].split(".")[:2])
        first = first or version
        pythons[noted["row"]].add(version)
        if version == first:
            # One for each test, whatever its parameters; of a test that ran again, the last run counts.
            runs = figures[noted["row"]][noted["test"].partition("[")[0], noted["text"]]
            runs[noted["test"]] = noted["measured"]
    lines = ["| | fault | result | Python |", "|---|---|---|---|"]
    for row, what in ROWS.items():
        found = [figure_of(text, runs.values()) for (_, text), runs in figures[row].items()]
        said = "; ".join(dict.fromkeys(found)) or "not run"
        versions = ", ".join(sorted(pythons[row], key=lambda version: [int(part) for part in version.split(".")]))
        lines.append(f"| {row} | {what} | {said.replace('|', '/')} | {versions} |")
    return "\n".join(lines)


def put_into(document: str, rows: str) -> str:
    """Return the document with these rows between its markers.

    Raises:
        SystemExit: It has not both markers, once each and in order.
    """
    before, begin, rest = document.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end or BEGIN in rest or END in after:
        raise SystemExit(
            f"The document has no place for the table, which is between {BEGIN} and {END}, once each. Insert them."
        )
    return f"{before}{BEGIN}\n{rows}\n{END}{after}"


def main() -> None:
    """Rewrite the document."""
    text = DOCUMENT.read_text(encoding="utf-8")
    DOCUMENT.write_text(put_into(text, table(Path(sys.argv[1]))), encoding="utf-8")


if __name__ == "__main__":
    main()
