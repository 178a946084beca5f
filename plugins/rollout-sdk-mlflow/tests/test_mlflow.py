"""A real MLflow registry: aliases are followed in the background, versions are the rollout's, a promotion moves the alias."""

import contextlib
import itertools
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

pytest.importorskip("mlflow", reason="needs mlflow, of the extra [test]")
pytest.importorskip("sqlalchemy", reason="needs the whole mlflow, of the extra [test]: mlflow-skinny has no registry")

import mlflow
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from rollout_sdk import ABTest, Canary, ConfigurationError, Runtime, TransitionedEvent
from rollout_sdk_mlflow import aliased

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.timeout(300)]


class Registered:
    """A registered model of several versions; the model of version 3 answers 3."""

    def __init__(self, uri, name, versions=4):
        self.client, self.name = MlflowClient(uri, registry_uri=uri), name
        self.client.create_registered_model(name)
        for _ in range(versions):
            self.client.create_model_version(name, source=f"s3://nowhere/{name}")
        self.loads = []

    def alias(self, **aliases):
        for alias, version in aliases.items():
            self.client.set_registered_model_alias(self.name, alias, str(version))
        return self

    def load(self, address):
        self.loads.append((address, threading.current_thread().name))
        return int(address.rpartition("/")[2])

    def serve(self, runtime, **options):
        options = {"strategy": Canary(["50%"]), "unit": "user", "key": "shop.rank", "runtime": runtime, **options}
        return aliased(self.name, client=self.client, load=self.load, **options)(answer)

    def version_of(self, alias):
        return int(self.client.get_model_version_by_alias(self.name, alias).version)

    def tags(self, version):
        return self.client.get_model_version(self.name, str(version)).tags


def answer(model, user, *, times=1):
    return [model] * times


@pytest.fixture(scope="module")
def uri(tmp_path_factory):
    """A registry for all tests: MLflow takes ten seconds to make its tables."""
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/mlflow.db"


numbers = itertools.count()


@pytest.fixture
def registered(uri):
    return Registered(uri, f"ranker-{next(numbers)}")


@pytest.fixture
def runtime():
    runtime = Runtime()
    yield runtime
    runtime.close(1.0)


UNITS = [f"u-{number}" for number in range(200)]


def answers(served):
    return {served(unit)[0] for unit in UNITS}


def test_champion_and_challenger_are_control_and_candidate_and_the_version_says_which(registered, runtime):
    rank = registered.alias(champion=1, challenger=2).serve(runtime)
    assert answers(rank) == {1, 2}
    assert rank("u-1", times=3) == rank("u-1") * 3
    assert rank.rollout.status().version == "2 against 1"
    assert {rank.rollout.route(unit).value[0]: rank.rollout.route(unit).decision.variant for unit in UNITS} == {
        1: "control", 2: "candidate",
    }  # fmt: skip


def test_without_a_challenger_the_champion_serves_alone(registered, runtime):
    rank = registered.alias(champion=1).serve(runtime)
    assert answers(rank) == {1}
    with pytest.raises(ConfigurationError, match="no version newer than 1"):
        _ = rank.rollout


@pytest.mark.parametrize("challenger", [2, 1])
def test_a_challenger_that_is_the_champion_or_older_is_none(registered, runtime, challenger):
    rank = registered.alias(champion=2, challenger=challenger).serve(runtime)
    assert answers(rank) == {2}


def test_a_moved_alias_begins_a_rollout_without_evidence_and_loads_off_the_call(registered, runtime):
    rank = registered.alias(champion=1, challenger=2).serve(runtime)
    assert answers(rank) == {1, 2}
    registered.alias(challenger=3)
    assert answers(rank) == {1, 2}
    assert rank.poll() is True
    assert answers(rank) == {1, 3}
    status = rank.rollout.status()
    assert (status.version, status.versions, sum(status.calls.values())) == ("3 against 1", 2, len(UNITS))
    assert rank.poll() is False
    assert [address for address, _ in registered.loads] == [f"models:/{registered.name}/{number}" for number in (1, 2, 3)]


def test_a_thread_follows_the_aliases(registered, runtime):
    rank = registered.alias(champion=1).serve(runtime, every_s=0.05)
    rank.start()
    rank.start()
    registered.alias(challenger=2)
    deadline = time.monotonic() + 20
    while answers(rank) != {1, 2} and time.monotonic() < deadline:
        time.sleep(0.02)
    rank.close()
    assert answers(rank) == {1, 2}
    assert registered.loads[-1] == (f"models:/{registered.name}/2", "rollout-mlflow")


