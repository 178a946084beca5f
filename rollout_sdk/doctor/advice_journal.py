"""Findings about the journal: its folder, its files and its lines."""

from __future__ import annotations

import stat
from collections.abc import Iterator

from rollout_sdk.analysis.gather import OVER_THE_LIMIT
from rollout_sdk.doctor.diagnosis import Diagnosis, Finding, worst
from rollout_sdk.doctor.environment import Folder
from rollout_sdk.doctor.survey import Survey
from rollout_sdk.formatting import counts, duration, number, plain, quoted, several, size

__all__ = ["about"]

_LITTLE_SPACE = 64 << 20
_SOME_SPACE = 1 << 30
_SOON_S = 86_400.0
_PACE_OF_S = 600.0
_QUIET_S = 3_600.0


def about(seen: Diagnosis) -> Iterator[Finding]:
    """Yield the findings, or one that says that nothing is wrong."""
    if seen.folder is None:
        yield Finding(
            "note",
            "journal.none",
            "No journal was looked at: ROLLOUT_JOURNAL is not set.",
            "Name the folder: rollout doctor DIR.",
        )
        return
    found = [*_folder(seen.folder), *([] if seen.journal is None else _journal(seen.journal, seen))]
    yield from found
    if seen.journal is not None and seen.journal.report.lines and worst(found) in ("ok", "note"):
        what = f"All of the journal can be read ({several(seen.journal.report.lines, 'line')}), and no fact is missing."
        yield Finding("ok", "journal.ok", what, "Nothing to do.")


def _folder(folder: Folder) -> Iterator[Finding]:
    name = quoted(folder.path)
    if folder.is_folder is None:
        yield Finding(
            "note",
            "folder.missing",
            f"The journal folder {name} does not exist yet.",
            "Check the path; the first process that keeps its journal there creates it.",
        )
        return
    if not folder.is_folder:
        why = "is not a folder" if folder.fault is None else f"cannot be accessed: {plain(folder.fault, 80)}"
        yield Finding("error", "folder.no_folder", f"The journal {name} {why}.", "Name a folder that processes can write.")
        return
    if not folder.readable:
        yield Finding(
            "error",
            "folder.unreadable",
            f"This user may not read the journal folder {name}.",
            "Run the doctor as the service's user, or as root.",
        )
    mode = folder.mode or 0
    if folder.is_exposed:
        yield Finding(
            "error",
            "folder.world_writable",
            f"Anyone may write to the journal folder {name}, which contains journal files: they may be forged.",
            "Run: chmod go-w on it.",
        )
    elif mode & stat.S_IWOTH:
        yield Finding(
            "note",
            "folder.world_writable",
            f"Anyone may write to the journal folder {name}: processes write to private folders of their users inside it.",
            "Read it as the user of the service, or as root.",
        )
    elif mode & stat.S_IWGRP:
        yield Finding(
            "warning",
            "folder.group_writable",
            f"The group of the journal folder {name} may write to it: its files may be forged.",
            "Run: chmod g-w on it, unless the processes of a service share it through that group.",
        )
    if folder.is_link:
        yield Finding(
            "note",
            "folder.link",
            f"The journal folder {name} is a symbolic link: anyone who can change the link decides where journals go.",
            "Name the folder itself, unless the link is intended.",
        )
    if not folder.is_mine:
        yield Finding(
            "note",
            "folder.owner",
            f"The journal folder {name} belongs to user {folder.owner}, not to the current user.",
            "Run the doctor as the service's user to check that user's permissions.",
        )
    if folder.free_bytes is not None and folder.free_bytes < _SOME_SPACE:
        yield Finding(
            "error" if folder.free_bytes < _LITTLE_SPACE else "warning",
            "folder.space",
            f"The disk of the journal has {size(folder.free_bytes)} free: when it is full, facts are lost.",
            "Free disk space, or archive files of processes that have ended.",
        )


def _journal(journal: Survey, seen: Diagnosis) -> Iterator[Finding]:
    if not journal.files:
        yield Finding(
            "note",
            "journal.empty",
            "No process has written to the journal yet.",
            "Call a decorated function in a process whose journal this is, and wait a second.",
        )
        return
    yield from _files(journal)
    yield from _lines(journal)
    yield from _clock(journal)
    yield from _age(journal, seen)


