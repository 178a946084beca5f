"""Every transition reaches every signal of every process that follows it, once, whoever made it."""

import threading

import pytest
import structlog
from attrs import evolve
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from rollout_sdk import Canary, Guardrail, Runtime, StateError, Step, StoreError, Telemetry, rollout
from rollout_sdk.analysis import as_text, summarise
from rollout_sdk.analysis.replay import replay
from rollout_sdk.control.control_file import WantedRollout
from rollout_sdk.control.state import RolloutState
from rollout_sdk.control.state_document import as_document, from_document
from rollout_sdk.control.stored_state import change_stored
from rollout_sdk.control.stores import MemoryStore
from rollout_sdk.journal import read_journal
from rollout_sdk.testing import RecordingPlugin
from tests.control.lost_store import LostStore

STEPS = ["20%", "40%", "60%"]
NOW_S = 1_800_000_000.0
PROMOTE = RolloutState.promote


class Shared:
    """One store of several processes, as one of them reaches it: some methods fail, and the answers of others are lost."""

    def __init__(self, store, dead=(), lost=()):
        self.store, self.dead, self.lost, self.calls = store, dead, lost, []

    def __getattr__(self, name):
        def call(*args, **kwargs):
            self.calls.append(name)
            if name in self.dead:
                raise StoreError(f"The store does not answer {name}.")
            result = getattr(self.store, name)(*args, **kwargs)
            if name in self.lost:
                raise StoreError(f"The answer to {name} is lost.")
            return result

        return call


ALL = ("load", "swap", "publish", "gather", "note", "noted", "history", "keys")


class Process:
    """One process of a store: it looks when the test asks it to, and keeps all that its signals tell."""

    def __init__(self, store, *, strategy=None, exporter=None, now_s=lambda: NOW_S, dead=(), lost=(), **options):
        self.store, self.seen = Shared(store, dead, lost), RecordingPlugin()
        self.exporter, self.reader = InMemorySpanExporter() if exporter is None else exporter, InMemoryMetricReader()
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        telemetry = Telemetry(tracer_provider=provider, meter_provider=MeterProvider([self.reader]))
        own = {name: options.pop(name) for name in ("journal", "control", "durability") if name in options}
        self.runtime = Runtime(
            store=self.store, telemetry=telemetry, plugins=[self.seen], time_ns=lambda: int(now_s() * 1e9), **own
        )
        self.runtime.reconciler.start = lambda: None
        strategy = Canary(STEPS, guardrails=[]) if strategy is None else strategy
        options |= {"candidate": lambda user: "new", "strategy": strategy, "unit": "user", "key": "model"}
        self.model = rollout(runtime=self.runtime, **options)(lambda user: "old")
        self.controller = self.model.rollout

    @property
    def kept(self):
        return self.runtime.reconciler.rollouts["model"]

    def look(self):
        self.runtime.reconciler.look(self.kept)

    def close(self):
        self.runtime.close(1.0)

    def told(self):
        """The transitions that observers heard of, but for the start."""
        assert self.runtime.flush(10.0)
        return [event for event in self.seen.transitioned if event.from_phase is not None]

    def spans(self):
        assert self.runtime.flush(10.0)
        spans = [span.attributes for span in self.exporter.get_finished_spans() if span.name == "transition model"]
        return [each["rollout.transition.id"] for each in spans if "rollout.transition.id" in each]

    def counted(self):
        """How many transitions were counted, but for starts."""
        assert self.runtime.flush(10.0)
        data = self.reader.get_metrics_data()
        metrics = [metric for r in (data.resource_metrics if data else ()) for s in r.scope_metrics for metric in s.metrics]
        points = [point for metric in metrics if metric.name == "rollout.transitions" for point in metric.data.data_points]
        return sum(point.value for point in points if point.attributes["rollout.transition.action"] != "start")


@pytest.fixture
def process():
    made = []

    def make(store, **options):
        made.append(Process(store, **options))
        return made[-1]

    yield make
    for each in made:
        each.close()


def by_command(store, action="promote", change=PROMOTE, *, actor="ann", reason="pager", now_s=NOW_S, mine=None):
    """What the command line does."""
    return change_stored(store, "model", action, change, now_s=now_s, actor=actor, reason=reason, mine=mine)


def said(events):
    return [(event.action, event.actor, event.reason) for event in events]


def actions(events):
    return [event.action for event in events]


# One change ------------------------------------------------------------------------------------------------------------


