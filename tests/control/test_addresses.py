"""A store by its address."""

import pytest

from rollout_sdk import ConfigurationError, Runtime, UnknownStrategyError
from rollout_sdk.control.stores import MemoryStore, SQLiteStore
from rollout_sdk.control.stores.opening import store_at
from rollout_sdk.plugins import discovery


class Entry:
    value = "somewhere:Plugin"

    def __init__(self, plugin):
        self.plugin = plugin

    def load(self):
        return self.plugin


class Pigeons:
    name = "pigeons"

    def rollout_open_store(self, url):
        return MemoryStore() if url == "pigeons://loft" else None


@pytest.fixture(autouse=True)
def birds(monkeypatch):
    monkeypatch.setattr(discovery, "_installed", lambda: {"pigeons": [Entry(Pigeons)], "deaf": [Entry(object)]})


def test_ours_need_no_plugin(tmp_path):
    assert SQLiteStore is type(store_at(f"sqlite:///{tmp_path}/x.db"))
    assert MemoryStore is type(store_at("memory:"))


def test_the_scheme_names_the_plugin_that_opens_it():
    assert MemoryStore is type(store_at("pigeons://loft"))
    assert "pigeons://loft" == Runtime(store="pigeons://loft").store


@pytest.mark.parametrize("address", ["pigeons://secret@roof", "deaf://secret@x"])
def test_a_plugin_that_opens_nothing_there_is_refused_without_telling_the_password(address):
    with pytest.raises(ConfigurationError, match="opens no store") as caught:
        store_at(address)
    assert "secret" not in str(caught.value)


def test_a_plugin_that_is_not_installed_is_named():
    with pytest.raises(UnknownStrategyError, match="Plugin 'redis' is not installed"):
        store_at("redis://localhost")


@pytest.mark.parametrize("address", ["nowhere", 5, "", "sqlite://x"])
def test_what_is_no_address_is_refused(address):
    with pytest.raises(ConfigurationError):
        store_at(address)
