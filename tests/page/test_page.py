"""A page as a whole: headings in order, what is cut so that it can be read, and what a keyboard reaches."""

import re
from itertools import pairwise

from attrs import evolve

from rollout_sdk.analysis.segments import SegmentDifference
from rollout_sdk.analysis.verdict import Point, ServingProcess
from rollout_sdk.journal import KeptPair
from rollout_sdk.page import as_html
from rollout_sdk.page.notebook import html
from rollout_sdk.page.pictures import pictures
from rollout_sdk.page.report import cards
from rollout_sdk.page.rollout import rollout_page

START_S = 1_700_000_000.0


def page(seen, *rollouts, **options):
    return as_html(evolve(seen, rollouts=tuple(rollouts)), **options)


def headings(text):
    return re.findall(r"<h(\d)[^>]*>(.*?)</h\d>", text)


def test_headings_are_in_order_and_the_first_is_the_page(seen, report):
    assert headings(page(seen, report))[0] == ("1", "rank")
    assert [("1", "2 rollouts"), ("2", "rank")] == headings(page(seen, report, report))[:2]
    for text in (page(seen, report), page(seen, report, report)):
        levels = [int(level) for level, _ in headings(text)]
        assert 1 == levels.count(1)
        assert all(after <= before + 1 for before, after in pairwise(levels))
    for rollouts in ((report,), (report, report)):
        assert {"3"} == {level for level, name in headings(str(html(evolve(seen, rollouts=rollouts)))) if name == "rank"}


def test_cards_lead_to_their_rollouts(seen, report):
    many = page(seen, report, report)
    for number in range(2):
        assert f'<a href="#r{number}">rank</a>' in many
        assert f'id="r{number}"' in many


def test_a_rollout_without_a_verdict_says_so_and_has_no_card(report):
    other = evolve(report, rollout="other", verdict=None)
    assert "<h2>other</h2><p>Nothing is concluded about this rollout.</p>" == str(rollout_page(other, level=2))
    assert ["rank"] == re.findall("<strong>(.*?)</strong>", str(cards([other, report], [None, None])))


def test_what_scrolls_can_be_reached_by_keyboard_and_has_a_name(seen, report):
    text = page(
        seen,
        evolve(report, transitions=({"t": START_S, "action": "promote"},)),
        pairs={"rank": [KeptPair("d", START_S, "candidate", "value", 0.5, "q", "x", "y")]},
    )
    scrolled = re.findall(r"<(?:div|pre)[^>]*role=\"group\"[^>]*>", text)
    assert len(scrolled) >= 4
    assert all('tabindex="0"' in each and re.search('aria-label="[^"]+"', each) for each in scrolled)


def segment(name):
    return SegmentDifference(
        attribute="country", segment=name, metric="click", candidate="candidate", kind="gate", better="higher", unit="share",
        counted="calls", control=0.5, value=0.6, control_total=5.0, control_count=10.0, value_total=6.0, value_count=10.0,
        control_units=10, value_units=10, estimate=0.1, low=0.05, high=0.15,
    )  # fmt: skip


def test_pictures_of_many_rows_are_cut(report):
    """Whatever a journal holds, its page can be read."""
    course = tuple(
        Point(time_s=START_S + 60 * number, estimate=0.1, low=0.0, high=0.2, harm_log_e=None, safe_log_e=1.0)
        for number in range(2)
    )
    each = evolve(report.verdict.differences[0], estimate=0.1, low=0.05, high=0.2, safe_needed=3.0, course=course)
    absolute = [evolve(each, metric=f"m{number}", relative=None, relative_low=None) for number in range(30)]
    relative = [evolve(one, metric=f"r{one.metric}", relative=0.1, relative_low=0.0) for one in absolute]
    charts = pictures(
        report,
        evolve(
            report.verdict,
            differences=(*absolute, *relative),
            segments=tuple(segment(f"s{number}") for number in range(30)),
            processes=tuple(ServingProcess(name=f"p{number}", first_s=START_S, last_s=START_S) for number in range(150)),
        ),
    )
    rows = {chart.title: chart.rows for chart in charts}
    assert (12, 12) == (len(rows["Candidate against control"]), len(rows["Difference of shares"]))
    assert 24 == len(rows["click by segment"])
    assert 3 == sum(title.endswith("over time") for title in rows)
    assert [f"m{number} good" for number in range(5)] == list(dict.fromkeys(row[0] for row in rows["Evidence"]))
    assert 100 == len(rows["Processes: 150 of 150 in the last minute of calls"])
