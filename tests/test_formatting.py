"""Lines and tables for a terminal: never wider than it is, and nothing is left out."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollout_sdk.formatting import (
    brief,
    class_name,
    counts,
    duration,
    escaped,
    fitting,
    nearest,
    number,
    percent,
    plain,
    quoted,
    several,
    size,
    table,
    when,
)

WORDS = st.lists(st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1, max_size=12), min_size=1, max_size=60)


@given(WORDS, st.sampled_from(["", "  ", "    FAIL              ", "  shares     "]), st.integers(40, 120))
def test_a_line_fits_and_keeps_every_word(words, start, width):
    lines = fitting(start + " ".join(words), width)
    assert max(map(len, lines)) <= width
    assert " ".join(lines).split() == (start + " ".join(words)).split()


def test_what_goes_on_stands_below_what_comes_after_a_label():
    first, *others = fitting("    FAIL              " + "word " * 40, 80)
    assert first.startswith("    FAIL              word")
    assert {line[: line.index("word")] for line in others} == {" " * 22}


CELLS = st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1, max_size=14)


@given(st.data(), st.integers(1, 9), st.integers(1, 4), st.integers(40, 120), st.booleans())
def test_a_table_fits_and_has_every_cell(data, columns, rows, width, ruled):
    cells = [[data.draw(CELLS) for _ in range(columns)] for _ in range(rows)]
    lines = list(table(cells, width=width, ruled=ruled))
    assert max(map(len, lines)) <= width
    found = " ".join(lines).split()
    for row in cells:
        for cell in row:
            assert cell in found


def test_columns_that_do_not_fit_stand_below_with_the_first_column_again():
    rows = [["name", "a" * 20, "b" * 20, "c" * 20], ["v2", "1", "2", "3"]]
    lines = list(table(rows, width=60))
    assert [line.split() for line in lines] == [
        ["name", "a" * 20, "b" * 20], ["v2", "1", "2"], [], ["name", "c" * 20], ["v2", "3"],
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("width", "tables"),
    # Indent, two first columns of four characters, two of six, and two spaces between any two.
    [(28, 1), (27, 2), (20, 2), (19, 2)],
)
def test_a_column_goes_below_only_where_it_does_not_fit(width, tables):
    lines = list(table([["name", "kind", "values", "others"]], width=width, keys=2))
    assert len(lines) == 2 * tables - 1
    assert all(line.startswith("  name  kind  ") for line in lines[::2])


def test_numbers_and_times_as_people_read_them():
    cases = [
        (number(None), "-"),
        (number(1_234_567), "1,234,567"),
        (number(10**15 - 1), "999,999,999,999,999"),
        (number(10**15), "1e+15"),
        (number(-(10**15)), "-1e+15"),
        (number(10**400), "over 1e308"),
        (number(-(10**400)), "-over 1e308"),
        (several(1, "file"), "1 file"),
        (several(2, "file"), "2 files"),
        (several(0, "entry", "entries"), "0 entries"),
        (percent(None), "-"),
        (percent(0.1234), "12.3 %"),
        (percent(-100), "-10000.0 %"),
        (percent(101), "1.01e+04 %"),
        (duration(None), "-"),
        (duration(119.94), "119.9 s"),
        (duration(120), "2 minutes"),
        (duration(-120), "-2 minutes"),
        (duration(7_199), "120 minutes"),
        (duration(7_200), "2 hours"),
        (duration(172_799), "48 hours"),
        (duration(172_800), "2 days"),
        (size(None), "-"),
        (size(1_023), "1023 bytes"),
        (size(1_024), "1.0 KiB"),
        (size(1.5 * 2**20), "1.5 MiB"),
        (size(2**30), "1.0 GiB"),
        (size(3 * 2**40), "3.0 TiB"),
        (when(None), "-"),
        (when(0), "1970-01-01 00:00:00 UTC"),
        (when(1e18), "1e+18 s after 1970"),
        (counts({}), "-"),
        (counts({"b": 1, "a": 1, "c": 2_000}), "c 2,000, a 1, b 1"),
        (counts({str(each): 9 - each for each in range(9)}), "0 9, 1 8, 2 7, 3 6, 4 5, 5 4, 6 3, 7 2"),
        (counts({"n" * 41: 1}), "n" * 38 + ".. 1"),
    ]
    assert [expected for _, expected in cases] == [written for written, _ in cases]


Own = type("Own" * 100, (int,), {})
OwnText = type("OwnText", (str,), {})


def test_untrusted_text_is_short_and_printable():
    cases = [
        (escaped("plain " * 100), "plain " * 100),
        (escaped("a\nb\x1b" * 100), "a\\nb\\x1b" * 100),
        (quoted("a" * 61), "'" + "a" * 58 + "..'"),
        (class_name(Own(1)), ("Own" * 100)[:198] + ".."),
        # A `repr` of its own may do anything.
        (brief(OwnText("a")), "an object of class OwnText"),
        (brief(Own(1), 9), f"an object of class {('Own' * 100)[:198]}.."),
        (plain("a" * 200), "a" * 200),
        (plain("a" * 201), "a" * 198 + ".."),
        (plain("\n", 2), "\\n"),
        # Short enough before it is escaped, and too long after it.
        (plain("\n\n", 3), "\\.."),
        (brief(None), "None"),
        (brief(True), "True"),
        (brief(0.5), "0.5"),
        (brief(2**239), str(2**239)),
        (brief(2**240), "an integer of very many digits"),
        (brief("a" * 60), repr("a" * 60)),
        (brief(b"a" * 61), repr(b"a" * 60) + ".."),
        (brief([1]), "an object of class list"),
        (nearest("blu", ["red", "blue"]), "blue"),
        (nearest("green", ["red", "blue"]), None),
        (nearest("a" * 200 + "b" * 2_000, ["a" * 200]), "a" * 200),
    ]
    assert [expected for _, expected in cases] == [written for written, _ in cases]


def test_one_word_too_long_for_its_line_is_cut_and_an_indented_line_goes_on_further_in():
    assert fitting("  " + "word " * 5, 16) == ["  word word word", "      word word"]
    assert fitting("word " * 4, 16) == ["word word word", "  word"]
    assert fitting("a" * 41, 40) == ["a" * 40, "  a"]
    # A label of up to half of the line is one; a wider one is text as any other.
    assert fitting("a" * 8 + "  " + "word " * 5, 20)[1] == " " * 10 + "word word"
    assert fitting("a" * 9 + "  " + "word " * 5, 20)[1].startswith("  word")
    assert fitting("a" * 40 + "  " + "word " * 20, 100)[1].startswith("  word")
    # A date or a name is not cut, and a line that just fits is given back, with what it ends with.
    assert fitting("on 2026-11-30 at 10-20", 12) == ["on", "  2026-11-30", "  at 10-20"]
    assert fitting("word  word  ", 12) == ["word  word  "]


def test_a_ruled_table_has_a_line_below_its_head_and_numbers_at_the_right():
    assert list(table([["name", "n"], ["v2", "12"]], ruled=True)) == ["  name   n", "  ----  --", "  v2    12"]
    assert list(table([["a", "b", "n"], ["v2", "x", "12"]], left=2, indent="")) == ["a   b   n", "v2  x  12"]
