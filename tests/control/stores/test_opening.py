"""Stores by their address."""

import re

import pytest

from rollout_sdk import ConfigurationError
from rollout_sdk.control.stores import MemoryStore, SQLiteStore, open_store


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:///rollouts.db", "{}/rollouts.db"),
        ("sqlite:///{}/deep/rollouts", "{}/deep/rollouts"),
        ("sqlite:///deep/rollouts", "{}/deep/rollouts"),
        ("rollouts.db", "{}/rollouts.db"),
        ("deep/rollouts.sqlite", "{}/deep/rollouts.sqlite"),
        ("{}/a:b.db", "{}/a:b.db"),
        ("sqlite:///my%20file.db", "{}/my%20file.db"),
    ],
)
def test_an_address_names_a_file(url, path, tmp_path, monkeypatch):
    (tmp_path / "deep").mkdir()
    monkeypatch.chdir(tmp_path)
    store = open_store(url.format(tmp_path), timeout_s=3.0)
    assert (SQLiteStore, path.format(tmp_path), 3.0) == (type(store), str(store.path), store.timeout_s)


def test_memory_is_another_store_each_time():
    one, other = open_store("memory:"), open_store("memory:")
    one.note("key", "name", "text")
    assert (MemoryStore, None) == (type(one), other.noted("key", "name"))


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("redis://:secret@host/0", "No store has the scheme 'redis'. The SDK itself knows .*; plugins can offer more."),
        ("postgresql+psycopg://host", "No store has the scheme 'postgresql.psycopg'"),
        ("memory:shared", "Write 'memory:'"),
        ("memory://", "Write 'memory:'"),
        ("sqlite:", "three slashes"),
        ("sqlite://", "three slashes"),
        ("sqlite:///", "three slashes"),
        ("sqlite:////", "three slashes"),
        ("sqlite://rollouts.db", "three slashes"),
        ("sqlite:rollouts.db", "three slashes"),
        ("sqlite:///:memory:", "'memory:' for none"),
        ("sqlite:///x.db?timeout=5", "no settings behind it"),
        ("rollouts.json", "must be one of: 'memory:', 'sqlite:///relative.db'"),
        ("", "must be one of"),
        (None, "must be a text"),
    ],
)
def test_another_address_is_an_error_that_says_what_there_is(url, says):
    with pytest.raises(ConfigurationError, match=says) as caught:
        open_store(url)
    assert not re.search("secret", str(caught.value))