def test_a_change_by_the_command_line_reaches_every_signal_once(process, tmp_path):
    store = LostStore()
    one = process(store, journal=tmp_path)
    with structlog.testing.capture_logs() as logs:
        by_command(store, "abort", RolloutState.abort, now_s=NOW_S + 7)
        for _ in range(3):
            one.look()
        (event,) = one.told()
    assert [("abort", "ann", "pager")] == said([event])
    assert (NOW_S + 7, 1, "0:20%", "1:aborted", "aborted") == (
        event.time_s,
        event.revision,
        event.from_phase,
        event.to_phase,
        event.status,
    )
    assert [event.id] == one.spans()
    assert 1 == one.counted()
    logged = [each for each in logs if each["event"] == "rollout.transition"]
    assert [("abort", "ann", "pager", event.id, "warning")] == [
        (each["action"], each["actor"], each["reason"], each["transition_id"], each["log_level"]) for each in logged
    ]
    lines = [record for record in read_journal(tmp_path) if record["event"] == "transition"]
    assert [(event.id, "ann", NOW_S + 7)] == [(line["id"], line["actor"], line["t"]) for line in lines]
    assert [event.id] == [record["id"] for record in store.history("model") if record["action"] == "abort"]


@pytest.mark.parametrize(("durability", "waits"), [("flush", False), ("call", True)])
def test_only_who_asked_for_it_waits_for_the_journal_and_only_for_own_changes(
    durability, waits, process, tmp_path, monkeypatch
):
    store = LostStore()
    one = process(store, journal=tmp_path, durability=durability)
    one.model("u")
    waited = []
    kind = type(one.runtime.recorder)
    flush = kind.flush
    monkeypatch.setattr(kind, "flush", lambda *args: waited.extend(args[2:]) or flush(*args))
    one.controller.promote()
    assert waits == bool(waited)
    if waits:
        assert any('"promote"' in path.read_text() for path in tmp_path.iterdir())
    waited.clear()
    by_command(store)
    one.look()
    assert [] == waited
    assert ["promote", "promote"] == actions(one.told())


def test_the_span_of_a_change_made_elsewhere_has_its_time_and_shares_and_no_link(process):
    store = LostStore()
    one = process(store)
    by_command(store, now_s=NOW_S + 7)
    one.look()
    one.told()
    (span,) = [s for s in one.exporter.get_finished_spans() if s.attributes.get("rollout.transition.action") == "promote"]
    assert ((NOW_S + 7) * 1e9, 0, None) == (span.start_time, len(span.links), span.parent)
    weights = {each.attributes["feature_flag.result.variant"]: each.attributes for each in span.events}
    before_and_after = [weights["candidate"][f"rollout.variant.weight{end}"] for end in (".previous", "")]
    assert [0.2, 0.4] == before_and_after


def test_a_process_tells_its_own_change_once_and_the_others_tell_it_with_the_same_id(process):
    store = LostStore()
    one, two = process(store), process(store)
    one.controller.promote(actor="ann", reason="green")
    for _ in range(2):
        one.look()
        two.look()
    (own,), (followed,) = one.told(), two.told()
    assert own == followed
    assert [[own.id]] * 2 == [one.spans(), two.spans()]


def test_the_verdict_of_another_processs_judge_is_told_with_its_numbers(process):
    store = LostStore()
    one, two = process(store), process(store)
    evidence = {"outcome": "FAIL", "units": {"control": 3}, "findings": []}
    one.runtime.reconciler.transitions.change(
        "model", "roll_back", RolloutState.roll_back, actor="judge", reason="worse", evidence=evidence
    )
    two.look()
    (event,) = two.told()
    assert ("roll_back", "judge", "worse", evidence) == (event.action, event.actor, event.reason, event.evidence)
    (span,) = [s for s in two.exporter.get_finished_spans() if s.attributes.get("rollout.transition.id")]
    assert "verdict" == span.attributes["rollout.transition.reason"]


def test_what_the_control_file_wants_is_told_once_in_each_process_though_all_of_them_do_it(process, tmp_path):
    path = tmp_path / "control.toml"
    path.write_text('version = 1\n[rollouts.model]\nstatus = "aborted"\n')
    path.chmod(0o600)
    store = LostStore()
    one = process(store, control=path)
    two = process(store)
    two.controller.follow(disabled=False, wanted=WantedRollout(status="aborted"), version=1)
    for each in (one, two):
        each.look()
    # The second has joined a rollout that was aborted already.
    assert [[("abort", "control file", "version 1 of the control file")], []] == [said(one.told()), said(two.told())]


