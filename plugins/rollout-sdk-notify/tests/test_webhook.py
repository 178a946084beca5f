"""Webhooks: signed as the specification says, retried, bounded, sent once for many processes, and waited for by nothing."""

import json
import os
import shutil
import ssl
import subprocess
import sys
import textwrap
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from rollout_sdk import Canary, ConfigurationError, Guardrail, Runtime, StoreError, TransitionedEvent, rollout
from rollout_sdk.control.stores import SQLiteStore
from rollout_sdk.testing import ObserverContract
from rollout_sdk_notify import Webhook

SECRET = "whsec_" + "c2VjcmV0IHNlY3JldCBzZWNyZXQgc2VjcmV0IQ=="


class Receiver:
    """A server that keeps what it gets; it answers with `answers` first, and then with 200."""

    def __init__(self):
        self.got, self.answers, self.delay_s = [], [], 0.0
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                receiver.got.append((time.monotonic(), headers, body))
                time.sleep(receiver.delay_s)
                status, headers = receiver.answers.pop(0) if receiver.answers else (200, {})
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", "0")
                self.end_headers()

            do_GET = do_POST

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook/T0K3N"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def bodies(self):
        return [json.loads(body) for _, _, body in self.got]


@pytest.fixture
def receiver():
    receiver = Receiver()
    yield receiver
    receiver.server.shutdown()
    receiver.server.server_close()


def canary(runtime, key="shop.rank"):
    @rollout(candidate=lambda user: "new", strategy=Canary(["5%", "50%"]), unit="user", key=key, runtime=runtime)
    def rank(user):
        return "old"

    rank("u-1")
    return rank.rollout


def event(**fields):
    about = {
        "rollout": "shop.rank", "strategy": "canary", "action": "roll_back", "status": "rolled_back", "revision": 3,
        "from_phase": "0:5%", "to_phase": "0:5%", "shares": {"control": 1.0, "candidate": 0.0}, "actor": "judge",
        "reason": "error_rate is worse", "time_s": 1.8e9, "id": "t-1", **fields,
    }  # fmt: skip
    return TransitionedEvent(**about)


def webhook(receiver, **options):
    return Webhook(receiver.url, **{"timeout_s": 2.0, "pause_s": 0.02, **options})


class TestContract(ObserverContract):
    def make(self):
        return Webhook("http://127.0.0.1:9/closed", attempts=1, timeout_s=0.1)


def test_a_transition_arrives_with_what_it_did(receiver):
    hook = webhook(receiver)
    with_hook = Runtime(plugins=[hook])
    controller = canary(with_hook)
    controller.promote(actor="ann", reason="looks good")
    controller.abort(actor="ann", reason="complaints from France")
    assert with_hook.flush()
    assert hook.flush()
    data = [body["data"] for body in receiver.bodies]
    assert [(each["action"], each["status"], each["actor"], each["reason"]) for each in data] == [
        ("promote", "running", "ann", "looks good"),
        ("abort", "aborted", "ann", "complaints from France"),
    ]
    assert data[0]["shares"] == {"control": 0.5, "candidate": 0.5}
    assert hook.counts == {"sent": 2, "failed": 0, "dropped": 0, "waiting": 0}


@pytest.mark.parametrize("form", ["event", "slack"])
def test_a_guardrail_that_fails_is_told_with_what_it_has_found(receiver, form):
    hook = webhook(receiver, form=form)
    runtime = Runtime(plugins=[hook])

    def failing(user):
        raise ValueError("no such shelf")

    plan = Canary(["50%", "100%"], guardrails=[Guardrail("error_rate")])
    decorate = rollout(candidate=failing, strategy=plan, unit="user", key="shop.rank", runtime=runtime, breaker=None)
    model = decorate(lambda user: "old")
    for number in range(1_000):
        model(f"u-{number}")
    assert runtime.flush()
    model.rollout.judge()
    assert runtime.flush()
    assert hook.flush()
    assert model.rollout.status().status == "rolled_back"
    (body,) = receiver.bodies
    if form == "slack":
        first, why, check, end = body["text"].split("\n")
        assert (first, check[:28]) == ("*shop.rank* rolled back", "• FAIL guardrail error_rate:")
        assert "error_rate" in why
        assert "by judge" in end
    else:
        assert (body["data"]["action"], body["data"]["verdict"]["outcome"]) == ("roll_back", "FAIL")
        (finding,) = [each for each in body["data"]["verdict"]["findings"] if each["outcome"] == "FAIL"]
        assert (finding["name"], finding["kind"]) == ("error_rate", "guardrail")
        assert finding["low"] > 0
    runtime.close(1.0)


