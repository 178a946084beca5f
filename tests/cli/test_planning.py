"""Looking ahead and back with the judge's own rules."""

import json
import random

import pytest
from click.testing import CliRunner

from rollout_sdk import Canary, ConfigurationError, Gate, Guardrail, Runtime, Step, rollout
from rollout_sdk.analysis.replay import replay
from rollout_sdk.cli import main
from rollout_sdk.plan import Criteria

PLAN = """
steps = [{ share = "10%", min_units = 50, min_time = 0 }, { share = "50%", min_units = 50, min_time = 0 }]
[[guardrails]]
metric = "error_rate"
floor = 0.2
[[gates]]
metric = "click"
before = "promotion"
"""


@pytest.fixture
def plan(tmp_path):
    path = tmp_path / "plan.toml"
    path.write_text(PLAN)
    return path


class Clock:
    now_ns = 1_800_000_000 * 10**9

    def __call__(self):
        self.now_ns += 10**7
        return self.now_ns


def journalled(folder, *, errors=0.0, processes=1, calls=3000):
    """A journal of a canary that was steered by hand."""
    rng, clock = random.Random(1), Clock()

    def candidate(user):
        if rng.random() < errors:
            raise ValueError
        return 1

    runtimes = [Runtime(journal=folder, time_ns=clock) for _ in range(processes)]
    models = [
        rollout(candidate=candidate, strategy=Canary(["10%", "50%"], guardrails=[]), unit="user", key="m", runtime=runtime)(
            lambda user: 0
        )
        for runtime in runtimes
    ]
    for step in range(2):
        for user in range(calls):
            model = models[user % processes]
            routed = model.rollout.route(f"{step}-{user}")
            if rng.random() < (0.6 if routed.value else 0.5):
                model.rollout.record("click", 1.0, decision_id=routed.decision.id)
        for model in models:
            model.rollout.promote()
    for runtime in runtimes:
        runtime.close(10.0)
    return folder


def test_a_replay_says_when_the_plan_would_have_gone_on(tmp_path, plan):
    result = CliRunner().invoke(
        main, ["replay", str(journalled(tmp_path / "j")), "--plan", str(plan), "--every", "1s"], catch_exceptions=False
    )
    assert 0 == result.exit_code
    assert "m: the plan would have gone on in every phase" in result.output
    assert 2 == result.output.count("it would have gone on after")
    assert 2 == result.output.count("PASS in phase")


def test_a_replay_says_that_the_plan_would_have_rolled_back_and_stops_there(tmp_path, plan):
    folder = journalled(tmp_path / "j", errors=0.2)
    result = CliRunner().invoke(main, ["replay", str(folder), "--plan", str(plan), "--every", "1s", "--json"])
    found = json.loads(result.output)
    assert "rolled back" == found["outcome"]
    first = found["phases"][0]
    assert ("FAIL", "0:10%") == (first["decided"]["outcome"], first["phase"])
    assert first["decided"]["time_s"] < first["ended_s"]


def test_a_replay_of_several_processes_is_that_of_one(tmp_path, plan):
    from rollout_sdk.plan import load_criteria

    one, four = (replay(journalled(tmp_path / str(n), processes=n), load_criteria(plan), every_s=1.0) for n in (1, 4))
    assert [phase.calls for phase in one.phases] == [phase.calls for phase in four.phases] == [3000, 3000]
    assert one.outcome == four.outcome


def test_a_replay_comes_to_the_verdict_that_the_service_came_to(tmp_path):
    strategy = Canary(
        [Step("50%", min_units=50, min_time=0)],
        guardrails=[Guardrail("error_rate", floor=0.2), Guardrail("latency", threshold_s=10.0, margin=0.2)],
        gates=[Gate("click")],
    )
    runtime, rng = Runtime(journal=tmp_path, time_ns=Clock()), random.Random(2)
    model = rollout(candidate=lambda user: 1, strategy=strategy, unit="user", key="m", runtime=runtime)(lambda user: 0)
    for user in range(2000):
        routed = model.rollout.route(f"user-{user % 700}")
        if rng.random() < (0.6 if routed.value else 0.5):
            model.rollout.record("click", 1.0, decision_id=routed.decision.id)
    live = model.rollout.judge()
    runtime.close(10.0)
    again = replay(tmp_path, strategy.criteria, every_s=1e9).phases[0].last
    assert live.outcome == again.outcome
    # The journal tells when the first call was, and not when the function was decorated.
    plain = [{**finding.numbers, "elapsed_s": 0} for finding in live.findings]
    assert plain == [{**finding.numbers, "elapsed_s": 0} for finding in again.findings]


