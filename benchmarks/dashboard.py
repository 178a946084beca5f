"""Time and memory of the dashboard for a large journal, many browsers and many rollouts; and the time of a report as a page.

The journal is written by the SDK, then read and followed by the dashboard in a process of its own. Beyond 50,000 lines,
the same lines are repeated as those of a second process, with other ids, units and times: ten million calls would take an hour.

    python benchmarks/dashboard.py [--lines 1000000] [--browsers 50] [--rollouts 995]
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import threading
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from rollout_sdk import ABTest, Canary, Gate, Guardrail, Interleave, Runtime, Shadow, ShadowLimits, rollout
from rollout_sdk.analysis.judged import MOST_ROLLOUTS

_BY_THE_SDK = 50_000
_LONGEST_S = 7_200.0
_MEASURED_S = 20.0
_KEPT_S = 2.0
"""How long a browser leaves a connection open that it does not use; the server leaves it open for longer."""


def answer(unit: str) -> str:
    """A model."""
    return unit


def ranked(unit: str) -> list[str]:
    """Another one: the control's list."""
    return [f"film{(len(unit) + number) % 50}" for number in range(10)]


def otherwise(unit: str) -> list[str]:
    """The candidate's list."""
    return [f"film{(ord(unit[-1]) + 3 * number) % 50}" for number in range(10)]


CANARY = Canary(["50%"], guardrails=[Guardrail("error_rate")], shadow=0.1)


def served(strategy: Shadow | Canary | ABTest, runtime: Runtime) -> Callable[[str], str]:
    """The model in a rollout of its own."""
    key = f"large.{strategy.name}"
    return rollout(candidate=answer, strategy=strategy, key=key, unit="unit", effects="read", runtime=runtime)(answer)


