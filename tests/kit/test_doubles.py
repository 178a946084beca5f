"""Stand-ins for an application's own tests."""

import subprocess
import sys

import pytest

from rollout_sdk import ABTest, ConfigurationError, Runtime, Shadow, rollout
from rollout_sdk.testing import FakeClock, RecordingPlugin, set_testing


def test_decisions_are_fixed_while_it_lasts_and_nothing_is_shadowed(runtime):
    split = rollout(candidate=lambda user: "new", strategy=ABTest(0.5), unit="user", key="kit.split", runtime=runtime)(
        lambda user: "old"
    )
    shadowed = rollout(candidate=lambda user: "new", strategy=Shadow(1.0), effects="read", key="kit.shadow", runtime=runtime)(
        lambda user: "old"
    )
    users = range(50)
    before = [split(user) for user in users]
    assert {"old", "new"} == set(before)
    with set_testing({"kit.split": "candidate"}):
        assert {"new"} == {split(user) for user in users}
        assert "old" == shadowed(1)
    with set_testing():
        assert {"old"} == {split(user) for user in users}
    assert before == [split(user) for user in users]
    assert [] == runtime.shadowed()
    assert {"override", "split"} == {
        event.decision.reason for event in runtime.routed() if event.decision.rollout == "kit.split"
    }


@pytest.mark.parametrize("variants", [{"kit.nobody": "candidate"}, {"kit.known": "v9"}])
def test_a_rollout_or_variant_that_is_not_there_is_an_error(variants, runtime):
    model = rollout(candidate=lambda: 1, strategy=ABTest(0.5), key="kit.known", runtime=runtime)(lambda: 0)
    with (
        pytest.raises(ConfigurationError, match=r"which is not there.*kit.known \(control, candidate\)"),
        set_testing(variants),
    ):
        model()


def test_what_fails_inside_restores_what_was(runtime):
    model = rollout(candidate=lambda: 1, strategy=ABTest(1.0), key="kit.restored", runtime=runtime)(lambda: 0)
    with pytest.raises(KeyError), set_testing():
        raise KeyError
    assert 1 == model()


def test_a_clock_stands_still_until_it_is_told():
    clock, seen = FakeClock(100.0), RecordingPlugin()
    runtime = Runtime(time_ns=clock, plugins=[seen])
    model = rollout(candidate=lambda: 1, strategy=ABTest(1.0), key="kit.clock", runtime=runtime)(lambda: 0)
    model()
    clock.advance(3600)
    model()
    runtime.close(5.0)
    assert [100.0, 3700.0] == [event.decision.time_s for event in seen.routed]
    assert {"rollout-observer"} == seen.threads


def test_the_kit_needs_nothing_but_the_core():
    program = "import sys, rollout_sdk.testing; print([name for name in ('pytest', 'numpy', 'click') if name in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "[]\n" == ran.stdout
