"""A coroutine whose every step runs inside something."""

import asyncio
import contextvars

import pytest

from rollout_sdk.engine.ambient import Stepped

inside = contextvars.ContextVar("inside", default=False)


def around(steps):
    """Counts the steps, and has `inside` set in each of them alone."""

    def run(function, *args):
        steps.append(function.__name__)
        token = inside.set(True)
        try:
            return function(*args)
        finally:
            inside.reset(token)

    return run


def test_every_step_runs_inside_and_nothing_between_them_does():
    seen, between, steps = [], [], []

    async def model():
        for _ in range(3):
            seen.append(inside.get())
            await asyncio.sleep(0)
        return "answer"

    async def main():
        task = asyncio.ensure_future(stepped())
        while not task.done():
            between.append(inside.get())
            await asyncio.sleep(0)
        return task.result()

    async def stepped():
        return await Stepped(model(), around(steps))

    assert "answer" == asyncio.run(main())
    assert ([True] * 3, ["send"] * 4) == (seen, steps)
    assert {False} == set(between)


def test_an_exception_of_the_coroutine_is_its_own():
    error = ValueError()

    async def model():
        await asyncio.sleep(0)
        raise error

    async def main():
        await Stepped(model(), around([]))

    with pytest.raises(ValueError) as caught:
        asyncio.run(main())
    assert error is caught.value


def test_a_cancellation_reaches_the_coroutine_inside():
    seen, steps = [], []

    async def model():
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            seen.append(inside.get())
            await asyncio.sleep(0)
            raise

    async def stepped():
        await Stepped(model(), around(steps))

    async def main():
        task = asyncio.ensure_future(stepped())
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        return task.cancelled()

    assert asyncio.run(main())
    assert ([True], ["send", "throw", "send"]) == (seen, steps)


def test_a_coroutine_that_is_closed_is_closed_inside():
    seen, steps = [], []

    class Waiting:
        def __await__(self):
            yield

    async def model():
        try:
            await Waiting()
        finally:
            seen.append(inside.get())

    async def stepped():
        await Stepped(model(), around(steps))

    coroutine = stepped()
    coroutine.send(None)
    coroutine.close()
    assert ([True], ["send", "throw"]) == (seen, steps)
