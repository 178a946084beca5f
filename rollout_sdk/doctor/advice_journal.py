"""Findings about the journal: its folder, its files and its lines."""

from __future__ import annotations

import stat
from collections.abc import Iterator

from rollout_sdk.analysis.gather import OVER_THE_LIMIT
from rollout_sdk.doctor.diagnosis import Diagnosis
from rollout_sdk.doctor.environment import Folder
from rollout_sdk.doctor.findings import Finding, worst
from rollout_sdk.doctor.survey import Survey
from rollout_sdk.formatting import counts, duration, number, plain, quoted, several, size

__all__ = ["about"]

_LITTLE_SPACE = 64 << 20
_SOME_SPACE = 1 << 30
_SOON_S = 86_400.0
_PACE_OF_S = 600.0
_QUIET_S = 3_600.0


def about(seen: Diagnosis) -> Iterator[Finding]:
    """The findings; one that all is well where nothing is wrong."""
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
            f"There is no journal folder {name} yet.",
            "Check the path; the first process that keeps its journal there makes it.",
        )
        return
    if not folder.is_folder:
        why = "is no folder" if folder.fault is None else f"cannot be looked at: {plain(folder.fault, 80)}"
        yield Finding("error", "folder.no_folder", f"The journal {name} {why}.", "Name a folder that processes can write.")
        return
    if not folder.readable:
        yield Finding(
            "error",
            "folder.unreadable",
            f"This user may not look into the journal folder {name}.",
            "Ask as the user of the service, or as root.",
        )
    mode = folder.mode or 0
    if folder.is_exposed:
        yield Finding(
            "error",
            "folder.world_writable",
            f"Everybody may write in the journal folder {name}, and files of a journal are in it: they may be forged.",
            "Run: chmod go-w on it.",
        )
    elif mode & stat.S_IWOTH:
        yield Finding(
            "note",
            "folder.world_writable",
            f"Everybody may write in the journal folder {name}: processes write to folders of their own users inside it.",
            "Read it as the user of the service, or as root.",
        )
    elif mode & stat.S_IWGRP:
        yield Finding(
            "warning",
            "folder.group_writable",
            f"Its group may write in the journal folder {name}: what is in it may be forged.",
            "Run: chmod g-w on it, unless the processes of a service share it by that group.",
        )
    if folder.is_link:
        yield Finding(
            "note",
            "folder.link",
            f"The journal folder {name} is a symbolic link: whoever may change the link decides where journals go.",
            "Name the folder itself, unless the link is meant.",
        )
    if not folder.is_mine:
        yield Finding(
            "note",
            "folder.owner",
            f"The journal folder {name} belongs to user {folder.owner}, who is not the one asking.",
            "Ask as the user of the service for findings about what that user may do.",
        )
    if folder.free_bytes is not None and folder.free_bytes < _SOME_SPACE:
        yield Finding(
            "error" if folder.free_bytes < _LITTLE_SPACE else "warning",
            "folder.space",
            f"The disk of the journal has {size(folder.free_bytes)} free: when it is full, facts are lost.",
            "Make room, or archive files of processes that have ended.",
        )


def _journal(journal: Survey, seen: Diagnosis) -> Iterator[Finding]:
    if not journal.files:
        yield Finding(
            "note",
            "journal.empty",
            "No process has written in the journal yet.",
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
            f"Others than the owner may read or write {several(len(open_to_others), 'file')} ({', '.join(modes[:4])}).",
            "Run: chmod 0600 on them, and see what changed them: they are made with 0600.",
        )
    links = [source for source in journal.files if source.is_link]
    if links:
        yield Finding(
            "warning",
            "journal.file_links",
            f"No process makes symbolic links, and here are {number(len(links))}, the first {quoted(links[0].path.name)}.",
            "Remove the links, unless somebody put them there on purpose.",
        )
    unreadable = journal.skipped.get("unreadable file", 0)
    if unreadable:
        yield Finding(
            "error",
            "journal.unreadable",
            f"This user may not read {several(unreadable, 'file')} of the journal, or a compressed one has no end.",
            "Ask as the user of the service, and compress anew: without them, every result is of a part only.",
        )
    if report.missing:
        first = plain(report.missing[0], 120)
        yield Finding(
            "warning",
            "journal.missing_parts",
            f"Missing: {several(len(report.missing), 'numbered part')} of the journal, moved away or deleted, "
            f"{'the first of them ' if len(report.missing) > 1 else ''}{first}.",
            "Put them back, as they were or compressed (.jsonl.gz): until then, results are of the other parts only.",
        )
    if report.repeated:
        yield Finding(
            "note",
            "journal.repeated",
            f"There twice, and counted once: {several(report.repeated, 'line')} of the journal, of files that were copied.",
            "Remove the copies when it suits.",
        )
    ended = [source for source in journal.files if source.writing is False]
    if ended:
        yield Finding(
            "note",
            "journal.ended_files",
            f"Nobody writes {number(len(ended))} of {several(len(journal.files), 'file')} any more "
            f"({size(sum(source.bytes for source in ended))}): full, or of a process that has ended.",
            "Keep them for as long as results are computed from them; then they may be moved away.",
        )
    if len(journal.versions) > 1:
        yield Finding(
            "note",
            "journal.versions",
            f"Different versions of rollout_sdk wrote these files: {counts(journal.versions)}.",
            "Bring all processes to one version when it suits.",
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
            f"The last line of {several(journal.cut, 'file')} is cut: by a kill while it was written, or by a full disk.",
            "Nothing to do: it costs that one record.",
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
            f"Results leave out {several(beyond, 'line')} of more rollouts, arms or transitions than memory is given to.",
            "Name rollouts, versions and phases in code and not by request, and give each service a journal folder of its own.",
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
            f"{several(report.lost, 'fact')} went missing, say {several(journal.lost_in, 'file')}: a full queue or disk."
            + (f" {number(report.sampled)} of them were of calls not drawn under overload." if report.sampled else ""),
            "Make room or take a faster disk; results of that time speak of the calls that were written only.",
        )


def _clock(journal: Survey) -> Iterator[Finding]:
    if journal.future:
        yield Finding(
            "warning",
            "journal.future",
            f"{several(journal.future, 'record')} came from the future, up to {duration(journal.furthest_s)} ahead of now.",
            "Set the clocks of this machine and of those that write, by NTP: outcomes are matched to calls by time.",
        )
    if journal.past:
        yield Finding(
            "warning",
            "journal.past",
            f"{several(journal.past, 'record')} came before the start of the process that wrote them: a clock was set back.",
            "Set the clocks of the machines that write by NTP: outcomes are matched to calls by time.",
        )


def _age(journal: Survey, seen: Diagnosis) -> Iterator[Finding]:
    if journal.newest_s is None or journal.first_s is None:
        return
    lag, running = seen.now - journal.newest_s, sum(bool(source.writing) for source in journal.files)
    if lag > _QUIET_S and running:
        yield Finding(
            "note",
            "journal.quiet",
            f"Nothing was written for {duration(lag)}, though {several(running, 'process', 'processes')} could.",
            "If there are calls, look at the standard error of these processes, where the recorder tells what fails.",
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
            f"At its pace so far, the journal fills its disk in {duration(left_s)}.",
            "Make room, or archive files of processes that have ended: when the disk is full, facts are lost.",
        )
