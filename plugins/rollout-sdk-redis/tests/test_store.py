"""What only Redis does: its addresses, users, TLS, forks, and answers that are none."""

import os
import pickle
import subprocess
import time
from pathlib import Path

import pytest
from click.testing import CliRunner
from redis import Redis

from rollout_sdk import Canary, ConfigurationError, Runtime, StoreError, rollout
from rollout_sdk.cli import main
from rollout_sdk_redis import RedisStore, rollout_open_store
from rollout_sdk_redis.addresses import SCHEMES, Address

KEY = "shop.rank"
FIRST = {"revision": 1, "epoch": 0}


def address_of(url):
    return Address.parse(url, timeout_s=1.0, namespace="rollout")


@pytest.mark.parametrize(
    ("url", "hosts"),
    [
        ("redis://h", (("h", 6379),)),
        ("rediss://u:p@h:7000/3", (("h", 7000),)),
        ("redis://[::1]:7000", (("::1", 7000),)),
        ("redis+sentinel://u:p@a,b:7000/shop/3", (("a", 26379), ("b", 7000))),
        ("rediss+cluster://a:7000,b", (("a", 7000), ("b", 6379))),
    ],
)
def test_an_address_names_its_servers(url, hosts):
    assert address_of(url).hosts == hosts


def test_an_address_has_login_database_and_options():
    found = address_of("rediss://ann:p%40s%2Fs@h/3?timeout_s=0.5&namespace=shop&ssl_ca_certs=/ca.pem&socket_timeout=30")
    assert (found.timeout_s, found.namespace, found.shown) == (0.5, "shop", "rediss://h/3")
    options = {name: found.options[name] for name in ("username", "password", "db", "ssl", "ssl_ca_certs", "socket_timeout")}
    assert options == {
        "username": "ann", "password": "p@s/s", "db": 3, "ssl": True, "ssl_ca_certs": "/ca.pem", "socket_timeout": 0.25
    }  # fmt: skip
    assert found.options["retry"].get_retries() == 0


def test_sentinels_have_a_login_of_their_own():
    found = address_of("redis+sentinel://ann:secret@a/shop/3?sentinel_password=other")
    assert (found.service, found.options["password"], found.sentinel_options["password"]) == ("shop", "secret", "other")
    assert "username" not in found.sentinel_options


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("http://h", "one of redis, rediss"),
        ("redis://", "followed by '://' and a host"),
        ("redis://u:secret@h:port", "cannot be parsed"),
        ("redis://u:secret@h/name", "'name' is not a number"),
        ("redis://u:secret@a,b", "redis+cluster:// or redis+sentinel://"),
        ("redis+sentinel://u:secret@a", "names no master"),
        ("redis+cluster://u:secret@a,,b", "a host is missing"),
        ("redis://u:secret@h?timeout_s=0", "above 0"),
        ("redis://u:secret@h?timeout_s=60", "at most 10,"),
        ("redis://u:secret@h?timeout_s=soon", "a number of seconds above 0"),
        ("redis://u:secret@h?namespace={a}", "without braces"),
    ],
)
def test_what_is_no_address_is_refused_without_its_password(url, says):
    with pytest.raises(ConfigurationError, match=says.replace("+", r"\+")) as refused:
        rollout_open_store(url)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_scheme_is_an_entry_point(scheme):
    end = "/shop" if "sentinel" in scheme else ""
    runtime = Runtime(store=f"{scheme}://127.0.0.1:1{end}")
    assert f"{scheme}://127.0.0.1:1{end}" in str(runtime.reconciler.store._name)
    runtime.close()


def test_a_pickled_store_is_its_settings_and_shows_no_password():
    store = RedisStore("redis://u:secret@h/2", timeout_s=0.3, namespace="shop")
    again = pickle.loads(pickle.dumps(store))
    assert (repr(again), again.timeout_s, again._channel) == ("RedisStore('redis://h/2')", 0.3, "{shop}:changes")


@pytest.mark.servers
def test_a_runtime_and_the_command_use_it_by_its_address(port, monkeypatch):
    address = f"redis://127.0.0.1:{port}/5"
    runtime = Runtime(store=address)
    model = rollout(candidate=lambda u: "new", strategy=Canary(["5%", "50%"]), unit="u", key=KEY, runtime=runtime)(
        lambda u: "old"
    )
    monkeypatch.setenv("ROLLOUT_STORE", address)
    said = CliRunner().invoke(main, ["promote", KEY, "--force", "--actor", "ann", "--reason", "a quiet day"])
    assert said.exit_code == 0, said.output
    deadline = time.monotonic() + 10
    while model.rollout.phase.name != "1:50%" and time.monotonic() < deadline:
        time.sleep(0.01)
    assert model.rollout.phase.name == "1:50%"
    runtime.close()


