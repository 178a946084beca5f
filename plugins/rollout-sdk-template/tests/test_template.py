"""The strategy, the store and the observer hold what rollout_sdk asks of every plugin, and do what they are for."""

import tempfile
from pathlib import Path

import pytest

from rollout_sdk import ConfigurationError, Runtime, rollout
from rollout_sdk.testing import ObserverContract, StoreContract, StrategyContract
from rollout_sdk_template import Failures, JSONFileStore, OnlyFor, rollout_open_store, rollout_strategies


class TestOnlyFor(StrategyContract):
    def make(self):
        return OnlyFor("NL", share=0.3)

    def make_with_share(self, share):
        return OnlyFor("NL", share=share)

    def features(self, unit):
        return {"country": "NL"}


class TestJSONFileStore(StoreContract):
    def make(self):
        return JSONFileStore(str(Path(tempfile.mkdtemp()) / "rollouts.json"), timeout_s=10.0)

    def reopen(self, store):
        return JSONFileStore(str(store.path), timeout_s=10.0)


class TestFailures(ObserverContract):
    def make(self):
        return Failures()


def test_only_units_of_the_countries_have_the_candidate():
    model = rollout(
        candidate=lambda user, country: "new", strategy=OnlyFor("NL", share=1.0), unit="user", key="k", runtime=Runtime()
    )(lambda user, country: "old")
    assert [model("u-1", "NL"), model("u-1", "FR")] == ["new", "old"]


def test_without_countries_all_units_have_their_share():
    model = rollout(candidate=lambda user: "new", strategy=OnlyFor(share=1.0), unit="user", key="k", runtime=Runtime())(
        lambda user: "old"
    )
    assert model("u-1") == "new"


def test_several_candidates_are_refused():
    with pytest.raises(ConfigurationError, match="2 candidates"):
        rollout(
            candidates={"a": lambda country: 1, "b": lambda country: 2}, strategy=OnlyFor("NL"), key="k", runtime=Runtime()
        )(lambda country: 0)


def test_failures_are_counted():
    def failing(user, country):
        raise ValueError

    failures = Failures()
    runtime = Runtime(plugins=[failures])
    model = rollout(candidate=failing, strategy=OnlyFor("NL", share=1.0), unit="user", key="k", runtime=runtime)(
        lambda user, country: "old"
    )
    assert model("u-1", "NL") == "old"
    runtime.flush()
    assert failures.counts == {("k", "candidate"): 1}


def test_they_are_found_by_their_names(tmp_path):
    assert rollout_strategies() == {OnlyFor.name: OnlyFor} == {"template": OnlyFor}
    store = rollout_open_store(f"template://{tmp_path}/rollouts.json")
    assert store.path == tmp_path / "rollouts.json"
