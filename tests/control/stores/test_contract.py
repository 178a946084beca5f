"""The built-in stores hold the contract, and stores that are broken on purpose fail it."""

import pytest

from rollout_sdk.control.stores import MemoryStore, SQLiteStore
from rollout_sdk.testing import StoreContract


class TestMemory(StoreContract):
    def make(self):
        return MemoryStore()


class TestSQLite(StoreContract):
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path):
        self.folder = tmp_path

    def make(self):
        return SQLiteStore(self.folder / "rollouts.db", timeout_s=30.0)

    def reopen(self, store):
        return SQLiteStore(store.path, timeout_s=store.timeout_s)
