"""The documentation site has every page of the repository, and no link that leads nowhere."""

import re
from pathlib import Path, PurePosixPath

import pytest
import yaml

from tools import site

ROOT = Path(__file__).resolve().parents[2]
PAGES = site.pages()
SETTINGS = yaml.safe_load((ROOT / "mkdocs.yml").read_text())


def entries(nav):
    for entry in nav:
        of = entry if isinstance(entry, str) else next(iter(entry.values()))
        yield from [of] if isinstance(of, str) else entries(of)


def test_every_page_is_in_the_navigation_once():
    made = [str(page) for page in PAGES.values() if page.suffix == ".md"]
    made += [f"reference/{module}.md" for module in site.reference()]
    assert sorted(entries(SETTINGS["nav"])) == sorted(made)


@pytest.mark.parametrize("source", [source for source in PAGES if source.suffix == ".md"], ids=str)
def test_every_link_of_a_page_leads_somewhere(source):
    text = site.rewritten((ROOT / source).read_text(), source)
    for path in re.findall(r"\]\(([^()#\s:]+)[)#]", site.FENCE.sub("", text)):
        assert PurePosixPath(site.os.path.normpath(PAGES[source].parent / path)) in PAGES.values()


@pytest.mark.parametrize(
    ("written", "made"),
    [
        ("[a](docs/canary.md#options)", "[a](canary.md#options)"),
        ("[two\nlines](docs/canary.md)", "[two\nlines](canary.md)"),
        ("![a picture](docs/canary.svg)", "![a picture](canary.svg)"),
        ("[plugins](plugins)", "[plugins](plugins/index.md)"),
        ("[code](rollout_sdk/decorator.py)", "code (`rollout_sdk/decorator.py`)"),
        ("[`status`](rollout_sdk/decorator.py)", "`status`"),
        ("[there](https://example.org/a.md)", "[there](https://example.org/a.md)"),
        ("[here](#try-it)", "[here](#try-it)"),
        ("```text\n[a](docs/canary.md)\n```", "```text\n[a](docs/canary.md)\n```"),
        ("<!-- a -->\n| table |", "\n<!-- a -->\n\n| table |"),
    ],
)
def test_a_link_is_what_the_site_needs(written, made):
    assert made == site.rewritten(written, PurePosixPath("README.md"))


def test_a_link_goes_up_and_down_between_folders():
    plugin = PurePosixPath("plugins/rollout-sdk-targeting/README.md")
    assert site.rewritten("[a](../../README.md)", plugin) == "[a](../index.md)"
    assert site.rewritten("[a](../plugins/README.md#b)", PurePosixPath("docs/canary.md")) == "[a](plugins/index.md#b)"


def test_a_link_that_leads_nowhere_is_an_error():
    with pytest.raises(ValueError, match=r"README\.md links 'docs/canary\.py', which does not exist"):
        site.rewritten("[a](docs/canary.py)", PurePosixPath("README.md"))


def test_the_reference_has_every_public_name():
    page = (ROOT / "docs/public.md").read_text()
    names = dict(re.findall(r"^## `([\w.]+)`\n\n.*?\n\n(.*?)\n\n", page, re.MULTILINE | re.DOTALL))
    made = site.reference()
    assert list(made) == list(names)
    for module, text in made.items():
        expected = [f"{module}.{name}" for name in re.findall(r"`(\w+)`", names[module])]
        assert expected == re.findall(r"^::: ([\w.]+)$", text, re.MULTILINE)


def test_the_site_is_written_anew(tmp_path):
    target = tmp_path / "pages"
    target.mkdir()
    (target / "old.md").write_text("left from before")
    site.write(target)
    written = {str(path.relative_to(target)) for path in target.rglob("*") if path.is_file()}
    assert written == {*map(str, PAGES.values()), *(f"reference/{module}.md" for module in site.reference())}
    # The stores' page is linked from the reference, one folder further down.
    assert "](../stores.md)" in (target / "reference/rollout_sdk.control.stores.md").read_text()


def test_the_site_fetches_nothing_and_is_strict():
    assert (SETTINGS["strict"], SETTINGS["theme"]["font"], SETTINGS["extra"]["generator"]) == (True, False, False)
    assert all("//" not in path for path in SETTINGS["extra_css"])
    # What is not said is not counted, and strict counts warnings.
    (build,) = re.findall(r"mkdocs build.*", (ROOT / "Makefile").read_text())
    assert build == "mkdocs build"
