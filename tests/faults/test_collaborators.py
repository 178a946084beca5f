"""Rows F23, F24, F28 and F30 to F34: observers, plugins, sinks, configuration, loggers, telemetry, clocks and ids that fail."""

import gc
import io
import itertools
import logging
import sys
import threading
import time
import types
from collections import Counter
from importlib import metadata
from importlib.metadata import EntryPoint

import pytest
import structlog
from attrs.exceptions import FrozenInstanceError
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import Sampler

from rollout_sdk import ABTest, Canary, Gate, Interleave, PluginError, RolloutError, Runtime, Shadow, Telemetry, rollout
from rollout_sdk.assignment import canonical
from rollout_sdk.concurrency import clocks
from rollout_sdk.journal import JournalWriter
from tests.faults.models import quantile, served, shadowed


def test_f23_observers_that_fail_are_slow_or_change_their_event_harm_nobody(watch, figure):
    clean, tried = [], []

    class Raising:
        name = "raising"

        def rollout_routed(self, event):
            raise SystemExit(3)

    class Changing:
        name = "changing"

        def rollout_routed(self, event):
            try:
                event.served = "changed"
            except FrozenInstanceError:
                tried.append(event)

    class Slow:
        name = "slow"

        def rollout_routed(self, event):
            time.sleep(0.01)

    class Last:
        name = "last"

        def rollout_routed(self, event):
            clean.append(event.served)

    model = served(lambda x: "old", lambda x: "new", watch(), plugins=[Raising(), Changing(), Slow(), Last()])
    took = []
    for number in range(100):
        began = time.perf_counter()
        assert "new" == model(number)
        took.append(time.perf_counter() - began)
    status = model.rollout._runtime
    assert status.flush(10.0)
    assert (["candidate"] * 100, 100) == (clean, len(tried))
    assert 100 == status.faults["raising.rollout_routed", "SystemExit"]
    assert quantile(took, 0.5) < 5e-3
    figure("F23", "{clean} of {calls} events reached the last observer unchanged; a call p50 {p50:.0f} us",
           clean=clean.count("candidate"), calls=len(took), p50=quantile(took, 0.5) * 1e6)  # fmt: skip


@pytest.mark.parametrize("body", ["raise ImportError", "raise SystemExit(3)", "import nothing_of_this_name", "def f(:"])
def test_f24_a_plugin_that_cannot_be_imported_is_that_plugins_rollouts_alone(body, tmp_path, monkeypatch, watch, figure):
    (tmp_path / "broken_plugin.py").write_text(body)
    monkeypatch.syspath_prepend(tmp_path)
    broken = EntryPoint("broken", "broken_plugin", "rollout_sdk")
    real = metadata.entry_points
    monkeypatch.setattr(metadata, "entry_points", lambda group: [*real(group=group), broken])
    runtime = watch()
    # Installed is not active: nobody has imported it.
    model = served(lambda x: "old", lambda x: "new", runtime, strategy=ABTest(1.0))
    answers = [model(number) for number in range(10)]
    assert ["new"] * 10 == answers
    assert "broken_plugin" not in sys.modules
    assert "old" in {
        rollout(candidate=lambda: "new", strategy="ab", key="by name", runtime=runtime)(lambda: "old")() for _ in range(50)
    }
    with pytest.raises(PluginError, match=r"Plugin 'broken' \(broken_plugin\) cannot be imported") as refused:
        served(lambda x: x, lambda x: x, runtime, strategy="broken", key="named")
    figure("F24", "{served} of {calls} calls of other rollouts served beside {runs} broken plugins; {named} errors name the "
           "plugin, once a rollout names it", served=answers.count("new"), calls=len(answers),
           named="'broken'" in str(refused.value))  # fmt: skip


def test_f28_a_sink_that_blocks_for_ever_costs_callers_nothing(watch, monkeypatch, tmp_path, figure):
    release = threading.Event()
    monkeypatch.setattr(JournalWriter, "write", lambda *_: release.wait(30))
    runtime = watch(journal=tmp_path)
    model = served(lambda x: "old", lambda x: "new", runtime)
    took = []
    for number in range(20_000):
        began = time.perf_counter()
        assert "new" == model(number)
        took.append(time.perf_counter() - began)
    # What is counted does not wait for the journal.
    assert runtime.recorder.flush(30.0)
    status = model.rollout.status()
    counted = status.calls["candidate"]
    assert 20_000 == counted + runtime.recorder.dropped
    lost = status.lost
    assert 5_000 < lost <= 10_000 + runtime.recorder.dropped
    assert 0 < status.faults["journal", "DroppedError"] <= lost
    began = time.perf_counter()
    runtime.close(0.3)
    closed_s = time.perf_counter() - began
    release.set()
    assert closed_s < 0.8
    assert quantile(took, 0.5) < 1e-3
    figure("F28", "a call p50 {p50:.0f} us, p99 {p99:.0f} us; {counted:,} of {facts:,} counted, {lost:,} lost to the journal "
           "and counted as lost; closed after {closed_s:.2f} s", p50=quantile(took, 0.5) * 1e6, p99=quantile(took, 0.99) * 1e6,
           counted=counted, facts=len(took), lost=lost, closed_s=closed_s)  # fmt: skip


