"""Rows S1 to S15: what a hostile id, name, plugin, folder or output can do. Some defaults are met by what is not there."""

import ast
import json
import os
import stat
import time
from pathlib import Path

import pytest
import structlog
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import rollout_sdk
from rollout_sdk import (
    ABTest,
    ConfigurationError,
    Interleave,
    Runtime,
    ShadowEffectError,
    Telemetry,
    UnknownStrategyError,
    rollout,
    shadow_guard,
)
from rollout_sdk.assignment import UnitHash, canonical, point_of
from tests.faults.models import served, shadowed

PACKAGE = Path(rollout_sdk.__file__).parent
SOURCES = [*PACKAGE.rglob("*.py"), *(PACKAGE.parent / "plugins").glob("*/*/*.py")]
MARKER = "marker-4711"


def trees():
    for path in SOURCES:
        yield path, ast.parse(path.read_text(encoding="utf-8"))


def names_in(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""
        elif isinstance(node, ast.Call):
            yield ast.unparse(node.func)


def everything(folder, unit, payload):
    """A call of each kind with a hostile unit, a hostile payload and a hostile exception; returns all that left the process."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    runtime = Runtime(journal=folder, telemetry=Telemetry(tracer_provider=provider))

    def fails(user, payload):
        raise ValueError(payload, user)

    with structlog.testing.capture_logs() as logs:
        options = {"unit": "user", "breaker": None}
        served(lambda user, payload: payload, fails, runtime, key="ab", **options)(unit, payload)
        shadowed(lambda user, payload: payload, fails, runtime, key="shadow", **options)(unit, payload)
        rank = served(
            lambda user, payload: [payload], lambda user, payload: ["x"], runtime, strategy=Interleave(), key="i", unit="user"
        )
        decision = rank.rollout.route(unit, payload).decision
        rank.rollout.record("click", 1.0, decision_id=decision.id)
        runtime.close(5.0)
    journal = b"".join(path.read_bytes() for path in folder.glob("*.jsonl"))
    spans = "".join(span.to_json() for span in exporter.get_finished_spans())
    return journal, repr(logs), spans


@pytest.mark.parametrize("text", [f"{MARKER}\n\x1b[31m", f"{MARKER}\u2028\x85", f"{MARKER}\ud800", f'{MARKER}"}}{{"event":"x'])
def test_s1_and_s2_no_id_payload_or_message_leaves_the_process(text, tmp_path, figure):
    journal, logs, spans = everything(tmp_path, text, text)
    assert not any(MARKER in each for each in (journal.decode("ascii"), logs, spans))
    for line in journal.splitlines():
        assert line.isascii()
        assert line == b"" or json.loads(line)["event"] in {"journal", "rollout", "decision", "shadow", "outcome", "transition"}
    assert b"\x1b" not in journal
    figure("S1, S2", "no id, payload or exception text in journal, logs and spans; control characters in none")


def test_s1_a_hostile_name_is_refused_when_decorating():
    for name in ("a\nb", "\x1b[31m", "a\u2028b", "", "x" * 201):
        with pytest.raises(ConfigurationError):
            served(lambda x: x, lambda x: x, Runtime(), key=name)


def test_s3_with_a_key_nobody_can_choose_an_arm_offline(figure):
    keyed, public = UnitHash("rollout", b"secret"), UnitHash("rollout", None)
    units = [canonical(f"u-{number}") for number in range(20_000)]
    chosen = [unit for unit in units if point_of(public(unit)) < 0.01]
    seats = sum(point_of(keyed(unit)) < 0.01 for unit in chosen) / len(chosen)
    assert len(chosen) > 100
    assert seats < 0.06
    # Fields are told apart: what belongs to the name cannot be moved into the unit.
    assert canonical(("a", "bc")) != canonical(("ab", "c"))
    assert b"secret" not in repr(Runtime(key=b"secret")).encode()
    figure("S3", f"{seats:.1%} of the ids that were computed for a 1 % bucket are in it under a key")


def test_s4_a_huge_id_costs_no_time(figure):
    canonical("warm")
    took = []
    for unit in ("x" * 10_000_000, b"x" * 10_000_000, "é" * 10_000_000, 1 << 10_000_000):
        began = time.perf_counter()
        canonical(unit)
        took.append(time.perf_counter() - began)
    assert max(took) < 0.05
    figure("S4", f"an id of 10 MB costs {max(took) * 1e6:.0f} us at most")


def test_s5_many_units_cost_no_memory_and_no_metric(tmp_path):
    """Nothing is kept by unit: no sticky table, no cache. The benchmark measures a million of them."""
    runtime = Runtime()
    model = served(lambda user: 1, lambda user: 2, runtime, strategy=ABTest(0.5), unit="user")
    for number in range(2000):
        model(f"u-{number}")
    runtime.flush(10.0)
    held = [model.rollout._describe._known, model.rollout._describe._fixed, runtime.faults, runtime._delivery.tallies]
    assert max(len(each) for each in held) < 20


def test_s6_what_is_installed_is_not_imported_until_it_is_named(run_python, monkeypatch):
    result = run_python("""
        import sys
        from rollout_sdk import ABTest, rollout
        model = rollout(candidate=lambda: 1, strategy=ABTest(0.5), key="k")(lambda: 0)
        model()
        print([name for name in sys.modules if name.startswith("rollout_sdk_")])
    """)
    assert ("[]\n", "") == (result.stdout, result.stderr)
    monkeypatch.setenv("ROLLOUT_DISABLED_PLUGINS", "targeting")
    with pytest.raises(UnknownStrategyError, match="is blocked by ROLLOUT_DISABLED_PLUGINS"):
        served(lambda x: x, lambda x: x, Runtime(), strategy="targeting")


def test_s7_and_s8_no_server_no_pickle_no_evaluation():
    forbidden = {"pickle", "marshal", "shelve", "http.server", "socketserver", "xmlrpc", "eval", "exec", "yaml.load", "compile"}
    found = {(path.name, name) for path, tree in trees() for name in names_in(tree) if name in forbidden}
    assert set() == found
    assert len(SOURCES) > 60


def test_s9_a_hostile_output_is_compared_or_given_up_and_never_recorded(watch, figure):
    circle = []
    circle.append(circle)
    nested = []
    for _ in range(100_000):
        nested = [nested]
    hostile = [circle, nested, 10**5000, float("nan"), "\ud800", {(1,): {1, 2}}, b"\xff" * 100]
    runtime = watch()
    model = shadowed(lambda index: hostile[index], lambda index: hostile[index], runtime)
    assert all(model(index) is hostile[index] for index in range(len(hostile)))
    assert {"ok"} == {event.end for event in runtime.shadowed()}
    figure("S9", "7 hostile outputs served, compared or given up, and none recorded")


def test_s10_no_pattern_of_a_user_is_ever_matched():
    """Only constant patterns are compiled, and all of them here: no rule, unit or name becomes a regular expression."""
    for path, tree in trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("re.") and node.args:
                assert isinstance(node.args[0], ast.Constant), f"{path.name}: {ast.unparse(node)}"


def test_s11_an_older_control_file_is_refused(tmp_path):
    from rollout_sdk.control.file import ControlFile

    path = tmp_path / "control.toml"
    path.write_text("version = 5\ndisabled = true")
    path.chmod(0o600)
    file = ControlFile(path)
    path.write_text("version = 4")
    file.poll()
    with pytest.raises(ConfigurationError, match="version 5 was read already"):
        file.poll()
    assert file.wanted.disabled


def test_s12_what_writes_is_not_shadowed_and_a_guard_holds(watch):
    with pytest.raises(ConfigurationError, match="effects='read'"):
        shadowed_without_declaring(watch())
    charged = []

    @shadow_guard
    def charge(user):
        charged.append(user)

    runtime = watch()
    shadowed(lambda user: user, charge, runtime)("u-1")
    assert [ShadowEffectError.__name__] == [event.error for event in runtime.shadowed()]
    assert [] == charged


def shadowed_without_declaring(runtime):
    return rollout(candidate=lambda x: x, strategy=rollout_sdk.Shadow(1.0), key="model", runtime=runtime)(lambda x: x)


def test_s13_shadows_have_caps_of_their_own():
    limits = rollout_sdk.ShadowLimits()
    assert (2, 64, 32 << 20, 0.1) == (limits.workers, limits.max_jobs, limits.max_bytes, limits.cpu_share)


def test_s14_the_journal_is_for_its_owner_and_follows_no_link(tmp_path):
    before = os.umask(0)
    try:
        runtime = Runtime(journal=tmp_path / "journal")
        served(lambda x: x, lambda x: x, runtime)(1)
        runtime.close(5.0)
    finally:
        os.umask(before)
    (file,) = (tmp_path / "journal").glob("*.jsonl")
    assert (0o700, 0o600) == tuple(stat.S_IMODE(path.stat().st_mode) for path in (file.parent, file))
    open_to_all = tmp_path / "open"
    open_to_all.mkdir()
    open_to_all.chmod(0o777)
    with pytest.raises(ConfigurationError, match="Anybody may write"):
        Runtime(journal=open_to_all)
    from rollout_sdk.journal import writer

    assert writer._FLAGS & os.O_NOFOLLOW
    assert writer._FLAGS & os.O_EXCL


def test_s15_an_answer_does_not_say_which_arm_it_is_of(watch):
    """The caller has the model's own value: no header, attribute or wrapper tells the arm."""
    value = {"score": 1}
    model = served(lambda x: value, lambda x: value, watch(), strategy=ABTest(0.5))
    assert all(model(number) is value for number in range(20))