def test_the_signature_is_what_an_independent_implementation_verifies(receiver):
    webhooks = pytest.importorskip("standardwebhooks", reason="needs standardwebhooks, of the extra [test]")
    hook = webhook(receiver, secret=SECRET)
    hook.rollout_transitioned(event(reason="größer & besser"))
    assert hook.flush()
    _, headers, body = receiver.got[0]
    verified = webhooks.Webhook(SECRET).verify(body, headers)
    assert verified["data"]["reason"] == "größer & besser"
    with pytest.raises(webhooks.WebhookVerificationError):
        webhooks.Webhook(SECRET).verify(body.replace(b"judge", b"julia"), headers)


def test_a_slack_message_says_what_happened_and_why_and_mentions_nobody(receiver):
    finding = {"name": "error_rate", "kind": "guardrail", "outcome": "FAIL", "reason": "3 % <!channel>"}
    passed = {"name": "latency", "kind": "guardrail", "outcome": "PASS", "reason": "fine"}
    hook = webhook(receiver, form="slack")
    hook.rollout_transitioned(event(evidence={"outcome": "FAIL", "findings": [passed, finding]}, version="v7"))
    assert hook.flush()
    assert receiver.bodies == [
        {
            "text": "*shop.rank* rolled back\nerror_rate is worse\n• FAIL guardrail error_rate: 3 % &lt;!channel&gt;\n"
            "0:5% · control 100 %, candidate 0 % · by judge · version v7"
        }
    ]


def test_a_hostile_text_mentions_nobody_hides_no_link_and_pushes_nothing_out(receiver):
    hostile = "fine\n*shop.rank* promoted to all units\u202e @all <!channel> <https://evil|x> [x](https://evil) " + "x" * 5_000
    findings = [{"name": hostile, "kind": hostile, "outcome": "FAIL", "reason": hostile} for _ in range(40)]
    hook = webhook(receiver, form="slack")
    names = {"rollout": hostile, "to_phase": hostile, "version": hostile, "action": hostile, "shares": {hostile: 1.0}}
    evidence = {"outcome": "FAIL", "findings": findings}
    hook.rollout_transitioned(event(reason=hostile, actor="ann@shop", evidence=evidence, **names))
    assert hook.flush()
    (text,) = [body["text"] for body in receiver.bodies]
    assert len(text) <= 2_000
    lines = text.split("\n")
    # What happened, why, five checks and how many more, and who did it.
    assert [line[:4] for line in lines] == ["*fin", "fine", *["• FA"] * 5, "• an", "fine"]
    assert lines[7] == "• and 35 more"
    for each in ("<", ">", "@all", "](", "\u202e"):
        assert each not in text
    assert "by ann@\u200bshop" in lines[-1]
    # Each of these becomes five letters.
    hook.rollout_transitioned(event(rollout="&" * 5_000, reason="&" * 5_000, evidence=evidence))
    assert hook.flush()
    assert len(receiver.bodies[1]["text"]) <= 2_000
    assert receiver.bodies[1]["text"].endswith("\n0:5% · control 100 %, candidate 0 % · by judge")


def test_a_certificate_that_does_not_verify_is_given_up_and_logged(tmp_path, caplog):
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("needs openssl, of the system's packages")
    pem = tmp_path / "own.pem"
    command = [
        openssl,
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-subj",
        "/CN=h",
        "-addext",
        "subjectAltName=IP:127.0.0.1",
    ]
    subprocess.run([*command, "-keyout", str(pem), "-out", str(tmp_path / "cert")], check=True, capture_output=True)
    pem.write_text(pem.read_text() + (tmp_path / "cert").read_text())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    receiver = Receiver()
    receiver.server.socket = context.wrap_socket(receiver.server.socket, server_side=True)
    hook = Webhook(receiver.url.replace("http:", "https:"), attempts=2, pause_s=0.01, timeout_s=5.0)
    hook.rollout_transitioned(event())
    assert hook.flush(20.0)
    receiver.server.shutdown()
    receiver.server.server_close()
    assert (hook.counts["failed"], receiver.got) == (1, [])
    (said,) = [record.getMessage() for record in caplog.records if "rollout.notify.failed" in record.getMessage()]
    assert "SSLCertVerificationError" in said
    assert "T0K3N" not in said


