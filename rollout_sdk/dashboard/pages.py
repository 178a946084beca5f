"""What the dashboard asks for: pages of what there is now, made anew when something has changed."""

from __future__ import annotations

from typing import Protocol

from rollout_sdk.charts import Markup

__all__ = ["Pages"]


class Pages(Protocol):
    """Pages of rollouts. They are asked for in threads, because making one takes time; `version` is not."""

    def version(self) -> str:
        """Changes whenever a page does."""

    def overview(self) -> Markup:
        """All rollouts, the one that needs a person on top."""

    def rollout(self, key: str) -> Markup | None:
        """One rollout; None where it is not known."""
