"""The simulated canary and the public API side by side: the same calls, failures, outcomes and clock."""

from collections import defaultdict
from contextlib import suppress

import numpy as np

import rollout_sdk
from rollout_sdk.assignment import UnitHash, canonical
from worlds.canary import FastCanary, Units

KEY = "mirrored"


class ModelError(Exception):
    """What a model raises."""


def population(number):
    """The population of users "u0", "u1" and so on, as the rollout's key hashes them."""
    hash_ = UnitHash(KEY)
    return Units(np.array([hash_(canonical(f"u{index}")) for index in range(number)], dtype=np.uint64))


class Mirrored(FastCanary):
    """A simulated canary whose every call, outcome, look and transition is also made by decorated functions."""

    def __init__(self, strategy, units, *, candidates, now_s, max_calls=None):
        super().__init__(strategy, units, candidates=candidates, now_s=now_s, max_calls=max_calls)
        self.clock_ns = round(now_s * 1000) * 10**6
        self.perf_s = 0.0
        self.planned = {}
        self.ids = defaultdict(list)
        self.seen = []
        self.runtime = rollout_sdk.Runtime(
            time_ns=lambda: self.clock_ns,
            shadows=rollout_sdk.ShadowLimits(cpu_share=1.0, max_jobs=10_000, max_age_s=60.0),
        )
        decorate = rollout_sdk.rollout(
            candidates={name: self._model(name) for name in candidates},
            strategy=strategy,
            unit="user",
            key=KEY,
            on_error="raise",
            breaker=None,
            effects="read" if strategy.shadows else "unknown",
            runtime=self.runtime,
        )
        self.rank = decorate(self._model("control"))
        # Only this test looks.
        self.runtime.reconciler._last_judged_s = float("inf")

    def _model(self, arm):
        def model(user):
            self.decision = rollout_sdk.current_decision()
            failed, seconds = self.planned[arm]
            self.perf_s += seconds
            if failed:
                raise ModelError
            return arm

        return model

    def _call(self, user, time_s):
        self.perf_s, self.clock_ns, self.decision = 0.0, round(time_s * 1000) * 10**6, None
        with suppress(ModelError):
            self.rank(f"u{user}")
        return self.decision

    def add_calls(self, who, arm, times_s, *, failed, duration_s, covariate=None):
        """Make the calls."""
        counted = super().add_calls(who, arm, times_s, failed=failed, duration_s=duration_s, covariate=covariate)
        if self.state.phase.is_shadow:
            return counted
        for i, (user, index, time_s) in enumerate(zip(who.tolist(), arm.tolist(), times_s.tolist(), strict=True)):
            self.planned = dict.fromkeys(self.arms, (bool(failed[i]), float(duration_s[i])))
            decision = self._call(user, time_s)
            assert decision.variant == self.arms[index]
            self.ids[user, round(time_s * 1000)].append(decision.id)
        return counted

    def add_pairs(self, who, times_s, *, candidate, end, failed, duration_s):
        """Make the calls, and wait for their shadows."""
        super().add_pairs(who, times_s, candidate=candidate, end=end, failed=failed, duration_s=duration_s)
        for i, (user, time_s) in enumerate(zip(who.tolist(), times_s.tolist(), strict=True)):
            self.planned = {arm: (bool(failed[arm][i]), float(duration_s[arm][i])) for arm in failed}
            self._call(user, time_s)
            assert self.runtime.flush(10.0)

    def add_outcomes(self, metric, who, arm, values, *, phase_name, decided_s, times_s):
        """Record the outcomes."""
        super().add_outcomes(metric, who, arm, values, phase_name=phase_name, decided_s=decided_s, times_s=times_s)
        for user, value, decided, time_s in zip(
            who.tolist(), values.tolist(), decided_s.tolist(), times_s.tolist(), strict=True
        ):
            (identity,) = self.ids[user, round(decided * 1000)]
            self.rank.rollout.record(metric, value, decision_id=identity, time_s=time_s)

    def look(self, now_s, *, act=True):
        """Judge, here and there."""
        assert self.runtime.flush(10.0)
        self.clock_ns = round(now_s * 1000) * 10**6
        verdict = self.rank.rollout.judge()
        fast = super().look(now_s, act=act)
        self.seen.append((verdict, fast))
        return fast

    def by_hand(self, action, now_s):
        """Do it here and there."""
        super().by_hand(action, now_s)
        getattr(self.rank.rollout, action)(actor="test", reason="test")
