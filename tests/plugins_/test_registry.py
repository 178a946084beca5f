"""Which functions are hooks, whose they are, and which installed plugins are found."""

import types
from collections import Counter
from importlib import metadata

import pytest

from rollout_sdk import Decision, PluginError, UnknownStrategyError, hookimpl
from rollout_sdk.plugins.discovery import load_named, make_strategy
from rollout_sdk.plugins.manager import PluginSet


@pytest.fixture
def failures():
    return []


@pytest.fixture
def plugins(failures):
    return lambda *given: PluginSet(given, failed=lambda what, error: failures.append((what, type(error).__name__)))


@pytest.mark.parametrize("takes", ["request", ""], ids=["with its argument", "with fewer"])
@pytest.mark.parametrize(("module", "calls"), [("rollout_sdk.somewhere", 8), ("rollout_sdk_of_others", 3), (None, 3)])
def test_a_hook_of_others_is_benched_and_one_of_the_sdk_is_not(plugins, failures, takes, module, calls):
    """A hook of the SDK raises only what a user's callback raises in one call."""
    called = []

    def raises():
        called.append(1)
        raise ValueError

    namespace = {"raises": raises, "__name__": module}
    exec(f"def rollout_route({takes}):\n    raises()", namespace)
    given = types.ModuleType("p")
    given.rollout_route = namespace["rollout_route"]
    route = plugins(given).first("rollout_route")
    assert [None] * 8 == [route("request") for _ in range(8)]
    assert calls == len(called) == Counter(failures)["p.rollout_route", "ValueError"]


@pytest.mark.parametrize(
    ("ends", "calls"),
    [("xxx.....", 3), (".xxx....", 4), ("....xxx.", 7), ("x.xxx...", 5), ("xx.xx.xx", 8), ("........", 8)],
)
def test_three_failures_in_a_row_bench_a_hook_whatever_came_before(plugins, ends, calls):
    called = []

    class Sometimes:
        def rollout_route(self, request):
            called.append(ends[len(called)])
            if called[-1] == "x":
                raise ValueError

    route = plugins(Sometimes()).first("rollout_route")
    for _ in ends:
        route("request")
    assert calls == len(called)


def test_a_marked_function_of_another_name_is_the_hook_that_it_names(plugins):
    class Renamed:
        @hookimpl(specname="rollout_routed")
        def heard(self, event):
            return event

        @hookimpl(specname="rollout_route")
        def choose(self):
            return Decision("candidate")

    given = plugins(Renamed())
    [(_, heard)] = given.implementations("rollout_routed")
    assert ("event", "candidate") == (heard("event"), given.first("rollout_route")("request").variant)


STRATEGY = """
from rollout_sdk import Decision

class Always:
    name = "always"

    def rollout_route(self, request):
        return Decision("v2")

def rollout_strategies():
    return {"always": Always}
"""


@pytest.mark.parametrize(
    ("error", "seen"),
    [("ImportError", PluginError), ("SystemExit(3)", PluginError), ("KeyboardInterrupt", KeyboardInterrupt)],
)
def test_a_plugin_that_cannot_be_imported_is_an_error_and_ctrl_c_is_the_users(monkeypatch, tmp_path, error, seen):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "ends_early.py").write_text(f"raise {error}")
    entry = metadata.EntryPoint("ends", "ends_early", "rollout_sdk")
    monkeypatch.setattr(metadata, "entry_points", lambda **_: [entry])
    with pytest.raises(seen):
        load_named("ends")


def test_a_distribution_that_cannot_be_read_spoils_no_other(monkeypatch, tmp_path):
    class Unreadable:
        @property
        def entry_points(self):
            raise ValueError("no metadata")

    def fail(**_):
        raise ValueError("no metadata")

    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "always_there.py").write_text(STRATEGY)
    (tmp_path / "always_there-1.dist-info").mkdir()
    (tmp_path / "always_there-1.dist-info" / "entry_points.txt").write_text("[rollout_sdk]\nalways = always_there\n")
    real = metadata.distributions
    monkeypatch.setattr(metadata, "entry_points", fail)
    monkeypatch.setattr(metadata, "distributions", lambda: [Unreadable(), *real()])
    assert "always" == make_strategy("always").name
    with pytest.raises(UnknownStrategyError, match=r"Installed and not blocked: .*always"):
        make_strategy("another")
