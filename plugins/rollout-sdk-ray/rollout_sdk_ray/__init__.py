"""rollout_sdk on Ray Serve: deployment handles as variants, the state of rollouts on the cluster, traces across handles."""

from __future__ import annotations

from rollout_sdk_ray.store import RayStore
from rollout_sdk_ray.tracing import continues_trace
from rollout_sdk_ray.variants import variant

__all__ = ["RayStore", "continues_trace", "rollout_open_store", "variant"]


def rollout_open_store(url: str) -> RayStore:
    """The store at an address: `ray:///NAME` on the cluster of this process, `ray://auto/NAME` on the one that is found.

    Raises:
        ConfigurationError: It is not such an address.
    """
    return RayStore.at(url)