def test_a_replay_judges_every_version_by_what_was_seen_of_it(tmp_path):
    """A good version, then a broken one under the same key: the first one's calls say nothing about the second."""
    clock, plan = Clock(), Canary([Step("50%", min_units=50, min_time=0)], guardrails=[Guardrail("error_rate", floor=0.2)])

    def broken(user):
        raise ValueError

    runtime = Runtime(journal=tmp_path, time_ns=clock)
    live = []
    for version, candidate in (("1", lambda user: 1), ("2", broken)):
        model = rollout(
            candidate=candidate, strategy=plan, unit="user", key="m", version=version, runtime=runtime, breaker=None
        )(lambda user: 0)
        for user in range(400):
            model(f"user-{user}")
        live.append(model.rollout.judge())
        del model
    runtime.close(10.0)
    first, second = replay(tmp_path, plan.criteria, every_s=1e9).phases
    assert ["PASS", "FAIL"] == [verdict.outcome for verdict in live] == [first.last.outcome, second.last.outcome]
    assert [verdict.units for verdict in live] == [first.last.units, second.last.units]
    strata = [
        finding.numbers["strata"] for verdict in (live[1], second.last) for finding in verdict.findings
        if finding.name == "error_rate"
    ]  # fmt: skip
    assert strata[0] == strata[1]


def test_a_replay_knows_the_steps_that_were_made_by_the_command(tmp_path):
    """The command has no journal: the processes that follow write down where they stand."""
    address, folder = f"sqlite:///{tmp_path}/rollouts.db", tmp_path / "journal"
    runtime = Runtime(journal=folder, store=address, time_ns=Clock())
    # The test looks by hand.
    runtime.reconciler.start = lambda: None
    plan = Canary(["20%", "50%"], guardrails=[Guardrail("error_rate", floor=0.2)])
    model = rollout(candidate=lambda user: 1, strategy=plan, unit="user", key="m", runtime=runtime)(lambda user: 0)
    for words in ("promote", "set-share 70%"):
        for user in range(300):
            model(f"user-{user}")
        command, *rest = words.split()
        result = CliRunner().invoke(main, [command, "m", *rest, "--store", address, "--reason", "a test"])
        assert 0 == result.exit_code, result.output
        # Steps are hours apart, and the journal milliseconds behind.
        assert runtime.flush(5.0)
        runtime.reconciler.look(runtime.reconciler.rollouts["m"])
    for user in range(300):
        model(f"user-{user}")
    runtime.close(10.0)
    found = replay(folder, plan.criteria, every_s=1e9)
    assert [("0:20%", 300), ("1:50%", 300), ("2:70%", 300)] == [(phase.phase, phase.calls) for phase in found.phases]
    assert [[0.8, 0.2], [0.5, 0.5], [0.3, 0.7]] == [
        [round(share, 9) for share in shares] for _, shares in found.phases[-1].last.findings[0].numbers["strata"]
    ]


def test_a_plan_whose_steps_shrink_is_refused_before_it_is_asked_about(tmp_path):
    path = tmp_path / "plan.toml"
    path.write_text('steps = ["5%", "1%"]')
    result = CliRunner().invoke(main, ["plan", "--plan", str(path), "--units", "1000"])
    assert (1, True) == (result.exit_code, "goes from 5% back to 1%" in result.output), result.output


def test_looks_without_any_time_between_them_are_refused(tmp_path, plan):
    result = CliRunner().invoke(main, ["replay", str(journalled(tmp_path / "j")), "--plan", str(plan), "--every", "0s"])
    assert (1, True) == (result.exit_code, "time between two looks" in result.output), result.output


@pytest.mark.parametrize(
    ("options", "problem"),
    [({"rollout": "other"}, "no calls of 'other'"), ({}, "0 rollouts")],
)
def test_a_journal_without_the_rollout_is_refused(tmp_path, options, problem):
    (tmp_path / "j").mkdir()
    with pytest.raises(ConfigurationError, match=problem):
        replay(tmp_path / "j", Criteria(steps=["5%"]), **options)


