"""FastAPI behind a real uvicorn: units, decisions in responses, forced variants, answers that are no failures, the router."""

# ruff: noqa: E402 - without what the plugin is for, the module is skipped before it is imported

import asyncio
import contextlib
import contextvars
import http.client
import json
import pickle
import re
import socket
import threading
import time
from contextlib import asynccontextmanager

import pytest

pytest.importorskip("fastapi", reason="needs fastapi")
uvicorn = pytest.importorskip("uvicorn", reason="needs uvicorn, of the extra [test]")

from fastapi import Depends, FastAPI, HTTPException, WebSocket
from fastapi.responses import StreamingResponse
from starlette.authentication import AuthCredentials, AuthenticationBackend, SimpleUser
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.middleware.base import BaseHTTPMiddleware

from rollout_sdk import ABTest, Canary, ConfigurationError, Runtime, rollout
from rollout_sdk.testing import ObserverContract
from rollout_sdk_fastapi import (
    HttpAnswer,
    RolloutMiddleware,
    cookie,
    endpoint,
    flushing,
    force_value,
    header,
    request_decisions,
    request_unit,
    rollout_router,
    user,
)

KEY = "0123456789abcdef"
TOKEN = "t" * 16


class Answer:
    def __init__(self, response):
        self.status, self.text = response.status, response.read().decode()
        self.headers = {name.lower(): value for name, value in response.getheaders()}
        self.told = dict(re.findall(r"([^=,; ]+)=([^=,; ]+); id=", self.headers.get("x-rollout", "")))

    @property
    def json(self):
        return json.loads(self.text)


class Served:
    """An application behind uvicorn, in a thread."""

    def __init__(self, app):
        with socket.create_server(("127.0.0.1", 0)) as server:
            self.port = server.getsockname()[1]
        self.server = uvicorn.Server(uvicorn.Config(app, port=self.port, log_level="error", ws="none"))
        self.thread = threading.Thread(target=self.server.run, daemon=True)
        self.thread.start()
        deadline = time.monotonic() + 20
        while not self.server.started:
            assert self.thread.is_alive()
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def ask(self, path, method="GET", body=None, **headers):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        if body is not None:
            headers["Content-Type"] = "application/json"
        connection.request(method, path, json.dumps(body) if body is not None else None, headers)
        with contextlib.closing(connection):
            return Answer(connection.getresponse())

    def stop(self):
        self.server.should_exit = True
        self.thread.join(20)
        assert not self.thread.is_alive()


@pytest.fixture
def serve():
    served = []

    def start(app):
        served.append(Served(app))
        return served[-1]

    yield start
    for each in served:
        each.stop()


class Seen:
    name = "seen"

    def __init__(self):
        self.routed = []

    def rollout_routed(self, event):
        self.routed.append(event)


@pytest.fixture
def seen():
    return Seen()


@pytest.fixture
def runtime(seen):
    runtime = Runtime(plugins=[seen])
    yield runtime
    runtime.close(1.0)


def old(q: str = ""):
    return {"model": "old"}


def new(q: str = ""):
    return {"model": "new"}


def ranked(runtime, *, candidate=new, strategy=None, control=old, key="shop.rank", **options):
    strategy = strategy or ABTest(0.5)
    return rollout(candidate=candidate, strategy=strategy, runtime=runtime, **{**endpoint(key), **options})(control)


def app_of(model, *, path="/rank", **options):
    app = FastAPI()
    app.get(path)(model)
    app.add_middleware(RolloutMiddleware, **{"unit": header("X-User"), **options})
    return app


class TestContract(ObserverContract):
    def make(self):
        return request_decisions


# Units -----------------------------------------------------------------------------------------------------------------


async def async_old(q: str = ""):
    return {"model": "old"}


async def async_new(q: str = ""):
    return {"model": "new"}


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_the_unit_is_the_requests_and_its_decision_stands_in_the_response(serve, runtime, kind):
    models = {"sync": {}, "async": {"control": async_old, "candidate": async_new}}[kind]
    model = ranked(runtime, **models)
    server = serve(app_of(model))
    for number in range(20):
        answer = server.ask("/rank?q=shoes", X_User=f"u-{number}")
        expected = model.rollout.assign(f"u-{number}").variant
        assert answer.told == {"shop.rank": expected}
        assert answer.json == {"model": {"control": "old", "candidate": "new"}[expected]}


