"""What is installed and set, how healthy a journal is, and what to do about it. Imports no plugin and no application."""

from rollout_sdk.doctor.diagnosis import Diagnosis, Finding
from rollout_sdk.doctor.examine import examine
from rollout_sdk.doctor.text import as_text

__all__ = ["Diagnosis", "Finding", "as_text", "examine"]
