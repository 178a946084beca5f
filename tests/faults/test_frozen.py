"""Row F47: exceptions that refuse to be touched, written out or looked at reach callers as they are."""

import asyncio
import traceback
from dataclasses import dataclass
from pathlib import Path

import pytest
from opentelemetry.sdk.trace import TracerProvider

import rollout_sdk
from rollout_sdk import ABTest, Interleave, Shadow, Telemetry, rollout
from tests.faults.kinds import KINDS, of_kind, read, turns


@dataclass(frozen=True)
class NotFoundError(Exception):
    what: str


class RefusesError(Exception):
    """Nothing can be set on it, or taken away."""

    def __setattr__(self, name, value):
        raise RuntimeError(name)

    __delattr__ = None


class SlottedError(Exception):
    __slots__ = ("code",)

    def __str__(self):
        raise RuntimeError("no text")

    __repr__ = __str__


class SecretiveError(Exception):
    """What Python notes on an exception cannot be read from this one."""

    @property
    def __traceback__(self):
        raise RuntimeError("__traceback__")

    @property
    def __context__(self):
        raise RuntimeError("__context__")

    @property
    def __cause__(self):
        raise RuntimeError("__cause__")

    def with_traceback(self, _):
        raise RuntimeError("with_traceback")

    def __eq__(self, _):
        raise RuntimeError("__eq__")

    def __hash__(self):
        raise RuntimeError("__hash__")


class FrozenGroupError(ExceptionGroup):
    def __setattr__(self, name, value):
        raise RuntimeError(name)


class PanickingTextError(Exception):
    def __str__(self):
        raise BaseException

    __repr__ = __str__


HOSTILE = {
    "frozen": lambda: NotFoundError("it"),
    "refuses": RefusesError,
    "slotted": SlottedError,
    "secretive": SecretiveError,
    "group": lambda: FrozenGroupError("several", [NotFoundError("one")]),
    "panicking text": PanickingTextError,
}
SETTINGS = {
    "default": {},
    "raise": {"on_error": "raise"},
    "interleaved": {"strategy": Interleave()},
    "shadowed": {"strategy": Shadow(1.0), "effects": "read"},
    "deadline": {"deadline_s": 5.0},
}
STREAMS = {"function": "generator", "coroutine": "async generator"}


@pytest.fixture
def loop():
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


def raises(error):
    def fails(*_):
        raise error

    return fails


def old(*_):
    return ["old"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("setting", SETTINGS)
def test_f47_the_controls_exception_is_the_callers(kind, name, setting, watch, loop, figure):
    if setting == "deadline" and kind not in ("coroutine", "async generator"):
        pytest.skip("Python cannot leave a thread")
    error = HOSTILE[name]()
    runtime = watch(telemetry=Telemetry(tracer_provider=TracerProvider(shutdown_on_exit=False)))
    options = {"strategy": ABTest(0.0), **SETTINGS[setting]}
    model = rollout(candidate=of_kind(kind, old), key="model", runtime=runtime, **options)(of_kind(kind, raises(error)))
    given = read(kind, lambda: model(1), loop)[1]
    turns(loop)
    assert error is given
    assert runtime.flush(10.0)
    assert [] == [what for what, _ in runtime.faults if what.startswith("engine")]
    figure(
        "F47",
        "{same} of {runs} callers get the same object, for {name} kinds of exceptions in {kind} kinds of "
        "functions under {setting} settings",
        same=int(error is given),
        name=name,
        kind=kind,
        setting=setting,
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("setting", SETTINGS)
def test_f47_a_candidates_exception_is_a_failure_like_any_other(kind, name, setting, watch, loop):
    if setting == "deadline" and kind not in ("coroutine", "async generator"):
        pytest.skip("Python cannot leave a thread")
    error = HOSTILE[name]()
    runtime = watch(telemetry=Telemetry(tracer_provider=TracerProvider(shutdown_on_exit=False)))
    options = {"strategy": ABTest(1.0), **SETTINGS[setting]}
    model = rollout(candidate=of_kind(kind, raises(error)), key="model", runtime=runtime, **options)(of_kind(kind, old))
    value, given = read(kind, lambda: model(1), loop)
    turns(loop)
    if setting == "raise":
        assert error is given
    else:
        assert (["old"], None) == (value, given)
    assert runtime.flush(10.0)
    assert [] == [what for what, _ in runtime.faults if what.startswith("engine")]


@pytest.mark.parametrize("fails", ["control", "candidate"])
@pytest.mark.parametrize("kind", ["coroutine", "generator", "async generator"])
@pytest.mark.parametrize("name", HOSTILE)
def test_f47_so_is_what_a_plain_function_returns(kind, name, fails, watch, loop):
    error = HOSTILE[name]()

    def bad(x):
        return of_kind(kind, raises(error))(x)

    def good(x):
        return of_kind(kind, old)(x)

    strategy = ABTest(1.0 if fails == "candidate" else 0.0)
    candidate, control = (bad, good) if fails == "candidate" else (good, bad)
    model = rollout(candidate=candidate, strategy=strategy, key="model", runtime=watch())(control)
    value, given = read(kind, lambda: model(1), loop)
    if fails == "control":
        assert error is given
    else:
        assert (["old"], None) == (value, given)


@pytest.mark.parametrize("name", HOSTILE)
def test_f47_so_is_what_an_iterator_raises(name, watch):
    error = HOSTILE[name]()

    def bad(x):
        return map(raises(error), [x])

    model = rollout(candidate=bad, strategy=ABTest(0.0), key="model", runtime=watch())(bad)
    try:
        list(model(1))
    except Exception as given:
        assert error is given


@pytest.mark.parametrize("name", HOSTILE)
def test_f47_the_context_is_the_models_own(name, watch):
    error, of = HOSTILE[name](), vars(BaseException)["__context__"].__get__

    def bad(x):
        try:
            raise KeyError
        except KeyError:
            raise error

    model = rollout(candidate=bad, strategy=ABTest(0.0), key="model", runtime=watch())(bad)
    found = None
    try:
        raise LookupError
    except LookupError:
        try:
            model(1)
        except Exception as given:
            found = of(given)
    assert KeyError is type(found)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("on_error", ["control", "raise"])
def test_f47_a_traceback_has_one_frame_of_ours(kind, on_error, watch, loop, figure):
    def fails(*_):
        raise KeyError

    model = rollout(
        candidate=of_kind(kind, fails), strategy=ABTest(1.0), key="model", runtime=watch(), on_error=on_error
    )(of_kind(kind, fails))  # fmt: skip
    _, error = read(kind, lambda: model(1), loop)
    ours = Path(rollout_sdk.__file__).parent
    frames = sum(ours in Path(frame.filename).parents for frame in traceback.extract_tb(error.__traceback__))
    assert 1 == frames
    figure("F47", "{frames:.0f} frame of the SDK in each of {runs} tracebacks", frames=float(frames))
