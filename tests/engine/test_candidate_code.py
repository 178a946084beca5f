"""The digest of a candidate's code: equal wherever the same code runs, another after an edit, and cheap and safe to compute."""

import functools
import math
import pickle
import sys
import textwrap

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollout_sdk.engine.candidate_code import code_of


def compiled(source, name="f", *, file="here.py", line=1, **names):
    """A function of a source text, as if it stood in this file at this line."""
    names = {"functools": functools, **names}
    exec(compile("\n" * (line - 1) + textwrap.dedent(source), file, "exec"), names)
    return names[name]


def of(candidate):
    return code_of({"candidate": candidate})


def of_source(source, **options):
    return of(compiled(source, **options))


# What is equal, and what is not -----------------------------------------------------------------------------------------

LONG = "def f(u):\n    {doc}\n    return {{" + ", ".join(f"u + {number}.5: {number}" for number in range(300)) + "}}[u]"

SAME = {
    "a docstring that was edited": ("def f(u):\n    'One.'\n    return 1", "def f(u):\n    'Another.'\n    return 1"),
    "a docstring that was added": (
        "def f(u):\n    if u:\n        return 1",
        "def f(u):\n    'One.'\n    if u:\n        return 1",
    ),
    "a docstring of a function with many constants": (LONG.format(doc=""), LONG.format(doc="'One.'")),
    "a docstring of a function inside": (
        "def f(u):\n    def g(x):\n        if x: return u\n    return g(u)",
        "def f(u):\n    def g(x):\n        'One.'\n        if x: return u\n    return g(u)",
    ),
    "comments and empty lines": ("def f(u):\n    return [u,\n 1]", "def f(u):\n\n    # Why.\n    return [u, 1]"),
    "a local variable's name": ("def f(u):\n    x = u\n    return x", "def f(u):\n    y = u\n    return y"),
    "its own name": ("def f(u): return 1", "def g(u): return 1\nf = g"),
    "annotations": ("def f(u): return 1", "def f(u: int) -> int: return 1"),
    "a global that it calls by name": (
        "def g(u): return 1\ndef f(u): return g(u)",
        "def g(u): return 2\ndef f(u): return g(u)",
    ),
    "what an object in its closure holds": (
        "class A:\n    x = 1\ndef make(a): return lambda u: a\nf = make(A())",
        "class A:\n    x = 2\ndef make(a): return lambda u: a\nf = make(A())",
    ),
    "the order of a dictionary": (
        "def make(a): return lambda u: a\nf = make({'a': 1, 'b': [2]})",
        "def make(a): return lambda u: a\nf = make({'b': [2], 'a': 1})",
    ),
    "the control beside it": ("def control(u): return 0\ndef f(u): return 1", "def control(u): return 5\ndef f(u): return 1"),
}


@pytest.mark.parametrize("what", SAME)
def test_the_same_code_has_the_same_digests(what):
    one, other = SAME[what]
    assert of_source(one) == of_source(one, file="elsewhere/there.py", line=400) == of_source(other)


CLOSED = "def make(x):\n    def f(u):\n        return x\n    return f\nf = make({})"
WRAPPED = """
    def timed(function):
        @functools.wraps(function)
        def inner(u):
            return function(u)
        return inner
    def g(u): return {}
    f = timed(g)
"""

