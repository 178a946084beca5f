"""Which pictures a rollout gets, what their rows say, and in which unit."""

import re

import pytest

from rollout_sdk.analysis.phase_report import Preference
from rollout_sdk.analysis.shadow_arms import FieldReport, LabelTable
from rollout_sdk.analysis.verdict import ServingProcess
from rollout_sdk.page.pictures import pictures
from rollout_sdk.stats import MeanInterval

from .values import FIRST_S, NONE, arm, difference, latency, look, phase, report, segment, shadow, verdict


def drawn(found, *phases, **known):
    """The pictures of a rollout, by their titles."""
    charts = pictures(report(found, *phases, **known), found)
    assert len(charts) == len({each.title for each in charts})
    return {each.title: each for each in charts}


def test_a_rollout_without_calls_has_no_picture():
    assert {} == drawn(verdict(first_s=None, last_s=None)) == drawn(verdict(difference(), segments=(segment(),)))


def test_relative_differences_are_together_and_others_by_their_unit():
    charts = drawn(
        verdict(
            difference("click", relative=0.123, relative_low=-0.04, relative_high=0.3, estimate=9.0, low=8.0, high=10.0),
            difference("latency_mean", kind="guardrail", relative=12.3, relative_low=-0.5, outcome="FAIL"),
            difference("error_rate", kind="guardrail", estimate=0.0123, low=-0.04, high=0.05, outcome="PASS"),
            difference("preferred", unit="preference", estimate=0.25, low=0.0, outcome="PASS"),
            difference("revenue", unit="value", estimate=0.25, low=0.0, high=12.0, outcome="ERROR"),
            difference("spend", unit="value", estimate=0.0, low=-1.0, high=1.0, outcome="FUTILE"),
            # Too little is known of these.
            difference("early", estimate=0.1),
            difference("unknown", relative=0.1),
        )
    )
    assert {title: chart.rows for title, chart in charts.items()} == {
        "Candidate against control": (
            ("click", "+12.3 %", "-4.0 %", "+30.0 %", "not yet"),
            ("latency", "+1,230 %", "-50.0 %", "no bound", "worse"),
        ),
        "Difference of shares": (("errors", "+1.23 pp", "-4 pp", "+5 pp", "good enough"),),
        "Preference": (("preferred", "+25 pp", "0", "no bound", "passed"),),
        "Difference in the metric's own unit": (
            ("revenue", "+0.25", "0", "+12", "broken"),
            ("spend", "0", "-1", "+1", "too little"),
        ),
    }


def test_an_interval_whose_end_is_not_known_goes_on_to_the_border_on_its_side():
    """A bound drawn at no difference, or on the other side, would be a conclusion."""

    def line(chart):
        """Where the interval begins and ends, from the left of the picture."""
        ends = re.search(r'<line x1="([\d.]+)" y1="[\d.]+" x2="([\d.]+)" y2="[\d.]+" class="line unsure">', chart.picture)
        return tuple(map(float, ends.groups()))

    (known,) = drawn(verdict(difference(estimate=0.1, low=0.05, high=0.15))).values()
    assert 10.0 < line(known)[0] < line(known)[1] < 390.0
    chosen = Preference("v2", "click", 10, 6, 2, 2, MeanInterval(0.2, 0.1, None, 10))
    upwards = [
        *drawn(verdict(difference(estimate=0.1, low=0.05))).values(),
        *drawn(verdict(difference(relative=0.1, relative_low=0.05))).values(),
        *drawn(verdict(), phase(preferences=[chosen])).values(),
    ]
    assert [390.0] * 3 == [line(each)[1] for each in upwards]
    assert all(10.0 < line(each)[0] < 390.0 for each in upwards)
    chosen = Preference("v2", "click", 10, 6, 2, 2, MeanInterval(0.2, None, 0.3, 10))
    (downwards,) = drawn(verdict(), phase(preferences=[chosen])).values()
    assert 10.0 == line(downwards)[0] < line(downwards)[1] < 390.0


def test_of_ten_times_as_much_no_tenth_of_a_percent_is_shown():
    rows = drawn(verdict(difference(relative=9.99, relative_low=0.0, relative_high=10.0)))["Candidate against control"].rows
    assert (("click", "+999.0 %", "0", "+1,000 %", "not yet"),) == rows


