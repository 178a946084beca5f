import math
import re
from xml.etree import ElementTree

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rollout_sdk.charts import (
    STYLE,
    Effect,
    Interval,
    Mark,
    bars,
    element,
    evidence,
    forest,
    matrix,
    periods,
    sequence,
    shares,
    text,
)
from rollout_sdk.charts.scale import Scale, log_ticks, ticks, time_ticks

HOSTILE = "</title><script>alert(1)</script>\"' onload=alert(1) &amp; \x00\x1b[31m\u202e"
NUMBERS = st.floats(allow_nan=False)
TIMES = st.floats(0, 4e9)
NAMES = st.text(max_size=30)


def written(value):
    return f"{value:+.1%}"


def parsed(chart):
    """The chart's markup as a browser's parser of XML reads it; every number in it must be finite."""
    root = ElementTree.fromstring(f"<body>{chart.html()}</body>")
    for node in root.iter():
        for name, value in node.attrib.items():
            if name in {"x", "y", "x1", "x2", "y1", "y2", "cx", "cy", "width", "height", "d", "fill-opacity", "viewBox"}:
                assert not re.search(r"nan|inf", value), (node.tag, name, value)
            if name in {"width", "height"}:
                assert float(value) >= 0
    return root


def all_charts(name):
    interval = Interval(1.79e9, -0.1, 0.0, 0.2)
    return [
        forest(name, [Effect(name, 0.1, -0.1, 0.3, name, "good", 0.0)], written=lambda value: f"{value}{name}"),
        sequence(name, [interval], written=lambda value: f"{value}{name}", limit=0.1, limit_name=name),
        evidence(name, {name: [(1.79e9, 0.5)]}, needed=3.0),
        shares(name, [(1.79e9, {name: 1.0})], until_s=1.8e9, control=name, marks=[Mark(1.79e9, name, name, name)]),
        bars(name, {name: {name: 0.1}}, written=lambda value: f"{value}{name}"),
        matrix(name, {(name, "b"): 1}, rows=name, columns=name),
        periods(name, name, [(name, 1.79e9, 1.8e9)]),
    ]


class TestHostileNames:
    @pytest.mark.parametrize("number", range(7))
    def test_are_shown_and_not_obeyed(self, number):
        chart = all_charts(HOSTILE)[number]
        allowed = {
            "figure",
            "figcaption",
            "svg",
            "title",
            "text",
            "line",
            "rect",
            "path",
            "circle",
            "details",
            "summary",
            "div",
        }
        allowed |= {"table", "thead", "tbody", "tr", "th", "td", "body"}
        root = parsed(chart)
        assert {node.tag for node in root.iter()} <= allowed
        assert not [name for node in root.iter() for name in node.attrib if name.startswith("on") or name == "style"]
        # The name is there for a person to read, from its first character on.
        assert any("</title><script>" in "".join(node.itertext()) for node in root.iter("figcaption"))

    @given(NAMES, NAMES)
    def test_of_any_characters_are_well_formed(self, name, value):
        root = ElementTree.fromstring(element("p", text(name), title=value))
        assert root.attrib["title"] is not None


class TestEveryChart:
    @pytest.mark.parametrize("number", range(7))
    def test_has_a_text_alternative_and_its_numbers(self, number):
        chart = all_charts("shop")[number]
        svg = parsed(chart).find(".//svg")
        assert svg.attrib["role"] == "img"
        assert chart.says
        assert chart.says in svg.attrib["aria-label"]
        assert chart.rows
        assert all(len(row) == len(chart.columns) for row in chart.rows)

    @pytest.mark.parametrize("number", range(7))
    def test_stands_alone_as_a_file(self, number):
        root = ElementTree.fromstring(all_charts("shop")[number].svg())
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        assert "prefers-color-scheme" in root[0].text

    @pytest.mark.parametrize("number", range(7))
    def test_uses_only_classes_that_have_a_style(self, number):
        used = {
            each
            for node in parsed(all_charts("shop")[number]).find(".//svg").iter()
            for each in node.attrib.get("class", "").split()
        }
        assert {each for each in used if f".{each}" not in STYLE} == set()


class TestForest:
    @given(st.lists(st.tuples(NUMBERS, NUMBERS, NUMBERS), max_size=8))
    def test_draws_any_numbers(self, values):
        effects = [Effect(str(number), middle, low, high) for number, (low, middle, high) in enumerate(map(sorted, values))]
        parsed(forest("d", effects, written=written))

    def test_says_what_is_not_known(self):
        chart = forest("d", [Effect("clicks", None, -math.inf, math.inf)], written=written)
        assert chart.says == "clicks: not known yet"
        assert chart.rows == (("clicks", "-", "no bound", "no bound", ""),)

    def test_an_interval_far_wider_than_the_others_goes_on_outside(self):
        usual = [Effect(f"m{number}", 0.01, -0.02, 0.04) for number in range(3)]
        root = parsed(forest("d", [*usual, Effect("wild", 0.02, -50.0, 50.0)], written=written))
        assert len(root.findall(".//path")) == 2
        # The others can still be told from dots.
        bars_ = [
            abs(float(each.attrib["x2"]) - float(each.attrib["x1"]))
            for each in root.iter("line")
            if "unsure" in each.attrib["class"]
        ]
        assert sorted(bars_)[-4] > 50


class TestSequence:
    @given(st.lists(st.tuples(TIMES, NUMBERS, NUMBERS, NUMBERS), min_size=1, max_size=8), st.none() | NUMBERS)
    def test_draws_any_numbers(self, values, limit):
        points = [Interval(time_s, *sorted(rest)) for time_s, *rest in sorted(values)]
        parsed(sequence("d", points, written=str, limit=limit))

    def test_says_the_last_interval(self):
        points = [Interval(1.79e9, -1.0, 0.0, 1.0), Interval(1.8e9, 0.01, 0.06, 0.11)]
        assert sequence("d", points, written=written).says == "At the end +6.0%, between +1.0% and +11.0%."


