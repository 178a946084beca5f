"""The template of a plugin is what its page and the guide to stores say, and a renamed copy passes its own tests."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TEMPLATE = ROOT / "plugins/rollout-sdk-template"


@pytest.fixture
def copy(tmp_path):
    folder = tmp_path / "rollout-sdk-acme-rank"
    shutil.copytree(TEMPLATE, folder, ignore=shutil.ignore_patterns("__pycache__"))
    renamed = subprocess.run(
        [sys.executable, "rename.py", "acme-rank"], cwd=folder, capture_output=True, text=True, check=False, timeout=60
    )
    assert (renamed.returncode, renamed.stderr) == (0, "")
    return folder


def test_the_store_is_the_example_of_the_guide():
    (example,) = (
        code
        for code in re.findall(r"^```python\n(.*?)^```$", (ROOT / "docs/stores.md").read_text(), re.MULTILINE | re.DOTALL)
        if "class JSONFileStore" in code
    )
    assert (TEMPLATE / "rollout_sdk_template/store.py").read_text().endswith(example)


def test_nothing_of_the_template_is_left_in_a_renamed_copy(copy):
    files = [path for path in copy.rglob("*") if path.is_file()]
    assert {path.relative_to(copy).parts[0] for path in files} == {
        "README.md", "pyproject.toml", "rollout_sdk_acme_rank", "tests",
    }  # fmt: skip
    left = [
        path.name for path in files if path.suffix != ".md" and re.search(r"\btemplate\b|_template|to copy", path.read_text())
    ]
    assert left == []


def test_the_page_of_a_renamed_copy_is_its_own(copy):
    """It says nothing about copying, and has no link to a page that is not beside it."""
    page = (copy / "README.md").read_text()
    assert page.startswith("# rollout-sdk-acme-rank\n")
    assert "from rollout_sdk_acme_rank import" in page
    assert [] == re.findall(r"\.\./|[Cc]opy|[Tt]emplate", page)


def test_a_rollout_that_has_the_strategy_by_its_name_is_listed_with_it(copy):
    """Its attribute `name` is that of the entry point."""
    found = re.search(r'^    name = "(.*)"$', (copy / "rollout_sdk_acme_rank/strategy.py").read_text(), re.MULTILINE)
    points = (copy / "pyproject.toml").read_text().partition("[project.entry-points.rollout_sdk]\n")[2]
    assert points.startswith(f'{found[1]} = "rollout_sdk_acme_rank"')


def test_a_renamed_copy_passes_its_own_tests(copy):
    path = os.pathsep.join(filter(None, (str(copy), str(ROOT), os.environ.get("PYTHONPATH"))))
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--rootdir={copy}", str(copy)]
    ran = subprocess.run(
        command, cwd=copy, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False, timeout=120
    )
    passed = re.search(r"(\d+) passed", ran.stdout)
    assert (ran.returncode, bool(passed)) == (0, True), ran.stdout
    # As many as the page says.
    assert f"{passed[1]} tests pass" in (TEMPLATE / "README.md").read_text()


@pytest.mark.parametrize("name", ["Acme", "acme_rank", "-acme", "", "acme rank"])
def test_a_name_that_no_distribution_can_have_is_refused(tmp_path, name):
    folder = tmp_path / "copy"
    shutil.copytree(TEMPLATE, folder)
    renamed = subprocess.run(
        [sys.executable, "rename.py", name], cwd=folder, capture_output=True, text=True, check=False, timeout=60
    )
    assert (renamed.returncode, "is not a name" in renamed.stderr) == (1, True)
    assert (folder / "rollout_sdk_template").is_dir()


def test_the_template_itself_is_not_renamed():
    renamed = subprocess.run(
        [sys.executable, "rename.py", "acme"], cwd=TEMPLATE, capture_output=True, text=True, check=False, timeout=60
    )
    assert (renamed.returncode, "Copy it first" in renamed.stderr) == (1, True)
    assert (TEMPLATE / "rollout_sdk_template").is_dir()
