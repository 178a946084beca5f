"""Builds wheels and source distributions of the SDK and its plugins, and installs them: `python -m tools.distributions dist`.

The SDK is installed alone, with each plugin, and then with all together, each time in a new environment: `pip check` must find
no conflict, each package must be importable, and the examples of a README must run with the packages that it tells its reader
to install.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def projects(root: Path = ROOT) -> list[Path]:
    """Return the folders of all distributions, the SDK's first."""
    return [root, *sorted(path.parent for path in root.glob("plugins/*/pyproject.toml"))]


def complaints(wheel: Path, sdist: Path, package: str) -> list[str]:
    """Return the errors in the contents of a distribution's two files."""
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
    """Build one distribution into its own folder; return its wheel and its source distribution."""
    folder = target / tomllib.loads((project / "pyproject.toml").read_text())["project"]["name"]
    # Without isolated environments: the build backend is installed here, which `build` checks.
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, project]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    return wheel, sdist


def extra(readme: str) -> str:
    """Return the extra that a plugin's README names and its examples need, such as "[binary]"; "" for none."""
    found = re.search(r"\brollout-sdk-\w+(\[\w+\])", readme)
    return found[1] if found else ""


def install(wheels: list[Path], environment: Path, extra: str = "") -> None:
    """Install wheels with their dependencies into a new environment, check them against each other, and import each.

    Args:
        wheels: The wheels.
        environment: The folder of the environment.
        extra: An extra of the last wheel, in brackets.
    """
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    python = str(environment / "bin/python")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", python]
    subprocess.run([*pip, "install", "--quiet", *wheels[:-1], f"{wheels[-1]}{extra}"], check=True)
    subprocess.run([*pip, "check"], check=True, stdout=subprocess.DEVNULL)
    for wheel in wheels:
        # The repository is not on the path, so that the installed package is imported.
        subprocess.run([python, "-c", f"import {wheel.name.partition('-')[0]}"], check=True, cwd=environment)


def try_out(readme: str, environment: Path) -> bool:
    """Run the Python examples of a README in an environment; return whether they succeeded."""
    folder = environment / "readme"
    folder.mkdir()
    (folder / "readme.py").write_text("\n".join(re.findall(r"^```python\n(.*?)^```$", readme, re.MULTILINE | re.DOTALL)))
    command = [str(environment / "bin/python"), "readme.py"]
    return subprocess.run(command, cwd=folder, check=False, stdout=subprocess.DEVNULL).returncode == 0


def main(target: Path) -> int:
    """Build and install everything; return 1 if anything is wrong."""
    shutil.rmtree(target, ignore_errors=True)
    built = {project: build(project, target) for project in projects()}
    wrong = [line for wheel, sdist in built.values() for line in complaints(wheel, sdist, wheel.name.partition("-")[0])]
    (core, _), *_ = built.values()
    environments = target / "environments"
    for project, (wheel, _) in built.items():
        readme, environment = (project / "README.md").read_text(), environments / wheel.parent.name
        install([core] if wheel == core else [core, wheel], environment, extra(readme))
        if not try_out(readme, environment):
            wrong.append(
                f"The README of {wheel.parent.name} does not run with the packages that it tells its reader to install."
            )
    install([wheel for wheel, _ in built.values()], environments / "all")
    shutil.rmtree(environments)
    for wheel, sdist in built.values():
        print(f"{wheel.name:<56} {wheel.stat().st_size:>9,} bytes   {sdist.name}")
    print("\n".join(wrong), end="\n" if wrong else "")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]).resolve()))
