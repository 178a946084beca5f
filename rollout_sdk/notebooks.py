"""Values that show themselves in a notebook.

What draws them stands above them, and comes in by an entry point of the group `rollout_sdk.notebook`, as strategies come in by
theirs.
"""

from __future__ import annotations

__all__ = ["GROUP", "Shown"]

GROUP = "rollout_sdk.notebook"
"""The group of entry points. Each is a function that takes a value, and returns its HTML; None for a value it does not know."""


class Shown:
    """A value that a notebook shows as a page does; anywhere else, it is its text."""

    __slots__ = ()

    def _repr_html_(self) -> str | None:
        """HTML of this value; None where nothing that draws it is installed."""
        # Only a notebook asks.
        from importlib.metadata import entry_points

        for found in entry_points(group=GROUP):
            html: str | None = found.load()(self)
            if html is not None:
                return html
        return None

    def _repr_markdown_(self) -> str:
        """Its text, as it is printed."""
        # A fence is longer than any inside it: names in a journal may be anything.
        said = str(self).replace("```", "'''")
        return f"```text\n{said}\n```"
