"""The table of docs/reliability.md is made of figures that were measured, and of nothing else."""

import ast
import json
from pathlib import Path

import pytest

from tests.faults import table


@pytest.fixture
def figures(tmp_path):
    """Notes figures as test runs do: (row, text, what was measured, test, Python)."""

    def note(*noted):
        path = tmp_path / "figures"
        names = ("row", "text", "measured", "test", "python")
        path.write_text("".join(json.dumps(dict(zip(names, each, strict=True))) + "\n" for each in noted), encoding="utf-8")
        return path

    return note


def test_a_row_has_the_last_figure_of_each_of_its_tests_and_the_pythons_that_passed(figures):
    path = figures(
        ("F3", "{told} told", {"told": 7}, "a", "3.11.7"),
        ("F3", "{told} told", {"told": 8}, "a", "3.11.7"),
        ("F3", "{lost} lost", {"lost": 0}, "b", "3.11.7"),
        ("F3", "{told} told", {"told": 8}, "c", "3.11.7"),
        ("F3", "{told} told", {"told": 9}, "a", "3.12.1"),
    )
    assert "| F3 | eight threads submit into a full queue | 8 told; 0 lost | 3.11, 3.12 |" in table.table(path).splitlines()


def test_a_figure_adds_up_the_counts_of_all_parameters_has_the_longest_time_and_says_how_many_cases_there_were(figures):
    text = "{told} of {kind} kinds in {runs} runs, {took_s:.1f} s at most"
    path = figures(
        ("F3", text, {"told": 3, "kind": "x", "took_s": 0.5}, "a[x-1]", "3.11.7"),
        ("F3", text, {"told": 4, "kind": "x", "took_s": 0.2}, "a[x-2]", "3.11.7"),
        ("F3", text, {"told": 5, "kind": "y", "took_s": 0.1}, "a[y-1]", "3.11.7"),
    )
    assert "| 12 of 2 kinds in 3 runs, 0.5 s at most |" in table.table(path)


def test_a_row_that_was_not_measured_says_so(figures):
    lines = table.table(figures(("F1", "fine", {}, "a", "3.11.7"))).splitlines()
    assert "| F2 | every shadow hangs forever | not run |  |" in lines
    assert len(table.ROWS) == len(lines) - 2


def test_an_unknown_row_is_an_error(figures):
    with pytest.raises(SystemExit, match="measured 'F999'"):
        table.table(figures(("F999", "fine", {}, "a", "3.11.7")))


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
    monkeypatch.setattr(table.sys, "argv", ["table.py", str(figures(("F1", "fine", {}, "a", "3.11.7")))])
    table.main()
    assert "| fine | 3.11 |" in document.read_text(encoding="utf-8")


def test_the_document_has_its_place():
    text = table.DOCUMENT.read_text(encoding="utf-8")
    assert (1, 1) == (text.count(table.BEGIN), text.count(table.END))


@pytest.mark.parametrize(
    ("text", "measured", "why"),
    [
        ("20 of 20 calls", {}, "a number of its own"),
        ("{right} of 20 calls", {"right": 20}, "a number of its own"),
        ("all calls", {}, "no measured value"),
        ("{right} calls", {"wrong": 0}, "must be the same"),
        ("{right} calls", {"right": 1, "wrong": 0}, "must be the same"),
        ("{right} calls", {"right": None}, "not counts"),
    ],
)
def test_a_figure_that_was_not_measured_is_refused(text, measured, why):
    assert why in table.refusal(text, measured)


def test_quantiles_may_have_their_names():
    assert table.refusal("p50 and p99 {p50:.1f} and {p99:.1f} us in {runs} runs", {"p50": 1.0, "p99": 2.0}) is None


def functions(path):
    """The functions of a file that note figures, with their calls of `figure`."""
    for function in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            calls = [call for call in ast.walk(function) if isinstance(call, ast.Call) and ast.unparse(call.func) == "figure"]
            if calls:
                yield function, calls


