"""Statistics: pure functions, standard library only."""

from rollout_sdk.stats.clusters import MeanInterval, ratio_of_sums
from rollout_sdk.stats.sequential import confidence_sequence, log_e_one_sided, log_e_two_sided, one_sided_bound, plan_rho
from rollout_sdk.stats.student import student_t_quantile

__all__ = [
    "MeanInterval",
    "confidence_sequence",
    "log_e_one_sided",
    "log_e_two_sided",
    "one_sided_bound",
    "plan_rho",
    "ratio_of_sums",
    "student_t_quantile",
]
