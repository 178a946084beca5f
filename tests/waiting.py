"""Waiting for what happens in another thread or process."""

import time


def until(condition, most_s=30.0):
    """Wait until a condition holds, and return what it was."""
    deadline = time.monotonic() + most_s
    while not (found := condition()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)
    return found
