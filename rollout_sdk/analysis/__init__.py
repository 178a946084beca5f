"""Results: computed from the journal alone."""

from rollout_sdk.analysis.interleaved import Interleavings, analyze_interleaving
from rollout_sdk.analysis.report import Report
from rollout_sdk.analysis.summary import summarise
from rollout_sdk.analysis.text import as_text

__all__ = ["Interleavings", "Report", "analyze_interleaving", "as_text", "summarise"]
