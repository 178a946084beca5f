"""Every finding about the rollouts in a journal, and the numbers behind it."""

import math
import os

import pytest

from rollout_sdk.doctor import as_text
from rollout_sdk.doctor.advice_rollouts import SHADOW_CURES
from rollout_sdk.journal.writer import host_name
from rollout_sdk.records import ShadowEnd
from rollout_sdk.stats import srm_log_e
from tests.doctor.lines import NOW, about, breaker, decision, record, shadow, transition


def of(diagnosis, code):
    return [finding for finding in diagnosis.findings if finding.code == code]


def only(diagnosis, code):
    (found,) = of(diagnosis, code)
    return found


def told(diagnosis):
    return diagnosis.as_dict()["journal"]["rollouts"]["r"]


def arms(diagnosis):
    """The arms of the report's only phase, by variant."""
    (reported,) = diagnosis.journal.report.rollouts
    (phase,) = reported.phases
    return {arm.variant: arm for arm in phase.variants}


def running(number=0):
    """The name of a file that may still be written; processes elsewhere, but for the first."""
    return f"events-{'elsewhere' if number else host_name()}-{number or os.getpid()}-{int((NOW - 3600) * 1e9):x}-0.jsonl"


FAILED = {"served": "control", "runs": [["v2", 0.1, "ValueError", None], ["control", 0.1, None, None]]}


def test_a_candidate_that_fails_is_a_warning(write, look):
    write(about(), *[decision("v2")] * 98, *[decision("v2", **FAILED)] * 2)
    found = only(look(), "rollout.candidate_fails")
    assert "Candidate 'v2' of 'r' failed in 2 of 100 runs (2.0 %): ValueError 2." == found.what
    assert ("warning", 2) == (found.severity, arms(look())["v2"].fallbacks)


def test_a_candidate_that_hardly_ever_fails_is_a_note(write, look):
    write(about(), *[decision("v2")] * 199, decision("v2", **FAILED))
    assert "note" == only(look(), "rollout.candidate_fails").severity


def test_a_control_that_fails_is_a_note(write, look):
    write(about(), decision(runs=[["control", 0.1, "KeyError", None]], error="KeyError"))
    assert ("note", {"KeyError": 1}) == (only(look(), "rollout.control_fails").severity, told(look())["failed"])


def test_calls_in_which_a_candidate_was_not_run_are_a_note(write, look):
    write(about(), decision("v2", served="control", withheld="breaker_open"))
    assert "breaker_open 1" in only(look(), "rollout.withheld").what
    assert {"breaker_open": 1} == arms(look())["v2"].withheld


def test_a_strategy_that_fails_is_a_warning(write, look):
    write(about(), decision(reason="error", excluded=True))
    assert "warning" == only(look(), "rollout.strategy_failed").severity


@pytest.mark.parametrize(("without", "severity"), [(4, "note"), (5, "warning")])
def test_calls_without_a_unit_are_told(write, look, without, severity):
    write(about(), *[decision(reason="no_unit", excluded=True)] * without, *[decision()] * (100 - without))
    assert severity == only(look(), "rollout.no_unit").severity


def test_calls_with_an_argument_that_is_read_once_are_a_note(write, look):
    write(about(), decision(reason="one_shot", excluded=True))
    assert "note" == only(look(), "rollout.one_shot").severity


@pytest.mark.parametrize("status", ["aborted", "paused", "promoted"])
def test_a_rollout_that_is_over_or_waits_is_a_note(write, look, status):
    write(about(), transition(status[:-1], status, t=NOW - 5), about(t=NOW - 6))
    assert ("note", status) == (only(look(), f"rollout.{status}").severity, told(look())["status"])


def test_processes_that_stand_in_different_places_are_a_warning(write, look):
    write(about(), transition("promote", "running"), name=running())
    write(about(), name=running(7))
    found = only(look(), "rollout.processes_differ")
    assert ("warning", True) == (found.severity, "running in 0:50%: 1" in found.what and "running in 1:100%: 1" in found.what)


