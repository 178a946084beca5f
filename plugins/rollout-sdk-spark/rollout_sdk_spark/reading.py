"""The report of a journal at any address that Spark reads."""

from __future__ import annotations

from typing import Any

from pyspark.sql import SparkSession

from rollout_sdk import ConfigurationError
from rollout_sdk.analysis import JournalFiles, Report, report_from
from rollout_sdk_spark.relations import InSpark

__all__ = ["report"]


def report(address: str, *, spark: SparkSession | None = None) -> Report:
    """Return the tables of a journal's report, as `rollout report --full` prints them, without verdicts.

    The SQL is the same that DuckDB runs on one machine; the statistics are computed on the driver, from sums by unit and arm.
    Lines in other forms (batches, interleaved lists, calls that fell back) are read on the driver, too.

    Args:
        address: Folder of the journal: a path, or an address such as "s3a://bucket/journal".
        spark: A session; the current one by default, or a new one.

    Raises:
        ConfigurationError: There is no such folder or no journal in it, or only `rollout report` can read it, because calls
            are there twice.
    """
    session = SparkSession.builder.getOrCreate() if spark is None else spark
    root, sizes = _listed(session, address)

    def read(path: str) -> str:
        return str(session.read.text(f"{root}/{path}", wholetext=True).head()[0])

    files = JournalFiles.of(address, sizes, read)
    relations = InSpark(session, files, root=root)
    try:
        return report_from(relations, files)
    finally:
        relations.close()


def _listed(spark: SparkSession, address: str) -> tuple[str, dict[str, int]]:
    """Return the address in Hadoop's form, and the sizes in bytes of all files below it, by relative path."""
    context: Any = spark.sparkContext
    path = context._jvm.org.apache.hadoop.fs.Path(address)  # noqa: SLF001  # the only way to the file systems that Spark has
    try:
        system = path.getFileSystem(context._jsc.hadoopConfiguration())  # noqa: SLF001
        status = system.getFileStatus(path)
        root = status.getPath().toString().rstrip("/")
        found, sizes = system.listFiles(path, True), {}
        while found.hasNext():
            each = found.next()
            sizes[each.getPath().toString().removeprefix(f"{root}/")] = int(each.getLen())
    # Py4J raises Java's exceptions: no such folder, a scheme without its library, wrong credentials.
    except Exception as error:
        cause = str(getattr(error, "java_exception", error))
        raise ConfigurationError(
            f"There is no journal that Spark can read at {address!r}: {cause:.200}. An address is a folder, or has a scheme "
            "whose library Spark has. Check that it exists; for s3a://, start Spark with the package hadoop-aws."
        ) from None
    return root, sizes
