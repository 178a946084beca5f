"""The report, held against journals written by hand, whose results are known."""

import json
import random

import pytest
from click.testing import CliRunner

from rollout_sdk import ABTest, Canary, ConfigurationError, Interleave, Runtime, rollout
from rollout_sdk.analysis import as_screen, as_text, summarise
from rollout_sdk.cli import main
from rollout_sdk.interleaving import Balanced, Optimized, PairwisePreference, Probabilistic, TeamDraft
from rollout_sdk.stats import ratio_of_sums, srm_log_e


def decision(number, variant="control", *, unit=None, phase="0:50%", t=None, **more):
    return {
        "event": "decision", "v": 1, "t": 1000.0 + number if t is None else t,
        "rollout": "r", "id": f"d{number}", "strategy": "ab",
        "phase": phase, "variant": variant, "served": variant, "reason": "split", "propensity": 0.5, "share": 0.5,
        "bucket": number % 512, "unit": unit, "runs": [[variant, 0.001 * (number + 1), None, None]], **more,
    }  # fmt: skip


def outcome(value, *, number=None, unit=None, metric="click", t=2000.0, **more):
    address = {"unit": unit} if number is None else {"id": f"d{number}"}
    return {"event": "outcome", "v": 1, "t": t, "rollout": "r", "metric": metric, "value": value, **address, **more}


def journal(folder, *records):
    lines = [record if isinstance(record, bytes) else json.dumps(record).encode() for record in records]
    (folder / "events-a.jsonl").write_bytes(b"\n".join(lines) + b"\n")
    return summarise(folder)


def only(report):
    (one,) = report.rollouts
    return one


def phases(report):
    return {phase.phase: {variant.variant: variant for variant in phase.variants} for phase in only(report).phases}


def test_calls_units_and_realised_shares_are_counted(tmp_path):
    records = [decision(n, "control" if n < 6 else "candidate", unit=f"u{n // 2}") for n in range(8)]
    variants = phases(journal(tmp_path, *records))["0:50%"]
    assert (6, 3, 0.75, 0.75, 0.5) == (
        variants["control"].calls, variants["control"].units, variants["control"].share_of_calls,
        variants["control"].share_of_units, variants["control"].share_configured,
    )  # fmt: skip
    assert (2, 1, 0.25) == (variants["candidate"].calls, variants["candidate"].units, variants["candidate"].share_of_calls)


def test_a_metric_is_clustered_by_unit(tmp_path):
    records = [decision(n, unit=f"u{n // 3}") for n in range(9)]
    clicks = [outcome(1, number=n) for n in (0, 1, 4)]
    (metric,) = phases(journal(tmp_path, *clicks, *records))["0:50%"]["control"].metrics
    assert ratio_of_sums([(2, 3), (1, 3), (0, 3)], within=(0, 1)) == metric.per_call
    assert (3, 1.0) == (metric.outcomes, metric.per_outcome.mean)


def test_calls_without_a_unit_are_units_of_their_own(tmp_path):
    variant = phases(journal(tmp_path, *[decision(n) for n in range(5)]))["0:50%"]["control"]
    assert (5, 5) == (variant.calls, variant.units)


def test_phases_are_never_pooled(tmp_path):
    records = [decision(0, unit="u"), decision(1, unit="u", phase="1:90%"), outcome(1, number=0), outcome(0, number=1)]
    found = phases(journal(tmp_path, *records))
    assert {"0:50%": 1.0, "1:90%": 0.0} == {phase: arms["control"].metrics[0].per_call.mean for phase, arms in found.items()}


def test_latencies_are_exact_quantiles_of_the_assigned_variants_runs(tmp_path):
    latency = phases(journal(tmp_path, *[decision(n) for n in range(101)]))["0:50%"]["control"].latency["control"]
    assert (101, 0.051, 0.096, 0.100) == pytest.approx((latency.runs, latency.p50_s, latency.p95_s, latency.p99_s))


