"""Blocks for notebooks: what a status, in this process or in a store, a verdict and a report show."""

import re
from html import unescape

import pytest
from attrs import evolve

from rollout_sdk.control.stored import StoredStatus
from rollout_sdk.control.stored_status import Process
from rollout_sdk.controller.status import RolloutStatus
from rollout_sdk.judging import Finding, Verdict
from rollout_sdk.page.notebook import html
from rollout_sdk.page.stored import changes, standing

from .values import FIRST_S, difference, journal, phase, report, verdict

SHARES = Finding(name="assignment", kind="assignment", candidate=None, outcome="PASS", reason="y" * 41, numbers={})
CLICK = Finding(name="click", kind="gate", candidate="v2", outcome="FAIL", reason="x" * 40, numbers={})
VERDICT = Verdict(
    rollout="shop.rank", outcome="FAIL", reason="It is worse", phase="1:10", revision=3, time_s=FIRST_S, units={}, outcomes={},
    findings=(SHARES, CLICK),
)  # fmt: skip
STATUS = RolloutStatus(
    key="shop.rank", strategy="ab", status="running", phase="1:10", revision=3, shares={"control": 0.9, "v2": 0.1},
    realised={"control": 0.875}, calls={"control": 1_234}, excluded={},
    errors={("v2", "ValueError"): 7, ("control", "KeyError"): 1}, fallbacks={}, open_breakers=(), shadows={}, faults={}, lost=0,
)  # fmt: skip
STORED = StoredStatus(
    key="shop.rank", status="rolled_back", phase="1:10", step=0, steps=("1:10",), shares={"control": 1.0, "v2": 0.0},
    revision=3, entered_s=FIRST_S, now_s=FIRST_S + 60, processes=(Process("a", 1, FIRST_S, 3), Process("b", 2, FIRST_S, 2)),
)  # fmt: skip


def shown(value):
    """What a notebook shows of a value, without the style."""
    return html(value).partition("</style>")[2]


def rows(markup):
    return [re.findall("<t[hd].*?>(.*?)</t[hd]>", row) for row in re.findall("<tr>(.*?)</tr>", markup)]


def test_a_status_has_a_row_for_each_variant():
    found = shown(STATUS)
    assert "<strong>shop.rank</strong>ab, running, phase 1:10" in found
    assert rows(found) == [
        ["variant", "configured", "realised", "calls", "errors"],
        ["control", "90.0 %", "87.5 %", "1,234", "KeyError 1"],
        ["v2", "10.0 %", "-", "0", "ValueError 7"],
    ]


def test_a_status_has_its_notes_and_the_last_verdict_if_there_is_one():
    found = shown(evolve(STATUS, notes=("Threads do not run.",), verdict=VERDICT))
    assert "<p>Threads do not run.</p>" in found
    assert "<p>It is worse</p>" in found
    assert "It is worse" not in shown(STATUS)


def test_a_status_in_a_store_has_the_shares_the_processes_and_the_last_verdict():
    found = shown(STORED)
    assert "<strong>shop.rank</strong>rolled_back, phase 1:10" in found
    assert [["variant", "share"], ["control", "100.0 %"], ["v2", "0.0 %"]] == rows(found)
    assert "<p>served by 2 live processes</p>" in found
    assert "It is worse" not in found
    assert "<p>It is worse</p>" in shown(evolve(STORED, verdict=VERDICT))
    assert "<p>served by 1 live process</p>" in shown(evolve(STORED, processes=STORED.processes[:1]))


@pytest.mark.parametrize(
    ("outcome", "tone"),
    [
        ("PASS", "good"),
        ("FAIL", "bad"),
        ("FUTILE", "bad"),
        ("ERROR", "bad"),
        ("INCONCLUSIVE", "unsure"),
        ("INSUFFICIENT_DATA", "unsure"),
    ],
)
def test_a_verdict_is_coloured_by_its_outcome(outcome, tone):
    found = shown(evolve(VERDICT, outcome=outcome))
    assert f'<strong>shop.rank, phase 1:10</strong><span class="verdict {tone}">{outcome}</span>' in found


def test_a_verdict_has_a_row_for_each_finding_of_which_long_texts_may_be_broken():
    found = shown(VERDICT)
    assert rows(found)[1:] == [
        ["PASS", "assignment", "assignment", "", "y" * 41],
        ["FAIL", "gate", "click", "v2", "x" * 40],
    ]
    assert f'<td class="words">{"y" * 41}</td>' in found
    assert f"<td>{'x' * 40}</td>" in found


def test_a_conclusion_says_what_to_do_and_has_the_effects():
    found = shown(verdict(difference(), headline="SHIP", candidate="v2"))
    assert '<strong>shop.rank</strong><span class="verdict good">SHIP v2</span>' in found
    assert "<p>It is too early</p><p><strong>Next: </strong>Wait for more calls.</p>" in found
    assert '<th scope="row">click</th>' in found


def test_a_report_of_one_rollout_is_its_page_and_of_several_are_cards_to_open():
    one = report(verdict(difference()), phase())
    alone = shown(journal(one))
    assert "<h3>shop.rank</h3>" in alone
    assert '<ul class="cards">' not in alone
    both = shown(journal(one, evolve(one, rollout="b")))
    assert ["shop.rank", "b"] == sorted(re.findall("<summary>(shop.rank|b)</summary>", both), reverse=True)
    assert ["b", "shop.rank"] == sorted(re.findall("<strong>(shop.rank|b)</strong>", both))
    assert ["b", "shop.rank"] == sorted(re.findall("<h3>(shop.rank|b)</h3>", both))


class TestInTheStore:
    def test_the_state_says_since_when_who_is_alive_and_when_it_was_read(self):
        found = unescape(standing(STORED))
        assert re.findall("<p>(.*?)</p>", found) == [
            "rolled back in phase 1:10 since 2026-12-01 00:00:00 UTC, revision 3",
            "2 processes alive, 1 of them behind the last change",
            "Read at 2026-12-01 00:01:00 UTC.",
        ]

    def test_a_page_that_follows_does_not_say_when_it_was_read(self):
        assert "Read at" not in standing(STORED, is_live=True)

    def test_an_invalid_comparison_and_what_cannot_be_read_are_said(self):
        found = standing(evolve(STORED, invalid="shares differ", notes=("A note is damaged.",), processes=STORED.processes[:1]))
        assert "<p>INVALID: shares differ</p><p>A note is damaged.</p>" in found
        assert "<p>1 process alive</p>" in found
        assert "INVALID" not in standing(STORED)

    def test_changes_have_their_time_unless_the_store_is_damaged(self):
        known = {"action": "set_share", "phase": "1:10", "actor": "ann", "reason": "ramp"}
        found = rows(changes([{**known, "time_s": FIRST_S}, {**known, "time_s": "today"}, {}]))
        assert found[1:] == [
            ["2026-12-01 00:00:00 UTC", "set share", "1:10", "ann", "ramp"],
            ["-", "set share", "1:10", "ann", "ramp"],
            ["-", "", "", "", ""],
        ]
        assert "History in the store" in changes([known])
        assert "" == changes([])
