"""Every code block of the README and of the guides runs."""

import re
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner

from rollout_sdk.cli import main

ROOT = Path(__file__).parent.parent
DOCUMENTS = sorted([ROOT / "README.md", *ROOT.glob("plugins/**/README.md"), *ROOT.glob("docs/*.md")])
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(document, language):
    text = document.read_text()
    return [(text[: match.start()].count("\n") + 1, match[2]) for match in BLOCK.finditer(text) if match[1] == language]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_python_of_a_document_runs_from_top_to_bottom(document, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    namespace = {"__name__": f"document_{document.parent.name}"}
    for line, code in blocks(document, "python"):
        exec(compile("\n" * line + code, str(document), "exec"), namespace)


def commands():
    return [(document, line) for document in DOCUMENTS for _, text in blocks(document, "console") for line in text.splitlines()]


@pytest.mark.parametrize(("document", "command"), commands(), ids=lambda value: value if isinstance(value, str) else value.name)
def test_the_commands_of_a_document_exist(document, command, tmp_path):
    program, *words = command.replace("'", "").split()
    if program == "make":
        targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert set(words) <= set(targets)
    elif program == "rollout":
        result = CliRunner().invoke(main, [str(tmp_path) if word == "DIR" else word for word in words], catch_exceptions=False)
        assert result.exit_code == 0
    elif program == "pip":
        extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
        known = {"rollout-sdk", *(f"rollout-sdk[{extra}]" for extra in extras)}
        known |= {tomllib.loads(path.read_text())["project"]["name"] for path in ROOT.glob("plugins/*/pyproject.toml")}
        assert words[0] == "install"
        assert set(words[1:]) <= known
    else:
        pytest.fail(f"{document.name} has a command that no test knows: {command}")
