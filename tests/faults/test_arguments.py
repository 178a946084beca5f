"""Rows F55 to F64: what a candidate does to its arguments, and what copies of them lose."""

import asyncio
import collections
import copy
import dataclasses
import itertools
import queue
import random
import socket
import sqlite3
import threading
import time
import types
from contextlib import closing

import numpy as np
import pytest

import rollout_sdk
from rollout_sdk import ABTest, ConfigurationError, Interleave, Shadow, rollout
from tests.faults.kinds import KINDS, of_kind, read
from tests.faults.models import quantile, served, shadowed


@pytest.fixture
def loop():
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


@dataclasses.dataclass(eq=False)
class Film:
    title: str


class Settings:
    """A constant of this module, below."""

    def __init__(self):
        self.limit = 10


DEFAULT = Settings()


def aware(films, scores, chosen, window, whole, settings):
    """What only the caller's own objects give."""
    return [
        [scores[film] for film in films],
        films.index(chosen),
        np.shares_memory(window, whole),
        whole.flags.f_contiguous,
        whole.sum().hex(),
        settings is DEFAULT,
        films,
        window,
    ]


def given():
    films = [Film("A"), Film("B"), Film("C")]
    whole = np.asfortranarray(np.random.default_rng(0).normal(size=(150, 100)))
    return films, dict(zip(films, range(3), strict=True)), films[1], whole[3:7], whole, DEFAULT


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("deadline_s", [None, 5.0])
def test_f55_the_control_as_candidate_gives_what_it_gives_alone(kind, deadline_s, watch, loop, figure):
    if deadline_s is not None and kind in ("function", "generator"):
        return
    runtime, right = watch(), []
    model = served(of_kind(kind, aware), of_kind(kind, aware), runtime, deadline_s=deadline_s)
    for _ in range(20):
        arguments = given()
        answer, error = read(kind, lambda: model(*arguments), loop)
        expected = aware(*arguments)
        assert error is None
        right.append(expected[:6] == list(answer[:6]) and answer[6] is arguments[0] and answer[7] is arguments[3])
    assert [True] * 20 == right
    assert {"candidate"} == {event.served for event in runtime.routed()}
    figure(
        "F55",
        "{right} of {calls} calls of {kind} kinds of functions, with and without deadlines, are bit-equal and "
        "return the caller's own objects",
        right=sum(right),
        calls=len(right),
        kind=kind,
    )


@pytest.mark.parametrize("kind", KINDS)
def test_f56_two_rankers_that_agree_show_every_item_once(kind, watch, loop, figure):
    runtime, lists = watch(), []
    model = served(of_kind(kind, list), of_kind(kind, list), runtime, strategy=Interleave())
    for _ in range(200):
        films = [Film(title) for title in "ABCD"]
        shown, error = read(kind, lambda: model(films), loop)
        lists.append(error is None and [id(film) for film in shown] == [id(film) for film in films])
    assert [True] * 200 == lists
    assert {"interleaved"} == {event.served for event in runtime.routed()}
    figure("F56", "{right} of {lists} lists of {kind} kinds of functions show each item once, and the caller's own",
           right=sum(lists), lists=len(lists), kind=kind)  # fmt: skip


def test_f56_a_ranker_that_sorts_copies_in_place_has_its_order_and_the_callers_items(watch):
    def backwards(films):
        films.reverse()
        return {"films": films}

    strategy = Interleave(items=lambda page: page["films"], rebuild=lambda page, films: {"films": films})
    model = served(lambda films: {"films": list(films)}, backwards, watch(), strategy=strategy)
    films = [Film(title) for title in "ABCD"]
    for _ in range(20):
        page = model(films)["films"]
        assert sorted(map(id, films)) == sorted(map(id, page))
        assert {page[0], page[1]} == {films[0], films[3]}
    assert ["A", "B", "C", "D"] == [film.title for film in films]


@pytest.mark.parametrize("size", [1_000, 3_000, 12_000, 19_000])
def test_f57_what_is_changed_in_place_does_not_hang_on_the_clock(size, watch, figure):
    def adds(rows):
        rows.append(0)
        return len(rows)

    def fails(rows):
        adds(rows)
        raise ValueError

    runtime = watch()
    answers, falls = served(adds, adds, runtime), served(adds, fails, runtime, key="fails", breaker=None)
    seen = sum((rows := list(range(size))) is not None and size + 1 == answers(rows) == len(rows) for _ in range(100))
    alone = sum((rows := list(range(size))) is not None and size + 1 == falls(rows) == len(rows) for _ in range(100))
    assert (100, 100) == (seen, alone)
    figure("F57", "{changed} lists of up to {size:,.0f} changed once, whether the candidate answers ({seen}) or fails "
           "({alone})", changed=seen + alone, seen=seen, alone=alone, size=float(size))  # fmt: skip


