"""Bad input: what is in front of a server, or in it, is not what a process expects. Controls serve, and the cause is told."""

import subprocess

import psycopg
import pytest
import structlog
from redis import Redis

from rollout_sdk import Canary, Runtime, StoreError, rollout
from rollout_sdk.extending import store_at

from .servers import RedisServer, until

pytestmark = pytest.mark.servers
KEY = "shop.rank"
USERS = [f"u-{number}" for number in range(400)]


class Serving:
    """A process with a canary, and what it has logged."""

    def __init__(self, address):
        self.runtime = Runtime(store=address)
        made = rollout(candidate=lambda u: "new", strategy=Canary(["5%", "50%"]), unit="u", key=KEY, runtime=self.runtime)
        self.model = made(lambda u: "old")
        self.controller = self.model.rollout

    def arms(self):
        return [self.model(user) for user in USERS]

    def faults(self):
        return self.runtime.faults.get(("store", "StoreError"), 0)


@pytest.fixture
def serving():
    """Starts a process; what it logs about its store is in the list beside it."""
    made = []
    with structlog.testing.capture_logs() as logs:

        def start(address):
            made.append(Serving(address))
            return made[-1]

        yield start, logs
        for each in made:
            each.runtime.close(1.0)


def check_controls_serve(held, logs, says):
    """All users have the control, and the cause is told once."""
    until(lambda: held.faults() >= 5, "the fault, again and again")
    assert set(held.arms()) == {"old"}
    assert held.controller.phase.name == "0:5%"
    held.runtime.flush()
    said = [entry for entry in logs if entry["event"] == "rollout.store.failed"]
    assert len(said) == 1, said
    assert says in str(said[0])
    # Neither the password that is right nor the one that is wrong.
    assert "secret" not in str(logs)
    assert "hunter2" not in str(logs)


def promoted(held):
    """Who gets which arm at 50%."""
    held.controller.promote(actor="ann", reason="a quiet day")
    # A process whose start was not answered in time serves the control until it has looked.
    until(lambda: set(held.arms()) == {"old", "new"}, "the promotion")
    return held.arms()


def stored(server):
    """Documents and history as they are in a server, whoever may read them."""
    if server.kind == "redis":
        with Redis(server.host, server.port) as client:
            return client.hgetall(f"{{rollout}}:state:{KEY}"), client.lrange(f"{{rollout}}:history:{KEY}", 0, -1)
    with psycopg.connect(server.address().partition("?")[0]) as connection:
        ask = connection.execute
        return [ask(f"SELECT * FROM rollout_sdk.{table}").fetchall() for table in ("documents", "history")]


def with_password(server):
    """Its address with a password that is wrong."""
    if server.kind == "postgres":
        return server.address("timeout_s=2").replace("postgres:secret@", "postgres:hunter2@")
    with Redis(server.host, server.port) as client:
        client.config_set("requirepass", "secret")
    return server.address("timeout_s=2").replace("redis://", "redis://default:hunter2@")


def test_a_wrong_password_serves_controls_and_is_told_once(server, serving):
    start, logs = serving
    says = {"postgres": "password authentication failed", "redis": "AuthenticationError"}[server.kind]
    check_controls_serve(start(with_password(server)), logs, says)


def test_a_password_that_is_changed_changes_nobodys_arm(server, serving):
    start, _ = serving
    held = start(server.address("timeout_s=2"))
    arms = promoted(held)
    with_password(server)
    if server.kind == "postgres":
        with psycopg.connect(server.address().partition("?")[0], autocommit=True) as connection:
            connection.execute("ALTER ROLE postgres PASSWORD 'other'")
            connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
    else:
        with Redis(server.host, server.port, password="secret") as client:
            client.client_kill_filter(_type="normal", skipme=True)
            client.client_kill_filter(_type="pubsub", skipme=True)
    until(lambda: held.faults() >= 3, "the fault")
    assert held.arms() == arms
    held.controller.abort(actor="bob", reason="complaints")
    assert set(held.arms()) == {"old"}


@pytest.fixture
def certificates(tmp_path):
    """The folder of a certificate for 127.0.0.1, signed by itself, and of a stranger's."""
    own = ["-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=rollout", "-addext", "subjectAltName=IP:127.0.0.1"]
    for name in ("server", "stranger"):
        command = ["openssl", "req", *own, "-keyout", f"{tmp_path}/{name}.key", "-out", f"{tmp_path}/{name}.pem"]
        subprocess.run(command, check=True, capture_output=True)
    return tmp_path


