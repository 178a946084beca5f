"""Rows F65 to F69: what a candidate changes around itself, and what of its caller a shadow has around it."""

import asyncio
import contextvars
import decimal
import sys
import threading
import time
import types
from collections import Counter
from contextlib import ExitStack, aclosing
from operator import itemgetter

import numpy as np
import pytest

from rollout_sdk import Interleave
from tests.faults.kinds import KINDS, of_kind, read
from tests.faults.models import served, shadowed

UNSET = "unset"

RETURNED = ["returned generator", "returned iterator", "returned coroutine", "returned async generator"]


@pytest.fixture
def loop():
    made = asyncio.new_event_loop()
    yield made
    made.close()


@pytest.fixture
def plain():
    return contextvars.ContextVar("plain", default=UNSET)


@pytest.fixture
def bare():
    return contextvars.ContextVar("bare")


@pytest.fixture(autouse=True)
def numbers_of_its_own():
    """What a test sets is not the next one's."""
    with decimal.localcontext(decimal.DefaultContext), np.errstate():
        yield


def made(kind, answer):
    """A function of a kind (see `of_kind`), or a plain function that returns what one gives."""
    if not kind.startswith("returned"):
        return of_kind(kind, answer)
    if kind == "returned iterator":
        return lambda argument: map(itemgetter(0), map(answer, [argument]))
    inner = of_kind(kind.removeprefix("returned "), answer)
    return lambda *arguments: inner(*arguments)


def asked(kind, model, loop):
    """What a call of a model of a kind gives: its one answer."""
    if kind in ("returned iterator", "returned generator"):
        kind = "generator"
    value, error = read(kind.removeprefix("returned "), lambda: model(1), loop)
    assert error is None
    return value[0]


# F65 ----------------------------------------------------------------------------------------------------------------------


def of_a_framework(monkeypatch):
    """A framework that sends words to whoever listens in a context variable, as LangChain does; and what was sent."""
    framework = types.ModuleType("rollout_test_framework")
    framework.listeners = contextvars.ContextVar("listeners", default=())
    monkeypatch.setitem(sys.modules, framework.__name__, framework)

    def say(word):
        for listener in framework.listeners.get():
            listener.append(word)
        return [word]

    return framework, say


@pytest.mark.parametrize("kind", KINDS)
def test_f65_a_shadow_does_not_get_the_variables_that_it_is_to_run_without(kind, watch, figure, loop, monkeypatch, plain):
    framework, say = of_a_framework(monkeypatch)
    runtime = watch(shadow_without=["rollout_test_framework:listeners"])
    seen = []

    def words_of_a_shadow(x):
        seen.append((plain.get(), framework.listeners.get()))
        return say("shadow's")

    model = shadowed(of_kind(kind, lambda x: say("control's")), of_kind(kind, words_of_a_shadow), runtime)
    heard = []
    plain.set("kept")
    token = framework.listeners.set((heard,))
    for _ in range(50):
        read(kind, lambda: model(1), loop)
        loop.run_until_complete(asyncio.sleep(0.001))
    assert runtime.flush(10)
    framework.listeners.reset(token)
    assert {("candidate", "ok"): 50} == model.rollout.status().shadows
    assert [("kept", ())] * 50 == seen
    assert ["control's"] * 50 == heard
    figure("F65", "{heard} of {said} outputs of shadows reached the caller's listener, for {kind} kinds of functions",
           heard=heard.count("shadow's"), said=len(seen), kind=kind)  # fmt: skip