def test_each_process_that_follows_a_control_file_tells_of_one_abort(process):
    store = LostStore()
    both = [process(store), process(store)]
    for each in both:
        each.controller.follow(disabled=False, wanted=WantedRollout(status="aborted"), version=3)
    for each in both:
        each.look()
    assert [[("abort", "control file", "version 3 of the control file")]] * 2 == [said(each.told()) for each in both]
    assert 1 == len({event.id for each in both for event in each.told()})


def test_where_a_process_stands_costs_it_no_look_at_the_history(process):
    store = LostStore()
    one = process(store)
    one.controller.promote()
    for _ in range(3):
        one.look()
    assert "history" not in one.store.calls
    by_command(store)
    for _ in range(3):
        one.look()
    assert 1 == one.store.calls.count("history")


# Several changes -------------------------------------------------------------------------------------------------------


def test_changes_between_two_looks_are_told_one_by_one_in_order(process):
    store = LostStore()
    one = process(store)
    by_command(store, actor="ann", reason="first")
    by_command(store, "pause", RolloutState.pause, actor="bob", reason="lunch")
    by_command(store, "resume", RolloutState.resume, actor="bob", reason="back")
    by_command(store, "abort", RolloutState.abort, actor="cy", reason="pager")
    one.look()
    told = one.told()
    assert [
        ("promote", "ann", "first"),
        ("pause", "bob", "lunch"),
        ("resume", "bob", "back"),
        ("abort", "cy", "pager"),
    ] == said(told)
    assert [1, 2, 3, 4] == [event.revision for event in told]
    assert [("0:20%", "1:40%"), ("1:40%", "1:40%"), ("1:40%", "1:40%"), ("1:40%", "2:aborted")] == [
        (event.from_phase, event.to_phase) for event in told
    ]
    assert [event.id for event in told] == one.spans()


def test_what_others_have_done_is_told_before_what_this_process_does(process):
    store = LostStore()
    one = process(store)
    by_command(store, reason="theirs")
    one.controller.promote(actor="me", reason="mine")
    one.look()
    assert ["theirs", "mine"] == [event.reason for event in one.told()]


def test_a_process_that_joins_tells_nothing_of_what_was_before(process):
    store = LostStore()
    one = process(store)
    one.controller.promote()
    late = process(store)
    late.look()
    assert [] == late.told()
    by_command(store, "pause", RolloutState.pause)
    late.look()
    assert ["pause"] == actions(late.told())


def test_a_history_that_does_not_answer_delays_the_news_and_not_the_change(process):
    store = LostStore()
    one = process(store)
    one.store.dead = ("history",)
    by_command(store, "abort", RolloutState.abort)
    one.look()
    assert ("aborted", []) == (one.kept.state.status, one.told())
    assert {("store", "StoreError"): 1} == one.controller.status().faults
    one.store.dead = ()
    one.look()
    one.look()
    assert [("abort", "ann", "pager")] == said(one.told())


def test_what_is_done_while_the_history_is_read_is_told_when_it_is_followed(process):
    store = LostStore()
    one = process(store)
    by_command(store)
    real = store.store.history

    def history(key):
        if one.kept.state.status == "running" and len(real(key)) == 2:
            by_command(store, "pause", RolloutState.pause)
        return real(key)

    store.store.history = history
    one.look()
    assert ("running", ["promote"]) == (one.kept.state.status, actions(one.told()))
    one.look()
    assert ("paused", ["promote", "pause"]) == (one.kept.state.status, actions(one.told()))


def test_what_could_not_be_told_before_an_own_change_is_told_after_it(process):
    store = LostStore()
    one = process(store)
    by_command(store, reason="theirs")
    one.store.dead = ("history",)
    one.controller.promote(reason="mine")
    assert ["mine"] == [event.reason for event in one.told()]
    one.store.dead = ()
    one.look()
    one.look()
    assert ["mine", "theirs"] == [event.reason for event in one.told()]


# A store that does not answer ------------------------------------------------------------------------------------------


def test_an_abort_that_the_store_takes_later_is_told_once_everywhere(process):
    store = LostStore()
    one, two = process(store), process(store)
    one.store.dead = ALL
    one.controller.abort(actor="ann", reason="pager")
    (at_once,) = one.told()
    by_command(store, reason="they did not know")
    one.store.dead = ()
    for _ in range(2):
        one.look()
        two.look()
    assert [("abort", "ann", "pager"), ("promote", "ann", "they did not know")] == said(one.told())
    assert [("promote", "ann", "they did not know"), ("abort", "ann", "pager")] == said(two.told())
    assert at_once.id == two.told()[-1].id