COMPILED = {
    "a constant": ("def f(u): return 0.5", "def f(u): return 0.25"),
    "the type of a constant": ("def f(u): return 1", "def f(u): return 1.0"),
    "one that equals True": ("def f(u): return 1", "def f(u): return True"),
    "the sign of zero": ("def f(u): return 0.0", "def f(u): return -0.0"),
    "a constant among many": (LONG.format(doc=""), LONG.format(doc="").replace("299.5", "299.25")),
    "a set of constants": ("def f(u): return u in {'a', 'b'}", "def f(u): return u in {'a', 'c'}"),
    "an operator": ("def f(u): return u + 1", "def f(u): return u - 1"),
    "a name that it calls": ("def f(u): return min(u)", "def f(u): return max(u)"),
    "an attribute": ("def f(u): return u.a", "def f(u): return u.b"),
    "a lambda inside": ("def f(u): return (lambda: 1)()", "def f(u): return (lambda: 2)()"),
    "a comprehension": ("def f(u): return [x for x in u]", "def f(u): return [x + 1 for x in u]"),
    "what is caught": (
        "def f(u):\n    try: return u\n    except KeyError: return 1",
        "def f(u):\n    try: return u\n    except OSError: return 1",
    ),
    "what is tried": (
        "def f(u):\n    try:\n        u = u()\n        u = u()\n    except KeyError: u = 1\n    return u",
        "def f(u):\n    u = u()\n    try:\n        u = u()\n    except KeyError: u = 1\n    return u",
    ),
    "its kind": ("def f(u): return 1", "async def f(u): return 1"),
    "a keyword of a call": ("def f(u): return sorted(u, key=min)", "def f(u): return sorted(u, default=min)"),
    "the function that a wrapper says that it wraps": (WRAPPED.format(1), WRAPPED.format(2)),
    "a cached function": (
        "@functools.lru_cache\ndef f(u): return 1",
        "@functools.lru_cache\ndef f(u): return 2",
    ),
    "the function of a partial": (
        "def g(u): return 1\nf = functools.partial(g)",
        "def g(u): return 2\nf = functools.partial(g)",
    ),
    "a method": (
        "class A:\n    def m(self, u): return 1\nf = A().m",
        "class A:\n    def m(self, u): return 2\nf = A().m",
    ),
    "a class method": (
        "class A:\n    @classmethod\n    def m(cls, u): return 1\nf = A.m",
        "class A:\n    @classmethod\n    def m(cls, u): return 2\nf = A.m",
    ),
    "a callable object": (
        "class A:\n    def __call__(self, u): return 1\nf = A()",
        "class A:\n    def __call__(self, u): return 2\nf = A()",
    ),
    "an inherited call": (
        "class A:\n    def __call__(self, u): return 1\nclass B(A): pass\nf = B()",
        "class A:\n    def __call__(self, u): return 2\nclass B(A): pass\nf = B()",
    ),
    "a function in C": ("f = min", "f = max"),
    "a method in C": ("f = str.upper", "f = str.lower"),
    "a class": ("f = int", "f = float"),
}

VALUES = {
    "a number in the closure": (CLOSED.format("0.0"), CLOSED.format("1.0")),
    "a text": (CLOSED.format("'model-1.bin'"), CLOSED.format("'model-2.bin'")),
    "the type of a text": (CLOSED.format("'a'"), CLOSED.format("b'a'")),
    "a list": (CLOSED.format("[1, [2, 3]]"), CLOSED.format("[1, [2, 4]]")),
    "a list and a tuple": (CLOSED.format("[1]"), CLOSED.format("(1,)")),
    "a value of a dictionary": (CLOSED.format("{'a': {'b': 1}}"), CLOSED.format("{'a': {'b': 2}}")),
    "a set": (CLOSED.format("{1, 2}"), CLOSED.format("{1, 3}")),
    "a large number": (CLOSED.format("10**5000"), CLOSED.format("10**5000 + 1")),
    "the end of a long text": (CLOSED.format("'a' * 10**6 + 'b'"), CLOSED.format("'a' * 10**6 + 'c'")),
    "the length of a long list": (CLOSED.format("[0] * 10**5"), CLOSED.format("[0] * (10**5 + 1)")),
    "the class of an object": (
        "class A: pass\n" + CLOSED.format("A()"),
        "class B: pass\n" + CLOSED.format("B()"),
    ),
    "a class itself": (CLOSED.format("int"), CLOSED.format("float")),
    "a function in the closure": (CLOSED.format("lambda: 1"), CLOSED.format("lambda: 2")),
    "what that has in its closure": (
        CLOSED.format("(lambda y: lambda: y)(1)"),
        CLOSED.format("(lambda y: lambda: y)(2)"),
    ),
    "a partial in the closure": (CLOSED.format("functools.partial(min, 1)"), CLOSED.format("functools.partial(min, 2)")),
    "a method in the closure": (CLOSED.format("'a'.join"), CLOSED.format("'a'.split")),
    "nothing in the closure yet": (
        "def make():\n    def f(u): return x\n    return f\n    x = 1\nf = make()",
        "def make():\n    x = 1\n    def f(u): return x\n    return f\nf = make()",
    ),
    "a default": ("def f(u, k=1): return k", "def f(u, k=2): return k"),
    "a default of a keyword": ("def f(u, *, k=1): return k", "def f(u, *, k=2): return k"),
    "an argument of a partial": (
        "def g(k, u): return k\nf = functools.partial(g, 1)",
        "def g(k, u): return k\nf = functools.partial(g, 2)",
    ),
    "a keyword of a partial": (
        "def g(u, k): return k\nf = functools.partial(g, k=1)",
        "def g(u, k): return k\nf = functools.partial(g, k=2)",
    ),
    "the class of a method's object": (
        "class A:\n    def m(self, u): return 1\nclass B(A): pass\nf = A().m",
        "class A:\n    def m(self, u): return 1\nclass B(A): pass\nf = B().m",
    ),
}


