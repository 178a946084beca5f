"""Strategies of one's own, good and bad."""

import sys
from importlib import metadata
from importlib.metadata import EntryPoint

import pytest

from rollout_sdk import ABTest, Decision, MissingUnitError, Phase, PluginError, Routed, Runtime, StateError, hookimpl, rollout


@pytest.fixture
def decorate(runtime):
    def make(strategy, **options):
        candidates = {"v2": lambda user, text="": 2, "v3": lambda user, text="": 3}
        options = {"candidates": candidates, "unit": "user", "key": "model", "runtime": runtime, **options}

        @rollout(strategy=strategy, effects="read", **options)
        def model(user, text=""):
            return 1

        return model

    return make


class Fixed:
    """Gives what it was told, whatever the request."""

    name = "fixed"

    def __init__(self, decision):
        self.decisions = [decision]

    def rollout_route(self, request):
        if issubclass(type(self.decisions[0]), BaseException):
            raise self.decisions[0]
        return self.decisions[0]


class ByText:
    """Nothing but a class with rollout_route."""

    def rollout_route(self, request):
        return Decision("v2" if "new" in request.arguments["text"] else request.control, reason="text")


def test_a_class_with_rollout_route_is_a_strategy(decorate):
    model = decorate(ByText())
    assert (model("u-1", "something new"), model("u-1", text="old"), model("u-1")) == (2, 1, 1)


def test_a_strategy_without_a_name_is_recorded_under_its_classes(decorate):
    decision = decorate(ByText()).rollout.route("u-1", "new").decision
    assert (decision.strategy, decision.reason, decision.phase) == ("ByText", "text", "0:whole")


def test_a_class_is_built_where_an_instance_is_missing(decorate):
    assert decorate(ByText)("u-1", "new") == 2


def test_a_module_can_be_a_strategy(decorate, monkeypatch):
    import types

    module = types.ModuleType("house_rules")
    exec("import rollout_sdk\ndef rollout_route(request):\n    return rollout_sdk.Decision('v3')", vars(module))
    model = decorate(module)
    assert (model("u-1"), model.rollout.strategy_name) == (3, "house_rules")


def test_a_strategy_sees_the_request(decorate):
    seen = []

    class Looking:
        def rollout_route(self, request):
            seen.append(
                (
                    request.key,
                    request.control,
                    request.candidates,
                    request.has_unit,
                    dict(request.arguments),
                    request.draw == request.draw,
                )
            )

    decorate(Looking(), control_name="legacy")("u-1", "t")
    assert seen == [("model", "legacy", ("v2", "v3"), True, {"user": "u-1", "text": "t"}, True)]


def test_a_unit_has_the_same_point_bucket_and_digest_every_time(decorate):
    seen = set()

    class Looking:
        def rollout_route(self, request):
            assert 0 <= request.point < 1
            assert 0 <= request.draw < 1
            assert 0 <= request.bucket < 512
            seen.add((request.point, request.bucket, request.digest))

    model = decorate(Looking())
    for _ in range(10):
        model("u-1")
    assert len(seen) == 1


def test_a_strategy_may_shadow_what_it_likes(decorate, runtime):
    assert decorate(Fixed(Decision("v2", shadows=("v3",))))("u-1") == 2
    assert [(event.variant, event.end) for event in runtime.shadowed()] == [("v3", "ok")]


def test_a_strategy_with_a_plan_of_several_phases_can_be_promoted(decorate):
    class Planned(ByText):
        def rollout_phases(self, control, candidates):
            return [Phase("first", {"v2": 0.1, "v3": 0.0}, control), Phase("second", {"v2": 0.2, "v3": 0.1}, control)]

    model = decorate(Planned())
    model.rollout.promote()
    assert model.rollout.phase.name == "1:second"


def test_a_plan_may_look_at_the_candidates_alone(decorate):
    class Planned(ByText):
        def rollout_phases(self, candidates):
            return [Phase("only", dict.fromkeys(candidates, 0.25))]

    assert decorate(Planned()).rollout.phase.shares == {"v2": 0.25, "v3": 0.25}


def test_where_several_plugins_plan_the_first_plan_counts():
    class Plans:
        def __init__(self, *plans):
            self.name, self.plans = "/".join(map(str, plans)), plans

        def rollout_phases(self, control, candidates):
            return (self.plans and [Phase(name, dict.fromkeys(candidates, 0.1), control) for name in self.plans]) or None

    for plugins, expected in [(["one", "two"], "0:one"), ([None, "two"], "0:two"), (["one", None], "0:one")]:
        runtime = Runtime(plugins=[Plans(*filter(None, [plan])) for plan in plugins])
        model = rollout(candidate=lambda user: 1, strategy=Fixed(Decision("control")), unit="user", key="k", runtime=runtime)(
            lambda user: 0
        )
        assert expected == model.rollout.phase.name