def test_an_abort_whose_answer_was_lost_is_told_once_everywhere(process):
    store = LostStore()
    one, two = process(store), process(store)
    one.store.lost = ("swap",)
    one.controller.abort(actor="ann", reason="pager")
    one.store.lost = ()
    for _ in range(2):
        one.look()
        two.look()
    assert [one.told()[0].id] * 2 == [event.id for each in (one, two) for event in each.told()]


def test_what_came_before_an_abort_whose_answer_was_lost_is_told_as_well(process):
    store = LostStore()
    one = process(store)
    by_command(store)
    one.store.lost = ("swap",)
    one.controller.abort(actor="bob", reason="pager")
    one.store.lost = ()
    for _ in range(3):
        one.look()
    assert ["abort", "promote"] == actions(one.told())


def test_an_abort_is_stored_also_where_the_store_was_emptied_before_it_answered(process):
    store = LostStore()
    one, two = process(store), process(store)
    one.store.dead = ALL
    one.controller.abort(actor="ann", reason="pager")
    store.store, one.store.dead = MemoryStore(), ()
    for _ in range(3):
        one.look()
        two.look()
    assert ["aborted"] * 2 == [each.kept.state.status for each in (one, two)]
    assert [[("abort", "ann", "pager")]] * 2 == [said(each.told()) for each in (one, two)]
    assert [("abort", "ann", "pager")] == [(r["action"], r["actor"], r["reason"]) for r in store.history("model")]


def test_a_step_whose_answer_was_lost_is_told_when_it_is_found(process):
    store = LostStore()
    one = process(store)
    one.store.lost = ("swap",)
    with pytest.raises(StoreError, match="lost"):
        one.controller.promote(actor="ann", reason="green")
    assert [] == one.told()
    one.store.lost = ()
    one.look()
    one.look()
    assert [("promote", "ann", "green")] == said(one.told())


def test_two_that_stop_it_while_the_store_is_down_have_both_done_so(process):
    store = LostStore()
    one, two = process(store), process(store)
    one.store.dead = ALL
    one.controller.abort(actor="ann", reason="mine")
    two.controller.abort(actor="bob", reason="mine, too")
    one.store.dead = ()
    for _ in range(2):
        one.look()
        two.look()
    assert [["ann", "bob"], ["bob"]] == [[event.actor for event in each.told()] for each in (one, two)]


# A store that has lost something ---------------------------------------------------------------------------------------


def test_a_store_that_is_put_right_is_told_once_by_everybody(process):
    store = LostStore()
    one, two = process(store), process(store)
    backup = store.backup()
    one.controller.promote(reason="green")
    two.look()
    store.store = backup
    for _ in range(3):
        one.look()
        two.look()
    assert [["promote", "restore"]] * 2 == [actions(each.told()) for each in (one, two)]
    assert one.told()[-1] == two.told()[-1]
    assert ("the store had lost it", "0:20%", "1:40%") == (
        one.told()[-1].reason,
        one.told()[-1].from_phase,
        one.told()[-1].to_phase,
    )
    (span,) = [s.attributes for s in one.exporter.get_finished_spans() if "restore" in s.attributes.values()]
    assert "lost" == span["rollout.transition.reason"]


def test_what_was_done_on_a_backup_is_told_before_it_is_overwritten(process):
    store = LostStore()
    one = process(store)
    backup = store.backup()
    one.controller.promote(reason="green")
    one.controller.promote(reason="greener")
    store.store = backup
    by_command(store, "pause", RolloutState.pause, reason="on the backup")
    for _ in range(3):
        one.look()
    assert ["green", "greener", "on the backup", "the store had lost it"] == [event.reason for event in one.told()]


def test_what_was_done_on_a_backup_is_told_where_this_process_has_gone_on_at_once(process):
    store = LostStore()
    one = process(store)
    backup = store.backup()
    one.controller.promote(reason="green")
    one.controller.pause(reason="lunch")
    store.store = backup
    by_command(store, "pause", RolloutState.pause, reason="on the backup")
    one.controller.resume(reason="back")
    for _ in range(3):
        one.look()
    assert ["green", "lunch", "back", "on the backup"] == [event.reason for event in one.told()]


def test_a_second_abort_of_a_process_whose_store_was_down_leaves_nothing_out(process):
    store = LostStore()
    one = process(store)
    one.store.dead = ALL
    one.controller.abort(reason="first")
    by_command(store, reason="theirs")
    one.store.dead = ()
    one.controller.abort(reason="second")
    for _ in range(3):
        one.look()
    assert ["first", "second", "theirs"] == [event.reason for event in one.told()]


