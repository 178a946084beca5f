"""The files around the code say what is true."""

import ast
import re
import tomllib
from graphlib import TopologicalSorter
from pathlib import Path

import pytest
import yaml

from rollout_sdk._version import __version__
from tools import layers

ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted((ROOT / "rollout_sdk").rglob("*.py"))
YAML = [*ROOT.glob(".github/**/*.yml"), ROOT / ".pre-commit-config.yaml", ROOT / "CITATION.cff"]


def test_the_citation_has_the_version():
    assert __version__ == yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"]


@pytest.mark.parametrize("path", YAML, ids=lambda path: path.name)
def test_what_is_written_in_yaml_can_be_read(path):
    assert yaml.safe_load(path.read_text())


PAGES = ["CONTRIBUTING.md", "SECURITY.md", "docs/glossary.md", "docs/architecture.md", "docs/public.md"]


@pytest.mark.parametrize("name", PAGES)
def test_the_files_that_are_named_are_there(name):
    text = (ROOT / name).read_text()
    named = re.findall(r"`((?:rollout_sdk|docs|plugins|benchmarks|tools|tests)/[\w/.-]*\w/?)`", text)
    linked = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link]
    missing = [path for path in named if not (ROOT / path).exists()]
    missing += [link for link in linked if not ((ROOT / name).parent / link).exists()]
    assert missing == []


def test_the_glossary_defines_each_word_once():
    words = re.findall(r"^\| \*\*(.+?)\*\*", (ROOT / "docs/glossary.md").read_text(), flags=re.MULTILINE)
    assert len(words) > 30
    assert sorted(words, key=str.lower) == words == list(dict.fromkeys(words))


def test_the_picture_of_the_layers_is_made_from_the_contract():
    assert f"{layers.BEGIN}\n{layers.picture()}\n{layers.END}" in (ROOT / "docs/architecture.md").read_text()


def test_every_room_is_on_a_floor():
    rooms = {path.stem for path in (ROOT / "rollout_sdk").iterdir() if path.is_dir() or path.suffix == ".py"}
    assert rooms - {"__init__", "__pycache__", "_version"} == {room for floor in layers.layers() for room in floor}


def test_make_help_has_every_target_and_how_long_it_takes():
    text = (ROOT / "Makefile").read_text()
    targets = set(re.search(r"^\.PHONY: (.*)$", text, flags=re.MULTILINE)[1].split()) - {"help"}
    lines = dict(re.findall(r'^\t@echo "make (\S+) +(.*)"$', text, flags=re.MULTILINE))
    assert targets == set(lines)
    untimed = [name for name, line in lines.items() if not re.search(r"\(.*(seconds|minute|hour).*\)$", line)]
    assert untimed == []


def test_every_change_is_of_a_type_that_the_changelog_has():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["towncrier"]
    types = "|".join(each["directory"] for each in settings["type"])
    names = [path.name for path in (ROOT / settings["directory"]).iterdir() if path.name not in settings["ignore"]]
    assert [name for name in names if not re.fullmatch(rf"(\+[a-z0-9-]+|\d+)\.({types})\.md", name)] == []
    assert settings["start_string"] in (ROOT / settings["filename"]).read_text()


def test_there_is_no_import_circle_not_even_for_types():
    paths = {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in SOURCES}
    graph = {}
    for name, path in paths.items():
        found = [each for each in ast.walk(ast.parse(path.read_text())) if isinstance(each, ast.ImportFrom) and each.module]
        named = {f"{each.module}.{alias.name}" for each in found for alias in each.names} & set(paths)
        whole = {each.module for each in found if any(f"{each.module}.{alias.name}" not in paths for alias in each.names)}
        # A face imports the modules behind it, and is imported for them.
        graph[name] = {each for each in named | whole & set(paths) if each != name}
    TopologicalSorter(graph).prepare()


def test_modules_that_are_longer_or_shorter_than_others_are_listed_with_the_reason():
    page = (ROOT / "docs/architecture.md").read_text()
    lines = {str(path.relative_to(ROOT / "rollout_sdk")): len(path.read_text().splitlines()) for path in SOURCES}
    for word, found in (
        ("longer", {name for name, number in lines.items() if number > 350}),
        # Faces only import, and the version is one line on purpose.
        (
            "shorter",
            {name for name, number in lines.items() if number < 60 and not name.endswith(("__init__.py", "_version.py"))},
        ),
    ):
        listed = re.findall(rf"^\| `([\w/]+\.py)` \| {word}: ", page, flags=re.MULTILINE)
        assert found == set(listed), word
        assert len(listed) == len(found)


def test_every_plugin_is_type_checked():
    checked = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["mypy"]["files"]
    packages = sorted(str(each.parent.relative_to(ROOT)) for each in ROOT.glob("plugins/*/rollout_sdk_*/py.typed"))
    assert packages == sorted(each for each in checked if each.startswith("plugins/"))
    assert len(packages) == len(list(ROOT.glob("plugins/*/pyproject.toml")))
