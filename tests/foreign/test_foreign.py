"""The harness of foreign suites can fail: it decorates what the table names, and sees every difference."""

import subprocess
import sys
from types import ModuleType

import pytest
from rollout_foreign import __main__ as harness
from rollout_foreign import decorating
from rollout_foreign.__main__ import Run, report, shows_nothing
from rollout_foreign.archives import unpacked
from rollout_foreign.comparing import compare
from rollout_foreign.decorating import Decorating
from rollout_foreign.suites import SUITES, Known, Suite

KNOWN = Known(test="t.py::test_b", settings=("default",), reason="b calls back")


def suite(**options):
    return Suite(project="some==1", tests=("tests",), **options)


def library(code, name="some_library"):
    module = ModuleType(name)
    exec(compile(code, f"/somewhere/{name}.py", "exec"), vars(module))
    return module


@pytest.fixture
def decorated(runtime):
    """A library under the decorator, and the decorating."""

    def make(code, setting="default", tests=("/elsewhere",), **options):
        module = library(code)
        putting = Decorating(suite(**options), setting, runtime, tests)
        putting.decorate_module(module)
        return module, putting

    return make


def test_that_a_test_which_fails_decorated_is_a_difference():
    result = compare({"a": "passed", "b": "passed"}, {"a": "passed", "b": "failed"}, [], "default")
    assert (result.passed, result.same, result.new) == (2, 1, {"b": "failed"})


def test_that_a_test_which_did_not_run_decorated_is_a_difference():
    assert compare({"a": "passed"}, {}, [], "default").new == {"a": "not run"}


def test_that_a_module_which_cannot_be_collected_decorated_is_a_difference():
    assert compare({"a": "passed"}, {"a": "passed", "t.py": "failed in collection"}, [], "default").new == {
        "t.py": "failed in collection"
    }


def test_that_a_test_which_fails_twice_is_a_difference_and_one_that_passes_alone_is_not(monkeypatch, capsys):
    result = compare(dict.fromkeys("abc", "passed"), {"a": "failed", "b": "failed"}, [], "default")
    alone = Run(outcomes={"a": "passed", "b": "failed"}, why={}, counts={}, took_s=1.0)
    monkeypatch.setattr(harness, "run", lambda name, setting, only: alone if set(only) == {"a", "b"} else None)
    assert harness.again("some", "default", result).new == {"b": "failed", "c": "not run"}
    assert "ONCE: a failed" in capsys.readouterr().out


def test_that_a_test_which_fails_bare_says_nothing():
    result = compare({"a": "failed", "b": "skipped"}, {"a": "passed", "b": "failed"}, [], "default")
    assert (result.passed, result.new) == (0, {})


@pytest.mark.parametrize(
    ("outcomes", "counts", "why"),
    [
        ({"a": "passed"}, {"cpu_s": 1.0}, []),
        ({"a": "passed"}, {}, ["The bare run did not end."]),
        ({"a": "failed"}, {"cpu_s": 1.0}, ["No test passes bare."]),
        ({"a": "passed", "t.py": "failed in collection"}, {"cpu_s": 1.0}, ["t.py cannot be collected bare: no strawberry"]),
    ],
)
def test_that_a_bare_run_from_which_tests_may_be_missing_shows_nothing(outcomes, counts, why):
    assert why == shows_nothing(Run(outcomes=outcomes, why={"t.py": "Error\nno strawberry"}, counts=counts, took_s=1.0))


@pytest.mark.parametrize(
    ("counts", "ends", "well"),
    [
        ({"calls": 1}, {"a": "passed"}, True),
        ({"calls": 1}, {"a": "failed"}, False),
        ({"calls": 0}, {"a": "passed"}, False),
        ({}, {"a": "passed"}, False),
        ({"calls": 1, "refused": {"m:f": "no"}}, {"a": "passed"}, False),
        ({"calls": 1, "faults": {"telemetry.spans: ValueError": 1}}, {"a": "passed"}, False),
    ],
)
def test_that_a_decorated_run_is_well_only_where_nothing_differs_and_nothing_failed(counts, ends, well):
    decorated = Run(outcomes=ends, why={}, counts=counts, took_s=1.0)
    assert report("toolz", "default", decorated, compare({"a": "passed"}, ends, [], "default")) == well


def test_that_a_suite_whose_archive_cannot_be_had_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    for _ in range(2):
        with pytest.raises(subprocess.CalledProcessError):
            unpacked(SUITES["toolz"], tmp_path)
        assert [path for path in tmp_path.iterdir() if path.suffix != ".download"] == []


def test_that_an_expected_failure_must_stay_one():
    assert compare({"a": "xfailed"}, {"a": "xpassed"}, [], "default").new == {"a": "xpassed"}


@pytest.mark.parametrize("test", ["t.py::test_b", "t.py::test_b[1]"])
def test_that_a_known_difference_is_not_new(test):
    result = compare({test: "passed"}, {test: "failed"}, [KNOWN], "default")
    assert (result.known, result.new, result.gone) == ([test], {}, [])


def test_that_a_difference_is_known_under_its_settings_alone():
    assert compare({"t.py::test_b": "passed"}, {"t.py::test_b": "failed"}, [KNOWN], "raise").new == {"t.py::test_b": "failed"}


