"""What is installed: versions, and plugins by their metadata and files. Nothing of theirs is imported."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from importlib.machinery import all_suffixes
from importlib.metadata import EntryPoint, PackageNotFoundError, distributions, version
from importlib.util import find_spec
from pathlib import Path

from attrs import frozen

from rollout_sdk._version import __version__
from rollout_sdk.plugins.discovery import blocked_names
from rollout_sdk.plugins.hookspecs import PROJECT

__all__ = ["Plugin", "plugins", "versions"]

_DISTRIBUTIONS = ("pluggy", "attrs", "structlog", "opentelemetry-api", "opentelemetry-sdk")


@frozen
class Plugin:
    """An entry point of the group `rollout_sdk`.

    Attributes:
        name: Its name, as in `strategy="name"`.
        value: The module, and the object in it, that it names.
        distribution: Name of the distribution that installed it; None where its metadata does not say.
        version: Version of that distribution.
        file: The file that Python would run; None if there is none, or it is unknown without importing.
        found: Whether there is such a module; None if that is unknown without importing.
        blocked: Whether ROLLOUT_DISABLED_PLUGINS names it.
    """

    name: str
    value: str
    distribution: str | None
    version: str | None
    file: str | None
    found: bool | None
    blocked: bool


def versions() -> dict[str, str | None]:
    """Versions of this package, of Python, and of what the package needs or uses; None for what is not installed."""
    found: dict[str, str | None] = {"rollout_sdk": __version__, "python": platform.python_version()}
    for name in _DISTRIBUTIONS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


def plugins(environment: Mapping[str, str]) -> tuple[tuple[Plugin, ...], tuple[str, ...]]:
    """The installed plugins, in order of name; and the folders of metadata that cannot be read."""
    blocked = blocked_names(environment)
    found: dict[EntryPoint, Plugin] = {}
    unreadable = []
    seen = set()
    for distribution in distributions():
        try:
            entries = distribution.entry_points.select(group=PROJECT)
            # Only now: to read what a distribution says of itself takes a millisecond.
            name, its_version = (distribution.metadata["Name"], distribution.metadata["Version"]) if entries else (None, None)
            # Of two of one name, Python takes the one that comes first on its path.
            if name in seen:
                continue
            # One that is found twice, by an editable install for example, is one.
            for entry in entries:
                seen.add(name)
                found.setdefault(entry, _plugin(entry, name, its_version, blocked))
        # Damaged metadata.
        except Exception:
            unreadable.append(str(getattr(distribution, "_path", "a distribution")))
    return tuple(sorted(found.values(), key=lambda plugin: (plugin.name, plugin.value))), tuple(sorted(unreadable))


def _plugin(entry: EntryPoint, distribution: str | None, its_version: str | None, blocked: frozenset[str]) -> Plugin:
    module = entry.value.partition(":")[0].partition("[")[0].strip()
    found, file = _module_file(module)
    return Plugin(entry.name, entry.value, distribution, its_version, file, found, entry.name in blocked)


def _module_file(module: str) -> tuple[bool | None, str | None]:
    """Return whether there is a module, and its file, as far as that is known.

    `find_spec` imports the parents of what it looks for: it is asked for the outermost package only, which has none, and
    the rest is looked up in folders.
    """
    outermost, *inner = module.split(".")
    if not module or not all(part.isidentifier() for part in (outermost, *inner)):
        return False, None
    try:
        spec = find_spec(outermost)
    # A third-party finder, or a loaded module without a specification.
    except Exception:
        return None, None
    if spec is None:
        return False, None
    if not inner:
        return True, spec.origin if spec.has_location else None
    folders = [Path(folder) for folder in spec.submodule_search_locations or ()]
    return _inner_file(folders, inner)


def _inner_file(folders: Sequence[Path], names: Sequence[str]) -> tuple[bool | None, str | None]:
    # An archive on the path is not a folder.
    if any(not folder.is_dir() for folder in folders):
        return None, None
    name, *inner = names
    for folder in folders:
        file = _first_file(folder / name / "__init__", folder / name)
        if file is None:
            continue
        if not inner:
            return True, str(file)
        return _inner_file([file.parent], inner) if file.stem == "__init__" else (False, None)
    namespaces = [folder / name for folder in folders if (folder / name).is_dir()]
    if not namespaces:
        return False, None
    return _inner_file(namespaces, inner) if inner else (True, None)


def _first_file(*stems: Path) -> Path | None:
    candidates = (Path(f"{stem}{suffix}") for stem in stems for suffix in all_suffixes())
    return next((file for file in candidates if file.is_file()), None)
