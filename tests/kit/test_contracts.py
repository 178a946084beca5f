"""The built-in strategies and comparison hold their contracts, and plugins that are broken on purpose fail theirs."""

import asyncio
import random
import threading
import time
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest

from rollout_sdk import ABTest, Canary, Comparison, Decision, Interleave, Merged, PluginError, Shadow
from rollout_sdk.comparators import compare
from rollout_sdk.testing import ComparatorContract, ObserverContract, RecordingPlugin, StrategyContract, SurroundContract


class TestABTest(StrategyContract):
    def make(self):
        return ABTest(0.3)

    def make_with_share(self, share):
        return ABTest(share)


class TestABTestOfThree(StrategyContract):
    candidates = ("v2", "v3")

    def make(self):
        return ABTest({"v2": 0.1, "v3": 0.25})


class TestCanary(StrategyContract):
    def make(self):
        return Canary(["20%", "50%"])

    def make_with_share(self, share):
        return Canary([share])


class TestShadow(StrategyContract):
    def make(self):
        return Shadow(0.2)


class TestInterleave(StrategyContract):
    def make(self):
        return Interleave(share=0.5)


class TestRecording(ObserverContract):
    def make(self):
        return RecordingPlugin()


class Default:
    name = "default"

    @staticmethod
    def rollout_compare(control, candidate):
        return compare(control, candidate)


class Lenient:
    """Knows numbers only, with a tolerance."""

    name = "lenient"

    def rollout_compare(self, control, candidate):
        if type(control) is type(candidate) is float:
            gap = abs(control - candidate)
            return Comparison(match=gap < 0.1, difference=gap if gap < 1e300 else None)
        return None


class TestLenient(ComparatorContract):
    def make(self):
        return Lenient()

    def outputs(self):
        return [0.0, 0.05, 1, 2.5, "text", None]


# A zoo of broken strategies: each has the names of the tests that must fail on it -----------------------------------------


class Base:
    name = "broken"

    def decide(self, request, *, candidate, propensity=None):
        share = 0.3 if propensity is None else propensity
        return Decision("candidate" if candidate else request.control, propensity=share if candidate else 1 - share)


class DrawsAnew(Base):
    def rollout_route(self, request):
        return self.decide(request, candidate=request.draw < 0.3)


class DrawsGlobally(Base):
    def rollout_route(self, request):
        return self.decide(request, candidate=random.random() < 0.3)


class HashesWithPython(Base):
    def rollout_route(self, request):
        return self.decide(request, candidate=hash(request.args[0]) % 10 < 3 if isinstance(request.args[0], str) else False)


class LiesAboutPropensity(Base):
    def rollout_route(self, request):
        return self.decide(request, candidate=request.point < 0.3, propensity=0.5)


class NamesNobody(Base):
    def rollout_route(self, request):
        return Decision("nobody")


class HasNoChance(Base):
    def rollout_route(self, request):
        return Decision("candidate", propensity=0.0)


class ReadsAFile(Base):
    def rollout_route(self, request):
        try:
            with Path("/dev/null").open() as file:
                file.read()
        except PermissionError:
            pass
        return self.decide(request, candidate=request.point < 0.3)


class Sleeps(Base):
    def rollout_route(self, request):
        time.sleep(0.002)
        return self.decide(request, candidate=request.point < 0.3)


class Remembers(Base):
    """The first units to come get the candidate: another process sees others first."""

    def __init__(self):
        self.seen = {}

    def rollout_route(self, request):
        chosen = self.seen.setdefault(request.digest, len(self.seen) < 600)
        return self.decide(request, candidate=chosen)


class Alternates(Base):
    def __init__(self):
        self.calls = 0

    def rollout_route(self, request):
        self.calls += 1
        return self.decide(request, candidate=self.calls % 10 < 3)


class Raises(Base):
    def rollout_route(self, request):
        raise KeyError("weekday")


class Shrinks(Base):
    """A share is a band in the middle, which moves as it grows."""

    def __init__(self, share=0.3):
        self.share = share

    def rollout_route(self, request):
        inside = 0.5 - self.share / 2 <= (request.point + self.share) % 1 < 0.5 + self.share / 2
        return self.decide(request, candidate=inside, propensity=min(max(self.share, 1e-9), 1 - 1e-9))


class MindsTheLoop(Base):
    def rollout_route(self, request):
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return self.decide(request, candidate=request.point < 0.3)
        return self.decide(request, candidate=request.point < 0.9, propensity=0.9)


STICKY = "test_a_unit_keeps_its_variant"
ELSEWHERE = "test_other_processes_decide_alike"
ZOO = {
    DrawsAnew: {STICKY, ELSEWHERE},
    DrawsGlobally: {STICKY, "test_it_leaves_the_applications_random_numbers_alone"},
    HashesWithPython: {ELSEWHERE},
    LiesAboutPropensity: {"test_shares_match_the_propensities"},
    NamesNobody: {"test_its_decisions_are_valid"},
    HasNoChance: {"test_its_decisions_are_valid"},
    ReadsAFile: {"test_it_does_no_io"},
    Sleeps: {"test_it_takes_microseconds"},
    Alternates: {STICKY, "test_threads_get_the_same_decisions"},
    Raises: {"test_its_decisions_are_valid"},
    Shrinks: {"test_a_larger_share_only_adds_units_to_the_candidate"},
    MindsTheLoop: {"test_it_decides_for_coroutines_too"},
}


