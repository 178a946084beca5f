"""Two versions of a model, and a router with a canary between them: three deployments of Ray Serve.

The models read handwritten digits (scikit-learn's 1,797 pictures): a logistic regression serves today, a support vector machine
may replace it. The router runs in two replicas, and each decides for itself; their shared state is in an actor of the cluster.
"""

from __future__ import annotations

import os
from typing import Any

from ray import serve
from ray.serve.handle import DeploymentHandle

from rollout_sdk import Canary, Runtime, rollout
from rollout_sdk_ray import RayStore, variant

STORE = "shop"
KEY = "shop.digits"


@serve.deployment(ray_actor_options={"num_cpus": 0.1})
class Digits:
    """A classifier of handwritten digits."""

    def __init__(self, kind: str) -> None:
        """Train the model, which takes a second."""
        from sklearn.datasets import load_digits
        from sklearn.linear_model import LogisticRegression
        from sklearn.svm import SVC

        self.pictures, self.labels = load_digits(return_X_y=True)
        self.model: Any = {"logistic": LogisticRegression(max_iter=2_000), "svm": SVC()}[kind]
        self.model.fit(self.pictures[:900], self.labels[:900])

    def read(self, visitor: str, picture: int) -> int:
        """Return the digit in the picture with this number."""
        del visitor
        return int(self.model.predict(self.pictures[picture : picture + 1])[0])


@serve.deployment(num_replicas=2, ray_actor_options={"num_cpus": 0.1})
class Router:
    """Sends each visitor to one of the two models."""

    def __init__(self, legacy: DeploymentHandle[Any], candidate: DeploymentHandle[Any]) -> None:
        """Decorate the legacy model's handle, with the candidate's as its candidate."""
        self.runtime = Runtime(store=RayStore(STORE))
        decorate = rollout(
            candidate=variant(candidate.read),
            strategy=Canary(["10%", "50%", "100%"]),
            unit="visitor",
            key=KEY,
            version="svm-1",
            effects="read",
            runtime=self.runtime,
        )
        self.read = decorate(variant(legacy.read))

    async def __call__(self, visitor: str, picture: int) -> int:
        """Return the digit, from either model."""
        answer: int = await self.read(visitor=visitor, picture=picture)
        return answer

    async def state(self, visitors: list[str]) -> tuple[int, str, int]:
        """Return the process id, the phase (or the status, once stopped), and how many of the visitors get the candidate."""
        controller = self.read.rollout
        status = controller.status().status
        where = controller.phase.name if status == "running" else status
        return os.getpid(), where, sum(controller.assign(visitor).variant == "candidate" for visitor in visitors)

    def __del__(self) -> None:
        """Write what is still queued: Ray Serve ends a replica without Python's exit functions."""
        self.runtime.close()


def app() -> serve.Application:
    """Return the application, for `serve.run(app())` or `serve run shop:app`."""
    return Router.bind(Digits.options(name="Legacy").bind("logistic"), Digits.options(name="Candidate").bind("svm"))
