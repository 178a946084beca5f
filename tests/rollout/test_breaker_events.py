"""What observers and the journal learn about a breaker: whose it is, why it changed, and when by the runtime's clock."""

import pytest

from rollout_sdk import ABTest, Breaker, rollout
from rollout_sdk.records import BreakerEvent
from rollout_sdk.resilience import breaker


def test_a_breaker_says_when_it_opens_and_closes(watch, monkeypatch):
    now_s = [1_800_000_000, 1000.0]
    monkeypatch.setattr(breaker, "monotonic", lambda: now_s[1])
    runtime = watch(time_ns=lambda: now_s[0] * 10**9)
    fails = [True]

    def candidate(x):
        if fails[0]:
            raise ValueError
        return "new"

    model = rollout(
        candidates={"v2": candidate}, strategy=ABTest(1.0), unit="x", key="shop.rank", effects="read", runtime=runtime,
        breaker=Breaker(),
    )(lambda x: "old")  # fmt: skip
    for _ in range(30):
        model(1)
    (opened,) = [event for event in runtime.events() if isinstance(event, BreakerEvent)]
    assert ("shop.rank", "v2", "open", now_s[0]) == (opened.rollout, opened.variant, opened.action, opened.time_s)
    assert opened.failures == opened.runs > 0
    fails[0] = False
    now_s[0], now_s[1] = now_s[0] + 60, now_s[1] + 31.0
    assert "new" == model(1)
    *_, closed = [event for event in runtime.events() if isinstance(event, BreakerEvent)]
    assert ("v2", "close", 1_800_000_060.0, 0.0) == (closed.variant, closed.action, closed.time_s, closed.cooldown_s)
    assert opened.cooldown_s == pytest.approx(30, rel=0.2)