@pytest.mark.parametrize("kind", ["function", "coroutine"])
def test_f65_no_callback_and_no_stream_of_a_langchain_caller_has_a_word_of_a_shadow(kind, watch, figure, loop):
    callbacks = pytest.importorskip("langchain_core.callbacks", reason="langchain-core is not installed")
    from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
    from langchain_core.messages import AIMessage
    from langchain_core.runnables import RunnableLambda

    chats = {name: GenericFakeChatModel(messages=iter([AIMessage(name)] * 20)) for name in ("public", "hidden")}

    def answering(name):
        async def coroutine(question):
            return (await chats[name].ainvoke(question)).content

        def function(question):
            return chats[name].invoke(question).content

        return function if kind == "function" else coroutine

    class Handler(callbacks.BaseCallbackHandler):
        def __init__(self):
            self.heard = []

        def on_llm_end(self, response, **_):
            self.heard.append(response.generations[0][0].text)

    runtime = watch()
    model = shadowed(answering("public"), answering("hidden"), runtime)

    async def chain(question):
        answer = await model(question) if kind == "coroutine" else model(question)
        await asyncio.to_thread(runtime.flush, 10.0)
        await asyncio.sleep(0.05)
        return answer

    async def main():
        handler = Handler()
        app = RunnableLambda(chain)
        await app.ainvoke("hi", {"callbacks": [handler]})
        events = [event async for event in app.astream_events("hi", version="v2") if "chat_model" in event["event"]]
        return handler.heard, repr(events)

    heard, events = loop.run_until_complete(main())
    assert ["public"] == heard
    assert ("public" in events, "hidden" in events) == (True, False)
    shadows = model.rollout.status().shadows
    assert {("candidate", "ok"): 2} == shadows
    figure("F65", "LangChain: callbacks and event streams of callers received {words} outputs of {shadows} shadows",
           words=heard.count("hidden") + events.count("hidden"), shadows=shadows["candidate", "ok"])  # fmt: skip


# F66 ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [*KINDS, *RETURNED])
def test_f66_a_failed_candidates_variables_reach_neither_the_control_nor_the_caller(kind, watch, figure, loop, plain, bare):
    def spoils(x):
        plain.set("candidate's")
        bare.set("candidate's")
        raise ValueError

    runtime = watch()
    model = served(made(kind, lambda x: [(plain.get(), bare.get())]), made(kind, spoils), runtime, breaker=None)
    bare.set("caller's")
    seen = [(asked(kind, model, loop), (plain.get(), bare.get())) for _ in range(25)]
    assert [((UNSET, "caller's"), (UNSET, "caller's"))] * 25 == seen
    assert ["control"] * 25 == [event.served for event in runtime.routed()]
    figure("F66", "{saw} of {calls} controls and callers saw a failed candidate's variables, in {kind} ways to run one",
           saw=sum("candidate's" in variables for each in seen for variables in each), calls=len(seen), kind=kind)  # fmt: skip


@pytest.mark.parametrize("kind", ["function", "coroutine"])
def test_f66_to_the_control_a_variable_without_a_default_is_unset_again(kind, watch, figure, loop, plain, bare):
    def spoils(x):
        bare.set("candidate's")
        raise ValueError

    def answer(x):
        plain.set("control's")
        return [bare.get("nothing")]

    model = served(of_kind(kind, answer), of_kind(kind, spoils), watch(), breaker=None)

    async def main():
        return await model(1), bare.get("nothing"), plain.get()

    found = (model(1), bare.get("nothing"), plain.get()) if kind == "function" else loop.run_until_complete(main())
    # Python cannot unset it for the caller; what the control set is the caller's.
    assert (["nothing"], None, "control's") == found
    figure("F66", "a variable that the candidate gave its first value is unset for {unset} of {runs} controls, and None for "
           "the caller", unset=found[0].count("nothing"))  # fmt: skip


@pytest.mark.parametrize("kind", [*KINDS, *RETURNED])
def test_f66_what_a_successful_candidate_sets_is_its_callers_and_so_are_its_tokens(kind, watch, figure, loop, plain):
    def sets(x):
        return [plain.set("candidate's")]

    model = served(made(kind, lambda x: ["control"]), made(kind, sets), watch())

    async def main():
        if "generator" in kind:
            async with aclosing(model(1)) as stream:
                return undone((await anext(stream),))
        return undone(await model(1))

    def undone(given):
        seen = plain.get()
        plain.reset(given[0])
        return seen, plain.get()

    if "async" in kind or "coroutine" in kind:
        found = loop.run_until_complete(main())
    else:
        found = undone(model(1) if kind == "function" else (next(model(1)),))
    assert ("candidate's", UNSET) == found
    figure("F66", "{reset} of {runs} tokens of successful candidates reset by their callers", reset=found.count(UNSET))