class Message:
    def __init__(self):
        self.items = [1]


CHANGED = {
    "list": (lambda: [1], lambda x: x.append(2)),
    "dict": (lambda: {"a": 1}, lambda x: x.pop("a")),
    "OrderedDict": (lambda: collections.OrderedDict(a=1, b=2), lambda x: x.move_to_end("a")),
    "defaultdict": (lambda: collections.defaultdict(list, a=[1]), lambda x: x["b"]),
    "deque": (lambda: collections.deque([1, 2], maxlen=2), lambda x: x.append(3)),
    "Counter": (lambda: collections.Counter("ab"), lambda x: x.update("a")),
    "UserDict": (lambda: collections.UserDict(a=[1]), lambda x: x["a"].append(2)),
    "ChainMap": (lambda: collections.ChainMap({"a": 1}), lambda x: x.update(b=1)),
    "SimpleNamespace": (lambda: types.SimpleNamespace(a=[1]), lambda x: x.a.append(2)),
    "MappingProxyType": (lambda: types.MappingProxyType({"a": [1]}), lambda x: x["a"].append(2)),
    "an object": (Message, lambda x: x.items.append(2)),
    "a list of objects": (lambda: [Message()], lambda x: (x[0].items.clear(), x.clear())),
    "an array": (lambda: np.ones(1 << 18), lambda x: x.fill(0)),
    "an array of lists": (lambda: np.array([[1], [2, 3]], dtype=object), lambda x: x[0].append(9)),
    "a random generator": (lambda: random.Random(0), lambda x: x.random()),
    "one of numpy": (lambda: np.random.default_rng(0), lambda x: x.random()),
    "a set": (lambda: {1, 2}, lambda x: x.discard(1)),
    "bytes": (lambda: bytearray(b"ab"), lambda x: x.extend(b"c")),
}


def told(value):
    """What a value holds, as text."""
    if isinstance(value, random.Random | np.random.Generator):
        return str(value.random())
    if hasattr(value, "tolist"):
        return f"{value.tolist()} {value.dtype}"
    return repr(value if not isinstance(value, Message) else vars(value)) + (
        repr([vars(each) for each in value]) if isinstance(value, list) and value and isinstance(value[0], Message) else ""
    )


@pytest.mark.parametrize("strategy", ["ABTest", "Interleave"])
@pytest.mark.parametrize("name", CHANGED)
def test_f58_whatever_a_failed_candidate_changed_the_control_finds_as_it_was(name, strategy, watch, figure):
    make, change = CHANGED[name]
    seen = []

    def fails(value):
        change(value)
        raise ValueError

    runtime = watch()
    chosen = ABTest(1.0) if strategy == "ABTest" else Interleave()
    value = make()
    told_of = [told(each)[:200] for each in [make()]]
    model = served(lambda value: seen.append(told(value)[:200].replace("0x", "")) or [1], fails, runtime, strategy=chosen)
    assert [1] == model(value)
    same = told_of == seen if "objects" not in name else [[1]] == [message.items for message in value]
    assert same
    assert {} == runtime.faults
    figure(
        "F58",
        "{name} kinds of inputs under {strategy} strategies, changed by a candidate that fails: the control gets "
        "{same} of {runs} unchanged",
        name=name,
        strategy=strategy,
        same=int(same),
    )


def cursor():
    database = sqlite3.connect(":memory:")
    found = database.execute("values (1), (2)")

    def rest():
        # Left open, it would be a warning in whatever test the garbage collector runs next.
        with closing(database):
            return found.fetchall()

    return found, rest


def filled_queue():
    filled = queue.Queue()
    filled.put(1)
    filled.put(2)
    return filled, lambda: [filled.get_nowait(), filled.get_nowait()]


def pair():
    left, right = socket.socketpair()
    right.sendall(b"12")
    right.close()

    def whole():
        with left:
            return list(left.recv(2))

    return left, whole


class Upload:
    """As an upload of a framework: neither an iterator nor a file."""

    def __init__(self):
        self.left = [1, 2]

    def read(self, size=-1):
        taken, self.left = self.left, []
        return taken


