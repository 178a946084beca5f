"""Generates the pages of the documentation site from those of the repository: `python -m tools.site .site/pages`.

Pages are written for readers of the repository, and link other pages and the code by path. Here they are copied to their places
in the site: links between pages are adapted, a link to a file that is not a page becomes its name, and each public module gets
a reference page. `make docs` builds the site.
"""

from __future__ import annotations

import os.path
import re
import shutil
import sys
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).resolve().parents[1]
FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
COMMENT = re.compile(r"^(<!-- .*? -->)$", re.MULTILINE)
LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^()\s]+)\)")
MODULE = re.compile(r"^## `([\w.]+)`\n\n(.*?)\n\n(.*?)\n\n", re.MULTILINE | re.DOTALL)


def pages(root: Path = ROOT) -> dict[PurePosixPath, PurePosixPath]:
    """Return the place of each page and picture in the site, by its path in the repository."""
    found = {"README.md": "index.md", "plugins/README.md": "plugins/index.md", "contrib/README.md": "contrib.md"}
    found |= {name: name.lower() for name in ("CHANGELOG.md", "CODE_OF_CONDUCT.md", "CONTRIBUTING.md", "SECURITY.md")}
    found |= {f"docs/{path.name}": path.name for path in sorted(root.glob("docs/*")) if path.suffix in {".md", ".svg", ".css"}}
    plugins = sorted(path.parent.name for path in root.glob("plugins/*/README.md"))
    found |= {f"plugins/{name}/README.md": f"plugins/{name}.md" for name in plugins}
    return {PurePosixPath(source): PurePosixPath(target) for source, target in found.items()}


def rewritten(text: str, source: PurePosixPath, root: Path = ROOT) -> str:
    """Return a page's text with its links adapted to the site; code blocks stay unchanged.

    Comments get blank lines around them, because Python-Markdown takes adjacent text as a part of them.

    Raises:
        ValueError: The target of a link does not exist.
    """
    known = pages(root)

    def link(match: re.Match[str]) -> str:
        mark, words, target = match[1], match[2], match[3]
        path, hash_, anchor = target.partition("#")
        if not path or re.match(r"[a-z]+:", path):
            return match[0]
        meant = PurePosixPath(os.path.normpath(source.parent / path))
        page = known.get(meant) or known.get(meant / "README.md")
        if page is not None:
            return f"{mark}[{words}]({_relative(page, known[source])}{hash_}{anchor})"
        if not (root / meant).exists():
            raise ValueError(f"{source} links {target!r}, which does not exist. Links are paths from the page's own folder.")
        return words if "`" in words else f"{words} (`{meant}`)"

    def prose(part: str) -> str:
        return LINK.sub(link, COMMENT.sub(r"\n\1\n", part))

    end, parts = 0, []
    for fence in FENCE.finditer(text):
        parts += [prose(text[end : fence.start()]), fence[0]]
        end = fence.end()
    return "".join([*parts, prose(text[end:])])


def _relative(page: PurePosixPath, of: PurePosixPath) -> str:
    return PurePosixPath(os.path.relpath(page, of.parent)).as_posix()


def reference(root: Path = ROOT) -> dict[str, str]:
    """Return the reference page of each public module, by module: its names in the order of docs/public.md."""
    made = {}
    for module, about, names in MODULE.findall((root / "docs/public.md").read_text()):
        directives = [f"::: {module}.{name}\n" for name in re.findall(r"`(\w+)`", names)]
        made[module] = "\n".join([f"# {module}\n", rewritten(about, PurePosixPath("docs/public.md"), root) + "\n", *directives])
    return made


def write(target: Path, root: Path = ROOT) -> None:
    """Write all pages into a folder, which is created again."""
    shutil.rmtree(target, ignore_errors=True)
    for source, page in pages(root).items():
        (target / page).parent.mkdir(parents=True, exist_ok=True)
        if page.suffix == ".md":
            (target / page).write_text(rewritten((root / source).read_text(), source, root))
        else:
            shutil.copyfile(root / source, target / page)
    (target / "reference").mkdir()
    for module, text in reference(root).items():
        # docs/public.md links its neighbours, which are one folder up from here.
        (target / "reference" / f"{module}.md").write_text(re.sub(r"\]\((?=[\w-]+\.md)", "](../", text))


if __name__ == "__main__":
    write(Path(sys.argv[1]))
