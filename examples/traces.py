"""The demo's traffic as traces, in a Phoenix on this machine: a fallback, a shadow and its call, an interleaved list, a step.

Run it: make demo-traces. It prints links to open, and keeps Phoenix running until Ctrl-C on a terminal (or with --keep).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from canary_auto import fragile
from demo import films, sentiment
from reviews import Trained, load
from rollout_sdk import Runtime, ShadowLimits, Telemetry

PROJECT = "rollout-demo"
READY_S = 180.0
CALL = "the call of that shadow"

WANTED: dict[str, Callable[[ReadableSpan], bool]] = {
    "a candidate that failed, and the control that answered": lambda span: bool(attribute(span, "rollout.fallback.variant")),
    "a shadow whose answer differs from the control's": lambda span: attribute(span, "rollout.comparison.match") is False,
    "a list of two recommenders": lambda span: all(attribute(span, "rollout.interleave.contributions") or [0]),
    "a step of the canary": lambda span: attribute(span, "rollout.transition.action") == "promote",
}


def attribute(span: ReadableSpan, name: str) -> object:
    return (span.attributes or {}).get(name)


class Picked(SpanProcessor):
    """Counts the spans, and keeps the first of each kind that is worth looking at.

    Attributes:
        number: Number of ended spans.
        ids: Ids of the kept spans, by what they show.
    """

    def __init__(self) -> None:
        """Start without spans."""
        self.number = 0
        self.ids: dict[str, str] = {}

    def on_end(self, span: ReadableSpan) -> None:
        """Count a span, and keep it if it is the first of its kind."""
        self.number += 1
        for shows, wanted in WANTED.items():
            if shows not in self.ids and wanted(span):
                self.ids[shows] = f"{span.context.span_id:016x}"
                if origin := attribute(span, "rollout.shadow.origin.span_id"):
                    self.ids[CALL] = str(origin)


def phoenix_program(given: str | None) -> str:
    """Return the executable: as given, on the PATH, or where `make demo-traces` installs it."""
    installed = Path(__file__).parent.parent / ".venv-backends" / "bin"
    found = given or os.environ.get("ROLLOUT_PHOENIX") or shutil.which("phoenix") or shutil.which("phoenix", path=installed)
    if found is None:
        sys.exit("Phoenix is not installed. Run make demo-traces, or pip install arize-phoenix.")
    return found


def free_port(wanted: int = 0) -> int:
    with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", wanted)) as server:
        return int(server.getsockname()[1])
    return free_port()


@contextlib.contextmanager
def phoenix(program: str) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Run Phoenix for this machine only, with its data in a temporary folder."""
    port = free_port(6006)
    with tempfile.TemporaryDirectory(prefix="rollout-phoenix-") as folder, Path(folder, "log").open("wb") as log:
        environment = {
            "PHOENIX_HOST": "127.0.0.1",
            "PHOENIX_PORT": str(port),
            "PHOENIX_GRPC_PORT": str(free_port()),
            "PHOENIX_WORKING_DIR": folder,
            "PHOENIX_TELEMETRY_ENABLED": "false",
            "PHOENIX_ALLOW_EXTERNAL_RESOURCES": "false",
            "PHOENIX_DISABLE_AGENT_ASSISTANT": "true",
        }
        process = subprocess.Popen([program, "serve"], env={**os.environ, **environment}, stdout=log, stderr=log)
        try:
            yield f"http://127.0.0.1:{port}", process
        except ConnectionError as error:
            sys.exit(f"{error}\n{Path(log.name).read_text(errors='replace')[-2000:]}")
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def wait_for(address: str, process: subprocess.Popen[bytes], enough: Callable[[str], bool]) -> None:
    """Request an address until the answer is as wanted; ConnectionError if Phoenix has ended, or takes too long."""
    deadline = time.monotonic() + READY_S
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(URLError), urlopen(address, timeout=30) as answer:
            if enough(answer.read().decode()):
                return
        time.sleep(0.3)
    raise ConnectionError(f"Phoenix does not answer at {address}.")


def send(address: str, process: subprocess.Popen[bytes], served: int, visits: int) -> Picked:
    """Send the demo's reviews and film visits, with a candidate that fails on long texts; return the spans to look at."""
    reviews = load()
    half = len(reviews) // 2
    candidate = fragile(Trained(reviews[:half]))
    wait_for(f"{address}/healthz", process, lambda _: True)
    provider, picked = TracerProvider(resource=Resource({"openinference.project.name": PROJECT})), Picked()
    # A day's traffic in seconds: the queue is longer than an application's.
    exporter = OTLPSpanExporter(f"{address}/v1/traces", timeout=60.0)
    provider.add_span_processor(BatchSpanProcessor(exporter, max_queue_size=100_000))
    provider.add_span_processor(picked)
    # Outcomes need a journal, although there is no report here.
    journal = tempfile.TemporaryDirectory()
    runtime = Runtime(
        journal=journal.name,
        telemetry=Telemetry(tracer_provider=provider),
        shadows=ShadowLimits(cpu_share=1.0, max_jobs=10_000, max_age_s=60.0),
    )
    try:
        sentiment(reviews[half:][:served], candidate, runtime)
        films(runtime, visits)
    finally:
        runtime.close(10.0)
        provider.shutdown()
        journal.cleanup()
    for span in picked.ids.values():
        wanted = f"{address}/v1/projects/{PROJECT}/spans?span_id={span}"
        wait_for(wanted, process, lambda answer: bool(json.loads(answer)["data"]))
    return picked


def main(program: str, *, served: int, visits: int, keep: bool) -> None:
    """Send the traffic, print the links, and keep Phoenix running if requested."""
    with phoenix(program) as (address, process):
        print("Starting Phoenix, training the candidate, and sending real reviews and film visits ...", flush=True)
        picked = send(address, process, served, visits)
        print(f"\n{picked.number:,} spans: {address}/redirects/projects/{PROJECT}\n")
        first, second, *others = WANTED
        for shows in (first, second, CALL, *others):
            span = picked.ids[shows]
            print(f"{shows}\n    {address}/redirects/spans/{span}")
        if keep:
            print("\nPhoenix stays until Ctrl-C.", flush=True)
            with contextlib.suppress(KeyboardInterrupt):
                process.wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--phoenix", help="its executable")
    parser.add_argument("--served", type=int, default=900, help="reviews to send")
    parser.add_argument("--visits", type=int, default=200, help="film visits to send")
    parser.add_argument(
        "--keep", action="store_true", default=sys.stdout.isatty(), help="keep Phoenix running, also without a terminal"
    )
    options = parser.parse_args()
    # Phoenix must end with this program.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(1))
    main(phoenix_program(options.phoenix), served=options.served, visits=options.visits, keep=options.keep)
