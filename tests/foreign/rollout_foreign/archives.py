"""Source archives of packages, downloaded once and unpacked into a folder that is not committed."""

from __future__ import annotations

import subprocess
import sys
import tarfile
from pathlib import Path

from rollout_foreign.suites import Suite


def unpacked(suite: Suite, folder: Path) -> Path:
    """The root of a suite's source archive, which is downloaded when it is not there yet."""
    name, _, version = suite.project.partition("==")
    home = folder / f"{name}-{version}"
    if not home.exists():
        fetched = folder / f"{name}-{version}.download"
        # Only this package from its source: what builds it may come as it likes.
        download = ["download", "--quiet", "--no-deps", "--no-binary", name, "--dest", str(fetched), suite.project]
        subprocess.run([sys.executable, "-m", "pip", "--disable-pip-version-check", *download], check=True, timeout=600)
        (archive,) = fetched.glob("*.tar.gz")
        with tarfile.open(archive) as tar:
            tar.extractall(fetched, filter="data")
        (root,) = (path for path in fetched.iterdir() if path.is_dir())
        root.rename(home)
    return home
