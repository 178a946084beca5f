"""Positions in charts: lengths are in proportion to values, nothing covers anything else, and all of it is inside."""

import re
from itertools import pairwise
from xml.etree import ElementTree

import pytest
from attrs import evolve

from rollout_sdk.charts import Effect, Interval, Mark, bars, evidence, forest, matrix, periods, sequence, shares

FIRST_S = 1_790_000_000.0


def written(value):
    return f"{value:g}"


class Drawn:
    """What is in a chart's picture."""

    def __init__(self, chart):
        self.root = ElementTree.fromstring(f"<body>{chart.html()}</body>").find(".//svg")
        self.width, self.height = map(float, self.root.attrib["viewBox"].split()[2:])

    def numbers(self, tag, *names, class_=""):
        return [
            tuple(float(node.attrib[name]) for name in names)
            for node in self.root.iter(tag)
            if class_ in node.attrib.get("class", "")
        ]

    def rects(self, class_=""):
        return self.numbers("rect", "x", "y", "width", "height", class_=class_)

    def texts(self):
        return {node.text: (float(node.attrib["x"]), float(node.attrib["y"])) for node in self.root.iter("text")}

    def paths(self, class_):
        found = (node.attrib["d"] for node in self.root.iter("path") if class_ in node.attrib["class"])
        return [[tuple(map(float, pair.split())) for pair in re.split("[ML]", path.strip("MZ"))] for path in found]


def assert_apart_and_inside(drawn, rects):
    for x, y, width, height in rects:
        assert 0 <= x <= x + width <= drawn.width
        assert 0 <= y <= y + height <= drawn.height
    for one, other in ((one, other) for at, one in enumerate(rects) for other in rects[:at]):
        is_beside = one[0] >= other[0] + other[2] - 0.02 or other[0] >= one[0] + one[2] - 0.02
        assert is_beside or one[1] >= other[1] + other[3] - 0.02 or other[1] >= one[1] + one[3] - 0.02


CHARTS = {
    "forest": lambda: forest("d", EFFECTS, written=written),
    "sequence": lambda: sequence("d", POINTS, written=written, limit=1.0, limit_name="worse"),
    "evidence": lambda: evidence("d", {"worse": [(FIRST_S, 1.0), (FIRST_S + 9, 2.0)]}, needed=3.0),
    "shares": lambda: shares("d", [(FIRST_S, {"control": 1.0})], until_s=FIRST_S + 9, control="control", marks=MARKS),
    "bars": lambda: bars("d", GROUPS, written=written),
    "matrix": lambda: matrix("d", {("yes", "no"): 1, ("no", "no"): 3}),
    "periods": lambda: periods("d", "s", [("one", FIRST_S, FIRST_S + 86_400)]),
}
EFFECTS = [Effect("clicks", 0.5, 0.0, 1.0, "better", "good", -0.5), Effect("errors", -0.25, -1.0, 0.5, "", "unsure")]
POINTS = [Interval(FIRST_S + 10 * number, -3.0 + number, 0.0, 3.0 - number) for number in range(3)]
GROUPS = {"p50": {"control": 50.0, "v2": 100.0}, "p95": {"control": None, "v2": 200.0}}
MARKS = [Mark(FIRST_S + at, "promote", "ann") for at in (0, 9)]


@pytest.mark.parametrize("name", CHARTS)
def test_all_of_a_chart_is_inside_its_picture(name):
    drawn = Drawn(CHARTS[name]())
    for node in drawn.root.iter("text"):
        x, y, anchor = float(node.attrib["x"]), float(node.attrib["y"]), node.attrib.get("text-anchor", "start")
        width = 5 * len(node.text)
        left = x - {"start": 0, "middle": width / 2, "end": width}[anchor]
        assert 0 <= left <= left + width <= drawn.width, node.text
        assert 8 <= y <= drawn.height, node.text
    for x1, y1, x2, y2 in drawn.numbers("line", "x1", "y1", "x2", "y2"):
        assert 0 <= min(x1, x2) <= max(x1, x2) <= drawn.width
        assert 0 <= min(y1, y2) <= max(y1, y2) <= drawn.height
    assert_apart_and_inside(drawn, [] if name == "shares" else drawn.rects())