def test_what_several_processes_tell_of_one_transition_is_one(write, look):
    abort = transition("abort", "aborted", to_phase="1:aborted", t=NOW - 5, id="7f", actor="ann")
    write(about(), transition("promote", "running", t=NOW - 7, id="6e"), abort, name=running())
    # It had its first call after the abort was made and before it heard of it, and has had none since.
    write(about(t=NOW - 4), {**abort, "revision": 2}, name=running(7))
    seen = look()
    (reported,) = seen.journal.report.rollouts
    assert [("promote", "6e"), ("abort", "7f")] == [(each["action"], each["id"]) for each in reported.transitions]
    assert ("aborted", []) == (told(seen)["status"], of(seen, "rollout.processes_differ"))


def made(fingerprint, version, **made_of):
    return {"fingerprint": fingerprint, "version": version, "made_of": {"unit": "user", "version": version, **made_of}}


def test_running_processes_with_different_fingerprints_are_a_warning_that_says_how_they_differ(write, look):
    write(about(**made("1a", "2", hash_key="default")), name=running())
    write(about(**made("2b", "2", hash_key="77", layer=["L", 0, 1])), name=running(7))
    found = only(look(), "rollout.fingerprints")
    assert ("warning", True, True) == (found.severity, "1a (version 2): 1" in found.what, "2b (version 2): 1" in found.what)
    assert found.what.endswith("They differ in: hash key.")
    write(about(**made("1a", "2", hash_key="default")), name=running(7))
    assert [] == of(look(), "rollout.fingerprints")


def test_processes_whose_fingerprints_differ_in_the_code_alone_may_have_one_candidate_all_the_same(write, look):
    for name, code in (("1a", "aa"), ("2b", "bb")):
        write(about(**made(name, "", code=code)), name=running(len(name + code) + int(name[0])))
    found = only(look(), "rollout.fingerprints")
    assert (True, True) == (found.what.endswith("They differ in: code."), found.cure.endswith("then its code does not count."))


def test_forms_of_the_code_that_a_store_has_pooled_are_a_note(write, look):
    write(about(**made("1a", "", code="aa")), decision(fingerprint="1a"), name=running())
    assert [] == of(look(), "rollout.code")
    write(about(**made("1a", "", code="bb")), about(**made("1a", "", code={"v2": "cc"})), name=running(7))
    found = only(look(), "rollout.code")
    assert ("note", True, True) == (found.severity, "2 forms of the code" in found.what, "version=" in found.cure)


def test_phases_of_two_fingerprints_are_not_one(write, look):
    write(
        *(about(**made(name, "")) for name in ("1a", "2b")),
        decision(fingerprint="1a"),
        decision("v2", fingerprint="2b"),
        decision("v2", fingerprint="2b"),
    )
    calls = {
        each.fingerprint: {arm.variant: arm.calls for phase in each.phases for arm in phase.variants}
        for each in look().journal.report.rollouts
    }
    assert {"1a": {"control": 1}, "2b": {"v2": 2}} == calls


def test_a_process_that_has_ended_stands_nowhere(write, look, folder):
    write(about(), transition("promote", "running"), name=running())
    write(about(), name=f"events-{host_name()}-{2**22 + 1}-1-0.jsonl")
    assert [] == of(look(), "rollout.processes_differ")


@pytest.mark.parametrize(("action", "status"), [("abort", "aborted"), ("roll_back", "rolled_back")])
def test_a_breaker_that_was_open_when_the_rollout_was_stopped_is_no_cause_for_alarm(write, look, action, status):
    write(about(), breaker("open", t=NOW - 40), transition(action, status, t=NOW - 30), name=running())
    assert "note" == only(look(), "rollout.breaker_open").severity


def test_an_open_breaker_is_an_error(write, look):
    write(about(), breaker("open", t=NOW - 100), breaker("open", t=NOW - 40, cooldown_s=60.0), name=running())
    seen = look()
    found = only(seen, "rollout.breaker_open")
    assert (
        "The circuit breaker of 'v2' of 'r' is open in 1 process: 20 of the last 25 runs failed, and it is not run."
        == found.what
    )
    state = told(seen)["breakers"]["v2"]
    assert ("error", 2, 0, 1, 60.0) == (
        found.severity,
        *[state[name] for name in ("opened", "closed", "open_now", "cooldown_s")],
    )
    assert 100 == pytest.approx(state["open_s"])