def test_a_metric_is_named_with_its_candidate_where_there_are_several():
    both = verdict(
        *(difference(candidate=each, relative=0.1, relative_low=0.0) for each in ("v2", "v3")),
        segments=tuple(segment(candidate=each, low=0.0, high=0.2) for each in ("v2", "v3")),
        candidates=("v2", "v3"),
    )
    charts = drawn(both)
    assert ["click · v2", "click · v3"] == [row[0] for row in charts["Candidate against control"].rows]
    assert {"click · v2 by segment", "click · v3 by segment"} <= set(charts)


def test_a_metric_that_was_not_declared_is_not_said_to_pass_or_fail():
    (chart,) = drawn(verdict(difference(kind="exploratory", outcome="FAIL", relative=0.1, relative_low=0.0))).values()
    assert "not declared" == chart.rows[0][-1]
    assert "word unsure" in chart.picture
    assert "word bad" not in chart.picture


@pytest.mark.parametrize(
    ("outcome", "kind", "word", "tone"),
    [
        ("PASS", "gate", "passed", "good"),
        ("PASS", "guardrail", "good enough", "good"),
        ("FAIL", "gate", "worse", "bad"),
        ("FUTILE", "gate", "too little", "bad"),
        ("ERROR", "guardrail", "broken", "bad"),
        ("INCONCLUSIVE", "gate", "not yet", "unsure"),
        ("INSUFFICIENT_DATA", "guardrail", "not yet", "unsure"),
    ],
)
def test_what_became_of_a_metric_is_said_in_a_word_and_a_colour(outcome, kind, word, tone):
    (chart,) = drawn(verdict(difference(kind=kind, outcome=outcome, relative=0.1, relative_low=0.0))).values()
    assert word == chart.rows[0][-1]
    assert f'class="word {tone}"' in chart.picture


class TestSegments:
    def test_say_in_which_of_them_the_candidate_differs(self):
        found = (
            segment("NL", low=0.05, high=0.15, is_discovery=True),
            segment("DE", low=-0.15, high=-0.05, estimate=-0.1, is_discovery=True),
            segment("FR", low=-0.1, high=0.3),
            segment("BE"),
            segment("LU", low=0.0),
            segment("AT", high=0.2),
        )
        chart = drawn(verdict(segments=found))["click by segment"]
        assert chart.rows == (
            ("country=NL", "+10 pp", "+5 pp", "+15 pp", "significantly higher"),
            ("country=DE", "-10 pp", "-15 pp", "-5 pp", "significantly lower"),
            ("country=FR", "+10 pp", "-10 pp", "+30 pp", "not significant"),
            *((f"country={each}", "-", "no bound", "no bound", "too little") for each in ("BE", "LU", "AT")),
        )

    @pytest.mark.parametrize(("better", "tone"), [("higher", "good"), ("lower", "bad")])
    def test_are_coloured_by_whether_more_is_better(self, better, tone):
        found = segment(low=0.05, high=0.15, is_discovery=True, better=better)
        assert f'class="word {tone}"' in drawn(verdict(segments=(found,)))["click by segment"].picture

    def test_of_a_metric_with_a_unit_of_its_own_are_in_this_unit(self):
        found = segment(metric="latency_mean", unit="value", low=-0.05, high=0.15)
        assert "+0.1" == drawn(verdict(segments=(found,)))["latency by segment"].rows[0][1]