def test_f66_an_interleaved_or_batched_candidate_leaves_the_callers_variables_to_the_control(watch, plain):
    def ranked(name):
        def rank(query):
            plain.set(name)
            return [name]

        return rank

    blended = served(ranked("control's"), ranked("candidate's"), watch(), strategy=Interleave(), effects="read", key="blend")
    blended("query")
    assert "control's" == plain.get()

    def fails(rows):
        plain.set("candidate's")
        raise ValueError

    batched = served(lambda rows: [plain.get() for _ in rows], fails, watch(), batch=("rows",), key="batch", breaker=None)
    assert ["control's"] * 3 == batched([1, 2, 3])


@pytest.mark.parametrize("kind", ["coroutine", "async generator"])
def test_f66_with_a_deadline_a_successful_candidates_variables_are_the_callers_too(kind, watch, loop, plain):
    def sets(x):
        plain.set("candidate's")
        decimal.getcontext().prec = 7
        return [1]

    model = served(of_kind(kind, lambda x: [0]), of_kind(kind, sets), watch(), deadline_s=5.0)

    async def main():
        if kind == "coroutine":
            await model(1)
        else:
            async for _ in model(1):
                pass
        return plain.get(), decimal.getcontext().prec

    assert ("candidate's", 7) == loop.run_until_complete(main())


# F67 ----------------------------------------------------------------------------------------------------------------------


def numbers():
    context = decimal.getcontext()
    return context.prec, context.rounding, bool(context.flags[decimal.Inexact]), np.geterr()


@pytest.mark.parametrize("replaced", [False, True], ids=["changed in place", "replaced"])
@pytest.mark.parametrize("kind", [*KINDS, *RETURNED])
def test_f67_a_failed_candidates_decimal_context_and_numpy_errors_do_not_reach_the_control(kind, replaced, watch, figure, loop):
    def spoils(x):
        if replaced:
            decimal.setcontext(decimal.Context(prec=2))
        decimal.getcontext().prec = 3
        decimal.getcontext().rounding = decimal.ROUND_UP
        decimal.Decimal(1) / 3
        np.seterr(all="ignore")
        raise ValueError

    def seen():
        # A loop's tasks run in copies of the context, with the same decimal context in them.
        model = served(made(kind, lambda x: [numbers()]), made(kind, spoils), watch(), breaker=None)
        return asked(kind, model, loop)

    decimal.getcontext().prec = 11
    before = numbers()
    found, after = seen(), numbers()
    assert (before, before) == (found, after)
    figure("F67", "{spoilt} of {runs} controls calculated with a failed candidate's decimal context or numpy error state",
           spoilt=int(found != before))  # fmt: skip


def test_f67_a_caller_without_a_decimal_context_gets_a_fresh_one(watch):
    def spoils(x):
        decimal.getcontext().prec = 3
        raise ValueError

    model = served(lambda x: str(decimal.Decimal(1) / 7), spoils, watch())
    assert "0.1428571428571428571428571429" == contextvars.Context().run(model, 1)


def test_f67_a_shadow_calculates_in_a_copy_of_its_callers_decimal_context(watch, figure):
    seen, changed = [], threading.Event()

    def candidate(x):
        seen.append(decimal.getcontext().prec)
        decimal.getcontext().prec = 2
        changed.set()

    runtime = watch()
    model = shadowed(lambda x: setattr(decimal.getcontext(), "prec", 5), candidate, runtime)
    decimal.getcontext().prec = 9
    model(1)
    assert changed.wait(10)
    assert runtime.flush(10)
    # As the candidate in the control's place: it begins where the caller stood. And what the control set stays.
    left = decimal.getcontext().prec
    assert ([9], 5) == (seen, left)
    figure(
        "F67",
        "a shadow calculates with {shadow} digits, as its caller does, and sets another precision: its caller keeps {caller}",
        shadow=seen[0],
        caller=left,
    )


