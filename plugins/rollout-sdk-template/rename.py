"""Make this copy yours: `python rename.py acme` renames the distribution, the package and its names from template to acme.

Run it once, in a copy of the folder. It changes every text file in it, writes a README of the copy's own, and removes itself.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
# The template's own page is about copying it.
README = """# rollout-sdk-{name}

A strategy, a store and an observer for rollout_sdk.

```sh
pip install rollout-sdk-{name}
```

{example}
"""


def rename(folder: Path, name: str) -> None:
    """Rename everything in a folder.

    Raises:
        ValueError: The name is not lower-case letters, digits and hyphens, or the folder is not a copy.
    """
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name):
        raise ValueError(f"{name!r} is not a name of lower-case letters, digits and hyphens, such as acme or acme-rank.")
    package = f"rollout_sdk_{name.replace('-', '_')}"
    if folder.name == "rollout-sdk-template" and folder.parent.name == "plugins":
        raise ValueError(f"{folder} is the template itself. Copy it first: cp -r {folder.name} ../../rollout-sdk-{name}")
    for path in sorted(folder.rglob("*")):
        if path.suffix in (".py", ".toml", ".md") and path.name != "rename.py":
            text = path.read_text(encoding="utf-8").replace("rollout_sdk_template", package)
            text = text.replace("rollout-sdk-template", f"rollout-sdk-{name}").replace("test_template", f"test_{package}")
            text = text.replace(", to copy and change", "")
            path.write_text(re.sub(r"\btemplate\b(?!s)", name, text), encoding="utf-8")
    page = folder / "README.md"
    (example,) = re.findall(r"^```python\n.*?^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    page.write_text(README.format(name=name, example=example), encoding="utf-8")
    (folder / "rollout_sdk_template").rename(folder / package)
    (folder / "tests/test_template.py").rename(folder / f"tests/test_{package}.py")
    (folder / "rename.py").unlink()


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("Usage: python rename.py NAME")
    try:
        rename(HERE, sys.argv[1])
    except ValueError as error:
        sys.exit(str(error))