GOOD_FILE = 'version = 2\n[rollouts.model]\nshare = "100%"\n'


def test_f30_no_piece_of_a_control_file_is_ever_taken(tmp_path, watch, figure):
    """Every prefix of a file, as somebody who writes in place leaves it for a while, and every byte of it damaged."""
    path = tmp_path / "control.toml"
    path.write_text('version = 1\n[rollouts.model]\nshare = "0%"\n')
    path.chmod(0o600)
    runtime = watch(control=path)
    model = served(lambda user: "old", lambda user: "new", runtime, strategy=Canary(["0%", "50%"]), unit="user")
    wrong, told = 0, []
    texts = [GOOD_FILE.encode()[:size] for size in range(len(GOOD_FILE) - 1)]
    texts += [GOOD_FILE.encode()[:at] + b"\xff" + GOOD_FILE.encode()[at + 1 :] for at in range(len(GOOD_FILE))]
    for text in texts:
        before = sum(runtime.faults.values())
        path.write_bytes(text)
        for _ in range(3):
            runtime._steering._watch()
        wrong += model("u") != "old"
        told.append(sum(runtime.faults.values()) - before)
    path.write_text(GOOD_FILE)
    runtime._steering._watch()
    runtime._steering._watch()
    assert (0, "new") == (wrong, model("u"))
    assert {"control file"} == {what for what, _ in runtime.faults}
    assert {0, 1} == set(told)
    figure("F30", "{wrong} wrong arms for {files} incomplete or damaged files, {refused} refused, {most:.0f} report each",
           wrong=wrong, files=len(told), refused=sum(told), most=float(max(told)))  # fmt: skip


BROKEN = {
    "key too long": {"ROLLOUT_KEY": "k" * 65},
    "journal under a file": {"ROLLOUT_JOURNAL": "/dev/null/journal"},
    "journal on /proc": {"ROLLOUT_JOURNAL": "/proc/journal"},
    "control file is a folder": {"ROLLOUT_CONTROL": "/dev"},
    "folder of the store missing": {"ROLLOUT_STORE": "sqlite:////no/such/folder/x.db"},
    "store under a file": {"ROLLOUT_STORE": "sqlite:////dev/null/x.db"},
    "unknown store": {"ROLLOUT_STORE": "nonsense://host"},
}


@pytest.mark.parametrize("environment", BROKEN.values(), ids=BROKEN)
def test_f81_a_setting_that_cannot_be_used_stops_no_service(environment, figure):
    runtime = Runtime.from_environment(environment)
    model = rollout(candidate=lambda user: "new", strategy=ABTest(0.5), unit="user", key="m", runtime=runtime)(
        lambda user: "old"
    )
    answers = [model(f"u{number}") for number in range(100)]
    # Without a journal nothing is wrong with the split; where it is not known what operators want, the control is right.
    assert ({"old", "new"} if "ROLLOUT_JOURNAL" in environment else {"old"}) == set(answers)
    assert runtime.flush()
    faults = sum(runtime.faults.values())
    assert 1 <= faults
    runtime.close()
    figure("F81", "{runs} kinds of settings and disks, each in turn: {answered} of {calls} calls answered, {faults} faults "
           "counted", answered=answers.count("old") + answers.count("new"), calls=len(answers), faults=faults)  # fmt: skip


class BadRepr:
    def __repr__(self):
        raise RuntimeError("no repr")


def raising_processor(logger, name, event):
    raise SystemExit("a bug")


def closed_stream():
    stream = io.StringIO()
    stream.close()
    return stream


CIRCLE: list = []
CIRCLE.append(CIRCLE)
INPUTS = [BadRepr(), {(1, 2): 3}, CIRCLE, "\ud800", float("nan"), 10**5000, b"\xff\n", "\x1b[31m\u2028", {"a": {1, 2}}, None]


@pytest.fixture
def structlog_reset():
    yield
    structlog.reset_defaults()


