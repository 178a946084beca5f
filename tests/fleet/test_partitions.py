"""Machines that cannot reach the store: network namespaces of the test's own, cut and joined again."""

import os
import shutil
import subprocess
import sys

import pytest

from .fleet import begun
from .servers import SERVERS, until

pytestmark = [pytest.mark.servers, pytest.mark.timeout(300)]
OPERATE = "import sys; from rollout_sdk.cli import main; main(sys.argv[1:])"


def ip(*words):
    return subprocess.run(["ip", *words], capture_output=True, text=True, check=True)


class Network:
    """Namespaces that are joined by a bridge in one of their own."""

    def __init__(self):
        self.name = f"rollout{os.getpid()}"
        self.hub, self.machines = f"{self.name}-hub", []
        ip("netns", "add", self.hub)
        self.machines.append(self.hub)
        ip("-n", self.hub, "link", "add", "bridge", "type", "bridge")
        ip("-n", self.hub, "link", "set", "bridge", "up")

    def machine(self):
        """A new namespace; its name and address."""
        number = len(self.machines)
        name, host = f"{self.name}-{number}", f"10.213.0.{number}"
        ip("netns", "add", name)
        self.machines.append(name)
        ip("-n", self.hub, "link", "add", f"port{number}", "type", "veth", "peer", "name", "eth0", "netns", name)
        for each in (["addr", "add", f"{host}/24", "dev", "eth0"], ["link", "set", "eth0", "up"], ["link", "set", "lo", "up"]):
            ip("-n", name, *each)
        ip("-n", self.hub, "link", "set", f"port{number}", "up")
        self.join(name)
        return name, host

    def cut(self, name):
        """What it sends goes nowhere, and it is not told."""
        ip("-n", self.hub, "link", "set", f"port{self.machines.index(name)}", "nomaster")

    def join(self, name):
        ip("-n", self.hub, "link", "set", f"port{self.machines.index(name)}", "master", "bridge")

    def close(self):
        for name in self.machines:
            subprocess.run(["ip", "netns", "delete", name], check=False)


@pytest.fixture
def network():
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("network namespaces need root, and the program ip of iproute2")
    try:
        made = Network()
    except subprocess.CalledProcessError as error:
        pytest.skip(f"this machine has no network namespaces: {error.stderr.strip()}")
    yield made
    made.close()


@pytest.fixture(params=SERVERS)
def server(request, network, tmp_path):
    name, host = network.machine()
    made = SERVERS[request.param](tmp_path, host, name)
    yield made
    made.close()


@pytest.fixture
def near_and_far(network, server, member):
    """Two machines, each with a process that serves the canary."""
    names = [network.machine()[0] for _ in range(2)]
    address = server.address("timeout_s=0.5")
    return [(name, member(address, prefix=["ip", "netns", "exec", name])) for name in names], address


def operate(name, address, *words):
    """The command, in a machine."""
    command = ["ip", "netns", "exec", name, sys.executable, "-c", OPERATE, *words]
    environment = {**os.environ, "ROLLOUT_STORE": address}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


def served_after(process):
    """Which arms a process has served from now on."""
    before = len(process.lines())
    until(lambda: len(process.lines()) > before + 3, "further calls")
    return process.last("status"), process.last("phase")


def test_an_abort_reaches_a_machine_that_was_cut_off_when_it_is_joined_again(network, near_and_far):
    ((near, at_near), (far, at_far)), address = near_and_far
    begun([at_near, at_far])
    assert operate(near, address, "promote", "shop.rank", "--force", "--reason", "a quiet day").returncode == 0
    for each in (at_near, at_far):
        until(lambda each=each: each.last("phase") == "1:4%", "the promotion")
    network.cut(far)
    assert operate(near, address, "abort", "shop.rank", "--reason", "complaints").returncode == 0
    until(lambda: at_near.last("status") == "aborted", "the abort in the machine that is joined")
    # The other serves on where it stands, and cannot be operated.
    assert served_after(at_far) == ("running", "1:4%")
    assert operate(far, address, "promote", "shop.rank", "--force", "--reason", "mine").returncode != 0
    assert served_after(at_far) == ("running", "1:4%")
    network.join(far)
    until(lambda: at_far.last("status") == "aborted", "the abort in the machine that was cut off")


def test_an_abort_in_a_machine_that_is_cut_off_reaches_the_others_when_it_is_joined_again(network, near_and_far):
    ((near, at_near), (far, at_far)), address = near_and_far
    begun([at_near, at_far])
    network.cut(far)
    at_far.tell("abort")
    assert operate(near, address, "promote", "shop.rank", "--force", "--reason", "a quiet day").returncode == 0
    until(lambda: at_near.last("phase") == "1:4%", "the promotion in the machine that is joined")
    assert at_far.last("status") == "aborted"
    network.join(far)
    until(lambda: at_near.last("status") == "aborted", "the abort in the other machine")
    assert at_far.last("status") == "aborted"
    history = operate(near, address, "history", "shop.rank")
    assert "the process" in history.stdout, history