@pytest.mark.servers
def test_a_user_without_the_channel_swaps_and_the_others_look(port):
    with Redis(port=port) as client:
        rule = "on >pass ~{acl}:* resetchannels +@connection +@read +@write +eval +time +subscribe"
        client.execute_command("ACL", "SETUSER", "ann", "reset", *rule.split())
        client.execute_command("ACL", "SETUSER", "bob", "reset", *rule.split(), "&{acl}:changes")
    ann, bob = (RedisStore(f"redis://{user}:pass@127.0.0.1:{port}", namespace="acl") for user in ("ann", "bob"))
    assert ann.swap(KEY, None, FIRST, {}) is True
    with pytest.raises(StoreError, match=r"NoPermissionError.*Give its user the keys, channel and commands"):
        ann.wait_for_change(0.0)
    assert bob.wait_for_change(0.0) is False
    assert bob.swap(KEY, 1, {"revision": 2, "epoch": 0}, {}) is True
    with pytest.raises(StoreError, match=r"NoPermissionError"):
        RedisStore(f"redis://bob:pass@127.0.0.1:{port}", namespace="other").load(KEY)
    for store in (ann, bob):
        store.close()


@pytest.mark.servers
def test_the_rule_of_the_readme_is_enough(port):
    readme = (Path(__file__).parents[1] / "README.md").read_text()
    (rule,) = [line for line in readme.splitlines() if line.startswith("on >password")]
    with Redis(port=port) as client:
        client.execute_command("ACL", "SETUSER", "carl", "reset", *rule.split())
    store = RedisStore(f"redis://carl:password@127.0.0.1:{port}")
    assert store.wait_for_change(0.0) is False
    assert store.swap("acl", None, FIRST, {})
    assert store.publish("acl", 0, "w", {"a": "1"})
    assert dict(store.gather("acl", 0).parts) == {("w", "a"): "1"}
    assert store.claim("acl", 0, "w", ["a"]) == {"a"}
    store.note("acl", "verdict", "PASS")
    assert (store.noted("acl", "verdict"), store.history("acl"), "acl" in set(store.keys())) == ("PASS", [{}], True)
    store.close()


@pytest.mark.servers
@pytest.mark.parametrize(
    ("user", "says"), [("ann:wrong@", "AuthenticationError.*Correct the user"), ("", "AuthenticationError|NOAUTH")]
)
def test_a_wrong_password_is_named_and_not_shown(redis_at, user, says):
    port = redis_at("--requirepass", "right", password="right")
    store = RedisStore(f"redis://{user}127.0.0.1:{port}")
    with pytest.raises(StoreError, match=says) as refused:
        store.load(KEY)
    assert "wrong" not in str(refused.value).replace("WRONGPASS", "")


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """The folder of a certificate for 127.0.0.1, signed by itself, and of a stranger's."""
    folder = tmp_path_factory.mktemp("tls")
    own = ["-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=rollout", "-addext", "subjectAltName=IP:127.0.0.1"]
    for name in ("server", "stranger"):
        command = ["openssl", "req", *own, "-keyout", f"{folder}/{name}.key", "-out", f"{folder}/{name}.pem"]
        subprocess.run(command, check=True, capture_output=True)
    return folder


@pytest.mark.servers
def test_tls_is_verified(redis_at, certificates):
    own = {"ssl": True, "ssl_ca_certs": f"{certificates}/server.pem"}
    options = ["--tls-cert-file", f"{certificates}/server.pem", "--tls-key-file", f"{certificates}/server.key"]
    port = redis_at(*options, "--tls-ca-cert-file", f"{certificates}/server.pem", "--tls-auth-clients", "no", **own)
    store = RedisStore(f"rediss://127.0.0.1:{port}?ssl_ca_certs={certificates}/server.pem")
    assert store.swap(KEY, None, FIRST, {})
    assert store.wait_for_change(0.0) is False
    store.close()
    for options in (f"?ssl_ca_certs={certificates}/stranger.pem", ""):
        with pytest.raises(StoreError, match="CERTIFICATE_VERIFY_FAILED"):
            RedisStore(f"rediss://127.0.0.1:{port}{options}").load(KEY)
    with pytest.raises(StoreError, match="ConnectionError"):
        RedisStore(f"redis://127.0.0.1:{port}").load(KEY)


@pytest.mark.servers
def test_a_forked_child_has_connections_of_its_own_and_leaves_its_parents(port):
    store = RedisStore(f"redis://127.0.0.1:{port}", namespace="fork")
    assert store.swap(KEY, None, FIRST, {})
    assert store.wait_for_change(0.0) is False
    for revision in range(1, 4):
        child = os.fork()
        if child == 0:
            # Without pytest's end; the number tells what went wrong.
            try:
                held = store.load(KEY).revision == revision
                held = held and store.swap(KEY, revision, {"revision": revision + 1, "epoch": 0}, {})
                store.close()
                os._exit(0 if held else 1)
            finally:
                os._exit(2)
        assert os.waitpid(child, 0)[1] == 0
        assert store.wait_for_change(5.0) is True
        assert store.load(KEY).revision == revision + 1
    store.close()


