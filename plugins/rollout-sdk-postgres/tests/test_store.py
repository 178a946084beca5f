"""What only Postgres does: its addresses, schema, users, TLS, poolers and forks."""

import os
import pickle
import subprocess
import sys
import threading
import time

import psycopg
import pytest
from click.testing import CliRunner

from rollout_sdk import Canary, ConfigurationError, Runtime, StoreError, rollout
from rollout_sdk.cli import main
from rollout_sdk_postgres import PostgresStore, rollout_open_store
from rollout_sdk_postgres.addresses import Address
from rollout_sdk_postgres.schema import MIGRATIONS, script

KEY = "shop.rank"
FIRST = {"revision": 1, "epoch": 0}


def parsed(url):
    return Address.parse(url, timeout_s=1.0, schema="rollout_sdk")


def tables_of(address, schema):
    with psycopg.connect(address.partition("?")[0]) as connection:
        rows = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = %s", (schema,)).fetchall()
    return {name for (name,) in rows}


def schema_of(address):
    return address.partition("schema=")[2].partition("&")[0]


def test_an_address_is_libpqs_with_three_options_of_ours():
    found = parsed(
        "postgresql://ann:p%40s%2Fs@a:1,b:2/shop?timeout_s=3&schema=x&sslmode=verify-full&target_session_attrs=read-write"
    )
    assert (found.timeout_s, found.schema, found.shown) == (3.0, "x", "postgresql://a:1,b:2/shop")
    assert {"host": "a,b", "port": "1,2", "dbname": "shop", "user": "ann", "password": "p@s/s"}.items() <= found.options.items()
    assert {"sslmode": "verify-full", "target_session_attrs": "read-write"}.items() <= found.options.items()
    assert (found.options["connect_timeout"], parsed("postgres://h?connect_timeout=5").options["connect_timeout"]) == (3, "5")


def test_the_connection_that_listens_can_go_to_another_address():
    found = parsed("postgresql://ann@pooler:6432/shop?listen=db:5432&sslmode=require")
    assert {"host": "db", "port": "5432", "user": "ann", "sslmode": "require"}.items() <= found.listening.items()
    assert parsed("postgresql://h?listen=off").listening is None
    assert parsed("postgresql://h").listening == parsed("postgresql://h").options


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("mysql://u:secret@h", "postgresql or postgres"),
        ("postgresql://u:secr%zzet@h", "cannot be parsed"),
        ("postgresql://u:secret@h?sslmoda=require", "options are those of libpq"),
        ("postgresql://u:secret@h?timeout_s=0", "above 0"),
        ("postgresql://u:secret@h?timeout_s=60", "at most 10,"),
        ("postgresql://u:secret@h?timeout_s=soon", "a number of seconds above 0"),
        ("postgresql://u:secret@h?schema=a;b", "small letters, digits and underscores"),
        ("postgresql://u:secret@h?listen=db", "host and port of the server behind the pooler"),
    ],
)
def test_what_is_no_address_is_refused_without_its_password(url, says):
    with pytest.raises(ConfigurationError, match=says) as refused:
        rollout_open_store(url)
    assert "secr" not in str(refused.value)


@pytest.mark.parametrize("scheme", ["postgres", "postgresql"])
def test_every_scheme_is_an_entry_point(scheme):
    runtime = Runtime(store=f"{scheme}://127.0.0.1:1/x")
    assert f"{scheme}://127.0.0.1:1/x" in str(runtime.reconciler.store._name)
    runtime.close()


def test_a_pickled_store_is_its_settings_and_shows_no_password():
    again = pickle.loads(pickle.dumps(PostgresStore("postgresql://u:secret@h/x", timeout_s=0.3, schema="shop")))
    assert (repr(again), again.timeout_s, again._address.schema) == ("PostgresStore('postgresql://h/x')", 0.3, "shop")


@pytest.mark.servers
def test_a_runtime_and_the_command_use_it_by_its_address(address, monkeypatch):
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


# The schema


@pytest.mark.servers
def test_who_only_looks_makes_no_schema(address):
    store = PostgresStore(address)
    assert (store.load(KEY), store.noted(KEY, "verdict"), store.history(KEY), store.keys()) == (None, None, [], [])
    assert dict(store.gather(KEY, 0).parts) == {}
    assert tables_of(address, schema_of(address)) == set()
    assert store.swap(KEY, None, FIRST, {})
    assert "documents" in tables_of(address, schema_of(address))
    store.close()


