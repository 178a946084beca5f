"""Candidates that do to their process what no service survives; worker processes import this module."""

import ctypes
import os
import signal
import sys
import time

from rollout_sdk import is_shadow


def price(miles):
    return 2.0 + 0.5 * miles


def worse(miles):
    return 3.0 * miles


def where(miles):
    return os.getpid(), is_shadow()


def leaves(miles):
    os._exit(3)


def exits(miles):
    sys.exit("no more")


def crashes(miles):
    os.kill(os.getpid(), signal.SIGSEGV)
    time.sleep(5)


def hoards(miles):
    return len(bytearray(1 << 36))


def hangs(miles):
    time.sleep(60)


def holds_the_lock(miles):
    # A call through PyDLL keeps the lock of the interpreter.
    ctypes.PyDLL(None).usleep(900_000)
    return miles


class Odd(Exception):
    """Takes other arguments than it keeps."""

    def __init__(self, one, two):
        super().__init__(one)


def raises(miles):
    raise Odd("a", "b")


def fails(miles):
    raise KeyError("no route")


def not_sent(miles):
    return lambda: miles


def speaks(miles):
    print("noise on standard output")
    return price(miles)
