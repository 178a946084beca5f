"""The same function as candidate gives what the bare function gives, with the caller's own objects, in every way to run it."""

import asyncio
import collections
import dataclasses
import enum
import itertools
import random
import types

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rollout_sdk import ABTest, Canary, Interleave, Shadow, rollout
from tests.faults.kinds import KINDS, of_kind, read

STRATEGIES = {
    "ABTest": lambda: ABTest(1.0),
    "Canary": lambda: Canary(["100%"]),
    "Shadow": lambda: Shadow(1.0),
    "Interleave": Interleave,
}
SETTINGS = [{}, {"isolate": "deepcopy"}, {"isolate": "none"}, {"on_error": "raise"}, {"breaker": None}]


@dataclasses.dataclass(eq=False)
class Film:
    title: str


class Plain:
    def __init__(self, title):
        self.title = title
        self.seen = []


class Rows(list):
    tag = "rows"


DEFAULT = Film("default")
MISSING = object()


class Colour(enum.Enum):
    RED = 1


def described(*roots):
    """A graph of values as text: what holds what, and what is one and the same object."""
    numbers = {}

    def walk(value):
        if value is None or isinstance(value, bool | int | float | str | bytes | enum.Enum):
            return repr(value)
        if id(value) in numbers:
            return f"#{numbers[id(value)]}"
        numbers[id(value)] = number = len(numbers)
        kept.append(value)
        parts = ()
        if isinstance(value, dict | collections.UserDict):
            parts = [part for pair in value.items() for part in pair]
        elif isinstance(value, set | frozenset):
            parts = sorted(value, key=repr)
        elif isinstance(value, list | tuple | collections.deque):
            parts = value
        elif isinstance(value, np.ndarray):
            parts = [value.tobytes(), str(value.dtype), value.shape, value.strides, value.flags.writeable]
        own = vars(value) if hasattr(value, "__dict__") and not callable(value) else {}
        return f"{number}:{type(value).__name__}({', '.join(map(walk, [*parts, *own, *own.values()]))})"

    kept = []
    return "; ".join(map(walk, roots))


def films():
    return [Film("A"), Film("B"), Film("C"), Film("D")]


def scored():
    items = films()
    return items, {item: number for number, item in enumerate(items)}


def with_one():
    items = films()
    return items, items[2]


def with_seen():
    items = films()
    return items, {items[0]}


def with_closure():
    items = []
    return items, lambda: items.append(1) or items


def with_method():
    items = []
    return items, items.append


def cyclic():
    one, other = {}, {}
    one["next"], other["next"] = other, one
    return [one, other]


def views():
    base = np.arange(6.0)
    return base[:3], base[1:4], base


def read_only():
    array = np.arange(3)
    array.flags.writeable = False
    return array


def subclass():
    rows = Rows([3, 1, 2])
    rows.tag = ["own"]
    return rows


IDENTITY = {
    "scores by item": (scored, lambda pair: [pair[1][item] for item in pair[0]]),
    "an item among others": (with_one, lambda pair: [pair[0].index(pair[1])]),
    "an item in a set": (
        with_seen,
        lambda pair: [i for i in pair[0] if i in pair[1]],
    ),
    "plain objects": (lambda: [Plain("A"), Plain("B")], lambda items: items[::-1]),
    "a sentinel": (lambda: MISSING, lambda value: [value is MISSING, value]),
    "a constant of the module": (lambda: DEFAULT, lambda value: [value is DEFAULT, value]),
    "an enum": (lambda: Colour.RED, lambda value: [value is Colour.RED]),
    "a cycle": (cyclic, lambda nodes: [nodes[0]["next"] is nodes[1], nodes[1]["next"] is nodes[0], nodes[0]]),
    "views of one array": (views, lambda arrays: [bool(np.shares_memory(arrays[0], arrays[1])), arrays[1]]),
    "a new view": (views, lambda arrays: [arrays[2][2:]]),
    "order F": (lambda: np.asfortranarray(np.ones((3, 2))), lambda array: [array.flags.f_contiguous, array.strides, array]),
    "strides": (lambda: np.arange(12.0).reshape(3, 4)[:, ::2], lambda array: [array.strides, array.sum()]),
    "read-only": (read_only, lambda array: [array.flags.writeable, array]),
    "rows that are one list": (lambda: [[0] * 3] * 3, lambda grid: [len({id(row) for row in grid}), grid]),
    "a list with attributes": (subclass, lambda rows: [rows.tag, type(rows).__name__, rows]),
    "the input itself": (lambda: {"items": [1]}, lambda request: [request["items"], request]),
    "inside an answer of its own": (films, lambda items: [Plain(items[0]), types.SimpleNamespace(item=items[1])]),
    "a closure over the input": (
        with_closure,
        lambda pair: [pair[1]() is pair[0], len(pair[0])],
    ),
    "a bound method of the input": (with_method, lambda pair: [pair[1](1), len(pair[0])]),
}

