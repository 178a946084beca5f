"""Builds wheels and source distributions of the SDK and its plugins, and installs them: `python -m tools.distributions dist`.

Each plugin is installed alone beside the SDK, and then all together, each time in a new environment: `pip check` finds no
conflict, and each is imported.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def projects(root: Path = ROOT) -> list[Path]:
    """The folders of all distributions, the SDK's first."""
    return [root, *sorted(path.parent for path in root.glob("plugins/*/pyproject.toml"))]


def complaints(wheel: Path, sdist: Path, package: str) -> list[str]:
    """What is wrong with the contents of a distribution's two files."""
    names = zipfile.ZipFile(wheel).namelist()
    wrong = [f"{wheel.name} has no {name}" for name in (f"{package}/__init__.py", f"{package}/py.typed") if name not in names]
    others = {name.partition("/")[0] for name in names} - {package}
    wrong += [f"{wheel.name} has {other}" for other in sorted(others) if not other.endswith(".dist-info")]
    (about,) = [name for name in names if name.endswith(".dist-info/METADATA")]
    if "\n\n#" not in zipfile.ZipFile(wheel).read(about).decode():
        wrong.append(f"{wheel.name} has no README as its description")
    with tarfile.open(sdist) as archive:
        if not any(name.endswith("/README.md") for name in archive.getnames()):
            wrong.append(f"{sdist.name} has no README.md")
    return wrong


def build(project: Path, target: Path) -> tuple[Path, Path]:
    """Build one distribution into a folder of its own; its wheel and its source distribution."""
    folder = target / tomllib.loads((project / "pyproject.toml").read_text())["project"]["name"]
    subprocess.run([sys.executable, "-m", "build", "--outdir", folder, project], check=True, stdout=subprocess.DEVNULL)
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    return wheel, sdist


def install(wheels: list[Path], environment: Path) -> None:
    """Install wheels with their dependencies into a new environment, check them against each other, and import each."""
    subprocess.run([sys.executable, "-m", "venv", environment], check=True)
    python = str(environment / "bin/python")
    pip = [python, "-m", "pip", "--disable-pip-version-check"]
    subprocess.run([*pip, "install", "--quiet", *wheels], check=True)
    subprocess.run([*pip, "check"], check=True, stdout=subprocess.DEVNULL)
    for wheel in wheels:
        # The folder of the repository is not on the path: what is imported is what was installed.
        subprocess.run([python, "-c", f"import {wheel.name.partition('-')[0]}"], check=True, cwd=environment)


def main(target: Path) -> int:
    """Build and install everything; 1 if anything is wrong."""
    shutil.rmtree(target, ignore_errors=True)
    built = {project: build(project, target) for project in projects()}
    wrong = [line for wheel, sdist in built.values() for line in complaints(wheel, sdist, wheel.name.partition("-")[0])]
    core, *plugins = (wheel for wheel, _ in built.values())
    environments = target / "environments"
    for plugin in plugins:
        install([core, plugin], environments / plugin.name.partition("-")[0])
    install([core, *plugins], environments / "all")
    shutil.rmtree(environments)
    for wheel, sdist in built.values():
        print(f"{wheel.name:<56} {wheel.stat().st_size:>9,} bytes   {sdist.name}")
    print("\n".join(wrong), end="\n" if wrong else "")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]).resolve()))
