"""What the judge has seen of a journal is the same by sums of a database as line by line: at every look, every number."""

import json
import math
import random

import pytest
from attrs import asdict

from rollout_sdk.analysis import reduced, summarise
from rollout_sdk.analysis.compact import compact
from rollout_sdk.analysis.in_duckdb import InDuckDB
from rollout_sdk.analysis.judged import Judged, judged
from rollout_sdk.analysis.judged_in_sql import judged_by_sums
from rollout_sdk.analysis.relations import IrreducibleError
from rollout_sdk.journal import Journal
from rollout_sdk.judging.unit_sample import cell_of
from tests.analysis.harsh_journals import HarshJournal
from tests.analysis.test_database import NOW, different, differing

BEGIN_S = 1.7e9
PLANS = (
    {},
    {"guardrails": [{"metric": "error_rate"}, {"metric": "latency", "threshold_s": 0.1}], "gates": [{"metric": "click"}]},
    {"guardrails": [{"metric": "latency", "threshold_s": 0.1}, {"metric": "latency", "threshold_s": 0.3}]},
    {
        "guardrails": [{"metric": "latency_mean"}, {"metric": "spend", "margin": 0.5, "clip": [0, 3]}],
        "gates": [{"metric": "label", "per": "outcome"}, {"metric": "click", "mde": 0.1}],
    },
    {
        "steps": [{"share": "50%", "min_units": 0}, {"share": "80%", "min_units": 0}],
        "guardrails": [{"metric": "error_rate"}, {"metric": "latency", "threshold_s": 0.1}],
        "gates": [{"metric": "click", "mde": 0.1}],
        "segments": {"country": ["NL"]},
    },
)


class Written:
    """A journal of several processes, whose lines are as the SDK writes them."""

    def __init__(self, folder, seed, *, calls=1500, plan=None, processes=3, pace_s=None, recorder=None):
        self.rng, self.folder = random.Random(seed), folder
        self.plan = self.rng.choice(PLANS) if plan is None else plan
        self.files = [[] for _ in range(processes)]
        self.units = self.rng.choice([20, 400, 100_000])
        self.shares = {"control": 0.5, "v2": 0.5}
        self.phase = "0:50%"
        self.pace_s = self.rng.choice([0.01, 0.2]) if pace_s is None else pace_s
        self.waiting, self.recorder = [], recorder
        self.number = 0
        for process in range(processes):
            head = {"t": 1.0, "sdk": "0.1", "pid": process + 1, "host": "h", "began": "1f", "part": 0}
            self.put(process, "journal", **head)
            for key in ("a", "b"):
                self.said(process, key)
        now_s = BEGIN_S
        for call in range(calls):
            now_s += self.rng.expovariate(1 / self.pace_s)
            if call == calls // 2 and self.rng.random() < 0.5:
                self.steps(now_s)
            self.call(now_s)
            while self.waiting and self.rng.random() < 0.5:
                self.put(*self.waiting.pop(0)[:2], **self.waiting_fields(now_s))

    def waiting_fields(self, now_s):
        return self.due.pop(0) | {"t": now_s + 1}

    def put(self, process, event, **fields):
        record = {"event": event, "v": 1, **{name: value for name, value in fields.items() if value is not None}}
        self.files[process].append(json.dumps(record, separators=(",", ":")))

    def said(self, process, key):
        self.put(
            process, "rollout", t=2.0, rollout=key, strategy="ab", phase=self.phase, fingerprint="f1", control="control",
            status="running", shares=self.shares, plan=self.plan,
        )  # fmt: skip

    def steps(self, now_s):
        """Both rollouts take a step, which every process follows."""
        self.shares = {"control": 0.2, "v2": 0.8}
        for key in ("a", "b"):
            for process in range(len(self.files)):
                self.put(
                    process, "transition", t=now_s, rollout=key, id=f"{key}1", revision=1, action="advance", status="running",
                    from_phase=self.phase, to_phase="1:80%", fingerprint="f1", actor="x", reason="y", strategy="ab",
                    shares=self.shares, control="control",
                )  # fmt: skip
        self.phase, self.least = "1:80%", self.number

    due = ()
    least = 0

    def call(self, now_s):
        rng, process = self.rng, self.rng.randrange(len(self.files) if self.recorder is None else self.recorder)
        unit = rng.randrange(self.units) * 11400714819323198485 & (1 << 64) - 1
        variant = "v2" if (unit >> 32) / 2**32 < self.shares["v2"] else "control"
        self.number += 1
        which = {"rollout": rng.choice("aab"), "phase": self.phase, "fingerprint": "f1", "variant": variant}
        which |= {"id": f"d{self.number}", "bucket": unit & 511}
        is_excluded, error = rng.random() < 0.02 and self.number > self.least + 20, "KeyError" if rng.random() < 0.01 else None
        time_s = round(now_s - rng.random() * self.pace_s, 6)
        self.put(
            process, "decision", t=time_s, **which, strategy="ab", served=variant,
            reason="override" if is_excluded else "split", propensity=0.5, share=0.5, unit=f"{unit:016x}",
            excluded=is_excluded or None, closed_early=True if rng.random() < 0.03 else None, **self.runs(variant, error),
        )  # fmt: skip
        if not isinstance(self.due, list):
            self.due = []
        for metric, value in (("click", 1.0), ("spend", rng.expovariate(1)), ("label", rng.random()), ("other", 2.0)):
            for _ in range(rng.choice([0, 0, 1, 2])):
                outcome = {**which, "metric": metric, "value": value + (rng.random() if metric != "click" else 0)}
                outcome |= {"decided": time_s, "excluded": is_excluded or None, "item": f"i{rng.random()}"}
                self.due.append(outcome)
                self.waiting.append((process if self.recorder is None else self.recorder, "outcome"))

    def runs(self, variant, error):
        """What ran for a call: after a failure, or while a breaker is open, the control."""
        rng = self.rng
        own, control = (
            [variant, round(rng.expovariate(60), 9), error, None],
            ["control", round(rng.expovariate(60), 9), None, None],
        )
        if variant != "control" and self.number > self.least + 20 and rng.random() < 0.02:
            return {"runs": [control], "withheld": rng.choice(["breaker_open", "aborted"])}
        if error is not None and rng.random() < 0.7:
            return {"runs": [own, control]}
        return {"runs": [own], "no_evidence": True if self.number > self.least + 20 and rng.random() < 0.01 else None}

    def close(self):
        self.folder.mkdir(parents=True, exist_ok=True)
        for process, lines in enumerate(self.files):
            (self.folder / f"events-h-{process + 1}-1f-0.jsonl").write_text("".join(line + "\n" for line in lines))
        return self.folder


