"""One Spark for all tests, on two threads of this machine; they are skipped where it is not installed."""

import shutil
import warnings

import pytest


@pytest.fixture(scope="session")
def spark():
    sql = pytest.importorskip("pyspark.sql", reason="PySpark is not installed; make test-engines runs this")
    if shutil.which("java") is None:
        pytest.skip("needs Java 17, of the system's packages; make test-engines runs this")
    settings = {
        "spark.ui.enabled": "false",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.memory": "1g",
        "spark.sql.shuffle.partitions": "2",
        "spark.log.level": "ERROR",
    }
    builder = sql.SparkSession.builder.master("local[2]")
    for name, value in settings.items():
        builder = builder.config(name, value)
    with warnings.catch_warnings():
        # Of libraries that PySpark uses.
        warnings.simplefilter("ignore")
        session = builder.getOrCreate()
    yield session
    session.stop()
