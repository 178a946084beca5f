"""`rollout report`: which rollouts it is about, where its states come from, and what its lines say."""

import re

import pytest
from click.testing import CliRunner

from rollout_sdk import ABTest, Canary, Gate, Runtime, rollout
from rollout_sdk.analysis import as_screen, summarise
from rollout_sdk.cli import main
from tests.analysis.test_report import decision, journal, outcome


def served(folder, store=None, *, key="shop.rank", strategy=None, calls=40):
    runtime = Runtime(journal=folder, store=store, key=b"k" * 16)
    strategy = ABTest(0.5, gates=[Gate("click", mde=0.1)]) if strategy is None else strategy
    model = rollout(candidate=lambda user: "b", strategy=strategy, unit="user", key=key, runtime=runtime)(lambda user: "a")
    for number in range(calls):
        model(f"u{number}")
    runtime.flush(10)
    return model, runtime


def run(*words, **options):
    return CliRunner().invoke(main, ["report", *map(str, words)], catch_exceptions=False, **options)


def test_a_rollout_that_the_journal_does_not_have_is_named_with_those_that_it_has(tmp_path):
    for key in ("shop.rank", "shop.ads"):
        served(tmp_path, key=key)[1].close()
    found = run(tmp_path, "--rollout", "nope")
    assert (1, "") == (found.exit_code, found.stdout)
    assert "No rollout 'nope' in" in found.stderr
    assert "it has: shop.ads, shop.rank." in found.stderr
    assert 0 == run(tmp_path, "--rollout", "shop.ads").exit_code
    # It is there, and had no calls since.
    assert 0 == run(tmp_path, "--rollout", "shop.ads", "--since", "2999-01-01").exit_code


@pytest.mark.parametrize("asked", [("--since", "2099-01-01"), ("--phase", "9:50%")])
def test_a_report_of_no_call_says_so(tmp_path, asked):
    journal(tmp_path, decision(1, "control"))
    found = run(tmp_path, *asked)
    assert (0, True) == (found.exit_code, "none that was asked for" in found.output)


def test_the_page_shows_the_states_of_the_store_in_the_environment(tmp_path):
    folder, address = tmp_path / "journal", f"sqlite:///{tmp_path}/rollouts.db"
    model, runtime = served(folder, address)
    model.rollout.pause(actor="ann", reason="a sale")
    runtime.close()
    pages = []
    for words, env in (([], {}), (["--store", address], {}), ([], {"ROLLOUT_STORE": address})):
        path = tmp_path / "page.html"
        assert 0 == run(folder, "--html", path, *words, env={"ROLLOUT_STORE": "", **env}).exit_code
        # Each says when it was written.
        pages.append(re.sub(r"\d\d:\d\d:\d\d UTC", "", path.read_text()))
    without, given, found = pages
    assert given == found != without
    # Without a page, the variable is for other commands.
    assert 0 == run(folder, env={"ROLLOUT_STORE": "sqlite:////nowhere/rollouts.db"}).exit_code


@pytest.mark.parametrize("phases", [1, 2])
def test_counts_of_several_phases_say_so(tmp_path, phases):
    records = [
        decision(number, "candidate" if number % 2 else "control", unit=f"u{number}", phase=f"{number * phases // 400}:50%")
        for number in range(400)
    ]
    shares = {"control": 0.5, "candidate": 0.5}
    if phases > 1:
        step = {"event": "transition", "v": 1, "t": 1199.5, "rollout": "r", "id": "t1", "action": "set_share", "revision": 1}
        records.insert(200, {**step, "status": "running", "to_phase": "1:50%", "shares": shares})
    clicks = [outcome(1, number=number) for number in range(0, 400, 3)]
    plan = {"event": "rollout", "v": 1, "t": 1.0, "rollout": "r", "strategy": "ab", "control": "control", "phase": "0:50%"}
    screen = as_screen(journal(tmp_path, {**plan, "shares": shares}, *records, *clicks))
    assert (phases == 2) == ("calls, over 2 phases" in " ".join(screen.split()))
    assert 80 >= max(map(len, screen.splitlines()))


def test_a_phase_without_analysed_calls_has_no_empty_row(tmp_path):
    folder, address = tmp_path / "journal", f"sqlite:///{tmp_path}/rollouts.db"
    model, runtime = served(folder, address, strategy=Canary(["50%"]))
    model.rollout.abort(actor="ann", reason="pager")
    runtime.close()
    served(folder, address, strategy=Canary(["50%"]))[1].close()
    rows = [line.strip() for line in as_screen(summarise(folder)).splitlines()]
    assert rows
    assert "units" not in rows
