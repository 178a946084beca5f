"""Statistics: pure functions, standard library only."""

from rollout_sdk.stats.agreement import average_overlap, cohens_kappa, population_stability, rank_biased_overlap
from rollout_sdk.stats.buckets import StratifiedBuckets
from rollout_sdk.stats.cluster_bets import cluster_bets_log_e
from rollout_sdk.stats.clusters import MIN_EFFECTIVE_UNITS, MOST_OF_ONE_UNIT, MeanInterval, effective_units, ratio_of_sums
from rollout_sdk.stats.concentration import Concentration
from rollout_sdk.stats.contrast import Estimate
from rollout_sdk.stats.counts import MISMATCH, arrivals_log_e, labels_log_e, sign_log_e, srm_log_e
from rollout_sdk.stats.distributions import student_t_quantile
from rollout_sdk.stats.group_sequential import spending_boundaries
from rollout_sdk.stats.multiplicity import e_bh, mix_log_e
from rollout_sdk.stats.planning import design_effect, mde, planned_duration, planned_information, sample_size
from rollout_sdk.stats.prediction_powered import prediction_powered
from rollout_sdk.stats.rare_events import rare_event_interval, rare_event_log_e, rare_event_safe_log_e
from rollout_sdk.stats.rates import bernoulli_interval, rate_above_log_e, rate_below_log_e
from rollout_sdk.stats.sequential import confidence_sequence, log_e_one_sided, log_e_two_sided, one_sided_bound, plan_rho

__all__ = [
    "MIN_EFFECTIVE_UNITS",
    "MISMATCH",
    "MOST_OF_ONE_UNIT",
    "Concentration",
    "Estimate",
    "MeanInterval",
    "StratifiedBuckets",
    "arrivals_log_e",
    "average_overlap",
    "bernoulli_interval",
    "cluster_bets_log_e",
    "cohens_kappa",
    "confidence_sequence",
    "design_effect",
    "e_bh",
    "effective_units",
    "labels_log_e",
    "log_e_one_sided",
    "log_e_two_sided",
    "mde",
    "mix_log_e",
    "one_sided_bound",
    "plan_rho",
    "planned_duration",
    "planned_information",
    "population_stability",
    "prediction_powered",
    "rank_biased_overlap",
    "rare_event_interval",
    "rare_event_log_e",
    "rare_event_safe_log_e",
    "rate_above_log_e",
    "rate_below_log_e",
    "ratio_of_sums",
    "sample_size",
    "sign_log_e",
    "spending_boundaries",
    "srm_log_e",
    "student_t_quantile",
]