def by_sums(folder):
    journal = Journal(folder)
    with InDuckDB(journal) as database:
        return judged_by_sums(journal, database)


def seen(found):
    """Everything that a report takes from what the judge has seen."""
    return {
        str(which): {
            "calls": one.calls, "now_s": one.now_s, "processes": one.processes, "plan": one.plan, "unnamed": one.unnamed,
            "refused": one.refused, "outcomes": dict(one.course.evidence.outcomes),
            "looks": [
                {
                    "time_s": look.time_s, "calls": look.calls,
                    "found": [asdict(each) for each in (*look.findings, *look.others)],
                    "sums": {name: sums.as_dict() for name, sums in look.sums.items()},
                }
                for look in one.looks
            ],
            "phases": {
                name: [
                    phase.began_s, phase.ended_s, phase.calls,
                    *(None if each is None else each.as_dict() for each in (phase.decided, phase.last, phase.alarm)),
                ]
                for name, phase in one.course.phases.items()
            },
        }
        for which, one in found.items()
    }  # fmt: skip


def held(folder):
    expected, _ = judged(Journal(folder))
    assert [] == different(seen(expected), seen(by_sums(folder)))


@pytest.mark.parametrize("seed", range(6))
def test_sums_are_judged_as_lines_are(tmp_path, seed):
    folder = Written(tmp_path / "journal", seed).close()
    held(folder)
    compact(folder, idle_s=NOW)
    held(folder)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(6, 60))
def test_sums_are_judged_as_lines_are_on_many_journals(tmp_path, seed):
    try:
        held(Written(tmp_path / "journal", seed).close())
    except IrreducibleError as error:
        # A minute with a few slow calls more than usual: what might be an outage is left to the other reader.
        assert str(error) == "there may be an outage"


