"""What a page says and draws of a verdict: a word for each outcome, and a picture for what is known."""

import math
import re

import pytest
from attrs import evolve

from rollout_sdk.analysis.verdict import Check, Point
from rollout_sdk.page.pictures import pictures
from rollout_sdk.page.rollout import effects, rollout_page

START_S = 1_700_000_000.0


def drawn(report, **verdict):
    return {each.title: each for each in pictures(report, evolve(report.verdict, **verdict))}


def shown(report, **verdict):
    page = str(rollout_page(evolve(report, verdict=evolve(report.verdict, **verdict))))
    return page.replace("\N{NO-BREAK SPACE}", " ")


@pytest.fixture
def gate(report):
    return report.verdict.differences[0]


@pytest.mark.parametrize(
    ("kind", "outcome", "in_table", "in_picture"),
    [
        ("gate", "PASS", "gate passed", "passed"),
        ("guardrail", "PASS", "good enough", "good enough"),
        ("guardrail", "FAIL", "significantly worse", "worse"),
        ("gate", "FUTILE", "less than worth having", "too little"),
        ("guardrail", "ERROR", "cannot be judged", "broken"),
        ("guardrail", "INCONCLUSIVE", "not yet", "not yet"),
        ("gate", "INSUFFICIENT_DATA", "not yet", "not yet"),
        ("exploratory", "INCONCLUSIVE", "not declared", "not declared"),
    ],
)
def test_each_outcome_has_a_word(report, gate, kind, outcome, in_table, in_picture):
    each = evolve(gate, kind=kind, outcome=outcome, estimate=0.1, low=0.05, high=0.2, relative=None, relative_low=None)
    verdict = evolve(report.verdict, differences=(each,))
    assert in_table == re.search('class="word [a-z]+">(.*?)</span>', str(effects(verdict)))[1]
    (chart,) = [one for one in pictures(report, verdict) if one.title == "Difference of shares"]
    assert in_picture == chart.rows[0][-1]


def test_beside_the_headline_are_four_metrics_at_most_and_none_that_was_not_declared(report, gate):
    other = evolve(gate, metric="mood", kind="exploratory")
    for declared, named in ((1, ["m0"]), (4, ["m0", "m1", "m2", "m3"]), (6, ["m0", "m1", "m2", "m3"]), (0, ["mood"])):
        differences = (other, *(evolve(gate, metric=f"m{number}") for number in range(declared)))
        said = str(effects(evolve(report.verdict, differences=differences)))
        assert named == re.findall('scope="row">(.*?)</th>', said)
    assert "" == str(effects(evolve(report.verdict, differences=())))
    # Of several candidates, each is named.
    said = str(effects(evolve(report.verdict, candidates=("candidate", "v3"))))
    assert "click candidate" in said


@pytest.mark.parametrize(
    ("relative", "written"),
    [(0.125, "+12.5 %"), (-0.05, "-5.0 %"), (0.0, "0"), (9.99, "+999.0 %"), (12.0, "+1,200 %"), (-10.0, "-1,000 %")],
)
def test_a_relative_difference_is_in_percent(report, gate, relative, written):
    each = evolve(gate, relative=relative, relative_low=relative - 0.01, relative_high=None)
    (chart,) = [chart for title, chart in drawn(report, differences=(each,)).items() if title == "Candidate against control"]
    assert ("click", written, "no bound") == (chart.rows[0][0], chart.rows[0][1], chart.rows[0][3])


def known(*looks):
    """Points of looks at (low, high, log_e)."""
    return tuple(
        Point(time_s=START_S + 60 * number, estimate=0.1, low=low, high=high, harm_log_e=None, safe_log_e=log_e)
        for number, (low, high, log_e) in enumerate(looks)
    )


@pytest.mark.parametrize(
    ("looks", "is_drawn"),
    [
        ([(0.0, 0.3, 1.0), (0.05, 0.2, 2.0)], True),
        ([(None, None, 1.0), (0.05, 0.2, 2.0)], True),
        ([(0.05, 0.2, 2.0)], False),
        ([(0.0, 0.3, 1.0), (None, 0.2, 2.0)], False),
        ([(0.0, 0.3, 1.0), (0.05, None, 2.0)], False),
        ([], False),
    ],
)
def test_a_course_is_drawn_of_two_looks_or_more_that_come_to_an_interval(report, gate, looks, is_drawn):
    assert is_drawn == ("click over time" in drawn(report, differences=(evolve(gate, course=known(*looks)),)))