def test_the_id_in_the_response_takes_an_outcome(serve, seen):
    class Outcomes:
        name = "outcomes"

        def __init__(self):
            self.got = []

        def rollout_recorded(self, event):
            self.got.append(event)

    outcomes = Outcomes()
    runtime = Runtime(plugins=[outcomes])
    model = ranked(runtime)
    answer = serve(app_of(model)).ask("/rank", X_User="u-1")
    id_ = answer.headers["x-rollout"].partition("; id=")[2]
    model.rollout.record("click", 1.0, decision_id=id_)
    assert runtime.flush()
    assert [(each.variant, each.value) for each in outcomes.got] == [(answer.told["shop.rank"], 1.0)]


@pytest.mark.parametrize(
    ("sources", "headers", "unit"),
    [
        ([header("X-User")], {"X_User": "u-1"}, "u-1"),
        ([header("X-User"), cookie("visitor")], {"Cookie": "a=b; visitor=v-1; c=d"}, "v-1"),
        ([header("X-User"), cookie("visitor")], {"X_User": "u-1", "Cookie": "visitor=v-1"}, "u-1"),
        ([header("X-User")], {"X_User": ""}, None),
        ([cookie("visitor")], {"Cookie": 'visitor="v 1"'}, "v 1"),
        ([cookie("visitor")], {"Cookie": 'prefs={"x":1,"y":[2]}; visitor=v-1'}, "v-1"),
        ([cookie("visitor")], {"Cookie": "name=Ann Lee; visitor=v-1"}, "v-1"),
        ([cookie("visitor")], {"Cookie": "a; b@c=1; visitor=v-1"}, "v-1"),
        ([cookie("visitor")], {"Cookie": "visitor="}, None),
        ([cookie("visitor")], {"Cookie": "\x01=\x02;;;="}, None),
        ([cookie("visitor")], {}, None),
        ([lambda scope: scope["path"]], {}, "/unit"),
    ],
)
def test_the_first_source_that_a_request_has_is_its_unit(serve, sources, headers, unit):
    app = FastAPI()
    app.get("/unit")(lambda: request_unit())
    app.add_middleware(RolloutMiddleware, unit=sources)
    assert serve(app).ask("/unit", **headers).json == unit


class Backend(AuthenticationBackend):
    async def authenticate(self, connection):
        name = connection.headers.get("Authorization")
        return None if name is None else (AuthCredentials(["authenticated"]), SimpleUser(name))


@pytest.mark.parametrize("order", ["auth outside", "auth inside"])
def test_the_user_is_a_unit_in_either_order_of_the_middlewares(serve, order):
    app = FastAPI()
    app.get("/unit")(lambda: request_unit())
    middlewares = [(AuthenticationMiddleware, {"backend": Backend()}), (RolloutMiddleware, {"unit": user("display_name")})]
    for middleware, options in middlewares if order == "auth inside" else reversed(middlewares):
        app.add_middleware(middleware, **options)
    server = serve(app)
    assert (server.ask("/unit", Authorization="ann").json, server.ask("/unit").json) == ("ann", None)


def test_a_request_without_unit_gets_the_control_and_is_not_analysed(serve, runtime, seen):
    answer = serve(app_of(ranked(runtime, strategy=ABTest(1.0)))).ask("/rank")
    assert runtime.flush()
    assert (answer.told, seen.routed[0].decision.reason, seen.routed[0].excluded) == ({"shop.rank": "control"}, "no_unit", True)


