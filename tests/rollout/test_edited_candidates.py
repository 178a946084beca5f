"""A candidate whose code was edited without another `version=`: kept apart where that is safe, and told where it is not."""

import asyncio
import functools
import inspect
import json
from contextlib import closing

import pytest

from rollout_sdk import ABTest, Canary, Runtime, rollout
from rollout_sdk.analysis import as_text, summarise
from rollout_sdk.control.stores import SQLiteStore
from tests.processes import Processes

KEY = b"a secret key"


@pytest.fixture
def processes():
    with closing(Processes(key=KEY, shared=False)) as made:
        yield made


def one(user):
    return 1.0


def two(user):
    return 2.0


def closed(value):
    return lambda user: value


def decorated(runtime, candidate, control=lambda user: 0.0, **options):
    options = {"strategy": ABTest(0.5), "unit": "user", "key": "m", "runtime": runtime, **options}
    return rollout(candidate=candidate, **options)(control)


def served(model):
    return {model(f"u{number}") for number in range(100)}


def fingerprint(runtime, candidate, **options):
    return decorated(runtime, candidate, **options).rollout.status().fingerprint


def lines_of(folder):
    return [json.loads(line) for path in sorted(folder.glob("*.jsonl")) for line in path.read_text().splitlines()]


# One process after the other, without a store ---------------------------------------------------------------------------


def function_of(value):
    def candidate(user):
        return value

    return candidate, lambda user: 0.0


def coroutine_of(value):
    async def candidate(user):
        return value

    async def control(user):
        return 0.0

    return candidate, control


def generator_of(value):
    def candidate(user):
        yield value

    def control(user):
        yield 0.0

    return candidate, control


def async_generator_of(value):
    async def candidate(user):
        yield value

    async def control(user):
        yield 0.0

    return candidate, control


def partial_of(value):
    return functools.partial(lambda value, user: value, value), lambda user: 0.0


def wrapper_of(value):
    candidate, control = function_of(value)

    @functools.wraps(candidate)
    def wrapper(user):
        return candidate(user)

    return wrapper, control


def method_of(value):
    # As in a file that was edited.
    names = {}
    exec(f"class Model:\n    def score(self, user):\n        return {value!r}", names)
    return names["Model"]().score, lambda user: 0.0


def object_of(value):
    names = {}
    exec(f"class Model:\n    def __call__(self, user):\n        return {value!r}", names)
    return names["Model"](), lambda user: 0.0


KINDS = [
    function_of, coroutine_of, generator_of, async_generator_of, partial_of, wrapper_of, method_of, object_of,
]  # fmt: skip


async def first_of(stream):
    return await anext(stream)


def answer_of(routed):
    """The value of a routed call of any kind, and its decision."""
    if inspect.isawaitable(routed):
        routed = asyncio.run(_awaited(routed))
    value = routed.value
    if inspect.isgenerator(value):
        value = next(iter(value))
    elif hasattr(value, "__aiter__"):
        value = asyncio.run(first_of(value))
    return value, routed.decision.id


async def _awaited(routed):
    return await routed


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__.removesuffix("_of"))
def test_another_candidate_without_a_version_is_another_set_of_arms_in_the_report(processes, tmp_path, kind):
    for value in (1.0, 2.0):
        candidate, control = kind(value)
        runtime = processes(journal=tmp_path)
        model = decorated(runtime, candidate, control)
        for number in range(40):
            answer, decision_id = answer_of(model.rollout.route(f"u{number}"))
            model.rollout.record("good", answer, decision_id=decision_id)
        runtime.close(10.0)
    report = summarise(tmp_path)
    assert [1.0, 2.0] == [
        variant.metrics[0].per_outcome.mean
        for each in report.rollouts
        for variant in each.phases[0].variants
        if variant.variant == "candidate"
    ]
    (other,) = report.rollouts[1].others
    text = as_text(report)
    assert (("code",), 2, True) == (other.differs, text.count("Phase "), "another code" in " ".join(text.split()))


def test_the_same_candidate_in_every_process_is_one_set(processes, tmp_path):
    for _ in range(2):
        runtime = processes(journal=tmp_path)
        served(decorated(runtime, closed((0.5, "a", frozenset("abc")))))
        runtime.close(10.0)
    (found,) = summarise(tmp_path).rollouts
    assert (200, (), 1) == (sum(variant.calls for variant in found.phases[0].variants), found.others, found.codes)