def test_a_forecast_says_how_long_each_step_takes(plan):
    words = ["plan", "--plan", str(plan), "--units", "1000", "--metric", "click=0.1"]
    result = CliRunner().invoke(main, words, catch_exceptions=False)
    assert 0 == result.exit_code
    for part in ("10%", "50%", "waits longest for", "10x after", "click: sees a difference of", "found futile after", "in all"):
        assert part in result.output
    assert 80 >= max(map(len, result.output.splitlines()))
    table = json.loads(CliRunner().invoke(main, [*words, "--json"]).output)
    for name in ("days_50", "days_80"):
        assert table[name] == pytest.approx(sum(step[name] for step in table["steps"]))
    assert table["days_50"] < table["days_80"]
    assert (1000.0, [0.1, pytest.approx(0.3)]) == (table["traffic"]["units_per_day"], table["traffic"]["means"]["click"])


def test_a_step_that_takes_longer_than_its_time_is_said_to_be_paused(tmp_path):
    path = tmp_path / "plan.toml"
    path.write_text('steps = [{ share = "1%", min_units = 1000, max_time = "2d" }]')
    words = ["plan", "--plan", str(path), "--units", "20000"]
    result = CliRunner().invoke(main, words, catch_exceptions=False)
    assert "1% will be paused after 2d: raise max_time, or " in " ".join(result.output.split())


def test_a_plan_that_contradicts_itself_is_warned_of(tmp_path):
    path = tmp_path / "plan.toml"
    path.write_text('steps = ["10%"]\n[[guardrails]]\nmetric = "error_rate"\nharm = 0.0')
    result = CliRunner().invoke(main, ["plan", "--plan", str(path), "--units", "20000"], catch_exceptions=False)
    assert "Warning: error_rate: harm=0 is less than a tenth of margin=1" in result.output
    assert 80 >= max(map(len, result.output.splitlines()))


def test_a_forecast_reads_the_traffic_from_a_journal_and_options_override_it(tmp_path, plan):
    folder = str(journalled(tmp_path / "j"))
    words = ["plan", "--plan", str(plan), "--journal", folder, "--json"]
    table = json.loads(CliRunner().invoke(main, words, catch_exceptions=False).output)
    assert ("m", 6000, 6000) == tuple(table["journal"][name] for name in ("rollout", "units", "calls"))
    assert (1.0, 0.0) == (table["traffic"]["calls_per_unit"], table["traffic"]["error_rate"])
    assert [pytest.approx(0.5, abs=0.03), pytest.approx(0.5, abs=0.05)] == table["traffic"]["means"]["click"]
    words += ["--units", "777", "--error-rate", "0.02", "--metric", "click=0.1,0.7"]
    traffic = json.loads(CliRunner().invoke(main, words, catch_exceptions=False).output)["traffic"]
    assert (777.0, 0.02, [0.1, 0.7]) == (traffic["units_per_day"], traffic["error_rate"], traffic["means"]["click"])
    text = CliRunner().invoke(main, ["plan", "--plan", str(plan), "--journal", folder], catch_exceptions=False).output
    assert "Traffic from the journal, m: 6,000 calls of 6,000 units" in " ".join(text.split())
    assert "less than a day" in text


def test_each_threshold_has_its_own_rate_of_slow_calls_unless_a_rate_is_given(tmp_path, monkeypatch):
    path, folder, asked = tmp_path / "plan.toml", str(journalled(tmp_path / "j", calls=300)), []
    # Every call is slower than the first threshold, and none than the other.
    path.write_text(
        'steps = ["10%"]\n'
        '[[guardrails]]\nmetric = "latency"\nthreshold_s = 1e-9\n[[guardrails]]\nmetric = "latency"\nthreshold_s = 100.0\n'
    )

    def forecast(criteria, traffic):
        asked.append(traffic)
        raise ConfigurationError("enough")

    monkeypatch.setattr("rollout_sdk.cli.planning.forecast", forecast)
    for more in ([], ["--slow-rate", "0.25"]):
        CliRunner().invoke(main, ["plan", "--plan", str(path), "--journal", folder, *more], catch_exceptions=False)
    measured, given = asked
    assert [1.0, 0.0] == pytest.approx(sorted(measured.slow_rates.values(), reverse=True), abs=0.01)
    assert (0.25, {}) == (given.slow_rate, given.slow_rates)


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ([], "Pass --units, or a journal to read it from"),
        (["--units", "1000", "--rollout", "m", "--metric", "click=0.1"], "Pass --journal DIR, too"),
        (["--journal", "{journal}", "--rollout", "other"], "is empty: no process has written there yet"),
    ],
)
def test_a_forecast_without_traffic_asks_for_it(tmp_path, plan, words, problem):
    (tmp_path / "j").mkdir()
    words = [word.format(journal=tmp_path / "j") for word in words]
    result = CliRunner().invoke(main, ["plan", "--plan", str(plan), *words])
    assert result.exit_code in (2, 5)
    assert problem in " ".join(result.output.split())


