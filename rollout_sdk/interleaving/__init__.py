"""Interleaving designs and their credit: pure functions of rankings and clicks.

| design | rankers | use |
|---|---|---|
| `TeamDraft` | 2 or more | the default: agreed items are neutral, no position bias |
| `Balanced` | 2 | lists close to both rankings; can favour the worse ranker |
| `Probabilistic` | 2 or more | exact marginal credit; any item can appear at any position |
| `Optimized` | 2, up to 10 positions | the most informative fair lists, by linear programming (SciPy) |
| `PairwisePreference` | 4 or more | preferences between items |
"""

from rollout_sdk.interleaving.analyzer import InterleavingAnalyzer
from rollout_sdk.interleaving.balanced import Balanced
from rollout_sdk.interleaving.clicks import CascadeClicks, ClickModel, PositionClicks
from rollout_sdk.interleaving.counterfactual import CounterfactualClicks, counterfactual_clicks
from rollout_sdk.interleaving.optimized import Optimized
from rollout_sdk.interleaving.pairwise import PairwisePreference
from rollout_sdk.interleaving.preferences import Preference, TrustCheck, impressions_needed
from rollout_sdk.interleaving.probabilistic import Probabilistic
from rollout_sdk.interleaving.simulation import Query, Sensitivity, Simulated, simulate_ab, simulate_interleaving
from rollout_sdk.interleaving.slots import Interleaved, Slot
from rollout_sdk.interleaving.team_draft import TeamDraft

__all__ = [
    "Balanced",
    "CascadeClicks",
    "ClickModel",
    "CounterfactualClicks",
    "Interleaved",
    "InterleavingAnalyzer",
    "Optimized",
    "PairwisePreference",
    "PositionClicks",
    "Preference",
    "Probabilistic",
    "Query",
    "Sensitivity",
    "Simulated",
    "Slot",
    "TeamDraft",
    "TrustCheck",
    "counterfactual_clicks",
    "impressions_needed",
    "simulate_ab",
    "simulate_interleaving",
]
