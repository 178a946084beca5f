"""Reading arguments: the unit wherever it is, and whether a candidate can take what the control takes."""

import inspect
from functools import partial
from inspect import Parameter
from types import SimpleNamespace
from unittest.mock import AsyncMock, Mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rollout_sdk import ConfigurationError
from rollout_sdk.engine.arguments import binder, getter, incompatibility, signature_of
from rollout_sdk.engine.likeness import kind_of


def rank(user, query="shoes", *, request=None, **more): ...


@pytest.mark.parametrize(
    ("spec", "args", "kwargs", "expected"),
    [
        ("user", ("u",), {}, "u"),
        ("user", (), {"user": "u"}, "u"),
        ("query", ("u",), {}, "shoes"),
        ("query", ("u", "hats"), {}, "hats"),
        ("request", ("u",), {}, None),
        ("request.user.id", ("u",), {"request": SimpleNamespace(user=SimpleNamespace(id=7))}, 7),
        ("request.user.id", ("u",), {"request": {"user": {"id": 7}}}, 7),
        ("request.user.id", ("u",), {"request": {"user": None}}, None),
        ("request.user.id", ("u",), {"request": object()}, None),
        ("extra", ("u",), {"extra": 3}, 3),
        (lambda user, **_: user.upper(), ("u",), {}, "U"),
    ],
)
def test_a_unit_is_found_by_name_path_or_callable(spec, args, kwargs, expected):
    assert expected == getter(spec, inspect.signature(rank), "rank")(args, kwargs)


def test_an_unknown_parameter_is_refused_with_the_known_ones():
    with pytest.raises(ConfigurationError, match=r"unit='usr' names no parameter of 'f'.*: user, query"):
        getter("usr", inspect.signature(lambda user, query: None), "f")


def test_arguments_are_bound_with_their_defaults():
    bound = binder(inspect.signature(rank))(("u",), {"x": 1})
    assert {"user": "u", "query": "shoes", "request": None, "more": {"x": 1}} == dict(bound)


FITS = [
    (lambda a: 0, lambda a: 0),
    (lambda a: 0, lambda a, b=1: 0),
    (lambda a: 0, lambda *args, **kwargs: 0),
    (lambda a, b=1: 0, lambda a, b=2: 0),
    (lambda *, a: 0, lambda a: 0),
    (lambda a, /: 0, lambda b: 0),
    (lambda a, /, b=1: 0, lambda x, b=1: 0),
    (lambda *args: 0, lambda *rest: 0),
    (lambda a, **kw: 0, lambda a, **more: 0),
]
FITS_NOT = [
    (lambda a: 0, lambda b: 0, "has 'b' where the control has 'a'"),
    (lambda a, b: 0, lambda b, a: 0, "has 'b' where the control has 'a'"),
    (lambda a: 0, lambda: 0, "does not take 'a'"),
    (lambda a: 0, lambda a, b: 0, "requires 'b'"),
    (lambda a: 0, lambda a, *, b: 0, "requires 'b'"),
    (lambda a: 0, lambda a, /: 0, "by keyword"),
    (lambda a: 0, lambda *, a: 0, "by position"),
    (lambda a, b=1: 0, lambda a, b: 0, "requires 'b', which the control does not"),
    (lambda *args: 0, lambda a: 0, r"\*args"),
    (lambda **kw: 0, lambda: 0, r"\*\*kw"),
]


@pytest.mark.parametrize(("control", "candidate"), FITS)
def test_a_candidate_that_takes_all_that_the_control_takes_fits(control, candidate):
    assert incompatibility(signature_of(control), signature_of(candidate)) is None


@pytest.mark.parametrize(("control", "candidate", "why"), FITS_NOT)
def test_a_candidate_that_does_not_is_told_why(control, candidate, why):
    import re

    assert re.search(why, incompatibility(signature_of(control), signature_of(candidate)) or "")


@pytest.mark.parametrize("name", ["words", "more"])
def test_a_parameter_that_is_many_arguments_is_refused(name):
    def model(*words, **more): ...

    with pytest.raises(ConfigurationError, match=rf"unit='{name}' names \*+{name} of 'model', which is many arguments"):
        getter(name, inspect.signature(model), "model")


