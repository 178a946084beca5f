"""prometheus_client has what OpenTelemetry's exporter has, from one process and from gunicorn's workers."""

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from pathlib import Path

import pytest

pytest.importorskip("prometheus_client", reason="needs prometheus-client")

from prometheus_client import REGISTRY, CollectorRegistry, generate_latest
from prometheus_client import Counter as Counter_
from prometheus_client.parser import text_string_to_metric_families

from rollout_sdk import ABTest, Canary, ConfigurationError, Runtime, Shadow, Telemetry, rollout
from rollout_sdk.extending import names
from rollout_sdk_prometheus import PrometheusMeterProvider
from rollout_sdk_prometheus.instruments import HISTOGRAMS, OBSERVED

HERE = Path(__file__).parent
ROOT = HERE.parents[2]


def series(text):
    """Values of all series of the SDK by name and labels; labels without a value are none."""
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = {name: value for name, value in sample.labels.items() if value and not name.startswith("otel_scope")}
            if sample.name.startswith("rollout_"):
                found[sample.name, frozenset(labels.items())] = sample.value
    return found


def scrape(registry):
    return series(generate_latest(registry).decode())


def work(provider):
    """Decisions, failures, shadows, comparisons, a promotion and an abort."""
    runtime = Runtime(telemetry=Telemetry(meter_provider=provider, decision_duration=True))

    def broken(unit):
        raise ValueError(unit)

    canary = rollout(
        candidate=broken,
        # Without guardrails: a judge would roll it back, should this take that long.
        strategy=Canary(["25%", "50%"], shadow=0, guardrails=[]),
        unit="unit",
        key="c",
        breaker=None,
        runtime=runtime,
    )
    test = rollout(candidate=lambda unit: "new", strategy=ABTest(0.5), unit="unit", key="ab", runtime=runtime)
    shadow = rollout(candidate=lambda unit: unit, strategy=Shadow(1.0), unit="unit", key="s", effects="read", runtime=runtime)
    models = [decorate(lambda unit: "old") for decorate in (canary, test, shadow)]
    for number in range(40):
        for model in models:
            model(f"u-{number}")
        assert runtime.flush()
    models[0].rollout.promote(actor="ann", reason="r")
    models[1].rollout.abort(actor="ann", reason="r")
    models[0]("u-1")
    assert runtime.flush()
    return runtime, models


def test_everything_is_as_opentelemetrys_own_exporter_for_prometheus_writes_it():
    exporter = pytest.importorskip("opentelemetry.exporter.prometheus", reason="needs opentelemetry-exporter-prometheus")
    from opentelemetry.sdk.metrics import MeterProvider

    ours, opentelemetry = CollectorRegistry(), MeterProvider([exporter.PrometheusMetricReader()])
    kept = [work(opentelemetry), work(PrometheusMeterProvider(registry=ours))]
    # Their reader registers itself in the default registry, until it is shut down.
    expected, found = scrape(REGISTRY), scrape(ours)
    opentelemetry.shutdown()
    is_timed = lambda name: "_seconds_sum" in name or "_seconds_bucket" in name
    for each in (expected, found):
        for key in [key for key in each if key[0].endswith("_created")]:
            del each[key]
    assert expected.keys() == found.keys()
    assert len(found) > 100
    assert {key: value for key, value in expected.items() if not is_timed(key[0])} == {
        key: value for key, value in found.items() if not is_timed(key[0])
    }
    del kept


def test_the_instruments_are_those_of_the_contract():
    contract = pytest.importorskip("tools.telemetry_contract", reason="needs the repository's tools on the path")
    attributes = {metric.name: {each.rstrip("?") for each in metric.attributes} for metric in contract.METRICS}
    made = {name: set(labels) for name, (_, labels) in OBSERVED.items()} | {
        name: set(labels) for name, (labels, _) in HISTOGRAMS.items()
    }
    assert made == attributes


def test_shares_are_the_configured_ones_and_a_variant_that_is_gone_has_none():
    registry = CollectorRegistry()
    provider = PrometheusMeterProvider(registry=registry)
    runtime, models = work(provider)

    def weights(key):
        return {
            dict(labels)["feature_flag_result_variant"]: value
            for (name, labels), value in scrape(registry).items()
            if name == "rollout_variant_weight" and dict(labels)["feature_flag_key"] == key
        }

    assert weights("c") == {"control": 0.5, "candidate": 0.5}
    assert weights("ab") == {"control": 1.0, "candidate": 0.0}
    models.clear()
    again = rollout(candidates={"v3": lambda unit: 1}, strategy=ABTest(0.2), unit="unit", key="s", runtime=runtime)(
        lambda unit: 0
    )
    again("u-1")
    assert runtime.flush()
    assert weights("s") == {"control": 0.8, "v3": 0.2, "candidate": 0.0}


