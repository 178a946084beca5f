"""What runs on a cluster that loses its head: a router of two replicas, and a service that only has its store there.

    python ray_headless.py deploy ADDRESS STORE FOLDER
    python ray_headless.py serve ADDRESS STORE FOLDER

Each process writes a line to a file of its own every tenth of a second, and what it logs to another.
"""

import asyncio
import json
import os
import sys
import time
from pathlib import Path

import structlog
from ray import serve

from rollout_sdk import Canary, Gate, Runtime, Step, rollout
from rollout_sdk_ray import RayStore, variant

USERS = [f"u-{number}" for number in range(20)]
# It is judged, so that its calls are in the store, and moved by operators alone.
PLAN = Canary([Step("50%", min_units=10**9), Step("100%")], gates=[Gate("buy")])
TAIL = {"num_cpus": 0.1, "resources": {"tail": 0.01}}


def _of_the_store(logger, name, event):
    if event["event"] != "rollout.store.failed":
        raise structlog.DropEvent
    return event


class Watched:
    """The rollouts of a process, and the files in which it says what it does."""

    def __init__(self, store, folder, old, new):
        file = Path(folder, f"{os.getpid()}.log").open("a", buffering=1)  # noqa: SIM115 - until the process ends
        structlog.configure(
            processors=[_of_the_store, structlog.processors.JSONRenderer(default=repr)],
            logger_factory=structlog.WriteLoggerFactory(file),
        )
        self.lines = Path(folder, f"{os.getpid()}.jsonl").open("a", buffering=1)  # noqa: SIM115 - likewise
        self.runtime = Runtime(store=store, journal=f"{folder}/journal-{os.getpid()}", key=b"k" * 16)
        self.rank, self.stopped = (
            rollout(candidate=new, strategy=PLAN, unit="user", key=f"shop.{name}", version="1", runtime=self.runtime)(old)
            for name in ("rank", "stopped")
        )
        self.served = 0

    def write(self, answers, stopped):
        self.served += len(answers)
        found = {name: getattr(self, name).rollout for name in ("rank", "stopped")}
        faults = found["rank"].status().faults
        line = {
            "t": time.monotonic(),
            "answers": "".join(answer[0] for answer in answers),
            "stopped": stopped[0],
            "served": self.served,
            "where": {name: f"{each.status().status} {each.phase.name}" for name, each in found.items()},
            "faults": faults.get(("store", "StoreError"), 0),
        }
        self.lines.write(json.dumps(line) + "\n")


@serve.deployment(ray_actor_options=TAIL)
class Model:
    def __init__(self, version):
        self.version = version

    def rank(self, user):
        return self.version


@serve.deployment(num_replicas=2, ray_actor_options=TAIL)
class Router:
    def __init__(self, old, new, store, folder):
        self.watched = Watched(RayStore(store), folder, variant(old.rank), variant(new.rank))
        self.task = None

    async def begin(self):
        """Have users, who need no handle from outside."""
        if self.task is None:
            self.task = asyncio.create_task(self.drive())
        return os.getpid()

    async def drive(self):
        while True:
            answers = [await self.watched.rank(user=user) for user in USERS]
            self.watched.write(answers, await self.watched.stopped(user="u-1"))
            await asyncio.sleep(0.1)


def deploy(address, store, folder):
    import ray

    from rollout_sdk_ray.actor import StoreActor

    ray.init(address, log_to_driver=False)
    # As the store starts it, but where the test needs it.
    options = {"name": store, "namespace": "rollout_sdk", "lifetime": "detached", "num_cpus": 0, "max_restarts": -1}
    ray.remote(StoreActor).options(**options, max_concurrency=100, resources={"head": 0.01}).remote("")
    RayStore(store).start(timeout_s=100.0)
    serve.start(proxy_location="Disabled")
    models = (Model.options(name=name).bind(name) for name in ("old", "new"))
    handle = serve.run(Router.bind(*models, store, folder), name="shop", route_prefix=None)
    begun, deadline = set(), time.monotonic() + 100
    while len(begun) < 2 and time.monotonic() < deadline:
        begun.add(handle.begin.remote().result(timeout_s=60))
    print(json.dumps(sorted(begun)), flush=True)


def service(address, store, folder):
    kept = RayStore(store, cluster=address)
    # Otherwise, the first thing that is logged is that joining takes seconds.
    kept.start()
    watched = Watched(kept, folder, lambda user: "old", lambda user: "new")
    print(json.dumps(os.getpid()), flush=True)
    while not Path(folder, "end").exists():
        answers = [watched.rank(user=user) for user in USERS]
        watched.write(answers, watched.stopped(user="u-1"))
        if Path(folder, "abort").exists() and watched.rank.rollout.status().status != "aborted":
            watched.rank.rollout.abort(actor="ann", reason="complaints")
        time.sleep(0.1)
    watched.runtime.close(10.0)


if __name__ == "__main__":
    {"deploy": deploy, "serve": service}[sys.argv[1]](*sys.argv[2:])
