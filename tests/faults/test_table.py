"""The table of docs/reliability.md is made of figures, and of nothing else."""

import json
from pathlib import Path

import pytest

from tests.faults import table

DOCUMENT = Path(__file__).parents[2] / "docs" / "reliability.md"


def noted(row, figure, test="tests/faults/test_x.py::test_x", python="3.11.7"):
    return json.dumps({"row": row, "figure": figure, "test": test, "python": python})


def test_a_row_has_the_last_figure_of_each_of_its_tests():
    lines = [noted("F3", "old", "a[1]"), noted("F3", "new", "a[2]"), noted("F3", "other", "b"), noted("F3", "new", "c")]
    assert ({"F3": ["new", "other"]}, ["3.11.7"]) == table.figures_of(lines)


def test_a_row_that_was_not_measured_says_so():
    lines = table.rendered([noted("F1", "fine")], "a machine").splitlines()
    assert "Measured with Python 3.11.7 on a machine." == lines[0]
    assert "| F1 | a shadow raises anything, SystemExit and KeyboardInterrupt among it | fine |" in lines
    assert "| F2 | every shadow hangs for ever | not measured in this run |" in lines
    assert len(table.ROWS) == len(lines) - 4


def test_an_unknown_row_is_an_error():
    with pytest.raises(SystemExit, match="Row 'F99'"):
        table.figures_of([noted("F99", "fine")])


def test_only_what_is_between_the_markers_changes():
    document = f"before\n{table.BEGIN}\nold\n{table.END}\nafter\n"
    assert f"before\n{table.BEGIN}\nnew\n{table.END}\nafter\n" == table.put_into(document, "new")


@pytest.mark.parametrize("document", ["", table.BEGIN, table.END, f"{table.END}{table.BEGIN}", f"{table.BEGIN}{table.END}" * 2])
def test_a_document_without_its_markers_is_an_error(document):
    with pytest.raises(SystemExit, match="no place for the table"):
        table.put_into(document, "new")


def test_the_document_has_a_line_for_every_row():
    _, _, rest = DOCUMENT.read_text(encoding="utf-8").partition(table.BEGIN)
    lines = rest.partition(table.END)[0].splitlines()
    assert [f"| {row} | {what} |" for row, what in table.ROWS.items()] == [
        " | ".join(line.split(" | ")[:2]) + " |" for line in lines if line.startswith("| ") and not line.startswith("| row")
    ]


def test_the_program_writes_the_document(tmp_path):
    figures, document = tmp_path / "figures", tmp_path / "document"
    figures.write_text(noted("F1", "fine") + "\n", encoding="utf-8")
    document.write_text(f"{table.BEGIN}{table.END}", encoding="utf-8")
    table.main([str(figures), str(document)])
    assert "| fine |" in document.read_text(encoding="utf-8")
    with pytest.raises(SystemExit, match="usage"):
        table.main([])
