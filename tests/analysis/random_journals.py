"""Random journals with something of everything: two fingerprints, old lines, batches, lists, shadows, overload, and damage."""

import gzip
import json
import random

__all__ = ["random_journal"]

ROLLOUTS = [("a", "f1"), ("a", "f2"), ("b\u00e9", None), ("list", "f3")]
SEGMENTS = {"country": ["NL", "D\u00e9"], "is_member": ["True"]}
DAMAGE = (
    b'{"event":"deci',
    b"[1]",
    b"\xff\xfe",
    b'{"event":"decision","v":99,"t":1}',
    b'{"event":"dance","v":1}',
    b'{"event":"decision","v":1,"t":"x","rollout":"a","id":"q"}',
    b"",
    b'{"event":"outcome","v":1,"t":NaN,"rollout":"a","metric":"m","value":1,"id":"d1"}',
    b'{"event":"outcome","v":1,"t":9.0,"rollout":"a","metric":"m","value":"1","id":"d1"}',
)


class _Random:
    def __init__(self, seed, calls, *, segments):
        self.rng = random.Random(seed)
        self.segments = random.Random(seed) if segments else None
        self.calls = calls
        self.files = [[] for _ in range(3)]
        self.made = []

    def chance(self, p):
        return self.rng.random() < p

    def put(self, record, file=None):
        number = self.rng.randrange(3) if file is None else file
        if not isinstance(record, bytes):
            kept = {name: value for name, value in record.items() if value is not None}
            # Mostly as the SDK writes them, and sometimes as other programs do.
            separators, ascii_ = (",", ":") if self.chance(0.9) else None, self.chance(0.9)
            if self.segments is not None and record["event"] == "outcome":
                # With segments, the database gives up where outcomes of plain calls are written otherwise.
                separators, ascii_ = (",", ":"), False
            record = json.dumps(kept, ensure_ascii=ascii_, separators=separators).encode()
        self.files[number].append(record)

    def heads(self):
        for number in range(3):
            head = {
                "event": "journal",
                "v": 1,
                "t": 1.0,
                "sdk": "0.1",
                "pid": number + 1,
                "host": "h",
                "began": "1f",
                "part": 0,
            }
            self.put(head, number)
            for key, fingerprint in ROLLOUTS:
                about = {"event": "rollout", "v": 1, "t": 2.0, "rollout": key, "strategy": "ab", "control": "control"}
                shares = {"control": 0.5, "v2": 0.5}
                of = {"phase": "0:50%", "status": "running", "shares": shares, "fingerprint": fingerprint, "version": "1"}
                if self.segments is not None and key != "list":
                    of["plan"] = {"gates": [{"metric": "click", "per": "outcome"}], "segments": SEGMENTS}
                self.put({**about, **of}, number)

    def decision(self, number):
        rng, (key, fingerprint) = self.rng, self.rng.choice(ROLLOUTS)
        variant = rng.choice(["control", "v2"])
        unit = rng.choice([None, f"u{rng.randrange(40)}"])
        made = {
            "event": "decision", "v": 1, "t": 1000.0 + number / 7, "rollout": key, "id": f"d{number}", "strategy": "ab",
            "phase": rng.choice(["0:50%", "1:90%"]), "fingerprint": fingerprint, "variant": variant, "served": variant,
            "reason": "split", "propensity": 0.5, "share": 0.5, "bucket": rng.randrange(512), "unit": unit,
            "runs": [[variant, rng.random(), None, None]],
        }  # fmt: skip
        if self.chance(0.3):
            made["rate"] = 0.25
        if self.chance(0.1):
            made.update(excluded=True, reason=rng.choice(["override", "no_unit"]))
        if self.chance(0.1):
            made.update(served="control", runs=[[variant, 0.1, "ValueError", None], ["control", 0.2, None, None]])
        if self.chance(0.05):
            made.update(runs=[[variant, 0.3, "KeyError", None]], error="KeyError")
        if self.chance(0.05):
            made.update(withheld="breaker_open", served="control", runs=[["control", 0.5, None, None]])
        if self.chance(0.05):
            made["closed_early"] = True
        if self.chance(0.05):
            made["unmeasured"] = "X"
        if self.chance(0.05):
            made["unit"] = 'quo"te\\'
        if self.chance(0.03):
            del made["runs"]
        self.in_list(made, key)
        if self.chance(0.3):
            made["shadows"] = ["v3"] if self.chance(0.8) else ["v3", "v4"]
        made["segments"] = self.split()
        self.put(made)
        self.made.append(made)
        for shadow in made.get("shadows", ()):
            if self.chance(0.9):
                self.shadow(made, shadow)

    def split(self):
        """As the SDK writes them, and as another program may."""
        if (rng := self.segments) is None:
            return None
        if rng.random() < 0.1:
            return rng.choice([None, {}, {"country": 1}, {"town": "x"}, dict.fromkeys("abcde", "x"), {"country": 'N"L'}])
        made = {"country": rng.choice(["NL", "D\u00e9", "other", "BE"]), "is_member": rng.choice(["True", "other"])}
        return dict(rng.sample(list(made.items()), rng.randint(1, 2)))

    def in_list(self, made, key):
        if key == "list" and self.chance(0.8):
            shown = {"blend": ["control", "v2"], "items": ["x", "y", "z"], "teams": [None, "control", "v2"]}
            runs = [["control", 0.1, None, None], ["v2", 0.2, None, None]]
            made.update(variant="interleaved", served="interleaved", runs=runs, **shown)

    def shadow(self, decision, variant):
        rng = self.rng
        same = {name: decision.get(name) for name in ("t", "rollout", "id", "phase", "bucket", "unit", "excluded", "rate")}
        made = {
            "event": "shadow", "v": 1, **same, "variant": variant, "fingerprint": decision["fingerprint"],
            "end": rng.choice(["ok", "ok", "ok", "error", "timeout"]), "duration_s": rng.random(),
        }  # fmt: skip
        if made["end"] == "error":
            made["error"] = "E"
        elif made["end"] == "ok" and self.chance(0.9):
            made["match"] = rng.randrange(2)
            if not made["match"]:
                made.update(difference_reason="value", difference=rng.random())
            if self.chance(0.3):
                made["comparator"] = rng.choice(["error", "close"])
            if self.chance(0.1):
                made["labels"] = ["a", rng.choice("ab")]
            if self.chance(0.1):
                made["fields"] = {"x": [rng.randrange(2), 0.5, None]}
        if self.chance(0.3):
            made["control_duration_s"] = rng.random()
        self.put(made)

    def outcome(self):
        rng, of = self.rng, self.rng.choice(self.made)
        made = {
            "event": "outcome", "v": 1, "t": 2000.0 + rng.randrange(5), "rollout": of["rollout"], "id": of["id"],
            "metric": rng.choice(["click", "buy"]), "value": rng.choice([0, 1, 1.5, -2]), "fingerprint": of["fingerprint"],
            "phase": of["phase"], "variant": of["variant"],
        }  # fmt: skip
        if self.chance(0.3):
            made["event_id"] = f"e{rng.randrange(50)}"
        if self.chance(0.3):
            made["item"] = rng.choice(["y", "z", "q"])
        elif self.chance(0.2):
            made["position"] = rng.randrange(4)
        if self.chance(0.05):
            made["id"] = f"nowhere-{of['rollout']}-{of['fingerprint']}"
        if self.chance(0.1):
            made.update(id=None, fingerprint=None, unit=f"u{rng.randrange(45)}", t=1000 + rng.random() * 60)
        if self.chance(0.02):
            made.update(id=None, unit=None)
        if self.chance(0.2):
            made["rate"] = 0.5
        self.put(made)
        if self.chance(0.1):
            self.put(made)

    def batch(self, number):
        rows = self.rng.randrange(1, 20)
        like = [
            {
                "event": "decision", "v": 1, "t": 1500.0, "rollout": "a", "id": "x", "strategy": "ab", "phase": "0:50%",
                "fingerprint": "f1", "variant": variant, "served": variant, "reason": "split", "propensity": 0.5, "share": 0.5,
                "bucket": 1, "runs": [[variant, 0.25, None, None]],
            }
            for variant in ("control", "v2")
        ]  # fmt: skip
        kinds = [self.rng.randrange(2) for _ in range(rows)]
        buckets = [self.rng.randrange(512) for _ in range(rows)]
        ids = [f"row{number}-{row}" for row in range(rows)]
        self.put(
            {"event": "rows", "v": 1, "t": 1500.0, "rollout": "a", "like": like, "kind": kinds, "ids": ids, "buckets": buckets}
        )
        click = {"event": "outcome", "v": 1, "t": 2000.5, "rollout": "a", "metric": "click", "value": 1}
        self.put({**click, "id": f"row{number}-0", "fingerprint": "f1"})

    def rest(self):
        self.put({"event": "lost", "v": 1, "t": 5.0, "count": 7, "sampled": 3})
        step = {
            "event": "transition", "v": 1, "t": 1200.0, "rollout": "a", "id": "tr", "action": "promote", "status": "running",
            "revision": 2, "to_phase": "1:90%", "shares": {"control": 0.1, "v2": 0.9}, "fingerprint": "f1", "actor": "ann",
        }  # fmt: skip
        for number in range(2):
            self.put(step, number)
        for damage in DAMAGE:
            if self.chance(0.7):
                self.put(damage)


def random_journal(folder, seed, calls=300, *, segments=False):
    """Write a journal of three processes, the last of whose files is compressed; the same for the same seed."""
    made = _Random(seed, calls, segments=segments)
    made.heads()
    for number in range(calls):
        made.decision(number)
    for _ in range(calls // 2):
        made.outcome()
    for number in range(calls // 50):
        made.batch(number)
    made.rest()
    folder.mkdir(exist_ok=True)
    for number, lines in enumerate(made.files):
        data = b"\n".join(lines) + b"\n"
        if made.chance(0.3):
            data += b'{"event":"deci'
        name = f"events-h-{number + 1}-1f-0.jsonl"
        if number == 2:
            with gzip.open(folder / f"{name}.gz", "wb") as file:
                file.write(data)
        else:
            (folder / name).write_bytes(data)