def test_a_disk_that_is_full_for_a_while_counts_nothing_twice(monkeypatch):
    registry = CollectorRegistry()
    provider = PrometheusMeterProvider(registry=registry)
    runtime, models = work(provider)
    before = totals(generate_latest(registry).decode(), "rollout_decisions_total", "feature_flag_key")
    models[0]("u-1"), models[1]("u-1")
    assert runtime.flush()
    labels, full = Counter_.labels, [True]

    def one_fails(self, *values):
        # After others have been counted.
        if full[0] and values[0] == "ab":
            raise OSError(28, "No space left on device")
        return labels(self, *values)

    monkeypatch.setattr(Counter_, "labels", one_fails)
    for _ in range(5):
        with pytest.raises(OSError, match="No space left"):
            provider.flush()
    full.clear()
    full.append(False)
    found = totals(generate_latest(registry).decode(), "rollout_decisions_total", "feature_flag_key")
    assert {key: found[key] - before[key] for key in found} == {"c": 1, "ab": 1, "s": 0}


def test_without_the_folder_of_the_multiprocess_mode_calls_are_answered_and_it_is_told(tmp_path):
    program = """
from rollout_sdk import Canary, Runtime, Telemetry, rollout
from rollout_sdk_prometheus import PrometheusMeterProvider

runtime = Runtime(telemetry=Telemetry(meter_provider=PrometheusMeterProvider()))
model = rollout(candidate=lambda u: "new", strategy=Canary(["50%"]), unit="u", key="k", runtime=runtime)(lambda u: "old")
print({model(f"u-{number}") for number in range(100)} == {"old", "new"}, runtime.flush(), list(runtime.faults))
"""
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path / "missing")}
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60, env=environment
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines()[-1] == "True True [('telemetry.metrics', 'FileNotFoundError')]"
    assert "Traceback" not in ran.stderr


def test_a_registry_has_one():
    registry = CollectorRegistry()
    PrometheusMeterProvider(registry=registry)
    with pytest.raises(ConfigurationError, match="one PrometheusMeterProvider"):
        PrometheusMeterProvider(registry=registry)
    assert b"rollout_decisions_total" in generate_latest(registry)


@pytest.mark.parametrize("every_s", [0, -1, float("nan"), float("inf"), True, "1"])
def test_seconds_are_positive(every_s):
    with pytest.raises(ConfigurationError, match="every_s="):
        PrometheusMeterProvider(registry=CollectorRegistry(), every_s=every_s)


def test_other_meters_do_nothing():
    registry = CollectorRegistry()
    meter = PrometheusMeterProvider(registry=registry).get_meter("other")
    meter.create_counter("other.things").add(1)
    meter.create_histogram(names.CALL_DURATION).record(1.0)
    assert scrape(registry) == {}


# gunicorn --------------------------------------------------------------------------------------------------------------


class Gunicorn:
    """A real gunicorn of several workers, in Prometheus' multiprocess mode."""

    def __init__(self, folder, *, preload=False, workers=3, **environment):
        pytest.importorskip("gunicorn", reason="needs gunicorn")
        with socket.create_server(("127.0.0.1", 0)) as server:
            self.port = server.getsockname()[1]
        self.metrics = folder / "metrics"
        self.metrics.mkdir()
        path = os.pathsep.join(filter(None, (str(HERE), os.environ.get("PYTHONPATH"))))
        command = [
            sys.executable, "-m", "gunicorn", "app:application", "--workers", str(workers), "--bind", f"127.0.0.1:{self.port}",
            "--config", str(HERE / "gunicorn_conf.py"), "--no-control-socket", *(["--preload"] if preload else []),
        ]  # fmt: skip
        self.log = (folder / "log").open("w+")
        self.process = subprocess.Popen(
            command, stdout=self.log, stderr=self.log, cwd=folder,
            env={**os.environ, "PYTHONPATH": path, "PROMETHEUS_MULTIPROC_DIR": str(self.metrics), **environment},
        )  # fmt: skip

    def wait(self):
        """Wait until it answers."""
        deadline = time.monotonic() + 30
        while True:
            with contextlib.suppress(OSError):
                self.get("/pid")
                return
            assert (self.process.poll(), time.monotonic() < deadline) == (None, True), Path(self.log.name).read_text()
            time.sleep(0.05)

    def get(self, path):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=20) as answer:
            return answer.read().decode()

    def stop(self):
        self.process.terminate()
        self.process.wait(30)
        self.log.close()