@pytest.mark.parametrize("what", COMPILED)
def test_other_code_has_another_digest(what):
    one, other = map(of_source, COMPILED[what])
    assert one.compiled != other.compiled
    assert one.digest != other.digest


@pytest.mark.parametrize("what", VALUES)
def test_the_same_code_with_other_values_has_another_digest_of_values_alone(what):
    one, other = map(of_source, VALUES[what])
    assert (True, True, True) == (one.compiled == other.compiled, one.values != other.values, one.digest != other.digest)


def test_a_candidate_is_told_apart_by_its_name():
    one, two = compiled("def f(u): return 1"), compiled("def f(u): return 2")
    assert code_of({"a": one, "b": two}) == code_of({"b": two, "a": one}) != code_of({"a": two, "b": one})


plain_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.binary(max_size=5),
    lambda each: (
        st.lists(each, max_size=4)
        | st.lists(each, max_size=4).map(tuple)
        | st.dictionaries(st.text(max_size=2) | st.integers(0, 3) | st.booleans(), each, max_size=4)
        | st.frozensets(st.integers() | st.text(max_size=2) | st.tuples(st.integers(), st.booleans()), max_size=4)
    ),
    max_leaves=12,
)


def is_same(one, other):
    """Whether two plain values are equal, and so are all types and signs inside."""
    if type(one) is not type(other):
        return False
    if type(one) is float:
        return (one, math.copysign(1, one)) == (other, math.copysign(1, other)) or (one != one and other != other)
    if type(one) is dict:
        others = list(other.items())
        return len(one) == len(other) and all(any(is_same(pair, each) for each in others) for pair in one.items())
    if type(one) is frozenset:
        return len(one) == len(other) and all(any(is_same(each, another) for another in other) for each in one)
    if type(one) in (list, tuple):
        return len(one) == len(other) and all(map(is_same, one, other))
    return one == other


def closed(value):
    return lambda user: value


@given(plain_values, plain_values)
def test_two_closures_have_the_same_digest_where_their_values_are_the_same_and_nowhere_else(one, other):
    assert of(closed(one)) == of(closed(pickle.loads(pickle.dumps(one))))
    assert is_same(one, other) == (of(closed(one)) == of(closed(other)))


@given(st.dictionaries(st.text(max_size=3), plain_values, min_size=2, max_size=6))
def test_a_dictionary_that_was_filled_in_another_order_is_the_same(value):
    assert of(closed(value)) == of(closed(dict(reversed(value.items()))))


# The same in every process ----------------------------------------------------------------------------------------------

PROGRAM = """
    import functools, os, sys
    from rollout_sdk.engine.candidate_code import code_of

    class Model:
        def __init__(self): self.weights = [id(self)]
        def score(self, user, *, names=frozenset({"x", "y", "z"})):
            "Docs."
            return user in {"a", "b", "c", "d"} or [name for name in names if name != user]
        def __call__(self, user):
            def inner(x): return x in {"p", "q", "r"}
            yield inner(user)

    def make(table, names, model):
        async def f(user):
            return table, names, model, {"one", "two", "three"}
        return f

    table = {f"key {number}": {f"name {each}" for each in range(number)} for number in range(20)}
    candidates = {
        "method": Model().score, "object": Model(), "partial": functools.partial(Model().score, names={"l", "m", "n"}),
        "closure": make(table, set(table), object()), "builtin": len,
    }
    before = {name: code_of({name: each}) for name, each in candidates.items()}
    how = os.environ["HOW"]
    if how == "traced":
        sys.settrace(lambda *_: lambda *_: None)
    if how == "monitored" and sys.version_info >= (3, 12):
        sys.monitoring.use_tool_id(sys.monitoring.COVERAGE_ID, "test")
        sys.monitoring.register_callback(sys.monitoring.COVERAGE_ID, sys.monitoring.events.LINE, lambda *_: None)
        sys.monitoring.set_events(sys.monitoring.COVERAGE_ID, sys.monitoring.events.LINE)
    # The interpreter rewrites what runs often.
    for _ in range(2_000):
        candidates["method"]("a"), list(candidates["object"]("a"))
        candidates["closure"]("a").close()
    after = {name: code_of({name: each}) for name, each in candidates.items()}
    sys.settrace(None)
    assert before == after, (before, after)
    print(after)
"""


