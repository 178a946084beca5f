"""The traffic of a plan, read from a journal: of the control, by unit, and with bounded memory."""

import json
import math
import random
import statistics
import subprocess
import sys

import pytest

from rollout_sdk import ConfigurationError, Gate, Guardrail
from rollout_sdk.analysis.measured import measure
from rollout_sdk.plan import Criteria

BEGIN_S = 1_800_000_000
DAY_S = 86_400
CRITERIA = Criteria(
    steps=["10%"],
    guardrails=[
        Guardrail("error_rate"),
        Guardrail("latency", threshold_s=0.5),
        Guardrail("first_item", threshold_s=0.1),
        Guardrail("latency_mean"),
    ],
    gates=[Gate("spend"), Gate("never")],
)


def line(event, t, **fields):
    return json.dumps({"event": event, "v": 1, "t": t, "rollout": "m", **fields})


def written(folder, *, days=2.0, units=3000, calls=3, seed=1):
    """Two days of calls: a tenth of the units have the candidate, which always fails, is slow, and earns ten times as much."""
    rng, lines, of_unit = random.Random(seed), [], {}
    lines.append(
        line(
            "rollout", BEGIN_S, strategy="canary", control="control", variants=["control", "v2"], phase="0:10%",
            status="running", revision=0, shares={"control": 0.9, "v2": 0.1},
        )
    )  # fmt: skip
    total = units * calls
    for number in range(total):
        unit, t = number % units, BEGIN_S + days * DAY_S * number / (total - 1)
        arm = "v2" if unit % 10 == 0 else "control"
        erring, slow = (unit % 50 == 1, number % 25 == 1) if arm == "control" else (True, True)
        typical = of_unit.setdefault(unit, rng.gauss(-4, 0.3))
        took = 1.0 if slow else math.exp(typical)
        digest = random.Random(unit).getrandbits(64)
        lines.append(
            line(
                "decision", t, id=f"id-{number}", strategy="canary", phase="0:10%", variant=arm, served=arm, reason="split",
                propensity=0.5, bucket=digest % 512, unit=f"{digest:016x}",
                runs=[[arm, took, "ValueError" if erring else None, 0.2 if number % 5 == 1 else 0.05]],
            )
        )  # fmt: skip
        value = (10.0 if arm == "v2" else 1.0) * (1 + unit % 7)
        lines.append(
            line(
                "outcome", t, metric="spend", value=value, id=f"id-{number}", phase="0:10%", variant=arm, bucket=digest % 512,
                decided=t,
            )
        )  # fmt: skip
    folder.mkdir(exist_ok=True)
    (folder / "events-1-0.jsonl").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    return measure(written(tmp_path_factory.mktemp("journal") / "j"), CRITERIA)


def test_units_and_calls_are_those_of_all_arms(found):
    assert ("m", 3000, 9000, pytest.approx(2.0)) == (found.rollout, found.units, found.calls, found.days)
    assert (1500, 3) == (pytest.approx(found.traffic.units_per_day), found.traffic.calls_per_unit)


def test_rates_are_those_of_the_control(found):
    # Of the 2,700 units of the control, 60 always see an error.
    assert found.traffic.error_rate == pytest.approx(60 / 2700)
    ours = [number for number in range(9000) if number % 3000 % 10]
    for label, every in (("latency>0.5s", 25), ("first_item>0.1s", 5)):
        assert found.traffic.slow_rates[label] == pytest.approx(sum(number % every == 1 for number in ours) / len(ours))


def test_a_recorded_metric_has_its_mean_per_call_and_the_deviation_of_units(found):
    values = [1 + unit % 7 for unit in range(3000) if unit % 10]
    mean, deviation = found.traffic.means["spend"]
    assert mean == pytest.approx(statistics.mean(values))
    # Calls of one unit are alike: a unit counts once, however often it comes.
    assert deviation == pytest.approx(statistics.pstdev(values), rel=0.15)
    assert "never" not in found.traffic.means
    assert "spend" in found.known


def test_the_spread_of_latency_is_that_of_units(tmp_path):
    criteria = Criteria(steps=["10%"], guardrails=[Guardrail("latency_mean")])
    spread = measure(written(tmp_path / "j"), criteria).traffic.latency_spread
    # exp(-4) s for most, 1 s for every 25th unit.
    expected = math.sqrt(0.3**2 + 0.04 * 0.96 * 4**2)
    assert spread == pytest.approx(expected, rel=0.2)


def test_what_is_not_analysed_is_not_measured(tmp_path):
    folder = written(tmp_path / "j", units=300)
    path = folder / "events-1-0.jsonl"
    path.write_text(path.read_text().replace('"reason": "split"', '"reason": "override", "excluded": true'))
    with pytest.raises(ConfigurationError, match="has 0 calls of 'm' that are analysed"):
        measure(folder, CRITERIA)
    with pytest.raises(ConfigurationError, match="has 0 calls of 'other'"):
        measure(folder, CRITERIA, rollout="other")


MEASURED_TWICE = """
import sys
import tracemalloc

from rollout_sdk import Gate, Guardrail
from rollout_sdk.analysis import early
from rollout_sdk.analysis.measured import measure
from rollout_sdk.plan import Criteria

# The last 40,000 calls are remembered, for outcomes that come before theirs: that has an end, but not in a test.
early._MOST_CALLS = 100
criteria = Criteria(steps=["10%"], guardrails=[Guardrail("error_rate"), Guardrail("latency_mean")], gates=[Gate("spend")])
# What is imported at the first time is no memory of a journal's.
measure(sys.argv[1], criteria)
for folder in sys.argv[1:]:
    tracemalloc.start()
    measure(folder, criteria)
    print(tracemalloc.get_traced_memory()[1])
    tracemalloc.stop()
"""


def test_memory_does_not_grow_with_the_journal(tmp_path):
    """Minutes are put together on the way: twelve times the calls, over two weeks, take about what a day takes."""
    folders = []
    for days, calls in ((1.0, 1), (14.0, 12)):
        folder = written(tmp_path / f"{days}", days=days, units=800, calls=calls)
        # The last 100,000 outcomes are remembered, so that none counts twice: that has an end, but not in a test.
        path = folder / "events-1-0.jsonl"
        path.write_text("".join(line for line in path.read_text().splitlines(keepends=True) if '"outcome"' not in line))
        folders.append(folder)
    # A process of its own: threads that other tests left here allocate as well.
    ran = subprocess.run([sys.executable, "-c", MEASURED_TWICE, *folders], capture_output=True, text=True, check=True)
    first, second = map(int, ran.stdout.split())
    assert second < 2.5 * first