@pytest.fixture
def serve(tmp_path):
    servers = []

    def start(**options):
        servers.append(Gunicorn(tmp_path, **options))
        servers[-1].wait()
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


def totals(text, name, label):
    counts = Counter()
    for (each, labels), value in series(text).items():
        if each == name:
            counts[dict(labels)[label]] += value
    return counts


def until(expected, look, timeout_s=15.0):
    deadline = time.monotonic() + timeout_s
    while (found := look()) != expected and time.monotonic() < deadline:
        time.sleep(0.05)
    return found


@pytest.mark.parametrize("preload", [False, True], ids=["", "preload"])
def test_of_200_calls_in_gunicorns_workers_200_are_exported(serve, preload):
    server = serve(preload=preload)
    for number in range(200):
        assert server.get(f"/call/u-{number}") == "old"
    found = until(200, lambda: totals(server.get("/metrics"), "rollout_decisions_total", "feature_flag_result_variant").total())
    assert found == 200
    text = server.get("/metrics")
    failed = totals(text, "rollout_fallbacks_total", "error_type")
    assert failed == {"ValueError": totals(text, "rollout_decisions_total", "feature_flag_result_variant")["candidate"]}
    # Each candidate's failure is followed by the control's run.
    assert totals(text, "rollout_call_duration_seconds_count", "rollout_variant_role") == {
        "candidate": failed.total(),
        "control": 200,
    }
    assert totals(text, "rollout_variant_weight", "feature_flag_result_variant") == {"control": 0.75, "candidate": 0.25}


def test_what_a_stopped_worker_has_counted_is_there_and_its_live_gauges_are_not(serve):
    server = serve(workers=1)
    for number in range(50):
        server.get(f"/call/u-{number}")
    pid = int(server.get("/pid"))
    os.kill(pid, signal.SIGTERM)
    until(True, lambda: int(server.get("/pid")) != pid)
    decisions = lambda: totals(server.get("/metrics"), "rollout_decisions_total", "feature_flag_result_variant").total()
    assert until(50, decisions) == 50
    server.get("/call/u-51")
    assert until(51, decisions) == 51
    assert until([], lambda: [path.name for path in server.metrics.glob(f"gauge_live*_{pid}.db")]) == []


def test_the_share_is_the_one_after_an_operators_last_change(serve, tmp_path):
    from rollout_sdk import operate

    address = f"sqlite:///{tmp_path}/rollouts.db"
    server = serve(ROLLOUT_TEST_STORE=address)
    for number in range(60):
        server.get(f"/call/u-{number}")
    with operate(address, "shop.rank", actor="ann") as rank:
        rank.promote(reason="looks good")
    weights = lambda: totals(server.get("/metrics"), "rollout_variant_weight", "feature_flag_result_variant")
    assert until({"control": 0.5, "candidate": 0.5}, weights) == {"control": 0.5, "candidate": 0.5}


def test_promtool_takes_the_page(serve):
    promtool = os.environ.get("ROLLOUT_PROMTOOL") or shutil.which("promtool")
    if not promtool:
        pytest.skip("promtool is not on PATH, and ROLLOUT_PROMTOOL does not name it")
    server = serve(workers=2)
    for number in range(20):
        server.get(f"/call/u-{number}")
    page = until(True, lambda: "rollout_decisions_total" in server.get("/metrics")) and server.get("/metrics")
    checked = subprocess.run(
        [promtool, "check", "metrics"], input=page, capture_output=True, text=True, check=False, timeout=60
    )
    assert (checked.returncode, checked.stdout) == (0, "")


def test_the_alert_rules_name_series_that_are_exported():
    rules = (ROOT / "contrib/prometheus/rollout_rules.yml").read_text()
    registry = CollectorRegistry()
    kept = work(PrometheusMeterProvider(registry=registry))
    exported = {line.split(" ")[2] for line in generate_latest(registry).decode().splitlines() if line.startswith("# TYPE")}
    named = set(re.findall(r"\b(rollout_\w+?)(?:_count)?(?=[\[{])", rules))
    assert len(named) > 4
    assert named <= exported
    del kept
