"""The common call, which is one page of code, and the flow, which is the specification, cannot be told apart."""

import asyncio
import json
import threading
from collections import Counter
from contextlib import suppress
from contextvars import Context, ContextVar
from types import SimpleNamespace
from unittest import mock

import pytest
from attrs import evolve
from hypothesis import Phase, event, example, given, settings
from hypothesis import strategies as st

from rollout_sdk import (
    ABTest,
    Breaker,
    Canary,
    Decision,
    Guardrail,
    RoutedEvent,
    Runtime,
    Shadow,
    current_decision,
    disable,
    enable,
    is_shadow,
    rollout,
)
from rollout_sdk.assignment.ids import IdTemplate, decode_id, encode_id
from rollout_sdk.concurrency import forking
from rollout_sdk.engine.common import Common, CommonCall, _finished
from rollout_sdk.journal.lines import DecisionTemplate, as_line
from rollout_sdk.judging import Evidence
from rollout_sdk.judging.unit_sample import cell_of
from rollout_sdk.records import Run

NOTED = ContextVar("noted", default="nothing")
CANARY = Canary(["50%"], guardrails=[Guardrail("error_rate")])
STRATEGIES = [ABTest(0.5), ABTest(1.0), ABTest(0.0), CANARY, Shadow(0.0), Shadow(0.5), ABTest(0.5, shadow=0.5)]
ERRORS = {"ValueError": ValueError, "KeyError": KeyError, "KeyboardInterrupt": KeyboardInterrupt, "SystemExit": SystemExit}


class Answer:
    """An answer of no common type."""

    def __eq__(self, other):
        return isinstance(other, Answer)

    __hash__ = object.__hash__


class Lazy:
    """An answer whose work is still to come."""

    def __init__(self):
        self.items = iter([1, 2])

    def __iter__(self):
        return self

    def __next__(self):
        return next(self.items)


GIVEN = {
    "text": lambda: "an answer",
    "list": lambda: [1, 2],
    "object": Answer,
    "generator": lambda: (number for number in (1, 2)),
    "iterator": Lazy,
}
DEEDS = ["note", "look", "call another", "fail another", "chain", "change"]
RESTS = {
    "plain": lambda: "red",
    "list": lambda: ["red"],
    "table": lambda: {"colour": "red", 1: None},
    "deep": lambda: [{"colour": ["red"]}, (1, {"size": 2})],
    "bytes": lambda: bytearray(b"red"),
    "iterator": lambda: iter(["red"]),
    "deep iterator": lambda: {"colours": [iter(["red"])]},
}
ACTS = st.tuples(
    st.lists(st.sampled_from(DEEDS), max_size=2, unique=True), st.sampled_from([*GIVEN, *GIVEN, "text", "text", *ERRORS])
)
UNITS = st.one_of(
    st.sampled_from(["u-1", "u-2", "u-3", "u-4"]), st.sampled_from(["", "é", "é", "x" * 2_000, 7, 7.0, True, None, ("a", 1)])
)
CALLS = st.fixed_dictionaries(
    {
        "unit": UNITS,
        "rest": st.sampled_from(["plain", "plain", *RESTS]),
        "named": st.booleans(),
        "control": ACTS,
        "candidate": ACTS,
        "before": st.sampled_from([None] * 6 + ["abort", "pause", "disable", "enable", "hold", "let go"]),
    }
)
# Those that both touch.
PARTS = ["audience", "time_ns", "nonces", "health", "take and conclude", "queue", "breakers"]
SCENES = st.fixed_dictionaries(
    {
        "kind": st.sampled_from(["function", "coroutine"]),
        "strategy": st.sampled_from(STRATEGIES),
        "on_error": st.sampled_from(["control", "raise"]),
        "breaker": st.sampled_from([None, Breaker(window=4, min_runs=2)]),
        "unit": st.sampled_from(["user", None]),
        "passthrough": st.sampled_from([(), (KeyError,)]),
        "calls": st.lists(CALLS, min_size=1, max_size=5),
        "broken": st.sampled_from([None] * 4 + PARTS),
        "broken_from": st.integers(0, 3),
        "seed": st.integers(0, 9),
    }
)


