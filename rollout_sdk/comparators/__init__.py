"""How a shadow's answer is compared with the control's: pass one of these, or a function of both, as `compare=`."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from rollout_sdk.comparators.base import Comparator, Compare, as_comparator
from rollout_sdk.comparators.close import Close, DefaultComparator, compare
from rollout_sdk.comparators.disagreements import Disagreements

if TYPE_CHECKING:
    from rollout_sdk.comparators.answers import Cosine, Equal, Ignore, Label, Text
    from rollout_sdk.comparators.fields import Fields
    from rollout_sdk.comparators.rankings import RankBiasedOverlap, TopK

__all__ = [
    "Close",
    "Comparator",
    "Compare",
    "Cosine",
    "DefaultComparator",
    "Disagreements",
    "Equal",
    "Fields",
    "Ignore",
    "Label",
    "RankBiasedOverlap",
    "Text",
    "TopK",
    "as_comparator",
    "compare",
]

_CHOSEN = {
    **dict.fromkeys(("Cosine", "Equal", "Ignore", "Label", "Text"), "answers"),
    "Fields": "fields",
    **dict.fromkeys(("RankBiasedOverlap", "TopK"), "rankings"),
}
"""Home of the comparators that are used only where they are chosen."""

if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        """Import a comparator when it is chosen."""
        if (home := _CHOSEN.get(name)) is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        found = globals()[name] = getattr(import_module(f"{__name__}.{home}"), name)
        return found
