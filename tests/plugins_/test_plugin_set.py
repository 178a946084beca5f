"""Plugins: what is accepted, in which order it is called, and how one is kept from harming another."""

import time
import types
from collections import Counter
from unittest.mock import Mock

import attrs
import pytest

from rollout_sdk import (
    ABTest,
    Canary,
    Comparison,
    ConfigurationError,
    Decision,
    PluginError,
    RecordedEvent,
    RoutedEvent,
    Runtime,
    Shadow,
    ShadowedEvent,
    TransitionedEvent,
    UnknownStrategyError,
    hookimpl,
    rollout,
)
from rollout_sdk.plugins import hookspecs
from rollout_sdk.plugins.manager import PluginSet

HOOKS = {
    "rollout_phases": ("control", "candidates"),
    "rollout_route": ("request",),
    "rollout_decided": ("request", "decision"),
    "rollout_merge": ("request", "outputs"),
    "rollout_compare": ("request", "control", "candidate"),
    "rollout_routed": ("event",),
    "rollout_shadowed": ("event",),
    "rollout_recorded": ("event",),
    "rollout_transitioned": ("event",),
    "rollout_tripped": ("event",),
    "rollout_arguments": ("request",),
    "rollout_surround": ("request",),
    "rollout_open_store": ("url",),
    "rollout_strategies": (),
}


@pytest.fixture
def failures():
    return []


@pytest.fixture
def plugins(failures):
    """A set of plugins; what they raise is in `failures`, by what failed."""

    def make(*given):
        return PluginSet(given, failed=lambda what, error: failures.append((what, type(error).__name__)))

    return make


def plugin(name, **hooks):
    """A plugin of a few functions."""
    module = types.ModuleType(name)
    vars(module).update({f"rollout_{hook}": function for hook, function in hooks.items()})
    return module


def refusal(plugins, *given):
    with pytest.raises(PluginError) as caught:
        plugins(*given)
    return str(caught.value)


# The specifications -----------------------------------------------------------------------------------------------------


def test_the_hooks_are_these_with_these_arguments():
    found = {name: value for name, value in vars(hookspecs).items() if name.startswith("rollout_")}
    assert {name: hook.__code__.co_varnames[: hook.__code__.co_argcount] for name, hook in found.items()} == HOOKS


@pytest.mark.parametrize("hook", HOOKS)
def test_every_hook_says_what_it_is_for(hook):
    assert getattr(hookspecs, hook).__doc__


@pytest.mark.parametrize(("hook", "arguments"), HOOKS.items())
def test_an_implementation_may_take_any_of_the_arguments_in_any_order(plugins, hook, arguments):
    for wanted in ([], list(arguments), list(reversed(arguments)), *([argument] for argument in arguments)):
        namespace = {}
        exec(f"def {hook}({', '.join(wanted)}):\n    return [{', '.join(wanted)}]", namespace)
        given = plugin("p", **{hook.removeprefix("rollout_"): namespace[hook]})
        [(name, call)] = plugins(given).implementations(hook)
        assert (name, call(*arguments)) == (f"p.{hook}", wanted)


def plugins_name(given):
    return getattr(given, "__name__", None) or type(given).__name__


# What is accepted -------------------------------------------------------------------------------------------------------


class Instance:
    def rollout_routed(self, event):
        return event


class Static:
    @staticmethod
    def rollout_routed(event):
        return event


class OfClass:
    @classmethod
    def rollout_routed(cls, event):
        return event


class Marked:
    @hookimpl(trylast=True)
    def rollout_routed(self, event):
        return event


class Child(Instance):
    pass


@attrs.frozen
class Slotted:
    name: str = "slotted"

    def rollout_routed(self, event):
        return event


class Optional:
    def rollout_routed(self, event, retries=3, *, loud=False):
        return event


@pytest.mark.parametrize(
    "given",
    [
        Instance(),
        Static(),
        Static,
        OfClass(),
        OfClass,
        Marked(),
        Child(),
        Slotted(),
        Optional(),
        plugin("module", routed=lambda event: event),
    ],
    ids=plugins_name,
)
def test_objects_modules_and_classes_of_static_hooks_are_plugins(plugins, given):
    [(_, call)] = plugins(given).implementations("rollout_routed")
    assert call(7) == 7