IN_PLACE = {
    "appends": (lambda: [1, 2], lambda rows: [rows.append(0), len(rows)]),
    "sorts": (lambda: [3, 1, 2], lambda rows: [rows.sort(), rows]),
    "sorts many": (lambda: list(range(30_000, 0, -1)), lambda rows: [rows.sort(), len(rows), rows]),
    "marks items": (lambda: [{"id": 1}, {"id": 2}], lambda rows: [row.update(seen=True) or row for row in rows]),
    "sets attributes": (films, lambda items: [setattr(item, "rank", 1) or item for item in items]),
    "fills an array": (lambda: np.zeros(4), lambda array: [array.fill(2.0), array]),
    "writes through a view": (views, lambda arrays: [arrays[0].fill(9.0), arrays[2]]),
    "fills what it was given to fill": (
        lambda: (np.arange(3.0), np.empty(3)),
        lambda pair: [np.multiply(*pair[:1], 2, out=pair[1])],
    ),
    "draws a random number": (lambda: random.Random(0), lambda generator: [generator.random(), generator.random()]),
    "counts": (lambda: collections.Counter("aab"), lambda counter: [counter.update("b"), dict(counter)]),
    "rotates": (lambda: collections.deque([1, 2, 3], maxlen=3), lambda queue: [queue.rotate(1), list(queue)]),
    "meets a default": (lambda: collections.defaultdict(list), lambda found: [found["a"].append(1), dict(found)]),
}

COPYABLE = [name for name in (*IDENTITY, *IN_PLACE) if name != "a closure over the input"]
LOST_BY_DEEPCOPY = (
    *("views of one array", "writes through a view", "strides", "a sentinel", "a constant of the module", "read-only"),
    "a bound method of the input",
)

USED_UP = {
    "an iterator": (lambda: iter([1, 2, 3]), list),
    "an iterator in a list": (lambda: [iter([1, 2]), iter([3])], lambda parts: [sum(part) for part in parts]),
    "an iterator in a dictionary": (lambda: {"rows": iter([1, 2])}, lambda request: list(request["rows"])),
    "an iterator in a data class": (lambda: Film(iter([1, 2])), lambda film: list(film.title)),
    "a counter": (itertools.count, lambda numbers: [next(numbers), next(numbers)]),
}


@pytest.fixture(scope="module")
def loop():
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


number = itertools.count()


def both_ways(make, function, strategy, options, runtime, kind, loop):
    """The bare and the decorated call of a function, each of its own input: what came of it, beside the input as it is then."""
    bare = of_kind(kind, function)
    decorated = rollout(
        candidate=of_kind(kind, function),
        strategy=STRATEGIES[strategy](),
        effects="read",
        key=f"bare-{next(number)}",
        runtime=runtime,
        **options,
    )(of_kind(kind, function))
    found = []
    for model in (bare, decorated):
        value = make()
        answer, error = read(kind, lambda: model(value), loop)
        assert error is None
        found.append(described(value, answer))
    return found


