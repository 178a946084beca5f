"""The files around the code say what is true."""

import re
from pathlib import Path

import pytest
import yaml

from rollout_sdk._version import __version__

ROOT = Path(__file__).resolve().parents[1]
YAML = [*ROOT.glob(".github/**/*.yml"), ROOT / ".pre-commit-config.yaml", ROOT / "CITATION.cff"]


def test_the_citation_has_the_version():
    assert __version__ == yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"]


@pytest.mark.parametrize("path", YAML, ids=lambda path: path.name)
def test_what_is_written_in_yaml_can_be_read(path):
    assert yaml.safe_load(path.read_text())


@pytest.mark.parametrize("name", ["CONTRIBUTING.md", "SECURITY.md", "docs/glossary.md", "docs/architecture.md", "docs/public.md"])
def test_the_files_that_are_named_are_there(name):
    text = (ROOT / name).read_text()
    named = re.findall(r"`((?:rollout_sdk|docs|plugins|benchmarks|tools|tests)/[\w/.-]*\w/?)`", text)
    linked = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link]
    missing = [path for path in named if not (ROOT / path).exists()]
    missing += [link for link in linked if not ((ROOT / name).parent / link).exists()]
    assert missing == []


def test_the_glossary_defines_each_word_once():
    words = re.findall(r"^\| \*\*(.+?)\*\*", (ROOT / "docs/glossary.md").read_text(), flags=re.M)
    assert len(words) > 30
    assert sorted(words, key=str.lower) == words == list(dict.fromkeys(words))