@pytest.mark.parametrize(
    ("action", "status", "said"),
    [
        ("invalidate", "running", "CHECK: the comparison cannot be trusted"),
        ("promote", "promoted", "promoted to all units"),
        ("promote", "running", "promoted to its next step"),
        ("pause", "paused", "paused"),
    ],
)
def test_slack_is_told_in_words(receiver, action, status, said):
    hook = webhook(receiver, form="slack")
    hook.rollout_transitioned(event(action=action, status=status))
    assert hook.flush()
    assert receiver.bodies[0]["text"].splitlines()[0] == f"*shop.rank* {said}"


def test_numbers_that_json_does_not_know_are_null(receiver):
    hook = webhook(receiver)
    finding = {"name": "means", "outcome": "FAIL", "estimate": float("nan"), "low": float("-inf"), "high": 1.5}
    hook.rollout_transitioned(event(evidence={"outcome": "FAIL", "findings": [finding]}))
    assert hook.flush()
    (found,) = receiver.bodies[0]["data"]["verdict"]["findings"]
    assert (found["estimate"], found["low"], found["high"]) == (None, None, 1.5)


# Faults ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [408, 425, 429, 500, 503])
def test_what_may_succeed_later_is_repeated_with_the_same_id(receiver, status):
    receiver.answers = [(status, {}), (status, {})]
    hook = webhook(receiver)
    hook.rollout_transitioned(event())
    assert hook.flush()
    assert [headers["webhook-id"] for _, headers, _ in receiver.got] == ["t-1"] * 3
    assert hook.counts["sent"] == 1


@pytest.mark.parametrize("status", [301, 307, 400, 401, 404, 410])
def test_what_cannot_succeed_is_not_repeated_and_no_redirect_is_followed(receiver, status):
    receiver.answers = [(status, {"Location": receiver.url})]
    hook = webhook(receiver)
    hook.rollout_transitioned(event())
    hook.rollout_transitioned(event(id="t-2"))
    assert hook.flush()
    assert [headers["webhook-id"] for _, headers, _ in receiver.got] == ["t-1", "t-2"]
    assert (hook.counts["sent"], hook.counts["failed"]) == (1, 1)


def test_a_receiver_says_how_long_to_wait(receiver):
    receiver.answers = [(429, {"Retry-After": "0.4"})]
    hook = webhook(receiver)
    hook.rollout_transitioned(event())
    assert hook.flush()
    assert receiver.got[1][0] - receiver.got[0][0] >= 0.4


def test_a_closed_port_is_given_up_logged_without_its_address_and_stops_nothing(receiver, caplog):
    hook = Webhook("http://127.0.0.1:9/hook/T0K3N", attempts=3, pause_s=0.01, timeout_s=0.5)
    hook.rollout_transitioned(event())
    assert hook.flush()
    assert hook.counts == {"sent": 0, "failed": 1, "dropped": 0, "waiting": 0}
    (record,) = [record for record in caplog.records if record.message.startswith("rollout.notify.failed")]
    assert "ConnectionRefusedError" in record.message
    assert "T0K3N" not in caplog.text + repr(hook)
    assert "T0K3N" not in str(vars(record))


def test_a_receiver_that_hangs_delays_neither_calls_nor_another_observer(receiver):
    receiver.delay_s = 3.0

    class Other:
        name = "other"
        seen = 0

        def rollout_transitioned(self, event):
            self.seen += 1

    other, hook = Other(), webhook(receiver)
    runtime = Runtime(plugins=[hook, other])
    controller = canary(runtime)
    began = time.monotonic()
    controller.promote(actor="ann", reason="now")
    controller.abort(actor="ann", reason="now")
    assert runtime.flush()
    assert time.monotonic() - began < 2.0
    assert (other.seen, runtime.faults) == (2, {})


def test_what_there_is_no_room_for_is_dropped_counted_and_logged(receiver, caplog):
    receiver.delay_s = 0.3
    hook = webhook(receiver, most_waiting=2)
    for number in range(5):
        hook.rollout_transitioned(event(id=f"t-{number}"))
    assert hook.counts["dropped"] == 3
    assert hook.flush()
    assert len(receiver.got) == 2
    assert sum("rollout.notify.dropped" in record.message for record in caplog.records) == 3


