"""What waits for a judge is bounded in bytes: the arguments, the control's answer, and the candidate's."""

import threading
from collections import OrderedDict, deque

import attrs
import pytest

from rollout_sdk import Guardrail, Judge, Shadow, rollout
from rollout_sdk.engine.judges.sizes import bytes_of

MIB = 1 << 20
TEXT = "x" * 10_000


@attrs.define
class Answer:
    """An answer with a text."""

    text: str


class Unreadable(list):
    """An answer that cannot be read."""

    def __iter__(self):
        raise OSError


@pytest.mark.parametrize(
    "value",
    [
        TEXT, [TEXT], (TEXT,), {TEXT}, deque([TEXT]), {"a": TEXT}, {TEXT: 1}, OrderedDict(a=TEXT), Answer(TEXT),
        [[1], {"a": (Answer(TEXT), 2)}], bytearray(10_000),
    ],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_values_weigh_what_they_hold(value):
    assert 10_000 <= bytes_of([value], MIB) < 12_000


def test_a_part_that_is_there_twice_weighs_once():
    part = [TEXT]
    assert bytes_of([[part, part]], MIB) < 12_000


def test_the_count_ends_with_what_is_too_much_or_cannot_be_known():
    assert bytes_of([[[TEXT]] * 3, [TEXT * 100]], MIB // 4) == MIB // 4 + 1
    assert bytes_of([[[each] for each in range(30_000)]], 1 << 30) == (1 << 30) + 1
    assert bytes_of([Unreadable()], MIB) == MIB + 1


def test_an_answer_that_refers_to_itself_ends():
    value = [1]
    value.append(value)
    assert 0 < bytes_of([value], MIB) < 1_000


@pytest.mark.parametrize("isolate", ["auto", "none", "deepcopy"])
@pytest.mark.parametrize(
    ("ours", "theirs", "most"), [(b"", bytes(MIB // 2), 3), ([], [bytes(MIB // 2)], 3), ({}, {"a": [bytes(MIB)]}, 1)]
)
def test_the_candidates_answers_that_wait_are_bounded(runtime, isolate, ours, theirs, most):
    gate, begun = threading.Event(), threading.Event()

    def judge(*_):
        begun.set()
        gate.wait(10.0)
        return "tie"

    @rollout(
        candidate=lambda number: type(theirs)(theirs),
        strategy=Shadow(1.0, guardrails=[Guardrail("judge.preference", margin=0.05, audit=1.0)]),
        judge=Judge(judge, sample=1.0, concurrency=1, max_bytes=2 * MIB),
        effects="read", isolate=isolate, runtime=runtime, key="model",
    )  # fmt: skip
    def model(number):
        return ours

    model(0)
    assert begun.wait(10.0)
    for number in range(1, 20):
        model(number)
    runtime.background.wait(10.0)
    waiting = list(model.rollout._rollout.judge._waiting)
    gate.set()
    assert len(waiting) == most
    failed = [event for event in runtime.events() if getattr(event, "metric", "") == "judge.failed"]
    assert [event.details["end"] for event in failed] == ["full"] * (19 - most)