def contract_of(broken):
    """A contract class of this module, so that another process can make it, too."""

    class Contract(StrategyContract):
        units = 1000

        def make(self):
            return broken()

        def make_with_share(self, share):
            return broken(share) if broken is Shrinks else None

    Contract.__qualname__ = f"Contract{broken.__name__}"
    globals()[Contract.__qualname__] = Contract
    return Contract


CONTRACTS = {broken: contract_of(broken) for broken in ZOO}


@pytest.mark.parametrize(
    ("broken", "test"), [(broken, test) for broken, tests in ZOO.items() for test in sorted(tests)], ids=str
)
def test_a_broken_strategy_fails_its_contract(broken, test):
    with pytest.raises(AssertionError):
        getattr(CONTRACTS[broken](), test)()


# What the control's fallback answers is no pass ------------------------------------------------------------------------------


class HasNoOpinion(Base):
    def rollout_route(self, request):
        return None


class NeverMerges(Base):
    def rollout_route(self, request):
        return Decision("mixed", blend=("control", "candidate"))

    def rollout_merge(self, request, outputs):
        return None


class Merges(NeverMerges):
    """Blends answers of a type of its own."""

    def rollout_merge(self, request, outputs):
        return Merged([each["name"] for each in outputs.values()])


CALLING = [
    name for name in dir(StrategyContract) if name.startswith("test_") and name != "test_it_has_a_name_and_fits_the_hooks"
]
EMPTY = (Raises, HasNoOpinion, NeverMerges)
CONTRACTS.update({broken: contract_of(broken) for broken in EMPTY})


@pytest.mark.parametrize("test", CALLING)
@pytest.mark.parametrize("broken", EMPTY)
def test_a_strategy_in_whose_place_the_control_answers_fails_every_test_that_calls(broken, test):
    contract = CONTRACTS[broken]()
    contract.units, contract.make_with_share = 100, lambda share: broken()
    with pytest.raises(AssertionError, match="the control answered in its place"):
        getattr(contract, test)()


class ByCountry(Base):
    def rollout_route(self, request):
        if request.arguments["country"] is None:
            return Decision("control", "override")
        return self.decide(request, candidate=request.point < 0.3)


class TestByCountry(StrategyContract):
    """Not every call has a country."""

    units = 1000

    def make(self):
        return ByCountry()

    def features(self, unit):
        return {"country": "NL"} if unit.endswith("7") else {}


class TestMerges(StrategyContract):
    units = 200

    def make(self):
        return Merges()

    def answer(self, variant):
        return {"name": variant}


def test_a_strategy_that_does_not_fit_the_hooks_fails_its_contract():
    class Misspelt(StrategyContract):
        def make(self):
            class Wrong(Base):
                def rollout_route(self, request):
                    return None

                def rollout_rooted(self, event):
                    return None

            return Wrong()

    with pytest.raises(PluginError, match="rollout_rooted"):
        Misspelt().test_it_has_a_name_and_fits_the_hooks()


# Observers ----------------------------------------------------------------------------------------------------------------


class Failing:
    def rollout_tripped(self, event):
        raise ValueError


class ChangingDecisions:
    def rollout_routed(self, event):
        object.__setattr__(event, "served", "changed")


class KeepingArguments:
    def __init__(self):
        self.kept = []

    def rollout_decided(self, request, decision):
        self.kept.append(request.arguments)


class SlowOnThePath:
    def rollout_decided(self, request, decision):
        time.sleep(0.006)


class Tagging:
    """Observes decisions only."""

    def rollout_decided(self, request, decision):
        self.last = decision.id


class TestTagging(ObserverContract):
    def make(self):
        return Tagging()


class Silent:
    def rollout_compare(self, control, candidate):
        return None


@pytest.mark.parametrize(
    ("observer", "test"),
    [
        (Failing, "test_it_takes_every_kind_of_event"),
        (Failing, "test_one_may_observe_several_rollouts"),
        (ChangingDecisions, "test_it_does_not_change_events"),
        (KeepingArguments, "test_it_keeps_no_payload"),
        (SlowOnThePath, "test_it_takes_every_kind_of_event"),
        (Silent, "test_it_fits_the_hooks"),
    ],
    ids=str,
)
def test_a_broken_observer_fails_its_contract(observer, test):
    class Contract(ObserverContract):
        def make(self):
            return observer()

    with pytest.raises(AssertionError):
        getattr(Contract(), test)()


# Comparators --------------------------------------------------------------------------------------------------------------


class Exact:
    def rollout_compare(self, control, candidate):
        return Comparison(match=bool(control == candidate))