def written(folder: Path, lines: int) -> None:
    """About so many lines in the mix of the demo: a shadow test, a canary, an A/B test and an interleaving, with outcomes."""
    runtime = Runtime(journal=folder, key=b"k" * 16, shadows=ShadowLimits(cpu_share=1.0, max_jobs=10_000, max_age_s=60.0))
    errors = Guardrail("error_rate")
    models = [
        served(Shadow(rate=0.25, guardrails=[errors]), runtime),
        served(CANARY, runtime),
        served(ABTest(0.5, gates=[Gate("buy", mde=0.01)], guardrails=[errors]), runtime),
    ]
    blend = Interleave(k=10, gates=[Gate("click", mde=0.02)])
    shared = {"unit": "unit", "effects": "read", "runtime": runtime}
    films = rollout(candidates={"other": otherwise}, strategy=blend, key="large.interleave", **shared)(ranked)
    draw = random.Random(1)
    # Each turn is of about eight and a half lines.
    for number in range(lines * 2 // 17):
        unit = f"u{draw.randrange(lines // 8)}"
        for model in models:
            model.rollout.record("buy", float(draw.random() < 0.1), decision_id=model.rollout.route(unit).decision.id)
        routed = films.rollout.route(unit)
        if draw.random() < 0.5:
            films.rollout.record("click", 1.0, decision_id=routed.decision.id, item=draw.choice(routed.value))
        if not number % 500:
            runtime.flush(60.0)
    runtime.close(60.0)


def others(folder: Path, rollouts: int) -> None:
    """One call of each of so many other rollouts."""
    runtime = Runtime(journal=folder, key=b"k" * 16)
    for number in range(rollouts):
        small = rollout(candidate=answer, strategy=ABTest(0.5), unit="unit", key=f"small{number}", runtime=runtime)(answer)
        small("u")
        if not number % 100:
            runtime.flush(60.0)
    runtime.close(60.0)


def continued(folder: Path, lines: int) -> None:
    """So many further lines: those of another process, which served the same rollouts before, with as many units again.

    They are those of the first process over and over, each time with other ids and units, and a minute later.
    """
    (path,) = folder.glob("events-*-0.jsonl")
    sample = [line for line in path.read_bytes().splitlines(keepends=True) if b'"rollout":"large.' in line]
    stands = [line for line in sample if b'"event":"rollout"' in line]
    calls = [line for line in sample if b'"event":"rollout"' not in line]
    times = len(range(0, lines, len(calls)))
    header = {"event": "journal", "v": 1, "t": time.time(), "sdk": "0.1.0", "pid": 1, "host": "other", "began": "0" * 16}
    # What differs from one time to the next: [before, after it, what it is].
    varied = re.compile(rb'"(id|unit|t|decided)":("?)([^",}]+)')
    pieces = [varied.split(line) for line in calls]
    left = lines - 1 - len(stands)
    with (folder / f"events-other-1-{'0' * 16}-0.jsonl").open("wb") as file:
        file.write(json.dumps({**header, "part": 0}).encode() + b"\n")
        file.writelines(stands)
        for turn in range(times):
            shift_s = 60.0 * (turn - times)
            file.writelines(_varied(each, turn, shift_s) for each in pieces[:left])
            left -= len(pieces)


def _varied(pieces: list[bytes], turn: int, shift_s: float) -> bytes:
    """A line with other ids, units and times."""
    found = [pieces[0]]
    for name, quote, value, after in zip(*(pieces[start::4] for start in (1, 2, 3, 4)), strict=True):
        found += [b'"', name, b'":', quote, _VARIED[name](value, turn, shift_s), after]
    return b"".join(found)


def _other_id(value: bytes, turn: int) -> bytes:
    """The id of another process's call: behind its process, ten digits, stands the call's number."""
    fields = urlsafe_b64decode(value + b"=" * (-len(value) % 4)).split(b"\x1f", 7)
    fields[6] = b"%010x" % (turn + 1) + fields[6][10:]
    return urlsafe_b64encode(b"\x1f".join(fields)).rstrip(b"=")


def _later(value: bytes, shift_s: float) -> bytes:
    return b"%.6f" % (float(value) + shift_s)


_VARIED = {
    b"id": lambda value, turn, _: _other_id(value, turn),
    # The lowest bits of a unit are its bucket.
    b"unit": lambda value, turn, _: b"%016x" % ((int(value, 16) + turn * 0x9E3779B97F4A7C00) % 2**64),
    b"t": lambda value, _, shift_s: _later(value, shift_s),
    b"decided": lambda value, _, shift_s: _later(value, shift_s),
}


def get(address: str, path: str) -> tuple[float, str]:
    """Seconds until a page has come, and the page."""
    connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=120)
    began = time.perf_counter()
    connection.request("GET", path)
    page = connection.getresponse().read().decode()
    return time.perf_counter() - began, page


