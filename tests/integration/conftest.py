"""Starts servers, and ends them with the test."""

import pytest

from .servers import Server


@pytest.fixture
def serve(tmp_path):
    servers = []

    def start(*command, **environment):
        servers.append(Server(list(command), tmp_path, environment))
        return servers[-1]

    yield start
    for server in servers:
        server.close()