def test_a_gate_without_its_metric_today_is_asked_for(plan):
    result = CliRunner().invoke(main, ["plan", "--plan", str(plan), "--units", "1000"])
    assert (2, True) == (result.exit_code, "--metric click=0.1" in result.output)


def test_the_folder_of_a_journal_may_be_in_the_environment(tmp_path, plan):
    where = {"ROLLOUT_JOURNAL": str(journalled(tmp_path / "j"))}
    for words in (["report"], ["replay", "--plan", str(plan), "--every", "1h"], ["plan", "--plan", str(plan)]):
        result = CliRunner().invoke(main, words, env=where, catch_exceptions=False)
        assert (0, True) == (result.exit_code, "m" in result.output), result.output
    # Who says how much traffic there is, asks no journal.
    words = ["plan", "--plan", str(plan), "--units", "1000", "--metric", "click=0.1"]
    text = CliRunner().invoke(main, words, env={"ROLLOUT_JOURNAL": "/nowhere"}, catch_exceptions=False).output
    assert "from the journal" not in text


@pytest.mark.parametrize("words", [["report"], ["replay"], ["plan"]], ids=lambda words: words[0])
def test_without_any_folder_a_command_asks_for_it_and_an_empty_one_is_exit_code_5(tmp_path, plan, words):
    options = [] if words == ["report"] else ["--plan", str(plan)]
    result = CliRunner().invoke(main, [*words, *options], env={"ROLLOUT_JOURNAL": ""})
    assert (2, True) == (result.exit_code, "ROLLOUT_JOURNAL" in result.output), result.output
    (tmp_path / "j").mkdir()
    result = CliRunner().invoke(main, [*words, *options], env={"ROLLOUT_JOURNAL": str(tmp_path / "j")})
    assert (5, True) == (result.exit_code, "is empty" in result.output), result.output


def test_a_journal_with_damaged_lines_is_reported_and_is_exit_code_6(tmp_path, plan):
    folder = journalled(tmp_path / "j")
    (file, *_) = folder.glob("events-*.jsonl")
    for words in (["report"], ["report", "--json"], ["replay", "--plan", str(plan), "--every", "1h"]):
        assert 0 == CliRunner().invoke(main, [words[0], str(folder), *words[1:]], catch_exceptions=False).exit_code
    # A last line without an end is being written, or was cut by a kill: that costs a record, and is no damage.
    with file.open("ab") as stream:
        stream.write(b'{"event": "decis')
    assert 0 == CliRunner().invoke(main, ["report", str(folder)], catch_exceptions=False).exit_code
    with file.open("ab") as stream:
        stream.write(b"\nnonsense\n")
    for words in (["report"], ["report", "--json"], ["replay", "--plan", str(plan), "--every", "1h"]):
        result = CliRunner().invoke(main, [words[0], str(folder), *words[1:]], catch_exceptions=False)
        assert (6, True) == (result.exit_code, "2 lines or files" in result.output), result.output
        assert len(result.output.splitlines()) > 5


@pytest.mark.parametrize("options", [[], ["--full"]], ids=["short", "full"])
def test_the_report_fits_80_columns(tmp_path, options):
    words = ["report", str(journalled(tmp_path / "j", errors=0.1)), *options]
    output = CliRunner().invoke(main, words, catch_exceptions=False).output
    assert 80 >= max(map(len, output.splitlines()))
    if options:
        # What did not fit beside it stands below, under the same names.
        assert 2 <= output.count("    candidate  ")
        assert "p99 ms" in output


@pytest.mark.parametrize("words", [["replay", "{journal}"], ["plan", "--journal", "{journal}"]], ids=lambda words: words[0])
def test_a_rollout_that_a_journal_does_not_have_is_answered_with_the_nearest(tmp_path, plan, words):
    runtime = Runtime(journal=tmp_path / "j", time_ns=Clock())
    model = rollout(candidate=lambda u: 1, strategy=Canary(["50%"]), unit="u", key="shop.rank", runtime=runtime)(lambda u: 0)
    model("u")
    runtime.close(10.0)
    words = [word.format(journal=tmp_path / "j") for word in words]
    result = CliRunner().invoke(main, [*words, "--plan", str(plan), "--rollout", "shop.rnak"])
    assert (1, True) == (result.exit_code, "Did you mean 'shop.rank'?" in result.output), result.output