def test_a_certificate_that_does_not_verify_serves_controls_and_is_told_once(server, serving, certificates):
    start, logs = serving
    pem, key = f"{certificates}/server.pem", f"{certificates}/server.key"
    if isinstance(server, RedisServer):
        with Redis(server.host, server.port) as client:
            client.config_set("tls-cert-file", pem)
            client.config_set("tls-key-file", key)
            client.config_set("tls-ca-cert-file", pem)
            client.config_set("tls-auth-clients", "no")
            client.config_set("port", 0)
            client.config_set("tls-port", server.port)
        address = f"rediss://{server.host}:{server.port}?timeout_s=2&ssl_ca_certs={certificates}/stranger.pem"
    else:
        for name in (pem, key):
            subprocess.run(["cp", name, server.data], check=True)
            subprocess.run(["chown", "postgres", f"{server.data}/{name.rpartition('/')[2]}"], check=True)
        with psycopg.connect(server.address().partition("?")[0], autocommit=True) as connection:
            for setting in ("ssl_cert_file = 'server.pem'", "ssl_key_file = 'server.key'", "ssl = on"):
                connection.execute(f"ALTER SYSTEM SET {setting}")
            connection.execute("SELECT pg_reload_conf()")
        address = server.address("timeout_s=2", "sslmode=verify-full", f"sslrootcert={certificates}/stranger.pem")
    check_controls_serve(
        start(address), logs, "ertificate verify failed" if server.kind == "postgres" else "CERTIFICATE_VERIFY_FAILED"
    )


def test_a_document_that_becomes_that_of_a_later_version_changes_nothing(server, serving):
    start, _ = serving
    held = start(server.address("timeout_s=5"))
    arms = promoted(held)
    store = store_at(server.address("timeout_s=5"))
    known = store.load(KEY)
    later = {**known.document, "schema": 99, "revision": known.revision + 1, "status": "completed"}
    assert store.swap(KEY, known.revision, later, {"action": "promote"})
    until(lambda: sum(held.runtime.faults.values()) >= 3, "the fault")
    assert held.arms() == arms
    assert held.controller.status().status == "running"
    # What it is told here holds here, and what the later version has written stays.
    held.controller.abort(actor="bob", reason="complaints")
    assert set(held.arms()) == {"old"}
    assert dict(store.load(KEY).document) == later
    store.close()


def with_schema(server, change):
    """Change the version that what is in a server has, as another version of the plugin would have left it; return it."""
    if server.kind == "redis":
        with Redis(server.host, server.port, decode_responses=True) as client:
            version = client.get("{rollout}:layout")
            if change == "later":
                client.set("{rollout}:layout", int(version or 1) + 1)
            elif change == "older":
                # The first processes that used Redis left none.
                client.delete("{rollout}:layout")
            return version
    with psycopg.connect(server.address().partition("?")[0], autocommit=True) as connection:
        (version,) = connection.execute("SELECT max(version) FROM rollout_sdk.migrations").fetchone()
        if change == "later":
            connection.execute("INSERT INTO rollout_sdk.migrations (version) VALUES (%s)", (version + 1,))
        elif change == "older":
            connection.execute("DROP TABLE rollout_sdk.claims; DELETE FROM rollout_sdk.migrations WHERE version = 2")
        return str(version)


def test_a_schema_of_a_later_version_serves_controls_and_is_told_once(server, serving):
    start, logs = serving
    first = start(server.address("timeout_s=5"))
    promoted(first)
    first.runtime.close(5.0)
    with_schema(server, "later")
    logs.clear()
    late = start(server.address("timeout_s=5"))
    check_controls_serve(late, logs, "this process knows")
    with pytest.raises(StoreError, match="this process knows"):
        late.controller.promote(actor="ann", reason="a quiet day")
    assert set(late.arms()) == {"old"}


def test_a_schema_that_becomes_that_of_a_later_version_changes_nobodys_arm_and_is_not_written_to(server, serving):
    start, logs = serving
    held = start(server.address("timeout_s=5"))
    arms = promoted(held)
    before = stored(server)
    with_schema(server, "later")
    until(lambda: held.faults() >= 3, "the fault")
    with pytest.raises(StoreError, match="this process knows"):
        held.controller.promote_full(actor="ann", reason="a quiet day")
    assert (held.arms(), held.controller.phase.name) == (arms, "1:50%")
    held.runtime.flush()
    assert len([entry for entry in logs if "this process knows" in str(entry)]) == 1
    held.controller.abort(actor="bob", reason="complaints")
    assert set(held.arms()) == {"old"}
    until(lambda faults=held.faults(): held.faults() >= faults + 3, "the fault, again")
    assert stored(server) == before
    assert set(held.arms()) == {"old"}


def test_an_old_schema_and_an_old_document_go_on_where_they_were(server, serving):
    start, _ = serving
    first = start(server.address("timeout_s=5"))
    arms = promoted(first)
    first.runtime.close(5.0)
    version = with_schema(server, "older")
    store = store_at(server.address("timeout_s=5"))
    known = store.load(KEY)
    # What the first version of the SDK did not write yet.
    missing = {"fingerprint", "change_id", "code", "since", "resumed_s", "replaced", "invalid", "valid_from", "paused_by"}
    early = {name: value for name, value in known.document.items() if name not in missing} | {"revision": known.revision + 1}
    assert store.swap(KEY, known.revision, early, {"action": "promote"})
    with_schema(server, "older")
    late = start(server.address("timeout_s=5"))
    until(lambda: set(late.arms()) == {"old", "new"}, "that it goes on")
    assert late.arms() == arms
    late.controller.promote_full(actor="ann", reason="a quiet day")
    assert set(late.arms()) == {"new"}
    until(lambda: with_schema(server, "same") == version, "that the schema is brought up to date")
    assert store.claim(KEY, store.load(KEY).document["epoch"], "w", ["a"]) == {"a"}
    store.close()
