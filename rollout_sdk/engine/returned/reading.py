"""Streams that are read through a stand-in: each item is asked for in the caller's own `next`, and what happens is noted.

No lock is taken: threads and tasks may share an iterator, as they could share the bare one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from rollout_sdk.engine.call import Call
from rollout_sdk.engine.execute import run, run_async
from rollout_sdk.engine.flow import advance
from rollout_sdk.engine.returned.forms import each, each_async, is_async_iterable, is_iterable
from rollout_sdk.engine.returned.stage import Run, Stage, go_on, go_on_async
from rollout_sdk.engine.steps import Flow, Invoke, Result
from rollout_sdk.formatting import class_name

__all__ = ["AsyncReading", "By", "Either", "Opened", "Reading"]

_CLOSES = ("close", "aclose", "__exit__", "__aexit__")
_UNTOUCHED = frozenset({"close", "aclose", "response"})
"""What consumers of a stream look at without reading it."""


class By:
    """Reads a stream by one of its methods; and the control's in its place by the same."""

    def __init__(self, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """Read by a method with these arguments."""
        self._name = name
        self._args = args
        self._kwargs = kwargs

    def __call__(self, model: Any) -> Any:
        """What is read."""
        return getattr(model, self._name)(*self._args, **self._kwargs)

    def fits(self, model: Any) -> bool:
        """Whether something can be read in this way."""
        return hasattr(model, self._name)


class Opened:
    """What a stream gave to be read, as the thing that is read: its own stand-in reads by this."""

    def __init__(self, reading: Any) -> None:
        """Read what was opened."""
        self._reading: Any = reading
        # The object that it came from is closed by its own stand-in.
        self.replaced = None
        self.next, self.ask, self.meddle = reading.next, reading.ask, reading.meddle
        self.leave = self.let_go = reading.leave

    @property
    def model(self) -> Any:
        """What is read now."""
        return self._reading.source

    @property
    def is_fresh(self) -> bool:
        """It gives nothing else to read."""
        return False

    def touch(self, _: str) -> None:
        """Nothing is known of what it came from."""

    def turn_to(self, *_: Any) -> bool:
        """It gives nothing else to read."""
        return False


class _Read:
    """What both kinds of readings have in common.

    Attributes:
        replaced: A candidate's stream that failed; its consumer closes it with the control's.
    """

    reads = "__next__"
    is_awaited = False
    _how: Callable[[Any], Any] = staticmethod(iter)
    _fits: Callable[[Any], bool] = staticmethod(is_iterable)

    def __init__(self, call: Call, flow: Flow, step: Invoke, ran: Result) -> None:
        """Begin with what a step returned."""
        self._call = call
        self._flow = flow
        self.replaced: Any = None
        self._touched = False
        self._is_opened = False
        self._stage = self._at(step, ran)
        self._is_iterator = hasattr(type(ran.value), self.reads)

    def _at(self, step: Invoke, ran: Result) -> Stage:
        stage = Stage(self._call, step, ran)
        stage.result.awaited = self.is_awaited
        return stage

    @property
    def model(self) -> Any:
        """What the variant returned that answers now."""
        return self._stage.model

    @property
    def source(self) -> Any:
        """What is read of it."""
        return self._stage.source

    @property
    def is_fresh(self) -> bool:
        """Whether nothing was read of it yet."""
        return not (self._stage.ended or self._stage.has_begun)

    def touch(self, name: str) -> None:
        """Note that the consumer looks at an attribute: it may read the stream that way."""
        if name not in _UNTOUCHED:
            self._touched = True

    def meddle(self) -> None:
        """Note that something is sent or thrown into the stream, which no shadow is sent: it is not compared."""
        self._stage.result.kept = None

    def turn_to(self, source: Any, by: By | None = None) -> bool:
        """Read what `iter` (or a method) gave of the same object, if nothing was read yet."""
        if not self._stage.turn_to(source, self.reads):
            return False
        self._read_by(by)
        return True

    def _read_by(self, by: By | None) -> None:
        if by is not None:
            self._how, self._fits = by, by.fits

    async def enter(self) -> Any:
        """What `async with` gives of it."""
        given = await self.model.__aenter__()
        if given is not self.model:
            self.touch("__aenter__")
        return given

    def open(self) -> Opened:
        """What is read, as a thing of its own: the object may be let go of meanwhile."""
        self._is_opened = True
        return Opened(self)

    def let_go(self) -> None:
        """The consumer's reference to the object is gone."""
        if not self._is_opened:
            self.leave()

    def leave(self) -> None:
        """The consumer had enough: it closed the stream, or let go of it."""
        stage = self._stage
        if not stage.claim():
            return
        result = Result(stage.step.variant, 0.0, None, GeneratorExit(), interrupted=True)
        if self._touched and not self._is_iterator and not stage.has_begun:
            # It was read in a way that cannot be seen.
            self._call.unmeasured = class_name(stage.model)
            result.interrupted, result.error = False, None
        stage.end(result, None)
        advance(self._call, self._flow, stage.result)


class Reading(_Read):
    """A call under way whose answer is an iterator, or gives one to `for`."""

    def _at(self, step: Invoke, ran: Result) -> Stage:
        stage = super()._at(step, ran)
        if not hasattr(type(ran.value), self.reads):
            stage.source = None
        return stage

    def next(self) -> Any:
        """The next item."""
        return self.ask(next, self._stage.source)

    def begin(self, by: By | None = None) -> Any:
        """What the stream gives to `for`, or by a method; the control's in place of an error."""
        self._read_by(by)
        return self.ask(self._how, self._stage.model, opens=True)

    def ask(self, function: Callable[..., Any], *args: Any, thrown: BaseException | None = None, opens: bool = False) -> Any:
        """What a method of the stream gives; what the control gives in place of an error before the first item."""
        while True:
            stage = self._stage
            if stage.ended:
                return function(*args)
            ran = run(stage.asked(function, args))
            if ran.error is None and opens:
                stage.source = ran.value
                stage.step.rest()
                return ran.value
            if stage.took(ran).error is None:
                return ran.value
            if not stage.claim():
                # Another thread was faster, and ends the call.
                assert ran.error is not None
                with ran:
                    raise ran.error
            stage.end(ran, thrown)
            ended = go_on(self._call, self._flow, stage.result, self._fits)
            if isinstance(ended, Result):
                break
            self.replaced = stage.model if any(hasattr(stage.model, name) for name in _CLOSES) else None
            stage = self._stage = self._at(*ended)
            if opens:
                args = (stage.model,)
                continue
            if stage.source is None:
                stage.source = each(stage.model, self._how)
                if self._is_iterator:
                    stage.model = stage.source
            function, args = next, (stage.source,)
        del stage
        if ended.error is not None:
            with ended:
                raise ended.error
        ran.error = None
        raise StopIteration if ended.value is None else StopIteration(ended.value)


class AsyncReading(_Read):
    """A call under way whose answer is read by `async for`."""

    reads = "__anext__"
    is_awaited = True
    _how = staticmethod(aiter)
    _fits = staticmethod(is_async_iterable)

    def __init__(self, call: Call, flow: Flow, step: Invoke, ran: Result, run_again: Run) -> None:
        """Begin with what a step returned; `run_again` runs the control in its place."""
        super().__init__(call, flow, step, ran)
        self._run_again = run_again

    async def next(self) -> Any:
        """The next item."""
        return await self.ask(anext, self._stage.source)

    async def ask(self, function: Callable[..., Any], *args: Any, thrown: BaseException | None = None) -> Any:
        """What a method of the stream gives; the control's first item in place of an error before the first item."""
        while True:
            stage = self._stage
            if stage.ended:
                return await function(*args)
            try:
                ran = await run_async(stage.asked(function, args))
            except GeneratorExit as closing:
                ran = Result(stage.step.variant, 0.0, None, closing, interrupted=True)
            if stage.took(ran).error is None:
                return ran.value
            if not stage.claim():
                assert ran.error is not None
                with ran:
                    raise ran.error
            stage.end(ran, thrown)
            ended = await go_on_async(self._call, self._flow, stage.result, self._run_again, self._fits)
            if isinstance(ended, Result):
                break
            self.replaced = stage.model if any(hasattr(stage.model, name) for name in _CLOSES) else None
            stage = self._stage = self._at(*ended)
            if not hasattr(type(stage.model), self.reads):
                stage.source = each_async(stage.model, self._how)
                if self._is_iterator:
                    stage.model = stage.source
            function, args = anext, (stage.source,)
        del stage
        if ended.error is not None:
            with ended:
                raise ended.error
        ran.error = None
        raise StopAsyncIteration


class Either:
    """A call under way whose answer is read by `for` or by `async for`: as it is first read, it is measured."""

    def __init__(self, reading: Reading | None, async_reading: AsyncReading) -> None:
        """Begin with both; without the first, where no control could take its place."""
        self._reading = reading
        self._async = async_reading
        self._used: Reading | AsyncReading | None = None

    @property
    def is_fresh(self) -> bool:
        """Whether `for` would be the first to read it."""
        return self._used is None and self._reading is not None

    def begin(self, by: By | None = None) -> Any:
        """What it gives to `for`, or by a method."""
        assert self._reading is not None
        self._used = self._reading
        return self._reading.begin(by)

    def turn_to(self, source: Any, by: By | None = None) -> bool:
        """Read what it gave to `async for`, or by a method, if it was not read yet."""
        if self._used is not None or not self._async.turn_to(source, by):
            return False
        self._used = self._async
        return True

    def __getattr__(self, name: str) -> Any:
        """Everything else is the one's that it is read by."""
        return getattr(self._used or self._async, name)
