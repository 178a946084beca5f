"""The state of the machine and of this process, for the report of a failure: a fault of the code, or no memory left?"""

import os
import resource
import threading
from pathlib import Path

OF_MACHINE = ("MemTotal", "MemAvailable", "SwapFree", "CommitLimit", "Committed_AS")
OF_PROCESS = ("VmPeak", "VmSize", "VmRSS", "VmData", "Threads")
LIMITS = ("RLIMIT_AS", "RLIMIT_DATA", "RLIMIT_NOFILE", "RLIMIT_NPROC")


def state():
    """Return lines of text; what this machine does not tell is left out."""
    yield "load " + ", ".join(f"{load:.1f}" for load in os.getloadavg())
    yield from read("/proc/meminfo", OF_MACHINE)
    yield from read("/proc/self/status", OF_PROCESS)
    yield from (f"{name} {resource.getrlimit(getattr(resource, name))[0]}" for name in LIMITS if hasattr(resource, name))
    for file in ("/proc/sys/vm/overcommit_memory", "/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"):
        if Path(file).exists():
            yield f"{file} {Path(file).read_text().strip()}"
    yield "threads " + ", ".join(sorted(thread.name for thread in threading.enumerate()))


def read(file, names):
    if not Path(file).exists():
        return
    for line in Path(file).read_text().splitlines():
        name, _, value = line.partition(":")
        if name in names:
            yield f"{name} {' '.join(value.split())}"