class Broken:
    """Raises at every touch."""

    def __getattribute__(self, name):
        raise RuntimeError("sabotage")

    def _raise(self, *args, **kwargs):
        raise RuntimeError("sabotage")

    __call__ = __len__ = __bool__ = __getitem__ = __iter__ = _raise


class Observer:
    name = "observer"

    def __init__(self):
        self.routed = []

    def rollout_routed(self, event):
        self.routed.append(event)


def described(error, depth=4):
    """An exception with all that hangs on it, and the functions that its traceback names."""
    if error is None or not depth:
        return None
    frames, found = [], error.__traceback__
    while found is not None:
        frames.append(found.tb_frame.f_code.co_name)
        found = found.tb_next
    return (
        type(error).__name__,
        str(error),
        frames,
        described(error.__cause__, depth - 1),
        described(error.__context__, depth - 1),
    )


def decided(decision):
    if decision is None:
        return None
    id_ = decode_id(decision.id)
    return decision.variant, decision.reason, decision.phase, decision.bucket, decision.time_s, id_.variant, id_.excluded


class Stage:
    """One side of the comparison: a rollout, what its models do, and all that can be seen of it."""

    def __init__(self, scene, folder):
        self.scene, self.seen, self.acts = scene, [], {}
        self.observer = Observer()
        self.runtime = Runtime(journal=folder, plugins=[self.observer], time_ns=lambda: 1_700_000_000_123_456_789)
        options = {name: scene[name] for name in ("strategy", "on_error", "breaker", "unit", "passthrough")}
        if scene["broken"] is not None:
            # Where the common call gives up after it has drawn, the flow draws again.
            options["unit"] = "user"
        make = self.coroutine if scene["kind"] == "coroutine" else self.function
        self.model = rollout(candidate=make("candidate"), effects="read", key="m", runtime=self.runtime, **options)(
            make("control")
        )
        self.inner = rollout(candidate=self.innermost, strategy=ABTest(0.5), unit="user", key="inner", runtime=self.runtime)(
            self.innermost
        )

    @staticmethod
    def innermost(user):
        if user == "fails":
            raise LookupError("of the inner control")
        return user

    def act(self, name, user, rest):
        deeds, end = self.acts[name]
        if is_shadow():
            # When it runs is an accident.
            return user
        seen = repr(rest) if isinstance(rest, list | dict | bytearray) and "iterator" not in repr(rest) else ""
        self.seen.append((name, "runs", repr(user)[:20], NOTED.get(), seen))
        for deed in deeds:
            if deed == "note":
                NOTED.set(name)
            elif deed == "look":
                self.seen.append((name, "sees", decided(current_decision())))
            elif deed == "call another":
                self.seen.append((name, "called", self.inner("u-9")))
            elif deed == "fail another":
                self.inner("fails")
            elif deed == "change":
                self.change(name, rest)
            else:
                try:
                    raise OSError("handled by the model")
                except OSError:
                    if end in ERRORS:
                        raise ERRORS[end](name)
        if end in ERRORS:
            raise ERRORS[end](name)
        return GIVEN[end]()

    @staticmethod
    def change(name, rest):
        """What the control sees of it after a candidate has failed, and the caller afterwards."""
        if isinstance(rest, list):
            rest.append(name)
        elif isinstance(rest, dict):
            rest[name] = 1
        elif isinstance(rest, bytearray):
            rest.extend(name.encode())

    def function(self, name):
        def model(user=None, rest=None):
            return self.act(name, user, rest)

        return model

    def coroutine(self, name):
        async def model(user=None, rest=None):
            await asyncio.sleep(0)
            return self.act(name, user, rest)

        return model

    def play(self, loop):
        for number, call in enumerate(self.scene["calls"]):
            if self.scene["broken"] is not None and number == self.scene["broken_from"]:
                self.break_part(self.scene["broken"])
            self.before(call["before"])
            self.acts = {"control": call["control"], "candidate": call["candidate"]}
            forking._random.seed(f"{self.scene['seed']} {number}")
            self.call(call, loop)
            # What a shadow does to its breaker must not depend on when it runs.
            self.runtime.background.wait(5.0)
        enable()
        loop.run_until_complete(self.shadows_end())

    @staticmethod
    async def shadows_end():
        while others := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(others)

    def before(self, what):
        controller = self.model.rollout
        if what == "disable":
            disable()
        elif what == "enable":
            enable()
        elif what in ("hold", "let go"):
            controller._rollout.local_state.disable(disabled=what == "hold", holder="test")
        elif what is not None and controller._rollout.state.status == "running":
            # Where the recorder is broken, the operator hears of it.
            with suppress(RuntimeError):
                getattr(controller, what)()

    def break_part(self, part):
        engine, recorder = self.model.rollout._rollout, self.runtime.recorder
        self.runtime.flush(5.0)
        if part == "take and conclude":
            engine.take = engine.conclude = Broken()
        elif part == "queue":
            recorder._queue = Broken()
        elif part == "breakers":
            for breaker in engine.local_state.breakers.values():
                breaker._state = Broken()
        else:
            setattr(engine, part, Broken())

    def call(self, call, loop):
        rest = RESTS[call["rest"]]()
        args, kwargs = ((), {"user": call["unit"], "rest": rest}) if call["named"] else ((call["unit"], rest), {})

        async def run():
            value = await self.model(*args, **kwargs)
            for _ in range(5):
                # Its shadow's turn.
                await asyncio.sleep(0)
            self.seen.append(("afterwards", NOTED.get(), decided(current_decision())))
            return [value]

        try:
            # A caller that handles an exception of its own: it must not become the context of the model's.
            try:
                raise IndexError("the caller's")
            except IndexError:
                value = loop.run_until_complete(run())[0] if self.scene["kind"] == "coroutine" else self.model(*args, **kwargs)
            value = list(value) if not isinstance(value, str | list | Answer) else value
            self.seen.append(("answer", value))
        except BaseException as error:
            self.seen.append(("exception", described(error)))
        left = "" if "iterator" in call["rest"] else repr(rest)
        self.seen.append(("afterwards", NOTED.get(), decided(current_decision()), left))

    def finish(self, folder):
        """Everything that is seen from outside."""
        broken = self.scene["broken"]
        if broken == "queue":
            # What the recorder has of it is an accident; and where the flow has drawn again, whether there is a shadow to fail.
            faults = self.runtime.faults.get(("engine.flow", "RuntimeError"), 0)
            return self.seen, faults > 0 if self.scene["strategy"].shadows else faults
        assert self.runtime.flush(10.0)
        breakers = {} if broken == "breakers" else self.model.rollout._rollout.local_state.breakers
        status = {} if broken in ("breakers", "audience", "nonces") else self.model.rollout.status().calls
        managed = self.runtime.reconciler.rollouts["m"]
        evidence = {} if managed.evidence is None else {
            name: {part: table for part, table in phase.as_dict().items() if part != "sums"}
            for name, phase in managed.evidence.phases.items()
        }  # fmt: skip
        self.runtime.close(5.0)
        lines, ids = self.lines(folder)
        assert Counter(ids) == Counter(each.decision.id for each in self.observer.routed)
        return {
            "seen": self.seen,
            "events": [self.event(each) for each in self.observer.routed],
            "journal": lines,
            "evidence": evidence,
            "breakers": {name: (each.is_open, len(each._state.recent)) for name, each in breakers.items()},
            "status": dict(status),
            # A busy machine keeps the journal's thread waiting.
            "faults": {fault: number for fault, number in self.runtime.faults.items() if "HangError" not in fault},
        }

    def event(self, each):
        runs = [(run.variant, run.duration_s >= 0, run.error, run.first_item_s is None) for run in each.runs]
        rest = {
            name: getattr(each, name)
            for name in (
                "served", "error", "unit", "control", "excluded", "withheld", "answered", "no_evidence", "unmeasured", "rate",
                "closed_early",
            )
        }  # fmt: skip
        return decided(each.decision), each.decision.fingerprint, runs, rest

    @staticmethod
    def lines(folder):
        found, ids = [], []
        for path in folder.glob("*.jsonl"):
            for line in path.read_text().splitlines():
                table = json.loads(line)
                id_ = table.pop("id", None)
                if table["event"] == "decision":
                    ids.append(id_)
                    table["runs"] = [[run[0], run[2], run[3] is None] for run in table.get("runs", ())]
                    found.append(table)
        return found, ids


