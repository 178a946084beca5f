"""The store holds what every store promises: on one server, in a cluster, and on a master that a Sentinel names."""

import itertools
import pickle

import pytest

from rollout_sdk.testing import StoreContract
from rollout_sdk_redis import RedisStore

pytestmark = pytest.mark.servers
_numbers = itertools.count()


class OnRedis(StoreContract):
    """A namespace for each store, so that a test begins with nothing."""

    def make(self):
        return RedisStore(self.address, timeout_s=10.0, namespace=f"test-{next(_numbers)}")

    def reopen(self, store):
        return pickle.loads(pickle.dumps(store))


class TestOneServer(OnRedis):
    @pytest.fixture(autouse=True)
    def server(self, port):
        self.address = f"redis://127.0.0.1:{port}/3"


class TestCluster(OnRedis):
    @pytest.fixture(autouse=True)
    def server(self, cluster):
        self.address = f"redis+cluster://127.0.0.1:{cluster}"


class TestSentinel(OnRedis):
    @pytest.fixture(autouse=True)
    def server(self, sentinel):
        self.address = f"redis+sentinel://127.0.0.1:{sentinel}/shop/4"
