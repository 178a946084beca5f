"""The conservation law finds what breaks it: a watch that sees nothing would be no watch."""

import pytest

from rollout_sdk import Shadow, rollout
from rollout_sdk.engine.shadows.ended import EndedShadow
from rollout_sdk.engine.shadows.shadow import ShadowRun
from tests.faults.law import ConservationLaw


@pytest.fixture
def law():
    """In the place of the watch on every test: here the law is broken on purpose."""


def watched(watch, monkeypatch):
    law, runtime = ConservationLaw(monkeypatch), watch()
    model = rollout(candidate=lambda x: x, strategy=Shadow(1.0), effects="read", key="model", runtime=runtime)(lambda x: x)
    return law, runtime, model


def test_a_run_that_ends_once_keeps_the_law(watch, monkeypatch):
    law, runtime, model = watched(watch, monkeypatch)
    model(1)
    runtime.flush(10.0)
    law.check()
    assert {"ok": 1} == law.ends


def test_a_run_that_never_ends_breaks_it(watch, monkeypatch):
    monkeypatch.setattr(ShadowRun, "end", lambda self, *_, **__: None)
    law, runtime, model = watched(watch, monkeypatch)
    model(1)
    runtime.flush(10.0)
    with pytest.raises(AssertionError):
        law.check()


def test_a_run_that_ends_twice_breaks_it(watch, monkeypatch):
    law, runtime, model = watched(watch, monkeypatch)
    model(1)
    runtime.flush(10.0)
    law.made[0]._open.append(True)
    law.made[0].end("timeout")
    assert 2 == law.ended[id(law.made[0])]
    with pytest.raises(AssertionError):
        law.check()


@pytest.mark.parametrize("end", ["ok", "a new way to end"])
def test_an_end_that_is_told_twice_or_unknown_breaks_it(end, watch, monkeypatch):
    law, runtime, model = watched(watch, monkeypatch)
    model(1)
    runtime.flush(10.0)
    run = law.made[0]
    EndedShadow(run.call, run.variant, end, None, None, None, None)
    with pytest.raises(AssertionError):
        law.check()
