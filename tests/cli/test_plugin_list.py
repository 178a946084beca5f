"""`rollout plugins`: active, installed, blocked, broken, and why."""

import json

import pytest
from click.testing import CliRunner

from rollout_sdk import ABTest, Runtime, Shadow, rollout
from rollout_sdk.cli import main
from rollout_sdk.cli.plugin_list import Listed, listed
from rollout_sdk.doctor.installed import Plugin


def plugin(name, *, found=True, blocked=False, distribution="acme"):
    return Plugin(name, f"acme.{name}", distribution, "1.2", None, found, blocked)


@pytest.mark.parametrize(
    ("installed", "used", "environment", "state", "why"),
    [
        (plugin("weekend"), {}, {}, "installed", "no rollout has it"),
        (plugin("weekend"), {"weekend": ["shop.rank"]}, {}, "active", "of shop.rank"),
        (plugin("weekend"), {"weekend": list("abcde")}, {}, "active", "of a, b, c and 2 more"),
        (plugin("redis"), {}, {"ROLLOUT_STORE": "redis://host/0"}, "active", "opens ROLLOUT_STORE"),
        (plugin("redis"), {}, {"ROLLOUT_STORE": "redissentinel://host"}, "installed", "no rollout has it"),
        (plugin("weekend", blocked=True), {"weekend": ["a"]}, {}, "blocked", "ROLLOUT_DISABLED_PLUGINS names it"),
        (plugin("weekend", found=False), {}, {}, "broken", "it names 'acme.weekend', and there is no such module"),
        (plugin("weekend", found=None), {}, {}, "installed", "no rollout has it"),
    ],
)
def test_the_state_of_an_installed_plugin_and_why(installed, used, environment, state, why):
    assert listed([installed], used, environment) == [Listed(installed.name, "acme 1.2", state, why)]


def test_a_name_of_two_distributions_is_broken():
    found = listed([plugin("weekend"), plugin("weekend", distribution="other")], {}, {})
    assert [(each.state, each.distribution) for each in found] == [("broken", "acme 1.2"), ("broken", "other 1.2")]


def test_a_plugin_that_an_application_made_is_listed_too():
    assert listed([], {"alarm": ["a", "b"]}, {}) == [Listed("alarm", "", "active", "of a, b, in whose code it is made")]


@pytest.fixture
def journal(tmp_path):
    class Alarm:
        name = "alarm"

        def rollout_routed(self, event):
            pass

    runtime = Runtime(journal=tmp_path)
    for key, strategy in (("shop.rank", ABTest(0.5)), ("shop.spam", Shadow(1.0))):
        model = rollout(
            candidate=lambda user: 1,
            strategy=strategy,
            unit="user",
            key=key,
            effects="read",
            runtime=runtime,
            plugins=[Alarm()],
        )(lambda user: 0)
        model("u-1")
    runtime.close()
    return str(tmp_path)


def run(*words, **environment):
    result = CliRunner().invoke(main, ["plugins", *words], env=environment, catch_exceptions=False)
    assert result.exit_code == 0
    return result


def test_the_journal_says_which_rollouts_have_a_plugin(journal):
    found = {each["name"]: each for each in json.loads(run(journal, "--json").stdout)}
    assert (found["ab"]["state"], found["ab"]["why"]) == ("active", "of shop.rank")
    assert (found["shadow"]["state"], found["shadow"]["why"]) == ("active", "of shop.spam")
    assert (found["alarm"]["state"], found["alarm"]["why"]) == ("active", "of shop.rank, shop.spam, in whose code it is made")
    assert set(found) >= {"ab", "alarm", "shadow"}
    assert "default-comparison" not in found
    assert found["canary"]["state"] == "installed"


def test_a_blocked_plugin_is_listed_as_such(journal):
    found = {each["name"]: each["state"] for each in json.loads(run(journal, "--json", ROLLOUT_DISABLED_PLUGINS="ab").stdout)}
    assert (found["ab"], found["shadow"]) == ("blocked", "active")


def test_without_a_journal_it_says_what_it_does_not_know(journal):
    result = run()
    assert "installed  ab" in result.stdout
    assert "Without a journal" in result.stderr
    assert "active     ab" in run(ROLLOUT_JOURNAL=journal).stdout
