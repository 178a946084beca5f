"""The report of a journal on Spark."""

from rollout_sdk_spark.reading import report

__all__ = ["report"]
