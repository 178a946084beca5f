"""A WSGI application: `/call/N` is a call of the unit N, `/metrics` is what Prometheus scrapes, `/pid` the process."""

import os

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from rollout_sdk import Canary, Runtime, Telemetry, rollout
from rollout_sdk_prometheus import PrometheusMeterProvider

runtime = Runtime(
    telemetry=Telemetry(meter_provider=PrometheusMeterProvider(every_s=0.1)), store=os.environ.get("ROLLOUT_TEST_STORE")
)


def broken(unit):
    raise ValueError(unit)


# Without guardrails: a judge would roll it back, should a test take that long.
PLAN = Canary(["25%", "50%"], shadow=0, guardrails=[])


@rollout(candidate=broken, strategy=PLAN, unit="unit", key="shop.rank", breaker=None, runtime=runtime)
def rank(unit):
    return "old"


def application(environ, start_response):
    _, what, *rest = environ["PATH_INFO"].split("/")
    if what == "metrics":
        registry = CollectorRegistry()
        MultiProcessCollector(registry)
        body = generate_latest(registry)
    elif what == "call":
        body = rank(rest[0]).encode()
    else:
        body = str(os.getpid()).encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