def test_the_courses_of_three_metrics_are_drawn_gates_first_and_of_those_that_decide(report, gate):
    course = known((0.0, 0.3, 1.0), (0.05, 0.2, 2.0))
    guardrails = [evolve(gate, metric=f"g{n}", kind="guardrail", course=course) for n in range(4)]
    differences = (*guardrails, evolve(gate, course=course), evolve(gate, metric="mood", decides=False, course=course))
    titles = [title for title in drawn(report, differences=differences) if title.endswith("over time")]
    assert ["click over time", "g0 over time", "g1 over time"] == titles
    # Where nothing decides, there is still something to see.
    undecided = tuple(evolve(each, decides=False) for each in differences[-2:])
    assert {"click over time", "mood over time"} <= set(drawn(report, differences=undecided))


@pytest.mark.parametrize(
    ("unit", "written"), [("share", "+10 pp"), ("preference", "+10 pp"), ("ratio", "+10.0 %"), ("value", "+0.1")]
)
def test_a_course_is_written_in_its_unit(report, gate, unit, written):
    each = evolve(gate, unit=unit, course=known((0.0, 0.3, 1.0), (0.05, 0.2, 2.0)))
    chart = drawn(report, differences=(each,))["click over time"]
    assert written == chart.rows[-1][1]


def test_evidence_is_drawn_against_the_highest_threshold_for_each_candidate(report, gate):
    course = known((0.0, 0.3, 0.0), (0.05, 0.2, math.log(30)))
    one = evolve(gate, course=course, safe_needed=math.log(20))
    differences = (one, evolve(one, metric="label", safe_needed=math.log(40)), evolve(one, metric="mood", decides=False))
    assert "click good: 30 of 40 needed; label good: 30 of 40 needed" == drawn(report, differences=differences)["Evidence"].says
    both = drawn(report, differences=(*differences, evolve(one, candidate="v3")), candidates=("candidate", "v3"))
    assert "click good: 30 of 20 needed" == both["Evidence about v3"].says
    assert "label" in both["Evidence about candidate"].says
    for nothing in ((evolve(one, course=course[:1]),), (evolve(one, safe_needed=None, harm_needed=None),)):
        assert "Evidence" not in drawn(report, differences=nothing)


def test_five_lines_of_evidence_are_drawn_at_most(report, gate):
    course = known((0.0, 0.3, 0.0), (0.05, 0.2, 1.0))
    many = tuple(evolve(gate, metric=f"m{number}", course=course, safe_needed=3.0) for number in range(8))
    assert ["m0 good", "m1 good", "m2 good", "m3 good", "m4 good"] == list(
        dict.fromkeys(row[0] for row in drawn(report, differences=many)["Evidence"].rows)
    )


@pytest.mark.parametrize(
    ("changed", "is_drawn"), [({}, True), ({"srm_needed": None}, False), ({"realised": {"control": 1.0}}, False)]
)
def test_realised_shares_are_drawn_where_they_are_checked(report, changed, is_drawn):
    assert is_drawn == ("Units: configured and realised shares" in drawn(report, **changed))


def test_what_to_look_into_says_since_when_and_how_bad_it_is(report):
    checks = (
        Check(name="shares", what="The split is broken", since_s=START_S, cure="Fix it."),
        Check(name="lost", what="Some are lost!", since_s=None, cure="Wait.", is_fatal=False),
    )
    said = shown(report, checks=checks)
    assert re.search(r"CHECK</span> The split is broken\. Since 2023-11-14 22:13:20 UTC\. Fix it\.", said)
    assert "Note</span> Some are lost! Wait." in said
    assert "To look into" not in shown(report, checks=())


@pytest.mark.parametrize(
    ("changed", "facts"),
    [
        ({"step": 2, "steps": 3}, ["step 2 of 3"]),
        ({"step": None, "steps": 3}, []),
        ({"step": 0, "steps": 0}, []),
        ({"version": "7"}, ["version 7"]),
        ({"units": {"control": 1200, "candidate": 34}}, ["1,234 units"]),
        ({"units": {}}, []),
        ({"first_s": START_S, "last_s": START_S + 7200}, ["2 hours of calls until 2023-11-15 00:13:20 UTC"]),
        ({"first_s": START_S}, []),
        ({"last_s": START_S}, []),
    ],
)
def test_facts_are_those_that_are_known(report, changed, facts):
    nothing = {"shares": {}, "version": "", "first_s": None, "last_s": None, "units": {}, "steps": 0, "step": None}
    said = re.search('class="muted facts">(.*?)</p>', shown(report, **{**nothing, **changed}))[1]
    assert [report.verdict.strategy, "running", *facts] == re.findall("<span>(.*?)</span>", said)
