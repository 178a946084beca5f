"""What is decorated looks and behaves as it did."""

import functools
import inspect
import typing

import pytest

import rollout_sdk
from rollout_sdk import ABTest, Canary, Interleave, MissingUnitError, rollout


def better(*args, **kwargs):
    return 2


async def better_coroutine(*args, **kwargs):
    return 2


def better_generator(*args, **kwargs):
    yield 2


async def better_stream(*args, **kwargs):
    yield 2


def score(user: str, query: str = "q", *, size: int = 10) -> "list[int]":
    """How much a user likes it."""
    return 1


async def coroutine(user: str) -> int:
    return 1


def generator(user: str):
    yield 1


async def stream(user: str):
    yield 1


KINDS = [(score, better), (coroutine, better_coroutine), (generator, better_generator), (stream, better_stream)]


@pytest.fixture
def decorate(runtime):
    def make(function, candidate=better, **options):
        return rollout(**{"candidate": candidate, "strategy": ABTest(1.0), "runtime": runtime, **options})(function)

    return make


@pytest.mark.parametrize(("function", "candidate"), KINDS, ids=lambda function: function.__name__)
def test_a_decorated_function_is_of_the_kind_that_it_was(decorate, function, candidate):
    decorated = decorate(function, candidate)
    for is_kind in (inspect.isfunction, inspect.iscoroutinefunction, inspect.isgeneratorfunction, inspect.isasyncgenfunction):
        assert is_kind(decorated) == is_kind(function)


def test_name_documentation_signature_annotations_and_attributes_are_kept(decorate):
    def annotated(user: "str") -> int:
        """Mine."""

    annotated.version = 7
    decorated = decorate(annotated)
    for name in ("__module__", "__name__", "__qualname__", "__doc__", "__annotations__", "version"):
        assert getattr(decorated, name) == getattr(annotated, name)
    assert inspect.signature(decorated) == inspect.signature(annotated)
    assert typing.get_type_hints(decorated) == {"user": str, "return": int}
    assert decorated.__wrapped__ is annotated


def test_a_decorated_function_leaves_the_original_as_it_was(decorate):
    decorated = decorate(score)
    assert (decorated("u-1"), score("u-1")) == (2, 1)
    assert not hasattr(score, "rollout")


class Model:
    bonus = 10

    def method(self, user):
        return self.bonus

    def better(self, user):
        return self.bonus + 1


def test_a_method_and_its_candidate_see_the_object(decorate):
    Bound = type("Bound", (Model,), {"method": decorate(Model.method, Model.better, unit="user")})
    model = Bound()
    model.bonus = 20
    assert (model.method("u-1"), Bound.method(model, "u-1")) == (21, 21)
    assert model.method.rollout.route(model, "u-1").value == 21


def test_a_bound_method_can_be_decorated(decorate):
    model = Model()
    assert decorate(model.method, model.better, unit="user")("u-1") == 11


@pytest.mark.parametrize("outside", [True, False], ids=["outside", "inside"])
@pytest.mark.parametrize("wrap", [classmethod, staticmethod])
def test_class_and_static_methods_are_decorated_outside_and_inside(decorate, wrap, outside):
    def candidate(*args):
        return ("candidate", *args)

    def control(*args):
        return ("control", *args)

    method = decorate(wrap(control), candidate) if outside else wrap(decorate(control, candidate))
    Holder = type("Holder", (), {"method": method})
    owner = (Holder,) if wrap is classmethod else ()
    assert Holder.method("u-1") == Holder().method("u-1") == ("candidate", *owner, "u-1")
    assert Holder.method.rollout.key


def test_a_candidate_may_be_a_class_or_static_method_itself(decorate):
    assert decorate(score, staticmethod(better))("u-1") == 2


def test_partials_callable_objects_and_lambdas_can_be_decorated(decorate):
    class Caller:
        """Calls."""

        def __call__(self, user):
            return 1

    for function in (functools.partial(score, query="x"), Caller(), lambda user: 1):
        decorated = decorate(function, key=f"key-{type(function).__name__}")
        assert decorated("u-1") == 2
        assert decorated.__wrapped__ is function
        assert inspect.signature(decorated) == inspect.signature(function)


def test_a_function_that_is_cached_can_be_decorated(decorate):
    cached = functools.lru_cache(score)
    assert decorate(cached)("u-1") == 2


# The switch -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def disabled():
    rollout_sdk.disable()
    yield
    rollout_sdk.enable()


@pytest.mark.parametrize("strategy", [ABTest(1.0), Canary(["100%"]), Interleave()], ids=lambda strategy: strategy.name)
def test_while_switched_off_a_call_is_its_control_and_its_decision_says_so(decorate, runtime, disabled, strategy):
    decorated = decorate(lambda user: [1], lambda user: [2], strategy=strategy, effects="read", unit="user", key="off")
    routed = decorated.rollout.route("u-1")
    assert (decorated("u-1"), routed.value, routed.decision.variant, routed.decision.reason) == (
        [1],
        [1],
        "control",
        "disabled",
    )
    assert runtime.routed() == []


def test_while_switched_off_nothing_of_ours_can_fail(decorate, disabled):
    class Failing:
        def rollout_route(self, request):
            raise AssertionError("nobody asks a strategy")

    def no_unit(user):
        raise AssertionError("nobody asks for a unit")

    decorated = decorate(lambda user: 1, strategy=Failing(), unit=no_unit, missing_unit="raise", key="off")
    assert (decorated(None), decorated.rollout.route(None).value) == (1, 1)


def test_while_switched_off_a_batch_is_one_call_of_the_control(decorate, disabled):
    decorated = decorate(lambda texts: [1 for _ in texts], lambda texts: [2 for _ in texts], batch="texts", key="off")
    routed = decorated.rollout.route(["a", "b"])
    assert (routed.value, routed.decision.reason) == ([1, 1], "disabled")


def test_switched_on_again_everything_is_as_before(decorate):
    decorated = decorate(score, unit="user", missing_unit="raise")
    rollout_sdk.disable()
    rollout_sdk.enable()
    assert decorated("u-1") == 2
    with pytest.raises(MissingUnitError):
        decorated(None)
