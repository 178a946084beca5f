"""Reading arguments: the unit wherever it is, and whether a candidate can take what the control takes."""

import inspect
from types import SimpleNamespace

import pytest

from rollout_sdk import ConfigurationError
from rollout_sdk.engine.arguments import binder, getter, incompatibility, signature_of


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
