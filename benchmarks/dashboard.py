"""Time and memory of the dashboard for a large journal, many browsers and many rollouts; and the time of a report as a page.

The SDK writes the journal; the dashboard reads and follows it in a separate process. Beyond 100,000 lines, the rest is written
directly, in the same form, as that of a second process: ten million calls would take an hour on a busy machine.

    python benchmarks/dashboard.py [--lines 1000000] [--browsers 50] [--rollouts 1000]
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
from pathlib import Path
from urllib.parse import urlsplit

from rollout_sdk import ABTest, Gate, Guardrail, Runtime, rollout
from rollout_sdk.assignment.ids import encode_id

_BY_THE_SDK = 100_000


def answer(unit: str) -> str:
    """A model."""
    return unit


def written(folder: Path, lines: int, rollouts: int) -> None:
    """A journal with about so many lines: calls with an outcome for every second, and one call of every other rollout."""
    runtime = Runtime(journal=folder, key=b"k" * 16)
    strategy = ABTest(0.5, gates=[Gate("buy", mde=0.01)], guardrails=[Guardrail("error_rate")])
    model = rollout(candidate=answer, strategy=strategy, unit="unit", key="large", runtime=runtime)(answer)
    draw = random.Random(1)
    for number in range(lines * 2 // 3):
        decision = model.rollout.route(f"u{draw.randrange(lines // 5)}").decision
        if number % 2:
            model.rollout.record("buy", float(draw.random() < 0.1), decision_id=decision.id)
        if not number % 2_000:
            runtime.flush(60.0)
    for number in range(rollouts):
        small = rollout(candidate=answer, strategy=ABTest(0.5), unit="unit", key=f"small{number}", runtime=runtime)(answer)
        small("u")
        if not number % 100:
            runtime.flush(60.0)
    runtime.close(60.0)


def continued(folder: Path, lines: int) -> None:
    """So many further lines: those of another process that serves the same rollout."""
    (path,) = folder.glob("events-*-0.jsonl")
    shape = next(line for line in map(json.loads, path.open()) if line["event"] == "decision" and line["rollout"] == "large")
    begun_s, draw = time.time(), random.Random(2)
    fingerprint, phase, units = shape["fingerprint"], shape["phase"], lines // 5
    header = {"event": "journal", "v": 1, "t": begun_s, "sdk": "0.1.0", "pid": 1, "host": "other", "began": "0" * 16, "part": 0}
    decided = (
        '{{"event":"decision","v":1,"t":{t:.6f},"rollout":"large","id":"{id}","strategy":"ab","phase":"{phase}",'
        '"fingerprint":"{fingerprint}","variant":"{arm}","served":"{arm}","reason":"split","propensity":0.5,"share":0.5,'
        '"bucket":{bucket},"unit":"{unit:016x}","runs":[["{arm}",0.000001,null,null]]}}\n'
    )
    outcome = (
        '{{"event":"outcome","v":1,"t":{t:.6f},"rollout":"large","metric":"buy","value":{value},"id":"{id}","phase":"{phase}",'
        '"fingerprint":"{fingerprint}","variant":"{arm}","bucket":{bucket},"decided":{t:.3f}}}\n'
    )
    with (folder / f"events-other-1-{'0' * 16}-0.jsonl").open("w") as file:
        file.write(json.dumps(header) + "\n")
        for number in range(lines * 2 // 3):
            unit = draw.randrange(units)
            arm, bucket, t = ("control", "candidate")[unit & 1], unit * 2_654_435_761 % 2**32 >> 23, begun_s + number * 1e-4
            names = {"t": t, "phase": phase, "fingerprint": fingerprint, "arm": arm, "bucket": bucket, "unit": unit}
            names["id"] = encode_id(
                "large", phase, arm, bucket, int(t * 1e9), f"00000000ff{number:x}", b"k" * 16, fingerprint=fingerprint
            )
            file.write(decided.format_map(names))
            if number % 2:
                file.write(outcome.format_map({**names, "value": float(draw.random() < 0.1)}))


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


def listening(address: str, stop: threading.Event) -> None:
    """A browser that follows a page: it waits for changes, and fetches the page at each."""
    connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=120)
    connection.request("GET", "/events")
    answer = connection.getresponse()
    while not stop.is_set():
        if answer.readline().startswith(b"data:"):
            get(address, "/rollout/large")


def measure(folder: Path, browsers: int) -> None:
    """Start the dashboard, and print its time and memory."""
    command = [sys.executable, "-m", "rollout_sdk.cli", "dashboard", str(folder), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"}) as server:
        try:
            assert server.stdout is not None
            found = re.search(r"http://\S+", server.stdout.readline())
            assert found is not None
            address, began = found[0], time.perf_counter()
            while "/rollout/large" not in get(address, "/")[1]:
                time.sleep(0.2)
            print(f"first reading          {time.perf_counter() - began:8.1f} s  (processor {cpu_s(server.pid):.1f} s)")
            print(f"list                   {get(address, '/')[0]:8.2f} s  then {get(address, '/')[0]:.3f} s")
            first, again = (get(address, "/rollout/large")[0] for _ in range(2))
            print(f"page                   {first:8.2f} s  then {again:.3f} s")
            print(f"memory, at most        {peak_mib(server.pid):8.0f} MiB")
            runtime = Runtime(journal=folder, key=b"k" * 16)
            model = rollout(candidate=answer, strategy=ABTest(0.5), unit="unit", key="new", runtime=runtime)(answer)
            began = time.perf_counter()
            model("u")
            while "/rollout/new" not in get(address, "/")[1]:
                time.sleep(0.05)
            print(f"a new rollout is shown {time.perf_counter() - began:8.2f} s after its first call")
            stop = threading.Event()
            for _ in range(browsers):
                threading.Thread(target=listening, args=(address, stop), daemon=True).start()
            time.sleep(2.0)
            for name, busy in (("nothing new", False), ("a call a second", True)):
                before, at = cpu_s(server.pid), time.perf_counter()
                while time.perf_counter() - at < 10:
                    if busy:
                        model("u")
                    time.sleep(1.0)
                share = (cpu_s(server.pid) - before) / (time.perf_counter() - at)
                print(f"{browsers} browsers, {name:<16}{share:8.1%} of a core")
            runtime.close()
            stop.set()
        finally:
            server.kill()


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--lines", type=int, default=1_000_000)
    parser.add_argument("--browsers", type=int, default=50)
    parser.add_argument("--rollouts", type=int, default=1_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        written(Path(folder), min(options.lines, _BY_THE_SDK), options.rollouts)
        if options.lines > _BY_THE_SDK:
            continued(Path(folder), options.lines - _BY_THE_SDK)
        size = sum(path.stat().st_size for path in Path(folder).iterdir())
        print(f"{options.lines:,} lines, {size / 2**20:,.0f} MiB, {options.rollouts:,} other rollouts")
        measure(Path(folder), options.browsers)


if __name__ == "__main__":
    main()