def roughly(folder, seed, monkeypatch):
    """Hold a journal of a rollout with a rough life, with more looks, and with samples of units that are soon full.

    From one slot, in which every line is sorted, to slots of a line or two.
    """
    chosen = random.Random(seed)
    kept = chosen.choice([16, 64, 8192])
    monkeypatch.setattr("rollout_sdk.analysis.judged_in_sql._SLOTS", chosen.choice([1, 30, 300, 20_000]))
    for module in ("rollout_sdk.judging.unit_sample", "rollout_sdk.analysis.judged_in_sql"):
        monkeypatch.setattr(f"{module}.MOST_KEPT", kept)
    looking_soon(monkeypatch)
    HarshJournal(seed).write(folder)
    if seed % 3 == 0:
        compact(folder, idle_s=NOW)
    try:
        held(folder)
    except IrreducibleError as error:
        return str(error)
    return ""


def looking_soon(monkeypatch):
    """The first look of every judge after twenty calls."""
    begun = Judged.begun.__func__

    def begun_soon(cls, key):
        made = begun(cls, key)
        made._next_look = 20
        return made

    monkeypatch.setattr(Judged, "begun", classmethod(begun_soon))
    monkeypatch.setattr("rollout_sdk.analysis.judged_in_sql.FIRST_LOOK", 20)


@pytest.mark.parametrize("seed", range(6))
def test_sums_of_a_rough_life_are_judged_as_lines_are(tmp_path, monkeypatch, seed):
    assert roughly(tmp_path / "journal", seed, monkeypatch) == ""


LEFT = ("lines are not in order", "a phase begins with a call that is not analysed, or with shadows", "there may be an outage")


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(6, 200))
def test_sums_of_many_rough_lives_are_judged_as_lines_are(tmp_path, monkeypatch, seed):
    assert roughly(tmp_path / "journal", seed, monkeypatch) in ("", *LEFT)


def test_samples_of_units_are_thinned_as_the_judge_thins_them(tmp_path, monkeypatch):
    for module in ("rollout_sdk.judging.unit_sample", "rollout_sdk.analysis.judged_in_sql"):
        monkeypatch.setattr(f"{module}.MOST_KEPT", 64)
    held(Written(tmp_path / "journal", 4, plan=PLANS[1], calls=3000).close())


def lines_of(written, process=0):
    """The lines of a process, decoded; change them and write them again with `put`."""
    return [json.loads(line) for line in written.files[process]]


def put(written, process, records):
    written.files[process] = [json.dumps(record, separators=(",", ":")) for record in records]


def test_a_sample_is_thinned_by_units_of_which_it_keeps_none(tmp_path, monkeypatch):
    for module in ("rollout_sdk.judging.unit_sample", "rollout_sdk.analysis.judged_in_sql"):
        monkeypatch.setattr(f"{module}.MOST_KEPT", 16)
    written = Written(tmp_path / "journal", 4, plan=PLANS[1], calls=17, processes=1)
    records = lines_of(written)
    begun = [record for record in records if record["event"] in ("journal", "rollout")]
    call = next(record for record in records if record["event"] == "decision")
    units = iter(range(1, 10_000))
    calls = [{**call, "rollout": "a", "variant": "v2", "id": f"c{number}"} for number in range(17)]
    for each in calls:
        each["runs"] = [["v2", 0.01, None, None]]
    for each in calls[:-1]:
        each["unit"] = f"{next(units):x}"
    # Thinned, the sample has the units with even cells.
    calls[-1]["unit"] = f"{next(unit for unit in units if cell_of(unit) % 2):x}"
    put(written, 0, [*begun, *calls[:-1], begun[1], calls[-1], begun[1]])
    held(written.close())
    found, _ = judged(Journal(written.folder))
    assert found["a", "f1"].course.evidence.phases[call["phase"]].units["v2"].level == 1


def test_a_second_label_under_another_name_has_no_arm_of_its_own(tmp_path):
    written = Written(tmp_path / "journal", 1, plan=PLANS[3], calls=300)
    records = lines_of(written)
    label = next(record for record in records if record.get("metric") == "label" and not record.get("excluded"))
    put(written, 0, [*records, {**label, "variant": "ghost", "item": "other"}])
    held(written.close())


