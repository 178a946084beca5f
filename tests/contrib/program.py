"""A service with every kind of rollout, measured by the real Prometheus exporter: prints what Prometheus would scrape."""

import sys
import tempfile
import threading

from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from prometheus_client import generate_latest

from rollout_sdk import ABTest, Breaker, Canary, Interleave, Runtime, Shadow, ShadowLimits, Telemetry, rollout
from rollout_sdk.control.state import RolloutState

provider = MeterProvider([PrometheusMetricReader()])
journal = tempfile.TemporaryDirectory()
runtime = Runtime(
    journal=journal.name,
    telemetry=Telemetry(meter_provider=provider),
    shadows=ShadowLimits(cpu_share=1.0, max_jobs=2, workers=1),
)
released = threading.Event()


def failing(user):
    raise ValueError(user)


def steady(user):
    return [user]


def waiting(user):
    released.wait(20.0)
    return [user]


@rollout(candidate=failing, unit="user", key="shop.canary", strategy=Canary(["20%", "50%"], guardrails=[]), runtime=runtime)
def canary(user):
    return [user]


@rollout(candidate=steady, unit="user", key="shop.ab", strategy=ABTest("50%"), runtime=runtime)
def ab(user):
    return [user]


@rollout(candidate=steady, unit="user", key="shop.lists", strategy=Interleave(), runtime=runtime)
def lists(user):
    return [user, "a", "b"]


@rollout(candidate=waiting, unit="user", key="shop.shadow", strategy=Shadow(1.0), runtime=runtime, effects="read")
def shadow(user):
    return [user]


@rollout(
    candidate=failing,
    unit="user",
    key="shop.raises",
    strategy=Shadow(1.0),
    runtime=runtime,
    effects="read",
    breaker=Breaker(window=1, min_runs=1),
)
def raises(user):
    return [user]


for number in range(400):
    canary(f"user {number}")
    ab(f"user {number}")
    lists(f"user {number}")
for number in range(5):
    shadow(f"user {number}")
released.set()
runtime.flush(20.0)
# One run opens the breaker, and the next is held back.
for number in range(2):
    raises(f"user {number}")
    runtime.flush(20.0)
canary.rollout.promote(actor="tests", reason="to be seen")
# What the judge does, and what the command line does.
for key, action, change in (
    ("shop.canary", "invalidate", lambda s: s.invalidate("shares")),
    ("shop.canary", "roll_back", RolloutState.roll_back),
):
    runtime.reconciler.transitions.change(key, action, change, actor="judge", reason="to be seen", evidence={"findings": []})
ab.rollout.abort(actor="tests", reason="to be seen")
released.clear()
shadow("the last")
runtime.close(0.2)
released.set()
sys.stdout.write(generate_latest().decode())
journal.cleanup()