def test_a_failure_stays_the_candidates_and_the_controls_rescue_is_no_sample_of_its_latency(tmp_path):
    runs = [["candidate", 0.5, "ValueError", None], ["control", 9.0, None, None]]
    records = [decision(0, "candidate", served="control", runs=runs), decision(1)]
    variants = phases(journal(tmp_path, *records))["0:50%"]
    assert ({"ValueError": 1}, 1.0, 1) == (
        variants["candidate"].errors,
        variants["candidate"].error_rate,
        variants["candidate"].fallbacks,
    )
    assert {"candidate"} == set(variants["candidate"].latency)
    assert 1 == variants["control"].latency["control"].runs


def test_an_outcome_of_a_unit_goes_to_its_last_call_before_it(tmp_path):
    records = [
        decision(0, "control", unit="u", t=10.0),
        decision(1, "candidate", unit="u", t=20.0, phase="1:90%"),
        outcome(5, unit="u", t=15.0),
        outcome(7, unit="u", t=25.0),
        outcome(9, unit="u", t=5.0),
        outcome(9, unit="stranger", t=50.0),
    ]
    report = journal(tmp_path, *records)
    found = phases(report)
    assert 5 == found["0:50%"]["control"].metrics[0].per_call.mean
    assert 7 == found["1:90%"]["candidate"].metrics[0].per_call.mean
    assert {"unit without an earlier call": 2} == only(report).problems
    assert 2 == only(report).joined
    assert "Outcomes of units: 2 went to the call before, 2 without an earlier call" in " ".join(as_text(report).split())


def test_excluded_calls_are_counted_by_reason_and_their_outcomes_not_used(tmp_path):
    records = [decision(0), decision(1, excluded=True, reason="override"), outcome(1, number=1), outcome(1, number=99)]
    report = only(journal(tmp_path, *records))
    assert {"override": 1} == report.excluded
    assert {"of excluded calls": 1, "unknown decision": 1} == report.problems
    assert 1 == report.phases[0].variants[0].calls


def test_an_outcome_before_its_decision_in_the_file_or_in_another_file_is_found(tmp_path):
    (tmp_path / "events-0.jsonl").write_text(json.dumps(outcome(1, number=0)) + "\n")
    metrics = phases(journal(tmp_path, decision(0)))["0:50%"]["control"].metrics
    assert 1.0 == metrics[0].per_call.mean


def shadow(number, end="ok", **more):
    return {
        "event": "shadow",
        "v": 1,
        "rollout": "r",
        "id": f"d{number}",
        "phase": "0:50%",
        "variant": "v2",
        "end": end,
        **more,
    }


def test_shadow_agreement_speaks_of_the_runs_that_came_back(tmp_path):
    records = [decision(n, unit=f"u{n}", shadows=["v2"]) for n in range(5)]
    ends = [
        shadow(0, match=1, difference=0.0, duration_s=1.0, unit="u0"),
        shadow(1, match=0, difference=0.5, difference_reason="value", duration_s=3.0, unit="u1"),
        shadow(2, "error", error="KeyError", duration_s=2.0),
        shadow(3, "dropped_full"),
    ]
    (found,) = only(journal(tmp_path, *records, *ends)).phases[0].shadows
    assert (5, 3 / 5, 2, 0.5, 0.25) == (
        found.planned,
        found.completeness,
        found.compared,
        found.agreement.mean,
        found.difference.mean,
    )
    assert ({"value": 1}, {"KeyError": 1}, 2.0) == (found.reasons, found.errors, found.latency.p50_s)


@pytest.mark.parametrize(("dropped", "warned"), [(5, False), (6, True)])
def test_agreement_of_few_of_the_shadows_is_said_to_be_that_of_few(tmp_path, dropped, warned):
    records = [decision(n, unit=f"u{n}", shadows=["v2"]) for n in range(100)]
    ends = [shadow(n, *(["dropped_full"] if n < dropped else []), match=1, duration_s=1.0, unit=f"u{n}") for n in range(100)]
    text = as_text(journal(tmp_path, *records, *ends))
    assert warned == ("less than 95 % of the shadows of v2 came back" in " ".join(text.split()))


