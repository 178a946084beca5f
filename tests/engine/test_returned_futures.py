"""What is measured of returned futures: the time from the call to the future's end, also where the model itself took long."""

import asyncio
import concurrent.futures
import time

import pytest

from rollout_sdk import ABTest, rollout

WORK_S = 0.03


def slowly(future):
    """A model that works before it returns its future."""

    def model(n):
        time.sleep(WORK_S)
        return future(n)

    return model


def serve(model, runtime, *, of):
    """A rollout whose control or candidate is the model."""
    control, candidate = (model, str) if of == "control" else (str, model)
    share = 0.0 if of == "control" else 1.0
    return rollout(candidate=candidate, strategy=ABTest(share), key="model", runtime=runtime)(control)


def measured(runtime):
    (event,) = runtime.routed()
    (run,) = event.runs
    return run.variant, run.duration_s


@pytest.mark.parametrize("of", ["control", "candidate"])
def test_a_future_of_a_thread_pool(of, runtime):
    def work(n):
        time.sleep(WORK_S)
        return n

    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        assert 7 == serve(slowly(lambda n: pool.submit(work, n)), runtime, of=of)(7).result(30)
    variant, duration_s = measured(runtime)
    assert (of, True) == (variant, 2 * WORK_S <= duration_s < 30)


@pytest.mark.parametrize("of", ["control", "candidate"])
def test_a_future_that_has_ended_already(of, runtime):
    def ended(n):
        future = concurrent.futures.Future()
        future.set_result(n)
        return future

    assert 7 == serve(slowly(ended), runtime, of=of)(7).result(30)
    variant, duration_s = measured(runtime)
    assert (of, True) == (variant, WORK_S <= duration_s < 30)


@pytest.mark.parametrize("of", ["control", "candidate"])
def test_a_task(of, runtime):
    async def work(n):
        await asyncio.sleep(WORK_S)
        return n

    async def main():
        return await serve(slowly(lambda n: asyncio.ensure_future(work(n))), runtime, of=of)(7)

    assert 7 == asyncio.run(main())
    variant, duration_s = measured(runtime)
    # A timer of the loop may be early by its clock's resolution.
    assert (of, True) == (variant, 1.9 * WORK_S <= duration_s < 30)
