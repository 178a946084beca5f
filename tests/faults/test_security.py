"""Rows S1 to S15: what somebody hostile may send, plant or read. Each test says which default it holds us to.

Met by absence: no server, no pickle, no YAML, no code out of data, no pattern out of data (S7, S8, S10). Not there, and said
so in docs/reliability.md: a signature on the control file and a cap on exposure (S11), a warning about a missing key (S3).
"""

import ast
import asyncio
import io
import itertools
import json
import logging
import os
import stat
import threading
import time
from collections import Counter
from pathlib import Path

import pytest
import structlog
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import rollout_sdk
from rollout_sdk import (
    ABTest,
    Canary,
    ConfigurationError,
    Decision,
    DecisionIdError,
    Interleave,
    Shadow,
    ShadowLimits,
    Telemetry,
    UnknownStrategyError,
    rollout,
    shadow_guard,
)
from rollout_sdk.assignment import UnitHash, canonical
from rollout_sdk.control.control_file import ControlFile
from rollout_sdk.journal import read_journal
from rollout_sdk.telemetry.log_events import LogEvents
from tests.faults.models import served, shadowed

HERE = Path(rollout_sdk.__file__).parent
PLUGINS = HERE.parent / "plugins"


def raw_lines(folder):
    return b"".join(path.read_bytes() for path in sorted(Path(folder).glob("events-*"))).split(b"\n")


@pytest.fixture
def logged():
    """Log events as the application's own structlog writes them: one JSON line each."""
    stream = io.StringIO()
    structlog.configure(
        processors=[structlog.processors.add_log_level, structlog.processors.JSONRenderer()],
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG),
        logger_factory=structlog.PrintLoggerFactory(stream),
    )
    yield stream
    structlog.reset_defaults()


INJECTIONS = [
    "line\nbreak",
    '"}\n{"event":"decision"',
    "\x1b[31mred",
    "a\u2028b\u0085c",
    "\r\x00\x07",
    "\ud800",
    "%s{0}${HOME}",
]


def test_s1_nothing_that_a_client_sends_breaks_a_line(watch, tmp_path, logged, figure):
    """Ids are pseudonyms in ASCII, log events have constant names, and control characters are escaped."""
    runtime = watch(journal=tmp_path)
    ab = served(lambda user: 1 / 0, lambda user: user, runtime, unit="user", key="ab", strategy=ABTest(0.5), breaker=None)
    blend = served(lambda user: [user, 1], lambda user: [1, user], runtime, unit="user", key="il", strategy=Interleave())
    injections = 0
    for text in INJECTIONS:
        injections += 1
        hostile = type(text.replace("\x00", "").encode("ascii", "ignore").decode(), (ValueError,), {})

        def fails(user, error=hostile):
            raise error(user)

        served(lambda user: user, fails, runtime, unit="user", key=f"e{INJECTIONS.index(text)}")(text)
        with pytest.raises(ZeroDivisionError):
            for number in itertools.count():
                ab(f"{text}{number}")
        page = blend.rollout.route(text)
        blend.rollout.record("click", 1.0, decision_id=page.decision.id, item=text)
        blend.rollout.record("click", 1.0, unit=text)
    ab.rollout.abort(actor=INJECTIONS[0], reason=INJECTIONS[1])
    runtime.close(5.0)
    lines = [line for line in raw_lines(tmp_path) if line]
    journal = read_journal(tmp_path)
    assert (len(lines), {}) == (len(list(journal)), journal.skipped)
    assert all(line.isascii() and not any(byte < 32 or byte == 127 for byte in line) for line in lines)
    events = [json.loads(line) for line in logged.getvalue().splitlines()]
    assert {event["event"].partition(".")[0] for event in events} == {"rollout"}
    figure("S1", "{lines} journal lines and {events} log lines of {injections} injections: each one line, ASCII",
           lines=len(lines), events=len(events), injections=injections)  # fmt: skip


