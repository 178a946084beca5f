"""Faults that were found by looking for them, and mended."""

import asyncio
import threading
import time

import pytest

from rollout_sdk import Comparison, Decision, Interleave
from tests.faults.law import ConservationLaw
from tests.faults.models import served, shadowed


class Slow:
    """A comparison of 0.3 s."""

    name = "slow"

    def rollout_compare(self, control, candidate):
        time.sleep(0.3)
        return Comparison(match=True)


def test_f8_a_slow_comparison_of_coroutines_is_nobodys_time(watch):
    async def model(x):
        return x

    async def main():
        decorated = shadowed(model, model, watch(), plugins=[Slow()])
        await decorated(1)
        longest = 0.0
        for _ in range(30):
            began = time.perf_counter()
            await asyncio.sleep(0.001)
            longest = max(longest, time.perf_counter() - began)
        return longest

    assert asyncio.run(main()) < 0.2


class Reads:
    """A comparison that reads both answers to their ends."""

    name = "reads"

    def rollout_compare(self, control, candidate):
        return Comparison(match=list(control) == list(candidate))


def test_f8_an_answer_that_can_be_read_once_is_read_by_the_caller_alone(watch):
    runtime = watch()
    model = shadowed(lambda x: iter([1, 2, 3]), lambda x: iter([1, 2, 3]), runtime, isolate="none", plugins=[Reads()])
    answer = model(1)
    assert runtime.flush(10.0)
    assert [1, 2, 3] == list(answer)


def test_f4_large_inputs_that_are_copied_deeply_stay_within_their_bytes(watch):
    runtime, gate = watch(shadows={"max_jobs": 64}), threading.Event()
    model = shadowed(lambda x: None, lambda x: gate.wait(20), runtime, isolate="deepcopy")
    for _ in range(64):
        model(bytearray(5_000_000))
    held = 5_000_000 * len(runtime.background._threads.jobs)
    gate.set()
    assert runtime.flush(10.0)
    assert held <= runtime.shadows.max_bytes


def test_f4_large_inputs_of_coroutines_stay_within_their_bytes(watch):
    runtime = watch()

    async def control(x):
        return None

    async def candidate(x):
        await asyncio.sleep(0.2)

    async def main():
        model = shadowed(control, candidate, runtime, isolate="deepcopy")
        for _ in range(64):
            await model(bytearray(5_000_000))
        held = 5_000_000 * sum(map(len, runtime.background._tasks._of_loop.values()))
        await asyncio.sleep(0.4)
        return held

    assert asyncio.run(main()) <= runtime.shadows.max_bytes


class Clears:
    """A blend that spoils what it was given, and fails."""

    name = "clears"

    def rollout_route(self, request):
        return Decision("blended", blend=("control", "candidate"))

    def rollout_merge(self, request, outputs):
        outputs["control"].clear()
        raise ValueError


def test_a_blend_that_fails_leaves_the_controls_answer_as_it_was(watch):
    model = served(lambda x: [1, 2], lambda x: [3], watch(), strategy=Clears())
    assert [1, 2] == model(1)


def no_way_back(output, items):
    raise ValueError


def test_a_blend_of_iterators_that_fails_leaves_the_controls_unread(watch):
    strategy = Interleave(items=list, rebuild=no_way_back)
    model = served(lambda x: iter([1, 2]), lambda x: iter([3]), watch(), strategy=strategy)
    assert [1, 2] == list(model(1))


class TestInterrupted:
    """Without the watch on every test: the law is broken here."""

    @pytest.fixture
    def law(self):
        """In its place."""

    def test_a_call_that_is_interrupted_while_its_arguments_are_copied_ends_its_shadows(self, watch, monkeypatch):
        law, runtime = ConservationLaw(monkeypatch), watch()

        def interrupted(value):
            raise KeyboardInterrupt

        model = shadowed(lambda x: x, lambda x: x, runtime, isolate=interrupted)
        with pytest.raises(KeyboardInterrupt):
            model(1)
        runtime.close(1.0)
        law.check()
