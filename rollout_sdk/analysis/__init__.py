"""Results: computed from the journal alone."""

from rollout_sdk.analysis.summary import Report, summarise
from rollout_sdk.analysis.text import as_text

__all__ = ["Report", "as_text", "summarise"]
