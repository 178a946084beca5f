"""Prints docs/telemetry.md, or with `--weaver FOLDER` writes the registry for OpenTelemetry Weaver."""

import sys
from pathlib import Path

from tools.telemetry_contract import as_markdown, as_registry

if sys.argv[1:2] == ["--weaver"]:
    (folder,) = map(Path, sys.argv[2:])
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in as_registry().items():
        (folder / name).write_text(text, encoding="utf-8")
else:
    print(as_markdown(), end="")