def test_a_report_of_a_large_journal_is_the_same_by_sums(tmp_path, monkeypatch):
    folder = Written(tmp_path / "journal", 1, plan=PLANS[2]).close()
    expected = summarise(folder)
    assert expected.rollouts[0].verdict is not None
    monkeypatch.setattr(reduced, "_LARGE", 0)
    asked = []
    monkeypatch.setattr(
        "rollout_sdk.analysis.judged_in_sql.judged", lambda *_, **__: asked.append(1) or judged(Journal(folder))
    )
    assert [] == differing(expected, summarise(folder))
    assert asked == []


@pytest.mark.parametrize(
    ("changed", "to"),
    [
        ('"reason":"split"', '"reason":"split","cov":1.5'),
        ('"reason":"split"', '"reason":"split","rate":0.5'),
        ('"reason":"split"', '"reason":"split","unmeasured":"Page"'),
        ('"metric":"click","value":1.0', '"metric":"click","value":1e60'),
        ('"metric":"click"', '"metric":"click","source":"human"'),
        ('"metric":"click","value":1.0', '"metric":"click","value":9e49'),
        ('"metric":"click"', '"metric":"click","details":1'),
        ('"metric":"click"', '"metric":"click","shadow":"yes"'),
        ('"metric":"click"', '"metric":"click","source":1'),
        ('"decided":1', '"decided":2'),
        ('"unit":"', '"unit":"u'),
        ('"runs":[', '"runs":[["v2",0.1,"OSError",null],["v2",0.1,"OSError",null],'),
        ('"runs":[', '"runs":[["v2",0.1,"OSError",true],'),
        ('"runs":[', '"runs":[["v2",1e308,"OSError",null],'),
    ],
)
def test_what_sums_cannot_say_is_judged_line_by_line(tmp_path, monkeypatch, changed, to):
    folder = Written(tmp_path / "journal", 1, calls=300).close()
    path = folder / "events-h-2-1f-0.jsonl"
    assert changed in path.read_text()
    path.write_text(path.read_text().replace(changed, to, 3))
    with pytest.raises(IrreducibleError):
        by_sums(folder)
    expected = summarise(folder)
    monkeypatch.setattr(reduced, "_LARGE", 0)
    assert [] == differing(expected, summarise(folder))


def test_a_transition_of_which_another_process_writes_last_has_the_time_of_the_first(tmp_path):
    written = Written(tmp_path / "journal", 1, calls=300, plan=PLANS[4])
    last_s = max(record["t"] for process in range(3) for record in lines_of(written, process) if record["event"] == "decision")
    written.phase, written.shares = "0:50%", {"control": 0.5, "v2": 0.5}
    for process in (0, 1):
        written.put(
            process, "transition", t=last_s + 5 + 40 * process, rollout="a", id="a9", revision=9, action="pause",
            status="paused",
            from_phase=written.phase, to_phase=written.phase, fingerprint="f1", actor="x", reason="y", strategy="ab",
            shares=written.shares, control="control",
        )  # fmt: skip
    held(written.close())
    found, _ = judged(Journal(written.folder))
    assert found["a", "f1"].now_s == last_s + 5


def refused(written):
    """The journal is left to the other reader, and why."""
    folder = written.close()
    with pytest.raises(IrreducibleError) as error:
        by_sums(folder)
    return str(error.value)


def test_an_outcome_of_no_possible_time_is_judged_line_by_line(tmp_path):
    written = Written(tmp_path / "journal", 1, calls=300)
    records = lines_of(written, 1)
    next(record for record in records if record["event"] == "outcome")["t"] = 1e308
    put(written, 1, records)
    assert refused(written) == "the judge needs more than columns"


def test_values_whose_sum_is_out_of_range_hide_no_report(tmp_path, monkeypatch):
    written = Written(tmp_path / "journal", 1, calls=300, plan=PLANS[1])
    for process in range(3):
        records = lines_of(written, process)
        for record in records:
            if record.get("metric") == "click":
                record["value"] = 9e49
        put(written, process, records)
    expected = summarise(written.close())
    monkeypatch.setattr(reduced, "_LARGE", 0)
    assert [] == differing(expected, summarise(written.folder))