@pytest.mark.servers
def test_an_old_schema_is_brought_up_to_date_and_keeps_what_it_has(address):
    schema = schema_of(address)
    with psycopg.connect(address.partition("?")[0], autocommit=True) as connection:
        connection.execute(f"CREATE SCHEMA {schema}; {script(schema)}")
        connection.execute(f"DROP TABLE {schema}.claims; DELETE FROM {schema}.migrations WHERE version = 2")
        connection.execute(f"INSERT INTO {schema}.documents VALUES ('shop.rank', 7, 0, '{{\"revision\": 7, \"epoch\": 0}}')")
        connection.execute(f"INSERT INTO {schema}.fences VALUES ('shop.rank', 0, 0)")
    store = PostgresStore(address)
    assert store.load(KEY).revision == 7
    assert "claims" not in tables_of(address, schema)
    assert store.claim(KEY, 0, "w", ["a"]) == {"a"}
    assert store.load(KEY).revision == 7
    store.close()


@pytest.mark.servers
def test_a_schema_of_a_later_version_is_refused(address):
    store = PostgresStore(address)
    store.swap(KEY, None, FIRST, {})
    store.close()
    with psycopg.connect(address.partition("?")[0], autocommit=True) as connection:
        connection.execute(f"INSERT INTO {schema_of(address)}.migrations VALUES ({len(MIGRATIONS) + 1})")
    store = PostgresStore(address)
    for ask in (lambda: store.load(KEY), lambda: store.swap(KEY, 1, {"revision": 2, "epoch": 0}, {})):
        with pytest.raises(StoreError, match=f"has the version {len(MIGRATIONS) + 1}, and this process knows"):
            ask()
    store.close()


@pytest.mark.servers
def test_a_schema_that_is_removed_is_made_again(address):
    store = PostgresStore(address)
    store.swap(KEY, None, FIRST, {})
    with psycopg.connect(address.partition("?")[0], autocommit=True) as connection:
        connection.execute(f"DROP SCHEMA {schema_of(address)} CASCADE")
    with pytest.raises(StoreError, match="The schema was removed or changed"):
        store.load(KEY)
    assert store.load(KEY) is None
    assert store.swap(KEY, None, FIRST, {})
    store.close()