def interleaved(number, **more):
    shown = {"blend": ["control", "v2"], "items": ["a", "b", "c"], "teams": [None, "control", "v2"]}
    return decision(number, "interleaved", unit=f"u{number}", **shown, **more)


def test_a_list_is_won_by_the_team_with_more_clicks_and_no_click_is_a_tie(tmp_path):
    clicks = [(0, "c"), (1, "b"), (2, "c"), (3, "a"), (5, "b"), (5, "c"), (2, "zzz")]
    records = [interleaved(n) for n in range(6)] + [outcome(1, number=n, item=item) for n, item in clicks]
    report = only(journal(tmp_path, *records))
    (preference,) = report.phases[0].preferences
    assert ("v2", "click", 6, 2, 1, 3) == (
        preference.candidate, preference.metric, preference.lists, preference.wins, preference.losses, preference.ties,
    )  # fmt: skip
    assert (2 + 3 / 2) / 6 - 1 / 2 == pytest.approx(preference.preference.mean)
    assert {"unknown item": 1} == report.problems


def test_lists_that_were_not_interleaved_are_left_out(tmp_path):
    report = only(journal(tmp_path, interleaved(0), interleaved(1, excluded=True), outcome(1, number=0, item="c")))
    assert {"not interleaved": 1} == report.excluded
    assert 1 == report.phases[0].preferences[0].lists


def test_damaged_and_newer_lines_are_skipped_counted_and_said(tmp_path):
    damaged = [
        b'{"event":"decision"',
        b"\xff\xfe\x00",
        b"[1]",
        b'{"event":"decision","v":99}',
        b'{"event":"dance","v":1}',
        b"[" * 9999,
    ]
    report = journal(tmp_path, decision(0), *damaged)
    assert {"damaged": 4, "schema": 1, "unknown event": 1} == report.skipped
    assert 1 == only(report).phases[0].variants[0].calls
    # The line is wrapped.
    said = " ".join(as_text(report).split())
    assert "Lines skipped: damaged 4, unknown event 1, written by a newer SDK 1" in said


def test_lost_facts_are_said(tmp_path):
    report = journal(tmp_path, decision(0), {"event": "lost", "v": 1, "count": 7}, {"event": "lost", "v": 1, "count": 5})
    assert 12 == report.lost
    assert "Facts lost by writers with a full queue: 12" in as_text(report)


def test_lost_facts_of_several_files_add_up_and_no_line_takes_any_away(tmp_path):
    (tmp_path / "events-b.jsonl").write_text('{"event":"lost","v":1,"count":3}\n{"event":"lost","v":1,"count":-9}\n')
    report = journal(tmp_path, decision(0), {"event": "lost", "v": 1, "count": 7})
    assert (10, 4) == (report.lost, report.lines)


def test_where_nothing_was_lost_nothing_is_said(tmp_path):
    report = journal(tmp_path, decision(0))
    assert (0, False) == (report.lost, "Facts lost" in as_text(report))


@pytest.mark.parametrize("run", [["v2", 0.1, [], None], ["v2", 0.1, {}, None], ["v2", 0.1, None, "x"], [None, 0.1, None, None]])
def test_a_run_that_is_none_is_damage_and_stops_no_report(tmp_path, run):
    report = journal(tmp_path, decision(0), decision(1, runs=[run]), decision(2, "v2", runs=[["v2", 0.1, "E", None]]))
    variants = phases(report)["0:50%"]
    assert ({"damaged": 1}, 1, {"E": 1}) == (report.skipped, variants["control"].calls, variants["v2"].errors)


def test_an_empty_folder_reports_that_nothing_was_written(tmp_path):
    assert "No rollout has written here yet." in as_text(summarise(tmp_path))


def test_a_folder_that_is_not_there_is_a_clear_error(tmp_path):
    with pytest.raises(ConfigurationError, match="There is no journal folder"):
        summarise(tmp_path / "nowhere")