def upload():
    held = Upload()
    return held, held.read


def iterator():
    held = iter([1, 2])
    return held, lambda: list(held)


def receiver():
    sent = [1, 2]

    async def receive():
        return sent.pop(0)

    return receive, lambda: [sent.pop(0), sent.pop(0)]


SOURCES = [cursor, filled_queue, pair, upload, iterator, receiver]
WRAPS = {
    "itself": lambda source: source,
    "in a list": lambda source: [1, source],
    "in a tuple": lambda source: ("a", source),
    "in a dict": lambda source: {"file": source},
    "in an object": lambda source: types.SimpleNamespace(source=source),
    "in a data class": Film,
}


@pytest.mark.parametrize("wrap", WRAPS)
@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.__name__)
@pytest.mark.filterwarnings("ignore:unclosed database")
def test_f59_an_input_that_can_be_read_once_is_the_controls_wherever_it_is(source, wrap, watch, figure):
    held, whole = source()

    def reads_and_fails(value):
        whole()
        raise ValueError

    runtime, notes = watch(), 0
    for strategy in (ABTest(0.5), ABTest(1.0), Interleave()):
        model = served(lambda value: None, reads_and_fails, runtime, strategy=strategy, key=str(strategy))
        model(WRAPS[wrap](held))
        (note,) = model.rollout.status().notes
        assert "can be read only once" in note
        assert "on_error='raise'" in note
        notes += 1
    assert [1, 2] == [int(item[0] if isinstance(item, tuple) else item) - 48 * (source is pair) for item in whole()]
    events = runtime.routed()
    assert {("control", "one_shot", True)} == {(e.decision.variant, e.decision.reason, e.excluded) for e in events}
    assert {} == runtime.faults
    figure(
        "F59",
        "{source} kinds of inputs in {wrap} places: {calls} of {calls} calls run the control only, {notes} notes with the cure",
        source=source.__name__,
        wrap=wrap,
        calls=len(events),
        notes=notes,
    )


def test_f59_what_can_be_read_again_is_nobodys_alone(watch):
    class Cached(Upload):
        _body = b""

    class Response:
        def __init__(self):
            self._content = b"12"

        def read(self):
            return self._content

    class Client:
        def stream(self, url):
            """As a client of HTTP: it is asked for something."""

        def read(self, name):
            """As an archive."""

    runtime = watch()
    model = served(lambda value: "control", lambda value: "candidate", runtime)
    assert ["candidate"] * 3 == [model(Response()), model(Client()), model(types.SimpleNamespace(ids=itertools.count()))]
    assert "control" == model(Cached())


def test_f60_the_body_of_a_request_is_read_once(watch, loop, figure):
    def request():
        parts = [{"type": "http.request", "body": b"image", "more_body": False}]

        async def receive():
            if not parts:
                # As a server does: nothing comes before the client has gone.
                await asyncio.sleep(60)
            return parts.pop(0)

        return receive

    async def reads(scope, receive, send):
        await send((await receive())["body"])

    async def fails(scope, receive, send):
        await receive()
        raise ValueError

    runtime, sent = watch(), []
    model = served(reads, fails, runtime)

    async def send(body):
        sent.append(body)

    async def main():
        for _ in range(20):
            # One whose name says nothing, because the parameters' names do.
            hidden = request()
            await asyncio.wait_for(model({"type": "http"}, lambda: hidden(), send), 5)

    loop.run_until_complete(main())
    assert [b"image"] * 20 == sent
    figure(
        "F60",
        "{answered} of {requests} requests with a body that can be read only once are answered; none waits for a second body",
        answered=sent.count(b"image"),
        requests=len(runtime.routed()),
    )


class Session:
    """As a client or a connection: it holds a lock."""

    def __init__(self):
        self.lock = threading.Lock()
        self.calls = 0


def test_f61_each_argument_is_decided_for_itself(watch, figure):
    def fails(session, rows, options):
        session.calls += 1
        rows.clear()
        options["lock"] = options["rows"].clear()
        raise ValueError

    runtime = watch()
    model = served(lambda session, rows, options: (session.calls, rows, options["rows"]), fails, runtime, breaker=None)
    right = []
    for number in range(100):
        rows, options = [number], {"rows": [number], "lock": threading.Lock()}
        calls, seen, inside = model(Session(), rows, options)
        as_it_was = (1, [number], [number]) == (calls, seen, inside) and seen is rows
        right.append(as_it_was and type(options["lock"]) is not None)
    assert [True] * 100 == right
    notes = model.rollout.status().notes
    assert [True, True] == [any(name in note for note in notes) for name in ("'Session'", "'lock'")]
    assert all("@rollout_sdk.copier" in note for note in notes)
    assert {} == runtime.faults
    figure(
        "F61",
        "{right} of {calls} controls got the list next to a session unchanged; {notes} notes that session and lock are shared",
        right=sum(right),
        calls=len(right),
        notes=len(notes),
    )


