"""What `import rollout_sdk` loads, and what comes later: a program pays for what it uses, and no call pays for an import."""

import ast
import copy
import pickle
from pathlib import Path

import pytest

import rollout_sdk

SOURCE = Path(rollout_sdk.__file__).read_text()


def test_the_lists_of_public_names_are_alike():
    """The names that type checkers see, those that are exported, and those that are imported on demand."""
    (static,) = (
        node for node in ast.parse(SOURCE).body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    )
    seen = {alias.name: each.module.removeprefix("rollout_sdk.") for each in static.body for alias in each.names}
    assert seen == rollout_sdk._HOME
    assert {*rollout_sdk.__all__, "__version__"} == set(seen)


def test_importing_the_sdk_loads_no_module_of_it_and_none_of_its_dependencies(run_python):
    result = run_python("""
        import sys
        before = set(sys.modules)
        import rollout_sdk
        print(sorted(set(sys.modules) - before - {"importlib", "typing", "warnings"}))
    """)
    found = set(ast.literal_eval(result.stdout))
    assert "rollout_sdk" in found
    assert {name.partition(".")[0] for name in found} & {
        "pluggy",
        "attr",
        "attrs",
        "structlog",
        "opentelemetry",
        "asyncio",
    } == set()
    assert {name for name in found if name.startswith("rollout_sdk.")} == set()


MAY_NOT_LOAD = """
    rollout_sdk.analysis rollout_sdk.charts rollout_sdk.cli rollout_sdk.control.stored rollout_sdk.control.stores.sqlite
    rollout_sdk.comparators.answers rollout_sdk.comparators.fields rollout_sdk.comparators.rankings
    rollout_sdk.dashboard rollout_sdk.doctor rollout_sdk.journal.reader
    rollout_sdk.runtime.external rollout_sdk.interleaving rollout_sdk.page
    rollout_sdk.strategies.interleave rollout_sdk.testing
    csv email gzip importlib.metadata importlib.resources multiprocessing sqlite3 tempfile tomllib zipfile zoneinfo
"""


def test_an_ab_test_loads_nothing_that_it_does_not_use(run_python):
    result = run_python(f"""
        import sys
        # Other packages' start-up files may import some of these.
        import pluggy, attrs, structlog, opentelemetry.trace, opentelemetry.metrics
        before = set(sys.modules)
        from rollout_sdk import ABTest, rollout
        model = rollout(candidate=lambda user: user, strategy=ABTest(0.5), unit="user", key="m")(lambda user: user)
        model("u-1")
        print(sorted((set(sys.modules) - before) & set({MAY_NOT_LOAD!r}.split())))
    """)
    assert ("[]\n", "") == (result.stdout, result.stderr)


def test_no_call_pays_for_an_import_of_the_sdk(run_python):
    result = run_python("""
        import sys
        from rollout_sdk import ABTest, Canary, Interleave, Runtime, Shadow, rollout
        runtime = Runtime(journal="journal")
        for strategy in ABTest(0.5), Canary(["50%"]), Shadow(rate=1.0), Interleave():
            key = type(strategy).__name__
            effects = {"effects": "read"} if key == "Shadow" else {}
            decorate = rollout(
                candidate=lambda user: ["b", "a"], strategy=strategy, unit="user", key=key, runtime=runtime, **effects
            )
            model = decorate(lambda user: ["a", "b"])
            before = set(sys.modules)
            for number in range(50):
                model(f"u-{number}")
            print(key, sorted(name for name in set(sys.modules) - before if name.startswith("rollout_sdk")))
        runtime.close()
    """)
    assert ("ABTest []\nCanary []\nShadow []\nInterleave []\n", "") == (result.stdout, result.stderr)


def test_the_sdk_has_no_other_name():
    with pytest.raises(AttributeError, match="module 'rollout_sdk' has no attribute 'rollback'"):
        rollout_sdk.rollback


def test_names_are_listed_before_they_are_imported(run_python):
    result = run_python("""
        import rollout_sdk
        print(sorted({*rollout_sdk.__all__, "__version__"} - set(dir(rollout_sdk))), "Canary" in vars(rollout_sdk))
        rollout_sdk.Canary
        print("Canary" in vars(rollout_sdk))
    """)
    assert ("[] False\nTrue\n", "") == (result.stdout, result.stderr)


def test_what_was_pickled_is_read_by_a_process_that_has_imported_nothing_yet(run_python):
    decision = rollout_sdk.Decision("v2", "split", 0.5)
    assert decision == copy.copy(decision)
    result = run_python(f"""
        import pickle
        print(pickle.loads({pickle.dumps(decision)!r}).variant)
    """)
    assert ("v2\n", "") == (result.stdout, result.stderr)
