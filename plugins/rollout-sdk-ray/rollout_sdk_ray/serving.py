"""What a process that has joined a cluster in place of another answers to it."""

from __future__ import annotations

import os
import socket
import threading
from time import monotonic
from typing import Any

import ray

from rollout_sdk_ray.joined import Joined, cause_of, cure_of, join

__all__ = ["Serving"]

_JOIN_EVERY_S = 5.0


class Serving:
    """Joins the cluster at the first request, and asks the actor."""

    def __init__(self, cluster: str, name: str, keep: str, patience_s: float) -> None:
        """Join nothing yet."""
        self._cluster, self._patience_s = cluster, patience_s
        self._joined = Joined(name, keep, patience_s)
        self._lock = threading.Lock()
        self._join_again_at = 0.0
        self._failed = ("", "")

    def answer(self, method: str, arguments: tuple[Any, ...]) -> tuple[str, str, Any]:
        """Return the cause and the cure of a failure, or two empty texts and the answer."""
        try:
            with self._lock:
                if not ray.is_initialized():
                    if monotonic() < self._join_again_at:
                        return (*self._failed, None)
                    self._join()
            return ("", "", getattr(self._joined, method)(*arguments))
        # Any exception: Ray raises its own, Python's if it cannot reach something, and the actor's.
        except Exception as error:
            return (cause_of(error), cure_of(error), None)

    def _join(self) -> None:
        try:
            _reach(self._cluster, self._patience_s)
            join(self._cluster)
        except Exception as error:
            self._failed = cause_of(error), cure_of(error)
            self._join_again_at = monotonic() + _JOIN_EVERY_S
            raise


def _reach(cluster: str, patience_s: float) -> None:
    """Connect to the head, because Ray tries for minutes before it says that there is none.

    Raises:
        OSError: Nothing answers there.
    """
    address = os.environ.get("RAY_ADDRESS", "") if cluster == "auto" else cluster
    host, _, port = address.rpartition(":")
    if "/" not in host and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), patience_s).close()
