"""Every plugin is a distribution of its own, and a wheel that lacks something is noticed."""

import io
import sys
import tarfile
import tomllib
import zipfile

import pytest

from tools import distributions

PLUGINS = distributions.projects()[1:]


@pytest.mark.parametrize("folder", PLUGINS, ids=lambda path: path.name)
def test_a_plugin_has_what_a_distribution_needs(folder):
    project = tomllib.loads((folder / "pyproject.toml").read_text())
    package = folder.name.replace("-", "_")
    assert project["project"]["name"] == folder.name
    assert project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"] == [package]
    assert any(each.startswith("rollout-sdk") for each in project["project"]["dependencies"])
    assert (folder / package / "py.typed").exists()
    assert list((folder / "tests").glob("test_*.py"))
    # "py" is Python that is not run: it needs an engine.
    assert "```py" in (folder / "README.md").read_text()
    values = project["project"].get("entry-points", {}).get("rollout_sdk", {}).values()
    assert all(value.partition(":")[0].partition(".")[0] == package for value in values)


def test_there_is_a_line_about_every_plugin_in_the_guide_and_on_the_site():
    guide, site = ((distributions.ROOT / name).read_text() for name in ("plugins/README.md", "mkdocs.yml"))
    missing = [folder.name for folder in PLUGINS if f"({folder.name})" not in guide or f"plugins/{folder.name}.md" not in site]
    assert missing == []


@pytest.mark.parametrize(
    ("without", "said"),
    [
        ("", []),
        ("acme/py.typed", ["no acme/py.typed"]),
        ("acme/__init__.py", ["no acme/__init__.py"]),
        ("README", ["no README as its description"]),
        ("sdist", ["no README.md"]),
        ("clean", ["has tests"]),
    ],
)
def test_what_is_wrong_with_a_distribution_is_said(tmp_path, without, said):
    wheel, sdist = tmp_path / "acme-1-py3-none-any.whl", tmp_path / "acme-1.tar.gz"
    files = {"acme/__init__.py": "", "acme/py.typed": "", "acme-1.dist-info/METADATA": "Name: acme\n\n# acme\n"}
    files |= {"tests/test_acme.py": ""} if without == "clean" else {}
    if without == "README":
        files["acme-1.dist-info/METADATA"] = "Name: acme\n"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, text in files.items():
            if name != without:
                archive.writestr(name, text)
    with tarfile.open(sdist, "w:gz") as archive:
        information = tarfile.TarInfo("acme-1/OTHER.md" if without == "sdist" else "acme-1/README.md")
        archive.addfile(information, io.BytesIO())
    found = distributions.complaints(wheel, sdist, "acme")
    assert [each in line for each, line in zip(said, found, strict=True)] == [True] * len(said)


@pytest.mark.parametrize("folder", PLUGINS, ids=lambda path: path.name)
def test_the_extra_that_a_readme_names_is_one_of_the_plugin(folder):
    extras = tomllib.loads((folder / "pyproject.toml").read_text())["project"].get("optional-dependencies", {})
    assert distributions.extra((folder / "README.md").read_text()) in ["", *(f"[{name}]" for name in extras)]


def test_the_extra_is_the_one_that_the_reader_is_to_install():
    assert distributions.extra("```console\npip install . ./plugins/rollout-sdk-acme[binary]\n```") == "[binary]"
    assert distributions.extra("```console\npip install . ./plugins/rollout-sdk-acme\n```") == ""


@pytest.mark.parametrize(("shown", "ran"), [("answer", True), ("nothing", False)])
def test_the_blocks_of_a_readme_run_as_one_program_in_the_environment(tmp_path, shown, ran):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/python").symlink_to(sys.executable)
    readme = f"```python\nanswer = 42\n```\n\n```sh\nfalse\n```\n\n```python\nassert {shown} == 42\n```\n"
    assert distributions.try_out(readme, tmp_path) is ran