def alike(scene, tmp_path):
    """Play a scene both ways; return how many of the calls were common."""
    sides, taken = [], Counter()
    begin = Common.begin

    def counting(self, args, kwargs):
        begun = begin(self, args, kwargs)
        taken[type(begun).__name__] += self._rollout.key == "m"
        return begun

    for way in (counting, lambda *_: None):
        folder = tmp_path / f"{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        with mock.patch.object(Common, "begin", way):
            stage = Stage(scene, folder)
            loop = asyncio.new_event_loop()
            try:
                Context().run(stage.play, loop)
                sides.append(stage.finish(folder))
            finally:
                loop.close()
                enable()
                stage.runtime.close(0.5)
    assert sides[1] == sides[0]
    return taken


# Scenes are long: making one smaller takes minutes.
AS_FOUND = [Phase.explicit, Phase.reuse, Phase.generate]


@settings(max_examples=60, phases=AS_FOUND)
@given(SCENES)
def test_the_common_call_and_the_flow_are_alike(tmp_path_factory, scene):
    taken = alike(scene, tmp_path_factory.mktemp("alike"))
    event("common" if taken["CommonCall"] else "all by the flow")


@pytest.mark.slow
@pytest.mark.timeout(7200)
@settings(max_examples=10_000, phases=AS_FOUND)
@given(SCENES)
def test_the_common_call_and_the_flow_are_alike_in_ten_thousand_scenes(tmp_path_factory, scene):
    alike(scene, tmp_path_factory.mktemp("alike"))