def test_calls_of_a_strategy_that_only_splits_units_do_not_ask_it_one_by_one(decorate):
    class Counted(ABTest):
        asked = 0

        def rollout_route(self, request):
            Counted.asked += 1
            return super().rollout_route(request)

    asked = []
    code = ABTest.rollout_route.__code__
    for strategy in (ABTest({"v2": 0.2, "v3": 0.2}), Counted({"v2": 0.2, "v3": 0.2})):
        model, calls = decorate(strategy, key=type(strategy).__name__), []
        model("u-0")
        sys.setprofile(
            lambda frame, event, _, calls=calls: calls.append(1) if event == "call" and frame.f_code is code else None
        )
        try:
            for number in range(10):
                model(f"u-{number}")
        finally:
            sys.setprofile(None)
        asked.append(len(calls))
    # A subclass that decides otherwise is asked for each call.
    assert [0, 10] == asked
    assert 11 == Counted.asked


def test_a_strategy_without_steps_cannot_be_promoted(decorate):
    with pytest.raises(StateError, match=r"its strategy has no steps. Steps belong to a canary"):
        decorate(ByText()).rollout.promote()


# Bad ones ---------------------------------------------------------------------------------------------------------------


class Hostile:
    """Raises when anybody looks at it."""

    def __getattribute__(self, name):
        raise RuntimeError("do not look")

    def __repr__(self):
        raise RuntimeError("do not print")


BAD = {
    "nothing": None,
    "an unknown variant": Decision("v9"),
    "no decision": "v2",
    "a number": 7,
    "a mapping": {"variant": "v2"},
    "a class": Decision,
    "a routed": Routed(1, ()),
    "an unhashable variant": Decision(["v2"]),
    "no variant": Decision(None),
    "an unknown shadow": Decision("control", shadows=("v9",)),
    "the control as a shadow": Decision("v2", shadows=("control",)),
    "an unhashable shadow": Decision("control", shadows=(["v2"],)),
    "shadows that are no list": Decision("control", shadows=None),
    "an unknown blend": Decision("control", blend=("control", "v9")),
    "a blend without the control": Decision("mixed", blend=("v2", "v3")),
    "no propensity": Decision("v2", propensity=0.0),
    "a propensity over one": Decision("v2", propensity=1.5),
    "a propensity that is none": Decision("v2", propensity=float("nan")),
    "a propensity that is text": Decision("v2", propensity="high"),
    "a hostile object": Hostile(),
    "an exception": ValueError("no decision today"),
    "a key error": KeyError("user"),
    "an end of the process": SystemExit(3),
    "an endless recursion": RecursionError(),
    "a refusal of the unit": MissingUnitError("mine, not yours"),
}


@pytest.mark.parametrize("what", BAD)
def test_a_bad_decision_sends_the_call_to_the_control_with_reason_error(decorate, runtime, what):
    model = decorate(Fixed(BAD[what]))
    routed = model.rollout.route("u-1")
    assert (routed.value, routed.decision.variant, routed.decision.reason) == (1, "control", "error")
    assert model("u-1") == 1
    status = model.rollout.status()
    assert (status.calls, status.excluded, status.realised) == ({"control": 2}, {"error": 2}, {})


@pytest.mark.parametrize("what", [what for what in BAD if what != "nothing"])
def test_a_bad_decision_is_counted(decorate, runtime, what):
    decorate(Fixed(BAD[what]))("u-1")
    assert sum(runtime.faults.values()) == 1


def test_a_strategy_without_an_opinion_is_no_fault(decorate, runtime):
    decorate(Fixed(None))("u-1")
    assert runtime.faults == {}


def test_a_keyboard_interrupt_in_a_strategy_is_the_users(decorate):
    with pytest.raises(KeyboardInterrupt):
        decorate(Fixed(KeyboardInterrupt()))("u-1")


def test_a_bad_strategy_harms_no_other_rollout(decorate, runtime):
    bad = decorate(Fixed(SystemExit(1)))

    @rollout(candidate=lambda user: 2, strategy=Fixed(Decision("candidate")), unit="user", key="good", runtime=runtime)
    def good(user):
        return 1

    assert (bad("u-1"), good("u-1")) == (1, 2)


def test_a_strategy_that_fails_now_and_then_decides_the_rest(decorate):
    class Flaky:
        calls = 0

        def rollout_route(self, request):
            self.calls += 1
            if self.calls % 2:
                raise RuntimeError
            return Decision("v2")

    model = decorate(Flaky())
    assert [model("u-1") for _ in range(4)] == [1, 2, 1, 2]


@pytest.mark.parametrize("reason", [["x"], {"a": 1}, None, 7, object()], ids=lambda reason: type(reason).__name__)
def test_a_reason_that_is_no_text_is_no_reason_to_fail(decorate, runtime, reason):
    model = decorate(Fixed(Decision("v2", reason=reason)))
    assert model("u-1") in {1, 2}
    assert model.rollout.status().key == "model"


