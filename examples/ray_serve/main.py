"""A canary over two replicas of a router on a real Ray cluster, operated from the command line, and aborted by one command.

Run it: python examples/ray_serve/main.py. It starts a cluster on this machine, and stops it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

# Settings for a cluster on one machine, which Ray reads when it is imported: no reports over the network, servers on the
# loopback interface only, and more time on a busy machine.
os.environ.update(
    RAY_AUTH_MODE="disabled",
    RAY_USAGE_STATS_ENABLED="0",
    RAY_SERVE_LOG_TO_STDERR="0",
    RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER="0",
    RAY_raylet_start_wait_time_s="60",
)

import ray
from ray import serve
from shop import KEY, STORE, app

from rollout_sdk_ray import RayStore

VISITORS = [f"visitor-{number}" for number in range(200)]


def rollout_command(address: str, *arguments: str) -> None:
    """Run the command `rollout`, as an operator on another machine would."""
    print(f"$ rollout {' '.join(arguments)}")
    environment = {**os.environ, "ROLLOUT_STORE": f"ray://{address}/{STORE}"}
    subprocess.run([sys.executable, "-m", "rollout_sdk.cli", *arguments], env=environment, check=True, timeout=120)


def both_replicas(handle: Any, where: str) -> None:
    """Wait until both replicas are in this phase or status, and print how many visitors get the candidate."""
    found: dict[int, tuple[str, int]] = {}
    deadline = time.monotonic() + 60
    while True:
        pid, phase, count = handle.state.remote(VISITORS).result(timeout_s=60)
        found[pid] = phase, count
        # A replica serves the legacy model until it knows the rollout's state; then both give each visitor the same variant.
        is_same = len(found) == 2 and len(set(found.values())) == 1
        if is_same and phase == where and (count or where == "aborted"):
            break
        if time.monotonic() > deadline:
            raise TimeoutError(f"the replicas have not reached {where!r}: {found}")
        time.sleep(0.05)
    for number, (phase, count) in enumerate(found.values(), 1):
        print(f"replica {number}: {phase}, {count} of {len(VISITORS)} visitors get the candidate")


def traffic(handle: Any, requests: int = 200) -> None:
    """Send pictures of visitors to the router."""
    answers: list[int] = []
    # A few at a time: a replica takes five requests at the same time, and others wait.
    for first in range(0, requests, 8):
        responses = [handle.remote(VISITORS[number], 900 + number) for number in range(first, first + 8)]
        answers += [response.result(timeout_s=60) for response in responses]
    print(f"{len(answers)} pictures read")


def main() -> None:
    """Start the cluster, send traffic, and operate the rollout."""
    here = str(Path(__file__).parent)
    os.environ["PYTHONPATH"] = os.pathsep.join([here, *(each for each in sys.path if each)])
    cluster = ray.init(include_dashboard=False, log_to_driver=False)
    try:
        RayStore(STORE).start()
        serve.start(proxy_location="Disabled")
        handle = serve.run(app(), name="shop", route_prefix=None)
        address = cluster.address_info["gcs_address"]

        both_replicas(handle, "0:10%")
        traffic(handle)
        # Without --force, it would be refused: 20 visitors are too few for a verdict.
        rollout_command(address, "promote", KEY, "--force", "--actor", "ann", "--reason", "only a demonstration")
        both_replicas(handle, "1:50%")
        traffic(handle)
        rollout_command(address, "abort", KEY, "--actor", "ann", "--reason", "visitors complain")
        both_replicas(handle, "aborted")
        rollout_command(address, "history", KEY)
        serve.delete("shop")
    finally:
        ray.shutdown()


if __name__ == "__main__":
    main()