def test_that_a_known_difference_does_not_cover_tests_with_longer_names():
    assert compare({"t.py::test_bc": "passed"}, {"t.py::test_bc": "failed"}, [KNOWN], "default").new == {
        "t.py::test_bc": "failed"
    }


def test_that_a_known_difference_which_no_longer_differs_is_reported():
    assert compare({"t.py::test_b": "passed"}, {"t.py::test_b": "passed"}, [KNOWN], "default").gone == [KNOWN]


def test_that_a_known_difference_whose_test_did_not_run_is_not_reported():
    assert compare({"a": "passed"}, {"a": "passed"}, [KNOWN], "default").gone == []


def test_that_what_the_table_names_goes_through_a_rollout(decorated, runtime):
    code = "def add(a, b): return a + b\ndef _hidden(): return 1\nclass Model:\n  @staticmethod\n  def predict(x): return x"
    module, putting = decorated(code, functions=("some_library:*", "some_library:Model.*"))
    assert (module.add(1, 2), module.Model.predict(3), module.Model().predict(4)) == (3, 3, 4)
    runtime.flush()
    calls = {key: sum(runtime.tally(key).decisions.values()) for key in putting.rollouts}
    assert calls == {"some_library.add#1": 1, "some_library.Model.predict#1": 2}


def test_that_a_star_leaves_private_names_and_methods_alone(decorated):
    code = "def _hidden(): pass\ndef add(): pass\nclass Model:\n  def predict(self): pass\n  def __call__(self): pass"
    _, putting = decorated(code, functions=("some_library:*",))
    assert putting.rollouts == ["some_library.add#1"]
    _, putting = decorated(code, functions=("some_library:Model.*",))
    assert putting.rollouts == ["some_library.Model.predict#1"]
    _, putting = decorated(code, functions=("some_library:_hidden", "some_library:*.__call__"))
    assert putting.rollouts == ["some_library._hidden#1", "some_library.Model.__call__#1"]


def test_that_what_must_not_run_twice_is_not_run_again_by_the_control(decorated):
    code = "runs = []\ndef buy(): runs.append(1); raise LookupError"
    for once, runs in (((), 2), (("some_library:buy",), 1)):
        module, _ = decorated(code, functions=("some_library:*",), once=once)
        with pytest.raises(LookupError):
            module.buy()
        assert len(module.runs) == runs


def test_that_what_must_not_run_twice_is_not_shadowed(decorated):
    module, putting = decorated("def buy(): pass\ndef look(): pass", "shadow", once=("*:buy",), functions=("*:look",))
    assert (hasattr(module.buy, "rollout"), hasattr(module.look, "rollout"), len(putting.rollouts)) == (False, True, 1)


def test_that_functions_of_tests_are_decorated_when_they_are_handed_over(decorated):
    code = "class Route:\n  def __init__(self, path, endpoint): self.endpoint = endpoint"
    module, putting = decorated(code, tests=("/somewhere/tests_of",), given=("some_library:Route.__init__ endpoint",))
    tests = library("def home(): return 1", "tests_of_some")
    first, second = module.Route("/", tests.home), module.Route("/", endpoint=tests.home)
    assert (first.endpoint is second.endpoint, len(putting.rollouts), first.endpoint()) == (True, 1, 1)
    assert module.Route("/", library("def home(): return 1", "not_a_test").home).endpoint.__module__ == "not_a_test"
    assert len(putting.rollouts) == 1


def test_that_functions_of_tests_are_shadowed_where_they_note_nothing(decorated):
    code = "class Route:\n  def __init__(self, endpoint): self.endpoint = endpoint"
    options = {"tests": ("/somewhere/tests_of",), "given": ("some_library:Route.__init__ endpoint",)}
    tests = library("def home(): return 1\ndef count(): return 1", "tests_of_some")
    for effects, shadowed in ((("*",), [False, False]), ((), [True, True]), (("*:count",), [True, False])):
        module, _ = decorated(code, "shadow", effects=effects, **options)
        assert [hasattr(module.Route(each).endpoint, "rollout") for each in (tests.home, tests.count)] == shadowed
    module, _ = decorated(code, "default", **options)
    assert hasattr(module.Route(tests.count).endpoint, "rollout")


def test_that_a_module_is_decorated_before_anything_is_imported_from_it(tmp_path, monkeypatch, runtime):
    (tmp_path / "late_library.py").write_text("def add(a, b): return a + b")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    Decorating(suite(functions=("late_library:add",)), "default", runtime, ()).install()
    try:
        from late_library import add
    finally:
        sys.modules.pop("late_library", None)
    assert (add(1, 2), add.rollout.key) == (3, "late_library.add#1")


def test_that_every_suite_decorates_something_and_every_known_difference_has_a_reason():
    assert [name for name, each in SUITES.items() if not (each.functions or each.once or each.given)] == []
    assert [known.test for each in SUITES.values() for known in each.known if not known.reason or not known.settings] == []


def test_that_ci_leaves_out_where_chance_decides_which_tests_differ():
    steady, unsteady = KNOWN, Known(test="t.py::test_c", settings=("shadow",), reason="c counts", sometimes=True)
    one = suite(known=(steady, unsteady))
    assert (one.is_steady_under("default"), one.is_steady_under("shadow")) == (True, False)


def test_that_an_unknown_setting_is_an_error(runtime):
    with pytest.raises(KeyError):
        decorating.Decorating(suite(), "nothing", runtime, ())
