"""Opens a store by its address."""

from __future__ import annotations

from rollout_sdk.control.stores.memory import MemoryStore
from rollout_sdk.exceptions import ConfigurationError
from rollout_sdk.plugins.discovery import load_named
from rollout_sdk.plugins.store_protocol import StateStore

__all__ = ["open_store", "store_at"]

_OURS = ("memory", "sqlite")


def store_at(address: str, *, must_exist: bool = False) -> StateStore:
    """Open the store at this address: "sqlite:///rollouts.db", or "redis://..." if a plugin named "redis" is installed.

    The scheme names the plugin, an entry point of the group "rollout_sdk"; its hook `rollout_open_store` gets the whole
    address. With `must_exist`, for operators, built-in stores create no file.

    Raises:
        ConfigurationError: It is not an address, there is no such plugin, or the plugin does not open a store there.
    """
    scheme, separator, _ = address.partition("://") if isinstance(address, str) else ("", "", "")
    if not separator or scheme in _OURS:
        return open_store(address, must_exist=must_exist)
    plugin = load_named(scheme)
    opener = getattr(plugin, "rollout_open_store", None)
    store: StateStore | None = None if opener is None else opener(address)
    if store is None:
        # Only the scheme is shown: the rest may hold a password.
        raise ConfigurationError(
            f"Plugin {scheme!r} opens no store. The scheme of a store's address names the plugin that has the hook "
            "rollout_open_store. Name another plugin, or use sqlite:///rollouts.db."
        )
    return store


_FORMS = "'memory:', 'sqlite:///relative.db', 'sqlite:////absolute/path.db', or a path that ends in .db or .sqlite"


def open_store(url: str, *, timeout_s: float = 1.0, must_exist: bool = False) -> StateStore:
    """Open a built-in store at this address.

    Args:
        url: `memory:`; `sqlite:///rollouts.db`, from the current directory; `sqlite:////var/lib/rollouts.db`, from the root; or
            a path that ends in `.db` or `.sqlite`. Paths are used literally, without decoding.
        timeout_s: How long the store may wait, in seconds.
        must_exist: For operators: create no file, and refuse `memory:`, which no other process can read.

    Raises:
        ConfigurationError: This is not the address of a built-in store.
    """
    if not isinstance(url, str):
        raise ConfigurationError(f"The address of a store is {url!r:.80}. It must be a text. Write {_FORMS}.")
    # Only the scheme is shown in errors: the rest may hold a password.
    scheme, has_scheme, rest = url.partition(":")
    if has_scheme and "/" not in scheme:
        if scheme == "memory":
            if must_exist:
                raise ConfigurationError(
                    "A store in memory belongs to one process, and no other can read it. Operate its rollouts in that process, "
                    "or give it a store of its own: sqlite:///rollouts.db."
                )
            if rest:
                raise ConfigurationError("A store in memory has no name. There is one for each address. Write 'memory:'.")
            return MemoryStore()
        if scheme == "sqlite":
            return _sqlite(_path(rest), timeout_s, must_exist=must_exist)
        raise ConfigurationError(
            f"No store has the scheme {scheme!r:.40}. The SDK itself knows {_FORMS}; plugins can offer more. "
            "Write one of these, or install and name the plugin that offers it."
        )
    if not url.endswith((".db", ".sqlite")):
        raise ConfigurationError(f"The address of a store is {url!r:.80}. It must be one of: {_FORMS}. Write one of these.")
    return _sqlite(url, timeout_s, must_exist=must_exist)


def _sqlite(path: str, timeout_s: float, *, must_exist: bool) -> StateStore:
    # Most processes of tests and batches have a store in memory, and need no sqlite3.
    from rollout_sdk.control.stores.sqlite import SQLiteStore

    return SQLiteStore(path, timeout_s=timeout_s, must_exist=must_exist)


def _path(rest: str) -> str:
    path = rest.removeprefix("///")
    if path == rest or not path.strip("/") or path == ":memory:" or "?" in path:
        raise ConfigurationError(
            f"The address of a store is {'sqlite:' + rest!r:.80}. After 'sqlite:' come three slashes and the path of a file, "
            "with no settings behind it. Write 'sqlite:///relative.db' or 'sqlite:////absolute/path.db'; 'memory:' for none."
        )
    return path
