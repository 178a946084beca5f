"""Operating a rollout from a terminal: every process that reads the store follows."""

import json
import shlex

import pytest
from click.testing import CliRunner

from rollout_sdk import Canary, Guardrail, Step
from rollout_sdk.cli import main


def follow(model):
    runtime = model.rollout._runtime
    runtime.reconciler.look(runtime.reconciler.rollouts[model.rollout.key])
    status = model.rollout.status()
    return status.status, status.phase


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["promote", "shop.rank", "--force", "--reason", "green"], ("running", "1:50%")),
        (["promote-full", "shop.rank", "--force", "--reason", "green"], ("promoted", "1:100%")),
        (["skip", "shop.rank", "--force", "--reason", "fast"], ("running", "1:80%")),
        (["pause", "shop.rank"], ("paused", "0:20%")),
        (["abort", "shop.rank"], ("aborted", "1:aborted")),
        (["set-share", "shop.rank", "3%", "--reason", "less"], ("running", "1:3%")),
    ],
)
def test_what_a_command_does_every_process_follows(process, command, words, expected):
    models = [process(), process()]
    output = command(*words, "--actor", "ann")
    assert f"-> {expected[0]} {expected[1]}, revision 1" in " ".join(output.split())
    assert [expected, expected] == [follow(model) for model in models]


def test_a_pause_is_resumed(process, command):
    model = process()
    command("pause", "shop.rank")
    assert "paused" == follow(model)[0]
    command("resume", "shop.rank", "--reason", "it was nothing")
    assert "running" == follow(model)[0]


def test_the_history_says_who_did_what_and_why(process, command):
    process()
    command("promote", "shop.rank", "--force", "--actor", "ann", "--reason", "the dashboard is green")
    command("abort", "shop.rank", "--actor", "bob")
    text = command("history", "shop.rank")
    assert ["start", "promote", "abort"] == [line.split()[3] for line in text.splitlines() if line.startswith("20")]
    assert "by ann: the dashboard is green" in " ".join(text.split())
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
    process(), process(key="shop.ads")
    text = command("status")
    assert ("shop.rank: running" in text, "shop.ads: running" in text) == (True, True)


