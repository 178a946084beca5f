"""What these tests share: a server of each kind, and processes that serve one canary."""

import pytest

from .servers import SERVERS


@pytest.fixture(params=SERVERS)
def server(request, tmp_path):
    """A server that a test may break."""
    made = SERVERS[request.param](tmp_path)
    yield made
    made.close()
