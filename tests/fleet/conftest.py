"""What these tests share: a server of each kind, and processes that serve one canary."""

import pytest

from .fleet import Member
from .servers import SERVERS


@pytest.fixture(params=SERVERS)
def server(request, tmp_path):
    """A server that a test may break."""
    made = SERVERS[request.param](tmp_path)
    yield made
    made.close()


@pytest.fixture
def member(tmp_path):
    """Starts a process that serves the canary; none of them outlives the test."""
    made = []

    def make(address, **options):
        made.append(Member(address, tmp_path, f"p{len(made)}", **options))
        return made[-1]

    yield make
    for each in made:
        if each.process.poll() is None:
            each.kill()