class TestCourses:
    def test_show_what_was_known_at_each_look_in_the_unit_of_the_metric(self):
        for unit, shown in {"share": "+10 pp", "preference": "+10 pp", "ratio": "+10.0 %", "value": "+0.1"}.items():
            course = (look(0, low=None, high=None), look(1, estimate=None), look(2))
            rows = drawn(verdict(difference(unit=unit, course=course)))["click over time"].rows
            assert [shown, shown] == [row[1] for row in rows]
            assert ("no bound", "no bound") == rows[0][2:]
            assert "no bound" not in rows[1][2:]

    @pytest.mark.parametrize(
        "course",
        [
            (look(0),),
            (look(0), look(1, estimate=None)),
            (look(0), look(1), look(2, low=None)),
            (look(0), look(1), look(2, high=None)),
        ],
        ids=["one look", "one estimate", "no lower end", "no upper end"],
    )
    def test_are_not_drawn_of_what_is_not_known_in_the_end(self, course):
        assert {} == drawn(verdict(difference(course=course)))

    def test_are_of_three_metrics_that_decide_gates_first(self):
        course = (look(0), look(1))
        found = [difference(name, kind="guardrail", course=course) for name in "abc"]
        found += [difference("seen", decides=False, course=course), difference("gate", course=course)]
        assert ["gate over time", "a over time", "b over time"] == list(drawn(verdict(*found)))

    def test_are_of_the_others_where_nothing_decides(self):
        assert ["click over time"] == list(drawn(verdict(difference(decides=False, course=(look(0), look(1))))))

    @pytest.mark.parametrize(
        ("numbers", "decides", "is_drawn"),
        [
            ({"margin": 0.1, "worse": -1}, True, True),
            ({"margin": 0.1, "worse": -1}, False, False),
            ({"margin": 0.1}, True, False),
            ({"worse": -1}, True, False),
        ],
    )
    def test_have_a_line_where_the_metric_decides(self, numbers, decides, is_drawn):
        (chart,) = drawn(verdict(difference(decides=decides, numbers=numbers, course=(look(0), look(1))))).values()
        assert is_drawn == ('class="decide"' in chart.picture)

    @pytest.mark.parametrize(("worse", "end"), [(-1, max), (1, min)])
    def test_have_this_line_at_the_margin_on_the_side_of_harm(self, worse, end):
        course = (look(0, 0.0, -0.3, 0.3), look(1, 0.0, -0.3, 0.3))
        (chart,) = drawn(verdict(difference(numbers={"margin": 0.3, "worse": worse}, course=course))).values()
        (height,) = re.findall('y1="([^"]*)" x2="[^"]*" y2="[^"]*" class="decide"', chart.picture)
        (band,) = re.findall('d="([^"]*)" class="band c1"', chart.picture)
        # It meets the interval's end; heights are from the top.
        ends = [float(each) for each in re.findall(r" ([\d.]+)", band)]
        assert end(ends) == pytest.approx(float(height), abs=0.1)


class TestEvidence:
    looks = (look(0, safe=0.5, harm=-0.5), look(1, safe=1.0, harm=-1.0))

    def test_is_shown_against_what_is_needed_for_each_decision(self):
        found = verdict(
            difference(safe_needed=3.0, harm_needed=4.0, course=self.looks),
            difference("error_rate", kind="guardrail", safe_needed=2.0, course=self.looks),
            difference("seen", decides=False, safe_needed=99.0, course=self.looks),
        )
        chart = drawn(found)["Evidence"]
        # e^4 is 54.6, the highest of what they need.
        found = {"click good": "2.72", "click harm": "0.368", "errors good": "2.72"}
        assert chart.says == "; ".join(f"{name}: {times} of 54.6 needed" for name, times in found.items())

    def test_is_drawn_once_there_are_two_looks(self):
        course = (look(0), look(1, safe=1.0, harm=1.0))
        assert "Evidence" not in drawn(verdict(difference(safe_needed=3.0, harm_needed=3.0, course=course)))

    def test_is_apart_for_each_candidate(self):
        found = [difference(candidate=each, safe_needed=3.0, course=self.looks) for each in ("v2", "v3")]
        assert {"Evidence about v2", "Evidence about v3"} <= set(drawn(verdict(*found, candidates=("v2", "v3"))))