class Never:
    def rollout_compare(self, control, candidate):
        return Comparison(match=False)


class Sorting:
    def rollout_compare(self, control, candidate):
        for output in (control, candidate):
            if isinstance(output, list):
                output.clear()
        return Comparison(match=True)


class Truth:
    def rollout_compare(self, control, candidate):
        return control == candidate


class Infinite:
    def rollout_compare(self, control, candidate):
        return Comparison(match=type(control) is type(candidate), difference=float("inf"))


class RaisingInShadows:
    """Does not find what it looks for in a call."""

    def rollout_compare(self, request, control, candidate):
        request.arguments["tolerance"]


class OtherwiseInShadows:
    def rollout_compare(self, control, candidate):
        in_test = threading.current_thread() is threading.main_thread()
        return Comparison(match=True, name="test" if in_test else "shadow")


class WithTolerance:
    name = "with-tolerance"

    def rollout_compare(self, request, control, candidate):
        if type(control) is type(candidate) is float:
            return Comparison(match=abs(control - candidate) <= request.arguments["tolerance"], name=self.name)
        return None


class TestWithTolerance(ComparatorContract):
    def make(self):
        return WithTolerance()

    def outputs(self):
        return [0.0, 0.05, 2.5, "text"]

    def arguments(self):
        return {"tolerance": 0.1}


class OneWay:
    def rollout_compare(self, control, candidate):
        return Comparison(match=str(control) <= str(candidate))


@pytest.mark.parametrize(
    ("comparator", "test"),
    [
        (Exact, "test_it_never_fails"),
        (Silent, "test_an_output_matches_its_copy"),
        (RaisingInShadows, "test_a_shadow_is_compared_by_it"),
        (OtherwiseInShadows, "test_a_shadow_is_compared_by_it"),
        (Never, "test_an_output_matches_its_copy"),
        (Sorting, "test_it_changes_no_output"),
        (Truth, "test_it_gives_a_comparison_or_none"),
        (Infinite, "test_it_gives_a_comparison_or_none"),
        (OneWay, "test_it_treats_both_alike"),
    ],
    ids=str,
)
def test_a_broken_comparator_fails_its_contract(comparator, test):
    class Contract(ComparatorContract):
        def make(self):
            return comparator()

    with pytest.raises((AssertionError, ValueError)):
        getattr(Contract(), test)()


# Surroundings -------------------------------------------------------------------------------------------------------------

state = threading.local()


@contextmanager
def of_thread(value):
    before = getattr(state, "value", None)
    state.value = value
    try:
        yield
    finally:
        state.value = before


class Carrying:
    def rollout_surround(self, request):
        return of_thread(getattr(state, "value", None))


class TestCarrying(SurroundContract):
    def make(self):
        return Carrying()

    def caller(self):
        return of_thread("caller's")

    def observe(self):
        return getattr(state, "value", None)


class CarryingWhereTold(Carrying):
    def rollout_surround(self, request):
        return super().rollout_surround(request) if request.arguments["device"] else None


class TestCarryingWhereTold(TestCarrying):
    def make(self):
        return CarryingWhereTold()

    def arguments(self):
        return {"device": "second"}


class CarryingNothing:
    def rollout_surround(self, request):
        return None


class LookingTooLate:
    @contextmanager
    def rollout_surround(self, request):
        with of_thread(getattr(state, "value", None)):
            yield


class Staying:
    def rollout_surround(self, request):
        value = getattr(state, "value", None)

        class Manager:
            def __enter__(self):
                state.value = value

            def __exit__(self, *_):
                return None

        return Manager()


class EnteredOnce:
    def rollout_surround(self, request):
        manager = of_thread(getattr(state, "value", None))

        class Manager:
            def __enter__(self):
                return manager.__enter__()

            def __exit__(self, *error):
                return manager.__exit__(*error)

        return Manager()


class Refusing:
    def rollout_surround(self, request):
        raise ValueError


@pytest.mark.parametrize(
    ("plugin", "test"),
    [
        (CarryingNothing, "test_a_shadow_runs_in_its_callers_state"),
        (LookingTooLate, "test_a_shadow_runs_in_its_callers_state"),
        (EnteredOnce, "test_a_shadow_runs_in_its_callers_state"),
        (Staying, "test_nothing_stays_in_the_threads"),
        (Refusing, "test_a_caller_without_a_state_passes_none_on"),
    ],
    ids=str,
)
def test_a_broken_surrounding_fails_its_contract(plugin, test):
    class Contract(TestCarrying):
        __test__ = False

        def make(self):
            return plugin()

    with of_thread(None), pytest.raises(AssertionError):
        getattr(Contract(), test)()


def test_a_caller_that_sets_nothing_fails_the_contract():
    class Contract(TestCarrying):
        __test__ = False

        def caller(self):
            return nullcontext()

    with pytest.raises(AssertionError, match="changes nothing"):
        Contract().test_a_caller_has_its_own_state()