class TestEvidence:
    @given(st.dictionaries(NAMES, st.lists(st.tuples(TIMES, NUMBERS), min_size=1, max_size=5), min_size=1, max_size=3))
    def test_draws_any_numbers(self, series):
        parsed(evidence("d", series, needed=math.log(20)))

    def test_says_how_much_there_is_and_how_much_is_needed(self):
        chart = evidence("d", {"worse": [(0.0, 0.0), (9.0, math.log(10))]}, needed=math.log(20))
        assert chart.says == "worse: 10 of 20 needed"


class TestShares:
    @given(
        st.lists(st.tuples(TIMES, st.dictionaries(NAMES, st.floats(0, 1), max_size=3)), min_size=1, max_size=5),
        st.lists(st.tuples(TIMES, NAMES), max_size=5),
    )
    def test_draws_any_periods(self, periods, marks):
        parsed(
            shares(
                "d", sorted(periods, key=lambda each: each[0]), until_s=4e9, control="c", marks=[Mark(*each) for each in marks]
            )
        )

    def test_one_percent_is_seen(self):
        root = parsed(shares("d", [(0.0, {"control": 0.999, "v2": 0.001})], until_s=9.0, control="control"))
        heights = [float(node.attrib["height"]) for node in root.iter("rect") if node.attrib["class"] == "pale c1"]
        assert heights == [1.5]

    def test_the_numbers_say_who_did_what_and_why(self):
        chart = shares(
            "d", [(0.0, {"control": 1.0})], until_s=9.0, control="control", marks=[Mark(5.0, "abort", "ann", "slow")]
        )
        assert ("1970-01-01 00:00:05 UTC", "abort", "ann", "slow") in chart.rows


class TestPeriods:
    @given(st.lists(st.tuples(NAMES, TIMES, TIMES), max_size=20))
    def test_draws_any_periods(self, found):
        parsed(periods("d", "s", [(name, *sorted(times)) for name, *times in found]))

    def test_draws_the_first_twelve_and_lists_all(self):
        chart = periods("d", "s", [(f"p{number}", 1.79e9, 1.79e9 + number) for number in range(30)])
        root = parsed(chart)
        assert len(root.findall(".//rect")) == 12
        assert "+18" in [node.text for node in root.iter("text")]
        assert len(chart.rows) == 30


class TestScale:
    @given(st.floats(-1e12, 1e12), st.floats(1e-6, 1e12), st.integers(1, 9))
    @example(900719925474.3691, 0.0001, 1)
    def test_ticks_are_inside_and_about_as_many_as_asked_for(self, low, length, count):
        high = low + length
        found = ticks(low, high, count)
        assert len(found) <= 2 * count + 2
        assert all(low - length * 1e-6 <= each <= high + length * 1e-6 for each in found)

    @pytest.mark.parametrize(
        ("low", "high", "expected"),
        [(0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]), (-0.11, 0.13, [-0.1, -0.05, 0, 0.05, 0.1]), (0, 37, [0, 10, 20, 30])],
    )
    def test_ticks_are_round(self, low, high, expected):
        assert ticks(low, high) == pytest.approx(expected)

    def test_times_are_round_in_utc(self):
        assert [name for _, name in time_ticks(1_790_000_000, 1_790_000_000 + 86_400, 4)] == [
            "18:00",
            "22 Sep",
            "06:00",
            "12:00",
        ]
        assert [name for _, name in time_ticks(1_790_000_000, 1_790_000_000 + 3_600, 4)] == ["14:15", "14:30", "14:45", "15:00"]

    @pytest.mark.parametrize("step", [1, 5, 15, 60, 300, 900, 1_800, 3_600, 10_800, 21_600, 43_200, 86_400, 7 * 86_400])
    def test_times_are_those_of_a_clock_and_a_calendar(self, step):
        assert [each for each, _ in time_ticks(0, step, 1)] == [0, step]

    def test_a_century_has_few_ticks(self):
        assert 1 <= len(time_ticks(0, 3.2e9, 4)) <= 12

    def test_powers_of_ten_are_thinned(self):
        assert log_ticks(-1.2, 2.3) == [-1, 0, 1, 2]
        assert len(log_ticks(-12, 12)) <= 6

    def test_a_value_outside_is_at_the_border(self):
        scale = Scale(0.0, 10.0, 100.0, 200.0)
        assert (scale(5), scale(-3), scale(1e308)) == (150, 100, 200)


class TestContrast:
    """WCAG 2.1, 1.4.3: at least 4.5 for text."""

    @staticmethod
    def luminance(colour):
        if len(colour) == 4:
            colour = "#" + "".join(2 * each for each in colour[1:])
        parts = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
        red, green, blue = (each / 12.92 if each <= 0.03928 else ((each + 0.055) / 1.055) ** 2.4 for each in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    @pytest.mark.parametrize("scheme", [0, 1])
    @pytest.mark.parametrize("name", ["text", "muted", "k0", "k1", "k2", "k3", "k4", "k5", "good", "bad", "unsure", "decide"])
    def test_each_colour_can_be_read(self, scheme, name):
        block = re.findall(r":root\{([^}]*)\}", STYLE)[scheme]
        colours = dict(re.findall(r"--(\w+):(#\w+)", block))
        for below in ("page", "panel"):
            light, dark = sorted([self.luminance(colours[name]), self.luminance(colours[below])], reverse=True)
            assert (light + 0.05) / (dark + 0.05) >= 4.5
