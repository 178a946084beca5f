"""One process of a fleet: serves a canary, and writes what it sees when, until it is told to stop.

Its clock is the machine's, which counts alike in all processes: CLOCK_MONOTONIC.
"""

import json
import random
import sys
import threading
import time
from collections import Counter

from rollout_sdk import Canary, Gate, Runtime, Step, rollout
from rollout_sdk.extending import EXCLUDED_REASONS, state_of

KEY = "shop.rank"
# It is judged, so that what each process sees is in the store, and moved by operators alone.
PLAN = Canary([Step(f"{share}%", min_units=10**9) for share in range(2, 62, 2)], gates=[Gate("buy")])


def write(**fields):
    print(json.dumps(fields), flush=True)


def main(address, pause_s):
    runtime, stopping, wanted = Runtime(store=address, key=b"k" * 16), threading.Event(), []

    @rollout(candidate=lambda user: "candidate", strategy=PLAN, unit="user", key=KEY, runtime=runtime)
    def model(user):
        return "control"

    def listen():
        for line in sys.stdin:
            wanted.append(line.split())
        stopping.set()

    threading.Thread(target=listen, daemon=True).start()
    arms, seen, served = Counter(), None, 0
    write(ready=True)
    while not stopping.is_set():
        routed = model.rollout.route(f"user-{random.randrange(100_000)}")
        if routed.decision.reason not in EXCLUDED_REASONS:
            arms[routed.decision.phase, routed.decision.variant] += 1
            served += 1
            if served % 50 == 1:
                write(id=routed.decision.id)
        while wanted:
            action, *ids = wanted.pop()
            if action == "abort":
                model.rollout.abort(actor="the process", reason="complaints")
            write(**{action: True})
            for id_ in ids:
                model.rollout.record("buy", 1.0, decision_id=id_, event_id=id_)
        state = state_of(model.rollout)
        if state.revision != seen:
            seen = state.revision
            write(t=time.monotonic(), revision=seen, status=state.status, phase=state.phase.name)
        time.sleep(pause_s)
    runtime.flush()
    runtime.close(20.0)
    write(arms=[[phase, arm, number] for (phase, arm), number in arms.items()])


main(sys.argv[1], float(sys.argv[2]))
