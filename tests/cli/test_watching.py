"""What `--watch` prints and draws, with the seconds between two looks left out."""

import pytest
from click.testing import CliRunner

from rollout_sdk import StoreError
from rollout_sdk.cli import main, watching
from rollout_sdk.cli.watching import watch
from rollout_sdk.control.stored import StoredStatus


@pytest.fixture
def seconds(monkeypatch):
    """Ends a watch after so many looks, between which something may happen."""

    def ends_after(*happens):
        left = list(happens)

        def sleep(_):
            if not left:
                raise KeyboardInterrupt
            left.pop(0)()

        monkeypatch.setattr(watching, "sleep", sleep)

    return ends_after


def nothing():
    """Let a second pass in which nothing happens."""


def test_in_a_pipe_each_change_of_each_rollout_is_one_line(process, command, address, seconds):
    for key in ("shop.rank", "shop.find"):
        process(key=key)
    seconds(nothing, lambda: command("pause", "shop.rank", "--reason", "a test"), nothing, nothing)
    result = CliRunner().invoke(main, ["list", "--watch", "--store", address], catch_exceptions=False)
    assert 0 == result.exit_code
    lines = [next(word for word in ("paused", "running") if word in line) for line in result.output.splitlines()]
    assert ["running", "running", "paused"] == lines


def test_a_store_that_does_not_answer_is_said_once_each_time(seconds, capsys):
    status = StoredStatus(
        key="shop.rank", status="running", phase="0:5%", step=0, steps=("5%",), shares={"control": 0.95, "v2": 0.05},
        revision=1, entered_s=0.0, now_s=1.0,
    )  # fmt: skip
    answers = iter([[status], StoreError("gone"), StoreError("gone"), [status], StoreError("gone")])

    def look():
        if isinstance(answer := next(answers), StoreError):
            raise answer
        return answer

    seconds(*[nothing] * 4)
    watch(look, lambda found: "")
    captured = capsys.readouterr()
    assert (1, 2) == (captured.out.count("running"), captured.err.count("gone"))


def test_a_watched_status_has_how_far_the_evidence_is_and_a_list_has_not(process, address, announced, monkeypatch):
    model = process()
    for number in range(200):
        model(f"u{number}")
    announced(model).rollout.judge()
    drawn = []
    monkeypatch.setattr("rollout_sdk.cli.looking.watch", lambda look, draw: drawn.append(draw(look())))
    for words in (["status"], ["status", "shop.rank"], ["list"]):
        CliRunner().invoke(main, [*words, "--watch", "--store", address], catch_exceptions=False)
    assert [True, True, False] == ["evidence" in each for each in drawn]
    once = CliRunner().invoke(main, ["status", "--store", address], catch_exceptions=False).output
    assert "evidence" not in once