class AsksMeanwhile:
    """A rollout, of which reading an attribute has another thread ask for the same call."""

    control = "control"

    def __init__(self):
        self.asked, self.found = 0, []

    @property
    def outline(self):
        self.asked += 1
        if self.asked == 1:
            thread = threading.Thread(target=lambda: self.found.append((self.call.full, self.call.full.decision)))
            thread.start()
            thread.join(10.0)


def test_threads_that_ask_for_a_call_at_once_get_the_same_whole_one():
    rollout, decision = AsksMeanwhile(), object()
    call = rollout.call = CommonCall()
    plan = SimpleNamespace(rollout=rollout, state=SimpleNamespace(phase=None), has_unit=True, origin=1)
    call.arm = SimpleNamespace(plan=plan, decision=decision)
    call.kwargs, call.raw, call.sequence, call.time_ns, call.outer = {}, bytes(8), 1, 1, None
    full = call.full
    assert [(full, decision)] == rollout.found
    assert full is call.full
    assert {} == _finished


@pytest.mark.parametrize("strategy", [ABTest(0.5), CANARY, Shadow(0.5)], ids=lambda strategy: strategy.name)
def test_a_unit_is_assigned_as_the_router_decides(strategy, watch):
    runtime = watch(time_ns=lambda: 10**18)
    model = rollout(candidate=str, strategy=strategy, effects="read", unit="user", key="m", runtime=runtime)(lambda user: user)
    for unit in ("u-1", "u-2", "é", 7, "", None, "u-1", "u-3"):
        forking._random.seed(3)
        decision = model.rollout.assign(unit)
        forking._random.seed(3)
        with mock.patch.object(Common, "assigned", return_value=None):
            expected = model.rollout.assign(unit)
        # Their ids differ in the nonce.
        assert evolve(expected, id="") == evolve(decision, id="")
        assert decided(expected) == decided(decision)
        assert decision.id == decision.id != expected.id


