"""Processes of a fleet, and what they have written."""

import json
import subprocess
import sys
from pathlib import Path

from .servers import until

PROGRAM = Path(__file__).with_name("program.py")


class Member:
    """A process that serves the canary."""

    def __init__(self, address, folder, name, *, pause_s=0.005, prefix=()):
        self.out = folder / f"{name}.jsonl"
        with self.out.open("w") as out, (folder / f"{name}.err").open("w") as errors:
            command = [*prefix, sys.executable, str(PROGRAM), address, str(pause_s)]
            self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=out, stderr=errors, text=True)

    def lines(self):
        # The last line may be half a one: of a process that writes, or that was killed.
        return [json.loads(line) for line in self.out.read_text().split("\n")[:-1]]

    def seen(self):
        """When it has seen which revision."""
        return [line for line in self.lines() if "revision" in line]

    def last(self, name):
        return self.seen()[-1][name] if self.seen() else None

    def ids(self):
        return [line["id"] for line in self.lines() if "id" in line]

    def tell(self, action, *ids):
        """Have it record outcomes, or abort; return once it has."""
        self.process.stdin.write(" ".join([action, *ids]) + "\n")
        self.process.stdin.flush()
        until(lambda: any(action in line for line in self.lines()), f"{action} in {self.out}")

    def arms(self):
        """How often each arm served in each phase, once it has ended."""
        return {(phase, arm): number for phase, arm, number in self.lines()[-1]["arms"]}

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()

    def stop(self):
        if not self.process.stdin.closed:
            self.process.stdin.close()

    def end(self):
        self.stop()
        assert self.process.wait(60) == 0, self.out.with_suffix(".err").read_text()


def begun(members):
    """These processes, once they serve."""
    for member in members:
        until(lambda member=member: member.seen() or member.process.poll() is not None, f"the start of {member.out}")
        assert member.process.poll() is None, member.out.with_suffix(".err").read_text()
    return members
