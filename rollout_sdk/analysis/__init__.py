"""Results: computed from the journal alone."""

from rollout_sdk.analysis.elsewhere import JournalFiles, report_from
from rollout_sdk.analysis.export import read
from rollout_sdk.analysis.interleaved import Interleavings, analyze_interleaving
from rollout_sdk.analysis.relations import Relations
from rollout_sdk.analysis.report import Report
from rollout_sdk.analysis.screen import as_screen, headlines
from rollout_sdk.analysis.summary import summarise
from rollout_sdk.analysis.text import as_text
from rollout_sdk.analysis.verdict import RolloutVerdict

__all__ = [
    "Interleavings",
    "JournalFiles",
    "Relations",
    "Report",
    "RolloutVerdict",
    "analyze_interleaving",
    "as_screen",
    "as_text",
    "headlines",
    "read",
    "report_from",
    "summarise",
]