def test_a_module_may_import_the_package_and_other_things_named_like_it(plugins):
    import rollout_sdk

    given = plugin("module", sdk=rollout_sdk, config={"a": 1}, Strategy=ABTest, routed=lambda event: event)
    assert len(plugins(given).implementations("rollout_routed")) == 1


class Stranger:
    def run(self):
        pass


@pytest.mark.parametrize("given", [Stranger(), Stranger, object(), 7, "text", [], plugin("empty")], ids=plugins_name)
def test_what_has_no_hook_is_refused(plugins, given):
    assert refusal(plugins, given) == (
        f"Plugin {plugins_name(given)!r} has no hook. Functions whose names start with 'rollout_' are hooks. "
        f"The hooks are: {', '.join(sorted(HOOKS))}."
    )


@pytest.mark.parametrize("misspelt", ["rollout_rooted", "rollout_Route", "rollout_routed_", "rollout_"])
def test_a_misspelt_hook_is_refused(plugins, misspelt):
    given = plugin("typo", **{misspelt.removeprefix("rollout_"): lambda event: None})
    assert refusal(plugins, given).startswith(f"Plugin 'typo' has an unknown hook {misspelt!r}. ")


def coroutine_hook():
    async def routed(event):
        return None

    return routed


def generator_hook():
    def routed(event):
        yield event

    return routed


def async_generator_hook():
    async def routed(event):
        yield event

    return routed


@pytest.mark.parametrize(
    ("function", "problem"),
    [
        (lambda events: None, "does not fit the hook specifications"),
        (lambda event, extra: None, "does not fit the hook specifications"),
        (lambda *, event: None, "has a hook 'rollout_routed' that cannot be called: missing a required"),
        (coroutine_hook(), "has a hook 'rollout_routed' that is asynchronous or a generator"),
        (generator_hook(), "has a hook 'rollout_routed' that is asynchronous or a generator"),
        (async_generator_hook(), "has a hook 'rollout_routed' that is asynchronous or a generator"),
        (hookimpl(wrapper=True)(generator_hook()), "wraps hook 'rollout_routed'"),
        (hookimpl(hookwrapper=True)(generator_hook()), "wraps hook 'rollout_routed'"),
        (Mock(), "does not fit the hook specifications"),
        ([].append, "does not fit the hook specifications"),
    ],
)
def test_a_hook_that_could_never_work_is_refused(plugins, function, problem):
    assert f"Plugin 'bad' {problem}" in refusal(plugins, plugin("bad", routed=function))


def test_a_class_whose_hooks_need_an_instance_is_refused(plugins):
    assert refusal(plugins, Instance) == (
        "Plugin 'Instance' is a class, and its hook 'rollout_routed' needs an instance. "
        "A plugin is an object or a module. Pass an instance."
    )


def test_a_refused_plugin_is_an_error_when_decorating_and_when_making_a_runtime(runtime):
    with pytest.raises(PluginError):
        rollout(candidate=lambda: 2, strategy=ABTest(0.5), key="k", plugins=[Stranger()], runtime=runtime)(lambda: 1)
    with pytest.raises(PluginError):
        Runtime(plugins=[Stranger()])


def observe(plugins, hook, event):
    """Have all observers hear of an event, here."""
    for observer in plugins.observers(hook, lambda _: None):
        observer.observe(event)


# Order ------------------------------------------------------------------------------------------------------------------


def test_plugins_are_called_in_the_order_in_which_they_are_named(plugins):
    called = []
    three = [plugin(name, routed=lambda event, name=name: called.append(name)) for name in ("one", "two", "three")]
    observe(plugins(*three), "rollout_routed", "event")
    assert called == ["one", "two", "three"]


def test_tryfirst_and_trylast_outrank_the_order(plugins):
    called = []

    def calling(name):
        return lambda event: called.append(name)

    given = [
        plugin("last", routed=hookimpl(trylast=True)(calling("last"))),
        plugin("middle", routed=calling("middle")),
        plugin("first", routed=hookimpl(tryfirst=True)(calling("first"))),
    ]
    observe(plugins(*given), "rollout_routed", "event")
    assert called == ["first", "middle", "last"]