def test_a_breaker_that_closed_again_is_a_warning(write, look):
    write(about(), breaker("open", t=NOW - 300), breaker("close", t=NOW - 60), name=running())
    seen = look()
    assert ("warning", []) == (only(seen, "rollout.breaker_opened").severity, of(seen, "rollout.breaker_open"))
    assert 240 == pytest.approx(told(seen)["breakers"]["v2"]["open_s"])


def test_a_breaker_of_a_process_that_has_ended_is_not_open_now(write, look):
    write(
        about(t=NOW - 400),
        breaker("open", t=NOW - 300),
        decision(t=NOW - 200),
        name=f"events-{host_name()}-{2**22 + 1}-1-0.jsonl",
    )
    state = told(look())["breakers"]["v2"]
    assert (0, 100) == (state["open_now"], pytest.approx(state["open_s"]))


def test_a_breaker_is_followed_from_one_file_of_a_process_to_the_next(write, look):
    first = running()
    write(about(), breaker("open", t=NOW - 300), name=first)
    for part in range(1, 10):
        write(decision(), name=first.replace("-0.jsonl", f"-{part}.jsonl"))
    write(breaker("close", t=NOW - 200), name=first.replace("-0.jsonl", "-10.jsonl"))
    state = told(look())["breakers"]["v2"]
    assert (0, 100) == (state["open_now"], pytest.approx(state["open_s"]))


@pytest.mark.parametrize("end", sorted(set(ShadowEnd.__args__) - {"ok", "dropped_aborted"}))
def test_shadows_that_do_not_end_well_are_a_warning_with_the_cure_of_the_most(write, look, end):
    other = "error" if end != "error" else "timeout"
    write(about(), *[shadow("ok")] * 80, *[shadow(end)] * 15, *[shadow(other)] * 5)
    found = only(look(), "rollout.shadows_incomplete")
    assert ("warning", SHADOW_CURES[end]) == (found.severity, found.cure)
    assert found.what.startswith(f"20 of 100 shadow runs of 'v2' of 'r' did not succeed, most of them '{end}'")


def test_a_few_shadows_that_do_not_end_well_are_a_note(write, look):
    write(about(), *[shadow("ok")] * 95, *[shadow("timeout")] * 5)
    assert "note" == only(look(), "rollout.shadows_incomplete").severity


def test_shadows_that_an_operator_has_stopped_are_no_cause_for_a_warning(write, look):
    write(about(), *[shadow("ok")] * 2, *[shadow("dropped_aborted")] * 18)
    found = only(look(), "rollout.shadows_incomplete")
    assert ("note", True) == (found.severity, "all of them 'dropped_aborted'" in found.what)
    write(about(), *[shadow("ok")] * 8, *[shadow("dropped_aborted")] * 90, *[shadow("timeout")] * 2)
    assert "warning" == only(look(), "rollout.shadows_incomplete").severity


def test_why_arguments_could_not_be_copied_is_told(write, look):
    write(about(), *[shadow("dropped_snapshot", error="unknown type Model")] * 3)
    assert "all of them 'dropped_snapshot' (unknown type Model 3)" in only(look(), "rollout.shadows_incomplete").what


def test_shadows_of_which_no_end_is_known_are_a_note(write, look):
    write(about(), *[decision(shadows=["v2"])] * 10, *[shadow("ok")] * 7)
    assert "No end is recorded of 3 shadow runs of 'v2' of 'r'" in only(look(), "rollout.shadows_unaccounted").what


def test_a_rollout_with_nothing_wrong_is_said_to_be_so(write, look):
    write(about(), decision(shadows=["v2"]), shadow("ok"))
    assert "ok" == only(look(), "rollouts.ok").severity