def test_the_code_of_the_control_does_not_count(processes):
    assert fingerprint(processes(), one) == fingerprint(processes(), one, control=lambda user: 5.0)


def test_with_a_version_the_code_is_not_looked_at(processes, tmp_path):
    runtime = processes(journal=tmp_path)
    model = decorated(runtime, one, version="1")
    model("u1")
    expected = model.rollout.status().fingerprint
    runtime.close(10.0)
    assert expected == fingerprint(processes(), two, version="1")
    (about,) = [line for line in lines_of(tmp_path) if line["event"] == "rollout"]
    assert "code" not in about["made_of"]


def test_sets_that_differ_in_code_at_the_same_time_are_checked_with_the_cure(processes, tmp_path):
    """Values that differ between the processes of one deployment: the number of a device, say."""
    runtimes = [processes(journal=tmp_path) for _ in range(2)]
    models = [decorated(runtime, closed(f"cuda:{number}")) for number, runtime in enumerate(runtimes)]
    for number in range(50):
        for model in models:
            model(f"u{number}")
    for runtime in runtimes:
        runtime.close(10.0)
    check = next(each for each in summarise(tmp_path).rollouts[0].verdict.checks if each.name == "versions")
    assert (True, True) == ("they differ in code" in check.what, "give it a version=" in check.cure)


def test_a_journal_in_which_an_earlier_sdk_did_not_tell_the_code_does_not_say_that_it_differs(processes, tmp_path):
    for candidate in (one, two):
        runtime = processes(journal=tmp_path)
        served(decorated(runtime, candidate))
        runtime.close(10.0)
    path = min(tmp_path.glob("*.jsonl"), key=lambda path: path.stat().st_mtime_ns)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for line in lines:
        line.get("made_of", {}).pop("code", None)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    report = summarise(tmp_path)
    assert {()} == {other.differs for each in report.rollouts for other in each.others}
    assert "an earlier SDK wrote one of the two" in " ".join(as_text(report).split())


# With a store that other processes see ----------------------------------------------------------------------------------


def test_in_a_store_a_changed_log_line_refuses_no_process_and_is_told_once(processes):
    old = decorated(processes(shared=True), one)
    runtime = processes(shared=True)
    told = []
    runtime.recorder.tell = told.append
    new = decorated(runtime, two)
    again = decorated(runtime, two)
    assert ({0.0, 1.0}, {0.0, 2.0}) == (served(old), served(new))
    assert old.rollout.status().fingerprint == new.rollout.status().fingerprint
    (note,) = again.rollout.status().notes
    assert (note, "m", True) == (told[0].text, told[0].rollout, "other code of the candidates" in note and "version=" in note)
    assert ((), {}, 1) == (old.rollout.status().notes, new.rollout.status().faults, len(told))


def test_in_a_store_an_aborted_candidate_does_not_come_back_with_edited_code(processes):
    old = decorated(processes(shared=True), one)
    old.rollout.abort()
    new = decorated(processes(shared=True), two)
    assert ("aborted", {0.0}) == (new.rollout.status().status, served(new))


def test_the_note_goes_with_a_version(processes):
    decorated(processes(shared=True), one, version="1")
    model = decorated(processes(shared=True), two, version="1")
    assert ((), "") == (model.rollout.status().notes, processes.store.load("m").document["code"])


def test_what_an_earlier_sdk_has_stored_says_nothing_of_code(processes):
    decorated(processes(shared=True), one)
    stored = processes.store.load("m")
    document = {name: value for name, value in stored.document.items() if name != "code"}
    assert processes.store.swap("m", stored.revision, {**document, "revision": stored.revision + 1}, {"time_s": 1.0})
    model = decorated(processes(shared=True), two)
    assert ((), {}) == (model.rollout.status().notes, model.rollout.status().faults)
    model.rollout.abort()
    assert "aborted" == processes.store.load("m").document["status"]


def test_the_store_keeps_the_code_that_the_rollout_began_with(processes):
    first = decorated(processes(shared=True), one, strategy=Canary(["10%", "50%"]))
    begun = processes.store.load("m").document["code"]
    later = decorated(processes(shared=True), two, strategy=Canary(["10%", "50%"]))
    later.rollout.promote()
    first.rollout.pause()
    assert (8, begun) == (len(begun), processes.store.load("m").document["code"])


