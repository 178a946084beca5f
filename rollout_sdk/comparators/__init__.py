"""How a shadow's answer is compared with the control's: pass one of these, or a function of both, as `compare=`."""

from rollout_sdk.comparators.answers import Cosine, Equal, Ignore, Label, Text
from rollout_sdk.comparators.base import Comparator, Compare, as_comparator
from rollout_sdk.comparators.close import Close, DefaultComparator, compare
from rollout_sdk.comparators.disagreements import Disagreements
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
