"""The actor holds what every store promises."""

import pickle

import pytest

pytest.importorskip("ray.serve", reason="needs ray[serve]")

import ray

from rollout_sdk.testing import StoreContract
from rollout_sdk_ray import RayStore

pytestmark = [pytest.mark.servers, pytest.mark.filterwarnings("ignore"), pytest.mark.timeout(300)]


class TestActor(StoreContract):
    """One actor, emptied for each test: to start another takes seconds."""

    @pytest.fixture(autouse=True)
    def actor(self, cluster):
        store = RayStore("contract", timeout_s=10.0)
        store.start(timeout_s=150.0)
        actor = ray.get_actor("contract", namespace="rollout_sdk")
        ray.get(actor.__ray_call__.remote(lambda keeper: keeper.__init__("")))

    def make(self):
        return RayStore("contract", timeout_s=10.0)

    def reopen(self, store):
        return pickle.loads(pickle.dumps(store))