def test_a_chart_without_numbers_has_nothing_to_open():
    has_details = ["<details>" in each.html() for each in (CHARTS["bars"](), evolve(CHARTS["bars"](), rows=()))]
    assert [True, False] == has_details


def test_times_stand_below_where_they_are():
    drawn = Drawn(CHARTS["periods"]())
    ((left, _, width, _),), texts = drawn.rects(), drawn.texts()
    # Of a day from 14:13:20 on.
    hours = {"22 Sep": 24, "12:00": 36}
    begin = 14 + 800 / 3_600
    assert hours == {name: pytest.approx(begin + 24 * (texts[name][0] - left) / width, abs=0.01) for name in hours}
    marks = [x for x, y1, y2 in drawn.numbers("line", "x1", "y1", "y2", class_="axis") if y1 != y2]
    assert marks == [texts[name][0] for name in hours]


class TestLegend:
    def test_lines_begin_at_one_edge_and_names_have_room(self):
        names = [f"variant-{number}" for number in range(9)]
        drawn = Drawn(bars("d", {"g": dict.fromkeys(names, 1.0)}, written=written))
        places = [drawn.texts()[name] for name in names]
        by_line = {}
        for x, y in places:
            by_line.setdefault(y, []).append(x)
        assert 3 == len(by_line)
        assert 1 == len({xs[0] for xs in by_line.values()})
        # About six units for each character, and a square of ten between names.
        assert all(after - before > 6 * len("variant-0") + 14 for xs in by_line.values() for before, after in pairwise(xs))
        squares = drawn.rects()[: len(names)]
        assert_apart_and_inside(drawn, squares)
        assert [(x + 14, y + 9) for x, y, *_ in squares] == places

    def test_in_three_lines_and_the_number_of_the_others(self):
        names = [f"candidate-{number:02}" for number in range(40)]
        texts = Drawn(shares("d", [(0.0, dict.fromkeys(names, 0.025))], until_s=9.0, control=names[0])).texts()
        shown = [name for name in names if name in texts]
        assert shown == names[: len(shown)]
        assert f"+{40 - len(shown)}" in texts
        assert 3 == len({texts[name][1] for name in shown})

    def test_colours_are_those_of_what_is_drawn(self):
        drawn = Drawn(evidence("d", {"worse": [(0.0, 1.0), (9.0, 2.0)], "safe": [(0.0, 1.0)]}, needed=3.0))
        squares = [node.attrib["class"][-2:] for node in drawn.root.iter("rect")]
        lines = [node.attrib["class"][-2:] for node in drawn.root.iter("path")]
        assert ["c1", "c2"] == squares == lines


class TestBars:
    def test_are_as_long_as_their_values_and_apart(self):
        drawn = Drawn(bars("d", GROUPS, written=written))
        found = [rect for rect in drawn.rects() if rect[3] > 10]
        lengths = [width for _, _, width, _ in found]
        assert [0.25 * lengths[-1], 0.5 * lengths[-1], 1.0, lengths[-1]] == pytest.approx(lengths, abs=0.02)
        assert_apart_and_inside(drawn, drawn.rects())
        # The value stands after its bar, and the name of a group above its first.
        texts = drawn.texts()
        assert [texts[value][0] for value in ("50", "100", "-", "200")] == pytest.approx(
            [10 + each + 5 for each in (*lengths[:2], 0, lengths[3])], abs=0.02
        )
        assert all(texts[group][1] < found[at][1] < texts[group][1] + 15 for group, at in (("p50", 0), ("p95", 2)))
        assert found[2][1] > found[1][1] + 30

    def test_are_as_long_as_asked_for(self):
        one, other = (
            max(each[2] for each in Drawn(bars("d", GROUPS, written=written, most=most)).rects()) for most in (None, 400.0)
        )
        assert one / 2 == pytest.approx(other, abs=0.02)