def test_f67_a_failed_candidate_leaves_torchs_grad_mode_as_it_was(watch, figure):
    torch = pytest.importorskip("torch", reason="torch is not installed")

    def spoils(x):
        torch.set_grad_enabled(False)
        raise ValueError

    model = served(lambda x: torch.is_grad_enabled(), spoils, watch(), breaker=None)
    modes = [(model(1), torch.is_grad_enabled()) for _ in range(10)]
    assert [(True, True)] * 10 == modes
    figure("F67", "torch's grad mode is restored after {back} of {calls} failed candidates", back=modes.count((True, True)),
           calls=len(modes))  # fmt: skip


# F68 ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_f68_a_shadow_calculates_as_its_caller_does(kind, watch, figure, loop):
    seen = []
    runtime = watch()
    model = shadowed(of_kind(kind, lambda x: [numbers()]), of_kind(kind, lambda x: seen.append(numbers()) or [0]), runtime)
    with decimal.localcontext(prec=6, rounding=decimal.ROUND_UP), np.errstate(divide="raise", over="ignore"):
        expected, _ = read(kind, lambda: model(1), loop)
    loop.run_until_complete(asyncio.sleep(0.01))
    assert runtime.flush(10)
    assert expected == seen
    assert 6 == seen[0][0]
    assert "raise" == seen[0][3]["divide"]
    figure(
        "F68",
        "{same} of {runs} shadows have their callers' decimal context and numpy error state, for {kind} kinds of functions",
        same=int(expected == seen),
        kind=kind,
    )


def torch_state(torch):
    device = torch.get_default_device().type
    autocast = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else None
    return torch.is_inference_mode_enabled(), torch.is_grad_enabled(), autocast, device


@pytest.mark.parametrize("mode", ["inference_mode", "no_grad", "autocast", "device", "all of them", "none"])
@pytest.mark.parametrize("kind", KINDS)
def test_f68_a_shadow_runs_in_its_callers_torch_modes(kind, mode, watch, figure, loop):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    modes = {
        "inference_mode": [torch.inference_mode],
        "no_grad": [torch.no_grad],
        "autocast": [lambda: torch.autocast("cpu", dtype=torch.bfloat16)],
        "device": [lambda: torch.device("meta")],
        "none": [],
    }
    modes["all of them"] = [make for makers in modes.values() for make in makers]
    seen, between = [], []
    runtime = watch()

    def candidate(x):
        seen.append(torch_state(torch))
        return [0]

    model = shadowed(of_kind(kind, lambda x: [torch_state(torch)]), of_kind(kind, candidate), runtime)
    outside = torch_state(torch)
    with ExitStack() as stack:
        for make in modes[mode]:
            stack.enter_context(make())
        expected, _ = read(kind, lambda: model(1), loop)
    for _ in range(5):
        loop.run_until_complete(asyncio.sleep(0.001))
        between.append(torch_state(torch))
    assert runtime.flush(10)
    assert expected == seen
    assert [outside] * 5 == between
    # The thread, or the loop, is as it was for the next.
    read(kind, lambda: model(1), loop)
    loop.run_until_complete(asyncio.sleep(0.01))
    assert runtime.flush(10)
    assert outside == seen[-1]
    assert not model.rollout.status().faults
    figure(
        "F68",
        "torch: {same} of {runs} shadows have the caller's inference, grad and autocast modes and default device",
        same=int(expected == seen[:1]),
    )


