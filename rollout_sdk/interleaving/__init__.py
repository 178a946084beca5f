"""Interleaving designs and their credit: pure functions of rankings and clicks."""

from rollout_sdk.interleaving.slots import Interleaved, Slot
from rollout_sdk.interleaving.team_draft import TeamDraft

__all__ = ["Interleaved", "Slot", "TeamDraft"]
