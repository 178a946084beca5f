"""Sinks: what hangs is told, and what takes long because it has many parts is not."""

import time

import rollout_sdk
from rollout_sdk import ABTest, rollout


def test_an_observer_of_many_rows_does_not_hang_as_long_as_it_takes_one_after_the_other(watch):
    since, busy = [], []

    class Slow:
        @rollout_sdk.hookimpl
        def rollout_routed(self, event):
            since.append(time.monotonic())
            busy.append(thread.busy_s)
            time.sleep(0.02)

    plugin, runtime = Slow(), watch()
    model = rollout(
        candidate=lambda rows: rows, strategy=ABTest(0.5), batch="rows", key="k", plugins=[plugin], runtime=runtime
    )(lambda rows: rows)
    thread = runtime.thread_of(plugin)
    model(list(range(12)))
    assert runtime.flush(30.0)
    assert 12 == len(busy)
    # Of the time for all rows, the last has taken nothing yet.
    assert busy[-1] < (since[-1] - since[0]) / 2
