"""`error_rate`: calls that raised, fell back, gave a failing answer, or were withheld by an open circuit breaker."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from attrs import define

from rollout_sdk.judging.e_values import (
    MIN_EVENTS,
    MIN_UNITS,
    Ends,
    Weight,
    harm_needed,
    mixed,
    ratio_bets_log_e,
    safe_needed,
    std_error,
)
from rollout_sdk.judging.look import Look
from rollout_sdk.judging.metrics.base import Metric, Numbers, Traffic, compared, heavy_unit, values
from rollout_sdk.judging.metrics.events import Group, add_calls, add_event, bets, burst_s, strata_of
from rollout_sdk.judging.phase_evidence import PhaseEvidence
from rollout_sdk.judging.verdicts import Outcome
from rollout_sdk.judging.wording import about, percent
from rollout_sdk.plan import ERROR_RATE, Guardrail
from rollout_sdk.stats import (
    StratifiedBuckets,
    confidence_sequence,
    rare_event_interval,
    rare_event_safe_log_e,
    rate_below_log_e,
)

__all__ = ["ErrorRate"]

_EXACT, _MEANS = 0.75, 0.25
_RATIO, _ALL_ERRORS, _FLOOR = 0.5, 0.25, 0.25
_DOUBLED, _LEAST_MARGIN = 1.0, 0.1
_USUAL_RATE = 0.01


@define(eq=False)
class ErrorRate(Metric):
    """Two bets: on the arm of the next unit with an error, given the shares, and on the rates of all errors.

    The first is exact from the first error on, even if base rates drift. A unit counts once in the rollout, in the phase of its
    first error. That hides repeated errors: among units that call often, a candidate twice as bad looks less bad. For "good
    enough", the candidate's units are therefore compared with a share reduced by `firsts`, which charges every error to the
    candidate and none to the control. The second bet uses all errors, and needs a few dozen of them.
    """

    criterion: Guardrail
    measures = (ERROR_RATE,)
    only_failures = True
    rate: ClassVar[Literal["error_rate", "slow_rate"] | None] = "error_rate"

    def observe(  # noqa: D102 - as in the base
        self,
        phase: PhaseEvidence,
        phase_name: str,
        arm: str,
        cell: int,
        bucket: int,
        time_s: float,
        duration_s: float | None,  # noqa: ARG002
        first_item_s: float | None,  # noqa: ARG002
    ) -> str | None:
        add_event(phase, ERROR_RATE, phase_name, arm, cell, bucket, time_s)
        return ERROR_RATE

    def add_sums(self, whole: StratifiedBuckets, name: str, phase: PhaseEvidence, until_s: float | None) -> None:  # noqa: ARG002, D102
        sums = phase.sums.get(self.criterion.label)
        if sums is not None:
            for each in sums.slices.values():
                whole.merge(each)
        add_calls(whole, name, phase)

    def _sums(self, look: Look, candidate: str | None = None) -> StratifiedBuckets:
        """Return the sums over all phases without outages; for a candidate, over phases in which every error counts."""
        whole = StratifiedBuckets()
        for name, phase in look.phases:
            share = None if candidate is None else look.share(phase, candidate)
            if share is not None and burst_s(self.criterion, share):
                continue
            sums = phase.sums.get(self.criterion.label)
            if sums is not None:
                for each in sums.without(look.outages(phase)):
                    whole.merge(each)
            add_calls(whole, name, phase, look=look)
        return whole

    def numbers(self, look: Look, candidate: str) -> Numbers:  # noqa: D102
        criterion, control = self.criterion, look.situation.control
        assert criterion.margin is not None
        assert criterion.harm is not None
        sums = self._sums(look)
        strata = strata_of(look, criterion, sums, candidate)
        erring = [look.units_of(arm, ERROR_RATE).estimate for arm in (control, candidate)]
        # A burst of errors counts as one event, however many units it affects.
        events = min(erring[1], strata.candidate_groups)
        # A bet on all errors would be misled by a burst on a bad host, so it uses only phases with a large share.
        apart = self._sums(look, candidate)
        heavy = heavy_unit(sums, control, candidate)
        enough = look.fewest_units(candidate) >= MIN_UNITS and heavy["enough_effective"]
        floor_events, floor_units = self._floor(look, candidate)
        low, high = rare_event_interval([(mine, other, share) for mine, other, share in strata.counts], alpha=look.alpha)
        return {
            **look.shared(criterion),
            **values(sums, control, candidate),
            **heavy,
            **compared(sums.difference(candidate, control, paired=look.is_paired)),
            "strata": strata.counts,
            "firsts": strata.firsts,
            "over_harm": compared(apart.difference(candidate, control, times=1 + criterion.harm, paired=look.is_paired)),
            "over_margin": compared(apart.difference(candidate, control, times=1 + criterion.margin, paired=look.is_paired)),
            "enough_harm": enough and events >= MIN_EVENTS,
            "enough_safe": enough and min(erring[0], events) >= MIN_EVENTS,
            "harm": criterion.harm,
            "margin": criterion.margin,
            "floor": criterion.floor,
            "floor_events": floor_events,
            "floor_units": floor_units,
            "ratio_low": low,
            "ratio_high": high if math.isfinite(high) else None,
            "exact_harm": bets(strata.groups, strata.shares, ratio=1 + criterion.harm, direction="above"),
            "exact_safe": rare_event_safe_log_e(strata.at_shares(strata.charged), margin=criterion.margin),
        }

    def _floor(self, look: Look, candidate: str) -> tuple[int, int]:
        """Return the candidate's units with an error, and all its units: each unit once in the rollout."""
        erring, units = look.units_of(candidate, ERROR_RATE), look.units_of(candidate)
        level = max(erring.level, units.level)
        return len(erring.at(level)), len(units.at(level))

    @staticmethod
    def weigh(numbers: Mapping[str, Any]) -> Weight:
        """Weigh harm, a ratio above 1 + harm, and "good enough", a ratio below 1 + margin or a unit error rate below `floor`.

        Args:
            numbers: "exact_harm" and "exact_safe" (logarithms of the exact e-values), "harm" and "margin" (relative),
                "over_harm" and "over_margin" (estimate, std_error and df of the candidate's rate minus 1 + harm, or
                1 + margin, times the control's), "enough_harm", "enough_safe" (whether there are enough units and errors for
                these), "floor", "floor_events" and "floor_units" of the candidate, "alpha", "tests" and "candidates".
        """
        over = ratio_bets_log_e(numbers["over_harm"], sign=1, effect=_DOUBLED) if numbers["enough_harm"] else None
        effect = max(numbers["margin"], _LEAST_MARGIN)
        below = ratio_bets_log_e(numbers["over_margin"], sign=-1, effect=effect) if numbers["enough_safe"] else None
        rarity = 0.0
        # Compared with calls as well, because a few units may make most of them.
        if numbers["floor"] and (numbers["value"] or 0.0) <= numbers["floor"]:
            rarity = rate_below_log_e(numbers["floor_events"], numbers["floor_units"], limit=numbers["floor"])
        low, high = confidence_sequence(
            numbers["estimate"],
            std_error(numbers),
            rho=_USUAL_RATE**-2,
            alpha=numbers["alpha"] / numbers["candidates"],
            df=numbers["df"],
        )
        known = numbers["enough_harm"] and math.isfinite(low)
        control, value = numbers["control"], numbers["value"]
        return Weight(
            harm_log_e=mixed((_EXACT, numbers["exact_harm"]), (_MEANS, over)),
            harm_needed=harm_needed(numbers),
            safe_log_e=mixed((_RATIO, numbers["exact_safe"]), (_ALL_ERRORS, below), (_FLOOR, rarity)),
            safe_needed=safe_needed(numbers),
            by_rarity=rarity > max(numbers["exact_safe"], below or 0.0),
            ends=Ends(
                low if known else None,
                high if known else None,
                value / control - 1 if control and value is not None else None,
                numbers["ratio_low"] - 1,
                None if numbers["ratio_high"] is None else numbers["ratio_high"] - 1,
            ),
        )

    def explain(self, candidate: str, numbers: Mapping[str, Any], weight: Weight) -> tuple[Outcome, str]:  # noqa: D102
        mine, other = (sum(each[arm] for each in numbers["strata"]) for arm in (0, 1))
        among = f"{mine:,} of {mine + other:,} units with an error had {candidate}"
        if weight.is_harm:
            expected = math.fsum((each[0] + each[1]) * each[2] for each in numbers["strata"])
            more = "" if not numbers["harm"] else f" than {1 + numbers['harm']:g} times the control's rate"
            return "FAIL", f"{among}, where its shares predict {about(expected)}: significantly more{more}."
        events, units = numbers["floor_events"], numbers["floor_units"]
        if weight.is_safe and weight.by_rarity:
            seen = f"{events:,} of {units:,} units of {candidate} saw an error"
            return "PASS", f"{seen}: significantly fewer than {percent(numbers['floor'])}."
        if weight.is_safe:
            return "PASS", f"{candidate} makes significantly fewer than {1 + numbers['margin']:g} times the control's errors."
        floor = f"; {events:,} of its {units:,} units saw one, too few units to show less than {percent(numbers['floor'])}"
        return "INCONCLUSIVE", f"{among}: neither significantly too many nor few enough{floor if numbers['floor'] else ''}."

    def expected(self, traffic: Traffic, arms: tuple[float, float], days: float, worse: float | None) -> Numbers:  # noqa: D102
        assert self.criterion.harm is not None
        numbers = self.expected_safe(traffic, arms, days, worse)
        ((mine, other, share),) = numbers["strata"]
        # Assumes at most one error per unit, each in a minute of its own, as the rate does.
        groups: Counter[Group] = Counter()
        groups.update({(1.0, 0.0, 0): mine, (0.0, 1.0, 0): other})
        return {
            **numbers,
            "enough_harm": min(traffic.units_per_day * arm * days for arm in arms) >= MIN_UNITS and mine >= MIN_EVENTS,
            "exact_harm": bets(groups, [share], ratio=1 + self.criterion.harm, direction="above"),
        }

    def expected_safe(self, traffic: Traffic, arms: tuple[float, float], days: float, worse: float | None) -> Numbers:  # noqa: D102
        criterion = self.criterion
        assert criterion.margin is not None
        assert criterion.harm is not None
        units = [traffic.units_per_day * arm * days for arm in arms]
        rates = [traffic.error_rate, min(1.0, traffic.error_rate * (1.0 if worse is None else worse))]
        other, mine = (each * rate for each, rate in zip(units, rates, strict=True))
        enough = min(units) >= MIN_UNITS
        variances = [rate * (1 - rate) / max(each, 1.0) for rate, each in zip(rates, units, strict=True)]

        def over(times: float) -> Numbers:
            error = math.sqrt(times**2 * variances[0] + variances[1])
            return {"estimate": rates[1] - times * rates[0], "std_error": error, "df": 511}

        share = arms[1] / sum(arms)
        return {
            **over(1.0),
            "control": rates[0],
            "value": rates[1],
            "strata": [[mine, other, share]],
            "over_harm": over(1 + criterion.harm),
            "over_margin": over(1 + criterion.margin),
            "enough_harm": False,
            "enough_safe": enough and min(mine, other) >= MIN_EVENTS,
            "harm": criterion.harm,
            "margin": criterion.margin,
            "floor": criterion.floor,
            "floor_events": mine,
            "floor_units": units[1],
            "ratio_low": 0.0,
            "ratio_high": None,
            "exact_harm": 0.0,
            "exact_safe": rare_event_safe_log_e([(mine, other, share)], margin=criterion.margin),
        }
