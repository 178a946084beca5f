"""Lines and tables for a terminal: never wider than it is, and nothing is left out."""

from hypothesis import given
from hypothesis import strategies as st

from rollout_sdk.formatting import fitting, table

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
