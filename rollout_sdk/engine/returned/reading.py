"""Streams read through a stand-in: each item is fetched during the caller's own `next` and recorded.

No locks are taken: threads and tasks may share a stand-in as they could share the iterator itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from rollout_sdk.engine.call import Call
from rollout_sdk.engine.current import be_current
from rollout_sdk.engine.execute import failed, run, run_async
from rollout_sdk.engine.flow import advance
from rollout_sdk.engine.returned.forms import each, each_async, is_async_iterable, is_iterable
from rollout_sdk.engine.returned.stage import Run, Stage, go_on, go_on_async
from rollout_sdk.engine.steps import Flow, Invoke, Result
from rollout_sdk.engine.tracebacks import shorten
from rollout_sdk.formatting import class_name
from rollout_sdk.resilience.interruptions import is_interruption

__all__ = ["AsyncReading", "By", "Either", "Opened", "Reading"]

_CLOSES = ("close", "aclose", "__exit__", "__aexit__")
_UNTOUCHED = frozenset({"close", "aclose", "response"})
"""Attributes that consumers access without reading the stream."""


class By:
    """Reads a stream through one of its methods, and the control's fallback through the same method."""

    def __init__(self, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """Store the method and its arguments."""
        self._name = name
        self._args = args
        self._kwargs = kwargs

    def __call__(self, model: Any) -> Any:
        """Call the method on a stream."""
        return getattr(model, self._name)(*self._args, **self._kwargs)

    def fits(self, model: Any) -> bool:
        """Whether an object has this method."""
        return hasattr(model, self._name)


class Opened:
    """The iterator that a stream opened, with a stand-in of its own."""

    def __init__(self, reading: Any) -> None:
        """Read the opened iterator."""
        self._reading: Any = reading
        # Closing the stream is the job of the stream's own stand-in.
        self.replaced = None
        self.next, self.ask, self.meddle = reading.next, reading.ask, reading.meddle
        self.leave = self.let_go = reading.leave

    @property
    def model(self) -> Any:
        """The iterator that is read now."""
        return self._reading.source

    @property
    def is_fresh(self) -> bool:
        """Never: an iterator cannot be opened again."""
        return False

    def touch(self, _: str) -> None:
        """Ignore attribute access; the stream's own stand-in records it."""

    def turn_to(self, *_: Any) -> bool:
        """Refuse: an iterator cannot be opened again."""
        return False


class _Read:
    """Common part of both kinds of readings.

    Attributes:
        replaced: A candidate's failed stream, which is closed together with the control's.
    """

    reads = "__next__"
    is_awaited = False
    _how: Callable[[Any], Any] = staticmethod(iter)
    _fits: Callable[[Any], bool] = staticmethod(is_iterable)

    def __init__(self, call: Call, flow: Flow, step: Invoke, ran: Result) -> None:
        """Start with what a step returned."""
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
        """The object returned by the variant that answers now."""
        return self._stage.model

    @property
    def source(self) -> Any:
        """The iterator that is read."""
        return self._stage.source

    @property
    def is_fresh(self) -> bool:
        """Whether nothing has been read yet."""
        return not (self._stage.ended or self._stage.has_begun)

    def touch(self, name: str) -> None:
        """Record that the consumer accessed an attribute, which may be another way to read the stream."""
        if name not in _UNTOUCHED:
            self._touched = True

    def meddle(self) -> None:
        """Record that something was sent or thrown into the stream; it is then not compared, as a shadow gets none of it."""
        self._stage.result.kept = None

    def turn_to(self, source: Any, by: By | None = None) -> bool:
        """Read another iterator of the same object, from `iter` or a method, if nothing has been read yet."""
        if not self._stage.turn_to(source, self.reads):
            return False
        self._read_by(by)
        return True

    def _read_by(self, by: By | None) -> None:
        if by is not None:
            self._how, self._fits = by, by.fits

    async def enter(self) -> Any:
        """Enter the stream with `async with`."""
        given = await self.model.__aenter__()
        if given is not self.model:
            self.touch("__aenter__")
        return given

    def open(self) -> Opened:
        """Return the iterator as an object of its own: the stream may be released while it is read."""
        self._is_opened = True
        return Opened(self)

    def let_go(self) -> None:
        """Handle that the consumer released the stream."""
        if not self._is_opened:
            self.leave()

    def leave(self) -> None:
        """End the call of a stream that its consumer closed or released."""
        stage = self._stage
        if not stage.claim():
            return
        result = Result(stage.step.variant, 0.0, None, GeneratorExit(), interrupted=True)
        if self._touched and not self._is_iterator and not stage.has_begun:
            # It was read in a way that could not be observed.
            self._call.unmeasured = class_name(stage.model)
            result.interrupted, result.error = False, None
        stage.end(result, None)
        advance(self._call, self._flow, stage.result)


class Reading(_Read):
    """A call in progress whose answer is an iterator or is read with `for`."""

    def _at(self, step: Invoke, ran: Result) -> Stage:
        stage = super()._at(step, ran)
        if not hasattr(type(ran.value), self.reads):
            stage.source = None
        return stage

    def next(self) -> Any:
        """Return the next item."""
        stage = self._stage
        if not stage.flows:
            return self.ask(next, stage.source)
        be_current(stage.call)
        try:
            item = next(stage.source)
        except BaseException as error:
            ran = Result(stage.step.variant, 0.0, None, error, is_interruption(error, awaited=False))
            shorten(error)
        else:
            return stage.passed(item)
        return self.ask(next, stage.source, ran=ran)

    def begin(self, by: By | None = None) -> Any:
        """Open the stream with `iter` or a method; if that raises, the control's instead."""
        self._read_by(by)
        return self.ask(self._how, self._stage.model, opens=True)

    def ask(
        self,
        function: Callable[..., Any],
        *args: Any,
        thrown: BaseException | None = None,
        opens: bool = False,
        ran: Result | None = None,
    ) -> Any:
        """Call a method of the stream; if it raises before the first item, continue with the control's stream.

        Args:
            function: The method.
            args: Its arguments.
            thrown: The exception that it throws into the stream.
            opens: Whether it opens the stream.
            ran: How it ended, if it has been called already.
        """
        while True:
            stage = self._stage
            if ran is None:
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
                # Another thread has claimed the end of the call.
                assert ran.error is not None
                with ran:
                    raise ran.error
            stage.end(ran, thrown)
            ended = go_on(self._call, self._flow, stage.result, self._fits)
            if isinstance(ended, Result):
                break
            self.replaced = stage.model if any(hasattr(stage.model, name) for name in _CLOSES) else None
            stage = self._stage = self._at(*ended)
            ran = None
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
    """A call in progress whose answer is read with `async for`."""

    reads = "__anext__"
    is_awaited = True
    _how = staticmethod(aiter)
    _fits = staticmethod(is_async_iterable)

    def __init__(self, call: Call, flow: Flow, step: Invoke, ran: Result, run_again: Run) -> None:
        """Start with what a step returned; `run_again` runs the control as a fallback."""
        super().__init__(call, flow, step, ran)
        self._run_again = run_again

    async def next(self) -> Any:
        """Return the next item."""
        stage = self._stage
        if not stage.flows:
            return await self.ask(anext, stage.source)
        be_current(stage.call)
        try:
            item = await anext(stage.source)
        except BaseException as error:
            ran = failed(stage.step.variant, 0.0, error)
        else:
            return stage.passed(item)
        return await self.ask(anext, stage.source, ran=ran)

    async def ask(
        self, function: Callable[..., Any], *args: Any, thrown: BaseException | None = None, ran: Result | None = None
    ) -> Any:
        """As `Reading.ask`."""
        while True:
            stage = self._stage
            if ran is None:
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
            function, args, ran = anext, (stage.source,), None
        del stage
        if ended.error is not None:
            with ended:
                raise ended.error
        ran.error = None
        raise StopAsyncIteration


class Either:
    """A call in progress whose answer supports `for` and `async for`; the first one used is measured."""

    def __init__(self, reading: Reading | None, async_reading: AsyncReading) -> None:
        """Start with both; `reading` is None where no fallback is possible."""
        self._reading = reading
        self._async = async_reading
        self._used: Reading | AsyncReading | None = None

    @property
    def is_fresh(self) -> bool:
        """Whether `for` would be the first to read it."""
        return self._used is None and self._reading is not None

    def begin(self, by: By | None = None) -> Any:
        """Open the stream for `for`, or by a method."""
        assert self._reading is not None
        self._used = self._reading
        return self._reading.begin(by)

    def turn_to(self, source: Any, by: By | None = None) -> bool:
        """Read an iterator for `async for`, or of a method, if nothing has been read yet."""
        if self._used is not None or not self._async.turn_to(source, by):
            return False
        self._used = self._async
        return True

    def __getattr__(self, name: str) -> Any:
        """Forward everything else to the reading in use."""
        return getattr(self._used or self._async, name)