@pytest.mark.parametrize("logger", ["processor", "closed stream", "stdlib"])
def test_f31_a_logger_that_raises_never_reaches_the_caller(logger, watch, structlog_reset, figure, monkeypatch):
    if logger == "processor":
        structlog.configure(processors=[raising_processor])
    elif logger == "closed stream":
        structlog.configure(
            processors=[structlog.processors.JSONRenderer()], logger_factory=structlog.PrintLoggerFactory(closed_stream())
        )
    else:

        class Handler(logging.Handler):
            def emit(self, record):
                raise RuntimeError("no disk")

        handler = Handler()
        monkeypatch.setattr(logging.getLogger("rollout_sdk"), "handlers", [handler])
        monkeypatch.setattr(logging.getLogger("rollout_sdk"), "level", logging.DEBUG)
    runtime = watch()

    def fails(x):
        raise ValueError(x)

    ab = served(lambda x: x, fails, runtime, key="ab", breaker=None)
    shadow = shadowed(lambda x: x, fails, runtime, key="shadow", breaker=None)
    right = [model(value) is value for value in INPUTS for model in (ab, shadow)]
    runtime.flush(10.0)
    assert [True] * 20 == right
    assert runtime.faults[next(key for key in runtime.faults if key[0] == "telemetry.logs")] >= 1
    assert 20 == len(runtime.routed())
    figure("F31", "{right} of {calls} calls with hostile inputs answered under {logger} raising loggers, half of them "
           "shadowed", right=sum(right), calls=len(right), logger=logger)  # fmt: skip


class Broken(SpanProcessor):
    def on_start(self, span, parent_context=None):
        raise SystemExit("start")

    def on_end(self, span):
        raise RecursionError("end")


class BrokenSampler(Sampler):
    def should_sample(self, *args, **kwargs):
        raise RuntimeError("sample")

    def get_description(self):
        return "broken"


@pytest.mark.parametrize("strategy", [ABTest(1.0), Shadow(1.0), Interleave()], ids=lambda strategy: strategy.name)
@pytest.mark.parametrize("part", ["processor", "sampler"])
def test_f32_telemetry_that_raises_never_reaches_the_caller(part, strategy, watch, figure):
    provider = TracerProvider(sampler=BrokenSampler()) if part == "sampler" else TracerProvider()
    if part == "processor":
        provider.add_span_processor(Broken())
    runtime = watch(telemetry=Telemetry(tracer_provider=provider))
    model = served(lambda x: [x], lambda x: [x], runtime, strategy=strategy, effects="read")
    right = [[n] == model(n) for n in range(300)]
    assert [True] * 300 == right
    assert runtime.flush(10.0)
    faults = sum(count for (what, _), count in runtime.faults.items() if what == "telemetry.spans")
    assert faults > 0
    figure("F32", "{right:,} of {calls:,} calls answered under raising span processors and samplers; {faults:,} faults "
           "counted", right=sum(right), calls=len(right), faults=faults)  # fmt: skip


HOUR_S = 3600.0


def jumping(monkeypatch):
    """The wall clock jumps by hours, forth and back, between any two looks at it: ours and OpenTelemetry's, wherever it is.

    Returns it, how far it is ahead of that, and the jumps that it has made, in seconds.
    """
    real, jumps, ahead, made = clocks.time_ns, itertools.cycle([0.0, HOUR_S, -HOUR_S, 0.0, 2 * HOUR_S]), [0.0], set()

    def clock():
        jump = next(jumps) + ahead[0]
        made.add(jump)
        return real() + int(jump * 1e9)

    instead = {real: clock, time.time_ns: clock, clocks.time: lambda: clock() / 1e9, time.time: lambda: clock() / 1e9}
    modules = [module for name, module in sys.modules.items() if name.startswith(("rollout_sdk", "opentelemetry."))]
    for module, name in [(module, name) for module in modules for name in vars(module)]:
        found = vars(module)[name]
        if type(found) is type(real) and found in instead:
            monkeypatch.setattr(module, name, instead[found])
        elif found is time:
            # OpenTelemetry asks the module.
            monkeypatch.setattr(
                module, name, types.SimpleNamespace(**{**vars(time), "time_ns": clock, "time": instead[time.time]})
            )
    return clock, ahead, made


