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
        "spark.ui.showConsoleProgress": "false",
        # The journals of the tests are small: what takes time is to compile each statement, and to make machine code of that.
        "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC",
        "spark.sql.codegen.wholeStage": "false",
        "spark.sql.codegen.factoryMode": "NO_CODEGEN",
        "spark.sql.adaptive.enabled": "false",
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
