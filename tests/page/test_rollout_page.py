"""What the page of a rollout, the cards of several, and kept pairs of answers say."""

import json
import re
from html import unescape

import pytest
from attrs import evolve

from rollout_sdk.analysis.verdict import Check, ToGo
from rollout_sdk.control.stored import StoredStatus
from rollout_sdk.journal import KeptPair
from rollout_sdk.page import as_html, rollout_page
from rollout_sdk.page.pairs import disagreements, pair_block
from rollout_sdk.page.report import cards

from .values import FIRST_S, arm, difference, journal, phase, report, verdict


def facts(found, **known):
    """The line of facts about a rollout."""
    (line,) = re.findall('<p class="muted facts">(.*?)</p>', rollout_page(report(found, **known)))
    return re.findall("<span>(.*?)</span>", line)


def cells(markup):
    """The cells of each row of a table, without their markup."""
    rows = re.findall("<tr>(.*?)</tr>", markup)
    return [[unescape(re.sub("<[^>]*>", "", cell)) for cell in re.findall("<t[hd].*?</t[hd]>", row)] for row in rows]


def block(markup, name):
    """The part of a page that is opened, by its name."""
    (found,) = re.findall(f'<details data-name="{name}".*?</details>', markup)
    return found


class TestFacts:
    def test_of_a_rollout_of_which_little_is_known_are_few(self):
        bare = verdict(first_s=None, last_s=None)
        assert ["ab", "rolled back"] == facts(bare, status="rolled_back")
        assert ["ab", "running"] == facts(evolve(bare, first_s=1.0)) == facts(evolve(bare, last_s=1.0))
        assert ["ab", "running"] == facts(evolve(bare, steps=4)) == facts(evolve(bare, step=1))

    def test_are_all_that_is_known(self):
        found = verdict(
            strategy="canary",
            step=1,
            steps=4,
            shares={"control": 0.9, "v2": 0.1},
            version="2026-11",
            units={"control": 1_200, "v2": 34},
        )
        assert facts(found) == [
            "canary",
            "running",
            "step 1 of 4",
            "control 90.0 %, v2 10.0 %",
            "version 2026-11",
            "3 hours of calls until 2026-12-01 03:00:00 UTC",
            "1,234 units",
        ]

    def test_of_clocks_that_went_back_have_no_negative_duration(self):
        assert "0.0 s of calls until 2026-12-01 00:00:00 UTC" in facts(verdict(first_s=FIRST_S + 60, last_s=FIRST_S))


class TestHeadline:
    @pytest.mark.parametrize(
        ("headline", "tone"), [("SHIP", "good"), ("DO NOT SHIP", "bad"), ("CHECK", "bad"), ("WAIT", "unsure")]
    )
    def test_is_coloured_by_what_to_do(self, headline, tone):
        page = rollout_page(report(verdict(headline=headline)))
        assert f'<span class="verdict {tone}">{headline}</span>' in page
        page = rollout_page(report(verdict(headline=headline, candidate="v2")))
        assert f'<span class="verdict {tone}">{headline} v2</span>' in page

    @pytest.mark.parametrize(
        ("reason", "shown"),
        [("Too early", "Too early."), ("Too early.", "Too early."), ("Why?", "Why?"), ("Stop!", "Stop!"), ("5 %", "5\u00a0%.")],
    )
    def test_has_its_reason_as_a_sentence(self, reason, shown):
        assert f'<p class="reason">{shown}</p>' in rollout_page(report(verdict(reason=reason)))

    def test_has_the_level_of_the_page_it_is_on(self):
        assert "<h1>shop.rank</h1>" in rollout_page(report(verdict()))
        assert "<h3>shop.rank</h3>" in rollout_page(report(verdict()), level=3)
        nothing = rollout_page(report(None), level=3)
        assert "<h3>shop.rank</h3><p>Nothing is concluded about this rollout.</p>" == nothing

    def test_leaves_a_place_below_the_effects_where_it_is_wanted(self):
        assert "after-effects" in rollout_page(report(verdict()), has_place=True)
        assert "after-effects" not in rollout_page(report(verdict()))