def lived(folder):
    """A journal written by the SDK itself."""
    runtime = Runtime(journal=folder)
    score = rollout(candidate=lambda user: 2, strategy=Canary(["50%", "90%"]), unit="user", key="score", runtime=runtime)(
        lambda user: 1
    )
    rank = rollout(candidate=lambda user: [2, 1], strategy=Interleave(), unit="user", key="rank", runtime=runtime)(
        lambda user: [1, 2]
    )
    fail = rollout(candidate=lambda user: 1 / 0, strategy=ABTest(0.5), unit="user", key="fail", runtime=runtime)(lambda user: 1)
    for step in range(2):
        for number in range(200):
            user = f"u{number % 50}"
            routed = score.rollout.route(user)
            score.rollout.record("value", routed.value, decision_id=routed.decision.id)
            listed = rank.rollout.route(user)
            rank.rollout.record("click", 1, decision_id=listed.decision.id, item=2)
            fail(user)
        if step == 0:
            score.rollout.promote(actor="ann", reason="good")
    runtime.close(10.0)
    return summarise(folder)


def test_what_was_lived_is_what_is_reported(tmp_path):
    report = lived(tmp_path)
    rollouts = {each.rollout: each for each in report.rollouts}
    for phase, share in zip(rollouts["score"].phases, (0.5, 0.9), strict=True):
        means = {variant.variant: variant.metrics[0].per_call.mean for variant in phase.variants}
        assert {"control": 1.0, "candidate": 2.0} == means
        assert {"control": pytest.approx(1 - share), "candidate": share} == {
            v.variant: v.share_configured for v in phase.variants
        }
        assert 200 == sum(variant.calls for variant in phase.variants)
    (preference,) = rollouts["rank"].phases[0].preferences
    assert (400, 400, 0.5) == (preference.lists, preference.wins, preference.preference.mean)
    candidate = next(variant for variant in rollouts["fail"].phases[0].variants if variant.variant == "candidate")
    assert ({"ZeroDivisionError": 20}, 1.0) == (candidate.errors, candidate.error_rate)
    assert {"breaker_open": candidate.calls - 20} == candidate.withheld
    assert [("promote", "ann", "good")] == [
        (t["action"], t["actor"], t["reason"]) for t in rollouts["score"].transitions if t["action"] != "start"
    ]


def test_the_command_prints_the_report(tmp_path):
    report = lived(tmp_path)
    text = CliRunner().invoke(main, ["report", str(tmp_path)], catch_exceptions=False)
    assert (0, as_screen(report) + "\n") == (text.exit_code, text.output)
    full = CliRunner().invoke(main, ["report", str(tmp_path), "--full"], catch_exceptions=False)
    assert (0, f"{as_screen(report)}\n\n{as_text(report)}\n") == (full.exit_code, full.output)


LOST_NOTHING = {"cut": 0, "missing": [], "repeated": 0, "sampled": 0}