class TestShares:
    def test_are_those_of_each_phase_with_what_was_done_and_by_whom(self):
        transitions = [
            {"t": FIRST_S, "action": "start", "actor": "sdk", "reason": ""},
            {"t": FIRST_S + 60, "action": "set_share", "actor": "ann", "reason": "ramp", "shares": {"control": 0.5, "v2": 0.5}},
            {"action": "pause", "actor": "who knows when"},
        ]
        chart = drawn(verdict(), phase(arm("control", 0.9), arm("v2", 0.1)), transitions=transitions)["Share of the traffic"]
        assert "control 90.0 %, v2 10.0 %" in chart.says
        assert [("set share", "ann", "ramp")] == [row[1:] for row in chart.rows if row[2]]

    @pytest.mark.parametrize(
        ("action", "shares", "stops"),
        [
            ("abort", {"control": 1.0}, True),
            ("roll_back", None, True),
            ("roll_back", {"control": 1.0, "v2": 0.0}, True),
            # Another candidate goes on.
            ("roll_back", {"control": 0.5, "v3": 0.5}, False),
            ("pause", None, False),
        ],
    )
    def test_end_with_the_control_alone_where_a_stop_leaves_nobody_else(self, action, shares, stops):
        transition = {"t": FIRST_S + 9_999, "action": action, "actor": "ann", "reason": "worse", "shares": shares}
        found = drawn(verdict(), phase(arm("control"), arm("v2")), transitions=[transition])["Share of the traffic"]
        assert stops == found.says.endswith("control 100.0 %")

    def test_of_one_arm_that_never_changed_are_not_drawn(self):
        assert {} == drawn(verdict(), phase(arm("control", 1.0)))
        assert {} == drawn(verdict(first_s=None), phase(arm("control"), arm("v2")))
        assert {} == drawn(verdict(last_s=None), phase(arm("control"), arm("v2")))
        assert {} == drawn(verdict(), phase(arm("control"), arm("v2"), first_s=None))

    def test_as_they_came_are_beside_those_that_were_configured(self):
        known = {"realised": {"control": 0.8976, "v2": 0.1024}, "shares": {"control": 0.9, "v2": 0.1}}
        (chart,) = drawn(verdict(srm_needed=3.0, **known)).values()
        assert (("control", "90.00 %", "89.76 %"), ("v2", "10.00 %", "10.24 %")) == chart.rows
        assert {} == drawn(verdict(**known))
        assert {} == drawn(verdict(srm_needed=3.0, shares={"control": 1.0}, realised={"control": 1.0}))


class TestLatency:
    def test_is_that_of_the_last_phase_in_which_something_ran_the_control_first(self):
        early = phase(arm("control", v1=latency()), arm("v2", v2=latency(5, 9.0, 9.0, 9.0)))
        late = phase(
            arm("v2", v2=latency(5, 0.000_01, 0.25, 2.5)),
            arm("control", control=latency(5, 0.000_1, 0.1, 1.0), idle=latency()),
        )
        chart = drawn(verdict(), early, late, phase(arm("control", control=latency())))["Latency"]
        assert ("", "control", "v2") == chart.columns
        assert (("p50", "0.1 ms", "10 µs"), ("p95", "100 ms", "250 ms"), ("p99", "1 s", "2.5 s")) == chart.rows

    def test_of_a_shadow_is_compared_with_the_control_s_runs_of_the_same_calls(self):
        calls = arm("control", 1.0, control=latency(9, 1.0, 1.0, 1.0))
        runs = shadow(latency=latency(5, 2.0, 2.0, 2.0), control_latency=latency(5, 3.0, 3.0, 3.0))
        chart = drawn(verdict(), phase(calls, shadows=[runs]))["Latency"]
        assert {"p50": "1 s, 2 s, 3 s"} == {row[0]: ", ".join(row[1:]) for row in chart.rows[:1]}
        assert ("", "control", "v2 (shadow)", "control (same calls)") == chart.columns
        without = shadow(latency=latency(5, 2.0, 2.0, 2.0))
        assert ("", "control", "v2 (shadow)") == drawn(verdict(), phase(calls, shadows=[without]))["Latency"].columns

    def test_that_nobody_measured_is_not_drawn(self):
        assert "Latency" not in drawn(verdict(), phase(arm("control"), arm("v2", v2=latency())))