def test_all_processes_have_the_same_digests_whatever_their_hash_seeds_folders_tracers_and_the_calls_so_far(
    run_python, tmp_path
):
    results = [
        run_python(PROGRAM, timeout=100, PYTHONHASHSEED=seed, HOW=how)
        for seed, how in (("0", ""), ("1", "traced"), ("2", "monitored"))
    ]
    assert ["", "", ""] == [result.stderr for result in results]
    assert 1 == len({result.stdout for result in results})
    assert 5 == results[0].stdout.count("CandidateCode(")


def test_a_function_that_was_sent_to_another_process_by_value_is_the_same():
    cloudpickle = pytest.importorskip("cloudpickle", reason="cloudpickle is not installed; the extra demo has it")
    for candidate in (closed({"a": frozenset("abc")}), compiled(WRAPPED.format(1)), functools.partial(closed, {"k": 1})):
        assert of(candidate) == of(pickle.loads(cloudpickle.dumps(candidate)))


# Safe and cheap ---------------------------------------------------------------------------------------------------------


def hostile():
    """An object whose every method raises, and whose class asks a metaclass that raises, too; and what they were asked."""
    asked = []

    def refuse(name):
        def method(*_, **__):
            asked.append(name)
            raise AssertionError(name)

        return method

    names = (
        "__repr__", "__str__", "__eq__", "__hash__", "__len__", "__iter__", "__getattribute__", "__getattr__", "__bool__",
        "__getitem__", "__contains__", "__format__", "__reduce_ex__", "__index__", "__float__", "__get__", "__instancecheck__",
        "__subclasscheck__", "__copy__", "items", "copy",
    )  # fmt: skip
    methods = {name: refuse(name) for name in names}
    properties = {name: property(refuse(name)) for name in ("__wrapped__", "func", "__code__", "__closure__")}
    meta = type("Meta", (type,), {**methods, "__mro__": property(refuse("__mro__"))})
    made = type.__new__(meta, "Hostile", (), {**methods, **properties, "__call__": lambda self, user: 1})
    return object.__new__(made), asked


def test_no_code_of_the_application_runs():
    thing, asked = hostile()

    class Texts(str):
        __slots__ = ()

        def __len__(self):
            asked.append("text")
            return 0

    class Things(dict):
        def items(self):
            asked.append("dict")
            return ()

    def f(user, key=thing, *, other=Texts("a")):
        return thing, Things(), [thing]

    held = [thing, {"a": thing}, Things(a=1), Texts("b"), (thing,)]
    for candidate in (f, thing, closed(thing), closed(held), functools.partial(f, thing, other=thing), type(thing)):
        found = of(candidate)
        assert (8, 8) == (len(found.compiled), len(found.values))
    assert [] == asked


def test_what_refers_to_itself_ends():
    items, table = [], {}
    items.append(items)
    table["self"] = table, items

    def recursive(user):
        return recursive, items, table

    def wrapper(user):
        return recursive(user)

    wrapper.__wrapped__ = wrapper
    assert of(recursive) == of(recursive) != of(wrapper)


def nested(depth):
    value = 0
    for _ in range(depth):
        value = [value, value]
    return value


HUGE = {
    "a list": [0.5] * 10**6,
    "a dictionary": dict.fromkeys(range(10**6)),
    "a text": "a" * 10**7,
    "many texts": ["a" * 10**4] * 10**4,
    "lists of lists": [[["a"] * 100] * 100] * 100,
    "a tree": nested(100),
    "sets of sets": [set(range(99))] * 100,
    "many functions": [closed(number) for number in range(1_000)],
    "a long chain": functools.reduce(lambda inner, _: closed(inner), range(500), 0),
}


@pytest.mark.parametrize("what", HUGE)
def test_the_work_is_bounded_whatever_a_closure_holds(what):
    calls = 0

    def count(frame, event, argument):
        nonlocal calls
        calls += event in ("call", "c_call")

    candidate = closed(HUGE[what])
    sys.setprofile(count)
    try:
        of(candidate)
    finally:
        sys.setprofile(None)
    assert calls < 10_000


def test_a_type_that_cannot_be_read_leaves_the_name(monkeypatch):
    monkeypatch.setattr("rollout_sdk.engine.candidate_code._Reading.candidate", lambda *_: 1 / 0)
    assert code_of({"a": len}) == code_of({"a": max}) != code_of({"b": len})