def seen_by(function):
    """The names of a function that have what it has seen: its arguments, and what is not assigned a constant alone."""
    names = {each.arg for each in ast.walk(function) if isinstance(each, ast.arg)}
    for each in ast.walk(function):
        if isinstance(each, ast.Assign) and not isinstance(each.value, ast.Constant | ast.Tuple):
            names |= {name.id for target in each.targets for name in ast.walk(target) if isinstance(name, ast.Name)}
        elif isinstance(each, ast.Assign) and isinstance(each.value, ast.Tuple):
            for target in each.targets:
                pairs = zip(target.elts, each.value.elts, strict=True) if isinstance(target, ast.Tuple) else []
                counted = [target for target, value in pairs if not isinstance(value, ast.Constant)]
                names |= {name.id for target in counted for name in ast.walk(target) if isinstance(name, ast.Name)}
        elif isinstance(each, ast.AugAssign | ast.For | ast.AsyncFor | ast.NamedExpr | ast.comprehension):
            names |= {name.id for name in ast.walk(each.target) if isinstance(name, ast.Name)}
        elif isinstance(each, ast.withitem) and each.optional_vars is not None:
            names |= {name.id for name in ast.walk(each.optional_vars) if isinstance(name, ast.Name)}
    return names


def used_by(value):
    """The names that a value is made of."""
    return {each.id for each in ast.walk(value) if isinstance(each, ast.Name)}


def bound_in(function):
    """All names of a function's own."""
    arguments = {each.arg for each in ast.walk(function) if isinstance(each, ast.arg)}
    return arguments | {
        each.id for each in ast.walk(function) if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store)
    }


def faults_of(function, calls):
    """What is wrong with a test's figures, as the source has it."""
    seen, own = seen_by(function), bound_in(function)
    asserts = [(each.lineno, each.col_offset) for each in ast.walk(function) if isinstance(each, ast.Assert)]
    for call in calls:
        row, text = call.args[:2]
        if not (
            isinstance(row, ast.Constant) and row.value in table.ROWS and isinstance(text, ast.Constant) and len(call.args) == 2
        ):
            yield call.lineno, "row and text must stand in the source, and nothing else beside what was measured"
            continue
        if max(asserts, default=(0, 0)) > (call.lineno, call.col_offset):
            yield call.lineno, "it is noted before everything was asserted"
        values = [keyword.value for keyword in call.keywords]
        if not all(used_by(value) & own for value in values):
            yield call.lineno, "a value is nothing that the test has counted"
        if "{runs}" not in text.value and not any(used_by(value) & seen for value in values):
            yield call.lineno, "no value comes from what the test has seen"


def test_every_figure_in_the_source_is_measured_by_its_test_and_noted_when_all_is_asserted():
    found, number = [], 0
    for folder in (Path(__file__).parent, Path(__file__).parent.parent / "integration"):
        for path in sorted(folder.glob("test_*.py")):
            for function, calls in functions(path):
                number += len(calls)
                found += [(path.name, line, why) for line, why in faults_of(function, calls)]
    assert [] == found
    assert number > 100


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("figure('F1', f'{20} of 20')", "must stand in the source"),
        ("figure('F999', '{x}', x=len(y))", "must stand in the source"),
        ("figure('F1', '{x}', x=len(y)); assert y", "before everything"),
        ("figure('F1', '{x}', x=20)", "nothing that the test has counted"),
        ("figure('F1', '{x}', x=len(TABLE))", "nothing that the test has counted"),
        ("wrong = 0\n figure('F1', '{wrong}', wrong=wrong)", "comes from what the test has seen"),
        ("wrong, y = 0, len(z)\n figure('F1', '{wrong}', wrong=wrong)", "comes from what the test has seen"),
    ],
)
def test_a_figure_that_is_fixed_in_the_source_is_found(body, why, tmp_path):
    path = tmp_path / "test_x.py"
    path.write_text(f"def test(figure):\n y = work()\n {body}\n")
    ((function, calls),) = functions(path)
    assert any(why in said for _, said in faults_of(function, calls))