def test_a_backup_that_went_on_further_is_followed_and_told(process):
    store = LostStore()
    one = process(store)
    backup = store.backup()
    one.controller.promote(reason="green")
    store.store = backup
    by_command(store, "pause", RolloutState.pause, reason="paused")
    by_command(store, "resume", RolloutState.resume, reason="resumed")
    for _ in range(3):
        one.look()
    assert ["green", "paused", "resumed"] == [event.reason for event in one.told()]
    assert "0:20%" == one.kept.state.phase.name


def test_a_store_that_was_emptied_is_put_right_and_nothing_is_told_twice(process):
    store = LostStore()
    one, two = process(store), process(store)
    one.controller.promote()
    two.look()
    store.store = MemoryStore()
    for _ in range(3):
        one.look()
        two.look()
    by_command(store, "pause", RolloutState.pause)
    for _ in range(3):
        one.look()
        two.look()
    assert [["promote", "restore", "pause"]] * 2 == [actions(each.told()) for each in (one, two)]


def test_a_process_that_begins_on_an_emptied_store_is_no_news_to_the_others(process):
    store = LostStore()
    one = process(store)
    one.controller.promote()
    store.store = MemoryStore()
    late = process(store)
    for _ in range(3):
        one.look()
        late.look()
    assert [["promote", "restore"], ["restore"]] == [actions(each.told()) for each in (one, late)]


@pytest.mark.parametrize("fault", ["dead", "lost"])
def test_an_operator_in_a_process_whose_start_the_store_did_not_answer_is_told_alone(process, fault):
    """Whether the store has the start or not: nobody is told of a change that nobody made."""
    store = LostStore()
    one = process(store, **{fault: ("swap",)})
    setattr(one.store, fault, ())
    one.controller.promote(actor="ann", reason="a quiet day")
    for _ in range(3):
        one.look()
    assert [("promote", "ann", "a quiet day")] == said(one.told())


# Histories that are not ours -------------------------------------------------------------------------------------------


def write(store, record, **fields):
    """What a program does that writes a state by itself."""
    stored = store.load("model")
    document = {**stored.document, "revision": stored.revision + 1, **fields}
    assert store.swap("model", stored.revision, document, record)


def test_an_abort_holds_in_a_process_that_cannot_read_what_a_later_version_has_stored(process):
    store = LostStore()
    one = process(store)
    before = store.load("model").document
    write(store, {"by": "a later version"}, schema=99)
    later = store.load("model").document
    one.controller.abort(actor="ann", reason="pager")
    assert {"old"} == {one.model(f"u-{number}") for number in range(50)}
    for _ in range(3):
        with pytest.raises(StateError, match="of a later version"):
            one.look()
    assert later == store.load("model").document
    assert [("abort", "ann", "pager")] == said(one.told())
    # Once it can be read again, it has the abort.
    assert store.swap("model", later["revision"], {**before, "revision": later["revision"] + 1}, {"by": "an older backup"})
    for _ in range(3):
        one.look()
    assert "aborted" == store.load("model").document["status"]
    assert [("abort", "ann", "pager")] == said(one.told())


def test_a_state_that_a_program_has_written_by_itself_is_told_all_the_same(process):
    store = LostStore()
    one = process(store)
    write(store, {"by": "a script"}, change_id="", status="paused")
    for _ in range(3):
        one.look()
    assert [("pause", "", "the store's history has no record of it")] == said(one.told())


def test_a_process_that_joins_where_a_program_has_written_tells_nothing_of_what_was_before(process):
    store = LostStore()
    process(store).controller.promote()
    write(store, {"by": "a script"}, change_id="", status="paused")
    late = process(store)
    by_command(store, "resume", RolloutState.resume, now_s=NOW_S + 1)
    late.look()
    assert ["resume"] == actions(late.told())


@pytest.mark.parametrize(
    "record",
    [
        {"id": "x", "revision": 1, "action": 5, "actor": "", "reason": "", "time_s": 1.0, "phase": "0", "status": "running"},
        {"id": "x", "revision": 1, "action": "pause", "actor": "", "reason": "", "time_s": "soon", "phase": "0", "shares": {}},
        {"id": "x", "revision": 1, "action": "pause", "shares": 7},
    ],
)
def test_a_damaged_record_is_a_fault_and_its_change_is_told_as_far_as_it_is_known(process, record):
    store = LostStore()
    one = process(store)
    write(store, record, change_id="x", status="paused")
    by_command(store, "resume", RolloutState.resume)
    for _ in range(3):
        one.look()
    assert ["resume"] == actions(one.told())
    assert {("store", "StateError"): 1} == one.controller.status().faults