def test_the_first_result_that_is_not_none_is_the_result(plugins):
    given = [
        plugin("none", compare=lambda control: None),
        plugin("first", compare=lambda control: ("first", control)),
        plugin("second", compare=lambda control: ("second", control)),
    ]
    assert plugins(*given).first("rollout_compare")("request", "control", "candidate") == ("first", "control")


@pytest.mark.parametrize("result", [0, False, "", []])
def test_a_result_that_is_merely_false_is_a_result(plugins, result):
    given = [plugin("none", compare=lambda: None), plugin("false", compare=lambda: result), plugin("true", compare=lambda: 7)]
    assert plugins(*given).first("rollout_compare")(None, 1, 2) == result


def test_without_implementations_there_is_no_result(plugins):
    nothing = plugins(Instance())
    assert (None, False) == (nothing.first("rollout_merge")(1, 2), nothing.has("rollout_merge"))
    assert () == nothing.observers("rollout_shadowed", lambda _: None)


def test_a_plugin_that_is_named_twice_is_called_once(plugins):
    called = []
    given = plugin("once", routed=lambda event: called.append(event))
    observe(plugins(given, given), "rollout_routed", "event")
    assert called == ["event"]


def test_two_plugins_of_one_name_are_both_called(plugins):
    called = []
    pair = [plugin("same", routed=lambda event, number=number: called.append(number)) for number in (1, 2)]
    observe(plugins(*pair), "rollout_routed", "event")
    assert called == [1, 2]


# Isolation --------------------------------------------------------------------------------------------------------------


def raising(error):
    def hook():
        raise error

    return hook


@pytest.mark.parametrize(
    "error", [ValueError(), SystemExit(3), RecursionError(), StopIteration(), MemoryError(), Exception("x")]
)
def test_an_observer_that_raises_silences_no_other(plugins, failures, error):
    called = []
    given = [
        plugin("before", routed=lambda event: called.append(1)),
        plugin("bad", routed=raising(error)),
        plugin("after", routed=lambda event: called.append(2)),
    ]
    observe(plugins(*given), "rollout_routed", "event")
    assert (called, failures) == ([1, 2], [("bad.rollout_routed", type(error).__name__)])


@pytest.mark.parametrize("error", [ValueError(), SystemExit(3), RecursionError()])
@pytest.mark.parametrize("others", [0, 1, 2])
def test_a_plugin_that_raises_is_passed_over(plugins, failures, error, others):
    given = [
        plugin("bad", compare=raising(error)),
        *(plugin(f"good-{number}", compare=lambda: "found") for number in range(others)),
    ]
    assert plugins(*given).first("rollout_compare")(1, 2, 3) == ("found" if others else None)
    assert failures == [("bad.rollout_compare", type(error).__name__)]


