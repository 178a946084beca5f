"""The recipe for loguru in docs/observability.md, in a program of its own: loguru has one logger for everything."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "observability.md"
PROGRAM = """
from rollout_sdk import ABTest, Runtime, Telemetry, rollout

runtime = Runtime(telemetry=Telemetry(bind_logs=True))


@rollout(candidate=lambda user: 1 / 0, strategy=ABTest(1.0), unit="user", key="shop.rank", runtime=runtime)
def rank(user):
    logger.info("ranking")
    return "old"


logger.info("starting")
rank("u1")
runtime.close()
"""


def test_the_recipe_binds_the_decision_and_forwards_the_lines_of_the_sdk():
    pytest.importorskip("loguru", reason="loguru is not installed; the extra dev has it")
    (recipe,) = [block for block in re.findall(r"```py\n(.*?)```", PAGE.read_text(), re.DOTALL) if "from loguru" in block]
    done = subprocess.run([sys.executable, "-c", recipe + PROGRAM], capture_output=True, text=True, timeout=60, check=False)
    assert (0, "") == (done.returncode, done.stderr)
    (ranking,) = [line for line in done.stdout.splitlines() if line.endswith("] ranking")]
    assert ranking.startswith("INFO [shop.rank control]")
    assert "rollout.fallback" in done.stdout
