"""A Ray cluster of the tests' own, on the loopback interface."""

import itertools
import os
import sys
import time
import warnings
from contextlib import suppress
from pathlib import Path

import pytest

from rollout_sdk import StoreError

HERE = Path(__file__).parent
os.environ.update(
    RAY_AUTH_MODE="disabled",
    RAY_SERVE_LOG_TO_STDERR="0",
    RAY_USAGE_STATS_ENABLED="0",
    # On a busy machine, 30 s are not enough.
    RAY_raylet_start_wait_time_s="60",
    # Replicas would be 15 steps nicer than the tests, and get nothing of a busy machine.
    RAY_worker_niceness="0",
    # Read when Ray is imported. Its servers then listen on the loopback interface, as is Ray's habit on other systems.
    RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER="0",
)
_numbers = itertools.count()


def _started(**options):
    """On a busy machine, processes of the cluster do not find each other within 15 s, which Ray has as a constant."""
    import ray

    for _ in range(3):
        try:
            return ray.init(**options)
        except Exception as error:
            why = error
    raise why


@pytest.fixture(scope="session")
def cluster():
    """Its address: a cluster of this session, or the one that `RAY_ADDRESS` names and that finds the modules of these tests."""
    import ray
    from ray import serve

    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        patch.syspath_prepend(HERE)
        # The cluster's processes find the modules that this one finds.
        patch.setenv("PYTHONPATH", os.pathsep.join(each for each in sys.path if each))
        size = {} if "RAY_ADDRESS" in os.environ else {"num_cpus": 2, "object_store_memory": 100 * 2**20}
        started = _started(include_dashboard=False, log_to_driver=False, configure_logging=False, **size)
        yield started.address_info["gcs_address"]
        serve.shutdown()
        ray.shutdown()


@pytest.fixture
def name(cluster):
    """Name of a store of the test's own, which ends with it."""
    import ray

    name = f"store-{os.getpid()}-{next(_numbers)}"
    yield name
    with suppress(ValueError):
        ray.kill(ray.get_actor(name, namespace="rollout_sdk"))


@pytest.fixture(scope="session")
def shop(cluster):
    """Asks the shop: `shop("ask", "rank", user="u-1")` is what a replica of its router answers."""
    import ray_shop
    from ray import serve

    from rollout_sdk_ray import RayStore

    store = f"shop-{os.getpid()}"
    RayStore(store).start(timeout_s=150.0)
    serve.start(proxy_location="Disabled")
    handle = serve.run(ray_shop.app(store), name="shop", route_prefix=None)

    def ask(method, *args, **kwargs):
        return getattr(handle, method).remote(*args, **kwargs).result(timeout_s=60)

    # Until a replica knows where a rollout stands, it serves the control.
    knowing, deadline = {}, time.monotonic() + 150
    while sum(knowing.values()) < 2:
        assert time.monotonic() < deadline
        knowing.update([ask("knows")])
    return ask


@pytest.fixture
def eventually():
    """Waits until something is so."""

    def wait(is_so, within_s=120):
        deadline = time.monotonic() + within_s
        while True:
            # A store that is being started has not failed for good.
            with suppress(StoreError):
                if found := is_so():
                    return found
            assert time.monotonic() < deadline
            time.sleep(0.05)

    return wait