class TestShadows:
    def test_say_how_often_answers_are_the_same_and_why_they_differ(self):
        reasons = {"value": 5, "order": 20, "length": 1, "type": 2, "nan": 3, "shape": 4}
        known = {"compared": 1_000, "agreement": MeanInterval(0.965, 0.9, 1.0, 100), "reasons": reasons, "noise": 0.02}
        chart = drawn(verdict(), phase(shadows=[shadow(**known)]))["Shadow of v2: 1,000 compared"]
        # The five most frequent ones.
        assert [row[0] for row in chart.rows] == [
            "same answer",
            *(f"differs: {each}" for each in ("order", "value", "shape", "nan", "type")),
            "control against itself differs",
        ]
        assert ["96.5 %", "2.0 %", "0.5 %", "0.4 %", "0.3 %", "0.2 %", "2.0 %"] == [row[1] for row in chart.rows]

    def test_that_were_not_compared_have_no_picture(self):
        assert {} == drawn(verdict(), phase(shadows=[shadow()]))

    @pytest.mark.parametrize(("noise", "columns"), [(None, ("", "v2")), (0.01, ("", "v2", "control again"))])
    def test_have_their_fields_with_the_noise_of_the_control(self, noise, columns):
        fields = [FieldReport(name, 10, MeanInterval(0.25, 0.1, 0.4, 9), NONE, noise, {}) for name in ("price", "title")]
        chart = drawn(verdict(), phase(shadows=[shadow(fields=tuple(fields))]))["Fields in which v2 differs"]
        noises = () if noise is None else ("1.0 %",)
        assert columns == chart.columns
        assert (("price", "25.0 %", *noises), ("title", "25.0 %", *noises)) == chart.rows

    def test_have_a_table_of_their_classes(self):
        labels = LabelTable(("spam", "ham"), ((7, 2), (0, 5)), 0.567)
        charts = drawn(verdict(), phase(shadows=[shadow(labels=labels)]))
        assert (("spam", "spam", "7"), ("ham", "ham", "5"), ("spam", "ham", "2")) == charts["Answers of v2, kappa 0.57"].rows
        labels = LabelTable(("spam",), ((7,),), None)
        assert ["Answers of v2"] == list(drawn(verdict(), phase(shadows=[shadow(labels=labels)])))

    def test_are_those_of_the_last_phase(self):
        first = phase(shadows=[shadow(compared=5, agreement=MeanInterval(1.0, None, None, 5))])
        assert {} == drawn(verdict(), first, phase())


def test_a_bar_of_a_share_is_as_long_as_the_share():
    """Beside a longer bar, a share of all would look like less."""

    def lengths(title, *phases, **known):
        return [
            float(each) for each in re.findall('<rect [^>]*width="([^"]*)" height="12"', drawn(*phases, **known)[title].picture)
        ]

    (full,) = lengths("Latency", verdict(), phase(arm("control", control=latency(5, 0.0, 0.0, 0.25))))[-1:]
    shares = {"control": 0.75, "v2": 0.25}
    configured = lengths("Units: configured and realised shares", verdict(realised=shares, shares=shares, srm_needed=3.0))
    assert [0.75, 0.75, 0.25, 0.25] == [pytest.approx(each / full, abs=0.01) for each in configured]
    known = {"compared": 4, "agreement": MeanInterval(0.75, 0.5, 1.0, 4), "reasons": {"value": 1}}
    compared = lengths("Shadow of v2: 4 compared", verdict(), phase(shadows=[shadow(**known)]))
    assert [0.75, 0.25] == [pytest.approx(each / full, abs=0.01) for each in compared]


def test_preferences_are_those_of_the_last_phase_in_points():
    known = Preference("v2", "click", 10, 6, 2, 2, MeanInterval(0.2, -0.1, None, 10))
    chart = drawn(verdict(), phase(preferences=[known]))["Preference in interleaved lists"]
    assert (("click · v2", "+20 pp", "-10 pp", "no bound", ""),) == chart.rows
    assert {} == drawn(verdict(), phase(preferences=[known]), phase())


def test_processes_are_lately_there_that_had_a_call_in_the_last_minute():
    last_s = FIRST_S + 3600
    ages = {"a": 0.0, "b": 60.0, "c": 60.5}
    found = [ServingProcess(name=name, first_s=FIRST_S, last_s=last_s - age) for name, age in ages.items()]
    (chart,) = drawn(verdict(processes=tuple(found))).values()
    assert "Processes: 2 of 3 in the last minute of calls" == chart.title
    assert chart.says.startswith("3 processes served it, and 2 in the minute before 2026-12-01 01:00:00 UTC.")
    assert ["a", "b", "c"] == [row[0] for row in chart.rows]
