"""The command, for spark-submit."""

from rollout_sdk_spark.command import main

main()