def test_f33_a_wall_clock_that_jumps_moves_times_and_no_duration_step_or_breaker(watch, monkeypatch, figure):
    fails = [True]

    def candidate(x):
        if fails[0]:
            raise ValueError
        return "new"

    from rollout_sdk import Breaker
    from rollout_sdk.resilience import breaker

    # The breaker's own clock stands still until its time has come: how fast this machine is does not matter.
    uptime = [1000.0]
    monkeypatch.setattr(breaker, "monotonic", lambda: uptime[0])
    (clock, ahead, jumps), exporter = jumping(monkeypatch), InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    runtime = watch(time_ns=clock, monotonic_ns=clocks.monotonic_ns, telemetry=Telemetry(tracer_provider=provider))
    model = served(lambda x: "old", candidate, runtime, breaker=Breaker(min_runs=1, cooldown_s=0.2))
    shadow = shadowed(lambda x: "old", lambda x: "new", runtime, key="shadow")
    model(0)
    for number in range(100):
        model(number)
        shadow(number)
    fails[0] = False
    uptime[0] += 0.25
    assert ["new", "new"] == [model(1), model(2)]
    events = runtime.routed()
    # The first call fails in the candidate and falls back; the open breaker leaves one run for each of the others.
    assert Counter(model=103, shadow=100) == Counter(event.decision.rollout for event in events)
    ran = [run.duration_s for event in events for run in event.runs]
    shadows = runtime.shadowed()
    assert Counter(ok=100) == Counter(event.end for event in shadows)
    taken = [*ran, *(took for event in shadows for took in (event.wait_s, event.duration_s))]
    assert (204, 404) == (len(ran), len(taken))
    # A jump is an hour; all of these calls together take seconds.
    wrong = [took for took in taken if not 0 <= took < 60]
    assert [] == wrong
    # A step that is to last for an hour has lasted for seconds; outcomes are late, or early, by what the clock has jumped.
    plan = Canary(["50%", "100%"], gates=[Gate("click", window="10m")])
    canary = served(lambda x: "old", lambda x: "new", runtime, strategy=plan, key="canary", unit="x")
    for number in range(200):
        canary.rollout.record("click", 1.0, decision_id=canary.rollout.route(number).decision.id)
    assert runtime.flush(10.0)
    kept = runtime.reconciler.rollouts["canary"]
    lasted = []
    for number in range(6):
        # By other jumps each time, and for the last time on another day.
        for _ in range(number):
            clock()
        ahead[0] = 24 * HOUR_S if number == 5 else 0.0
        assert canary.rollout.judge() is not None
        lasted.append(kept.clock.elapsed_s)
    assert [] == [step_s for step_s in lasted if not 0 <= step_s < 60]
    outcomes = kept.evidence.outcomes
    # None is lost without a word.
    assert 200 == outcomes["counted"] + outcomes["late"] + outcomes["unknown"]
    spans = [(span.end_time - span.start_time) / 1e9 for span in exporter.get_finished_spans()]
    moved = sum(not 0 <= took < 60 for took in spans)
    figure(
        "F33",
        "a clock that jumps whenever it is read: {wrong} of {durations} durations of runs and shadows are wrong, "
        "a step has lasted {step_s:.1f} s after {hours:.0f} h on the clock, the breaker closed on time; times are "
        "the clock's: {moved:,} of {spans:,} spans contain a jump, like every span of OpenTelemetry, and {late} "
        "of {outcomes} outcomes with a window count as late or unknown",
        wrong=len(wrong),
        durations=len(taken),
        step_s=max(lasted),
        hours=max(jumps) / 3600,
        moved=moved,
        spans=len(spans),
        late=outcomes["late"] + outcomes["unknown"],
        outcomes=outcomes.total(),
    )


IDS = [
    None, "", b"", "a\0b", "line\nbreak", "\ud800", "x" * 10_000_000, b"x" * 10_000_000, 1, "1", 1.0, True, float("nan"),
    float("inf"), -0.0, 10**3000, "e\u0301", "\u00e9", (1, "1"), (), ((((("deep",),),),),), object(), [1], {"a": 1},
]  # fmt: skip


def test_f34_any_unit_is_answered_and_the_same_unit_alike(watch, figure):
    runtime = watch()
    model = served(lambda user: "old", lambda user: "new", runtime, strategy=ABTest(0.5), unit="user", key="ids")
    began = time.perf_counter()
    first = [model(unit) for unit in IDS]
    took_s = time.perf_counter() - began
    named = [index for index, unit in enumerate(IDS) if canonical(unit) is not None]
    again = [model(unit) for unit in IDS]
    assert [first[index] for index in named] == [again[index] for index in named]
    assert {"old"} == {first[index] for index in range(len(IDS)) if index not in named}
    assert 2 == len({canonical(1), canonical("1"), canonical(1.0), canonical(True)})
    assert canonical("e\u0301") == canonical("\u00e9")
    assert canonical(0.0) == canonical(-0.0)
    assert took_s < 0.5
    gc.collect()
    large = [len(unit) for unit in IDS if isinstance(unit, str | bytes) and len(unit) > 1_000_000]
    figure("F34", "{answered} of {ids} kinds of ids answered, {large} of {size:.0f} MB among them; {took_ms:.1f} ms for all",
           answered=first.count("old") + first.count("new"), ids=len(first), large=len(large), size=max(large) / 1e6,
           took_ms=took_s * 1e3)  # fmt: skip


def test_f34_a_unit_that_must_be_there_is_an_error_of_ours(watch):
    model = served(lambda user: "old", lambda user: "new", watch(), unit="user", missing_unit="raise")
    with pytest.raises(RolloutError):
        model(None)
