"""Every finding about a journal's folder, files and lines: what brings it about, and that nothing else does."""

import json
import os
import shutil
from pathlib import Path

import pytest

from rollout_sdk.journal.writer import host_name
from tests.doctor.lines import NOW, about, decision, record


def of(diagnosis, code):
    return [finding for finding in diagnosis.findings if finding.code == code]


def only(diagnosis, code):
    (found,) = of(diagnosis, code)
    return found


def mine(part=0, *, pid=None, began=NOW - 3600, host=None):
    """The name of a file of a process: of this one, which is running, by default."""
    return f"events-{host or host_name()}-{os.getpid() if pid is None else pid}-{int(began * 1e9):x}-{part}.jsonl"


ENDED = 2**22 + 1
"""A process id above the largest that Linux gives."""


def test_a_healthy_journal_is_said_to_be_so(write, look):
    write(about(), decision(), decision("v2"), name=mine())
    seen = look()
    assert ("ok", True) == (seen.worst, seen.is_healthy)
    assert "All of the journal can be read (3 lines), and no fact is missing." == only(seen, "journal.ok").what


def test_no_journal_at_all_is_a_note(look):
    assert "note" == only(look(None), "journal.none").severity


def test_a_folder_that_is_not_there_yet_is_a_note(look, folder):
    assert "note" == only(look(folder / "nowhere"), "folder.missing").severity


@pytest.mark.parametrize("name", ["file", "file/below", "x" * 5_000, "nul\0"])
def test_what_is_no_folder_is_an_error(look, folder, name):
    (folder / "file").touch()
    assert "error" == only(look(folder / name), "folder.no_folder").severity


def test_a_folder_that_this_user_may_not_look_into_is_an_error(look, folder, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    seen = look()
    assert ("error", None) == (only(seen, "folder.unreadable").severity, seen.journal)


def test_files_in_a_folder_in_which_everybody_may_write_are_an_error(write, look, folder):
    folder.chmod(0o777)
    assert ("note", []) == (only(look(), "folder.world_writable").severity, of(look(), "folder.group_writable"))
    write(about(), decision(), name=mine())
    assert ("error", []) == (only(look(), "folder.world_writable").severity, of(look(), "folder.group_writable"))


def test_a_folder_in_which_a_group_may_write_is_a_warning(look, folder):
    folder.chmod(0o770)
    assert "warning" == only(look(), "folder.group_writable").severity


def test_a_folder_that_is_a_link_is_a_note(look, folder):
    link = folder.parent / "link"
    link.symlink_to(folder)
    assert "note" == only(look(link), "folder.link").severity


def test_a_folder_of_somebody_else_is_a_note(look, folder, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: folder.stat().st_uid + 1)
    assert "note" == only(look(), "folder.owner").severity


@pytest.mark.parametrize(("free", "severity"), [((1 << 30) - 1, "warning"), ((64 << 20) - 1, "error")])
def test_little_space_on_the_disk_is_told(look, monkeypatch, free, severity):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: type("Usage", (), {"free": free}))
    assert severity == only(look(), "folder.space").severity


def test_enough_space_is_no_finding(look, write, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: type("Usage", (), {"free": 1 << 30}))
    write(decision())
    assert [] == of(look(), "folder.space")


def test_a_journal_that_will_soon_fill_its_disk_is_a_warning(look, write, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: type("Usage", (), {"free": 2 << 30}))
    path = write(decision(t=NOW - 1000), decision(t=NOW), b" " * 100_000)
    assert [] == of(look(), "journal.pace")
    os.truncate(path, 50 << 20)
    assert "warning" == only(look(), "journal.pace").severity


def test_a_journal_without_a_file_is_a_note(look):
    seen = look()
    assert ("note", []) == (only(seen, "journal.empty").severity, of(seen, "journal.ok"))


def test_a_file_that_others_may_read_is_a_warning(look, write):
    write(decision()).chmod(0o640)
    found = only(look(), "journal.file_modes")
    assert ("warning", True) == (found.severity, "(0640)" in found.what)


def test_a_file_that_is_a_link_is_a_warning(look, write, folder):
    (folder / "events-b.jsonl").symlink_to(write(decision()))
    assert "warning" == only(look(), "journal.file_links").severity


def test_a_file_that_cannot_be_read_is_an_error(look, write, monkeypatch):
    write(decision())

    real = Path.open

    def refused(self, *args, **kwargs):
        # Python 3.13 reads the metadata of distributions by the same method.
        if self.suffix == ".jsonl":
            raise PermissionError
        return real(self, *args, **kwargs)

    monkeypatch.setattr(Path, "open", refused)
    assert "error" == only(look(), "journal.unreadable").severity


def test_files_that_nobody_writes_any_more_are_a_note(look, write):
    write(decision(), name=mine(0))
    write(decision(), name=mine(1))
    write(decision(), name=mine(0, pid=ENDED))
    write(decision(), name=mine(0, host="elsewhere"))
    seen = look()
    assert "Finished: 2 of 4 files" in only(seen, "journal.ended_files").what
    written = {source.path.name: source.writing for source in seen.journal.files}
    expected = {mine(0): False, mine(1): True, mine(0, pid=ENDED): False, mine(0, host="elsewhere"): None}
    assert expected == written


def test_of_two_processes_of_one_id_only_the_last_can_be_running(look, write):
    for began in (NOW - 200, NOW - 100):
        write(decision(), name=mine(began=began))
    assert [False, True] == [source.writing for source in look().journal.files]


def test_files_of_different_versions_are_a_note(look, write):
    write(record("journal", sdk="0.1"), name="events-a.jsonl")
    write(record("journal", sdk="0.2"), name="events-b.jsonl")
    found = only(look(), "journal.versions")
    assert ("note", True) == (found.severity, "0.1 1, 0.2 1" in found.what)