def test_the_command_prints_as_json_what_the_lines_of_the_journal_say(tmp_path):
    """Counted by hand, and not by `as_dict`, which is what prints it."""
    failed = [["candidate", 0.25, "ValueError", None], ["control", 0.5, None, None]]
    journal(
        tmp_path,
        *(decision(number, unit=f"u{number % 2}") for number in range(4)),
        decision(4, "candidate", unit="u4"),
        decision(5, "candidate", unit="u5", served="control", runs=failed),
        decision(6, excluded=True, reason="override", unit="u6"),
        outcome(1, number=0),
        outcome(1, number=1),
        outcome(3, number=4),
        b"nothing",
    )
    ran = CliRunner().invoke(main, ["report", str(tmp_path), "--json"], catch_exceptions=False)
    printed = json.loads(ran.stdout)
    (found,) = printed.pop("rollouts")
    assert {
        "schema": 1,
        "folder": str(tmp_path),
        "files": 1,
        "lines": 11,
        "skipped": {"damaged": 1},
        "lost": 0,
        **LOST_NOTHING,
    } == printed
    assert ("r", "ab", "running", "control", {"override": 1}, {}, []) == tuple(
        found[name] for name in ("rollout", "strategy", "status", "control", "excluded", "problems", "transitions")
    )
    (phase,) = found["phases"]
    assert ("0:50%", 1000.0, 1005.0) == (phase["phase"], phase["first_s"], phase["last_s"])
    arms = {variant["variant"]: variant for variant in phase["variants"]}
    counted = ("calls", "units", "share_configured", "errors", "error_rate", "fallbacks", "withheld", "closed_early")
    assert [4, 2, 0.5, {}, 0.0, 0, {}, 0] == [arms["control"][name] for name in counted]
    assert [2, 2, 0.5, {"ValueError": 1}, 0.5, 1, {}, 0] == [arms["candidate"][name] for name in counted]
    shares = ("share_of_calls", "share_of_units", "effective_units", "heaviest")
    assert [4 / 6, 0.5, 2.0, 0.5] == pytest.approx([arms["control"][name] for name in shares])
    assert [2 / 6, 0.5, 2.0, 0.5] == pytest.approx([arms["candidate"][name] for name in shares])
    latency = {name: arms[name]["latency"][name] for name in arms}
    assert {"control": (4, 0.0025), "candidate": (2, 0.1275)} == {
        name: (each["runs"], pytest.approx(each["p50_s"])) for name, each in latency.items()
    }
    (clicks,), (theirs,) = (arms[name]["metrics"] for name in ("control", "candidate"))
    means = [
        (each["metric"], each["outcomes"], each["per_call"]["mean"], each["per_outcome"]["mean"]) for each in (clicks, theirs)
    ]
    assert [("click", 2, 0.5, 1.0), ("click", 1, 1.5, 3.0)] == means
    assert {"control", "candidate"} == set(found["shares"]["phases"][0]["units"])


def test_as_json_the_report_has_every_number_of_the_journal(tmp_path):
    """Written out here: what the report itself says as a table would be right whatever it is."""
    journal(tmp_path, decision(0, unit="u"), decision(1, "v2", unit="w"), outcome(0.5, number=1))
    printed = json.loads(CliRunner().invoke(main, ["report", str(tmp_path), "--json"], catch_exceptions=False).output)
    (rollout_,) = printed["rollouts"]
    (phase,) = rollout_["phases"]
    control, candidate = phase["variants"]
    assert [1, 3, {}, [], 0, 0] == [printed[name] for name in ("files", "lines", "skipped", "missing", "repeated", "lost")]
    assert ["r", "ab", "running", "0:50%"] == [*(rollout_[name] for name in ("rollout", "strategy", "status")), phase["phase"]]
    assert ["control", 1, 1, 0.001] == [
        control["variant"], control["calls"], control["units"], control["latency"]["control"]["p50_s"],
    ]  # fmt: skip
    (metric,) = candidate["metrics"]
    assert ["v2", 1, "click", 1, 0.5] == [
        candidate["variant"], candidate["calls"], metric["metric"], metric["outcomes"], metric["per_call"]["mean"],
    ]  # fmt: skip


def test_no_p_value_is_printed(tmp_path):
    text = as_text(lived(tmp_path)).lower()
    assert not any(word in text for word in ("p-value", "p =", "significant"))


def test_the_command_refuses_a_folder_that_is_not_there(tmp_path):
    result = CliRunner().invoke(main, ["report", str(tmp_path / "nowhere")])
    assert 2 == result.exit_code
    assert "does not exist" in result.output