def test_records_that_are_no_tables_are_passed_over(process):
    store = LostStore()
    one = process(store)
    junk = [None, "junk", 7, {}, {"by": "a script"}]
    store.store.history, real = (lambda key: [*junk, *real(key), *junk]), store.store.history
    by_command(store)
    for _ in range(3):
        one.look()
    late = process(store)
    by_command(store, "pause", RolloutState.pause)
    for each in (one, late) * 3:
        each.look()
    assert [["promote", "pause"], ["pause"]] == [actions(each.told()) for each in (one, late)]
    assert {} == one.controller.status().faults


def test_what_a_record_holds_is_shortened_and_printable_in_every_signal(process):
    store = LostStore()
    one = process(store)
    record = {"id": "x", "revision": 1, "status": "paused", "phase": "0:20%", "shares": {"control": 1.0}, "time_s": NOW_S}
    record |= {"action": "explode", "actor": "\x1b[31mann\n" * 1_000, "reason": "line\n" * 10_000}
    write(store, record, change_id="x", status="paused")
    one.look()
    (event,) = one.told()
    assert (True, True) == ((event.actor + event.reason).isprintable(), len(event.actor) <= 200 and len(event.reason) <= 2_000)
    (span,) = [s for s in one.exporter.get_finished_spans() if s.attributes.get("rollout.transition.id")]
    assert "_OTHER" == span.attributes["rollout.transition.action"]


def test_stores_of_an_earlier_version_without_ids_are_followed_by_revision(process):
    store = LostStore()
    one = process(store)
    store.store._kept["model"].history[:] = [text.replace('"id"', '"was"') for text in store.store._kept["model"].history]
    for number, (action, change) in enumerate([("promote", PROMOTE), ("pause", RolloutState.pause)]):
        stored = store.load("model")
        after = evolve(change(from_document(stored.document)), change_id="")
        record = {"time_s": NOW_S, "action": action, "status": after.status, "revision": after.revision, "actor": "ann"}
        record |= {"phase": after.phase.name, "shares": after.phase.all_shares, "reason": str(number), "verdict": None}
        assert store.swap("model", stored.revision, as_document(after), record)
    for _ in range(3):
        one.look()
    assert [("promote", "ann", "0"), ("pause", "ann", "1")] == said(one.told())


def test_a_process_of_an_old_version_tells_nothing_of_the_new_one(process):
    store = LostStore()
    old, new = process(store, version="1"), process(store, version="2")
    new.controller.promote()
    for _ in range(2):
        with pytest.raises(StateError, match="was replaced by"):
            old.look()
            old.look()
    assert [] == old.told()
    assert ["start", "promote"] == actions(new.told())


# In one process, in many threads, after a fork -------------------------------------------------------------------------


def test_while_one_thread_looks_another_ones_changes_are_told_once_and_in_order(process):
    store = LostStore()
    one = process(store)
    over, seen = threading.Event(), []

    def look():
        while not over.is_set():
            one.look()

    thread = threading.Thread(target=look)
    thread.start()
    for _ in range(60):
        one.controller.pause()
        # What was done is told when it was done, whichever thread told it.
        seen.append(len(one.told()))
        by_command(store, "resume", RolloutState.resume)
    over.set()
    thread.join()
    one.look()
    told = one.told()
    assert sorted(event.revision for event in told) == list(range(1, 121))
    assert [event.revision for event in told] == list(range(1, 121))
    assert all(number >= 2 * index + 1 for index, number in enumerate(seen))


def test_a_signal_handler_that_comes_while_its_thread_announces_something_can_abort(process):
    one = process(LostStore())
    with one.kept.announced.lock:
        one.controller.abort(actor="handler")
    assert [("abort", "handler", "")] == said(one.told())


def test_an_exporter_that_hangs_on_a_transition_holds_up_neither_its_maker_nor_the_counts(process):
    class Hanging(InMemorySpanExporter):
        def export(self, spans):
            if spans[0].name == "transition model":
                reached.set()
                released.wait(30)
            return super().export(spans)

    reached, released = threading.Event(), threading.Event()
    one = process(LostStore(), exporter=Hanging())
    one.controller.promote()
    assert reached.wait(30)
    for number in range(10):
        one.model(f"user-{number}")
    assert 10 == sum(one.controller.status().calls.values())
    assert not released.is_set()
    released.set()
    assert ["promote"] == actions(one.told())
    assert 1 == len(one.spans())


