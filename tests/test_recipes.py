"""Every recipe of docs/recipes.md is run, alone and in a process of its own, where its library is installed."""

import os
import re
import shlex
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from rollout_sdk.cli import main

PAGE = (Path(__file__).parents[1] / "docs/recipes.md").read_text()
RECIPES = re.findall(r"^### (.+?)\n\nNeeds `([\w-]+)`\.\n.*?^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize(("title", "package", "code"), RECIPES, ids=[title for title, *_ in RECIPES])
@pytest.mark.timeout(300)
def test_a_recipe_runs(title, package, code, tmp_path):
    try:
        distribution(package)
    except PackageNotFoundError:
        pytest.skip(f"{title} needs {package}, which is not installed: make test-recipes")
    (tmp_path / "recipe.py").write_text(code)
    ran = subprocess.run(
        [sys.executable, "recipe.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
        env={
            **os.environ,
            "AIRFLOW_HOME": str(tmp_path / "airflow"),
            "PREFECT_HOME": str(tmp_path),
            "DAGSTER_HOME": "",
            "DO_NOT_TRACK": "1",
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        },
    )
    assert ran.returncode == 0, ran.stderr[-4000:]


def test_every_recipe_says_what_it_needs():
    assert len(RECIPES) == PAGE.count("```python\n") > 8


def test_what_is_not_run_names_recipes_that_there_are_and_every_other_is_whole():
    rows = re.findall(r"^\| (.+?) \| .+ \|$", PAGE.partition("## What is not run here")[2], re.MULTILINE)
    named = [
        name for row in rows for name in row.split(", ") if name not in ("recipe", "the image", "the Kubernetes manifests")
    ]
    headings = re.findall(r"^### (.+)$", PAGE, re.MULTILINE)
    assert [] == sorted(set(named) - set(headings))
    # All else runs as it stands, and has nothing left out.
    whole = {
        "OpenAI-style clients",
        "LangChain",
        "litellm",
        "PyTorch modules",
        "Django: connections of shadows",
        "Batches with pandas",
    }
    assert set(headings) - set(named) == whole | {"Dagster"}


def test_the_commands_of_the_workflow_are_rollouts():
    (workflow,) = re.findall(r"^```yaml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    steps = yaml.safe_load(workflow)["jobs"]["canary"]["steps"]
    commands = [shlex.split(step["run"]) for step in steps if step.get("run", "").startswith("rollout ")]
    assert len(commands) == 2
    for _, *words in commands:
        result = CliRunner().invoke(main, words, env={"ROLLOUT_STORE": "sqlite:///nowhere.db"})
        # 4: the command is right, and there is no such store.
        assert result.exit_code == 4, result.output