def test_a_keyboard_interrupt_on_the_callers_path_is_the_users(plugins):
    given = plugin("slow", merge=raising(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        plugins(given).first("rollout_merge")("request", {})


@pytest.mark.parametrize("error", [KeyboardInterrupt(), GeneratorExit()])
def test_whatever_an_observer_raises_the_next_one_is_called(plugins, failures, error):
    """Observers run in threads of ours, which nobody interrupts."""
    called = []
    both = plugins(plugin("bad", routed=raising(error)), plugin("good", routed=lambda: called.append(1)))
    observe(both, "rollout_routed", "event")
    assert ([1], [("bad.rollout_routed", type(error).__name__)]) == (called, failures)


def test_a_blocked_plugin_is_registered_and_never_called(plugins, monkeypatch):
    monkeypatch.setenv("ROLLOUT_DISABLED_PLUGINS", " loud, other")
    called = []
    given = [plugin(name, routed=lambda event, name=name: called.append(name)) for name in ("loud", "quiet", "loud", "other")]
    observe(plugins(*given), "rollout_routed", "event")
    assert called == ["quiet"]


def test_a_blocked_default_comparison_leaves_shadows_uncompared(runtime, monkeypatch):
    monkeypatch.setenv("ROLLOUT_DISABLED_PLUGINS", "default-comparison")

    @rollout(candidate=lambda: 1, strategy=Shadow(1.0), effects="read", key="k", runtime=runtime)
    def model():
        return 1

    model()
    assert [event.comparison for event in runtime.shadowed()] == [None]


# In a rollout -----------------------------------------------------------------------------------------------------------


class Watching:
    name = "watching"

    def __init__(self):
        self.events = []

    def rollout_routed(self, event):
        self.events.append(event)

    rollout_shadowed = rollout_recorded = rollout_transitioned = rollout_routed


class Failing:
    name = "failing"

    def rollout_routed(self, event):
        raise RuntimeError("observer is ill")

    rollout_shadowed = rollout_recorded = rollout_transitioned = rollout_routed


def test_observers_of_a_rollout_are_told_of_every_kind_of_event(runtime):
    watching = Watching()

    @rollout(
        candidate=lambda user: 1,
        strategy=Canary(["0%", "5%"], shadow=1.0),
        effects="read",
        unit="user",
        key="k",
        plugins=[watching],
        runtime=runtime,
    )
    def model(user):
        return 1

    model("u-1")
    model.rollout.record("click", 1.0, unit="u-1")
    model.rollout.promote()
    assert runtime.flush(5.0)
    assert {type(event) for event in watching.events} == {RoutedEvent, ShadowedEvent, RecordedEvent, TransitionedEvent}


def test_a_failing_observer_costs_nobody_else_an_event(watch):
    watching = Watching()
    runtime = watch()

    @rollout(
        candidate=lambda user: 1,
        strategy=Shadow(1.0),
        effects="read",
        unit="user",
        key="k",
        plugins=[Failing(), watching],
        runtime=runtime,
    )
    def model(user):
        return 1

    assert [model("u-1") for _ in range(3)] == [1, 1, 1]
    assert len(runtime.routed()) == 3
    assert len([event for event in watching.events if isinstance(event, RoutedEvent)]) == 3
    assert runtime.faults == {("failing.rollout_routed", "RuntimeError"): 3, ("failing.rollout_shadowed", "RuntimeError"): 3}


def test_observers_of_one_rollout_are_not_told_of_another(runtime):
    watching = Watching()
    mine = rollout(candidate=lambda: 2, strategy=Shadow(0), effects="read", key="mine", plugins=[watching], runtime=runtime)(
        lambda: 1
    )
    other = rollout(candidate=lambda: 2, strategy=Shadow(0), effects="read", key="other", runtime=runtime)(lambda: 1)
    mine()
    other()
    assert runtime.flush(5.0)
    assert [event.decision.rollout for event in watching.events] == ["mine"]


def test_a_plugin_of_the_rollout_and_of_the_runtime_is_told_once(watch):
    runtime = watch()
    model = rollout(candidate=lambda: 2, strategy=Shadow(0), effects="read", key="k", plugins=runtime.plugins, runtime=runtime)(
        lambda: 1
    )
    model()
    assert len(runtime.routed()) == 1


def test_a_comparator_of_ones_own_comes_before_the_default(runtime):
    comparator = plugin(
        "lengths", compare=lambda control, candidate: Comparison(match=len(control) == len(candidate), name="length")
    )
    model = rollout(
        candidate=lambda: [3, 4], strategy=Shadow(1.0), effects="read", key="k", plugins=[comparator], runtime=runtime
    )(lambda: [1, 2])
    model()
    assert [event.comparison for event in runtime.shadowed()] == [Comparison(match=True, name="length")]


def test_a_comparator_that_raises_leaves_the_comparison_to_the_default(runtime):
    ill = plugin("ill", compare=raising(ValueError("no")))
    model = rollout(candidate=lambda: 2, strategy=Shadow(1.0), effects="read", key="k", plugins=[ill], runtime=runtime)(
        lambda: 1
    )
    model()
    assert [event.comparison for event in runtime.shadowed()] == [Comparison(match=False, difference=1.0, reason="value")]
    assert runtime.faults == {("ill.rollout_compare", "ValueError"): 1}


def test_another_plugin_may_decide_before_the_strategy(runtime):
    class Employees:
        @hookimpl(tryfirst=True)
        def rollout_route(self, request):
            return Decision("candidate", reason="employee") if request.arguments["user"].endswith("@us") else None

    options = {
        "candidate": lambda user: 2,
        "strategy": ABTest(0.0),
        "unit": "user",
        "key": "k",
        "plugins": [Employees()],
        "runtime": runtime,
    }

    @rollout(**options)
    def model(user):
        return 1

    assert (model("ann@us"), model("bob@them")) == (2, 1)


def test_an_unknown_plugin_by_name_is_a_clear_error(runtime):
    with pytest.raises(UnknownStrategyError, match=r"Plugin 'audit' is not installed. A name must be an entry point of group"):
        rollout(candidate=lambda: 2, strategy=ABTest(0.5), key="k", plugins=["audit"], runtime=runtime)(lambda: 1)


def test_a_name_where_a_list_of_plugins_belongs_is_a_clear_error():
    with pytest.raises(ConfigurationError, match=r"^plugins='audit' of Runtime is not a list. .* Write plugins=\[...\].$"):
        Runtime(plugins="audit")


class Strikes:
    """A strategy that fails, or takes its time, for its first calls."""

    name = "strikes"

    def __init__(self, *, failures=10**9, sleep_s=0.0):
        self.calls = 0
        self.failures = failures
        self.sleep_s = sleep_s

    def rollout_route(self, request):
        self.calls += 1
        if self.calls <= self.failures:
            if not self.sleep_s:
                raise ValueError
            time.sleep(self.sleep_s)
        return Decision("candidate")


@pytest.mark.parametrize(("sleep_s", "served"), [(0.0, "control"), (0.02, "candidate")])
def test_a_strategy_is_benched_after_three_strikes(sleep_s, served, watch):
    runtime = watch()
    strategy = Strikes(sleep_s=sleep_s)
    model = rollout(candidate=lambda: "candidate", strategy=strategy, key="k", runtime=runtime)(lambda: "control")
    assert [served] * 3 + ["control"] * 997 == [model() for _ in range(1000)]
    assert strategy.calls == 3
    assert model.rollout.status().faults["strikes.rollout_route", "SuspendedError"] == 1


def test_a_benched_strategy_gets_another_chance(watch, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("rollout_sdk.resilience.breaker.monotonic", lambda: now[0])
    strategy = Strikes(failures=3)
    model = rollout(candidate=lambda: "candidate", strategy=strategy, key="k", runtime=watch())(lambda: "control")
    assert [model() for _ in range(4)] == ["control"] * 4
    now[0] = 31.0
    assert [model(), model()] == ["candidate", "candidate"]


def test_two_strikes_now_and_then_bench_nobody(watch):
    class Sometimes:
        name = "sometimes"
        calls = 0

        def rollout_route(self, request):
            self.calls += 1
            if self.calls % 3:
                raise ValueError
            return Decision("candidate")

    strategy = Sometimes()
    model = rollout(candidate=lambda: "candidate", strategy=strategy, key="k", runtime=watch())(lambda: "control")
    assert Counter(model() for _ in range(300)) == {"control": 200, "candidate": 100}
    assert strategy.calls == 300


def test_a_benched_plugin_leaves_the_others_alone(watch):
    broken = Strikes()
    model = rollout(candidate=lambda: "candidate", strategy=broken, plugins=[Decides()], key="k", runtime=watch())(
        lambda: "control"
    )
    assert [model() for _ in range(100)] == ["candidate"] * 100
    assert broken.calls == 3


class Decides:
    name = "decides"

    @staticmethod
    def rollout_route(request):
        return Decision("candidate")


def test_a_comparison_may_take_its_time(watch):
    class Slow:
        name = "slow"
        calls = 0

        def rollout_compare(self, control, candidate):
            self.calls += 1
            time.sleep(0.01)
            return Comparison(match=True, name="slow")

    runtime, slow = watch(), Slow()
    model = rollout(candidate=lambda: 2, strategy=Shadow(1.0), effects="read", key="k", plugins=[slow], runtime=runtime)(
        lambda: 1
    )
    for _ in range(10):
        model()
    assert [event.comparison.name for event in runtime.shadowed()] == ["slow"] * 10