@pytest.mark.parametrize("design", [Balanced(), Probabilistic(), Optimized(), PairwisePreference()], ids=repr)
def test_every_design_is_credited_from_the_journal_as_it_credits_itself(tmp_path, design):
    """The rule travels with the list: what is analysed next week is what the page was made by."""
    pages = []

    class Watched:
        def merge(self, rankings, **options):
            pages.append(design.merge(rankings, **options))
            return pages[-1]

    runtime, rng = Runtime(journal=tmp_path), random.Random(1)
    rank = rollout(
        candidate=lambda user: list("cabxd"), strategy=Interleave(Watched(), k=4), unit="user", key="rank", runtime=runtime
    )(lambda user: list("abcdy"))
    credit, preferred = [], []
    for number in range(60):
        listed = rank.rollout.route(f"u{number}")
        assert listed.value == list(pages[-1].keys)
        clicked = rng.sample(listed.value, rng.randrange(3))
        for item in clicked:
            rank.rollout.record("click", 1, decision_id=listed.decision.id, item=item)
        credit.append(pages[-1].credit(dict.fromkeys(clicked, 1.0)))
        preferred.append(pages[-1].preference(dict.fromkeys(clicked, 1.0)))
    runtime.close(10.0)
    (preference,) = summarise(tmp_path).rollouts[0].phases[0].preferences
    differences = [each["candidate"] - each["control"] for each in credit]
    assert preference.lists == 60
    assert (sum(d > 1e-9 for d in differences), sum(d < -1e-9 for d in differences)) == (preference.wins, preference.losses)
    assert preference.wins + preference.losses > 10
    assert sum(preferred) / 120 == pytest.approx(preference.preference.mean)
    fair = isinstance(design, Balanced | Probabilistic)
    assert fair == preference.is_fair
    assert fair == ("Lists that are won mean nothing in this design" not in as_text(summarise(tmp_path)))


def test_a_list_whose_rule_is_damaged_is_counted_and_spoils_nothing(tmp_path):
    rules = [{}, {"design": "dance"}, {**TeamDraft().merge({"control": "ab", "v2": "ba"}, seed=0).rule(), "design": "dance"}]
    records = [
        decision(n, "interleaved", unit=f"u{n}", blend=["control", "v2"], items=["a", "b"], rule=rule)
        for n, rule in enumerate(rules)
    ]
    report = only(journal(tmp_path, interleaved(9), *records, *(outcome(1, number=n, item="a") for n in range(3))))
    assert report.problems["unknown item"] >= 2


# What makes numbers doubtful ---------------------------------------------------------------------------------------------


def arms(control, candidate, *, phase="0:50%", first=0, **more):
    """One call each of so many units in either arm, those of the control first in the file, and evenly mixed in time."""
    whole, began = control + candidate, 1000.0 + first
    for n in range(control):
        yield decision(first + n, unit=f"u{first + n}", phase=phase, t=began + n * whole / control, **more)
    for n in range(candidate):
        at, number = began + (n + 0.5) * whole / candidate, first + control + n
        yield decision(number, "candidate", unit=f"u{number}", phase=phase, t=at, **more)


def rows(report, phase="0:50%"):
    return {name: {m.metric: m for m in variant.metrics} for name, variant in phases(report)[phase].items()}


def test_units_in_the_configured_shares_are_no_mismatch_and_the_report_says_so(tmp_path):
    report = journal(tmp_path, *arms(210, 190), outcome(1, number=0))
    shares = only(report).shares
    assert (srm_log_e([210, 190], [0.5, 0.5]), False) == (pytest.approx(shares.log_e), shares.is_mismatch)
    assert [("0:50%", {"control": 210, "candidate": 190})] == [(phase.phase, phase.units) for phase in shares.phases]
    text = as_text(report)
    assert "shares: as configured" in text
    assert "mismatch" not in text
    assert "control 210 (52.5 %, configured 50.0 %)" in text
    assert max(len(line) for line in text.splitlines() if "shares" in line or "units first seen" in line) <= 80


