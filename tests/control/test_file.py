"""A control file steers running processes; what cannot be taken as a whole leaves everything as it was."""

import os
import stat
import time

import pytest
from structlog.testing import capture_logs

from rollout_sdk import ABTest, Canary, Runtime, Shadow, rollout
from rollout_sdk.control.control_file import ControlFile, Wanted, WantedRollout
from tests.processes import Processes


@pytest.fixture
def path(tmp_path):
    return tmp_path / "control.toml"


def put(path, text):
    """Write aside and rename into place, as the documentation asks."""
    aside = path.with_suffix(".new")
    aside.write_text(text)
    aside.chmod(0o644)
    aside.replace(path)


def look(runtime):
    """What a thread does four times a second; a change is taken when it was seen twice."""
    runtime._steering._watch()
    runtime._steering._watch()


def canary(runtime, **options):
    options = {"strategy": Canary(["5%", "50%"]), "unit": "user", "key": "shop.rank", "runtime": runtime, **options}
    return rollout(candidate=lambda user: "new", **options)(lambda user: "old")


FULL = """
version = 3
disabled = true
[rollouts."shop.rank"]
status = "paused"
share = "5%"
[rollouts.other]
share = { v2 = 0.25, v3 = "10%" }
"""


def test_a_file_says_what_is_wanted(path):
    put(path, FULL)
    assert ControlFile(path).wanted == Wanted(
        3,
        True,
        {"shop.rank": WantedRollout("paused", {None: 0.05}), "other": WantedRollout(None, {"v2": 0.25, "v3": 0.1})},
    )


def test_a_share_is_set_and_a_rollout_paused_resumed_and_aborted_with_who_and_why(path, watch):
    put(path, 'version = 1\n[rollouts."shop.rank"]\nshare = "20%"')
    runtime = watch(control=path)
    model = canary(runtime)
    assert 0.2 == model.rollout.phase.shares["candidate"]
    model("u")
    for version, status in enumerate(("paused", "running", "aborted"), 2):
        put(path, f'version = {version}\n[rollouts."shop.rank"]\nstatus = "{status}"')
        look(runtime)
        assert status == model.rollout.status().status
    changes = [event for event in runtime.events() if getattr(event, "actor", "")]
    assert ["set_share", "pause", "resume", "abort"] == [event.action for event in changes]
    assert {"control file"} == {event.actor for event in changes}
    assert "version 4 of the control file" == changes[-1].reason
    assert "old" == model("u")


def test_candidates_are_switched_off_and_on_again_for_every_strategy(path, watch):
    put(path, "version = 1")
    runtime = watch(control=path)
    split = canary(runtime, strategy=ABTest(1.0))
    shadowed = canary(runtime, strategy=Shadow(1.0), effects="read", key="shadowed")
    assert ("new", "old") == (split("u"), shadowed("u"))
    assert ["ok"] == [event.end for event in runtime.shadowed()]
    put(path, "version = 2\ndisabled = true")
    look(runtime)
    later = canary(runtime, strategy=ABTest(1.0), key="later")
    assert ("old", "old", "old") == (split("u"), shadowed("u"), later("u"))
    assert ["disabled", "disabled"] == [e.withheld for e in runtime.routed() if e.withheld]
    assert ["ok", "dropped_aborted"] == [event.end for event in runtime.shadowed()]
    put(path, "version = 3")
    look(runtime)
    assert ("new", "new") == (split("u"), later("u"))


def test_the_recorder_looks_by_itself_within_two_seconds(path, watch):
    put(path, "version = 1")
    runtime = watch(control=path)
    model = canary(runtime, strategy=ABTest(1.0))
    assert "new" == model("u")
    put(path, "version = 2\ndisabled = true")
    deadline = time.monotonic() + 2.0
    while model("u") == "new":
        assert time.monotonic() < deadline, "nobody looked"
        time.sleep(0.01)


BAD = {
    "no TOML": "version = 2\nrollouts = [",
    "an empty file": "",
    "no version": "disabled = true",
    "a version of text": 'version = "2"',
    "an unknown setting": "version = 2\ndisable = true",
    "an unknown setting of a rollout": 'version = 2\n[rollouts."shop.rank"]\nshares = "50%"',
    "an unknown status": 'version = 2\n[rollouts."shop.rank"]\nstatus = "promoted"',
    "101 %": 'version = 2\n[rollouts."shop.rank"]\nshare = "101%"',
    "more than 100 % together": 'version = 2\n[rollouts."shop.rank"]\nshare = { a = "60%", b = "60%" }',
    "a share of a wrong type": 'version = 2\n[rollouts."shop.rank"]\nshare = true',
    "disabled of a wrong type": 'version = 2\ndisabled = "yes"',
    "rollouts of a wrong type": "version = 2\nrollouts = 3",
    "a rollout of a wrong type": "version = 2\nrollouts = { a = 3 }",
    "an older version": "version = 0",
    "nested too deep": "version = 2\nx = " + "[" * 5000 + "]" * 5000,
}


