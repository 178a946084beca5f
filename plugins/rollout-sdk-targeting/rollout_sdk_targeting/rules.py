"""Segments, defined by conditions on a call's arguments. Conditions never raise, and take microseconds for any argument."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Any, Literal, TypeAlias, get_args

from attrs import field, frozen

from rollout_sdk import ConfigurationError
from rollout_sdk.extending import Share, parse_share

__all__ = ["Operator", "Rule", "Shares", "Where", "parse_shares"]

Operator: TypeAlias = Literal["eq", "in", "prefix", "suffix", "range"]

Shares: TypeAlias = Share | Mapping[str, Share]
"""The candidate's share, or the share of each candidate by name."""

_LONGEST_NAME = 100


def _exact(value: Any) -> tuple[bool, Any]:
    """Return a value that does not equal values of other types: in Python, True == 1."""
    return isinstance(value, bool), value


# No regular expressions: a pattern of 27 characters can block the interpreter for ten seconds.
_TESTS: Mapping[Operator, Callable[[Any, Any], bool]] = {
    "eq": lambda found, wanted: _exact(found) == wanted,
    "in": lambda found, wanted: _exact(found) in wanted,
    "prefix": lambda found, wanted: isinstance(found, str) and found.startswith(wanted),
    "suffix": lambda found, wanted: isinstance(found, str) and found.endswith(wanted),
    "range": lambda found, wanted: not isinstance(found, bool) and wanted[0] <= found < wanted[1],
}


@frozen
class Where:
    """A condition on one argument: `Where("country", "in", ["BE", "NL"])`.

    Attributes:
        argument: A parameter of the model function, or a dotted path into one (keys of mappings, attributes of objects):
            "request.country". In a batch, the parameter that holds the rows is the row.
        operator: "eq" and "in" compare exactly (case matters; 1, "1" and True are three different values), "prefix" and
            "suffix" compare the ends of a text, "range" anything ordered.
        value: For "eq" one value, for "in" a list of values, for "prefix" and "suffix" a text or a list of texts, for "range"
            the lower bound, which is included, and the upper bound, which is not.
    """

    argument: str
    operator: Operator
    value: Any
    _path: tuple[str, ...] = field(init=False, repr=False, eq=False)
    _wanted: Any = field(init=False, repr=False, eq=False)

    def __attrs_post_init__(self) -> None:
        """Validate the condition, and prepare its value for comparing."""
        if not (isinstance(self.argument, str) and all(self.argument.split("."))):
            raise self._error("names no argument", "It names a parameter, or a dotted path into one. Write 'request.country'.")
        if self.operator not in get_args(Operator):
            raise self._error("has an unknown operator", f"The operators are: {', '.join(get_args(Operator))}. Choose one.")
        object.__setattr__(self, "_path", tuple(self.argument.split(".")))
        object.__setattr__(self, "_wanted", self._prepared())

    def matches(self, arguments: Mapping[str, Any]) -> bool:
        """Whether the condition holds; false if the argument is missing, None or of another type."""
        found: Any = arguments
        # Properties and comparisons are code of the application, which may raise; a rule must not break its call.
        try:
            for part in self._path:
                found = found.get(part) if isinstance(found, Mapping) else getattr(found, part, None)
            return found is not None and bool(_TESTS[self.operator](found, self._wanted))
        except Exception:
            return False

    def _prepared(self) -> Any:
        value = self.value
        if self.operator == "eq":
            return _exact(value)
        if isinstance(value, Iterable) and not isinstance(value, str | bytes | Mapping):
            # Sorted, because a set's order differs between processes, and the phase's name is a hash of the rules' text.
            value = tuple(sorted(value, key=repr) if isinstance(value, set | frozenset) else value)
            object.__setattr__(self, "value", value)
        if self.operator == "in":
            if not (value and isinstance(value, tuple) and all(isinstance(each, Hashable) for each in value)):
                raise self._error("has no list of values", "The operator 'in' needs a list of values. Write ['BE', 'NL'].")
            return frozenset(map(_exact, value))
        if self.operator == "range":
            if not (isinstance(value, tuple) and len(value) == 2 and _ascends(*value)):
                raise self._error("has no range", "A range is from the first value to below the second. Write [18, 30].")
            return value
        texts = value if isinstance(value, tuple) else (value,)
        if not (texts and all(isinstance(text, str) and text for text in texts)):
            raise self._error("has no text", f"{self.operator!r} needs a text, or a list of texts. Write ['a', 'b'].")
        return texts

    def _error(self, what: str, rule: str) -> ConfigurationError:
        shown = f"{self.argument!r:.40}, {self.operator!r:.40}, {self.value!r:.60}"
        return ConfigurationError(f"Where({shown}) {what}. {rule}")


def _ascends(low: Any, high: Any) -> bool:
    try:
        return bool(low < high)
    except Exception:
        return False


def parse_shares(shares: Shares, owner: str) -> float | Mapping[str, float]:
    """Return shares as numbers from 0 to 1.

    Raises:
        ConfigurationError: One is not a share.
    """
    if not isinstance(shares, Mapping):
        return parse_share(shares, f"share of {owner}")
    return {name: parse_share(share, f"share of {name!r} in {owner}") for name, share in shares.items()}


def _conditions(where: Any) -> tuple[Where, ...]:
    given = where if isinstance(where, Iterable) and not isinstance(where, str | Mapping) else (where,)
    return tuple(map(_condition, given))


def _condition(where: Any) -> Where:
    if isinstance(where, Mapping):
        return Where(**where)
    if isinstance(where, Where):
        return where
    raise ConfigurationError(
        f"{where!r:.60} is not a condition of a rule. A rule has a Where, or a list of them. "
        "Write Where('country', 'eq', 'NL')."
    )


@frozen
class Rule:
    """A segment and its share: `Rule("benelux", Where("country", "in", ["BE", "NL", "LU"]), "10%")`.

    Attributes:
        name: Name of the segment: the reason with which its calls are recorded.
        where: A condition, or several that must all hold; an empty list matches every call.
        share: Share of the candidate; with several candidates, the share of each by name.
    """

    name: str
    where: tuple[Where, ...] = field(converter=_conditions)
    share: Shares

    def __attrs_post_init__(self) -> None:
        """Validate the name and the share."""
        name = self.name
        if not (isinstance(name, str) and name.isprintable() and 0 < len(name) <= _LONGEST_NAME):
            raise ConfigurationError(
                f"A rule of Targeting is named {name!r:.60}. The name is the reason in every record. "
                f"Choose a printable text of at most {_LONGEST_NAME} characters."
            )
        object.__setattr__(self, "share", parse_shares(self.share, f"rule {name!r}"))

    def matches(self, arguments: Mapping[str, Any]) -> bool:
        """Whether a call is in the segment."""
        return all(condition.matches(arguments) for condition in self.where)
