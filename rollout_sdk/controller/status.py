"""The status of a rollout, for people and programs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TypeVar

from attrs import Factory, frozen

from rollout_sdk.control.state import Status
from rollout_sdk.formatting import Shown, plain
from rollout_sdk.judging import Verdict

__all__ = ["RolloutStatus"]

T = TypeVar("T")

_MOST_SHOWN = 10
_LONGEST = 100


@frozen
class RolloutStatus(Shown):
    """The status of a rollout in this process.

    Attributes:
        key: Key of the rollout.
        strategy: Name of the strategy.
        status: "shadowing", "running", "paused", "promoted", "rolled_back" or "aborted".
        phase: Name of the current phase.
        revision: Number of transitions so far.
        shares: Configured share of every variant.
        realised: Share of every variant among the analysed calls of this phase.
        calls: Calls of every variant in this phase, including excluded ones.
        excluded: Calls not analysed, by reason, over all phases.
        errors: Failed runs by variant and error type.
        fallbacks: Calls that the control answered instead of a candidate, by variant and error type (or why it was not run).
        unmeasured: Calls whose answers have work to come that cannot be measured, by variant and class of the answer. No step
            of a canary passes on them.
        open_breakers: Candidates that are currently not run, because they kept failing.
        shadows: Ends of shadow runs by variant and end.
        agreement: For each candidate whose shadows were compared: pairs, those that match, and the ends of a 95 % interval of
            the share of units that agree in their first pair, which holds at every look.
        differences: Pairs that do not match, by candidate and why.
        fields: For each candidate and field of `compare=Fields(...)`: pairs, and those that match.
        durations: For each candidate with shadows: how many calls both it and the control have run to their end, and seconds at
            the quantiles .5, .95 and .99, of the control and of the candidate, each right to 2.5 %.
        not_copied: Shadow runs that ended as `dropped_snapshot`, by candidate and why: the type or the limit, and the argument.
        faults: Faults by what failed and error type: of this rollout's plugins and settings, and of what all rollouts share
            (journal, store, telemetry).
        lost: Facts that are missing from the journal because a queue was full.
        held_by: Holders that currently stop candidates here: "control file", a flag, or the caller of `disable`.
        invalid: Why the comparison cannot be trusted: from the judge's alarm until `resume(clear_invalid=True)`. Empty if it
            can.
        paused_by: Checks for which the judge has paused it; it resumes by itself once they recover. Empty for all other pauses.
        units_from: Number of calls of this function that took their unit from each of `unit=("user_id", "device_id")`; empty
            with a single one.
        version: Version of the candidates; empty if none was given.
        fingerprint: Fingerprint of comparable calls: version, hash key, unit, layer, holdout, variants, strategy, shares.
        versions: Number of versions, or fingerprints, of this rollout so far. Each starts with its own alpha, so each is one
            more chance of a wrong verdict.
        verdict: The last verdict, of this process or another's, while it is current: None before the first, and none from
            before a person aborted or promoted.
        notes: Notes about its calls in this process, with the cure: arguments that can be read only once, or that
            candidates share with the control; a server whose threads do not run.
    """

    key: str
    strategy: str
    status: Status
    phase: str
    revision: int
    shares: Mapping[str, float]
    realised: Mapping[str, float]
    calls: Mapping[str, int]
    excluded: Mapping[str, int]
    errors: Mapping[tuple[str, str], int]
    fallbacks: Mapping[tuple[str, str], int]
    open_breakers: tuple[str, ...]
    shadows: Mapping[tuple[str, str], int]
    faults: Mapping[tuple[str, str], int]
    lost: int
    held_by: tuple[str, ...] = ()
    agreement: Mapping[str, tuple[int, int, float, float]] = Factory(dict)
    differences: Mapping[tuple[str, str], int] = Factory(dict)
    fields: Mapping[tuple[str, str], tuple[int, int]] = Factory(dict)
    durations: Mapping[str, tuple[int, tuple[float, ...], tuple[float, ...]]] = Factory(dict)
    not_copied: Mapping[tuple[str, str], int] = Factory(dict)
    invalid: str = ""
    paused_by: tuple[str, ...] = ()
    units_from: Mapping[str, int] = Factory(dict)
    unmeasured: Mapping[tuple[str, str], int] = {}
    version: str = ""
    fingerprint: str = ""
    versions: int = 1
    verdict: Verdict | None = None
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Format the status in a few lines."""
        lines = [f"{self.key}: {self.strategy}, {self.status}, phase {self.phase}"]
        named = f"version {self.version}" if self.version else f"fingerprint {self.fingerprint}"
        if self.versions > 1:
            lines.append(f"  {named}, number {self.versions} of this rollout: each has an alpha of its own")
        elif self.version:
            lines.append(f"  {named}")
        if self.invalid:
            cure = "no step is taken until resume(clear_invalid=True, actor=..., reason=...)"
            lines.append(f"  INVALID, {cure}: {self.invalid}")
        if self.paused_by:
            lines.append(f"  paused until it has recovered: {', '.join(self.paused_by)}")
        for variant in dict.fromkeys((*self.shares, *self.calls)):
            configured = f"{self.shares[variant]:.4%}" if variant in self.shares else "-"
            realised = f"{self.realised[variant]:.4%}" if variant in self.realised else "-"
            lines.append(
                f"  {variant:<16} configured {configured:>9}  realised {realised:>9}  calls {self.calls.get(variant, 0):,}"
            )
        for title, counts in (
            ("shadow", self.shadows),
            ("error", self.errors),
            ("fallback", self.fallbacks),
            ("unmeasured", self.unmeasured),
            ("fault", self.faults),
        ):
            lines.extend(f"  {title} {first} {second}: {number:,}" for (first, second), number in sorted(counts.items()))
        for variant in sorted({*self.agreement, *self.durations, *(variant for variant, _ in self.not_copied)}):
            lines.extend(self._about_shadows(variant))
        lines.extend(f"  not analysed, {reason}: {number:,}" for reason, number in sorted(self.excluded.items()))
        lines.extend(f"  unit from {name}: {number:,}" for name, number in self.units_from.items())
        lines.extend(f"  breaker of {variant} is open" for variant in self.open_breakers)
        lines.extend(f"  no candidate runs here: {holder} holds it" for holder in self.held_by)
        lines.extend(f"  note: {note}" for note in self.notes)
        if self.lost:
            lines.append(f"  lost facts: {self.lost:,}")
        if self.verdict is not None:
            lines.extend(f"  {line}" for line in str(self.verdict).splitlines())
        return "\n".join(lines)

    def _about_shadows(self, variant: str) -> Iterator[str]:
        """Show how the shadows of a candidate compare with the control."""
        if not_copied := _of(self.not_copied, variant):
            yield f"  shadow {variant} had no copy of its input: {_counts(not_copied)}"
        if variant in self.agreement:
            pairs, matching, low, high = self.agreement[variant]
            yield f"  shadow {variant} agrees in {matching / pairs:.2%} of {pairs:,} pairs [{low:.1%}, {high:.1%}]"
        if differences := _of(self.differences, variant):
            yield f"  shadow {variant} differed in: {_counts(differences)}"
        fields = {name: (pairs - matching, pairs) for name, (pairs, matching) in _of(self.fields, variant).items()}
        for name, (differing, pairs) in sorted(fields.items(), key=lambda item: -item[1][0] / item[1][1])[:_MOST_SHOWN]:
            yield f"  shadow {variant}, field {plain(name, _LONGEST)}: differs in {differing / pairs:.2%} of {pairs:,} pairs"
        if len(fields) > _MOST_SHOWN:
            yield f"  shadow {variant}: {len(fields) - _MOST_SHOWN:,} more fields, which differ less"
        if variant in self.durations:
            runs, *arms = self.durations[variant]
            control, candidate = (" ".join(f"{seconds * 1000:,.3f}" for seconds in arm) for arm in arms)
            yield f"  shadow {variant}, ms at p50 p95 p99 of the same {runs:,} calls: control {control}, candidate {candidate}"


def _of(counts: Mapping[tuple[str, str], T], variant: str) -> dict[str, T]:
    return {name: each for (whose, name), each in counts.items() if whose == variant}


def _counts(counts: Mapping[str, int]) -> str:
    most = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    shown = [f"{plain(name, _LONGEST)} {number:,}" for name, number in most[:_MOST_SHOWN]]
    if others := sum(number for _, number in most[_MOST_SHOWN:]):
        shown.append(f"others {others:,}")
    return ", ".join(shown)