def test_a_unit_that_is_neither_name_nor_callable_is_refused():
    with pytest.raises(ConfigurationError, match="unit=3 of 'model' is neither a name nor a callable"):
        getter(3, None, "model")


def test_no_unit_has_no_getter():
    assert getter(None, None, "model") is None


def test_without_a_signature_arguments_are_found_by_keyword():
    assert signature_of(type) is None
    assert {"a": 1} == binder(None)((2,), {"a": 1})
    assert 1 == getter("a", None, "type")((2,), {"a": 1})
    assert incompatibility(None, signature_of(len)) is None


@st.composite
def signatures(draw):
    """Any signature of up to three parameters, with or without *args and **kwargs."""
    kinds = [Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY]
    drawn = st.tuples(st.sampled_from("abc"), st.sampled_from(kinds), st.booleans())
    parameters, optional = [], False
    for name, kind, default in sorted(
        draw(st.lists(drawn, max_size=3, unique_by=lambda each: each[0])), key=lambda each: each[1]
    ):
        # After an optional parameter, those by position are optional, too.
        has_default = default if kind is Parameter.KEYWORD_ONLY else (optional := optional or default)
        parameters.append(Parameter(name, kind, default=0 if has_default else Parameter.empty))
    if draw(st.booleans()):
        parameters.append(Parameter("args", Parameter.VAR_POSITIONAL))
    if draw(st.booleans()):
        parameters.append(Parameter("kwargs", Parameter.VAR_KEYWORD))
    return inspect.Signature(sorted(parameters, key=lambda each: each.kind))


def function_of(signature):
    return eval(f"lambda {str(signature)[1:-1]}: 0")


def ways_to_call(signature):
    """So many arguments by position, and the rest by keyword: all of them, or only those that must be."""
    parameters = list(signature.parameters.values())
    by_position = [each for each in parameters if each.kind <= Parameter.POSITIONAL_OR_KEYWORD]
    more = 4 if any(each.kind is Parameter.VAR_POSITIONAL for each in parameters) else 0
    extra = {"z": 0} if any(each.kind is Parameter.VAR_KEYWORD for each in parameters) else {}
    for count in range(len(by_position) + more + 1):
        left = by_position[count:] + [each for each in parameters if each.kind is Parameter.KEYWORD_ONLY]
        named = [each for each in left if each.kind is not Parameter.POSITIONAL_ONLY]
        yield (0,) * count, {each.name: 0 for each in named if each.default is Parameter.empty}
        yield (0,) * count, {each.name: 0 for each in named} | extra


def fitting():
    """A control and a candidate that fits: one of several, or the same signature."""
    return st.tuples(signatures(), st.lists(signatures(), min_size=1, max_size=6)).map(
        lambda drawn: (drawn[0], next((each for each in drawn[1] if incompatibility(drawn[0], each) is None), drawn[0]))
    )


@settings(deadline=None, max_examples=300)
@given(fitting())
def test_a_candidate_that_fits_can_be_called_in_every_way_in_which_the_control_can(pair):
    control, candidate = pair
    assert incompatibility(control, candidate) is None
    ways = 0
    for args, kwargs in ways_to_call(control):
        try:
            function_of(control)(*args, **kwargs)
        except TypeError:
            continue
        ways += 1
        function_of(candidate)(*args, **kwargs)
    assert ways


class Model:
    func = "an attribute like any other"

    def __call__(self, x): ...


class Stream:
    def __call__(self, x):
        yield x


class Slow:
    async def __call__(self, x): ...


async def stream(x):
    yield x


@pytest.mark.parametrize(
    ("model", "kind"),
    [
        (len, "function"),
        (str.upper, "function"),
        (Model, "function"),
        (Model(), "function"),
        (Mock(), "function"),
        (Model().__call__, "function"),
        (partial(Stream()), "generator"),
        (Stream().__call__, "generator"),
        (partial(partial(Slow())), "coroutine"),
        (Slow().__call__, "coroutine"),
        (AsyncMock(), "coroutine"),
        (partial(stream), "async generator"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_the_kind_of_whatever_can_be_called_is_known(model, kind):
    assert kind == kind_of(model)
