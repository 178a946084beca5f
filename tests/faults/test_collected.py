"""Row F104: what the garbage collector ends or runs leaves the context variables of the code that it interrupts alone.

Before Python 3.12, it runs wherever something is allocated, also within `ContextVar.set`, which then reads freed memory if the
variable's context has been changed meanwhile.
"""

import json

import pytest

PROGRAM = """
import contextvars, gc, json
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from rollout_sdk import ABTest, Runtime, Telemetry, rollout

def generator(unit):
    yield 1
    yield 2

async def async_generator(unit):
    yield 1
    yield 2

class Waits:
    def __await__(self):
        yield

async def coroutine(unit):
    await Waits()

MODELS = {{
    "function": lambda unit: 1,
    "generator": generator,
    "returned generator": lambda unit: generator(unit),
    "returned iterator": lambda unit: map(abs, [1, 2]),
    "coroutine": coroutine,
    "async generator": async_generator,
    "returned async generator": lambda unit: async_generator(unit),
}}
kind, spans = {kind!r}, {spans!r}
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(InMemorySpanExporter()))
runtime = Runtime(telemetry=Telemetry(tracer_provider=provider, spans=spans))
function = MODELS[kind]
model = rollout(candidate=function, strategy=ABTest(0.5), unit="unit", key="m", runtime=runtime)(function)

def begun(unit):
    "What a call gives, read or awaited for the first time."
    given = model(unit)
    if kind == "coroutine":
        given.send(None)
    elif "async" in kind:
        try:
            anext(given).send(None)
        except StopIteration:
            pass
    elif kind != "function":
        next(given)
    return given

class Finalised:
    def __init__(self):
        self.itself = self

    def __del__(self):
        begun("finaliser")

def abandoned(number):
    if {calls!r}:
        Finalised()
    else:
        circle = [begun(str(number))]
        circle.append(circle)

variables = [contextvars.ContextVar(f"variable {{number}}") for number in range(40)]
expected, right, sets = dict.fromkeys(variables), 0, 0
for variable in variables:
    variable.set(None)
# Collections look at what is new only, so that there can be one at every few allocations.
begun("first")
gc.collect()
gc.freeze()
for threshold in (2, 3, 5, 7, 11):
    gc.set_threshold(threshold, 5, 5)
    for number in range(400):
        abandoned(number)
        variable, value = variables[number % 40], object()
        expected[variable] = value
        variable.set(value)
        sets += 1
        found = dict(contextvars.copy_context())
        right += all(found[each] is expected[each] is each.get() for each in variables)
gc.set_threshold(700, 10, 10)
gc.collect()
flushed, status = runtime.flush(30.0), model.rollout.status()
print(json.dumps([right, sets, flushed, sum(runtime.faults.values()), sum(status.calls.values()) + status.lost]))
"""
KINDS = (
    "function", "generator", "returned generator", "returned iterator",
    "coroutine", "async generator", "returned async generator",
)  # fmt: skip


@pytest.mark.parametrize("spans", ["off", "all"])
@pytest.mark.parametrize(
    ("kind", "calls"), [(kind, calls) for kind in KINDS for calls in (False, True) if calls or kind != "function"]
)
def test_f104_what_is_collected_while_a_variable_is_set_leaves_the_context_alone(kind, calls, spans, run_python, figure):
    result = run_python(PROGRAM.format(kind=kind, calls=calls, spans=spans), timeout=120)
    assert (0, "") == (result.returncode, result.stderr[-2000:])
    right, sets, flushed, faults, calls = json.loads(result.stdout.splitlines()[-1])
    assert (2_000, 2_000, True, 0) == (right, sets, flushed, faults)
    # The first call, and one for each variable that is set.
    assert 2_001 == calls
    figure("F104", "{right:,} of {sets:,} variables set while {calls:,} abandoned calls are ended, or made, have their values",
           right=right, sets=sets, calls=calls)  # fmt: skip