def test_only_the_wanted_actions_are_told(receiver):
    hook = webhook(receiver, actions={"abort"})
    for number, action in enumerate(["promote", "abort", "roll_back"]):
        hook.rollout_transitioned(event(action=action, id=f"t-{number}"))
    assert hook.flush()
    assert [body["data"]["action"] for body in receiver.bodies] == ["abort"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("ftp://host/T0K3N",), "it is not shown"),
        (("T0K3N",), "it is not shown"),
        (("https://ann:T0K3N@host/hook",), "it is not shown"),
        (("https://host/T0K3N x",), "it is not shown"),
        (("https://host/T0K3N\n",), "it is not shown"),
        (("https://hôst/T0K3N",), "it is not shown"),
        (("https://host:99999/T0K3N",), "it is not shown"),
        (("https://[T0K3N",), "it is not shown"),
        (("https://host", "xml"), "form="),
        (("https://host",), "secret="),
    ],
)
def test_arguments_that_cannot_be_used_are_refused_without_showing_a_secret(arguments, said):
    options = {"form": arguments[1]} if len(arguments) > 1 else {"secret": "T0K3N"} if said == "secret=" else {}
    with pytest.raises(ConfigurationError, match=said) as caught:
        Webhook(arguments[0], **options)
    assert "T0K3N" not in str(caught.value)


@pytest.mark.parametrize("name", ["attempts", "most_waiting"])
def test_numbers_of_things_are_whole(name):
    with pytest.raises(ConfigurationError, match=f"{name}=2.5"):
        Webhook("https://host", **{name: 2.5})


@pytest.mark.parametrize("name", ["timeout_s", "attempts", "pause_s", "most_waiting"])
@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf"), True, "1"])
def test_numbers_are_positive(name, value):
    with pytest.raises(ConfigurationError, match=f"{name}="):
        Webhook("https://host", **{name: value})


# Many processes --------------------------------------------------------------------------------------------------------


def test_of_the_processes_that_share_a_store_one_sends(receiver, tmp_path):
    address = f"sqlite:///{tmp_path}/rollouts.db"
    hooks = [webhook(receiver, store=address) for _ in range(4)]
    runtimes = [Runtime(plugins=[hook], store=address) for hook in hooks]
    controllers = [canary(runtime) for runtime in runtimes]
    controllers[0].promote(actor="ann", reason="now")
    deadline = time.monotonic() + 10
    while any(each.status().revision < 1 for each in controllers) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert all(runtime.flush() for runtime in runtimes)
    assert all(hook.flush() for hook in hooks)
    assert [body["data"]["action"] for body in receiver.bodies] == ["promote"]
    assert sum(hook.counts["sent"] for hook in hooks) == 1
    for runtime in runtimes:
        runtime.close()


def test_two_addresses_of_one_process_are_both_told(receiver, tmp_path):
    store = SQLiteStore(tmp_path / "rollouts.db")
    store.swap("shop.rank", None, {"revision": 1, "epoch": 0}, {})
    hooks = [webhook(receiver, store=store), Webhook(receiver.url + "/second", store=store, timeout_s=2.0)]
    for hook in hooks:
        hook.rollout_transitioned(event())
    assert all(hook.flush() for hook in hooks)
    assert len(receiver.got) == 2


def test_where_the_store_cannot_say_the_message_is_sent(receiver):
    class Broken:
        def load(self, key):
            raise StoreError("gone")

    hook = webhook(receiver, store=Broken())
    hook.rollout_transitioned(event())
    assert hook.flush()
    assert hook.counts["sent"] == 1


def test_the_last_message_of_a_process_is_sent_and_a_hanging_receiver_does_not_hold_its_end(receiver):
    program = textwrap.dedent("""
        import sys
        from rollout_sdk import Canary, Runtime, rollout
        from rollout_sdk_notify import Webhook
        rank = rollout(candidate=lambda u: 1, strategy=Canary(["5%"]), unit="u", key="k",
                       runtime=Runtime(plugins=[Webhook(sys.argv[1])]))(lambda u: 0)
        rank("u-1")
        rank.rollout.abort(actor="ann", reason="last words")
    """)

    def run():
        began = time.monotonic()
        subprocess.run(
            [sys.executable, "-W", "error", "-c", program, receiver.url], check=True, timeout=60, env=dict(os.environ)
        )
        return time.monotonic() - began

    run()
    assert [body["data"]["reason"] for body in receiver.bodies] == ["last words"]
    receiver.delay_s = 60.0
    assert run() < 15.0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_sends_its_own_and_not_its_parents(receiver):
    receiver.delay_s = 0.3
    hook = webhook(receiver)
    hook.rollout_transitioned(event(id="of-parent"))
    child = os.fork()
    if child == 0:
        hook.rollout_transitioned(event(id="of-child"))
        os._exit(0 if hook.flush(10.0) else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert hook.flush()
    assert sorted(headers["webhook-id"] for _, headers, _ in receiver.got) == ["of-child", "of-parent"]
