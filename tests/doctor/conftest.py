"""Journals written by hand, and the doctor who looks at them in an environment of its own."""

import json

import pytest

from rollout_sdk.doctor import examine
from tests.doctor.lines import NOW, SECRET


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "journal"
    path.mkdir(mode=0o700)
    return path


@pytest.fixture
def write(folder):
    """Writes a file of the journal, from records and raw lines."""

    def write(*lines, name="events-a.jsonl", end=b"\n"):
        raw = [line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines]
        path = folder / name
        path.write_bytes(b"\n".join(raw) + end)
        path.chmod(0o600)
        return path

    return write


@pytest.fixture
def look(folder):
    """Examines the journal, with nothing else set than what is given."""

    def look(where=folder, *, now=NOW, **environment):
        return examine(None if where is None else str(where), environment={"ROLLOUT_KEY": SECRET, **environment}, now=now)

    return look


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Installs a distribution, of metadata and files; nothing of it is imported."""

    def install(name, entries, *, files=(), version="1.2", metadata=None):
        place = tmp_path / f"site-{name}"
        info = place / f"{name}-{version}.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(metadata or f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        (info / "entry_points.txt").write_bytes(
            entries if isinstance(entries, bytes) else f"[rollout_sdk]\n{entries}\n".encode()
        )
        for file in files:
            path = place / file
            path.parent.mkdir(parents=True, exist_ok=True)
            # Whoever imports it ends this process.
            path.write_text("import os\nos._exit(9)\n")
        monkeypatch.syspath_prepend(str(place))
        return place

    return install