def test_f62_what_ends_something_when_it_is_gone_is_not_copied(watch, figure):
    ended, given_ = [], []

    class Lease:
        def __init__(self):
            self.rows = [1]

        def __del__(self):
            ended.append(id(self))

    runtime = watch()
    lease = Lease()
    for strategy in (ABTest(1.0), Interleave(), Shadow(1.0)):
        model = served(lambda lease: [1], lambda lease: given_.append(lease) or [1], runtime, strategy=strategy,
                       effects="read", key=str(strategy))  # fmt: skip
        model(lease)
    assert {"dropped_snapshot"} == {event.end for event in runtime.shadowed()}
    assert [True, True] == [each is lease for each in given_]
    assert [] == ended
    figure("F62", "{copies} copies of an object with __del__ for {given} candidates, {dropped} shadow dropped",
           copies=sum(each is not lease for each in given_), given=len(given_), dropped=len(runtime.shadowed()))  # fmt: skip


class Lazy:
    """As Django's request.user and werkzeug's proxies: any use of it, its class included, works it out."""

    def __init__(self, looked_up):
        object.__setattr__(self, "looked_up", looked_up)

    @property
    def __class__(self):
        self.looked_up.append("class")
        return dict

    def __getattr__(self, name):
        self.looked_up.append(name)
        raise AttributeError(name)

    def __iter__(self):
        self.looked_up.append("iter")
        return iter(())

    def __len__(self):
        self.looked_up.append("len")
        return 0


@pytest.mark.parametrize("strategy", [ABTest(1.0), Interleave(), Shadow(1.0)], ids=lambda strategy: type(strategy).__name__)
def test_f62_lazy_objects_are_not_evaluated(strategy, watch, figure):
    looked_up = []
    runtime = watch()
    model = served(lambda request: [1], lambda request: [1], runtime, strategy=strategy, effects="read")
    for _ in range(20):
        assert [1] == model({"user": Lazy(looked_up)})
        assert [1] == model(Lazy(looked_up))
    runtime.flush()
    assert [] == looked_up
    assert () == model.rollout.status().notes
    figure("F62", "{evaluated} lazy objects evaluated in {calls} calls under {runs} strategies", evaluated=len(looked_up),
           calls=len(runtime.routed()))  # fmt: skip


def test_f63_what_is_too_large_is_shared_and_noted_once(watch, figure):
    runtime = watch()
    seen = []
    model = served(lambda rows: len(rows), lambda rows: seen.append(rows) or len(rows), runtime)
    rows = list(range(200_000))
    took, copied = [], []
    for _ in range(50):
        began = time.perf_counter()
        assert 200_000 == model(rows)
        took.append(time.perf_counter() - began)
        began = time.perf_counter()
        copy.deepcopy(rows)
        copied.append(time.perf_counter() - began)
    assert all(each is rows for each in seen)
    (note,) = model.rollout.status().notes
    assert "'list'" in note
    assert "too large" in note
    assert quantile(took, 0.5) < quantile(copied, 0.5)
    figure("F63", "a list of {size:,} costs {p50:.0f} us at p50, and is noted once in {calls} calls", size=len(rows),
           p50=quantile(took, 0.5) * 1e6, calls=len(took))  # fmt: skip


def test_f63_a_frame_is_weighed_by_its_shape(watch, figure):
    pandas = pytest.importorskip("pandas", reason="needs pandas")
    frame = pandas.DataFrame({str(number): np.zeros(10) for number in range(10_000)})
    model = served(lambda frame: frame.shape, lambda frame: frame.shape, watch())
    took = []
    for _ in range(20):
        began = time.perf_counter()
        assert (10, 10_000) == model(frame)
        took.append(time.perf_counter() - began)
    assert quantile(took, 0.5) < 0.01
    figure("F63", "a frame of {columns:,} columns costs {p50:.0f} us at p50", columns=frame.shape[1],
           p50=quantile(took, 0.5) * 1e6)  # fmt: skip