@pytest.mark.parametrize("text", BAD.values(), ids=BAD)
def test_a_bad_file_changes_nothing_and_is_told_once(text, path, watch):
    put(path, 'version = 1\n[rollouts."shop.rank"]\nshare = "100%"')
    runtime = watch(control=path)
    model = canary(runtime)
    put(path, text)
    with capture_logs() as logs:
        for _ in range(5):
            look(runtime)
            assert "new" == model("u")
        runtime.flush()
    assert 1 == sum(count for (what, _), count in runtime.faults.items() if what == "control file")
    refused = [event for event in logs if event["event"] == "rollout.control.refused"]
    assert 1 == len(refused)
    assert str(path) in refused[0]["why"]
    put(path, "version = 2\ndisabled = true")
    look(runtime)
    assert "old" == model("u")


@pytest.mark.parametrize("text", [text for name, text in BAD.items() if name != "an older version"])
def test_with_a_bad_file_at_the_start_no_candidate_runs_until_it_can_be_taken(text, path, watch):
    put(path, text)
    with capture_logs() as logs:
        runtime = watch(control=path)
        model = canary(runtime, strategy=ABTest(1.0))
        assert ("old", {("control file", "ConfigurationError"): 1}) == (model("u"), runtime.faults)
        runtime.flush()
    (refused,) = [event for event in logs if event["event"] == "rollout.control.refused"]
    assert str(path) in refused["why"]
    put(path, "version = 1")
    look(runtime)
    assert "new" == model("u")


def test_a_file_that_is_still_being_written_is_not_taken(path, watch):
    put(path, "version = 1")
    runtime = watch(control=path)
    runtime._steering._thread.start = lambda: None
    model = canary(runtime, strategy=ABTest(1.0))
    with path.open("w") as file:
        for piece in ("version = 2\n", 'rollouts."shop.rank".status', ' = "abor', 'ted"\n'):
            file.write(piece)
            file.flush()
            runtime._steering._watch()
            assert "new" == model("u")
    look(runtime)
    assert "old" == model("u")
    assert {} == runtime.faults


def test_a_file_that_is_taken_away_leaves_everything_as_it_is(path, watch):
    put(path, "version = 1\ndisabled = true")
    runtime = watch(control=path)
    model = canary(runtime, strategy=ABTest(1.0))
    path.unlink()
    look(runtime)
    assert "old" == model("u")
    assert {} == runtime.faults


def test_no_file_yet_is_no_error(path, watch):
    runtime = watch(control=path)
    model = canary(runtime, strategy=ABTest(1.0))
    assert "new" == model("u")
    put(path, "version = 1\ndisabled = true")
    look(runtime)
    assert "old" == model("u")


@pytest.mark.parametrize("mode", [0o664, 0o646])
def test_a_file_that_others_can_write_is_refused(mode, path):
    put(path, "version = 1")
    path.chmod(mode)
    file = ControlFile(path)
    assert (True, True) == (file.wanted.disabled, "can be written by other users" in str(file.refused))
    path.chmod(0o600)
    assert (False, True, False) == (file.poll(), file.poll(), file.wanted.disabled)


def test_what_is_no_ordinary_file_is_refused_and_not_waited_for(path):
    os.mkfifo(path, 0o600)
    assert stat.S_ISFIFO(path.stat().st_mode)
    assert "is not a regular file" in str(ControlFile(path).refused)


def test_a_mounted_link_that_is_moved_is_a_change(path, tmp_path, watch):
    for name, text in (("one", "version = 1"), ("two", "version = 2\ndisabled = true")):
        put(tmp_path / name, text)
    path.symlink_to(tmp_path / "one")
    runtime = watch(control=path)
    model = canary(runtime, strategy=ABTest(1.0))
    assert "new" == model("u")
    path.unlink()
    path.symlink_to(tmp_path / "two")
    look(runtime)
    assert "old" == model("u")


def test_what_a_rollout_cannot_do_is_counted_and_the_others_are_steered(path, watch):
    put(path, 'version = 1\n[rollouts.ab]\nshare = "5%"\n[rollouts."shop.rank"]\nshare = "7%"')
    runtime = watch(control=path)
    split, model = canary(runtime, strategy=ABTest(1.0), key="ab"), canary(runtime)
    assert ("new", 0.07) == (split("u"), model.rollout.phase.shares["candidate"])
    assert {("control file", "StateError"): 1} == runtime.faults


def test_what_a_rollout_cannot_do_is_not_tried_again_by_processes_that_start_later(path):
    put(path, 'version = 1\n[rollouts."shop.rank"]\nshare = "5%"')
    processes, faults = Processes(control=path), []
    for _ in range(2):
        runtime = processes()
        canary(runtime, strategy=ABTest(1.0))
        faults.append(dict(runtime.faults))
    processes.close()
    assert [{("control file", "StateError"): 1}, {}] == faults


def test_several_shares_never_exceed_the_whole_on_the_way(path, watch):
    put(path, "version = 1")
    runtime = watch(control=path)
    candidates = {"a": lambda user: "a", "b": lambda user: "b"}
    strategy = Canary([{"a": "90%", "b": "5%"}])
    model = rollout(candidates=candidates, strategy=strategy, unit="user", key="two", runtime=runtime)(lambda user: "old")
    put(path, 'version = 2\n[rollouts.two]\nshare = { b = "80%", a = "10%" }')
    look(runtime)
    assert {"a": 0.1, "b": 0.8} == dict(model.rollout.phase.shares)
    assert {} == runtime.faults


def test_the_default_runtime_takes_the_file_of_the_environment(path):
    put(path, "version = 1\ndisabled = true")
    assert Runtime.from_environment({"ROLLOUT_CONTROL": str(path)})._steering.file.wanted.disabled
