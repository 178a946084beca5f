"""Statistics: pure functions, standard library only."""

from rollout_sdk.stats.clusters import MeanInterval, ratio_of_sums
from rollout_sdk.stats.student import student_t_quantile

__all__ = ["MeanInterval", "ratio_of_sums", "student_t_quantile"]
