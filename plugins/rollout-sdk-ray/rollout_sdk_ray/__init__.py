"""rollout_sdk on Ray Serve: deployment handles as variants, the state of rollouts on the cluster, traces across handles."""

from __future__ import annotations

from rollout_sdk_ray.store import RayStore
from rollout_sdk_ray.tracing import continues_trace
from rollout_sdk_ray.variants import variant

__all__ = ["RayStore", "continues_trace", "rollout_open_store", "variant"]


def rollout_open_store(url: str) -> RayStore:
    """Return the store at an address: `ray:///NAME` on this process's cluster, `ray://auto/NAME` on the cluster that Ray finds.

    Raises:
        ConfigurationError: The address is not valid.
    """
    return RayStore.at(url)