def test_a_call_never_waits_for_a_model_that_loads(registered, runtime):
    rank = registered.alias(champion=1).serve(runtime)
    loading, release = threading.Event(), threading.Event()

    def slow(address):
        loading.set()
        assert release.wait(20)
        return int(address.rpartition("/")[2])

    rank._registry._load = slow
    registered.alias(challenger=2)
    thread = threading.Thread(target=rank.poll)
    thread.start()
    assert loading.wait(20)
    began = time.monotonic()
    assert answers(rank) == {1}
    assert time.monotonic() - began < 1.0
    release.set()
    thread.join(20)
    assert answers(rank) == {1, 2}


def test_a_promotion_moves_the_alias_and_the_new_champion_serves_alone(registered, runtime):
    rank = registered.alias(champion=1, challenger=2).serve(runtime)
    rank("u-1")
    rank.rollout.promote(actor="ann", reason="better")
    assert runtime.flush()
    assert registered.version_of("champion") == 2
    assert answers(rank) == {2}
    assert rank.poll() is True
    assert (answers(rank), rank.champion.version, rank.challenger) == ({2}, 2, None)
    tags = registered.tags(2)
    assert {name: tags[f"rollout.{name}"] for name in ("key", "status", "reason")} == {
        "key": "shop.rank", "status": "promoted", "reason": "better",
    }  # fmt: skip
    registered.alias(challenger=3)
    rank.poll()
    assert (answers(rank), rank.rollout.status().version) == ({2, 3}, "3 against 2")


@pytest.mark.parametrize("fails", ["get_model_version_by_alias", "set_registered_model_alias", "set_model_version_tag"])
def test_a_promotion_while_the_registry_does_not_answer_moves_the_alias_later(registered, runtime, monkeypatch, fails):
    rank = registered.alias(champion=1, challenger=2).serve(runtime)
    rank("u-1")

    def failing(*_):
        raise MlflowException("out of order")

    with monkeypatch.context() as patched:
        patched.setattr(registered.client, fails, failing)
        rank.rollout.promote(actor="ann", reason="better")
        assert runtime.flush()
        assert answers(rank) == {2}
        assert rank.poll() is False
        assert "out of order" in rank.problem
        assert answers(rank) == {2}
    assert rank.poll() is True
    assert (registered.version_of("champion"), registered.tags(2)["rollout.status"]) == (2, "promoted")
    assert (answers(rank), rank.champion.version, rank.challenger, rank.problem) == ({2}, 2, None, None)
    # Written once: what is moved afterwards stays.
    registered.alias(champion=1)
    assert rank.poll() is True
    assert registered.version_of("champion") == 1


def test_the_aliases_are_followed_after_the_end_of_a_version_that_was_deleted(registered, runtime):
    rank = registered.alias(champion=1, challenger=2).serve(runtime)
    rank("u-1")
    registered.client.delete_model_version(registered.name, "2")
    rank.rollout.abort(actor="ann", reason="withdrawn")
    assert runtime.flush()
    registered.alias(champion=3)
    assert rank.poll() is True
    assert (answers(rank), rank.problem) == ({3}, None)


def test_a_verdict_is_tagged_and_a_transition_of_another_comparison_is_not(registered, runtime):
    rank = registered.alias(champion=1, challenger=2).serve(runtime)
    about = {
        "rollout": "shop.rank", "strategy": "canary", "action": "roll_back", "status": "rolled_back", "revision": 3,
        "from_phase": "0:50%", "to_phase": "1:rolled back", "shares": {}, "actor": "judge", "reason": "error_rate is worse",
        "time_s": 1.8e9, "id": "t-1", "evidence": {"outcome": "FAIL"},
    }  # fmt: skip
    rank.promoted(TransitionedEvent(**about, version="9 against 1"))
    assert registered.tags(2) == {}
    rank.promoted(TransitionedEvent(**about, version="2 against 1"))
    assert registered.tags(2) == {
        "rollout.key": "shop.rank",
        "rollout.status": "rolled_back",
        "rollout.phase": "1:rolled back",
        "rollout.reason": "error_rate is worse",
        "rollout.verdict": "FAIL",
    }


