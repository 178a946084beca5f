"""What a page and a notebook show of a report: each part where it is known, and nothing where it is not."""

import re

import pytest
from attrs import evolve

from rollout_sdk.analysis.phase_report import Latency
from rollout_sdk.analysis.segments import SegmentDifference
from rollout_sdk.journal import KeptPair
from rollout_sdk.page import as_html
from rollout_sdk.page.notebook import html
from rollout_sdk.page.pictures import pictures


def page(seen, *rollouts, **options):
    return as_html(evolve(seen[0], rollouts=tuple(rollouts)), **options)


def drawn(report, **verdict):
    """The pictures' titles, and what they say."""
    return {each.title: each.says for each in pictures(report, evolve(report.verdict, **verdict))}


def test_a_status_of_a_store_has_its_verdict_if_there_is_one(seen):
    _, status, verdict = seen
    without, with_ = (str(html(evolve(status, verdict=each))) for each in (None, verdict))
    for each in (without, with_):
        assert f"{status.status}, phase {status.phase}" in each
        assert "served by" in each
    assert (False, True) == (verdict.reason in without, verdict.reason in with_)


@pytest.mark.parametrize(("length", "is_wide"), [(5, False), (40, False), (41, True), (200, True)])
def test_only_long_words_of_a_table_may_be_broken_into_lines(seen, length, is_wide):
    finding = evolve(seen[2].findings[0], reason="y" * length)
    cell = re.search(f"<td([^>]*)>{'y' * length}</td>", str(html(evolve(seen[2], findings=(finding,)))))
    assert is_wide == ('class="words"' in cell[1])


def test_a_rollout_without_shares_says_nothing_of_them(seen, report):
    for shares, said in (({"control": 0.5, "candidate": 0.5}, True), ({}, False)):
        facts = re.search(
            'class="muted facts">(.*?)</p>', page(seen, evolve(report, verdict=evolve(report.verdict, shares=shares)))
        )
        assert said == ("<span>control 50.0 %, candidate 50.0 %</span>" in facts[1].replace("\N{NO-BREAK SPACE}", " "))
        assert "<span></span>" not in facts[1]


def test_latency_is_drawn_of_the_last_phase_that_had_runs(report):
    (phase,) = report.phases

    def after(runs, p95_s):
        latency = Latency(runs, p95_s, p95_s, p95_s)
        return evolve(phase, variants=tuple(evolve(each, latency={each.variant: latency}) for each in phase.variants))

    busy, busier, idle = after(9, 0.123), after(9, 0.456), after(0, None)
    for phases, said in (((busy, busier), "456 ms"), ((busy, idle), "123 ms"), ((idle,), None), ((), None)):
        found = drawn(evolve(report, phases=phases)).get("Latency")
        assert (said is None) == (found is None)
        assert said is None or said in found


def segment(**known):
    about = {
        "attribute": "country", "segment": "NL", "metric": "click", "candidate": "candidate", "kind": "gate",
        "better": "higher", "unit": "share", "counted": "calls",
        "control": 0.5, "value": 0.6, "control_total": 5.0, "control_count": 10.0,
        "value_total": 6.0, "value_count": 10.0, "control_units": 10, "value_units": 10, "estimate": 0.1, "low": 0.05,
        "high": 0.15,
    }  # fmt: skip
    return SegmentDifference(**{**about, **known})


@pytest.mark.parametrize(("unit", "written"), [("share", "+10 pp"), ("value", "+0.1")])
def test_a_segment_is_written_in_the_unit_of_its_metric(report, unit, written):
    said = drawn(report, segments=(segment(unit=unit),))["click by segment"]
    assert written in said
    assert ("pp" in said) == (unit == "share")


@pytest.mark.parametrize("end", [{"low": None}, {"high": None}, {"low": None, "high": None, "estimate": None}])
def test_a_segment_without_an_interval_has_too_little(report, end):
    verdict = evolve(report.verdict, segments=(segment(), segment(segment="DE", **end)))
    (chart,) = [each for each in pictures(report, verdict) if each.title == "click by segment"]
    assert [("country=NL", "not significant"), ("country=DE", "too little")] == [(row[0], row[-1]) for row in chart.rows]


@pytest.mark.parametrize(
    ("known", "word"),
    [
        ({"is_discovery": True}, "significantly higher"),
        ({"is_discovery": True, "estimate": -0.1, "low": -0.15, "high": -0.05}, "significantly lower"),
        ({"is_discovery": False}, "not significant"),
    ],
)
def test_a_segment_says_which_way_it_differs(report, known, word):
    assert word in drawn(report, segments=(segment(**known),))["click by segment"]


@pytest.mark.parametrize(("unit", "written"), [("share", "+10 pp"), ("preference", "+10 pp"), ("value", "+0.1")])
@pytest.mark.parametrize("high", [0.2, None])
def test_a_difference_without_a_relative_one_is_written_in_its_own_unit(report, unit, written, high):
    each = evolve(report.verdict.differences[0], unit=unit, estimate=0.1, low=0.05, high=high, relative=None, relative_low=None)
    (said,) = [text for title, text in drawn(report, differences=(each,)).items() if written in text]
    assert ("inf" in said.lower()) is False


def test_of_many_rollouts_each_card_leads_to_its_rollout(seen, report):
    many = page(seen, report, report)
    for number in range(2):
        assert f'<a href="#r{number}">rank</a>' in many
        assert f'id="r{number}"' in many
    assert 'href="#' not in page(seen, report)
    # Several in a notebook have no address to lead to.
    shown = str(html(evolve(seen[0], rollouts=(report, report))))
    assert ("<strong>rank</strong>" in shown, "<a" in shown) == (True, False)


def test_answers_are_shown_as_indented_json_and_texts_as_they_are(seen, report):
    pair = KeptPair("d1", 1.0, "candidate", "value", 0.5, {"text": "q"}, {"score": 1, "of": ["a", "é"]}, "two\nlines")
    shown = page(seen, report, pairs={"rank": [pair]})
    (json_,) = re.findall(r"<pre[^>]*>(\{\n  &quot;score.*?)</pre>|<pre[^>]*>(\{\n  \"score.*?)</pre>", shown, re.DOTALL)
    assert '{\n  "score": 1,\n  "of": [\n    "a",\n    "é"\n  ]\n}' == "".join(json_).replace("&quot;", '"')
    assert "two\nlines</pre>" in shown
