"""The processes that served a rollout, as its journal shows them, and as its store does."""

import re

import pytest
from click.testing import CliRunner

from rollout_sdk import ABTest, Runtime, rollout
from rollout_sdk.analysis import summarise
from rollout_sdk.analysis.judged import Judged
from rollout_sdk.analysis.live import Live
from rollout_sdk.cli import main
from rollout_sdk.control.stored import StoredRollout
from rollout_sdk.page import as_html, rollout_page
from tests.waiting import until


def answer(unit):
    return unit


def served(folder, calls, store=None):
    """Calls of a process: each runtime has files of its own."""
    runtime = Runtime(journal=folder, store=store, key=b"k" * 16)
    model = rollout(candidate=answer, strategy=ABTest(0.5), unit="unit", key="shop.rank", runtime=runtime)(answer)
    for number in range(calls):
        model(f"u{number}")
    runtime.flush()
    return runtime


@pytest.fixture
def folder(tmp_path):
    """A process an hour ago, and one now."""
    folder = tmp_path / "journal"
    served(folder, 20).close()
    (former,) = folder.iterdir()
    earlier = re.sub(r'"t":([\d.]+)', lambda found: f'"t":{float(found[1]) - 3600:.6f}', former.read_text())
    served(folder, 20).close()
    former.write_text(earlier)
    return folder


def test_are_known_by_the_files_they_wrote_those_seen_last_first(folder):
    (one,) = summarise(folder).rollouts
    latest, former = one.verdict.processes
    assert latest.last_s - former.last_s == pytest.approx(3600, abs=300)
    assert latest.first_s <= latest.last_s == one.verdict.last_s
    assert former.first_s <= former.last_s
    names = {re.sub(r"events-(.+)-[0-9a-f]+-0\.jsonl", r"\1", path.name) for path in folder.iterdir()}
    assert {latest.name, former.name} == names
    live = Live(folder)
    live.read()
    assert live.report().rollouts[0].verdict.processes == one.verdict.processes


def test_a_page_says_how_many_had_calls_lately_and_of_whom_nothing_is_known(folder):
    (one,) = summarise(folder).rollouts
    page = str(rollout_page(one))
    assert "Processes: 1 of 2 in the last minute of calls" in page
    (alternative,) = re.findall(r'aria-label="(Processes: 1 of 2[^"]*)"', page)[:1]
    assert "2 processes served it, and 1 in the minute before" in alternative
    assert "A process without calls writes nothing" in alternative
    assert page.count(f"<td>{one.verdict.processes[0].name}</td>") >= 1


def test_only_the_latest_thousand_are_kept():
    one = Judged.begun("shop.rank")
    for number in range(1_500):
        one._served(f"p{number}", float(number))
    assert list(one.processes) == [f"p{number}" for number in range(500, 1_500)]


def test_with_a_store_the_page_says_which_are_alive(tmp_path):
    store, page = f"sqlite:///{tmp_path}/rollouts.db", tmp_path / "report.html"
    runtime = served(tmp_path / "journal", 20, store)
    try:
        with StoredRollout(store, "shop.rank") as found:
            # It announces itself in the background.
            until(lambda: found.status().processes, 60)
        words = ["report", str(tmp_path / "journal"), "--html", str(page)]
        assert CliRunner().invoke(main, [*words, "--store", store], catch_exceptions=False).exit_code == 0
        text = page.read_text()
        assert "In the store" in text
        assert "1 process alive" in text
        assert "Read at " in text
        assert CliRunner().invoke(main, words, catch_exceptions=False).exit_code == 0
        assert "In the store" not in page.read_text()
        assert "In the store" not in as_html(summarise(tmp_path / "journal"))
    finally:
        runtime.close()


def test_a_store_is_for_the_page_only(folder):
    result = CliRunner().invoke(main, ["report", str(folder), "--store", "sqlite:///rollouts.db"])
    assert result.exit_code == 2
    assert "--html" in result.output