class TestEffects:
    def test_are_the_declared_metrics_and_what_became_of_them(self):
        known = {"relative": 0.1, "relative_low": 0.05, "relative_high": 0.15}
        found = [
            difference("click", outcome="PASS", **known),
            difference("error_rate", kind="guardrail", outcome="PASS"),
            difference("latency", kind="guardrail", outcome="FAIL"),
            difference("spend", outcome="FUTILE"),
            difference("fifth"),
            difference("seen", kind="exploratory"),
        ]
        (effects,) = re.findall('<div class="scroll effects".*?</div>', rollout_page(report(verdict(*found))))
        rows = cells(effects)
        assert ["click", "error_rate", "latency", "spend"] == [row[0] for row in rows]
        assert ["gate passed", "good enough", "significantly worse", "less than worth having"] == [row[2] for row in rows]
        assert ["good", "good", "bad", "bad"] == re.findall('class="word (.*?)"', effects)
        assert "+10.0 % [+5.0 %, +15.0 %]" == rows[0][1]

    def test_are_the_others_where_none_was_declared_and_those_that_differ_say_so(self):
        found = [
            difference("a", kind="exploratory", is_discovery=True, outcome="FAIL"),
            difference("b", kind="exploratory", is_discovery=False),
        ]
        (effects,) = re.findall('<div class="scroll effects".*?</div>', rollout_page(report(verdict(*found))))
        assert ["differs significantly, not declared", "not declared"] == [row[2] for row in cells(effects)]
        assert ["unsure", "unsure"] == re.findall('class="word (.*?)"', effects)

    @pytest.mark.parametrize(
        ("outcome", "word", "tone"),
        [
            ("ERROR", "cannot be judged", "bad"),
            ("INCONCLUSIVE", "not yet", "unsure"),
            ("INSUFFICIENT_DATA", "not yet", "unsure"),
        ],
    )
    def test_that_are_not_known_yet_say_so(self, outcome, word, tone):
        assert f'<span class="word {tone}">{word}</span>' in rollout_page(report(verdict(difference(outcome=outcome))))

    def test_name_the_candidate_where_there_are_several(self):
        found = verdict(difference(), candidates=("v2", "v3"))
        assert '<th scope="row">click v2</th>' in rollout_page(report(found))
        assert '<th scope="row">click</th>' in rollout_page(report(verdict(difference())))

    def test_say_how_much_there_is_or_else_how_long_it_takes(self):
        left = ToGo(days_50=3.0, days_80=5.0, units_50=1_000, units_80=2_000)
        page = rollout_page(report(verdict(difference(to_go=left))))
        assert '<td class="words">about 1,000 units more, 3 days (50 %); 2,000, 5 days (80 %)</td>' in page
        counted = difference(to_go=left, value_count=100.0, control_count=90.0, value_total=7.0, control_total=6.0)
        (effects,) = re.findall('<div class="scroll effects".*?</div>', rollout_page(report(verdict(counted))))
        assert "7 of 100 against 6 of 90 calls" == cells(effects)[0][3]

    def test_that_do_not_exist_leave_no_table(self):
        assert "scroll effects" not in rollout_page(report(verdict()))


def test_checks_say_what_is_broken_since_when_and_what_to_do():
    fatal = Check(name="shares", what="Shares differ", since_s=FIRST_S, cure="Look at the hashing.")
    note = Check(name="heavy", what="One unit is heavy.", since_s=None, cure="Nothing.", is_fatal=False)
    page = rollout_page(report(verdict(checks=(fatal, note))))
    assert '<span class="word bad">CHECK</span> Shares differ. Since 2026-12-01 00:00:00 UTC. Look at the hashing.' in page
    assert '<span class="word unsure">Note</span> One unit is heavy. Nothing.' in page
    assert "To look into" not in rollout_page(report(verdict()))


def test_every_number_of_every_metric_can_be_opened():
    left = ToGo(days_50=None, days_80=None, units_50=None, units_80=None)
    found = [
        difference(mde=0.012_345, to_go=left, reason="x" * 41),
        difference("seen", kind="exploratory", reason="y" * 40),
    ]
    numbers = block(rollout_page(report(verdict(*found))), "numbers")
    head, one, other = cells(numbers)
    assert ["metric", "candidate", "declared as", "outcome"] == head[:4]
    assert ["click", "v2", "gate", "INCONCLUSIVE", "no values yet", ""] == one[:6]
    assert ["0.0123", "it is not expected to end at this traffic", "x" * 41] == one[6:]
    assert ["-", "-", "y" * 40] == other[6:]
    # Only what is long may be broken into lines.
    assert f'<td class="words">{"x" * 41}</td>' in numbers
    assert f"<td>{'y' * 40}</td>" in numbers


def test_the_history_says_who_did_what_when_and_why():
    transitions = [
        {"t": FIRST_S, "action": "set_share", "to_phase": "1:10", "actor": "ann", "reason": "ramp"},
        {"action": "abort"},
    ]
    history = block(rollout_page(report(verdict(), phase(arm("control")), transitions=transitions)), "history")
    head, one, other = cells(history)
    assert ["time", "what", "phase", "by", "why"] == head
    assert ["2026-12-01 00:00:00 UTC", "set share", "1:10", "ann", "ramp"] == one
    assert ["-", "abort", "", "", ""] == other
    assert "History" not in rollout_page(report(verdict()))