def test_a_sample_ratio_mismatch_is_named_and_no_interval_is_left(tmp_path):
    report = journal(tmp_path, *arms(600, 400), *(outcome(n % 2, number=n) for n in range(0, 1000, 3)))
    found, told_ = only(report), report.as_dict()["rollouts"][0]["shares"]
    assert (True, True) == (found.shares.is_mismatch, told_["is_mismatch"])
    assert told_["log_e"] > told_["needed"] == pytest.approx(6.9078, abs=1e-4)
    intervals = [each for arm in rows(report).values() for m in arm.values() for each in (m.per_call, m.per_outcome)]
    assert 4 == len(intervals)
    assert {(None, None, "sample ratio mismatch")} == {(each.low, each.high, each.caution) for each in intervals}
    assert all(each.mean is not None for each in intervals)
    text = as_text(report)
    assert "shares: sample ratio mismatch" in text
    assert "labels missing" not in text


def test_the_alarm_takes_evidence_of_a_thousand(tmp_path):
    sizes = next(n for n in range(500, 1000) if srm_log_e([n, 1000 - n], [0.5, 0.5]) >= 6.907756)
    assert only(journal(tmp_path, *arms(sizes, 1000 - sizes))).shares.is_mismatch
    assert not only(journal(tmp_path, *arms(sizes - 1, 1001 - sizes))).shares.is_mismatch


def test_an_alarm_is_not_forgotten_when_later_units_make_up_for_it(tmp_path):
    lost = list(arms(300, 150))
    # From then on the candidate gets more than its share, until both have as many.
    later = list(arms(150, 300, first=450))
    report = journal(tmp_path, *later, *lost)
    shares = only(report).shares
    assert (True, True) == (shares.is_mismatch, shares.log_e < 0 < shares.needed <= shares.highest_log_e)
    assert "sample ratio mismatch" in as_text(report)


def test_units_of_one_moment_are_no_mismatch(tmp_path):
    records = [decision(n, ("control", "candidate")[n % 2], unit=f"u{n}", t=5.0) for n in range(600)]
    assert not only(journal(tmp_path, *records)).shares.is_mismatch


def test_a_unit_counts_once_in_a_rollout_where_it_was_first_seen(tmp_path):
    ramp = [
        {"event": "transition", "v": 1, "t": t, "rollout": "r", "action": "promote", "to_phase": phase, "shares": shares}
        for t, phase, shares in (
            (1.0, "0:10%", {"control": 0.9, "candidate": 0.1}), (5000.0, "1:50%", {"control": 0.5, "candidate": 0.5}),
        )
    ]  # fmt: skip
    # All of the first phase come again, and they are not assigned anew: in the files, the later phase comes first.
    later = [
        decision(9000 + n, "candidate" if n < 50 else "control", unit=f"u{n}", phase="1:50%", t=9000.0) for n in range(100)
    ]
    fresh = [decision(8000 + n, "control" if n % 2 else "candidate", unit=f"w{n}", phase="1:50%", t=8000.0) for n in range(60)]
    first = [decision(n, "candidate" if n < 10 else "control", unit=f"u{n}", phase="0:10%", t=10.0 + n) for n in range(100)]
    found = only(journal(tmp_path, *ramp, *later, *fresh, *first))
    assert [{"control": 90, "candidate": 10}, {"control": 30, "candidate": 30}] == [p.units for p in found.shares.phases]
    expected = srm_log_e([90, 10], [0.9, 0.1]) + srm_log_e([30, 30], [0.5, 0.5])
    assert expected == pytest.approx(found.shares.log_e)


def test_shares_of_phases_in_which_a_candidate_only_shadows_are_not_checked(tmp_path):
    about = {
        "event": "rollout", "v": 1, "t": 1.0, "rollout": "r", "strategy": "canary", "control": "control",
        "phase": "0:shadow", "shares": {"control": 1.0, "candidate": 0.0}, "shadow": 1.0,
    }  # fmt: skip
    report = journal(tmp_path, about, *[decision(n, unit=f"u{n}", phase="0:shadow", share=1.0) for n in range(300)])
    assert ((), None, False) == (only(report).shares.phases, only(report).shares.log_e, only(report).shares.is_mismatch)
    assert "shares: not checked" in as_text(report)