def test_an_abort_is_tagged_and_moves_nothing(registered, runtime):
    rank = registered.alias(champion=1, challenger=2).serve(runtime)
    rank("u-1")
    rank.rollout.abort(actor="ann", reason="complaints")
    assert runtime.flush()
    assert (registered.version_of("champion"), registered.tags(2)["rollout.status"]) == (1, "aborted")
    assert answers(rank) == {1}


@pytest.mark.parametrize("why", ["moved", "not wanted"])
def test_an_alias_that_somebody_has_moved_or_that_is_not_ours_to_move_stays(registered, runtime, why):
    rank = registered.alias(champion=1, challenger=2).serve(runtime, moves_alias=why == "moved")
    rank("u-1")
    if why == "moved":
        registered.alias(champion=4)
    rank.rollout.promote(actor="ann", reason="better")
    assert runtime.flush()
    assert registered.version_of("champion") == (4 if why == "moved" else 1)


def test_a_registry_that_fails_changes_nothing_and_is_told_once(registered, runtime, caplog, monkeypatch):
    rank = registered.alias(champion=1, challenger=2).serve(runtime)

    def failing(*_):
        raise MlflowException("out of order")

    with monkeypatch.context() as patched:
        patched.setattr(registered.client, "get_model_version_by_alias", failing)
        assert [rank.poll(), rank.poll()] == [False, False]
        assert "out of order" in rank.problem
    assert answers(rank) == {1, 2}
    assert sum("rollout.mlflow.problem" in record.message for record in caplog.records) == 1
    rank.poll()
    assert rank.problem is None


@pytest.fixture
def another():
    """The address of a server that is not the registry: it wants another login, and does not speak TLS."""

    class Refusing(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(401)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Refusing)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("scheme", "host", "says"),
    [("http", "127.0.0.1:1", "Connection refused"), ("http", None, "401"), ("https", None, "SSL")],
)
def test_a_server_that_is_gone_wants_another_login_or_does_not_verify_changes_nothing(
    registered, runtime, another, caplog, monkeypatch, scheme, host, says
):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    rank = registered.alias(champion=1, challenger=2).serve(runtime)
    address = f"{scheme}://ann:hunter2@{host or another}"
    rank._registry._client = MlflowClient(address, registry_uri=address)
    assert [rank.poll(), rank.poll()] == [False, False]
    assert says in rank.problem
    assert answers(rank) == {1, 2}
    rank.rollout.abort(actor="ann", reason="complaints")
    assert answers(rank) == {1}
    assert runtime.flush()
    assert sum("rollout.mlflow.problem" in record.getMessage() for record in caplog.records) == 1
    assert "hunter2" not in caplog.text + rank.problem
    with pytest.raises(MlflowException):
        aliased("ranker", client=rank._registry._client, strategy=Canary(["50%"]), unit="user", key="k", runtime=runtime)(
            answer
        )


def test_a_model_that_does_not_load_leaves_the_one_before(registered, runtime):
    rank = registered.alias(champion=1, challenger=2).serve(runtime)

    def broken(address):
        raise OSError("no such artifact")

    rank._registry._load = broken
    registered.alias(challenger=3)
    assert rank.poll() is False
    assert (answers(rank), rank.problem) == ({1, 2}, "OSError: no such artifact")


def test_a_champion_without_its_alias_serves_on(registered, runtime):
    rank = registered.alias(champion=1, challenger=2).serve(runtime)
    registered.client.delete_registered_model_alias(registered.name, "champion")
    assert rank.poll() is False
    assert answers(rank) == {1, 2}
    assert "alias champion" in rank.problem


async def async_answer(model, user):
    return [model]


def test_coroutines_stay_coroutines(registered, runtime):
    import asyncio

    registered.alias(champion=1, challenger=2)
    options = {"strategy": ABTest(0.5), "unit": "user", "key": "async", "runtime": runtime}
    rank = aliased(registered.name, client=registered.client, load=registered.load, **options)(async_answer)

    async def all_of():
        return {(await rank(unit))[0] for unit in UNITS}

    assert asyncio.run(all_of()) == {1, 2}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"version": "7"}, "version"),
        ({"candidate": answer}, "candidate"),
        ({"every_s": 0}, "every_s"),
        ({"champion": "boss"}, "boss"),
    ],
)
def test_what_cannot_be_used_is_refused(registered, runtime, options, said):
    with pytest.raises(ConfigurationError, match=said):
        registered.alias(champion=1).serve(runtime, **options)