class TestPeriods:
    def test_begin_and_end_where_they_do_and_a_moment_is_seen(self):
        found = [("a", FIRST_S, FIRST_S + 100), ("b", FIRST_S + 50, FIRST_S + 100), ("c", FIRST_S + 100, FIRST_S + 100)]
        drawn = Drawn(periods("d", "s", found))
        whole, half, moment = drawn.rects()
        assert (whole[0] + whole[2] / 2, whole[2] / 2) == pytest.approx((half[0], half[2]), abs=0.02)
        assert 2.0 == moment[2]
        assert moment[0] + moment[2] <= drawn.width
        assert_apart_and_inside(drawn, drawn.rects())
        assert all(y < drawn.texts()[name][1] <= y + 11 for name, (_, y, *_) in zip("abc", (whole, half, moment), strict=True))

    def test_of_more_than_are_drawn_the_rest_is_counted_below(self):
        drawn = Drawn(periods("d", "s", [(f"p{number}", FIRST_S, FIRST_S + 9) for number in range(13)]))
        assert 12 == len(drawn.rects())
        lowest = max(y + height for _, y, _, height in drawn.rects())
        assert lowest < drawn.texts()["+1"][1] < min(y1 for (y1,) in drawn.numbers("line", "y1", class_="axis"))


class TestLines:
    def test_one_point_is_a_short_line_around_it(self):
        drawn = Drawn(sequence("d", [Interval(FIRST_S, -1.0, 0.0, 1.0)], written=written))
        ((left, y), (right, same)) = drawn.paths("line")[0]
        assert (y, 6.0) == (same, right - left)
        (zero,) = {y for (y,) in drawn.numbers("line", "y1", class_="zero")}
        assert y == pytest.approx(zero, abs=0.06)

    def test_an_interval_is_around_its_estimate_and_the_limit_at_its_value(self):
        points = [Interval(FIRST_S + 10 * number, -3.0 + number, 0.0, 3.0 - number) for number in range(3)]
        drawn = Drawn(sequence("d", points, written=written, limit=1.0, limit_name="worse"))
        (band,), (line,) = drawn.paths("band"), drawn.paths("line")
        upper, lower = band[:3], band[:2:-1]
        assert [x for x, _ in upper] == [x for x, _ in lower] == [x for x, _ in line]
        assert line[1][0] - line[0][0] == pytest.approx(line[2][0] - line[1][0], abs=0.2)
        assert all(below > middle > above for (_, above), (_, middle), (_, below) in zip(upper, line, lower, strict=True))
        ((limit,),) = drawn.numbers("line", "y1", class_="decide")
        assert limit == pytest.approx(upper[2][1], abs=0.06)
        assert drawn.texts()["worse"][1] < limit

    def test_no_line_at_zero_covers_the_one_that_decides(self):
        points = [Interval(FIRST_S, -1.0, 0.0, 1.0), Interval(FIRST_S + 9, -1.0, 0.0, 1.0)]
        assert [1, 0] == [
            len(Drawn(sequence("d", points, written=written, limit=limit)).numbers("line", "y1", class_="zero"))
            for limit in (0.5, 0.0)
        ]

    def test_evidence_says_odds_at_each_size(self):
        exponents = {
            "1,000": 3,
            "999": 2.9996,
            "10^6": 6,
            "999,079": 5.9996,
            "0.1": -1,
            "10^-6": -6,
            "10^12": 40,
            "10^-12": -40,
        }
        for shown, exponent in exponents.items():
            chart = evidence("d", {"worse": [(FIRST_S, exponent * 2.302585092994046)]}, needed=3.0)
            assert shown == chart.rows[0][2]