def test_fresh_decisions_for_every_call_are_taken_too(decorate):
    class Fresh:
        def rollout_route(self, request):
            return Decision("v2", propensity=(request.digest % 997 + 1) / 1_000)

    model = decorate(Fresh())
    assert {model(user) for user in range(1_000)} == {2}


# By name ----------------------------------------------------------------------------------------------------------------


@pytest.fixture
def install(monkeypatch, tmp_path):
    """Installs a module under a name of the entry-point group, as a distribution would."""
    real = metadata.entry_points
    extra = []
    monkeypatch.setattr(metadata, "entry_points", lambda group: [*real(group=group), *extra])
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def make(name, code, *, value=None):
        module = f"plugin_{name}_{len(extra)}"
        monkeypatch.delitem(sys.modules, module, raising=False)
        (tmp_path / f"{module}.py").write_text(code)
        extra.append(EntryPoint(name, value or module, "rollout_sdk"))

    return make


STRATEGY = """
import rollout_sdk
from rollout_sdk import Decision

class Always:
    name = "always"

    def rollout_route(self, request):
        return Decision("v2")

def rollout_strategies():
    return {"always": Always}
"""


def test_an_installed_strategy_is_found_by_its_name(decorate, install):
    install("always", STRATEGY)
    model = decorate("always")
    assert (model("u-1"), model.rollout.strategy_name) == (2, "always")


@pytest.mark.parametrize("value", ["plugin_always_0:Always", "plugin_always_0:instance"])
def test_an_entry_point_may_name_the_class_or_an_instance(decorate, install, value):
    install("always", STRATEGY + "\ninstance = Always()", value=value)
    assert decorate("always")("u-1") == 2


def test_an_entry_point_may_name_a_module_that_is_a_strategy(decorate, install):
    install("plain", "from rollout_sdk import Decision\ndef rollout_route(request):\n    return Decision('v3')")
    assert decorate("plain")("u-1") == 3


def test_what_is_installed_is_not_active(decorate, install):
    install("always", STRATEGY)
    assert decorate(ByText())("u-1") == 1


def test_a_strategy_that_is_not_asked_for_is_not_imported(decorate, install):
    install("broken", "raise RuntimeError('never import me')")
    assert decorate("ab", candidates={"candidate": lambda user, text="": 2})("u-1") in {1, 2}


@pytest.mark.parametrize(
    ("code", "value", "problem"),
    [
        (
            "import module_that_is_not_there",
            None,
            "cannot be imported: ModuleNotFoundError: No module named 'module_that_is_not_there'",
        ),
        ("raise SystemExit(3)", None, "cannot be imported: SystemExit: 3"),
        (
            "x = 1",
            "plugin_bad_0:missing",
            "cannot be imported: AttributeError: module 'plugin_bad_0' has no attribute 'missing'",
        ),
        ("def rollout_strategies(): raise OSError('away')", None, "failed to list its strategies: OSError: away"),
        ("def rollout_strategies(): return None", None, "failed to list its strategies: TypeError"),
        (
            "def rollout_strategies(): return {'other': object}",
            None,
            "offers no strategy 'bad'. Its rollout_strategies() must list",
        ),
        (
            "x = 1",
            None,
            "offers no strategy 'bad'. Its rollout_strategies() must list its entry-point name. It lists: nothing.",
        ),
    ],
)
def test_an_entry_point_that_does_not_work_is_an_error_when_decorating(decorate, install, code, value, problem):
    install("bad", code, value=value)
    with pytest.raises((PluginError, LookupError)) as caught:
        decorate("bad")
    assert problem in str(caught.value)


def test_two_distributions_under_one_name_are_an_error(decorate, install):
    install("always", STRATEGY)
    install("always", STRATEGY)
    with pytest.raises(PluginError, match=r"Plugin 'always' is installed more than once: plugin_always_0, plugin_always_1."):
        decorate("always")


def test_one_distribution_that_is_found_twice_is_one(decorate, install):
    install("always", STRATEGY)
    install("always", STRATEGY, value="plugin_always_0")
    assert decorate("always")("u-1") == 2


def test_a_blocked_name_is_not_loaded(decorate, install, monkeypatch):
    install("always", "raise RuntimeError('never import me')")
    monkeypatch.setenv("ROLLOUT_DISABLED_PLUGINS", "other, always ,")
    with pytest.raises(LookupError, match="Plugin 'always' is blocked by ROLLOUT_DISABLED_PLUGINS") as caught:
        decorate("always")
    assert "always" not in str(caught.value).partition("not blocked: ")[2]


def test_a_blocked_strategy_decides_nothing(decorate, monkeypatch):
    monkeypatch.setenv("ROLLOUT_DISABLED_PLUGINS", "fixed")
    model = decorate(Fixed(Decision("v2")))
    assert (model("u-1"), model.rollout.status().excluded) == (1, {"error": 1})


def test_hookimpl_marks_are_allowed_but_not_needed(decorate):
    class Marked:
        @hookimpl(tryfirst=True)
        def rollout_route(self, request):
            return Decision("v3")

    assert decorate(Marked())("u-1") == 3
