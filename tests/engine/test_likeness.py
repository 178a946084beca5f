"""A wrapper has what callers of the function use: signature, defaults, methods; and it says what a function cannot have."""

import functools
import inspect
import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollout_sdk import ABTest, disable, enable, rollout
from rollout_sdk.engine.likeness import fits_of


def decorate(function, runtime, **options):
    return rollout(candidate=function, strategy=ABTest(1.0), key="likeness", runtime=runtime, **options)(function)


def plain(a, b=2): ...
def placed(a, b=2, /, c=3): ...
def named(a, *, b, c=3): ...
def many(a, *rest, b=2): ...
def anything(a, /, b=1, **rest): ...
def nothing(): ...
def everything(*args, **kwargs): ...


FUNCTIONS = [plain, placed, named, many, anything, nothing, everything]


@given(
    st.sampled_from(FUNCTIONS),
    st.lists(st.just(0), max_size=4),
    st.dictionaries(st.sampled_from(["a", "b", "c", "d"]), st.just(0), max_size=3),
)
def test_what_fits_is_what_python_accepts(function, args, kwargs):
    try:
        function(*args, **kwargs)
    except TypeError:
        accepted = False
    else:
        accepted = True
    assert accepted is fits_of(function)(tuple(args), kwargs)


def test_a_decorator_below_that_adds_an_argument_counts_for_what_it_takes(runtime):
    def with_session(function):
        @functools.wraps(function)
        def wrapper(*args):
            yield from function("session", *args)

        return wrapper

    @with_session
    def control(session, x):
        yield (session, x)

    assert [("session", 1)] == list(decorate(control, runtime)(1))


class Model:
    """A model as an object."""

    kind = "tree"

    def __init__(self):
        self.weight = 2

    def __call__(self, x):
        return x * self.weight

    def explain(self, x):
        return f"{x} * {self.weight}"

    @classmethod
    def load(cls):
        return cls()


class Sized(Model):
    @property
    def size(self):
        return 1


def test_the_methods_of_a_callable_object_are_kept(runtime):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        decorated = decorate(Model(), runtime)
    assert (4, "2 * 2", 2, "tree") == (decorated(2), decorated.explain(2), decorated.weight, decorated.kind)
    assert isinstance(decorated.load(), Model)


def test_what_a_function_cannot_have_is_warned_of(runtime):
    with pytest.warns(UserWarning, match=r"decorated Sized loses size\. .*it is __wrapped__") as caught:
        decorated = decorate(Sized(), runtime)
    assert (__file__, 1) == (caught[0].filename, decorated.__wrapped__.size)


def test_a_cache_can_still_be_cleared(runtime):
    cached = decorate(functools.lru_cache(lambda u: [u]), runtime)
    first = cached(1)
    assert first is cached(1)
    cached.cache_clear()
    assert first is not cached(1)


def test_a_partial_has_the_signature_and_defaults_that_are_left(runtime):
    decorated = decorate(functools.partial(lambda a, b, c=3, *, d=4: (a, b, c, d), 1), runtime)
    assert ("(b, c=3, *, d=4)", (3,), {"d": 4}) == (
        str(inspect.signature(decorated)),
        decorated.__defaults__,
        decorated.__kwdefaults__,
    )
    assert (1, 2, 3, 4) == decorated(2)


def test_generators_are_named_as_the_control_s(runtime):
    def stream(x):
        yield x

    assert stream(1).__qualname__ == decorate(stream, runtime)(1).__qualname__


def test_the_bare_way_through_has_the_same_kinds_and_refusals(runtime):
    def stream(x):
        yield x

    decorated = decorate(stream, runtime)
    disable()
    try:
        assert [1] == list(decorated(1))
        with pytest.raises(TypeError, match="missing 1 required positional argument"):
            decorated()
    finally:
        enable()
