"""A store that is emptied, or restored from a backup, while processes use it."""

import copy

from rollout_sdk.control.stores import MemoryStore


class LostStore:
    """Set `store` to an empty one, or to a `backup`, to lose what was written since."""

    def __init__(self):
        self.store = MemoryStore()

    def __getattr__(self, name):
        return getattr(self.store, name)

    def backup(self):
        copied = MemoryStore()
        copied._kept = copy.deepcopy(self.store._kept)
        return copied
