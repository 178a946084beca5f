"""The strategy: a call gets the shares of the first rule that matches it."""

from __future__ import annotations

import os
import tomllib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any

from attrs import define, field, frozen

from rollout_sdk import ConfigurationError, Decision, Phase, RouteRequest
from rollout_sdk.extending import EXCLUDED_REASONS
from rollout_sdk_targeting.rules import Rule, Shares, parse_shares

__all__ = ["DEFAULT", "Targeting", "rollout_strategies"]

DEFAULT = "default"
"""Name of the segment for calls that no rule matches."""

_FIXED = "override"
"""The SDK's reason for calls that are not randomised: they are recorded, and never analysed."""


def _rules(rules: Any) -> tuple[Rule, ...]:
    if isinstance(rules, str | Mapping | Rule) or not isinstance(rules, Iterable):
        raise ConfigurationError(f"The rules of Targeting are {rules!r:.60}. They are a list. Write Targeting([Rule(...)]).")
    return tuple(map(_rule, rules))


def _rule(rule: Any) -> Rule:
    if isinstance(rule, Mapping):
        return Rule(**rule)
    if isinstance(rule, Rule):
        return rule
    raise ConfigurationError(
        f"{rule!r:.60} is not a rule of Targeting. A rule names a segment and its share. Write Rule(name, Where(...), '10%')."
    )


def _default_share(share: Shares) -> Shares:
    return parse_shares(share, "calls that no rule matches")


def _names(names: str | Iterable[str] | None) -> tuple[str, ...] | None:
    return names if names is None else (names,) if isinstance(names, str) else tuple(names)


@define
class _Segment:
    """A rule (None: all other calls), its shares as a phase, and the decision for each variant, created once."""

    rule: Rule | None
    phase: Phase
    decisions: dict[str, Decision]

    @property
    def is_random(self) -> bool:
        return max(self.phase.all_shares.values()) < 1


