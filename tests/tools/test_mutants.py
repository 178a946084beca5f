"""The faults that `make mutants` puts into the code."""

import tomllib
from pathlib import Path

import pytest

from tools.mutants.faults import drawn, mutants_of
from tools.mutants.unseen import shown, unseen

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
    found = mutants_of(PATH, source.encode())
    assert {(mutant.line, mutant.name, mutant.was, mutant.becomes, mutant.runs_in) for mutant in found} == {
        (1, "", "MOST = 3", "MOST = (3 + 1)", None),
        (4, "f", "a=1,", "a=(1 + 1),", 8),
        (5, "f", "b=2,", "b=(2 + 1),", 8),
        (8, "f", "return a", "return None", 8),
        (10, "g", "def g(): return 5", "def g(): return (5 + 1)", 10),
    }


def test_a_fault_is_known_by_its_class_and_function_and_by_its_first_line():
    source = "class A:\n    def f(self):\n        return g(\n            1,\n        )\n"
    keys = {mutant.key for mutant in mutants_of(PATH, source.encode())}
    assert keys == {(str(PATH), "A.f", "return g(", "return None"), (str(PATH), "A.f", "1,", "(1 + 1),")}


def test_what_is_printed_can_be_listed():
    for mutant in mutants_of(PATH, b"def f(a):\n    return a == '\"\\\\'"):
        ((path, (listed,)),) = tomllib.loads(shown(mutant)).items()
        assert mutant.key == (path, listed["name"], listed["was"], listed["becomes"])


def test_a_drawing_stays_when_other_lines_change_and_is_continued_by_a_larger_one():
    lines = [f"def f{number}(a):\n    return a + {number}\n" for number in range(40)]
    found = [mutants_of(PATH, "".join(chosen).encode()) for chosen in (lines, lines[20:])]
    keys = [[mutant.key for mutant in drawn(mutants, 1, 60)] for mutants in found]
    assert 60 == len(keys[0])
    assert keys[0][:25] == [mutant.key for mutant in drawn(found[0], 1, 25)]
    left = {mutant.key for mutant in found[1]}
    assert [key for key in keys[0] if key in left] == keys[1][: len(left.intersection(keys[0]))]
    assert keys[0] != [mutant.key for mutant in drawn(found[0], 2, 60)]


def test_each_listed_fault_can_be_put_into_the_code_and_has_a_reason():
    root = Path(__file__).resolve().parents[2]
    listed = unseen()
    possible = {path: {mutant.key for mutant in mutants_of(Path(path), (root / path).read_bytes())} for path, *_ in listed}
    assert [] == [key for key in listed if key not in possible[key[0]]]
    assert [] == [key for key, why in listed.items() if len(why.split()) < 4]


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

        path, test = Path("rollout_sdk/analysis/text.py"), "tests/test_tables.py::test_it"
        with tempfile.TemporaryDirectory() as folder:
            copy = Copy(Path(folder))
            source = (copy.folder / path).read_bytes()
            tests = copy.folder / "tests"
            (tests / "test_tables.py").write_text("def test_it():\\n    import rollout_sdk.analysis.text")
            faults = [Mutant(path, 1, "", "", "", len(source), len(source), new) for new in ("1 / 0", "1 + 0")]
            found = [copy.is_noticed(fault, [test], {test: 1.0}) for fault in faults]
            assert source == (copy.folder / path).read_bytes()
            fails = "tests/test_fails.py::test_it"
            (tests / "test_fails.py").write_text("def test_it():\\n    assert False")
            found += [copy.is_noticed(faults[0], names, dict.fromkeys(names, 1.0)) for names in ([fails], [fails, test])]
            hangs = Mutant(path, 1, "", "", "", len(source), len(source), "import time; time.sleep(1_000)")
            found.append(copy.is_noticed(hangs, [test, fails], {test: 1.0, fails: 1.0}))
            print(found)
        """,
        timeout=200,
        PYTHONPATH=str(root),
    )
    said = "tests/test_fails.py::test_it fails, or takes too long, without a fault\n"
    assert (2 * said, "[True, False, False, True, True]\n") == (result.stderr, result.stdout)