@pytest.mark.parametrize(
    ("words", "code", "problem"),
    [
        (["promote", "nobody", "--reason", "x"], 1, "The store knows no rollout 'nobody'"),
        (["status", "nobody"], 1, "It knows: shop.rank."),
        (["status", "shop.rnak"], 1, "The store knows no rollout 'shop.rnak'. Did you mean 'shop.rank'?"),
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


# A verdict that is not PASS


def served(model, users=400):
    for user in range(users):
        model(f"user-{user}")
    return model.rollout.judge().outcome


PATIENT = Canary([Step("20%", min_units=20, min_time="1h"), "50%", "80%"], guardrails=[Guardrail("error_rate", floor=0.2)])


@pytest.mark.parametrize("words", [["promote"], ["promote-full"], ["skip"], ["set-share", "60%"]], ids=lambda words: words[0])
def test_more_users_against_the_verdict_need_force(process, command, words):
    model = process(strategy=PATIENT)
    assert "INSUFFICIENT_DATA" == served(model)
    name, *share = words
    refused = command(name, "shop.rank", *share, "--reason", "x", code=1)
    assert "its last verdict is INSUFFICIENT_DATA, not PASS: the step has lasted" in refused
    assert "--force" in refused
    assert "running" == follow(model)[0]
    command(name, "shop.rank", *share, "--reason", "x", "--force")
    assert "0:20%" != follow(model)[1]


def test_a_step_without_a_verdict_needs_force_and_one_after_a_pass_does_not(process, command, announced):
    steps = [Step("20%", min_units=20, min_time=0), "50%", "80%"]
    model = process(strategy=Canary(steps, guardrails=[Guardrail("error_rate", floor=0.2)], approve=lambda verdict: False))
    announced(model)
    assert "phase 0:20% has no verdict yet" in command("promote", "shop.rank", "--reason", "x", code=1)
    assert "PASS" == served(model)
    command("promote", "shop.rank", "--reason", "x")
    # That one was about the step before.
    assert "phase 1:50% has no verdict yet" in command("promote", "shop.rank", "--reason", "x", code=1)


def test_what_nobody_judges_and_what_gives_nobody_more_needs_no_force(process, command, announced):
    announced(process(strategy=Canary(["20%", "50%"], guardrails=[])))
    command("promote", "shop.rank", "--reason", "x")
    served(process(key="shop.ads", strategy=PATIENT))
    command("set-share", "shop.ads", "1%", "--reason", "fewer")


def test_a_rollout_that_is_over_says_so_and_not_what_its_verdict_was(process, command):
    served(process(strategy=PATIENT))
    command("abort", "shop.rank")
    assert "it is aborted" in command("promote", "shop.rank", "--reason", "x", code=1)


# Addresses


def test_an_address_with_a_typo_makes_no_file_and_names_what_is_beside_it(process, tmp_path):
    process()
    before = sorted(tmp_path.iterdir())
    for words in (["list"], ["status"], ["abort", "shop.rank"], ["wait", "shop.rank", "--until", "over"]):
        result = CliRunner().invoke(main, [*words, "--store", f"sqlite:///{tmp_path}/rolouts.db"])
        assert 4 == result.exit_code, result.output
        assert "There is no store" in result.output
        assert "Beside it is 'rollouts.db'" in result.output
    assert before == sorted(tmp_path.iterdir())


def test_a_store_in_memory_is_another_process_s(tmp_path):
    result = CliRunner().invoke(main, ["list", "--store", "memory:"])
    assert (1, True) == (result.exit_code, "belongs to one process" in result.output)


def test_no_message_about_a_store_says_anything_twice(tmp_path):
    (tmp_path / "text.db").write_text("this is not a database, and never was one" * 100)
    (tmp_path / "folder.db").mkdir()
    for name in ("text.db", "folder.db", "typo.db", "nowhere/rollouts.db"):
        output = CliRunner().invoke(main, ["status", "--store", f"sqlite:///{tmp_path}/{name}"]).output
        sentences = [each.strip() for each in output.replace(". ", ".\n").splitlines() if each.strip()]
        assert len(sentences) == len(set(sentences))
        assert 1 == output.count("Error:"), output
        assert 1 == output.count(str(tmp_path / name)), output


# Who


def test_without_a_name_for_the_user_the_number_stands_in_the_history(process, command, monkeypatch):
    """As in a container that runs as a number without an entry in /etc/passwd."""

    def unknown():
        raise KeyError("getpwuid(): uid not found: 12345")

    process()
    monkeypatch.setattr("getpass.getuser", unknown)
    command("pause", "shop.rank")
    assert "by uid " in command("history", "shop.rank")


def test_nobody_else_is_the_judge(process, command):
    process()
    assert "is the SDK's own" in command("abort", "shop.rank", "--actor", "judge", code=1)


# Help


def commands():
    """Every command and command of a command, by its words."""
    found = {}

    def add(command, words):
        found[words] = command
        for name, each in getattr(command, "commands", {}).items():
            add(each, (*words, name))

    add(main, ())
    return found


@pytest.mark.parametrize("words", [words for words in commands() if words], ids=" ".join)
@pytest.mark.parametrize("option", ["-h", "--help"])
def test_every_command_has_an_example_that_fits_80_columns(words, option):
    result = CliRunner().invoke(main, [*words, option], catch_exceptions=False)
    assert 0 == result.exit_code
    assert f"    rollout {' '.join(words)}" in result.output
    assert 80 >= max(map(len, result.output.splitlines()))


def test_the_help_lists_commands_without_cutting_them_short_and_every_exit_code():
    output = CliRunner().invoke(main, ["-h"], catch_exceptions=False).output
    assert [] == [line for line in output.splitlines()[1:] if "..." in line]
    for code in range(9):
        assert f"    {code}  " in output


@pytest.mark.parametrize(
    "words",
    [
        example.split()
        for command in commands().values()
        for example in (command.epilog or "").splitlines()
        if "  rollout " in example
    ],
    ids=" ".join,
)
def test_the_examples_of_the_help_are_commands_with_their_options(words):
    line = " ".join(words).split(" && ")[0].split("rollout ", 1)[1]
    _, *rest = ["", *shlex.split(line)]
    command = main
    while hasattr(command, "commands"):
        command, rest = command.commands[rest[0]], rest[1:]
    known = {name for each in command.params for name in each.opts}
    assert {word for word in rest if word.startswith("--")} <= known


def test_a_change_that_no_process_will_write_of_says_where_it_is(process, command, announced, address):
    model = process()
    said = "No live process serves shop.rank"
    assert said in command("pause", "shop.rank", "--reason", "sale")
    result = CliRunner().invoke(main, ["resume", "shop.rank", "--reason", "over", "--json", "--store", address])
    assert (True, "shop.rank") == (said in result.stderr, json.loads(result.stdout)["rollout"])
    announced(model)
    assert said not in command("pause", "shop.rank", "--reason", "sale")