SECRET = "SECRET-77aa"


def secretive(watch, folder):
    """Rollouts in which everything fails that can, with a secret in every place that the caller or a model fills."""
    spans, reader = InMemorySpanExporter(), InMemoryMetricReader()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    telemetry = Telemetry(tracer_provider=provider, meter_provider=MeterProvider([reader]))
    runtime = watch(journal=folder, telemetry=telemetry, key=SECRET)

    def control(user, text):
        return [SECRET, text]

    def fails(user, text):
        raise ValueError(SECRET + text)

    class Strategy:
        name = "leaky"

        def rollout_route(self, request):
            raise KeyError(SECRET)

    class Comparator:
        name = "leaky comparator"

        def rollout_compare(self, control, candidate):
            raise ValueError(SECRET)

    def copier(value):
        raise ValueError(SECRET)

    shadow = {"strategy": Shadow(1.0), "effects": "read"}
    options = [
        {"strategy": ABTest(1.0)},
        {"strategy": ABTest(1.0), "on_error": "raise"},
        {"strategy": ABTest(1.0), "passthrough": (ValueError,)},
        {"strategy": ABTest(1.0), "override": lambda user, text: SECRET},
        {"strategy": Strategy()},
        {"strategy": Interleave(), "effects": "read"},
        shadow,
        {**shadow, "plugins": [Comparator()]},
        {**shadow, "isolate": copier},
    ]
    for number, each in enumerate(options):
        for name, candidate in (("fails", fails), ("works", control)):
            yield rollout(candidate=candidate, unit="user", key=f"{name}{number}", runtime=runtime, **each)(control)
    yield runtime, spans, reader


def test_s2_what_is_personal_is_in_no_journal_log_span_metric_or_status(watch, tmp_path, logged, figure):
    """Units and items are keyed hashes, payloads and messages of exceptions are nowhere; the key neither."""
    *models, (runtime, spans, reader) = secretive(watch, tmp_path)
    for model in models:
        for number in range(5):
            try:
                routed = model.rollout.route(f"{SECRET}{number}", SECRET)
            except ValueError:
                continue
            model.rollout.record("click", 1.0, decision_id=routed.decision.id)
        model.rollout.record("click", 1.0, unit=SECRET)
    runtime.flush(10.0)
    told = {
        "journal": b"\n".join(raw_lines(tmp_path)).decode(),
        "logs": logged.getvalue(),
        "spans": "".join(span.to_json() for span in spans.get_finished_spans()),
        "metrics": reader.get_metrics_data().to_json(),
        "status": "".join(f"{model.rollout.status()}{model.rollout.status()!r}{model.rollout!r}" for model in models),
        "runtime": repr(runtime) + repr(runtime.faults),
    }
    assert dict.fromkeys(told, False) == {name: SECRET in text for name, text in told.items()}
    assert all(len(told[name]) > 1000 for name in ("journal", "logs", "spans", "metrics", "status"))
    found, characters = (sum(measure(text) for text in told.values()) for measure in (lambda text: text.count(SECRET), len))
    figure("S2", "a secret as unit, input, output, key and message of {rollouts} rollouts: {found} in {characters:,} "
           "characters", rollouts=len(models), found=found, characters=characters)  # fmt: skip