def cpu_s(pid: int) -> float:
    """Processor time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def peak_mib(pid: int) -> float:
    """Most memory that a process has held."""
    return int(re.findall(r"VmHWM:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[0]) / 1024


def listening(address: str, stop: threading.Event, fetched: list[int]) -> None:
    """A browser that follows a page: it waits for changes, and fetches what is in the page at each, as page.js does."""
    stream, pages = (http.client.HTTPConnection(urlsplit(address).netloc, timeout=120) for _ in range(2))
    stream.request("GET", "/events?rollout=large.canary")
    answer, used = stream.getresponse(), 0.0
    while not stop.is_set():
        if answer.readline().startswith(b"data:"):
            if time.perf_counter() - used > _KEPT_S:
                pages.close()
            pages.request("GET", "/rollout/large.canary", headers={"X-Fragment": "1"})
            fetched.append(len(pages.getresponse().read()))
            used = time.perf_counter()


def shown(address: str, key: str, every_s: float = 0.05) -> tuple[float, float]:
    """Seconds until a rollout is in the list, and those of the slowest list until then: the one that was made anew."""
    began, slowest = time.perf_counter(), 0.0
    while True:
        seconds, page = get(address, "/")
        slowest = max(slowest, seconds)
        if f"/rollout/{key}" in page:
            return time.perf_counter() - began, slowest
        if time.perf_counter() - began > _LONGEST_S:
            raise TimeoutError(f"{key} is not in the list after {_LONGEST_S:,.0f} s")
        time.sleep(every_s)


def reported(folder: Path) -> None:
    """Print how long the report as a page takes, in a process of its own."""
    with tempfile.TemporaryDirectory() as target:
        page, began = Path(target) / "report.html", time.perf_counter()
        command = [sys.executable, "-m", "rollout_sdk.cli", "report", str(folder), "--html", str(page)]
        subprocess.run(command, check=True, capture_output=True)
        seconds, size = time.perf_counter() - began, page.stat().st_size / 1_000
    lines = sum(path.read_bytes().count(b"\n") for path in folder.iterdir())
    print(f"report as a page       {seconds:8.1f} s  of {lines:,} lines ({size:,.0f} kB)", flush=True)


def measure(folder: Path, lines: int, browsers: int) -> None:
    """Start the dashboard, and print what it needs."""
    command = [sys.executable, "-m", "rollout_sdk.cli", "dashboard", str(folder), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"}) as server:
        try:
            assert server.stdout is not None
            found = re.search(r"http://\S+", server.stdout.readline())
            assert found is not None
            address, (seconds, _) = found[0], shown(found[0], "large.canary", 0.5)
            used_s = cpu_s(server.pid)
            print(f"first reading          {seconds:8.1f} s  (processor {used_s:.1f} s, {lines / used_s:,.0f} lines in each)")
            first, again = (get(address, "/rollout/large.canary")[0] for _ in range(2))
            print(f"page                   {first:8.2f} s  then {again:.3f} s")
            print(f"memory, at most        {peak_mib(server.pid):8.0f} MiB")
            runtime = Runtime(journal=folder, key=b"k" * 16)
            model = rollout(candidate=answer, strategy=ABTest(0.5), unit="unit", key="new", runtime=runtime)(answer)
            model("u")
            seconds, slowest = shown(address, "new")
            print(f"a new rollout is shown {seconds:8.2f} s after its first call")
            print(f"list, made anew        {slowest:8.2f} s  then {get(address, '/')[0]:.3f} s")
            stop, fetched = threading.Event(), list[int]()
            for _ in range(browsers):
                threading.Thread(target=listening, args=(address, stop, fetched), daemon=True).start()
            time.sleep(2.0)
            canary = served(CANARY, runtime)
            for name, call in (("nothing new", None), ("a call a second", canary), ("another's calls", model)):
                before, at = cpu_s(server.pid), time.perf_counter()
                number, pages = 0, len(fetched)
                while time.perf_counter() - at < _MEASURED_S:
                    if call is not None:
                        call(f"u{number}")
                        number += 1
                    time.sleep(1.0)
                share = (cpu_s(server.pid) - before) / (time.perf_counter() - at)
                print(f"{browsers} browsers, {name:<16}{share:8.1%} of a core  ({len(fetched) - pages:,} pages)")
            runtime.close()
            stop.set()
        finally:
            server.kill()


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--lines", type=int, default=1_000_000)
    parser.add_argument("--browsers", type=int, default=50)
    # With the four large ones and the new one, as many as are shown.
    parser.add_argument("--rollouts", type=int, default=MOST_ROLLOUTS - 5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        written(Path(folder), min(options.lines, _BY_THE_SDK))
        reported(Path(folder))
        if options.lines > _BY_THE_SDK:
            continued(Path(folder), options.lines - _BY_THE_SDK)
        others(Path(folder), options.rollouts)
        size = sum(path.stat().st_size for path in Path(folder).iterdir())
        print(f"{options.lines:,} lines, {size / 2**20:,.0f} MiB, {options.rollouts:,} other rollouts", flush=True)
        measure(Path(folder), options.lines, options.browsers)


if __name__ == "__main__":
    main()
