"""The conservation law holds in every test here."""

import pytest

from tests.faults.law import ConservationLaw


@pytest.fixture(autouse=True)
def law(monkeypatch, watch):
    """Submitted = ok + error + timeout + dropped + abandoned + cancelled; checked when the test's runtimes have closed."""
    law = ConservationLaw(monkeypatch)
    yield law
    watch.close()
    law.check()