def test_s3_a_seat_in_an_arm_cannot_be_bought_offline_where_there_is_a_key(watch, figure):
    """Keyed blake2b with length-prefixed fields; decision ids are signed. Without a key, the salt is public."""
    public, secret = UnitHash("checkout"), UnitHash("checkout", b"a secret")
    seat = 0.01
    chosen = [unit for unit in map(str, range(100_000)) if public(canonical(unit)) >> 32 < seat * 2**32]
    seats = sum(secret(canonical(unit)) >> 32 < seat * 2**32 for unit in chosen)
    assert 700 < len(chosen) < 1300
    assert seats / len(chosen) < 0.04
    assert UnitHash("a:b")(b"c") != UnitHash("a")(b"b:c")
    assert canonical(("a", "bc")) != canonical(("ab", "c"))
    keyed = served(lambda user: 1, lambda user: 2, watch(key="a secret"), key="checkout", unit="user")
    forged = served(lambda user: 1, lambda user: 2, watch(key="a guess"), key="checkout", unit="user")
    plain = served(lambda user: 1, lambda user: 2, watch(), key="checkout", unit="user")
    for forger in (forged, plain):
        with pytest.raises(DecisionIdError):
            keyed.rollout.record("click", 1.0, decision_id=forger.rollout.route("u").decision.id)
    figure("S3", "{got:.2%} of {chosen:,} ids chosen with the public salt for an arm of {seat:.0%} fall into it under a key",
           got=seats / len(chosen), chosen=len(chosen), seat=seat)  # fmt: skip


FLOODS = ["x" * 10_000_000, "\u00e9" * 10_000_000, b"x" * 10_000_000, 1 << 80_000_000]


def test_s4_a_huge_id_costs_no_time(figure):
    """Of an id over 1 KiB, both ends and the length count; a naive hash of 10 MB takes 55 ms."""
    took, sizes = [], []
    for unit in FLOODS:
        sizes.append(len(unit) if isinstance(unit, str | bytes) else unit.bit_length() / 8)
        began = time.perf_counter()
        assert len(canonical(unit)) < 5_000
        took.append(time.perf_counter() - began)
    assert max(took) < 0.03
    figure("S4", "{ids} ids of {size:.0f} MB: at most {longest:.2f} ms", ids=len(took), size=max(sizes) / 1e6,
           longest=max(took) * 1e3)  # fmt: skip


def test_s4_a_nested_id_costs_no_time():
    unit = "x"
    for _ in range(3):
        unit = (unit,) * 64
    assert len(canonical(unit) or b"") < 70_000


def series(reader):
    metrics = reader.get_metrics_data().resource_metrics[0].scope_metrics[0].metrics
    return sum(len(metric.data.data_points) for metric in metrics)


def names_of(number):
    """A class of exception for each call, as some clients make them."""
    return type(f"Error{number}", (ValueError,), {})


def test_s5_units_and_classes_without_number_make_no_series_without_number(watch, figure):
    """A unit is in no metric; words made at run time end in _OTHER."""
    reader = InMemoryMetricReader()
    runtime = watch(telemetry=Telemetry(meter_provider=MeterProvider([reader])))

    def fails(user):
        if user % 2:
            raise names_of(user)

    model = served(lambda user: user, fails, runtime, unit="user", breaker=None)
    found = []
    for start in (0, 1000, 3000):
        for user in range(start, start + 1000):
            model(user)
        assert runtime.flush(10.0)
        found.append(series(reader))
    assert 50 < found[0] == found[1] == found[2] < 250
    figure(
        "S5",
        "{first} metric series after {units:,} units, half of which raise their own class of exceptions, {last} after {all:,}",
        first=found[0],
        units=1 + user - start,
        last=found[-1],
        all=len(found) * (1 + user - start),
    )


def test_s5_classes_without_number_take_no_memory_without_number(watch):
    runtime = watch()

    def fails(user):
        raise names_of(user)

    model = served(lambda user: user, fails, runtime, unit="user", breaker=None)
    for user in range(3000):
        model(user)
    assert runtime.flush(10.0)
    tally = runtime.tally("model")
    assert 3000 == tally.errors.total() == tally.fallbacks.total()
    assert len(tally.errors) + len(tally.fallbacks) < 2_200