def test_damaged_lines_are_a_warning_that_names_the_first_file(look, write):
    write(decision(), name="events-a.jsonl")
    write(decision(), b"torn", b"{}", decision(), name="events-b.jsonl")
    found = only(look(), "journal.damaged")
    assert ("warning", True) == (found.severity, found.what.startswith("Damage: 2 of 5 lines cannot be read, in 1 file"))
    assert "'events-b.jsonl'" in found.what


def test_half_a_line_at_the_end_is_a_note_and_no_damage(look, write):
    write(decision(), json.dumps(decision()).encode()[:60], name=mine(pid=ENDED), end=b"")
    seen = look()
    assert ("note", [], 1) == (only(seen, "journal.cut").severity, of(seen, "journal.damaged"), seen.journal.cut)


def test_half_a_line_that_is_being_written_is_nothing(look, write):
    write(decision(), json.dumps(decision()).encode()[:60], name=mine(), end=b"")
    seen = look()
    assert ({}, 0, []) == (seen.journal.skipped, seen.journal.cut, of(seen, "journal.cut"))


def test_lines_of_a_newer_version_are_a_warning(look, write):
    write({**decision(), "v": 99})
    assert "warning" == only(look(), "journal.newer_schema").severity


def test_lines_of_an_unknown_kind_are_a_note(look, write):
    write(record("dance"))
    assert "note" == only(look(), "journal.unknown_events").severity


def test_lost_facts_are_a_warning_and_are_summed(look, write):
    write(record("lost", count=3), record("lost", count=4), name="events-a.jsonl")
    write(record("lost", count=5), record("lost", count=-10), name="events-b.jsonl")
    found = only(look(), "journal.lost")
    assert ("warning", "12 facts were lost, according to 2 files: a queue or a disk was full.") == (found.severity, found.what)


def test_when_facts_were_last_lost_is_told(look, write):
    write(record("lost", NOW - 100, count=1), record("lost", NOW - 50, count=2), record("lost", NOW - 80, count=1))
    assert NOW - 50 == look().journal.last_lost_s
    write(record("lost", NOW - 50, count=0), decision())
    assert look().journal.last_lost_s is None


def test_records_from_the_future_are_a_warning(look, write):
    write(decision(t=NOW + 7200), decision(t=NOW + 59), record("outcome", NOW + 9e9, rollout="r", metric="m", value=1.0))
    found = only(look(), "journal.future")
    assert ("warning", "1 record is from the future, by up to 2 hours.") == (found.severity, found.what)


def test_records_from_before_their_process_are_a_warning(look, write):
    write(decision(t=NOW - 7200), decision(t=NOW - 3601), decision(t=NOW), name=mine())
    assert ("warning", 1) == (only(look(), "journal.past").severity, look().journal.past)


def test_a_running_process_that_writes_nothing_is_a_note(look, write):
    write(decision(t=NOW - 2 * 86_400), name=mine(began=NOW - 3 * 86_400))
    found = only(look(), "journal.quiet")
    assert ("note", "Nothing was written for 2 days, although 1 process is running.") == (found.severity, found.what)


def test_times_that_no_calendar_has_are_survived(look, write):
    write(*[decision(t=t) for t in (-1e300, -1, 0, 1e300, 10**300)])
    seen = look()
    assert (2, None) == (seen.journal.future, seen.journal.newest_s)


def test_the_age_and_the_span_of_the_records_are_told(look, write):
    write(decision(t=NOW - 100), decision(t=NOW - 7), decision(t=NOW - 50))
    told = look().as_dict()["journal"]
    assert (NOW - 100, NOW - 7, 7.0) == (told["first_s"], told["newest_s"], pytest.approx(told["lag_s"]))


def test_of_lost_facts_it_is_said_how_many_were_of_calls_that_were_not_drawn(write, look):
    write(record("lost", count=5, sampled=4), record("lost", count=1, sampled=9))
    seen = look()
    assert (6, 5) == (seen.journal.report.lost, seen.journal.report.sampled)
    assert only(seen, "journal.lost").what.endswith(" 5 of them are from calls that were dropped by sampling under overload.")


def test_a_part_that_is_missing_is_a_warning(write, look):
    write(about(), decision(), name=mine(0))
    write(about(), decision(), name=mine(3))
    seen = look()
    assert ("warning", (mine(1), mine(2))) == (only(seen, "journal.missing_parts").severity, seen.journal.report.missing)
    assert mine(1) in only(seen, "journal.missing_parts").what


def test_parts_that_follow_each_other_are_none(write, look):
    write(about(), decision(), name=mine(0))
    write(about(), decision(), name=mine(1))
    assert [] == of(look(), "journal.missing_parts")


def test_lines_that_are_there_twice_are_a_note_and_count_once(write, look):
    head = record("journal", pid=1, host="h", began="ab", part=0)
    write(head, record("lost", count=3), name="events-a.jsonl")
    write(head, record("lost", count=3), name="events-b.jsonl")
    seen = look()
    assert ("note", 3) == (only(seen, "journal.repeated").severity, seen.journal.report.lost)


def test_rollouts_beyond_the_limit_are_left_out_and_told(write, look, monkeypatch):
    monkeypatch.setattr("rollout_sdk.analysis.gather.MOST_SETS", 3)
    write(*[line for number in range(5) for line in (about(f"r{number}"), decision(rollout=f"r{number}", id=f"d{number}"))])
    seen = look()
    found = only(seen, "journal.over_the_limit")
    assert ("warning", True) == (found.severity, found.what.startswith("Results leave out 4 lines"))
    assert ["r0", "r1", "r2"] == [each.rollout for each in seen.journal.report.rollouts]
