"""The journal's lines: one JSON object each, in ASCII, with `event` and schema version `v` first.

| event        | one for                                | fields besides `t` (seconds since 1970)                                   |
|--------------|----------------------------------------|---------------------------------------------------------------------------|
| `journal`    | file                                   | `sdk`, `pid`, `host`, `began` (when its process began to record: nanoseconds, hexadecimal), `part` (its number, from 0) |
| `rollout`    | rollout and file                       | `rollout`, `strategy`, `control`, `variants`, `phase`, `status`, `revision`, `shares`, `shadow` (share of the calls that are shadowed by plan), `version` (of the candidates), `fingerprint` (of what makes calls comparable), `made_of` (what that is made of, and a hash of the candidates' code), `plan` (what it is judged by), `plugins` (names of its strategy, observers and comparators) |
| `decision`   | call (or batch of one row)             | `rollout`, `id`, `strategy`, `phase`, `fingerprint`, `variant`, `served`, `reason`, `propensity`, `share`, `bucket`, `unit`, `runs` (each [variant, seconds, error type, seconds to first item]), `error`, `shadows`, `blend`, `items`, `teams`, `rule` (how clicks are credited where it is not by team), `closed_early`, `excluded`, `withheld`, `answered`, `no_evidence`, `unmeasured` (class of an answer that cannot be measured), `cov` (the covariate), `segments` (by attribute), `rate` |
| `rows`       | thousand rows of a batch, or fewer     | `rollout`, `like` (a line as of a decision for each kind of row), `kind` (for each row, the position of its kind), and each row's own in place of its kind's: `ids`, `buckets`, `units`, `covs` |
| `shadow`     | submitted shadow run                   | `rollout`, `id`, `phase`, `fingerprint`, `variant`, `end`, `duration_s`, `wait_s`, `error`, `match` (1 or 0), `difference`, `difference_reason`, `comparator`, `fields` (by name: [match, difference, reason]), `labels` (the control's and the candidate's, where the comparator gives them), `bucket`, `unit`, `excluded`, `first_item_s`, `control_error`, `control_duration_s`, `control_first_item_s`, `rate` |
| `outcome`    | recorded outcome                       | `rollout`, `metric`, `value`, `id`, `phase`, `fingerprint`, `variant`, `bucket`, `unit`, `item` or `position`, `event_id`, `decided` (time of the decision), `excluded`, `shadow` (whether it is about the answer of a shadow), `source` ("judge" or "human"), `details` (of a judge: its name, whose answer came first, seconds, cost), `rate`, `call_rate` (that of its call) |
| `breaker`    | opening or closing of a breaker        | `rollout`, `variant`, `action`, `failures`, `runs`, `cooldown_s`          |
| `lost`       | facts that are not here, since the last such line | `count`, `sampled` (how many of them were of calls that were not drawn) |
| `transition` | change of phase or status              | `rollout`, `id` (the same in every process that follows the store), `strategy`, `action`, `status`, `revision`, `from_phase`, `to_phase`, `shares`, `actor`, `reason`, `shadow`, `verdict` (with every number behind it), `invalid` (why the comparison cannot be trusted after it), `version`, `fingerprint`, `replaced` (the fingerprint in whose place it has begun) |

Fields that are empty (null, false, or no items) are left out. Numbers are finite. Units and items are pseudonyms; payloads
are nowhere. A rollout's start is its `rollout` line. Every process that follows a store has a `transition` line for every
change, whatever made it: lines of one `id` are one change. `read_journal` gives the rows of a `rows` line as a `decision` each.
A `rate` below 1 is the share of the calls that was kept, under overload, when this line was; where there is none, it is 1.
Arms are distinguished by rollout, fingerprint and phase, and never pooled; lines of earlier SDKs have no fingerprint.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from sys import float_info
from typing import Any

from attrs import frozen

from rollout_sdk.records.sampling import HIGHEST_LEVEL, rate_of

__all__ = ["FIELDS", "MOST", "SCHEMA", "Field"]

SCHEMA = 1
"""Version of the lines; raised when a field changes its meaning, never when one is added."""


@frozen
class Field:
    """What a field holds.

    Attributes:
        holds: Whether a value is one of the field's.
        required: Whether a line without it is damaged.
        plain: A class all of whose instances are valid values, which skips the check; None if there is none.
        numbers: Classes of numbers of which all from -`MOST` to `MOST` are valid values, which is checked without a call.
    """

    holds: Callable[[Any], bool]
    required: bool = False
    plain: type | None = None
    numbers: tuple[type, ...] = ()


MOST = float_info.max
"""The largest number that a line may have."""
_LOWEST_RATE = rate_of(HIGHEST_LEVEL)


def _is_text(value: Any) -> bool:
    return value.__class__ is str


def _is_number(value: Any) -> bool:
    # NaN, infinity and integers that no float can hold are none: they would make nonsense of every sum.
    kind = value.__class__
    return (kind is float or kind is int) and -MOST <= value <= MOST


def _is_count(value: Any) -> bool:
    return value.__class__ is int and _is_number(value)


def _is_rate(value: Any) -> bool:
    # What is kept stands for the others: a rate near 0 would make one line outweigh a journal.
    return _is_number(value) and _LOWEST_RATE <= value <= 1


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool)


def _is_list(of: Callable[[Any], bool], value: Any) -> bool:
    return value.__class__ is list and all(map(of, value))


def _is_text_or_none(value: Any) -> bool:
    return value is None or value.__class__ is str


def _is_number_or_none(value: Any) -> bool:
    return value is None or _is_number(value)


def _is_shares(value: Any) -> bool:
    return isinstance(value, dict) and all(map(_is_number, value.values()))


def _is_table(value: Any) -> bool:
    return isinstance(value, dict)


def _is_segments(value: Any) -> bool:
    return isinstance(value, dict) and all(segment.__class__ is str for segment in value.values())


def _is_fields(value: Any) -> bool:
    return isinstance(value, dict) and all(
        each.__class__ is list
        and len(each) == 3
        and _is_count(each[0])
        and _is_number_or_none(each[1])
        and _is_text_or_none(each[2])
        for each in value.values()
    )


def _is_run(value: Any) -> bool:
    if value.__class__ is not list or len(value) != 4:
        return False
    variant, duration_s, error, first_item_s = value
    return (
        variant.__class__ is str
        and _is_number(duration_s)
        and (error is None or error.__class__ is str)
        and (first_item_s is None or _is_number(first_item_s))
    )


_TEXT, _FLAG = Field(_is_text, plain=str), Field(_is_flag, plain=bool)
_NUMBER, _COUNT = Field(_is_number, numbers=(float, int)), Field(_is_count, numbers=(int,))
_A_TEXT = Field(_is_text, required=True, plain=str)
_A_NUMBER = Field(_is_number, required=True, numbers=(float, int))
_A_COUNT = Field(_is_count, required=True, numbers=(int,))
_TEXTS, _TEAMS, _RUNS = (Field(partial(_is_list, kind)) for kind in (_is_text, _is_text_or_none, _is_run))
# A strategy may have none, and what is empty is left out.
_RATE = Field(_is_rate)
_SHARES, _SEGMENTS = Field(_is_shares), Field(_is_segments)
_TABLE = Field(_is_table)

FIELDS: Mapping[str, Mapping[str, Field]] = {
    "journal": {"t": _NUMBER, "sdk": _TEXT, "pid": _COUNT, "host": _TEXT, "began": _TEXT, "part": _COUNT},
    "rollout": {
        "t": _NUMBER,
        "rollout": _A_TEXT,
        "strategy": _A_TEXT,
        "control": _A_TEXT,
        "variants": _TEXTS,
        "phase": _A_TEXT,
        "status": _TEXT,
        "revision": _COUNT,
        "shares": _SHARES,
        "shadow": _NUMBER,
        "version": _TEXT,
        "fingerprint": _TEXT,
        "made_of": _TABLE,
        "plan": _TABLE,
        "plugins": _TEXTS,
    },
    "decision": {
        "t": _A_NUMBER,
        "rollout": _A_TEXT,
        "id": _A_TEXT,
        "strategy": _A_TEXT,
        "phase": _A_TEXT,
        "fingerprint": _TEXT,
        "variant": _A_TEXT,
        "served": _A_TEXT,
        "reason": _A_TEXT,
        "propensity": _NUMBER,
        "share": _NUMBER,
        "bucket": _A_COUNT,
        "unit": _TEXT,
        "runs": _RUNS,
        "error": _TEXT,
        "shadows": _TEXTS,
        "blend": _TEXTS,
        "items": _TEXTS,
        "teams": _TEAMS,
        "rule": _TABLE,
        "closed_early": _FLAG,
        "excluded": _FLAG,
        "withheld": _TEXT,
        "answered": _FLAG,
        "no_evidence": _FLAG,
        "unmeasured": _TEXT,
        "cov": _NUMBER,
        "segments": _SEGMENTS,
        "rate": _RATE,
    },
    "rows": {
        "t": _NUMBER,
        "rollout": _A_TEXT,
        "like": Field(partial(_is_list, _is_table), required=True),
        "kind": Field(partial(_is_list, _is_count), required=True),
        "ids": Field(partial(_is_list, _is_text), required=True),
        "buckets": Field(partial(_is_list, _is_count), required=True),
        "units": Field(partial(_is_list, _is_text_or_none)),
        "covs": Field(partial(_is_list, _is_number_or_none)),
    },
    "shadow": {
        "t": _NUMBER,
        "rollout": _A_TEXT,
        "id": _A_TEXT,
        "phase": _A_TEXT,
        "fingerprint": _TEXT,
        "variant": _A_TEXT,
        "end": _A_TEXT,
        "duration_s": _NUMBER,
        "wait_s": _NUMBER,
        "error": _TEXT,
        "match": _COUNT,
        "difference": _NUMBER,
        "difference_reason": _TEXT,
        "comparator": _TEXT,
        "fields": Field(_is_fields),
        "labels": _TEXTS,
        "bucket": _COUNT,
        "unit": _TEXT,
        "excluded": _FLAG,
        "first_item_s": _NUMBER,
        "control_error": _TEXT,
        "control_duration_s": _NUMBER,
        "control_first_item_s": _NUMBER,
        "rate": _RATE,
    },
    "outcome": {
        "t": _A_NUMBER,
        "rollout": _A_TEXT,
        "metric": _A_TEXT,
        "value": _A_NUMBER,
        "id": _TEXT,
        "phase": _TEXT,
        "fingerprint": _TEXT,
        "variant": _TEXT,
        "bucket": _COUNT,
        "unit": _TEXT,
        "item": _TEXT,
        "position": _COUNT,
        "event_id": _TEXT,
        "decided": _NUMBER,
        "excluded": _FLAG,
        "shadow": _FLAG,
        "source": _TEXT,
        "details": _TABLE,
        "rate": _RATE,
        "call_rate": _RATE,
    },
    "breaker": {
        "t": _NUMBER,
        "rollout": _A_TEXT,
        "variant": _A_TEXT,
        "action": _A_TEXT,
        "failures": _A_COUNT,
        "runs": _A_COUNT,
        "cooldown_s": _NUMBER,
    },
    "lost": {"t": _NUMBER, "count": _A_COUNT, "sampled": _COUNT},
    "transition": {
        "t": _NUMBER,
        "rollout": _A_TEXT,
        "id": _TEXT,
        "strategy": _TEXT,
        "action": _A_TEXT,
        "status": _TEXT,
        "revision": _COUNT,
        "from_phase": _TEXT,
        "to_phase": _A_TEXT,
        "shares": _SHARES,
        "actor": _TEXT,
        "reason": _TEXT,
        "shadow": _NUMBER,
        "verdict": _TABLE,
        "invalid": _TEXT,
        "version": _TEXT,
        "fingerprint": _TEXT,
        "replaced": _TEXT,
    },
}
"""What a reader may rely on: every field of every event, in the order of the table above."""
