"""The table of docs/reliability.md is made of figures, and of nothing else."""

import json

import pytest

from tests.faults import table


@pytest.fixture
def figures(tmp_path):
    """Notes figures as test runs do: (row, figure, test, Python)."""

    def note(*noted):
        path = tmp_path / "figures"
        names = ("row", "figure", "test", "python")
        path.write_text("".join(json.dumps(dict(zip(names, each, strict=True))) + "\n" for each in noted), encoding="utf-8")
        return path

    return note


def test_a_row_has_the_last_figure_of_each_of_its_tests_and_the_pythons_that_passed(figures):
    path = figures(
        ("F3", "old", "a[1]", "3.11.7"),
        ("F3", "new", "a[2]", "3.11.7"),
        ("F3", "other", "b", "3.11.7"),
        ("F3", "new", "c", "3.11.7"),
        ("F3", "elsewhere", "a[1]", "3.12.1"),
    )
    assert "| F3 | eight threads submit into a full queue | new; other | 3.11, 3.12 |" in table.table(path).splitlines()


def test_a_row_that_was_not_measured_says_so(figures):
    lines = table.table(figures(("F1", "fine", "a", "3.11.7"))).splitlines()
    assert "| F2 | every shadow hangs for ever | not run |  |" in lines
    assert len(table.ROWS) == len(lines) - 2


def test_an_unknown_row_is_an_error(figures):
    with pytest.raises(SystemExit, match="measured 'F999'"):
        table.table(figures(("F999", "fine", "a", "3.11.7")))


def test_only_what_is_between_the_markers_changes():
    document = f"before\n{table.BEGIN}\nold\n{table.END}\nafter\n"
    assert f"before\n{table.BEGIN}\nnew\n{table.END}\nafter\n" == table.put_into(document, "new")


@pytest.mark.parametrize("document", ["", table.BEGIN, table.END, f"{table.END}{table.BEGIN}", f"{table.BEGIN}{table.END}" * 2])
def test_a_document_without_its_markers_is_an_error(document):
    with pytest.raises(SystemExit, match="no place for the table"):
        table.put_into(document, "new")


def test_the_program_writes_the_document(figures, tmp_path, monkeypatch):
    document = tmp_path / "document"
    document.write_text(f"{table.BEGIN}{table.END}", encoding="utf-8")
    monkeypatch.setattr(table, "DOCUMENT", document)
    monkeypatch.setattr(table.sys, "argv", ["table.py", str(figures(("F1", "fine", "a", "3.11.7")))])
    table.main()
    assert "| fine | 3.11 |" in document.read_text(encoding="utf-8")


def test_the_document_has_its_place():
    text = table.DOCUMENT.read_text(encoding="utf-8")
    assert (1, 1) == (text.count(table.BEGIN), text.count(table.END))