def test_f68_a_module_answers_the_same_as_control_and_as_shadow_under_inference_mode(watch, figure):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    layer = torch.nn.Linear(8, 2)
    runtime = watch()
    model = shadowed(lambda x: layer(x), lambda x: layer(x), runtime)
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        for _ in range(10):
            model(torch.randn(4, 8))
    ends = Counter((event.end, event.comparison and event.comparison.match) for event in runtime.shadowed())
    assert Counter({("ok", True): 10}) == ends
    figure("F68", "{match} of {shadows} shadows of a module under inference_mode and autocast match it", match=ends["ok", True],
           shadows=ends.total())  # fmt: skip


# F69 ----------------------------------------------------------------------------------------------------------------------


class Raising:
    def __init__(self, where, error):
        self.where, self.error, self.asked, self.entered = where, error, 0, 0

    name = "raising"

    def rollout_surround(self, request):
        self.asked += 1
        if self.where == "ask":
            raise self.error
        return self

    def __enter__(self):
        self.entered += 1
        if self.where == "enter":
            raise self.error

    def __exit__(self, *_):
        if self.where == "leave":
            raise self.error


@pytest.mark.parametrize("error", [ValueError(), SystemExit(3), KeyboardInterrupt(), GeneratorExit()], ids=repr)
@pytest.mark.parametrize("where", ["enter", "leave"])
@pytest.mark.parametrize("kind", KINDS)
def test_f69_a_surrounding_that_cannot_be_entered_or_left_ends_nothing(kind, where, error, watch, figure, loop):
    runtime, plugin = watch(), Raising(where, error)
    model = shadowed(of_kind(kind, lambda x: ["control"]), of_kind(kind, lambda x: ["shadow"]), runtime, plugins=[plugin])
    for _ in range(5):
        read(kind, lambda: model(1), loop)
        loop.run_until_complete(asyncio.sleep(0.001))
    assert runtime.flush(10)
    status = model.rollout.status()
    assert {("candidate", "ok"): 5} == status.shadows
    assert status.faults
    assert plugin.entered > 0
    figure("F69", "{ok} of {shadows} shadows ran and returned although their context managers could not be entered or left",
           ok=status.shadows["candidate", "ok"], shadows=sum(status.shadows.values()))  # fmt: skip


@pytest.mark.parametrize(
    "given", [ValueError(), SystemExit(3), RecursionError(), 7, "text", open, lambda: None], ids=lambda given: repr(given)[:20]
)
def test_f69_a_hook_that_raises_or_gives_nonsense_is_suspended_and_the_call_is_the_controls(given, watch, figure):
    asked = []

    class Broken:
        name = "broken"

        def rollout_surround(self, request):
            asked.append(1)
            if isinstance(given, BaseException):
                raise given
            return given

    runtime = watch()
    model = shadowed(lambda x: x, lambda x: x, runtime, plugins=[Broken()])
    answers = [model(number) for number in range(100)]
    assert list(range(100)) == answers
    assert runtime.flush(10)
    shadows = model.rollout.status().shadows
    assert {("candidate", "ok"): 100} == shadows
    assert 3 == len(asked)
    figure(
        "F69",
        "{calls} calls answered by the control, {ok} shadows ran; the hook is suspended after {strikes:.0f} strikes",
        calls=len(answers),
        ok=shadows["candidate", "ok"],
        strikes=float(len(asked)),
    )


def test_f69_a_hook_that_takes_its_time_is_suspended(watch, figure):
    asked = []

    class Slow:
        name = "slow"

        def rollout_surround(self, request):
            asked.append(1)
            time.sleep(takes_s)

    takes_s = 0.02
    model = shadowed(lambda x: x, lambda x: x, watch(), plugins=[Slow()])
    answers = [model(number) for number in range(50)]
    assert 3 == len(asked)
    figure("F69", "a hook that takes {takes:.0f} ms is suspended after {asked} of {calls} calls", takes=takes_s * 1e3,
           asked=len(asked), calls=len(answers))  # fmt: skip


def test_f69_a_candidate_that_answers_has_no_part_in_it(watch):
    plugin = Raising("ask", ValueError())
    model = served(lambda x: x, lambda x: x, watch(), plugins=[plugin])
    assert 1 == model(1)
    assert 0 == plugin.asked
