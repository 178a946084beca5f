"""What the diagnosis says in a terminal, and how a journal is read for it."""

import json
import sys
import types

import pytest

from rollout_sdk.doctor import examine, survey
from rollout_sdk.doctor.text import as_text
from tests.doctor.lines import NOW, about, decision


def said(seen):
    """The text, with lines that were folded made whole."""
    return " ".join(as_text(seen).split())


def test_plugins_are_shown_with_their_file_or_why_there_is_none(install, look, monkeypatch):
    monkeypatch.setitem(sys.modules, "spoken_for", types.ModuleType("spoken_for"))
    install("one", "there = there", files=["there.py"])
    install("two", "gone = nowhere")
    install("three", "unclear = spoken_for.inner")
    lines = [line.split() for line in as_text(look(None, ROLLOUT_DISABLED_PLUGINS="there")).splitlines()]

    def shown(name):
        """All cells of a plugin: a wide table is folded into several."""
        return " ".join(cell for line in lines if line[:1] == [name] for cell in line)

    assert "there one 1.2 blocked" in shown("there")
    assert "no such module" not in shown("there")
    assert shown("gone").endswith("no such module")
    assert shown("unclear").endswith("unknown without importing it")


@pytest.mark.parametrize("name", ["p", "a-plugin-with-a-rather-long-name"])
def test_the_file_of_a_plugin_stands_in_one_line_by_its_end(install, look, name):
    deep = "/".join(["folder"] * 12)
    install("one", f"{name} = {deep.replace('/', '.')}.inner", files=[f"{deep}/inner.py"])
    lines = [line for line in as_text(look(None)).splitlines() if line.strip().startswith(name[:20])]
    assert [line for line in lines if line.endswith("/folder/inner.py") and "  .." in line]


def test_rollouts_are_shown_where_there_are_any(write, look):
    write(about("shop.rank"), decision(rollout="shop.rank"))
    text = said(look())
    assert "Rollouts (more: rollout report" in text
    assert text.count("shop.rank: ab, running, in phase 0:50%") == 1
    assert "1 call, 0 outcomes" in text


def test_without_rollouts_there_is_no_heading_of_them(write, look):
    write()
    assert "Rollouts" not in said(look())


def test_of_many_rollouts_the_first_are_shown_and_the_others_counted(write, look):
    write(*[about(f"r{number:02}") for number in range(14)])
    text = said(look())
    assert text.count(": ab, running") == 12
    assert "and 2 more: see --json" in text


@pytest.mark.parametrize(("phase", "shown"), [("p" * 40, "p" * 40), ("p" * 41, "p" * 38 + "..")])
def test_a_phase_with_a_long_name_is_cut(write, look, phase, shown):
    write(about(phase=phase), decision(phase=phase))
    assert f"r: ab, running, in phase {shown} shares:" in said(look())


@pytest.mark.parametrize("mode", [0o700, 0o750])
def test_the_mode_of_a_folder_is_shown_as_chmod_takes_it(look, folder, mode):
    folder.chmod(mode)
    seen = look()
    assert f"{mode:04o}" == seen.as_dict()["settings"]["folder"]["mode"]
    assert f"mode {mode:04o}, owner" in said(seen)


def test_of_a_folder_that_is_not_there_no_mode_is_known(look, tmp_path):
    seen = look(tmp_path / "none")
    assert seen.as_dict()["settings"]["folder"]["mode"] is None
    assert "does not exist" in said(seen)


@pytest.mark.parametrize(("rollouts", "is_judged"), [(100, True), (101, False)])
def test_verdicts_are_computed_of_up_to_a_hundred_rollouts(write, look, monkeypatch, rollouts, is_judged):
    judged, calls = survey.judged, []
    monkeypatch.setattr(survey, "judged", lambda *args, **kwargs: calls.append(args) or judged(*args, **kwargs))
    write(*[about(f"r{number}") for number in range(rollouts)])
    assert (rollouts, is_judged) == (len(look().journal.report.rollouts), bool(calls))


def test_the_first_reading_is_half_of_the_progress(tmp_path):
    lines = f"{json.dumps(decision())}\n" * 10_000
    (tmp_path / "events-a.jsonl").write_text(lines)
    told = []
    examine(str(tmp_path), environment={}, now=NOW, progress=lambda done, _: told.append(done / len(lines)))
    assert told == sorted(told)
    assert told[-1] == 1.0
    # After every 4,096 lines, of which the journal reads some ahead.
    firsts = [each for each in told if each < 0.5]
    assert firsts[2] == pytest.approx(0.5 * 8_192 / 10_000, abs=0.05)
