"""A store by its address: one of ours, or one of the plugin that is named by the address's scheme."""

from __future__ import annotations

from rollout_sdk.control.stores import StateStore, open_store
from rollout_sdk.exceptions import ConfigurationError
from rollout_sdk.plugins.discovery import load_named

__all__ = ["store_at"]

_OURS = ("memory", "sqlite")


def store_at(address: str) -> StateStore:
    """The store at this address: "sqlite:///rollouts.db", or "redis://..." where a plugin of the name "redis" is installed.

    A plugin acts only when it is named: the scheme names it, as an entry point of the group "rollout_sdk", and its hook
    `rollout_open_store` gets the whole address.

    Raises:
        ConfigurationError: It is no address, no such plugin is installed, or the plugin opens no store there.
    """
    scheme, separator, _ = address.partition("://") if isinstance(address, str) else ("", "", "")
    if not separator or scheme in _OURS:
        return open_store(address)
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