@pytest.mark.servers
def test_a_user_without_rights_is_told_and_the_printed_script_is_enough(address):
    schema, plain = schema_of(address), address.partition("?")[0]
    with psycopg.connect(plain, autocommit=True) as connection:
        connection.execute("DROP ROLE IF EXISTS ann")
        connection.execute("CREATE ROLE ann LOGIN PASSWORD 'pass'")
    store = PostgresStore(address.replace("postgres:secret@", "ann:pass@"))
    with pytest.raises(StoreError, match=r"InsufficientPrivilege.*python -m rollout_sdk_postgres"):
        store.swap(KEY, None, FIRST, {})
    printed = subprocess.run([sys.executable, "-m", "rollout_sdk_postgres", schema], capture_output=True, text=True, check=True)
    with psycopg.connect(plain, autocommit=True) as connection:
        connection.execute(printed.stdout)
        connection.execute(f"GRANT USAGE ON SCHEMA {schema} TO ann")
        connection.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO ann")
        connection.execute(f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA {schema} TO ann")
    assert store.wait_for_change(0.0) is False
    assert store.swap(KEY, None, FIRST, {})
    assert store.wait_for_change(5.0) is True
    assert store.publish(KEY, 0, "w", {"a": "1"})
    assert store.claim(KEY, 0, "w", ["a"]) == {"a"}
    store.note(KEY, "verdict", "PASS")
    store.close()


# The server


@pytest.mark.servers
def test_a_wrong_password_and_a_wrong_database_are_named_and_the_password_is_not(port):
    for login, database, says in (
        ("postgres:wrong", "rollouts", "password authentication"),
        ("postgres:secret", "none", "none"),
    ):
        with pytest.raises(StoreError, match=says) as refused:
            PostgresStore(f"postgresql://{login}@127.0.0.1:{port}/{database}").load(KEY)
        assert "wrong" not in str(refused.value)
        assert "secret" not in str(refused.value)


@pytest.mark.servers
def test_tls_is_verified(postgres_at, tmp_path):
    own = ["-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=rollout", "-addext", "subjectAltName=IP:127.0.0.1"]
    for name in ("server", "stranger"):
        command = ["openssl", "req", *own, "-keyout", f"{tmp_path}/{name}.key", "-out", f"{tmp_path}/{name}.pem"]
        subprocess.run(command, check=True, capture_output=True)
    files = [tmp_path / "server.pem", tmp_path / "server.key"]
    settings = ["ssl=on", "ssl_cert_file={folder}/server.pem", "ssl_key_file={folder}/server.key"]
    port = postgres_at(*settings, files=files)
    address = f"postgresql://postgres:secret@127.0.0.1:{port}/rollouts?sslmode=verify-full&sslrootcert={tmp_path}"
    store = PostgresStore(f"{address}/server.pem")
    assert store.swap(KEY, None, FIRST, {})
    assert store.wait_for_change(0.0) is False
    store.close()
    with pytest.raises(StoreError, match="certificate verify failed"):
        PostgresStore(f"{address}/stranger.pem").load(KEY)


@pytest.mark.servers
def test_through_a_pooler_it_works_without_a_session_and_looks_instead_of_listening(port, pooler):
    address = f"postgresql://postgres:secret@127.0.0.1:{pooler}/rollouts?schema=pooled"
    stores = [PostgresStore(address, timeout_s=10.0) for _ in range(6)]
    # More clients than the pooler has connections: their statements get another session each time.
    stores[0].swap(KEY, None, FIRST, {})
    threads = [
        threading.Thread(target=lambda store=store, w=w: [store.publish(KEY, 0, f"w{w}", {"n": str(n)}) for n in range(20)])
        for w, store in enumerate(stores)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert dict(stores[0].gather(KEY, 0).parts) == {(f"w{w}", "n"): "19" for w in range(6)}
    began = time.monotonic()
    assert stores[1].wait_for_change(0.3) is False
    assert time.monotonic() - began >= 0.3
    listening = PostgresStore(f"{address}&listen=127.0.0.1:{port}")
    assert listening.wait_for_change(0.0) is False
    assert stores[2].swap(KEY, 1, {"revision": 2, "epoch": 0}, {})
    assert listening.wait_for_change(5.0) is True
    for store in (*stores, listening):
        store.close()


@pytest.mark.servers
def test_a_lock_that_another_holds_is_waited_for_no_longer_than_the_time_out(address):
    store = PostgresStore(address, timeout_s=0.5)
    store.swap(KEY, None, FIRST, {})
    with psycopg.connect(address.partition("?")[0]) as connection:
        connection.execute(f"SELECT * FROM {schema_of(address)}.fences FOR UPDATE")
        began = time.monotonic()
        with pytest.raises(StoreError, match="has not answered in time"):
            store.publish(KEY, 0, "w", {"a": "1"})
        assert time.monotonic() - began < 5.0
        assert store.load(KEY).revision == 1
    assert store.publish(KEY, 0, "w", {"a": "2"})
    assert dict(store.gather(KEY, 0).parts) == {("w", "a"): "2"}
    store.close()


@pytest.mark.servers
def test_a_forked_child_has_connections_of_its_own_and_leaves_its_parents(address):
    store = PostgresStore(address)
    assert store.swap(KEY, None, FIRST, {})
    assert store.wait_for_change(0.0) is False
    for revision in range(1, 4):
        child = os.fork()
        if child == 0:
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
def test_what_was_sent_earlier_and_comes_later_changes_nothing(address, monkeypatch):
    store = PostgresStore(address)
    store.swap(KEY, None, FIRST, {})
    seen = []
    for at, text in ((1, "10"), (3, "12"), (2, "11"), (3, "12"), (5, "12"), (4, "9"), (6, "13")):
        monkeypatch.setattr("rollout_sdk_postgres.store.monotonic_ns", lambda at=at: at)
        assert store.publish(KEY, 0, "w", {"sum": text})
        seen.append(store.gather(KEY, 0).parts["w", "sum"])
    assert seen == ["10", "12", "12", "12", "12", "12", "13"]
    store.close()


@pytest.mark.servers
def test_what_something_else_has_written_is_an_error(address):
    store, schema = PostgresStore(address), schema_of(address)
    store.swap(KEY, None, FIRST, {})
    with psycopg.connect(address.partition("?")[0], autocommit=True) as connection:
        connection.execute(f"UPDATE {schema}.documents SET document = 'no JSON'")
        connection.execute(f"UPDATE {schema}.history SET record = '[1]'")
    for ask in (lambda: store.load(KEY), lambda: store.history(KEY)):
        with pytest.raises(StoreError, match="was written by another program, or is damaged"):
            ask()
    store.close()


@pytest.mark.servers
def test_claims_are_bounded(address, monkeypatch):
    monkeypatch.setattr("rollout_sdk_postgres.store._MOST_CLAIMS", 100)
    store = PostgresStore(address)
    store.swap(KEY, None, FIRST, {})
    for start in range(0, 300, 50):
        assert len(store.claim(KEY, 0, "w1", [f"{number}" for number in range(start, start + 50)])) == 50
    assert store.claim(KEY, 0, "w2", ["299", "0"]) == {"0"}
    with psycopg.connect(address.partition("?")[0]) as connection:
        assert connection.execute(f"SELECT count(*) FROM {schema_of(address)}.claims").fetchone()[0] <= 102
    store.close()