def test_outcomes_are_counted_without_duplicates(write, look):
    write(about(), *[record("outcome", rollout="r", metric="click", value=value, id="d") for value in (1.0, 1.0, 2.0)])
    assert 2 == told(look())["outcomes"]


def test_the_strategy_is_known_from_calls_where_the_rollouts_own_line_is_missing(write, look):
    write(decision())
    assert "ab" == told(look())["sets"][0]["strategy"]


def units(control, candidate, *, first=0, **fields):
    """One call each of so many units in either arm."""
    for n in range(control + candidate):
        # Spread evenly, because the report looks at the evidence again and again.
        is_control = (n + 1) * control // (control + candidate) > n * control // (control + candidate)
        at = {"t": NOW - 10 + n / 1_000, **fields}
        yield decision("control" if is_control else "v2", unit=f"u{first + n}", **at)


def test_a_sample_ratio_mismatch_is_an_error(write, look):
    write(about(), *units(600, 400))
    seen = look()
    found = only(seen, "rollout.shares")
    assert ("error", True) == (
        found.severity,
        found.what.startswith("Sample ratio mismatch in 'r': the arms do not have the configured shares of 1,000 units"),
    )
    assert told(seen)["sets"][0]["mismatch"]
    assert "shares: sample ratio mismatch" in as_text(seen)


def test_the_alarm_takes_evidence_of_a_thousand(write, look):
    sizes = next(n for n in range(500, 1000) if srm_log_e([n, 1000 - n], [0.5, 0.5]) >= math.log(1000))
    write(about(), *units(sizes, 1000 - sizes))
    assert "error" == only(look(), "rollout.shares").severity
    write(about(), *units(sizes - 1, 1001 - sizes))
    assert [] == of(look(), "rollout.shares")
    assert "shares: as configured, as far as the units can tell" in as_text(look())


def test_calls_of_one_unit_and_of_later_phases_count_once_for_the_shares(write, look):
    shares = {"control": 0.9, "v2": 0.1}
    ramp = record("transition", rollout="r", action="promote", status="running", to_phase="1:90%", shares=shares)
    # The later phase is read first, and the control's units come ten times.
    again = [*units(100, 100, phase="1:90%", t=NOW - 5)] * 10
    write(about(), ramp, *again, *units(100, 100, t=NOW - 50))
    (reported,) = look().journal.report.rollouts
    assert srm_log_e([100, 100], [0.5, 0.5]) == pytest.approx(reported.shares.log_e)
    assert 200 == sum(sum(phase.units.values()) for phase in reported.shares.phases)


def test_calls_without_a_unit_are_units_of_their_own_for_the_shares(write, look):
    write(about(), *(decision("v2" if number % 3 == 2 else "control", id=f"d{number}") for number in range(450)))
    assert "error" == only(look(), "rollout.shares").severity


def test_shadows_have_no_shares_to_check(write, look):
    write({**about(), "shares": {"control": 1.0, "v2": 0.0}}, *[decision(unit=f"u{n}", shadows=["v2"]) for n in range(300)])
    assert [] == of(look(), "rollout.shares")
    assert "shares: not checked" in as_text(look())


@pytest.mark.parametrize(("calls", "others", "warned"), [(100, 899, True), (100, 901, False), (99, 10, False)])
def test_a_unit_with_most_of_the_calls_of_an_arm_is_a_warning(write, look, calls, others, warned):
    write(about(), *[decision("v2", unit="bot")] * calls, *[decision("v2", unit=f"u{n}") for n in range(others)])
    assert warned == bool(of(look(), "rollout.heavy_unit"))
    assert calls / (calls + others) == pytest.approx(arms(look())["v2"].heaviest)


def test_a_heavy_unit_is_named_by_its_share_and_not_by_its_id(write, look):
    write(about(), *[decision("v2", unit="anonymous")] * 900, *[decision("v2", unit=f"u{n}") for n in range(100)])
    found = only(look(), "rollout.heavy_unit")
    assert ("warning", True) == (found.severity, "The heaviest unit makes 90.0 % of the 1,000 calls of 'v2'" in found.what)
    assert "anonymous" not in found.what