def test_s5_log_events_remember_few_kinds_of_failures(watch, logged):
    runtime = watch()

    def fails(user):
        raise names_of(user)

    model = shadowed(lambda user: user, fails, runtime, breaker=None)
    for user in range(2000):
        model(user)
    assert runtime.flush(10.0)
    log_events = runtime._delivery.sinks.log_events
    assert isinstance(log_events, LogEvents)
    assert 1_000 <= len(log_events._last) <= 1_001
    assert 2000 == runtime.tally("model").shadows["candidate", "error"]


PLUGIN = """
from pathlib import Path
Path({trace!r}).write_text("imported")
name = "planted"
def rollout_route(request): raise AssertionError
"""


def test_s6_an_installed_plugin_is_imported_when_it_is_named_and_not_before(tmp_path, run_python, figure):
    """Installed is not active; ROLLOUT_DISABLED_PLUGINS wins over code."""
    trace = tmp_path / "trace"
    (tmp_path / "planted.py").write_text(PLUGIN.format(trace=str(trace)))
    info = tmp_path / "planted-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: planted\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[rollout_sdk]\nplanted = planted\n")
    used = """
        from rollout_sdk import ABTest, rollout
        model = rollout(candidate=lambda: 2, strategy={strategy}, key="k")(lambda: 1)
        print(model() in (1, 2))
    """
    found, imported = run_python(used.format(strategy="'ab'")), []
    imported.append(trace.exists())
    assert ("True\n", False) == (found.stdout, imported[-1])
    blocked = run_python(used.format(strategy="'planted'"), ROLLOUT_DISABLED_PLUGINS="planted")
    imported.append(trace.exists())
    assert (True, False) == (UnknownStrategyError.__name__ in blocked.stderr, imported[-1])
    run_python(used.format(strategy="'planted'"))
    assert trace.exists()
    figure(
        "S6",
        "an installed plugin is imported by {imported} of {programs} applications that name another or block it, "
        "and by one that names it",
        imported=sum(imported),
        programs=len(imported),
    )


AUDIT = """
import asyncio, sys, threading
from rollout_sdk import ABTest, Canary, Interleave, Runtime, Shadow, rollout

def function(x): return [x, "a"]
async def coroutine(x): return [x, "a"]
def generator(x): yield x
async def async_generator(x): yield x
async def read(stream): return [item async for item in stream]

runtime, loop = Runtime(journal="journal", key="k"), asyncio.new_event_loop()
call = {
    function: lambda model, x: model(x),
    coroutine: lambda model, x: loop.run_until_complete(model(x)),
    generator: lambda model, x: list(model(x)),
    async_generator: lambda model, x: loop.run_until_complete(read(model(x))),
}
strategies = [ABTest(0.5, shadow=1.0), Canary(["50%"]), Interleave(), Shadow(1.0)]
models = []
for kind in call:
    for strategy in strategies:
        options = {"strategy": strategy, "effects": "read", "unit": "x", "runtime": runtime}
        models.append((kind, rollout(key=kind.__name__ + strategy.name, candidate=kind, **options)(kind)))
def calls():
    made = 0
    for number in range(50):
        for kind, model in models:
            call[kind](model, number)
            made += 1
    return made
calls()
on, mine, everybodys, me = [False], set(), set(), threading.get_ident()
def hook(event, arguments):
    if on[0]:
        everybodys.add(event)
        if threading.get_ident() == me:
            mine.add(event)
sys.addaudithook(hook)
on[0] = True
made = calls()
on[0] = False
calls_only = set(mine)
on[0] = True
runtime.flush()
runtime.close()
on[0] = False
print(sorted(calls_only))
print(sorted(everybodys))
print(made)
"""

HARMLESS = {
    "builtins.id", "object.__getattr__", "sys._getframe", "sys._current_frames", "sys.set_asyncgen_hook_finalizer",
    "sys.set_asyncgen_hook_firstiter", "time.sleep",
}  # fmt: skip