class Molecule:
    """Copies in a way of its own, as what is written in C does."""

    def __init__(self, atoms):
        self.atoms = atoms

    def __reduce__(self):
        raise TypeError("cannot be pickled")


@pytest.fixture
def copiers():
    from rollout_sdk.engine.copies import copiers
    from rollout_sdk.engine.copies import types as known_types

    yield
    copiers._copiers.clear()
    known_types._known.clear()


@pytest.mark.usefixtures("copiers")
def test_f64_the_application_copies_what_only_it_can(watch, figure):
    def fails(molecule, more):
        molecule.atoms.clear()
        more["molecule"].atoms.append("x")
        raise ValueError

    def given_back(molecule, more):
        molecule.atoms.append("H")
        return [molecule, more["molecule"] is molecule]

    runtime = watch()
    failing = served(lambda molecule, more: list(molecule.atoms), fails, runtime, breaker=None)
    molecule = Molecule(["C"])
    assert ["x"] == failing(molecule, {"molecule": molecule})
    assert ["share an object of type 'Molecule'" in note for note in failing.rollout.status().notes] == [True]

    @rollout_sdk.copier(Molecule)
    def copy_molecule(molecule):
        return Molecule(list(molecule.atoms))

    right = []
    for _ in range(100):
        molecule = Molecule(["C"])
        right.append(["C"] == failing(molecule, {"molecule": molecule}))
    assert [True] * 100 == right
    answer = served(given_back, given_back, runtime, key="given back")(molecule, {"molecule": molecule})
    assert [molecule, True] == answer
    shadows = shadowed(lambda molecule: None, lambda molecule: molecule.atoms.clear(), runtime, key="shadow")
    shadows(molecule)
    assert ["ok"] == [event.end for event in runtime.shadowed()]
    assert ["C"] == molecule.atoms
    assert {} == runtime.faults
    figure("F64", "{right} of {calls} inputs with a registered copier kept intact", right=sum(right), calls=len(right))


@pytest.mark.usefixtures("copiers")
def test_f64_a_copier_that_raises_costs_the_copy_only(watch):
    @rollout_sdk.copier(Molecule)
    def broken(molecule):
        raise SystemExit(3)

    runtime = watch()
    model = served(lambda molecule: "control", lambda molecule: "candidate", runtime)
    assert "candidate" == model(Molecule([]))
    assert ["copying it raised SystemExit" in note for note in model.rollout.status().notes] == [True]


@pytest.mark.parametrize(("kind", "function"), [("Molecule", len), (Molecule, None)])
def test_f64_a_copier_that_cannot_copy_is_refused(kind, function):
    with pytest.raises(ConfigurationError, match="copier"):
        rollout_sdk.copier(kind)(function)


def test_f64_the_methods_of_an_iterator_have_their_candidate(watch, figure):
    class Loader:
        def __iter__(self):
            return self

        def __next__(self):
            raise StopIteration

        def new(self, rows):
            return ["new", *rows]

        old = rollout(candidate=new, strategy=ABTest(1.0), key="loader", runtime=watch())(lambda self, rows: ["old"])

    answers = [Loader().old([1]) for _ in range(20)]
    assert [["new", 1]] * 20 == answers
    figure(
        "F64",
        "{new} of {calls} calls of a method of an iterator class run their candidate",
        new=answers.count(["new", 1]),
        calls=len(answers),
    )


def test_a_late_candidate_cannot_reach_the_callers_own_input(watch, loop):
    late = []

    async def control(rows):
        await asyncio.sleep(0.1)
        return list(rows)

    async def candidate(rows):
        while len(late) < 3:
            try:
                await asyncio.sleep(0.03)
            except asyncio.CancelledError:
                late.append("cancelled")
            late.append(rows.clear())

    model = served(control, candidate, watch(), deadline_s=0.01)

    async def main():
        rows = [1, 2]
        answer = await model(rows)
        await asyncio.sleep(0.1)
        return answer, rows

    assert ([1, 2], [1, 2]) == loop.run_until_complete(main())
    assert "cancelled" in late


def test_a_stream_lets_go_of_what_was_remembered_with_its_first_item(watch):
    def words(rows):
        yield "a"
        yield "b"

    model = served(words, words, watch())
    rows = [Film("A")]
    stream = model(rows)
    assert "a" == next(stream)
    step = stream.gi_frame.f_locals["stream"].step
    assert None is step.protection
    assert ["b"] == list(stream)
