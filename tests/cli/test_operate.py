"""Operating a rollout from a terminal: every process that reads the store follows."""

import json

import pytest
from click.testing import CliRunner

from rollout_sdk import Canary, Guardrail, Runtime, Step, rollout
from rollout_sdk.cli import main

STEPS = [Step("20%", min_units=20, min_time=0), "50%", "80%"]


@pytest.fixture
def address(tmp_path):
    return f"sqlite:///{tmp_path}/rollouts.db"


@pytest.fixture
def process(address):
    """A process that serves a rollout."""
    made = []

    def make(**options):
        runtime = Runtime(store=address)
        made.append(runtime)
        strategy = options.pop("strategy", Canary(STEPS, guardrails=[Guardrail("error_rate", floor=0.2)]))
        return rollout(
            **{"candidate": lambda user: "new", "strategy": strategy, "unit": "user", "key": "shop.rank", **options},
            runtime=runtime,
        )(lambda user: "old")

    yield make
    for runtime in made:
        runtime.close(1.0)


@pytest.fixture
def command(address):
    def run(*words, code=0):
        result = CliRunner().invoke(main, [*words, "--store", address], catch_exceptions=False)
        assert code == result.exit_code, result.output
        return result.output

    return run


def follow(model):
    runtime = model.rollout._runtime
    runtime.reconciler.look(runtime.reconciler.rollouts[model.rollout.key])
    status = model.rollout.status()
    return status.status, status.phase


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["promote", "shop.rank", "--reason", "green"], ("running", "1:50%")),
        (["promote-full", "shop.rank", "--reason", "green"], ("promoted", "1:100%")),
        (["skip", "shop.rank", "--reason", "fast"], ("running", "1:80%")),
        (["pause", "shop.rank"], ("paused", "0:20%")),
        (["abort", "shop.rank"], ("aborted", "1:aborted")),
        (["set-share", "shop.rank", "3%", "--reason", "less"], ("running", "1:3%")),
    ],
)
def test_what_a_command_does_every_process_follows(process, command, words, expected):
    models = [process(), process()]
    output = command(*words, "--actor", "ann")
    assert f"-> {expected[0]} {expected[1]}, revision 1" in output
    assert [expected, expected] == [follow(model) for model in models]


def test_a_pause_is_resumed(process, command):
    model = process()
    command("pause", "shop.rank")
    assert "paused" == follow(model)[0]
    command("resume", "shop.rank", "--reason", "it was nothing")
    assert "running" == follow(model)[0]


def test_the_history_says_who_did_what_and_why(process, command):
    process()
    command("promote", "shop.rank", "--actor", "ann", "--reason", "the dashboard is green")
    command("abort", "shop.rank", "--actor", "bob")
    text = command("history", "shop.rank")
    assert ["start", "promote", "abort"] == [line.split()[3] for line in text.splitlines()]
    assert "by ann: the dashboard is green" in text
    records = json.loads(command("history", "shop.rank", "--json"))
    assert [("start", ""), ("promote", "ann"), ("abort", "bob")] == [(each["action"], each["actor"]) for each in records]


def test_the_status_shows_the_last_verdict_with_its_arithmetic(process, command):
    model = process()
    for user in range(400):
        model(f"user-{user}")
    assert "PASS" == model.rollout.judge().outcome
    text = command("status", "shop.rank")
    for part in ("shop.rank: running, phase 1:50%", "control 50%", "PASS in phase 0:20%", "guardrail error_rate of candidate"):
        assert part in text
    table = json.loads(command("status", "shop.rank", "--json"))
    assert ("running", "PASS") == (table["status"], table["verdict"]["outcome"])
    assert ["start", "promote"] == [each["action"] for each in json.loads(command("history", "shop.rank", "--json"))]


def test_without_a_name_the_status_shows_all(process, command):
    assert "The store has no rollout.\n" == command("status")
    process(), process(key="shop.ads")
    text = command("status")
    assert ("shop.rank: running" in text, "shop.ads: running" in text) == (True, True)


@pytest.mark.parametrize(
    ("words", "code", "problem"),
    [
        (["promote", "nobody", "--reason", "x"], 1, "The store knows no rollout 'nobody'"),
        (["status", "nobody"], 1, "The store knows no rollout 'nobody'. It knows: shop.rank."),
        (["resume", "shop.rank", "--reason", "x"], 1, "Cannot resume 'shop.rank': it is running"),
        (["promote", "shop.rank", "--reason", "x", "--revision", "7"], 3, "is at revision 0, not 7"),
        (["set-share", "shop.rank", "500%", "--reason", "x"], 1, "The share of 'candidate' is '500%'"),
        (["promote", "shop.rank"], 2, "Missing option '--reason'"),
    ],
)
def test_what_is_refused_ends_with_its_exit_code(process, command, words, code, problem):
    process()
    assert problem in command(*words, code=code)


def test_a_store_that_does_not_answer_is_exit_code_4(tmp_path):
    (tmp_path / "rollouts.db").write_text("this is no database, and never was one" * 100)
    result = CliRunner().invoke(main, ["status", "--store", f"sqlite:///{tmp_path}/rollouts.db"])
    assert 4 == result.exit_code


def test_an_unknown_address_is_refused(tmp_path):
    result = CliRunner().invoke(main, ["status", "--store", "carrier-pigeon://loft"])
    assert 1 == result.exit_code


def test_the_address_may_be_in_the_environment(process, address):
    process()
    result = CliRunner().invoke(main, ["status"], env={"ROLLOUT_STORE": address})
    assert (0, True) == (result.exit_code, "shop.rank: running" in result.output)
