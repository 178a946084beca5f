"""The store holds what every store promises: on a server, through pgbouncer in transaction mode, and without any encoding."""

import itertools
import pickle

import psycopg
import pytest

from rollout_sdk.testing import StoreContract
from rollout_sdk_postgres import PostgresStore

pytestmark = pytest.mark.servers
_numbers = itertools.count()


class OnPostgres(StoreContract):
    """A schema for each store, so that a test begins with nothing."""

    def make(self):
        return PostgresStore(self.address, timeout_s=10.0, schema=f"contract_{next(_numbers)}")

    def reopen(self, store):
        return pickle.loads(pickle.dumps(store))


class TestOneServer(OnPostgres):
    @pytest.fixture(autouse=True)
    def server(self, port):
        self.address = f"postgresql://postgres:secret@127.0.0.1:{port}/rollouts"


class TestPooler(OnPostgres):
    @pytest.fixture(autouse=True)
    def server(self, port, pooler):
        self.address = f"postgres://postgres:secret@127.0.0.1:{pooler}/rollouts?listen=127.0.0.1:{port}"


class TestWithoutEncoding(OnPostgres):
    @pytest.fixture(autouse=True)
    def server(self, port):
        with psycopg.connect(f"postgresql://postgres:secret@127.0.0.1:{port}/postgres", autocommit=True) as connection:
            if connection.execute("SELECT 1 FROM pg_database WHERE datname = 'odd'").fetchone() is None:
                connection.execute("CREATE DATABASE odd ENCODING 'SQL_ASCII' TEMPLATE template0")
        self.address = f"postgresql://postgres:secret@127.0.0.1:{port}/odd"