@pytest.mark.servers
def test_what_something_else_has_written_is_an_error(port):
    store = RedisStore(f"redis://127.0.0.1:{port}", namespace="odd")
    with Redis(port=port) as client:
        client.hset("{odd}:state:text", mapping={"revision": "1", "epoch": "0", "document": "no JSON"})
        client.set("{odd}:state:kind", "a text")
        client.rpush("{odd}:history:text", b"\xff")
        client.hset("{odd}:state:part", mapping={"revision": "1", "epoch": "0", "document": "{}", "cursor": "7"})
        client.zadd("{odd}:cursors:part", {"no JSON": 7})
    for ask in (
        lambda: store.load("text"),
        lambda: store.load("kind"),
        lambda: store.swap("kind", 1, FIRST | {"revision": 2}, {}),
        lambda: store.history("text"),
        lambda: store.gather("part", 0),
    ):
        with pytest.raises(StoreError, match="failed: "):
            ask()
    store.close()


@pytest.mark.servers
@pytest.mark.parametrize("layout", ["2", "1.5", "next"])
def test_keys_of_a_later_version_are_neither_read_nor_written(port, layout):
    store, name = RedisStore(f"redis://127.0.0.1:{port}", namespace=f"later-{layout}"), f"{{later-{layout}}}"
    assert store.swap(KEY, None, FIRST, {"by": "ann"})
    with Redis(port=port, decode_responses=True) as client:
        assert client.get(f"{name}:layout") == "1"
        client.set(f"{name}:layout", layout)
        before = sorted(client.scan_iter(f"{name}:*"))
        for ask in (
            lambda: store.load(KEY),
            lambda: store.swap(KEY, 1, FIRST | {"revision": 2}, {}),
            lambda: store.publish(KEY, 0, "w", {"a": "1"}),
            lambda: store.gather(KEY, 0),
            lambda: store.claim(KEY, 0, "w", ["a"]),
            lambda: store.note(KEY, "verdict", "PASS"),
            lambda: store.noted(KEY, "verdict"),
            lambda: store.history(KEY),
            lambda: store.keys(),
        ):
            with pytest.raises(StoreError, match=rf"have the layout '{layout}', and this process knows 1\. A later"):
                ask()
        assert sorted(client.scan_iter(f"{name}:*")) == before
        client.set(f"{name}:layout", "1")
    assert (store.load(KEY).revision, store.history(KEY)) == (1, [{"by": "ann"}])
    store.close()


@pytest.mark.servers
def test_a_server_that_is_full_refuses_and_stays_readable(redis_at):
    port = redis_at("--maxmemory", "100kb", "--maxmemory-policy", "noeviction")
    store = RedisStore(f"redis://127.0.0.1:{port}")
    assert store.load(KEY) is None
    with pytest.raises(StoreError, match="memory"):
        store.swap(KEY, None, FIRST, {})
    assert store.load(KEY) is None
    store.close()


@pytest.mark.servers
def test_a_replica_refuses_and_its_message_names_the_cure(redis_at, port):
    replica = redis_at("--replicaof", "127.0.0.1", str(port))
    with pytest.raises(StoreError, match=r"ReadOnlyError.*It is a replica. Name the master"):
        RedisStore(f"redis://127.0.0.1:{replica}").swap(KEY, None, FIRST, {})


@pytest.mark.servers
def test_claims_are_bounded_and_the_last_hundred_thousand_are_remembered(port):
    store = RedisStore(f"redis://127.0.0.1:{port}", timeout_s=10.0, namespace="claims")
    store.swap(KEY, None, FIRST, {})
    for start in range(0, 110_000, 10_000):
        names = [f"{number}" for number in range(start, start + 10_000)]
        assert len(store.claim(KEY, 0, "w1", names)) == 10_000
    with Redis(port=port) as client:
        assert client.hlen("{claims}:claims:" + KEY) == client.llen("{claims}:claimed:" + KEY) == 100_000
    assert store.claim(KEY, 0, "w2", ["109999", "10000", "9999"]) == {"9999"}
    store.close()


@pytest.mark.servers
def test_what_was_sent_earlier_and_comes_later_changes_nothing(port, monkeypatch):
    store = RedisStore(f"redis://127.0.0.1:{port}", namespace="late")
    store.swap(KEY, None, FIRST, {})
    now = time.monotonic_ns()
    seen = []
    for at, text in ((1, "10"), (3, "12"), (2, "11"), (3, "12"), (5, "12"), (4, "9"), (6, "13")):
        monkeypatch.setattr("rollout_sdk_redis.store.monotonic_ns", lambda at=at: now + at * 1000)
        assert store.publish(KEY, 0, "w", {"sum": text})
        seen.append(store.gather(KEY, 0).parts["w", "sum"])
    assert seen == ["10", "12", "12", "12", "12", "12", "13"]
    store.close()
