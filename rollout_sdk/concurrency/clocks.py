"""The operating system's clocks and sleep, unaffected by replacements in tests and frameworks.

A test that replaces `time.sleep` expects calls from the application only, and one that feeds `time.time` from an iterator
provides as many values as the application reads. The background threads of this package read clocks all the time. So every
module imports them from here by name, and they belong to a private instance of the `time` module: a library that replaces every
reference to `time.monotonic` in a process (freezegun) does not find them, and a framework that replaces `time.sleep` before
this package is imported (gevent, eventlet) does not affect it. A library that patches the C functions (time-machine) does move
the wall clock of decisions, but neither the other clocks nor `sleep`.
"""

from __future__ import annotations

import time as _shared
from collections.abc import Callable
from importlib.machinery import BuiltinImporter
from importlib.util import module_from_spec
from typing import Any

__all__ = ["is_wall_clock", "monotonic", "monotonic_ns", "perf_counter", "sleep", "thread_time", "time", "time_ns"]


def _own_time() -> Any:
    """Load a second instance of the module `time`, or return the first if it is not compiled into the interpreter."""
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
    """Whether a function is the system's wall clock, from this module or from `time`."""
    return function is time_ns or function is _shared.time_ns