# What is written and counted of many calls at once ---------------------------------------------------------------------------

TEXTS = st.text(st.characters(blacklist_categories=["Cs", "Cc"]), min_size=1, max_size=12)
TIMES = st.integers(0, 2**62)


@given(TEXTS, TEXTS, TEXTS, st.sampled_from([None, b"key"]), st.sampled_from(["", "97dd9ec6"]), st.integers(0, 511), TIMES)
def test_a_template_of_ids_gives_the_ids(rollout, phase, variant, key, fingerprint, bucket, time_ns):
    template = IdTemplate(rollout, phase, variant, key, fingerprint=fingerprint)
    id_ = encode_id(rollout, phase, variant, bucket, time_ns, "nonce1", key, fingerprint=fingerprint)
    assert [id_] * 2 == template.each([bucket] * 2, [time_ns] * 2, [0xE1] * 2, origin="nonc")
    assert [id_] == template.each([bucket], [time_ns], [0xE], origin="nonc", end="1")


NEAR_TODAY = st.integers(2**30 * 10**9 - 2 * 10**9, 2**33 * 10**9 + 2 * 10**9)


@example("m", "v", 7, [(1, 1_700_000_000_999_999_600, 0.5), (2, 1_700_000_000_000_000_000, 0.0)])
@given(
    TEXTS,
    TEXTS,
    st.one_of(st.none(), st.integers(0, 2**64 - 1)),
    st.lists(st.tuples(st.integers(0, 511), st.one_of(TIMES, NEAR_TODAY), st.floats(0, 1e6)), max_size=4),
)
def test_a_template_of_lines_gives_the_lines(rollout, variant, digest, rows):
    def routed(bucket, unit, time_ns, duration_s, id_):
        decision = Decision(
            variant, "split", 0.5, id=id_, rollout=rollout, strategy="ab", phase="0:50%", share=0.5, bucket=bucket,
            time_s=time_ns / 1e9, fingerprint="97dd9ec6",
        )  # fmt: skip
        return RoutedEvent(decision, variant, (Run(variant, duration_s),), unit=unit)

    unit = None if digest is None else f"{digest:016x}"
    template = DecisionTemplate(routed(7, None if unit is None else "1" * 16, 10**18, 0.25, "another"))
    expected = [as_line(routed(bucket, unit, time_ns, duration_s, "MXMf-_")) for bucket, time_ns, duration_s in rows]
    buckets, times_ns, durations_s = zip(*rows, strict=True) if rows else ((), (), ())
    assert expected == template.each(times_ns, ["MXMf-_"] * len(rows), buckets, [unit or ""] * len(rows), durations_s)


@given(
    st.lists(st.tuples(st.integers(0, 2**64 - 1), st.integers(-(10**9), 10**12), st.floats(0, 2)), max_size=20),
    st.sampled_from([[], [Guardrail("error_rate")], [Guardrail("latency", threshold_s=0.5)], [Guardrail("latency_mean")]]),
)
def test_calls_are_added_to_the_evidence_together_as_one_by_one(answered, criteria):
    together, apart = Evidence(criteria), Evidence(criteria)
    shares = {"control": 0.5, "candidate": 0.5}
    together.add_answered("0:50%", "control", shares, answered)
    for digest, time_ns, duration_s in answered:
        apart.add_call(
            "0:50%", "control", shares, cell_of(digest), digest & 511, failed=False, duration_s=duration_s, time_s=time_ns / 1e9
        )
    found, expected = ({name: phase.as_dict() for name, phase in each.phases.items()} for each in (together, apart))
    assert expected == (found if answered else {})