def test_s7_nothing_listens_and_a_call_opens_starts_and_asks_nothing(run_python, figure):
    """No server in the core. Python's own audit says what calls of all kinds under all strategies did: no file, no socket."""
    found = run_python(AUDIT)
    assert "" == found.stderr
    calls, everybodys, made = map(ast.literal_eval, found.stdout.splitlines())
    assert [] == [event for event in calls if event not in HARMLESS]
    assert not [event for event in everybodys if event.startswith(("socket.", "subprocess.", "os.system", "pickle.", "exec"))]
    touched = [event for event in calls if event.startswith(("open", "os.", "socket.", "subprocess."))]
    figure(
        "S7",
        "{touched} files, sockets or processes used by {made} calls on their callers' path (Python's audit events)",
        touched=len(touched),
        made=made,
    )


def sources():
    for path in sorted([*HERE.rglob("*.py"), *PLUGINS.rglob("*.py")]):
        # The kit for tests starts interpreters, and no application imports it.
        if not {"tests", "testing"} & set(path.relative_to(HERE.parent).parts):
            yield path, ast.parse(path.read_text(encoding="utf-8"))


def imported(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def called(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


FORBIDDEN_IMPORTS = {
    "pickle", "cPickle", "cloudpickle", "dill", "joblib", "marshal", "shelve", "yaml", "ruamel", "code", "codeop",
    "http.server", "socketserver", "xmlrpc", "wsgiref", "ftplib", "telnetlib", "urllib.request", "http.client", "ssl",
    "subprocess", "ctypes", "tempfile.mktemp",
}  # fmt: skip
FORBIDDEN_CALLS = {"eval", "exec", "compile", "__import__", "os.system", "os.popen", "input", "breakpoint"}


ALLOWED = [
    # One reference to a connection is never given back, so that a forked child cannot close its parent's file.
    ("sqlite_file.py", "ctypes"),
    # A Ray store joins the cluster in a process of its own, which Ray may end: this interpreter, over a pair of sockets.
    ("helper.py", "subprocess"),
    # A service and the worker that it has started, over a pair of sockets that nobody else has.
    ("process_worker.py", "pickle"),
    ("processes.py", "pickle"),
    # A plugin that sends webhooks, and follows no redirects.
    ("sending.py", "http.client"),
    ("sending.py", "urllib.request"),
    ("webhook.py", "urllib.request"),
    # The dashboard is a server, and is asked for by a person.
    ("serving.py", "listening.listen"),
]


def test_s8_no_code_comes_out_of_data(figure):
    """No pickle, no YAML, no eval: JSON and TOML only. Met by absence, and this is the lint that keeps it so."""
    found, number = [], 0
    for path, tree in sources():
        number += 1
        found += [
            (path.name, name)
            for name in imported(tree)
            if name in FORBIDDEN_IMPORTS or name.partition(".")[0] in FORBIDDEN_IMPORTS
        ]
        found += [(path.name, name) for name, _ in called(tree) if name in FORBIDDEN_CALLS]
        # Servers, in whatever way: none of these words is called.
        found += [
            (path.name, name)
            for name, _ in called(tree)
            if name.rpartition(".")[2] in {"listen", "start_server", "serve_forever"}
        ]
    assert sorted(ALLOWED) == sorted(found)
    assert number > 60
    figure("S8", "{uses} uses of pickle, marshal, YAML, eval, exec, subprocess or servers in {number} modules, "
           "besides {named} named ones",
           uses=len([each for each in found if each not in ALLOWED]), number=number,
           named=len([each for each in found if each in ALLOWED]))  # fmt: skip


def deep(levels):
    nested = []
    for _ in range(levels):
        nested = [nested]
    return nested


def cyclic():
    circle = {}
    circle["self"] = circle
    return circle


OUTPUTS = {
    "deep": lambda: deep(100_000),
    "cyclic": cyclic,
    "huge integer": lambda: 10**5000,
    "NaN": lambda: float("nan"),
    "infinite": lambda: float("-inf"),
    "surrogate": lambda: "\ud800",
    "long": lambda: "x" * 10_000_000,
    "wide": lambda: list(range(200_000)),
}


@pytest.mark.parametrize("isolate", ["auto", "none", "deepcopy"])
@pytest.mark.parametrize("name", OUTPUTS)
def test_s9_a_hostile_output_of_a_shadow_stays_behind(name, isolate, watch, tmp_path, figure):
    """Outputs are compared behind the answer and never stored: a line has a verdict, finite numbers and short words."""
    runtime = watch(journal=tmp_path, shadows={"timeout_s": 30.0})
    hostile = OUTPUTS[name]
    for number, answer in enumerate([hostile, lambda: 1]):
        model = shadowed(lambda x: answer(), lambda x: hostile(), runtime, key=f"k{number}", isolate=isolate)
        model(1)
    runtime.flush(30.0)
    runtime.close(5.0)
    journal = read_journal(tmp_path)
    records = list(journal)
    assert ({}, 2) == (journal.skipped, sum(record["event"] == "shadow" for record in records))
    longest = max(map(len, raw_lines(tmp_path)))
    assert longest < 1_000
    figure(
        "S9",
        "{name} hostile outputs x {isolate} ways to copy: {lines} lines of valid JSON, of at most {longest:.0f} bytes",
        name=name,
        isolate=isolate,
        lines=len(records),
        longest=float(longest),
    )


def test_s10_no_pattern_comes_out_of_data(figure):
    """No regex operator for anybody's rules: every pattern in the package is a constant. A lint."""
    found, patterns = [], 0
    for path, tree in sources():
        for name, node in called(tree):
            if name.rpartition(".")[0] in {"re", "regex", "fnmatch", "glob"}:
                patterns += 1
                if not (node.args and isinstance(node.args[0], ast.Constant)):
                    found.append((path.name, name))
    assert [] == found
    assert patterns > 0
    figure("S10", "{found} of {patterns} patterns are not constants", found=len(found), patterns=patterns)


GOOD = 'version = 5\n[rollouts.model]\nshare = "20%"\n'


@pytest.mark.parametrize(
    ("text", "mode"),
    [
        ('version = 4\n[rollouts.model]\nshare = "100%"\n', 0o600),
        ('version = 6\n[rollouts.model]\nshare = "101%"\n', 0o600),
        ("version = 6\n[rollouts.model]\nshare = nan\n", 0o600),
        ('version = 6\n[rollouts.model]\nshares = "100%"\n', 0o600),
        ('version = 6\n[rollouts.model]\nshare = "100%"\n', 0o662),
        ('version = 6\n[rollouts.model]\nshare = "100%"\n', 0o620),
        ("version = 6\n" + "x = 1\n" * 200_000, 0o600),
        ("version = 6\nx = " + "[" * 100_000, 0o600),
    ],
    ids=["older", "over 100 %", "NaN", "unknown key", "world-writable", "group-writable", "large", "deep"],
)
def test_s11_a_control_file_that_was_tampered_with_is_not_obeyed(text, mode, watch, tmp_path, figure):
    """Schema, a version that never falls, an owner; taken as a whole or not at all."""
    path = tmp_path / "control.toml"
    path.write_text(GOOD)
    path.chmod(0o600)
    runtime = watch(control=path)
    model = served(lambda user: "old", lambda user: "new", runtime, strategy=Canary(["1%", "50%"]), unit="user")
    runtime._steering._watch()
    before = model.rollout.phase.shares
    aside = tmp_path / "aside"
    aside.write_text(text)
    aside.chmod(mode)
    aside.replace(path)
    for _ in range(3):
        runtime._steering._watch()
    assert before == model.rollout.phase.shares == {"candidate": 0.2}
    told = sum(count for (what, _), count in runtime.faults.items() if what == "control file")
    assert 1 == told
    figure(
        "S11",
        "{held} of {runs} tampered control files refused completely, {told} logged, and the previous settings stay in effect",
        held=int(before == model.rollout.phase.shares),
        told=told,
    )


def test_s11_somebody_elses_control_file_is_not_obeyed(tmp_path, monkeypatch):
    path = tmp_path / "control.toml"
    path.write_text(GOOD)
    path.chmod(0o600)
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    if path.stat().st_uid == 0:
        os.chown(path, 54321, 54321)
    file = ControlFile(path)
    assert (True, True) == (file.wanted.disabled, "belongs to another user" in str(file.refused))


def test_s11_a_control_file_with_a_huge_number_is_refused_in_our_words(tmp_path):
    path = tmp_path / "control.toml"
    path.write_text("version = " + "9" * 5000)
    path.chmod(0o600)
    refused = str(ControlFile(path).refused)
    assert "control.toml" in refused
    assert "It is accepted completely or not at all" in refused


SHADOWING = [Shadow(0.1), ABTest(0.5, shadow=0.1), Canary(["1%"], shadow=0.1)]


def test_s12_what_may_write_is_not_shadowed_and_a_guard_refuses_the_rest(watch, figure):
    """effects="read" must be declared; a strategy that shadows all the same is not obeyed; @shadow_guard refuses."""
    ran, charged, refused = [], [], 0
    for number, strategy in enumerate(SHADOWING):
        for effects in ("unknown", "write"):
            with pytest.raises(ConfigurationError, match="would be shadowed"):
                served(
                    lambda x: x,
                    lambda x: ran.append(x),
                    watch(),
                    strategy=strategy,
                    effects=effects,
                    on_error="raise",
                    key=f"k{number}",
                )
            refused += 1

    class Sneaky:
        name = "sneaky"

        def rollout_route(self, request):
            return Decision("control", shadows=("candidate",))

    runtime = watch()
    sneaky = served(lambda x: x, lambda x: ran.append(x), runtime, strategy=Sneaky(), key="sneaky")
    assert [1, 2] == [sneaky(1), sneaky(2)]

    @shadow_guard
    def charge(amount):
        charged.append(amount)

    model = shadowed(charge, charge, runtime, key="guarded")
    model(9.5)
    assert Counter(error=1) == Counter(event.end for event in runtime.shadowed())
    assert ([], [9.5]) == (ran, charged)
    figure(
        "S12",
        "{shadows} shadows of functions not declared effects='read', for {ways} ways to request one; a guarded "
        "charge ran {charged} time",
        shadows=len(ran),
        ways=refused + 1,
        charged=len(charged),
    )


def test_s13_shadows_never_have_more_than_their_share_at_once(watch, figure):
    """Bounded threads, tasks, jobs, bytes, time and CPU by default: a candidate's connections are bounded with them."""
    limits = ShadowLimits()
    assert (2, 64, 64, 32 << 20, 2, 0.1) == (
        limits.workers, limits.max_jobs, limits.max_tasks, limits.max_bytes, limits.max_abandoned, limits.cpu_share,
    )  # fmt: skip
    runtime = watch(shadows={"workers": 2, "max_tasks": 8})
    inside, most = [], []

    def candidate(x):
        inside.append(x)
        most.append(len(inside))
        time.sleep(0.001)
        inside.remove(x)

    model = shadowed(lambda x: x, candidate, runtime)
    threads = [threading.Thread(target=lambda start=n: [model(start + x) for x in range(50)]) for n in range(0, 200, 50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert runtime.flush(20.0)
    tasks, most_tasks = [], []

    async def control(x):
        return x

    async def task(x):
        tasks.append(x)
        most_tasks.append(len(tasks))
        await asyncio.sleep(0.005)
        tasks.remove(x)

    async def main():
        asynchronous = shadowed(control, task, runtime, key="async")
        await asyncio.gather(*(asynchronous(x) for x in range(200)))
        await asyncio.sleep(0.05)

    asyncio.run(main())
    assert (max(most), max(most_tasks)) == (2, 8)
    figure(
        "S13",
        "{shadows} shadows of calls from {threads} threads: at most {most} at the same time; {tasks} on a loop: "
        "at most {most_tasks} of {allowed}",
        shadows=len(most),
        threads=len(threads),
        most=max(most),
        tasks=len(most_tasks),
        most_tasks=max(most_tasks),
        allowed=runtime.shadows.max_tasks,
    )


def test_s14_a_journal_is_its_owners_and_follows_no_link(watch, tmp_path, figure):
    """Folder 0700, files 0600, whatever the umask; O_NOFOLLOW and O_EXCL; a folder of its own in an open one."""
    folder, target = tmp_path / "journal", tmp_path / "target"
    target.write_text("")
    before = os.umask(0)
    try:
        runtime = watch(journal=folder)
        model = served(lambda x: 1, lambda x: 2, runtime)
        model(1)
        assert runtime.flush(5.0)
        (file,) = folder.iterdir()
        # Somebody puts a link in the file's place.
        file.unlink()
        file.symlink_to(target)
        model(2)
        assert runtime.flush(5.0)
        later = [path for path in folder.iterdir() if not path.is_symlink()]
    finally:
        os.umask(before)
    modes = [stat.S_IMODE(path.stat().st_mode) for path in (folder, *later)]
    assert [0o700, 0o600] == modes
    through = target.stat().st_size
    assert 0 == through
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    runtime = watch(journal=tmp_path / "open")
    served(lambda x: 1, lambda x: 2, runtime)(1)
    assert runtime.flush(5.0)
    (inside,) = (tmp_path / "open").iterdir()
    assert (0o700, 1) == (stat.S_IMODE(inside.stat().st_mode), len(list(inside.iterdir())))
    figure(
        "S14",
        "folder {folder:04o}, file {file:04o} under an empty umask; {through} bytes through a planted link; in an "
        "open folder, its own folder has {inside:04o}",
        folder=modes[0],
        file=modes[1],
        through=through,
        inside=stat.S_IMODE(inside.stat().st_mode),
    )


def test_s14_a_link_that_waits_for_the_next_file_is_not_followed(tmp_path, monkeypatch):
    from rollout_sdk.journal import JournalWriter

    target = tmp_path / "target"
    (tmp_path / "journal").mkdir()
    writer = JournalWriter(tmp_path / "journal")
    name = f"events-{{}}-{os.getpid()}-{writer._began:x}-0.jsonl"
    from rollout_sdk.journal import writer as module

    (tmp_path / "journal" / name.format(module.host_name())).symlink_to(target)
    with pytest.raises(OSError, match="exists"):
        writer.write([b"{}"])
    # The name is not tried again: the next line has a file.
    writer.write([b"{}"])
    writer.close()
    assert not target.exists()


@pytest.mark.parametrize("strategy", [ABTest(1.0), Canary(["100%"]), Shadow(1.0)], ids=lambda strategy: strategy.name)
def test_s15_an_answer_does_not_say_whose_it_is(strategy, watch, figure):
    """The caller has the model's own object, value or exception, and nothing beside it: arms are told to whoever asks."""

    class Answer:
        pass

    answer, error = Answer(), ValueError("bare")

    def gives(x):
        if x:
            raise error
        return answer

    model = served(gives, gives, watch(), strategy=strategy, effects="read", on_error="raise")
    assert model(0) is answer
    with pytest.raises(ValueError) as caught:
        model(1)
    assert (error, {}, {}, ("bare",)) == (caught.value, vars(answer), vars(error), error.args)
    assert not getattr(error, "__notes__", [])
    figure("S15", "{own} of {given} answers and exceptions are the model's own objects, with {added} attributes added",
           own=(model(0) is answer) + (caught.value is error), given=len([answer, error]),
           added=len(vars(answer)) + len(vars(error)))  # fmt: skip