class TestAJournal:
    def test_of_one_rollout_is_a_page_about_it(self):
        page = as_html(journal(report(verdict(), phase())))
        assert "<title>shop.rank" in page
        assert "<h1>shop.rank</h1>" in page
        assert "cards" not in page.partition("<body")[2]
        assert 'href="#' not in page
        assert "<p>Journal journal: 1 file, 10 lines</p>" in page

    @pytest.mark.parametrize("count", [0, 2])
    def test_of_several_or_none_says_how_many(self, count):
        page = as_html(journal(*(report(verdict(rollout=key), phase(), key=key) for key in ["a", "b"][:count])))
        assert f"<h1>{count} rollouts</h1>" in page
        assert f"<title>{count} rollouts" in page
        assert count == page.count("<article") == page.count("<h2>a</h2>") + page.count("<h2>b</h2>")
        # Each card leads to its rollout.
        assert [f"#r{number}" for number in range(count)] == re.findall('<a href="(.*?)">', page)
        assert [f"r{number}" for number in range(count)] == re.findall('<article id="(.*?)"', page)

    def test_has_where_each_rollout_stands_in_its_store(self):
        stored = StoredStatus(
            key="a", status="paused", phase="1:10", step=0, steps=(), shares={}, revision=3, entered_s=FIRST_S,
            now_s=FIRST_S + 60,
        )  # fmt: skip
        page = as_html(journal(*(report(verdict(), phase(), key=key) for key in "ab")), stored={"a": stored})
        assert 1 == page.count("In the store")
        assert "paused in phase 1:10 since 2026-12-01 00:00:00 UTC, revision 3" in page

    @pytest.mark.parametrize(("rollouts", "each"), [(1, 5), (5, 5), (6, 4), (12, 2), (13, 1), (25, 1), (30, 1)])
    def test_shows_25_pairs_in_all_and_up_to_5_and_at_least_1_of_each_rollout(self, rollouts, each):
        keys = [f"r{number}" for number in range(rollouts)]
        pair = KeptPair("i" * 20, FIRST_S, "v2", "value", 0.5, None, "a", "b")
        page = as_html(journal(*(report(verdict(), phase(), key=key) for key in keys)), pairs=dict.fromkeys(keys, [pair] * 9))
        assert rollouts * each == page.count("Whose answers are these?")
        assert rollouts == page.count(f"{9 - each} more: rollout disagreements KEY")


def test_a_card_is_a_link_where_there_is_somewhere_to_go():
    linked, bare = str(cards([report(verdict())] * 2, ["#r0", None])).split("</li>")[:2]
    assert '<a href="#r0">shop.rank</a>' in linked
    assert "<strong>shop.rank</strong>" in bare
    assert '<ul class="cards"></ul>' == cards([report(None)], [None])


class TestPairs:
    pair = KeptPair("i" * 20, FIRST_S, "v2", "value", 0.123_456, {"text": "é"}, {"a": [1]}, "b")

    def test_are_counted_and_say_how_far_they_are_apart(self):
        shown = disagreements([self.pair, evolve(self.pair, reason=None, difference=None)], 5)
        assert "2 pairs kept, redacted" in shown
        assert "<summary>1. value · difference 0.1235 · v2 · 2026-12-01 00:00:00 UTC</summary>" in shown
        assert "<summary>2. different · v2 · 2026-12-01 00:00:00 UTC</summary>" in shown
        assert "more: rollout disagreements" not in shown
        assert "" == disagreements([])

    def test_say_whose_answers_they_are_when_it_is_asked(self):
        for number in range(20):
            pair = evolve(self.pair, id=f"i{number}")
            name = pair.as_dict(is_revealed=True)["control"]
            other = {"a": "b", "b": "a"}[name]
            shown = disagreements([pair])
            assert f"<p>{name} is the control&#x27;s answer</p>" in shown
            assert f"{other} is the control" not in shown

    def test_show_the_arguments_if_they_are_known_and_both_answers_as_json_or_text(self):
        shown = pair_block(self.pair, longest=800)
        assert ["arguments", "a", "b"] == re.findall("<h3>(.*?)</h3>", shown)
        texts = [unescape(each) for each in re.findall("<pre.*?>(.*?)</pre>", shown, re.DOTALL)]
        # Indented, so that it can be read, and not escaped into ASCII.
        assert texts == [json.dumps({"text": "é"}, indent=2, ensure_ascii=False), '{\n  "a": [\n    1\n  ]\n}', "b"]
        assert ["a", "b"] == re.findall("<h4>(.*?)</h4>", pair_block(evolve(self.pair, arguments=None), longest=9, level=4))

    @pytest.mark.parametrize(
        ("answer", "shown"),
        [
            ("x" * 10, "x" * 10),
            ("x" * 11, "x" * 10 + "..."),
            ("a\\nb", "a\nb"),
            ("a\\\\nb", "a\\\\nb"),
            ("<b>", "<b>"),
        ],
    )
    def test_are_cut_and_have_the_lines_of_their_texts(self, answer, shown):
        found = re.findall("<pre.*?>(.*?)</pre>", pair_block(evolve(self.pair, a=answer), longest=10), re.DOTALL)
        assert shown == unescape(found[1])

    def test_have_up_to_40_lines(self):
        for lines, rest in ((40, []), (41, ["..."])):
            shown = pair_block(evolve(self.pair, a="x\n" * lines), longest=800)
            assert ["x"] * 40 + rest == re.findall("<pre.*?>(.*?)</pre>", shown, re.DOTALL)[1].split("\n")