def _files(journal: Survey) -> Iterator[Finding]:
    report = journal.report
    open_to_others = [source for source in journal.files if source.mode & 0o077]
    if open_to_others:
        modes = sorted({f"{source.mode:04o}" for source in open_to_others})
        yield Finding(
            "warning",
            "journal.file_modes",
            f"Users other than the owner may read or write {several(len(open_to_others), 'file')} ({', '.join(modes[:4])}).",
            "Run: chmod 0600 on them, and find out what changed them: they are created with 0600.",
        )
    links = [source for source in journal.files if source.is_link]
    if links:
        yield Finding(
            "warning",
            "journal.file_links",
            f"The journal has {several(len(links), 'symbolic link')}, such as {quoted(links[0].path.name)}. "
            "Processes do not create links.",
            "Remove them, unless they are there on purpose.",
        )
    unreadable = journal.skipped.get("unreadable file", 0)
    if unreadable:
        yield Finding(
            "error",
            "journal.unreadable",
            f"This user may not read {several(unreadable, 'file')} of the journal, or a compressed one is incomplete.",
            "Run the doctor as the service's user, or compress again: without these files, results are incomplete.",
        )
    if report.missing:
        first = plain(report.missing[0], 120)
        yield Finding(
            "warning",
            "journal.missing_parts",
            f"Missing: {several(len(report.missing), 'numbered part')} of the journal, moved or deleted, "
            f"{'the first of them ' if len(report.missing) > 1 else ''}{first}.",
            "Put them back, plain or compressed (.jsonl.gz): until then, results cover the other parts only.",
        )
    if report.repeated:
        yield Finding(
            "note",
            "journal.repeated",
            f"Duplicates: {several(report.repeated, 'line')} of the journal, from files that were copied. Each counts once.",
            "Remove the copies at your convenience.",
        )
    ended = [source for source in journal.files if source.writing is False]
    if ended:
        yield Finding(
            "note",
            "journal.ended_files",
            f"Finished: {number(len(ended))} of {several(len(journal.files), 'file')} "
            f"({size(sum(source.bytes for source in ended))}), which are full, or whose process has ended.",
            "Keep them as long as results are computed from them; then they may be moved.",
        )
    if len(journal.versions) > 1:
        yield Finding(
            "note",
            "journal.versions",
            f"Different versions of rollout_sdk wrote these files: {counts(journal.versions)}.",
            "Update all processes to one version at your convenience.",
        )


def _lines(journal: Survey) -> Iterator[Finding]:
    report = journal.report
    if where := [source for source in journal.files if source.damaged]:
        damaged = sum(source.damaged for source in where)
        yield Finding(
            "warning",
            "journal.damaged",
            f"Damage: {number(damaged)} of {several(report.lines, 'line')} cannot be read, in {several(len(where), 'file')}, "
            f"the first of them {quoted(where[0].path.name)}.",
            "Look for a full disk at that time, or for another program that writes there; the other lines can be used.",
        )
    if journal.cut:
        yield Finding(
            "note",
            "journal.cut",
            f"The last line of {several(journal.cut, 'file')} is incomplete: its process was killed, or the disk was full.",
            "Nothing to do: only that record is lost.",
        )
    if newer := journal.skipped.get("schema", 0):
        yield Finding(
            "warning",
            "journal.newer_schema",
            f"A newer rollout_sdk wrote {several(newer, 'line')} that this one cannot read.",
            "Run the doctor and the report with the newest version in use.",
        )
    if beyond := journal.skipped.get(OVER_THE_LIMIT, 0):
        yield Finding(
            "warning",
            "journal.over_the_limit",
            f"Results leave out {several(beyond, 'line')} because there are too many rollouts, arms or transitions.",
            "Do not name rollouts, versions or phases after requests, and give each service its own journal folder.",
        )
    if unknown := journal.skipped.get("unknown event", 0):
        yield Finding(
            "note",
            "journal.unknown_events",
            f"This version does not know the kind of {several(unknown, 'line')}.",
            "Run the doctor and the report with the newest version in use.",
        )
    if report.lost:
        yield Finding(
            "warning",
            "journal.lost",
            f"{several(report.lost, 'fact was', 'facts were')} lost, according to {several(journal.lost_in, 'file')}: "
            "a queue or a disk was full."
            + (
                f" {number(report.sampled)} of them are from calls that were dropped by sampling under overload."
                if report.sampled
                else ""
            ),
            "Free disk space or use a faster disk; results of that time cover only the calls that were written.",
        )


def _clock(journal: Survey) -> Iterator[Finding]:
    if journal.future:
        yield Finding(
            "warning",
            "journal.future",
            f"{several(journal.future, 'record is', 'records are')} from the future, by up to {duration(journal.furthest_s)}.",
            "Synchronise this machine and those that write by NTP: outcomes are matched to calls by time.",
        )
    if journal.past:
        yield Finding(
            "warning",
            "journal.past",
            f"{several(journal.past, 'record is', 'records are')} older than the process that wrote them: a clock was set "
            "back.",
            "Synchronise the machines that write by NTP: outcomes are matched to calls by time.",
        )


def _age(journal: Survey, seen: Diagnosis) -> Iterator[Finding]:
    if journal.newest_s is None or journal.first_s is None:
        return
    lag, running = seen.now - journal.newest_s, sum(bool(source.writing) for source in journal.files)
    if lag > _QUIET_S and running:
        yield Finding(
            "note",
            "journal.quiet",
            f"Nothing was written for {duration(lag)}, although {several(running, 'process is', 'processes are')} running.",
            "If there are calls, look at the standard error of these processes, where the recorder reports failures.",
        )
    free = None if seen.folder is None else seen.folder.free_bytes
    pace_s = journal.newest_s - journal.first_s
    if free is None or pace_s < _PACE_OF_S or lag > _QUIET_S:
        return
    # Of what is compacted, only the size that it had is known.
    left_s = free * pace_s / max(1, journal.bytes)
    if left_s < _SOON_S:
        yield Finding(
            "warning",
            "journal.pace",
            f"At the current rate, the journal fills its disk in {duration(left_s)}.",
            "Free disk space, or archive files of processes that have ended: when the disk is full, facts are lost.",
        )