def test_one_heavy_unit_is_named_with_its_share_and_leaves_no_interval(tmp_path):
    bot = [decision(1000 + n, "candidate", unit="bot") for n in range(900)]
    clicks = [outcome(1, number=n) for n in (*range(0, 200, 2), *range(1000, 1900))]
    report = journal(tmp_path, *arms(150, 150), *bot, *clicks)
    variants = phases(report)["0:50%"]
    assert (900 / 1050, 1050**2 / (900**2 + 150)) == pytest.approx(
        (variants["candidate"].heaviest, variants["candidate"].effective_units)
    )
    click = rows(report)
    assert (None, "one unit has 85.7% of the counts") == (
        click["candidate"]["click"].per_call.low, click["candidate"]["click"].per_call.caution,
    )  # fmt: skip
    assert (None, True) == (click["control"]["click"].per_call.caution, click["control"]["click"].per_call.low > 0)
    text = as_text(report)
    assert "few units in candidate: the heaviest unit makes 85.7 % of the calls" in text
    assert "few units in control" not in text


def test_an_interval_of_few_units_is_marked_and_the_mark_is_explained(tmp_path):
    few = as_text(journal(tmp_path, *arms(60, 60), *(outcome(1, number=n) for n in range(0, 120, 2))))
    assert 2 == few.count("]*")
    assert "An interval with * has too few units" in few
    many = as_text(journal(tmp_path, *arms(200, 200), *(outcome(1, number=n) for n in range(0, 400, 2))))
    assert "*" not in many
    assert "few units" not in many


def test_an_arm_without_an_outcome_has_a_row_with_the_interval_of_none_of_n(tmp_path):
    report = journal(tmp_path, *arms(200, 200), *(outcome(1, number=n) for n in range(0, 200, 2)))
    silent = rows(report)["candidate"]["click"]
    assert (0, 0.0, 0.0, None) == (silent.outcomes, silent.per_call.mean, silent.per_call.low, silent.per_outcome.mean)
    # Clopper and Pearson: 1 - .025^(1/200).
    assert 1 - 0.025 ** (1 / 200) == pytest.approx(silent.per_call.high)
    assert "candidate         0" in as_text(report)


def test_of_sums_without_a_bound_none_of_n_says_nothing_about_the_next(tmp_path):
    report = journal(tmp_path, *arms(200, 200), *(outcome(9.5, number=n, metric="revenue") for n in range(0, 200, 2)))
    silent = rows(report)["candidate"]["revenue"]
    assert (0.0, None, "all units are alike") == (silent.per_call.mean, silent.per_call.low, silent.per_call.caution)


def test_labels_that_one_arm_misses_are_flagged_and_clicks_that_it_misses_are_not(tmp_path):
    labels = [outcome(n % 3, number=n, metric="label") for n in range(1000) if n < 500 or n % 5]
    clicks = [outcome(1, number=n) for n in range(1000) if n < 500 or n % 5]
    report = journal(tmp_path, *arms(500, 500), *labels, *clicks)
    found = {label.metric: label for label in only(report).phases[0].labels}
    assert {"control": 1.0, "candidate": 0.8} == found["label"].rates == found["click"].rates
    assert (True, False, None) == (found["label"].differs, found["click"].differs, found["click"].log_e)
    assert found["label"].log_e > 6.9
    text = as_text(report)
    assert "units with label: control 100.0 %, candidate 80.0 %" in text
    assert 1 == text.count("labels missing: label is surely recorded more often in one arm")


def test_labels_that_all_arms_miss_alike_are_not_flagged(tmp_path):
    rng = random.Random(3)
    labels = [outcome(n % 2, number=n, metric="label") for n in range(2000) if rng.random() < 0.6]
    (label,) = only(journal(tmp_path, *arms(1000, 1000), *labels)).phases[0].labels
    assert (False, True) == (label.differs, label.log_e < 1)


def test_a_label_that_every_unit_has_has_no_rate(tmp_path):
    report = journal(tmp_path, *arms(20, 20), *(outcome(n % 2, number=n, metric="label") for n in range(40)))
    assert () == only(report).phases[0].labels
