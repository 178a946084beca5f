"""Shares by segment: a strategy for rollout_sdk that looks at a call's arguments before it hashes the unit.

A unit keeps its variant while its segment stays the same; raising a segment's share only moves its units to the candidate.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable, Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any, Literal, get_args

from attrs import field, frozen, validators

from rollout_sdk import ConfigurationError, Decision, Phase, RouteRequest

__all__ = ["Rule", "Targeting", "rollout_strategies"]

Operator = Literal["eq", "in", "prefix", "suffix", "range"]

# No regular expressions: one of 27 characters can hold the interpreter for ten seconds.
_TESTS: Mapping[str, Callable[[Any, Any], bool]] = {
    "eq": lambda found, wanted: found == wanted,
    "in": lambda found, wanted: found in wanted,
    "prefix": lambda found, wanted: isinstance(found, str) and found.startswith(wanted),
    "suffix": lambda found, wanted: isinstance(found, str) and found.endswith(wanted),
    "range": lambda found, wanted: wanted[0] <= found < wanted[1],
}


@frozen
class Rule:
    """A segment and its shares.

    Attributes:
        name: What its calls are recorded under, as their reason.
        argument: A parameter of the model function, or a dotted path into one: "request.country".
        operator: "eq", "in", "prefix", "suffix" or "range" (from the first value to below the second).
        value: What the argument is held against.
        share: Share of the candidate, or of each candidate by name.
    """

    name: str
    argument: str
    operator: Operator = field(validator=validators.in_(get_args(Operator)))
    value: Any
    share: float | str | Mapping[str, float | str]

    def matches(self, arguments: Mapping[str, Any]) -> bool:
        """Whether a call is in the segment; one without the argument, or with one of another type, is not."""
        name, *path = self.argument.split(".")
        found = arguments.get(name)
        for part in path:
            found = found.get(part) if isinstance(found, Mapping) else getattr(found, part, None)
        try:
            return found is not None and bool(_TESTS[self.operator](found, self.value))
        except TypeError:
            return False


def _rules(rules: Sequence[Rule | Mapping[str, Any]]) -> tuple[Rule, ...]:
    return tuple(rule if isinstance(rule, Rule) else Rule(**rule) for rule in rules)


@frozen
class Targeting:
    """The first rule that matches a call gives its shares: `Targeting([Rule("nl", "country", "eq", "NL", "10%")])`.

    Attributes:
        rules: The rules, in order.
        default_share: Share of the candidates for a call that no rule matches.
    """

    name = "targeting"

    rules: tuple[Rule, ...] = field(default=(), converter=_rules)
    default_share: float | str | Mapping[str, float | str] = field(default=0.0, kw_only=True)
    _segments: dict[tuple[str, tuple[str, ...]], list[tuple[Rule | None, Phase, dict[str, Decision]]]] = field(
        init=False, factory=dict, eq=False, repr=False
    )

    @classmethod
    def from_toml(cls, path: str | os.PathLike[str]) -> Targeting:
        """The rules of a TOML file: `default_share = "1%"`, and a table `[[rules]]` for each with the attributes of `Rule`.

        Raises:
            ConfigurationError: It cannot be read, or does not say rules.
        """
        try:
            content = tomllib.loads(Path(path).read_text())
            return cls(content.get("rules", ()), default_share=content.get("default_share", 0.0))
        except (OSError, ValueError, TypeError) as error:
            raise ConfigurationError(
                f"The targeting rules {os.fspath(path)!r} cannot be used: {error}. "
                "They are a TOML file with [[rules]] of name, argument, operator, value and share. Mend the file."
            ) from error

    def rollout_phases(self, control: str, candidates: tuple[str, ...]) -> Sequence[Phase]:
        """One phase, named by the rules: with other rules, evidence is counted anew."""
        segments = []
        for rule in (*self.rules, None):
            share = self.default_share if rule is None else rule.share
            name = "default" if rule is None else rule.name
            shares = share if isinstance(share, Mapping) else dict.fromkeys(candidates, share)
            unknown = sorted(set(shares) - set(candidates))
            if unknown:
                raise ConfigurationError(
                    f"Rule {name!r} of Targeting gives a share to {unknown[0]!r}, which is no candidate. "
                    f"Shares are of candidates. The candidates are: {', '.join(candidates)}."
                )
            phase = Phase(name, {candidate: shares.get(candidate, 0.0) for candidate in candidates}, control)
            variants = (control, *candidates)
            named = {variant: Decision(variant, name, phase.all_shares[variant] or 1.0) for variant in variants}
            segments.append((rule, phase, named))
        self._segments[control, candidates] = segments
        print_of_rules = blake2b(repr((self.rules, self.default_share)).encode(), digest_size=4).hexdigest()
        return [Phase(f"rules {print_of_rules}", {}, control)]

    def rollout_route(self, request: RouteRequest) -> Decision:
        """The variant in whose lane of its segment the unit lies; the reason is the rule's name."""
        arguments = request.arguments
        for rule, phase, named in self._segments[request.control, request.candidates]:
            if rule is None or rule.matches(arguments):
                decision = phase.split.decide(request.point)
                return named[decision.variant]
        raise AssertionError("the last segment has no rule")


def _from_environment() -> Targeting:
    path = os.environ.get("ROLLOUT_TARGETING")
    return Targeting() if path is None else Targeting.from_toml(path)


class _ByName:
    """What `strategy="targeting"` builds: the rules of the file in ROLLOUT_TARGETING, or nobody for the candidate."""

    def __new__(cls) -> Any:
        return _from_environment()


def rollout_strategies() -> Mapping[str, type]:
    """The strategy of this distribution, by its entry-point name."""
    return {"targeting": _ByName}
