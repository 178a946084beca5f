"""Random journals of rollouts with a rough life: several versions and candidates, steps back and forth, clocks that differ."""

import gzip
import json
import random

__all__ = ["HarshJournal"]

BEGIN_S = 1.7e9
PLANS = (
    {},
    {
        "guardrails": [
            {"metric": "error_rate", "burst": 60},
            {"metric": "latency_mean"},
            {"metric": "latency", "threshold_s": 0.1, "on_fail": "warn"},
            {"metric": "latency", "threshold_s": 0.03},
        ],
        "gates": [{"metric": "click", "mde": 0.1, "horizon": 200}, {"metric": "label", "per": "outcome", "clip": [0.2, 0.8]}],
        "alpha": 0.1,
    },
    {"gates": [{"metric": "spend", "horizon": "10m"}, {"metric": "loss", "better": "lower", "clip": [-1, 1]}]},
    {"steps": [{"share": "50%", "min_units": 0}], "guardrails": [{"metric": "error_rate"}], "gates": [{"metric": "click"}]},
)
ACTIONS = ("advance", "set_share", "roll_back", "pause", "resume", "abort")


class HarshJournal:
    """The files of a journal, as names and lines."""

    def __init__(self, seed, calls=150):
        self.rng = rng = random.Random(seed)
        processes = rng.choice([1, 2, 4])
        self.clocks = [rng.choice([0, 0, -20, 7.5, 50]) for _ in range(processes)]
        self.arms = ["control", *["v2", "v3", "v4"][: rng.choice([1, 1, 2, 3])]]
        self.plan = rng.choice(PLANS)
        self.lines = [[] for _ in range(processes)]
        self.sets = [("a", "f1"), ("a", "f2"), ("b", None)][: rng.choice([1, 2, 3])]
        shares = dict.fromkeys(self.arms, 1 / len(self.arms))
        self.at = dict.fromkeys(self.sets, ("0:50%", shares, 0))
        self.units = rng.choice([5, 60, 1000])
        self.waiting = []
        for process in range(processes):
            self.put(process, "journal", t=1.0, sdk="0.1", pid=process + 1, host="h", began="1f", part=0)
            for each in self.sets:
                self.said(process, each)
        pace_s, is_whole = rng.choice([1e-6, 0.01, 0.3, 3.0, 30.0]), rng.random() < 0.3
        now_s = BEGIN_S + rng.choice([0, 0.5, 59.999999])
        for call in range(calls):
            now_s += rng.expovariate(1 / pace_s)
            # Many calls at one time.
            now_s = round(now_s) if is_whole else now_s
            which = rng.choice(self.sets)
            if rng.random() < 0.01:
                self.changes(which, now_s)
            if rng.random() < 0.01:
                self.said(rng.randrange(processes), which)
            self.call(call, which, now_s if is_whole else round(now_s - rng.random() * min(pace_s, 2), 6))
            while self.waiting and rng.random() < 0.6:
                process, fields = self.waiting.pop(0 if rng.random() < 0.9 else rng.randrange(len(self.waiting)))
                self.put(process, "outcome", t=round(now_s + self.clocks[process] + 1, 6), **fields)

    def put(self, process, event, **fields):
        record = {"event": event, "v": 1, **{name: value for name, value in fields.items() if value is not None}}
        self.lines[process].append(json.dumps(record, separators=(",", ":")))

    def said(self, process, which):
        (key, fingerprint), (phase, shares, revision) = which, self.at[which]
        self.put(
            process, "rollout", t=2.0, rollout=key, strategy="ab", phase=phase, fingerprint=fingerprint, control="control",
            status="running", revision=revision, shares=shares, plan=self.plan,
        )  # fmt: skip

    def changes(self, which, now_s):
        rng, (key, fingerprint), (before, shares, revision) = self.rng, which, self.at[which]
        action, phase, revision = rng.choice(ACTIONS), before, revision + 1
        if action in ("advance", "set_share"):
            drawn = [rng.random() for _ in self.arms]
            shares = {arm: each / sum(drawn) for arm, each in zip(self.arms, drawn, strict=True)}
        elif action == "roll_back":
            shares = {**shares, rng.choice(self.arms[1:]): 0.0}
        if action in ("advance", "set_share", "roll_back"):
            phase = f"{revision}:x"
        self.at[which] = phase, shares, revision
        invalid = "shares" if rng.random() < 0.1 else None
        for process in rng.sample(range(len(self.lines)), len(self.lines)):
            self.put(
                process, "transition", t=round(now_s + self.clocks[process], 6), rollout=key, id=f"{which}{revision}",
                revision=revision, action=action, status="running", from_phase=before, to_phase=phase, fingerprint=fingerprint,
                actor="x", reason="y", strategy="ab", shares=shares, invalid=invalid,
            )  # fmt: skip

    def call(self, number, which, time_s):
        rng, (key, fingerprint), (phase, shares, _) = self.rng, which, self.at[which]
        process, unit = rng.randrange(len(self.lines)), rng.randrange(self.units) * 11400714819323198485 & (1 << 64) - 1
        point, variant = (unit >> 32) / 2**32, "control"
        for arm, share in shares.items():
            if point < share:
                variant = arm
                break
            point -= share
        is_excluded, error = True if rng.random() < 0.02 else None, "KeyError" if rng.random() < 0.02 else None
        time_s = round(time_s + self.clocks[process], 6)
        about = {"rollout": key, "phase": phase, "fingerprint": fingerprint, "variant": variant}
        about |= {"id": f"d{number}", "bucket": unit & 511, "excluded": is_excluded}
        self.put(
            process, "decision", t=time_s, **about, strategy="ab", served="control" if error else variant, reason="split",
            propensity=0.5, share=0.5, unit=f"{unit:016x}", answered=True if error and rng.random() < 0.3 else None,
            closed_early=True if rng.random() < 0.03 else None, **self.runs(variant, error),
        )  # fmt: skip
        about |= {"fingerprint": fingerprint or "", "decided": time_s}
        spend, loss = rng.choice([rng.expovariate(1), 0, 1, -3, 1e4]), -rng.random()
        values = {"click": 1.0, "spend": spend, "label": rng.random(), "loss": loss, "error_rate": 1}
        for metric, value in values.items():
            for _ in range(rng.choice([0, 0, 0, 1, 1, 2])):
                outcome = {**about, "metric": metric, "value": value, "item": f"i{rng.random()}"}
                # A forged id: no call was there.
                if rng.random() < 0.02:
                    outcome["variant"] = rng.choice([*self.arms, "ghost"])
                if rng.random() < 0.02:
                    outcome["phase"] = rng.choice(["0:50%", "9:none"])
                self.waiting.append((process, outcome))

    def runs(self, variant, error):
        rng = self.rng
        runs = [[variant, rng.choice([round(rng.expovariate(30), 9), 0.1, 1, 0]), error, None]]
        if error is not None and rng.random() < 0.7:
            runs.append(["control", rng.random() / 10, rng.choice([None, "OSError"]), None])
        if variant != "control" and rng.random() < 0.02:
            return {"runs": runs[1:] or [["control", 0.1, None, None]], "withheld": rng.choice(["breaker_open", "aborted"])}
        return {"runs": runs, "no_evidence": True if rng.random() < 0.01 else None}

    def write(self, folder):
        """Write the files: in one part or several, compressed or not, and some without an end."""
        folder.mkdir(parents=True)
        for process, lines in enumerate(self.lines):
            each = self.rng.choice([len(lines), max(2, len(lines) // 3)])
            for part, start in enumerate(range(0, len(lines), each)):
                data = "".join(line + "\n" for line in lines[start : start + each]).encode()
                if self.rng.random() < 0.1:
                    data = data[: -self.rng.randrange(1, 60)]
                name = f"events-h-{process + 1}-1f-{part}.jsonl"
                if self.rng.random() < 0.2:
                    (folder / f"{name}.gz").write_bytes(gzip.compress(data))
                else:
                    (folder / name).write_bytes(data)
        return folder