@frozen
class Targeting:
    """Gives each segment of the traffic its own share: `Targeting([Rule("nl", Where("country", "eq", "NL"), "10%")])`.

    A call gets the shares of the first rule that matches it. A unit has one place on the unit interval for all segments: it
    keeps its variant, raising a share only moves units to the candidate, and a unit that moves to a segment with a larger share
    does not lose the candidate.

    Only randomised calls are evidence: those of a segment with 0 % or 100 % are recorded and not analysed. Segments with
    different shares must not be pooled (a segment that gets the candidate more often would have more weight on the candidate's
    side), so all analysed segments must have the same shares.

    Attributes:
        rules: The rules, in order.
        default_share: Share of the candidate, or of each by name, in calls that no rule matches.
        analysed: Names of the analysed segments ("default" is the last one); by default, all that are randomised.
    """

    name = "targeting"

    rules: tuple[Rule, ...] = field(default=(), converter=_rules)
    default_share: Shares = field(default=0.0, kw_only=True, converter=_default_share)
    analysed: tuple[str, ...] | None = field(default=None, kw_only=True, converter=_names)
    _planned: dict[tuple[str, tuple[str, ...]], list[_Segment]] = field(init=False, factory=dict, eq=False, repr=False)

    def __attrs_post_init__(self) -> None:
        """Validate names: records distinguish segments by them."""
        names = [*(rule.name for rule in self.rules), DEFAULT]
        for name, number in Counter(names).items():
            if number > 1 or name in EXCLUDED_REASONS:
                why = "is the name of two segments" if number > 1 else "is the SDK's name for calls that are not analysed"
                raise ConfigurationError(
                    f"A rule of Targeting is named {name!r}, which {why}. Records distinguish segments by their names. "
                    "Choose another name."
                )
        for name in self.analysed or ():
            if name not in names:
                raise ConfigurationError(
                    f"analysed= of Targeting names {name!r:.60}, which is not a segment. It lists segments by name. "
                    f"They are: {', '.join(names)}."
                )

    @classmethod
    def from_toml(cls, path: str | os.PathLike[str]) -> Targeting:
        """Read a strategy from a TOML file: the attributes of this class, with a table `[[rules]]` for each rule.

        Raises:
            ConfigurationError: The file cannot be read, or does not describe a strategy.
        """
        return cls(**_read(path))

    def rollout_phases(self, control: str, candidates: tuple[str, ...]) -> Sequence[Phase]:
        """Return one phase, with the shares of the analysed segments. Its name identifies the set of rules.

        Raises:
            ConfigurationError: Shares do not fit the candidates, or those of the analysed segments differ.
        """
        segments = [self._segment(rule, control, candidates) for rule in (*self.rules, None)]
        evidence = [
            segment
            for segment in segments
            if segment.is_random and (self.analysed is None or segment.phase.name in self.analysed)
        ]
        for segment in evidence[1:]:
            first = evidence[0].phase
            if segment.phase.shares != first.shares:
                raise ConfigurationError(
                    f"Targeting gives {first.name!r} and {segment.phase.name!r} different shares. Segments that are analysed "
                    "together must have the same shares. Give them the same share, give each its own rollout, or choose which "
                    f"one is analysed: analysed=[{first.name!r}]."
                )
        for segment in segments:
            self._decide(segment, analysed=segment in evidence)
        self._planned[control, candidates] = segments
        rules = blake2b(repr((self.rules, self.default_share, self.analysed)).encode(), digest_size=4).hexdigest()
        shares = evidence[0].phase.shares if evidence else dict.fromkeys(candidates, 0.0)
        return [Phase(f"rules {rules}", shares, control)]

    def rollout_route(self, request: RouteRequest) -> Decision | None:
        """Decide by the shares of the first matching rule, whose name is the reason."""
        try:
            arguments = request.arguments
        # There is no call (controller.assign), or the arguments do not fit the function and the control will raise as well.
        except TypeError:
            return None
        *ruled, rest = self._planned[request.control, request.candidates]
        for segment in ruled:
            if segment.rule is not None and segment.rule.matches(arguments):
                return segment.decisions[segment.phase.split.decide(request.point).variant]
        return rest.decisions[rest.phase.split.decide(request.point).variant]

    def _segment(self, rule: Rule | None, control: str, candidates: tuple[str, ...]) -> _Segment:
        name, share = (DEFAULT, self.default_share) if rule is None else (rule.name, rule.share)
        owner = f"The segment {name!r} of Targeting"
        if not isinstance(share, Mapping):
            # A share of 0 may stand for any number of candidates.
            if share and len(candidates) > 1:
                raise ConfigurationError(
                    f"{owner} has one share for {len(candidates)} candidates. Each candidate needs its own. "
                    f"Write {{{', '.join(f'{candidate!r}: ...' for candidate in candidates)}}}."
                )
            share = dict.fromkeys(candidates, share)
        if share.keys() != set(candidates):
            odd = min(share.keys() ^ set(candidates))
            raise ConfigurationError(
                f"{owner} gives {'a share' if odd in share else 'no share'} to {odd!r}. Every candidate has one share, and the "
                f"control ({control!r}) gets the rest. The candidates are: {', '.join(candidates)}."
            )
        return _Segment(rule, Phase(name, {candidate: share[candidate] for candidate in candidates}, control), {})

    @staticmethod
    def _decide(segment: _Segment, *, analysed: bool) -> None:
        for variant, share in segment.phase.all_shares.items():
            reason = segment.phase.name if analysed else _FIXED
            # A variant with a share of 0 is drawn only through rounding; a propensity must still be above 0.
            segment.decisions[variant] = Decision(variant, reason, share or 1.0, share=share)


class TargetingFromFile(Targeting):
    """Built for `strategy="targeting"`: the rules of the file in ROLLOUT_TARGETING; without it, no user gets the candidate."""

    def __init__(self) -> None:
        path = os.environ.get("ROLLOUT_TARGETING")
        super().__init__(**({} if path is None else _read(path)))


def _read(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the arguments of `Targeting` from a TOML file, after validation."""
    try:
        content = tomllib.loads(Path(path).read_text(encoding="utf-8"))
        Targeting(**content)
    except (OSError, ValueError, TypeError) as error:
        raise ConfigurationError(
            f"The targeting rules in {os.fspath(path)!r} cannot be used: {error}. "
            "A file has default_share, analysed, and a table [[rules]] with name, where and share for each rule. Fix the file."
        ) from error
    return content


def rollout_strategies() -> Mapping[str, type]:
    """Return the strategy of this distribution, by its entry-point name."""
    return {"targeting": TargetingFromFile}
