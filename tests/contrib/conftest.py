"""What a service really emits, and the tools that judge the artefacts; a tool that is not there skips its tests and says so."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CONTRIB = Path(__file__).parents[2] / "contrib"


def tool(variable, name):
    """The path of a program, named by a variable or found on PATH; skips without it."""
    path = os.environ.get(variable) or shutil.which(name)
    if not path:
        pytest.skip(f"{name} is not on PATH, and {variable} does not name it: contrib/README.md says where it comes from")
    return path


@pytest.fixture(scope="session")
def promtool():
    """Runs promtool; returns the finished process."""
    path = tool("ROLLOUT_PROMTOOL", "promtool")

    def run(*arguments, cwd):
        return subprocess.run([path, *arguments], cwd=cwd, capture_output=True, text=True, timeout=100, check=False)

    return run


@pytest.fixture(scope="session")
def emitted():
    """What a run emits through Prometheus's exporter for Python: the values of every label, by the name of the series."""
    pytest.importorskip("opentelemetry.exporter.prometheus", reason="opentelemetry-exporter-prometheus is not installed")
    from prometheus_client.parser import text_string_to_metric_families

    program = Path(__file__).with_name("program.py")
    run = subprocess.run([sys.executable, "-W", "error", program], capture_output=True, text=True, timeout=60, check=False)
    assert (run.returncode, run.stderr) == (0, "")
    series = {}
    for family in text_string_to_metric_families(run.stdout):
        for sample in family.samples:
            labels = series.setdefault(sample.name, {})
            for label, value in sample.labels.items():
                labels.setdefault(label, set()).add(value)
    return series