def fits(strategy, name):
    """Interleaving makes one list of two: a name twice in it is an item twice, and it has to be hashable.

    What a function does to what it closes over, its shadow does again: it is not what effects="read" says it is.
    """
    if strategy == "Shadow" and name == "a closure over the input":
        return False
    return strategy != "Interleave" or name in ("plain objects", "sets attributes")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", [*IDENTITY, *IN_PLACE, *USED_UP])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_input_gives_the_bare_answer(strategy, name, kind, runtime, loop):
    if not fits(strategy, name):
        return
    bare, decorated = both_ways(*{**IDENTITY, **IN_PLACE, **USED_UP}[name], strategy, {}, runtime, kind, loop)
    assert bare == decorated
    # A comparison refuses what holds itself.
    assert {} == {fault: count for fault, count in runtime.faults.items() if not fault[0].endswith("rollout_compare")}


@pytest.mark.parametrize("options", SETTINGS, ids=str)
@pytest.mark.parametrize("name", COPYABLE)
def test_every_input_gives_the_bare_answer_under_every_setting(options, name, runtime, loop):
    if options == {"isolate": "deepcopy"} and name in LOST_BY_DEEPCOPY:
        return
    bare, decorated = both_ways(*{**IDENTITY, **IN_PLACE}[name], "ABTest", options, runtime, "function", loop)
    assert bare == decorated


@pytest.mark.parametrize("kind", ["coroutine", "async generator"])
@pytest.mark.parametrize("name", COPYABLE)
def test_a_candidate_with_a_deadline_gives_the_bare_answer_on_copies(name, kind, runtime, loop):
    bare, decorated = both_ways(*{**IDENTITY, **IN_PLACE}[name], "ABTest", {"deadline_s": 5.0}, runtime, kind, loop)
    assert bare == decorated
    assert {} == runtime.faults


leaves = st.none() | st.integers(0, 3) | st.sampled_from([MISSING, DEFAULT, Colour.RED, "a"])


@st.composite
def graphs(draw):
    """Values that hold each other in any way, cycles among them; some of the lists may be a subclass."""
    made = [[], {}, Rows(), Film("x"), Plain("y"), collections.deque(), types.SimpleNamespace()]
    nodes = [draw(st.sampled_from(range(len(made)))) for _ in range(draw(st.integers(1, 6)))]
    links = draw(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5) | leaves), max_size=10))
    return nodes, links


def built(recipe):
    """A graph anew; the same each time."""
    nodes, links = recipe
    kinds = [list, dict, Rows, lambda: Film("x"), lambda: Plain("y"), collections.deque, types.SimpleNamespace]
    values = [kinds[node]() for node in nodes]
    for order, (at, other) in enumerate(links):
        holder = values[at % len(values)]
        part = values[other % len(values)] if type(other) is int else other
        if isinstance(holder, list | collections.deque):
            holder.append(part)
        elif isinstance(holder, dict):
            holder[order] = part
        else:
            setattr(holder, f"a{order}", part)
    return values


def changes(values):
    """Changes something of everything, and gives it back in another order."""
    for value in values:
        if isinstance(value, list | collections.deque):
            value.append(len(value))
            value.reverse()
        elif isinstance(value, dict):
            value["new"] = list(value.values())
        else:
            value.new = values[0]
    return [values[-1], {"first": values[0]}, (values[0], [values[-1]])]


@given(graphs())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@pytest.mark.parametrize("options", [{}, {"deadline_s": 5.0}], ids=["own", "copies"])
def test_any_graph_of_values_gives_the_bare_answer(options, runtime, loop, recipe):
    kind = "coroutine" if options else "function"
    bare, decorated = both_ways(lambda: built(recipe), changes, "ABTest", options, runtime, kind, loop)
    assert bare == decorated


@given(graphs())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@pytest.mark.parametrize("options", [{}, {"deadline_s": 5.0}], ids=["own", "copies"])
def test_whatever_a_candidate_changes_before_it_fails_the_control_finds_its_input_as_it_was(options, runtime, loop, recipe):
    kind = "coroutine" if options else "function"

    def fails(values):
        changes(values)
        raise ValueError

    value = built(recipe)
    made = {"strategy": ABTest(1.0), "breaker": None, "key": f"fails-{next(number)}", "runtime": runtime, **options}
    control = of_kind(kind, lambda values: (values is value, described(value)))
    model = rollout(candidate=of_kind(kind, fails), **made)(control)
    before = described(value)
    ((same, seen), error) = read(kind, lambda: model(value), loop)
    assert (True, before, before, None) == (same, seen, described(value), error)