def test_a_store_that_answers_late_has_the_note_then(processes):
    decorated(processes(shared=True), one)
    load, processes.store.load = processes.store.load, None
    runtime = processes(shared=True)
    model = decorated(runtime, two)
    processes.store.load = load
    assert (True, ()) == (model.rollout.is_disabled, model.rollout.status().notes)
    runtime.reconciler.look(runtime.reconciler.rollouts["m"])
    assert (False, 1) == (model.rollout.is_disabled, len(model.rollout.status().notes))


def test_the_report_says_that_a_store_has_pooled_two_forms_of_the_code(processes, tmp_path):
    runtimes = [processes(shared=True, journal=tmp_path) for _ in range(2)]
    for runtime, candidate in zip(runtimes, (one, two), strict=True):
        served(decorated(runtime, candidate))
        runtime.close(10.0)
    (found,) = summarise(tmp_path).rollouts
    assert (2, 200) == (found.codes, sum(variant.calls for variant in found.phases[0].variants))
    (check,) = [each for each in found.verdict.checks if each.name == "code"]
    assert (False, True) == (check.is_fatal, "2 forms of the candidates' code are pooled" in check.what)


# One process that decorates one key again and again ---------------------------------------------------------------------


@pytest.mark.parametrize("lives", [True, False], ids=["all alive", "one at a time"])
@pytest.mark.parametrize("shared", [False, True], ids=["without a store", "with a store"])
def test_one_key_for_many_model_objects_is_one_rollout(processes, tmp_path, lives, shared):
    runtime = processes(shared=shared, journal=tmp_path)
    told, alive, fingerprints = [], [], set()
    runtime.recorder.tell = told.append

    def control(user):
        return 0.0

    for number in range(50):
        model = decorated(runtime, closed(float(number)), control, strategy=Canary(["50%"]))
        assert {0.0, float(number)} == served(model)
        fingerprints.add(model.rollout.status().fingerprint)
        if lives:
            alive.append(model)
    status = model.rollout.status()
    assert (1, 0, "0:50%", {}) == (len(fingerprints), status.revision, status.phase, status.faults)
    assert 5_000 == sum(status.calls.values())
    runtime.close(10.0)
    assert 1 == sum(line["event"] == "rollout" for line in lines_of(tmp_path))
    assert [] == [line for line in lines_of(tmp_path) if line["event"] == "transition"]
    # Other processes may begin with another of them; with a store, that makes no difference.
    assert ([] if shared else ["other values"]) == [
        "other values" for each in told if "with the same code and other values" in each.text
    ]
    assert len(told) == (0 if shared else 1) == len(status.notes)


def test_a_candidate_that_was_edited_in_a_cell_of_its_own_begins_anew(processes):
    """In a notebook: the cell with the control is not run again, and the decorated function still lives."""
    runtime = processes()

    def control(user):
        return 0.0

    cells = [compile(f"def v2(user):\n    return {value}", "<cell>", "exec") for value in (1.0, 2.0, 2.0)]
    models = []
    for cell in cells:
        names = {"__name__": "__main__"}
        exec(cell, names)
        models.append(decorated(runtime, names["v2"], control, strategy=ABTest(1.0)))
    first, edited, again = models
    assert [{0.0}, {2.0}, {2.0}] == [served(model) for model in models]
    statuses = [model.rollout.status() for model in models]
    assert ["aborted", "running", "running"] == [status.status for status in statuses]
    assert ("1:100%", "1:100%", {}) == (statuses[1].phase, statuses[2].phase, runtime.faults)
    assert edited.rollout.status().fingerprint == again.rollout.status().fingerprint != first.rollout.status().fingerprint


def test_an_abort_stays_when_the_candidate_is_edited(processes):
    runtime = processes()
    model = decorated(runtime, one)
    model.rollout.abort()
    del model
    assert "aborted" == decorated(runtime, closed(2.0)).rollout.status().status


def test_a_real_store_keeps_one_rollout_through_a_change_of_code(tmp_path):
    for candidate in (one, two):
        runtime = Runtime(store=f"sqlite:///{tmp_path}/rollouts.db", key=KEY)
        model = decorated(runtime, candidate)
        assert "running" == model.rollout.status().status
        runtime.close(5.0)
    assert ["start"] == [record["action"] for record in SQLiteStore(tmp_path / "rollouts.db").history("m")]