class TestShares:
    def test_stacks_are_as_high_as_shares_and_as_wide_as_periods(self):
        given = [(FIRST_S, {"control": 0.75, "v2": 0.25}), (FIRST_S + 30, {"control": 0.5, "v2": 0.5})]
        drawn = Drawn(shares("d", given, until_s=FIRST_S + 40, control="control"))
        found = drawn.rects("pale")
        whole = found[0][3] + found[1][3]
        assert [0.75, 0.25, 0.5, 0.5] == pytest.approx([height / whole for *_, height in found], abs=0.001)
        assert found[0][2] == pytest.approx(3 * found[2][2], abs=0.1)
        assert_apart_and_inside(drawn, drawn.rects())
        # The control is below.
        assert found[0][1] > found[1][1]
        assert ["0%", "50%", "100%"] == [name for name in drawn.texts() if "%" in name]

    def test_names_of_marks_have_room_and_the_others_are_lines_only(self):
        marks = [Mark(FIRST_S + at, "promote", "ann") for at in (0, 50, 52, 100)]
        drawn = Drawn(shares("d", [(FIRST_S, {"control": 1.0})], until_s=FIRST_S + 100, control="control", marks=marks))
        assert 4 == len(drawn.numbers("line", "x1", class_="mark"))
        named = [float(node.attrib["x"]) for node in drawn.root.iter("text") if node.text == "promote, ann"]
        assert 3 == len(named)
        assert all(after - before > 6 * len("promote, ann") for before, after in pairwise(named))
        assert named[-1] + 6 * len("promote, ann") < drawn.width


class TestForest:
    def test_intervals_and_limits_are_where_their_values_are(self):
        drawn = Drawn(forest("d", EFFECTS, written=written))
        (zero, *_), ((limit,),) = drawn.numbers("line", "x1", class_="zero"), drawn.numbers("line", "x1", class_="decide")
        circles = [x for (x,) in drawn.numbers("circle", "cx")]
        (left, right), _, _, (low, high), *_ = drawn.numbers("line", "x1", "x2", class_="line")
        unit = right - left
        assert left == pytest.approx(zero[0], abs=0.02)
        assert [0.5, -0.25] == pytest.approx([(x - left) / unit for x in circles], abs=0.001)
        assert -0.5 == pytest.approx((limit - left) / unit, abs=0.001)
        assert (-1.0, 0.5) == pytest.approx(((low - left) / unit, (high - left) / unit), abs=0.001)

    def test_an_arrow_points_to_where_its_interval_goes_on(self):
        usual = [Effect(f"m{number}", 0.01, -0.02, 0.04) for number in range(3)]
        drawn = Drawn(forest("d", [*usual, Effect("wild", 0.02, -50.0, 50.0)], written=written))
        arrows = [re.fullmatch(r"M([\d.]+) [\d.]+l(-?\d+) .*", node.attrib["d"]).groups() for node in drawn.root.iter("path")]
        (left, inwards), (right, outwards) = sorted((float(x), float(by)) for x, by in arrows)
        assert (inwards, outwards) == (7, -7)
        assert left < drawn.width / 2 < right


class TestMatrix:
    def test_cells_are_squares_side_by_side_and_darker_where_there_is_more(self):
        drawn = Drawn(matrix("d", {("a", "a"): 10, ("a", "b"): 5, ("b", "a"): 1}))
        cells = drawn.rects("cell")
        assert_apart_and_inside(drawn, cells)
        assert 1 == len({size for _, _, *sizes in cells for size in sizes})
        shades = [shade for (shade,) in drawn.numbers("rect", "fill-opacity")]
        assert shades[0] > shades[1] > shades[2] > shades[3] > 0
        assert [True, False, False, True] == ["c1" in node.attrib["class"] for node in drawn.root.iter("rect")]
        # The row is the control's answer.
        assert cells[1][0] > cells[0][0]
        assert cells[2][1] > cells[0][1]
        assert {"10", "5", "1"} <= drawn.texts().keys()

    def test_only_the_most_frequent_answers_have_cells(self):
        counts = {(f"a{number:02}", f"a{number:02}"): 100 - number for number in range(20)}
        drawn = Drawn(matrix("d", counts))
        assert 144 == len(drawn.rects("cell"))
        assert {"a00", "a11"} <= drawn.texts().keys()
        assert "a12" not in drawn.texts()
        assert_apart_and_inside(drawn, drawn.rects("cell")[::13])
