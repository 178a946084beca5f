"""The command rollout-spark."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence

from pyspark.sql import SparkSession

from rollout_sdk import RolloutError
from rollout_sdk.analysis import as_text
from rollout_sdk_spark.reading import report

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables of a journal. Exit code 1: there is no journal, or Spark cannot read it. 2: wrong usage."""
    parser = argparse.ArgumentParser(prog="rollout-spark", description="Reports of journals on Spark.")
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("report", help="Print the tables of every rollout, phase and arm.")
    command.add_argument("address", help="folder of the journal, or its address: s3a://bucket/journal")
    command.add_argument("--master", help="Spark's master (default: spark-submit's, or all processors of this machine)")
    command.add_argument(
        "--conf", action="append", default=[], metavar="KEY=VALUE", help="a setting of Spark; may be given again"
    )
    command.add_argument("--json", action="store_true", help="print JSON, as `rollout report --json`")
    options = parser.parse_args(arguments)
    settings = [each.partition("=") for each in options.conf]
    if any(not value for _, _, value in settings):
        parser.error("--conf takes KEY=VALUE")
    builder = SparkSession.builder.appName("rollout-spark")
    if options.master:
        builder = builder.master(options.master)
    for key, _, value in settings:
        builder = builder.config(key, value)
    try:
        found = report(options.address, spark=builder.getOrCreate())
    except RolloutError as error:
        sys.exit(f"Error: {error}")
    print(json.dumps(found.as_dict(), indent=2) if options.json else as_text(found))  # noqa: T201