@pytest.mark.parametrize(
    "change", [{"shadow": 1.0, "shares": {"control": 1.0, "v2": 0.0}}, {"shares": {"v2": 0.5, "control": 0.5}}, {"shares": {}}]
)
def test_a_phase_that_gets_other_arms_after_its_first_call_is_judged_line_by_line(tmp_path, change):
    written = Written(tmp_path / "journal", 1, calls=300, plan={})
    records = lines_of(written)
    said = next(record for record in records if record["event"] == "rollout")
    put(written, 0, [*records, {**said, **change}])
    assert refused(written) == "a phase that has begun gets other arms"


@pytest.mark.parametrize("change", [{"control": "v2"}, {"plan": {"gates": [{"metric": "click"}]}}])
def test_what_is_declared_anew_is_judged_line_by_line(tmp_path, change):
    written = Written(tmp_path / "journal", 1, calls=300, plan={})
    records = lines_of(written)
    said = next(record for record in records if record["event"] == "rollout")
    put(written, 0, [*records, {**said, **change}])
    assert refused(written) == "what is declared changes"


def test_a_file_with_lines_of_another_process_is_judged_line_by_line(tmp_path):
    written = Written(tmp_path / "journal", 1, calls=300)
    put(written, 0, [*lines_of(written), lines_of(written, 1)[0]])
    assert refused(written) == "a file has lines of another process than its name says"


@pytest.mark.parametrize("change", [{"rollout": "c"}, {"fingerprint": "f2"}])
def test_a_change_of_several_sets_of_arms_is_judged_line_by_line(tmp_path, change):
    written = next(
        written
        for written in (Written(tmp_path / "journal", seed, calls=300, plan={}) for seed in range(20))
        if written.phase == "1:80%"
    )
    # All that one process wrote of a rollout is of another one, but for the ids of its changes.
    put(written, 0, [record if record.get("rollout") != "a" else {**record, **change} for record in lines_of(written)])
    assert refused(written) == "a change has lines of several sets of arms"


def test_what_refuses_a_journal_costs_no_tables(tmp_path, monkeypatch):
    made = []
    make = InDuckDB.make
    monkeypatch.setattr(InDuckDB, "make", lambda self, name, *rest: made.append(name) or make(self, name, *rest))
    for plan in (
        {"gates": [{"metric": "click", "window": "90s"}]},
        {"guardrails": [{"metric": "first_item", "threshold_s": 1}]},
    ):
        refused(Written(tmp_path / f"{len(made)}", 1, calls=300, plan=plan))
    assert set(made) == {"judged_sets"}


@pytest.mark.parametrize(
    "criterion",
    [
        {"guardrails": [{"metric": "first_item", "threshold_s": 1.0}]},
        {"gates": [{"metric": "click", "window": "90s"}]},
        {"steps": [{"share": "50%"}], "guardrails": [{"metric": "error_rate"}], "gates": [], "max_calls_per_unit": 5},
    ],
)
def test_criteria_that_need_every_line_are_judged_line_by_line(tmp_path, criterion):
    folder = Written(tmp_path / "journal", 1, calls=300, plan=criterion).close()
    with pytest.raises(IrreducibleError):
        by_sums(folder)


def test_an_outage_of_the_control_is_judged_line_by_line(tmp_path):
    written = Written(tmp_path / "journal", 1, calls=3000, pace_s=0.2, plan={})
    for lines in written.files:
        for index, line in enumerate(lines):
            record = json.loads(line)
            if record["event"] == "decision" and 300 <= record["t"] - BEGIN_S < 360:
                lines[index] = line.replace(",null,null]]", ',"OSError",null]]')
    with pytest.raises(IrreducibleError):
        by_sums(written.close())


def test_outcomes_that_another_process_recorded_before_their_calls_were_read_are_judged_line_by_line(tmp_path):
    with pytest.raises(IrreducibleError):
        by_sums(Written(tmp_path / "journal", 1, calls=300, recorder=2).close())


def test_calls_that_come_minutes_late_are_judged_line_by_line(tmp_path):
    written = Written(tmp_path / "journal", 1, calls=600)
    record = next(record for record in map(json.loads, written.files[1]) if record["event"] == "decision")
    written.files[1].append(json.dumps({**record, "id": "late", "t": BEGIN_S - 600}, separators=(",", ":")))
    assert not math.isnan(record["t"])
    with pytest.raises(IrreducibleError):
        by_sums(written.close())
