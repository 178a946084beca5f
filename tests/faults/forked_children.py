"""Forks a child while each of the SDK's locks is held, and prints how each child ended: `python forked_children.py HOW FOLDER`.

A program of its own, because a test runner has threads of other tests. One that waits for the interpreter's lock while C code
forks would wait for it in the child, too, for ever: nobody's fault but the fork's.
"""

import ctypes
import faulthandler
import json
import os
import signal
import sys
import threading
import time
import traceback

from rollout_sdk import Canary, Runtime, default_runtime, rollout

LOCK = type(threading.Lock())
LONGEST_S = 20


def locks_of(*roots):
    """Every lock that is reached from these objects and from the modules of the SDK, through objects of the SDK."""
    modules = {name: vars(module) for name, module in list(sys.modules.items()) if name.partition(".")[0] == "rollout_sdk"}
    waiting, seen, found = [*modules.items(), *((type(root).__name__, root) for root in roots)], set(), {}
    while waiting:
        where, each = waiting.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        if isinstance(each, LOCK):
            found[where] = each
        elif isinstance(each, dict):
            waiting += [(f"{where}[{name!r}]", value) for name, value in list(each.items())]
        elif isinstance(each, list | tuple | set | frozenset):
            waiting += [(where, value) for value in each]
        elif type(each).__module__.partition(".")[0] == "rollout_sdk":
            slots = [name for kind in type(each).__mro__ for name in getattr(kind, "__slots__", ()) if hasattr(each, name)]
            values = {**getattr(each, "__dict__", {}), **{name: getattr(each, name) for name in slots}}
            waiting += [(f"{where}.{name}", value) for name, value in values.items()]
    return found


def forked(fork, run):
    """Fork a child that runs this; return its exit code. A child that takes too long ends, and shows where it was."""
    child = fork()
    if child == 0:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        faulthandler.register(signal.SIGALRM, chain=True)
        signal.alarm(LONGEST_S)
        try:
            run()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def main(how, folder):
    # PyDLL keeps the interpreter's lock: with another thread's, no child could go on.
    fork = os.fork if how == "by Python" else ctypes.PyDLL(None).fork
    runtime = Runtime(journal=folder)

    def decorate(key):
        options = {"strategy": Canary(["50%"], shadow=1.0), "effects": "read", "key": key}
        return rollout(candidate=lambda x: 2, runtime=runtime, **options)(lambda x: 1)

    model = decorate("m")
    model(0)
    assert runtime.flush(10.0)
    locks = locks_of(runtime, model.rollout)
    if how == "by Python":
        # Such a fork itself waits for this one.
        del locks["rollout_sdk.control.stores.transaction_lock['_forks']._lock"]

    def in_child():
        assert {1, 2} == {model(number) for number in range(100)}
        assert runtime.flush(10.0)
        assert {"rollout-recorder", "rollout-shadow", "rollout-reconciler"} <= {thread.name for thread in threading.enumerate()}
        model.rollout.judge()
        model.rollout.disable(holder="flag")
        model.rollout.enable(holder="flag")
        model.rollout.abort()
        decorate("m")(1)
        decorate("other")(1)
        default_runtime()
        runtime.close(5.0)

    if how == "by C code":
        runtime.reconciler._thread.end()
        time.sleep(0.7)
    ends = {}
    for name, lock in locks.items():
        runtime.flush()
        time.sleep(0.05)
        with lock:
            ends[name] = forked(fork, in_child)
    runtime.close(5.0)
    print(json.dumps(ends))


if __name__ == "__main__":
    main(*sys.argv[1:])
