"""The application under observation: all four strategies, set up by a recipe of the document, ended like any other.

    python program.py RECIPE

RECIPE is a file with the recipe's Python. Prints as JSON what its own models and callers saw; ends when its input ends, and
flushes nothing by hand. What must reach no backend begins with "marker-".
"""

import contextlib
import json
import logging
import sys
from collections import Counter
from pathlib import Path
from time import sleep

import structlog
from opentelemetry import trace

from rollout_sdk import ABTest, Canary, Interleave, Runtime, Shadow, ShadowLimits, is_shadow, rollout
from rollout_sdk.telemetry import add_trace_context

RECIPE = Path(sys.argv[1])
exec(compile(RECIPE.read_text(), str(RECIPE), "exec"))

CALLS = {"shop.rank": 36, "shop.spam": 20, "shop.films": 6, "shop.price": 24}
tracer = trace.get_tracer("shop")
runtime = Runtime(shadows=ShadowLimits(cpu_share=1.0, max_jobs=1_000, max_age_s=60.0), exit_deadline_s=30.0)
ran, failed, calls, lines = Counter(), Counter(), [], []


def noted(key, variant):
    """Count a run on a caller's path; the models themselves say what ran, so that spans are not held against themselves."""
    if not is_shadow():
        ran[f"{key}/{variant}"] += 1


def fail(key, variant, text):
    if not is_shadow():
        failed[f"{key}/{variant}"] += 1
    raise ValueError(f"marker-message about {text}")


def rank_v2(user, query):
    noted("shop.rank", "v2")
    sleep(0.002)
    if int(user.rpartition("-")[2]) % 3 == 0:
        fail("shop.rank", "v2", query)
    return [f"{query}, found by v2"]


@rollout(
    candidates={"v2": rank_v2}, strategy=Canary(["50%", "100%"], guardrails=[]), unit="user", key="shop.rank", breaker=None,
    runtime=runtime,
)  # fmt: skip
def rank(user, query):
    noted("shop.rank", "control")
    sleep(0.004)
    return [f"{query}, found by v1"]


def spam_v2(text):
    noted("shop.spam", "v2")
    sleep(0.02)
    if spam_fails(text):
        fail("shop.spam", "v2", text)
    return len(text) % 3 == 0


def spam_fails(text):
    return len(text) % 10 == 0


@rollout(candidates={"v2": spam_v2}, strategy=Shadow(rate=1.0), effects="read", key="shop.spam", breaker=None, runtime=runtime)
def spam(text):
    noted("shop.spam", "control")
    sleep(0.003)
    return len(text) % 2 == 0


def films_v2(user):
    noted("shop.films", "v2")
    return ["marker-b", "marker-c", "marker-a"]


@rollout(candidates={"v2": films_v2}, strategy=Interleave(), unit="user", key="shop.films", runtime=runtime)
def films(user):
    noted("shop.films", "control")
    return ["marker-a", "marker-b", "marker-c"]


def price_v2(user):
    noted("shop.price", "v2")
    with tracer.start_as_current_span("chat small-model"):
        return 9.5


@rollout(candidates={"v2": price_v2}, strategy=ABTest(0.5), unit="user", key="shop.price", runtime=runtime)
def price(user):
    noted("shop.price", "control")
    return 10.0


def request(model, *arguments):
    """One request of the application, with a span and a log line of its own."""
    with tracer.start_as_current_span(f"GET /{model.rollout.key}"):
        routed = model.rollout.route(*arguments)
        decision = routed.decision
        structlog.get_logger("shop").info("answered", decision_id=decision.id)
    shadowed = model is spam
    fails = shadowed and spam_fails(*arguments)
    calls.append(
        {
            "rollout": decision.rollout,
            "id": decision.id,
            "variant": decision.variant,
            "shadowed": shadowed,
            "shadow_fails": fails,
            "matches": routed.value == (len(*arguments) % 3 == 0) if shadowed and not fails else None,
        }
    )
    return routed.value


def main():
    structlog.configure(
        processors=[add_trace_context, structlog.processors.JSONRenderer()],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=lambda *_: Sink(),
        cache_logger_on_first_use=False,
    )
    for number in range(CALLS["shop.rank"]):
        if number == CALLS["shop.rank"] // 2:
            with tracer.start_as_current_span("POST /promote"):
                rank.rollout.promote(actor="ann", reason="marker-reason")
        request(rank, f"marker-unit-{number}", "marker-query")
    for number in range(CALLS["shop.spam"]):
        request(spam, "marker-text" + "!" * number)
    for number in range(CALLS["shop.films"]):
        request(films, f"marker-unit-{number}")
    for number in range(CALLS["shop.price"]):
        request(price, f"marker-unit-{number}")
    rank.rollout.abort(actor="ann", reason="marker-reason")
    sys.stdout.write(json.dumps({"calls": calls, "ran": ran, "failed": failed, "lines": lines}) + "\n")
    sys.stdout.flush()


class Sink:
    """Takes the application's log lines."""

    def __getattr__(self, _):
        return lines.append


main()
with contextlib.suppress(KeyboardInterrupt):
    sys.stdin.read()
