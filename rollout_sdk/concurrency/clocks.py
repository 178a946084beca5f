"""The clocks and the sleep of the operating system, whatever a test or a framework has put in their place.

A test that replaces `time.sleep` counts its application's calls, and one that gives `time.time` an iterator has put as many
values in it as its application takes. The threads of this package look at clocks all the time. So every module takes them
from here by name, and they are functions of a `time` module of our own: a library that exchanges every reference to
`time.monotonic` in a process (freezegun) does not find ours, and a framework that replaces `time.sleep` before this package
is imported (gevent, eventlet) does not reach it. A library that changes the functions in C (time-machine) moves the wall
clock of decisions as well, and neither the other clocks nor `sleep`.
"""

from __future__ import annotations

import time as _shared
from collections.abc import Callable
from importlib.machinery import BuiltinImporter
from importlib.util import module_from_spec
from typing import Any

__all__ = ["is_wall_clock", "monotonic", "monotonic_ns", "perf_counter", "sleep", "thread_time", "time", "time_ns"]


def _own_time() -> Any:
    """A second instance of the module `time`; the first, where it is not compiled into the interpreter."""
    spec = BuiltinImporter.find_spec("time")
    if spec is None or spec.loader is None:
        return _shared
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


_time: Any = _own_time()

monotonic: Callable[[], float] = _time.monotonic
monotonic_ns: Callable[[], int] = _time.monotonic_ns
perf_counter: Callable[[], float] = _time.perf_counter
sleep: Callable[[float], None] = _time.sleep
thread_time: Callable[[], float] = _time.thread_time
time: Callable[[], float] = _time.time
time_ns: Callable[[], int] = _time.time_ns


def is_wall_clock(function: object) -> bool:
    """Whether a function is the system's wall clock: this one, or Python's own."""
    return function is time_ns or function is _shared.time_ns