TRACES = """
import mlflow
from opentelemetry import trace
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from rollout_sdk import ABTest, Runtime, rollout

mlflow.set_tracking_uri("sqlite:///traces.db")
runtime, kept = Runtime(), InMemorySpanExporter()
rank = rollout(candidate=lambda u: "new", strategy=ABTest(0.5), unit="u", key="shop.rank", runtime=runtime)(lambda u: "old")


@mlflow.trace
def serve(u):
    return rank(u)


serve("u-1")
# The provider is MLflow's own by now.
trace.get_tracer_provider().add_span_processor(SimpleSpanProcessor(kept))
serve("u-2")
assert runtime.flush()
mlflow.flush_trace_async_logging()
spans = [each.data.spans for each in mlflow.search_traces(return_type="list")]
whole = [{each.span_id: each for each in found} for found in spans if found[0].name == "serve"]
assert len(whole) == 2
for found in whole:
    names = {each.name.partition("/")[0]: found[each.parent_id].name if each.parent_id else None for each in found.values()}
    assert names == {"serve": None, "route shop.rank": "serve", "invoke shop.rank": "route shop.rank"}, names
assert {"serve", "route shop.rank"} <= {each.name for each in kept.get_finished_spans()}
"""


def test_the_spans_of_a_rollout_are_in_mlflows_trace(tmp_path):
    pytest.importorskip("opentelemetry.sdk.trace", reason="needs opentelemetry-sdk, which mlflow brings")
    ran = subprocess.run(
        [sys.executable, "-c", TRACES],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
        env={
            **os.environ,
            "MLFLOW_USE_DEFAULT_TRACER_PROVIDER": "false",
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "PYTHONPATH": os.pathsep.join(each for each in sys.path if each),
        },
    )
    assert ran.returncode == 0, ran.stderr[-3000:]


@pytest.mark.timeout(600)
def test_a_real_server_and_a_real_model(tmp_path, runtime, monkeypatch):
    """An MLflow server in a process of its own, with two pyfunc models."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    uri = f"http://127.0.0.1:{port}"
    command = [
        sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1",
        "--backend-store-uri", f"sqlite:///{tmp_path}/mlflow.db", "--artifacts-destination", str(tmp_path / "artifacts"),
    ]  # fmt: skip
    environment = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    with (tmp_path / "log").open("w") as log:
        # A session of its own: the server has children that outlive it for a while.
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=tmp_path, env=environment, start_new_session=True)
    try:
        deadline = time.monotonic() + 300
        while True:
            with contextlib.suppress(OSError), urllib.request.urlopen(f"{uri}/health", timeout=5):
                break
            assert (process.poll(), time.monotonic() < deadline) == (None, True), (tmp_path / "log").read_text()
            time.sleep(0.2)
        monkeypatch.setattr(mlflow.tracking._tracking_service.utils, "_tracking_uri", None, raising=False)
        mlflow.set_tracking_uri(uri)
        mlflow.set_registry_uri(uri)
        for factor in (2, 3):

            class Times(mlflow.pyfunc.PythonModel):
                def __init__(self, factor):
                    self.factor = factor

                def predict(self, context, model_input, params=None):
                    return [self.factor * each for each in model_input]

            mlflow.pyfunc.log_model(
                name="model", python_model=Times(factor), registered_model_name="times", pip_requirements=[]
            )
        client = MlflowClient()
        client.set_registered_model_alias("times", "champion", "1")
        client.set_registered_model_alias("times", "challenger", "2")
        options = {"strategy": Canary(["50%"], guardrails=[]), "unit": "user", "key": "times", "runtime": runtime}
        times = aliased("times", **options)(predicted)
        assert {times(unit, 7) for unit in UNITS} == {14, 21}
        times.rollout.promote(actor="ann", reason="better")
        deadline = time.monotonic() + 60
        while not times.poll() and time.monotonic() < deadline:
            time.sleep(0.2)
        assert client.get_model_version_by_alias("times", "champion").version in (2, "2")
        assert {times(unit, 7) for unit in UNITS} == {21}
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(60)
        mlflow.set_tracking_uri(None)
        mlflow.set_registry_uri(None)


def predicted(model, user, value):
    return model.predict([value])[0]
