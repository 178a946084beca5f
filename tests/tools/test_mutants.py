"""The faults that `make mutants` puts into the code."""

from pathlib import Path

import pytest

from tools.mutants.faults import mutants_of

PATH = Path("rollout_sdk/room/file.py")


def changed(source):
    return {mutant.applied(source.encode()).decode() for mutant in mutants_of(PATH, source.encode())}


@pytest.mark.parametrize(
    ("body", "faults"),
    [
        ("return a < b", ["return a <= b", "return None"]),
        ("return a is not b", ["return a is b", "return None"]),
        ("return a and b", ["return a or b", "return None"]),
        ("return a // b", ["return a / b", "return None"]),
        ("self.x = a", ["pass"]),
        ("a.close()", ["pass"]),
        ("raise ValueError(f'{1 + 1} of them')", ["pass"]),
        ("x = True", ["x = False"]),
        ("x = 20", ["x = (20 + 1)"]),
        # A number so large that adding 1 changes nothing.
        ("x = 1e300", ["x = (1e300 * 2)"]),
        ("x = 0.0", ["x = (0.0 + 1)"]),
        ("return a if b else 0", ["return a if (not (b)) else 0", "return a if b else (0 + 1)", "return None"]),
        ("x += 1", ["pass", "x += (1 + 1)"]),
    ],
)
def test_each_kind_of_fault(body, faults):
    source = f"def f(a, b):\n    {body}\n"
    assert {source.replace(body, fault) for fault in faults} == changed(source)


def test_what_people_read_and_what_types_say_is_no_fault():
    source = '''"""A module."""
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import decimal

__all__ = ["f"]

def f(a: Literal[1]) -> Literal[2]:
    """Text."""
    '''
    assert set() == changed(source)


def test_a_default_is_reached_by_what_calls_the_function_and_a_constant_by_what_uses_the_module():
    source = 'MOST = 3\n\ndef f(\n    a=1,\n    b=2,\n):\n    """Text."""\n    return a\n\ndef g(): return 5\n'
    found = {mutant.shown(source.encode()): mutant.runs_in for mutant in mutants_of(PATH, source.encode())}
    assert {text.partition(":")[2]: runs_in for text, runs_in in found.items()} == {
        "1: 3  ->  (3 + 1)": None,
        "4: 1  ->  (1 + 1)": 8,
        "5: 2  ->  (2 + 1)": 8,
        "8: return a  ->  return None": 8,
        "10: 5  ->  (5 + 1)": 10,
    }


def test_columns_are_bytes():
    source = "def f(a, b):\n    return g('\u00e4\u00f6') + (a <= b)\n"
    assert source.replace("<=", "<") in changed(source)


def test_every_fault_of_the_package_is_another_file_that_compiles():
    root = Path(__file__).resolve().parents[2]
    path = Path("rollout_sdk/resilience/breaker.py")
    source = (root / path).read_bytes()
    mutants = mutants_of(path, source)
    assert len(mutants) > 50
    for mutant in mutants:
        assert source != mutant.applied(source)
        compile(mutant.applied(source), str(path), "exec")


@pytest.mark.slow
def test_a_fault_is_noticed_where_a_test_fails_that_passes_without_it(run_python):
    root = Path(__file__).resolve().parents[2]
    result = run_python(
        """
        import tempfile
        from pathlib import Path
        from tools.mutants.faults import Mutant
        from tools.mutants.trial import Copy

        path, test = Path("rollout_sdk/analysis/text.py"), "tests/test_tables.py"
        with tempfile.TemporaryDirectory() as folder:
            copy = Copy(Path(folder))
            source = (copy.folder / path).read_bytes()
            (copy.folder / test).write_text("def test_it():\\n    from rollout_sdk.analysis import text\\n    assert text")
            faults = [Mutant(path, 1, len(source), len(source), new) for new in ("1 / 0", "1 + 0")]
            found = [copy.is_noticed(fault, [test], 1.0) for fault in faults]
            assert source == (copy.folder / path).read_bytes()
            (copy.folder / "tests/test_fails.py").write_text("def test_it():\\n    assert False")
            print([*found, copy.is_noticed(faults[0], ["tests/test_fails.py"], 1.0)])
        """,
        timeout=100,
        PYTHONPATH=str(root),
    )
    assert ("", "[True, False, None]\n") == (result.stderr, result.stdout)