def test_a_runtime_that_is_closed_misses_nothing_that_others_do(process):
    store = LostStore()
    one = process(store)
    one.close()
    by_command(store)
    one.look()
    assert ("1:40%", 0) == (one.kept.state.phase.name, one.runtime.lost)


def test_what_is_remembered_of_the_transitions_stays_bounded_and_none_is_repeated(process, monkeypatch):
    monkeypatch.setattr("rollout_sdk.control.announcing._MOST_KNOWN", 5)
    store = LostStore()
    one = process(store)
    for number in range(30):
        action, change = [("pause", RolloutState.pause), ("resume", RolloutState.resume)][number % 2]
        by_command(store, action, change)
        if number % 3 == 0:
            one.look()
    # A whole reading of the history finds nothing that is new.
    one.kept.announced.fall_behind()
    one.look()
    one.kept.announced.fall_behind()
    one.look()
    assert list(range(1, 31)) == [event.revision for event in one.told()]
    assert 5 == len(one.kept.announced._known)


def test_a_thread_that_held_the_lock_at_a_fork_holds_it_in_no_child(process):
    one = process(LostStore())
    one.kept.announced.lock.acquire()
    one.runtime.reconciler.renew()
    assert one.kept.announced.lock.acquire(blocking=False)


# What reads the journals -----------------------------------------------------------------------------------------------


def test_the_report_the_replay_and_the_doctor_count_what_five_processes_tell_as_one(process, tmp_path):
    from rollout_sdk.doctor import examine

    store = LostStore()
    folder = tmp_path / "journal"
    fleet = [process(store, journal=folder) for _ in range(5)]
    for number, each in enumerate(fleet):
        for user in range(40):
            each.model(f"user-{number}-{user}")
        each.runtime.flush(10.0)
    by_command(store, reason="green", now_s=NOW_S + 1)
    by_command(store, "abort", RolloutState.abort, reason="pager", now_s=NOW_S + 2)
    for each in fleet:
        each.look()
        each.runtime.flush(10.0)
    lines = [record for record in read_journal(folder) if record["event"] == "transition"]
    assert (10, 2) == (len(lines), len({line["id"] for line in lines}))
    (report,) = summarise(folder).rollouts
    assert ("aborted", ["promote", "abort"]) == (report.status, [record["action"] for record in report.transitions])
    assert 1 == as_text(summarise(folder)).count("by ann: pager")
    assert ["0:20%"] == [phase.phase for phase in replay(folder, Canary(["20%"]).criteria).phases]
    seen = examine(str(folder), environment={}, now=NOW_S + 10).as_dict()["journal"]["rollouts"]["model"]
    assert "aborted" == seen["status"]
    assert {"aborted"} == {each["status"] for each in seen["processes"]}


def test_the_report_says_where_a_rollout_stands_that_was_stopped_before_the_journal_began(process, tmp_path):
    store = LostStore()
    process(store).controller.abort()
    late = process(store, journal=tmp_path)
    late.model("user")
    late.runtime.flush(10.0)
    (report,) = summarise(tmp_path).rollouts
    assert ("aborted", ()) == (report.status, report.transitions)


def test_a_new_file_of_the_journal_says_where_the_rollout_stands_by_then(process, tmp_path):
    store = LostStore()
    one = process(store, journal=tmp_path)
    one.model("user")
    by_command(store, "abort", RolloutState.abort)
    one.look()
    one.runtime.flush(10.0)
    for path in read_journal(tmp_path).files:
        path.unlink()
    one.model("user")
    one.runtime.flush(10.0)
    (line,) = [record for record in read_journal(tmp_path) if record["event"] == "rollout"]
    assert ("aborted", "1:aborted", 1) == (line["status"], line["phase"], line["revision"])
    assert ["aborted"] == [report.status for report in summarise(tmp_path).rollouts]


def test_an_abort_told_before_the_store_took_it_is_one_line_of_the_report(process, tmp_path):
    store = LostStore()
    fleet = [process(store, journal=tmp_path) for _ in range(2)]
    fleet[0].store.dead = ALL
    fleet[0].controller.abort(actor="ann", reason="pager")
    by_command(store)
    fleet[0].store.dead = ()
    for each in fleet * 2:
        each.look()
        each.runtime.flush(10.0)
    (report,) = summarise(tmp_path).rollouts
    assert [("promote", 1), ("abort", 2)] == sorted(
        ((record["action"], record["revision"]) for record in report.transitions), key=lambda each: each[1]
    )
    assert "aborted" == report.status


# Anything in any order -------------------------------------------------------------------------------------------------


