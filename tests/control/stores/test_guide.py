"""The store of docs/stores.md holds the contract, as every store does."""

import re
from pathlib import Path

import pytest

from rollout_sdk.testing import StoreContract

GUIDE = Path(__file__).resolve().parents[3] / "docs/stores.md"
NAMESPACE = {"__name__": "stores"}
(CODE,) = re.findall(r"^```python\n(.*?class JSONFileStore:.*?)^```$", GUIDE.read_text(), re.MULTILINE | re.DOTALL)
exec(compile(CODE, str(GUIDE), "exec"), NAMESPACE)


class TestTheStoreOfTheGuide(StoreContract):
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path):
        self.folder = tmp_path

    def make(self):
        return NAMESPACE["JSONFileStore"](self.folder / "rollouts.json", timeout_s=30.0)

    def reopen(self, store):
        return NAMESPACE["JSONFileStore"](store.path, timeout_s=store.timeout_s)