def test_requests_that_are_served_at_once_do_not_meet(serve, runtime):
    async def slow(q: str = ""):
        await asyncio.sleep(0.02)
        return {"unit": request_unit()}

    model = ranked(runtime, control=slow, candidate=slow)
    server, wrong = serve(app_of(model)), []

    def ask(unit):
        for _ in range(5):
            answer = server.ask("/rank", X_User=unit)
            expected = (unit, {"shop.rank": model.rollout.assign(unit).variant})
            if (answer.json["unit"], answer.told) != expected:
                wrong.append((answer.json, answer.told, expected))

    threads = [threading.Thread(target=ask, args=(f"u-{number}",)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_dependencies_and_copied_contexts_see_the_request(serve, runtime):
    model = ranked(runtime)

    def dependency():
        return model("in a dependency")

    app = FastAPI()

    @app.get("/rank")
    async def served(found=Depends(dependency)):
        in_thread = await asyncio.to_thread(request_unit)
        return {"found": found, "thread": in_thread, "copied": contextvars.copy_context().run(request_unit)}

    async def through(request, call_next):
        return await call_next(request)

    app.add_middleware(BaseHTTPMiddleware, dispatch=through)
    app.add_middleware(RolloutMiddleware, unit=header("X-User"))
    answer = serve(app).ask("/rank", X_User="u-1")
    assert answer.told == {"shop.rank": model.rollout.assign("u-1").variant}
    assert (answer.json["thread"], answer.json["copied"]) == ("u-1", "u-1")


def test_several_rollouts_of_a_request_are_told_and_names_are_escaped(serve, runtime):
    one, two = ranked(runtime, key="shop/rank é"), ranked(runtime, key="b")
    app = app_of(lambda: [one(), two(), one()])
    answer = serve(app).ask("/rank", X_User="u-1")
    variant = one.rollout.assign("u-1").variant
    assert answer.told == {"shop/rank%20%C3%A9": variant, "b": two.rollout.assign("u-1").variant}


def test_a_stream_has_the_decision_that_was_made_before_it_began(serve, runtime):
    model = ranked(runtime)

    def streamed():
        said = model()["model"]
        return StreamingResponse(iter([said, said]))

    answer = serve(app_of(streamed)).ask("/rank", X_User="u-1")
    assert answer.text == {"control": "oldold", "candidate": "newnew"}[answer.told["shop.rank"]]


def test_without_a_header_nothing_is_told(serve, runtime):
    assert "x-rollout" not in serve(app_of(ranked(runtime), response_header=None)).ask("/rank", X_User="u-1").headers


def test_a_websocket_has_a_unit(runtime):
    from fastapi.testclient import TestClient

    model = ranked(runtime)
    app = FastAPI()

    @app.websocket("/ws")
    async def chat(websocket: WebSocket):
        said = model()["model"]
        await websocket.accept()
        await websocket.send_text(said)
        await websocket.close()

    app.add_middleware(RolloutMiddleware, unit=header("X-User"))
    variant = model.rollout.assign("u-1").variant
    with TestClient(app).websocket_connect("/ws", headers={"X-User": "u-1"}) as socket:
        assert socket.receive_text() == {"control": "old", "candidate": "new"}[variant]
        told = {name.decode(): value.decode() for name, value in socket.extra_headers}
        assert told["x-rollout"].startswith(f"shop.rank={variant}; id=")


# Forced variants -------------------------------------------------------------------------------------------------------


def in_an_hour():
    return time.time() + 3600


@pytest.mark.parametrize("variant", ["control", "candidate"])
def test_a_signed_header_forces_a_variant_that_is_not_analysed(serve, runtime, seen, variant):
    server = serve(app_of(ranked(runtime), force_key=KEY))
    for number in range(5):
        value = force_value(KEY, {"other": "x", "shop.rank": variant}, expires_s=in_an_hour())
        answer = server.ask("/rank", X_User=f"u-{number}", X_Rollout_Force=value)
        assert answer.told == {"shop.rank": variant}
    assert runtime.flush()
    assert {(event.decision.reason, event.excluded) for event in seen.routed} == {("override", True)}


def forged(value):
    return {
        "another variant": value.replace("candidate", "control00"),
        "another signature": value[:-1] + ("0" if value[-1] != "0" else "1"),
        "a later end": re.sub(r"expires=(\d)", r"expires=9\1", value),
        "no signature": value.partition(";signature=")[0],
        "nothing": "",
        "noise": "\xff" * 3000,
        "its parts alone": ";expires=;signature=",
    }


@pytest.mark.parametrize("how", list(forged("x" * 10)))
def test_a_forged_header_forces_nothing(serve, runtime, seen, how):
    server = serve(app_of(ranked(runtime, strategy=Canary(["5%"])), force_key=KEY))
    value = forged(force_value(KEY, {"shop.rank": "candidate"}, expires_s=in_an_hour()))[how]
    server.ask("/rank", X_User="u-1", X_Rollout_Force=value)
    assert runtime.flush()
    assert seen.routed[0].decision.reason == "split"


@pytest.mark.parametrize("why", ["expired", "another key", "no key"])
def test_a_header_that_is_over_or_of_another_key_forces_nothing(serve, runtime, seen, why):
    server = serve(app_of(ranked(runtime), **({} if why == "no key" else {"force_key": KEY})))
    expires_s = time.time() - 1 if why == "expired" else in_an_hour()
    value = force_value("f" * 16 if why == "another key" else KEY, {"shop.rank": "candidate"}, expires_s=expires_s)
    server.ask("/rank", X_User="u-1", X_Rollout_Force=value)
    assert runtime.flush()
    assert seen.routed[0].decision.reason == "split"


def test_a_forced_variant_that_does_not_exist_is_a_fault_and_the_service_answers(serve, runtime):
    model = ranked(runtime)
    value = force_value(KEY, {"shop.rank": "v9"}, expires_s=in_an_hour())
    answer = serve(app_of(model, force_key=KEY)).ask("/rank", X_User="u-1", X_Rollout_Force=value)
    assert answer.status == 200
    assert [what for what, _ in model.rollout.status().faults] == ["override"]


# Answers ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [301, 400, 404, 422, 499])
def test_a_candidates_http_exception_below_500_is_its_answer(serve, runtime, seen, status):
    def missing(q: str = ""):
        raise HTTPException(status, "no such film")

    model = ranked(runtime, candidate=missing, strategy=ABTest(1.0))
    server = serve(app_of(model))
    answers = [server.ask("/rank", X_User=f"u-{number}").status for number in range(30)]
    assert answers == [status] * 30
    assert runtime.flush()
    assert {(event.answered, event.served) for event in seen.routed} == {(True, "candidate")}
    assert model.rollout.status().open_breakers == ()


@pytest.mark.parametrize("error", [HTTPException(500), HTTPException(503), ValueError("x")], ids=str)
def test_a_candidates_500_is_a_failure_and_the_control_answers(serve, runtime, seen, error):
    def failing(q: str = ""):
        raise error

    answer = serve(app_of(ranked(runtime, candidate=failing, strategy=ABTest(1.0)))).ask("/rank", X_User="u-1")
    assert (answer.status, answer.json, answer.told) == (200, {"model": "old"}, {"shop.rank": "candidate"})
    assert runtime.flush()
    assert seen.routed[0].served == "control"


def test_an_http_answer_is_known_by_its_status():
    assert isinstance(HTTPException(404), HttpAnswer)
    assert not any(isinstance(each, HttpAnswer) for each in (HTTPException(500), ValueError(), None))


def test_options_can_be_pickled_and_replaced():
    options = endpoint("shop.rank")
    again = pickle.loads(pickle.dumps(options))
    assert again["plugins"] == [request_decisions]
    assert {**endpoint("shop.rank"), "unit": "user_id"}["unit"] == "user_id"


def test_outside_of_a_request_there_is_no_unit_and_nothing_breaks(runtime):
    model = ranked(runtime, strategy=ABTest(1.0))
    assert model() == {"model": "old"}
    assert (request_unit(), runtime.faults) == (None, {})


# Router ----------------------------------------------------------------------------------------------------------------


@pytest.fixture
def operated(serve, runtime):
    model = ranked(runtime, strategy=Canary(["5%", "50%"]))
    app = app_of(model)
    app.include_router(rollout_router(runtime, token=TOKEN), prefix="/rollouts")
    return serve(app), model


def post(server, path, *, token=TOKEN, **body):
    return server.ask(f"/rollouts/{path}", "POST", {"actor": "ann", "reason": "r", **body}, Authorization=f"Bearer {token}")


def test_statuses_are_json(operated):
    server, _ = operated
    server.ask("/rank", X_User="u-1")
    status = server.ask("/rollouts/shop.rank").json
    assert (status["status"], status["shares"]) == ("running", {"control": 0.95, "candidate": 0.05})
    assert status["text"].startswith("shop.rank: canary, running")
    assert [each["key"] for each in server.ask("/rollouts/").json] == ["shop.rank"]
    assert server.ask("/rollouts/nothing").status == 404


def test_health_says_what_fails(operated, runtime):
    server, _ = operated
    assert server.ask("/rollouts/health").json == {"status": "ok", "rollouts": 1, "lost": 0, "faults": {}}
    runtime.failed("journal", OSError("disk full"))
    found = server.ask("/rollouts/health")
    assert (found.status, found.json["status"], found.json["faults"]) == (200, "degraded", {"journal OSError": 1})


def test_promote_and_abort_change_the_rollout_and_say_who_did_it(operated):
    server, model = operated
    promoted = post(server, "shop.rank/promote", revision=0)
    assert (promoted.status, promoted.json["shares"]["candidate"], model.rollout.phase.shares) == (200, 0.5, {"candidate": 0.5})
    aborted = post(server, "shop.rank/abort")
    assert (aborted.status, aborted.json["status"], model.rollout.status().status) == (200, "aborted", "aborted")


@pytest.mark.parametrize("token", ["", "wrong", TOKEN[:-1], TOKEN + "t", "é"])
def test_a_wrong_token_changes_nothing(operated, token):
    server, model = operated
    authorization = f"Bearer {token}".encode().decode("latin-1")
    for action in ("promote", "abort"):
        answer = server.ask(
            f"/rollouts/shop.rank/{action}", "POST", {"actor": "ann", "reason": "r"}, Authorization=authorization
        )
        assert answer.status == 401
    assert model.rollout.status().revision == 0


def test_refused_changes_say_why(operated):
    server, _ = operated
    assert post(server, "shop.rank/promote", revision=7).status == 409
    assert post(server, "nothing/promote").status == 404
    assert post(server, "shop.rank/promote", reason="").status == 422
    assert post(server, "shop.rank/resume").status in (404, 405)
    post(server, "shop.rank/abort")
    again = post(server, "shop.rank/promote")
    assert (again.status, "aborted" in again.json["detail"]) == (409, True)


def test_without_a_token_nothing_can_be_changed(serve, runtime):
    app = app_of(ranked(runtime, strategy=Canary(["5%"])))
    app.include_router(rollout_router(runtime), prefix="/rollouts")
    assert post(serve(app), "shop.rank/abort").status == 405


def test_reading_can_be_protected_as_any_route(serve, runtime):
    def refuse():
        raise HTTPException(403)

    app = FastAPI()
    app.include_router(rollout_router(runtime), prefix="/rollouts", dependencies=[Depends(refuse)])
    assert serve(app).ask("/rollouts/health").status == 403


@pytest.mark.parametrize(
    "make",
    [
        lambda: rollout_router(token="short"),
        lambda: RolloutMiddleware(None, force_key="short"),
        lambda: RolloutMiddleware(None, unit=["X-User"]),
        lambda: force_value("short", {}, expires_s=0),
    ],
)
def test_what_cannot_be_used_is_refused(make):
    with pytest.raises(ConfigurationError):
        make()


# Lifespan --------------------------------------------------------------------------------------------------------------


def test_at_the_end_everything_is_in_the_journal_and_the_applications_own_lifespan_runs(tmp_path, seen):
    from rollout_sdk.journal import read_journal

    runtime, did = Runtime(journal=tmp_path), []

    @asynccontextmanager
    async def own(app):
        did.append("began")
        yield {"state": 1}
        did.append("ended")

    app = FastAPI(lifespan=flushing(runtime, own))
    app.get("/rank")(ranked(runtime))
    app.add_middleware(RolloutMiddleware, unit=header("X-User"))
    served = Served(app)
    for number in range(30):
        served.ask("/rank", X_User=f"u-{number}")
    served.stop()
    assert sum(line["event"] == "decision" for line in read_journal(tmp_path)) == 30
    assert did == ["began", "ended"]
    runtime.close()