class Recorded(LostStore):
    """A store that also keeps every change that was ever made in it, whatever it loses."""

    def __init__(self):
        super().__init__()
        self.made, self.has_lost = [], False

    def swap(self, key, expected, document, record):
        done = self.store.swap(key, expected, document, record)
        if done:
            self.made.append(record["id"])
        return done

    def lose(self, store):
        self.store, self.has_lost = store, True


JUDGED = Canary([Step(share, min_units=20, min_time="1m") for share in STEPS], guardrails=[Guardrail("error_rate", floor=0.3)])


class Fleet(RuleBasedStateMachine):
    """Processes and operators of one store, whose answers get lost, and which forgets."""

    @initialize()
    def begin(self):
        self.place, self.now_s, self.users = Recorded(), NOW_S, 0
        self.processes = []
        for _ in range(3):
            self._join()
        self.backup = self.place.backup()

    def clock(self):
        self.now_s += 0.001
        return self.now_s

    def _join(self):
        one = Process(self.place, strategy=JUDGED, now_s=self.clock)
        one.since = len(self.place.made)
        self.processes.append(one)

    def teardown(self):
        for each in getattr(self, "processes", ()):
            each.close()

    @rule(index=st.integers(0, 2), action=st.sampled_from(["promote", "pause", "resume", "skip_step", "abort"]))
    def operate(self, index, action):
        try:
            getattr(self.processes[index].controller, action)(actor="ann", reason="by hand")
        except (StateError, StoreError):
            pass

    @rule(index=st.integers(0, 2), share=st.sampled_from([0.1, 0.3, 0.5]), status=st.sampled_from([None, "paused", "running"]))
    def control_file(self, index, share, status):
        wanted = WantedRollout(status=status, shares={None: share})
        try:
            self.processes[index].controller.follow(disabled=False, wanted=wanted, version=1)
        except (StateError, StoreError):
            pass

    @rule(action=st.sampled_from(["promote", "pause", "resume"]))
    def command(self, action):
        try:
            by_command(self.place, action, getattr(RolloutState, action), now_s=self.clock())
        except StateError:
            pass

    @rule(index=st.integers(0, 2), is_wrong=st.booleans())
    def judge(self, index, is_wrong):
        """By the judge of one process, on what all have seen: a step where it is good enough, an alarm where users are lost."""
        one = self.processes[index]
        for _ in range(60):
            self.users += 1
            if not is_wrong or one.controller.assign(f"user-{self.users}").variant == "control":
                one.model(f"user-{self.users}")
        one.runtime.flush(10.0)
        self.now_s += 61
        try:
            one.controller.judge()
        except StoreError:
            assert one.store.dead or one.store.lost

    @rule(index=st.integers(0, 2))
    def look(self, index):
        try:
            self.processes[index].look()
        except StoreError:
            assert self.processes[index].store.dead or self.processes[index].store.lost

    @rule(index=st.integers(0, 2), dead=st.sampled_from([ALL, ("history",), ("swap",), ()]))
    def dies_or_is_back(self, index, dead):
        self.processes[index].store.dead = dead

    @rule(index=st.integers(0, 2), lost=st.sampled_from([("swap",), ()]))
    def answers_get_lost(self, index, lost):
        self.processes[index].store.lost = lost

    @rule()
    def a_backup_is_made(self):
        self.backup = self.place.backup()

    @rule(how=st.sampled_from(["emptied", "restored"]))
    def it_is_lost(self, how):
        self.place.lose(MemoryStore() if how == "emptied" else self.backup)
        self.backup = self.place.backup()

    @rule(index=st.integers(0, 2))
    def restart(self, index):
        self.everybody_looks()
        self.processes.pop(index).close()
        self._join()

    @rule()
    def everybody_looks(self):
        for each in self.processes:
            each.store.dead = each.store.lost = ()
        # Twice: who comes later may have an abort, or a loss, to tell the others of.
        for each in self.processes * 3:
            each.look()
        history = [record["id"] for record in self.place.history("model")]
        for each in self.processes:
            ids = [event.id for event in each.told()]
            assert (len(ids), ids) == (len(set(ids)), each.spans())
            assert each.counted() == len(ids)
            if self.place.has_lost:
                # What was lost before anybody saw it, nobody can tell.
                assert set(history) - set(self.place.made[: each.since]) <= set(ids)
            else:
                stored = [event for event in ids if event in set(history)]
                assert sorted(stored) == sorted(self.place.made[each.since :])
                # An abort while the store was down is told at once, and another can have been faster.
                assert all(event.action == "abort" for event in each.told() if event.id not in history)


Fleet.TestCase.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)
TestAFleet = Fleet.TestCase
