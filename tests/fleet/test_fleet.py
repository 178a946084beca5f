"""Eight processes, one canary, three operators, kill -9: all see each transition within a second, and nothing is lost."""

import json
import os
import random
import threading
import time
from collections import Counter

import pytest

from rollout_sdk import ConflictError, StateError, operate
from rollout_sdk.extending import store_at
from rollout_sdk.judging import PhaseEvidence

from .fleet import begun
from .servers import until

pytestmark = [pytest.mark.servers, pytest.mark.timeout(300)]
KEY, PROCESSES, CHANGES = "shop.rank", 8, 14


def operator(address, actor, done, begin, failures):
    """Changes the rollout again and again; notes for each revision when the store had it."""
    rng = random.Random(actor)
    begin.wait(60)
    with operate(address, KEY, actor=actor) as rank:
        changes = 0
        while changes < CHANGES:
            action = rng.choice(["promote", "promote", "pause", "resume"])
            try:
                change = getattr(rank, action)(reason="it is my turn", **({"force": True} if action == "promote" else {}))
            # It is paused already, or another operator was faster.
            except (StateError, ConflictError):
                continue
            except Exception as error:
                failures.append(error)
                return
            if change.after.revision != change.before.revision:
                done.append((change.after.revision, time.monotonic(), actor, action))
                changes += 1
            time.sleep(rng.uniform(0.05, 0.25))


def percentile(values, q):
    values = sorted(values)
    return values[min(len(values) - 1, int(q * len(values)))]


def waits(members, done):
    """How long after the store each living process has seen each revision, or a later one, in seconds."""
    found = []
    for member in members:
        seen = member.seen()
        for revision, at, *_ in done:
            later = [line["t"] for line in seen if line["revision"] >= revision]
            assert later, f"{member.out.name} has not seen revision {revision}"
            found.append(max(0.0, later[0] - at))
    return found


def published(server):
    """Calls by writer, phase and arm, and what became of the outcomes, as the store has them."""
    store = store_at(server.address("timeout_s=10"))
    found, outcomes = {}, Counter()
    for (writer, part), text in store.gather(KEY, store.load(KEY).document["epoch"]).parts.items():
        if part == "outcomes":
            outcomes.update(json.loads(text))
        elif part.startswith("phase:"):
            calls = PhaseEvidence.from_dict(json.loads(text)).calls
            found.setdefault(writer, {}).update({(part.removeprefix("phase:"), arm): sum(each) for arm, each in calls.items()})
    store.close()
    return found, outcomes


def test_a_fleet_sees_every_transition_within_a_second_and_counts_exactly(server, member):
    address = server.address("timeout_s=5")
    members = begun([member(address) for _ in range(PROCESSES)])
    done, failures, begin = [], [], threading.Barrier(4)
    operators = [threading.Thread(target=operator, args=(address, f"operator-{n}", done, begin, failures)) for n in range(3)]
    for each in operators:
        each.start()
    begin.wait(60)
    time.sleep(1.0)
    # Two die without a word, and two begin in the midst of it.
    killed = [members.pop(), members.pop()]
    for each in killed:
        each.kill()
    late = begun([member(address) for _ in range(2)])
    for each in operators:
        each.join(120)
    assert failures == []
    # The same outcomes reach all processes, as from a queue that delivers more than once.
    ids = sorted({id_ for each in (*members, *late, *killed) for id_ in each.ids()})
    for each in (*members, *late):
        each.tell("record", *ids)
    with operate(address, KEY, actor="operator-0") as rank:
        change = rank.abort(reason="complaints")
        done.append((change.after.revision, time.monotonic(), "operator-0", "abort"))
        for each in (*members, *late):
            until(lambda each=each: each.last("status") == "aborted", f"the abort in {each.out.name}")
        history = rank.history()
    waited = waits(members, done)
    print(
        f"\n{server.kind}: {len(done)} transitions in {len(members)} processes: p50 {percentile(waited, 0.5) * 1e3:.0f} ms, "
        f"p99 {percentile(waited, 0.99) * 1e3:.0f} ms, at most {max(waited) * 1e3:.0f} ms"
    )
    assert percentile(waited, 0.99) < 1.0, f"the machine's load: {os.getloadavg()} on {os.cpu_count()} cores"
    check_history(history, done)
    for each in (*members, *late):
        each.end()
    check_totals(server, (*members, *late), killed, ids)


def check_history(history, done):
    """It has what the operators did, all of it, once and in order."""
    assert history[0]["action"] == "start"
    said = [(record["revision"], record["actor"], record["action"]) for record in history[1:]]
    assert said == sorted((revision, actor, action) for revision, _, actor, action in done)
    assert len({record["id"] for record in history}) == len(history)


def check_totals(server, ended, killed, ids):
    """What the processes have counted is in the store, once; of those that were killed, what they had published last."""
    found, outcomes = published(server)
    counted = [dict(sorted(each.items())) for each in found.values()]
    for member in ended:
        mine = dict(sorted(member.arms().items()))
        assert mine in counted, f"{member.out.name} is not in the store as it counted"
        counted.remove(mine)
    assert len(counted) <= len(killed)
    assert outcomes["counted"] == len(ids)
