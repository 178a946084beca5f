"""Validation of options whose values are wrong in themselves or in combination, when the function is decorated.

Everything that could only fail later is refused at once, with its cure. `settings.signatures` refuses wrong kinds and
parameters of functions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, get_args

from rollout_sdk.assignment import Layer, Share, parse_share
from rollout_sdk.assignment.ids import check_name
from rollout_sdk.comparators import Disagreements
from rollout_sdk.concurrency.synchronous import must_answer_at_once
from rollout_sdk.engine.arguments import UnitSpec
from rollout_sdk.engine.judges.judge import Judge
from rollout_sdk.engine.likeness import FunctionKind
from rollout_sdk.engine.shadows.processes import check_picklable
from rollout_sdk.exceptions import ConfigurationError
from rollout_sdk.records import INTERLEAVED
from rollout_sdk.resilience.breaker import Breaker
from rollout_sdk.settings.signatures import KINDS

__all__ = [
    "check_breaker",
    "check_choice",
    "check_deadline",
    "check_effects",
    "check_failed_if",
    "check_holdout",
    "check_isolate",
    "check_judge",
    "check_keep",
    "check_layer",
    "check_measure",
    "check_names",
    "check_on_abort",
    "check_passthrough",
    "check_processes",
]


def check_names(key: str, control: str, candidates: Mapping[str, object]) -> None:
    """Check that key, control and candidates have distinct names that are valid in records."""
    check_name(key, "key")
    check_name(control, f"control's name in {key!r}")
    if not candidates:
        raise ConfigurationError(
            f"{key!r} has no candidate. A rollout compares the control with at least one. "
            "Pass candidate=f or candidates={...}."
        )
    for name in (control, *candidates):
        check_name(name, f"name of a variant of {key!r}")
        if name == INTERLEAVED:
            raise ConfigurationError(
                f"A variant of {key!r} is named {name!r}. That is the name of blended answers in every record. "
                "Choose another name."
            )
    if control in candidates:
        raise ConfigurationError(
            f"A candidate of {key!r} is named {control!r}, and so is the control. "
            "Names tell variants apart in every record. Choose another name, or set control_name=."
        )


def check_choice(key: str, option: str, value: object, choices: Any) -> None:
    """Check that an option has one of a Literal's values."""
    if value not in get_args(choices):
        raise ConfigurationError(
            f"{option}={value!r:.60} of {key!r} is unknown. It must be one of: {', '.join(get_args(choices))}."
        )


def check_isolate(key: str, isolate: object) -> None:
    """Check that `isolate` is a known word or a function."""
    if not callable(isolate) and isolate not in ("auto", "none", "deepcopy"):
        raise ConfigurationError(
            f"isolate={isolate!r:.60} of {key!r} is unknown. It must be 'auto', 'none', 'deepcopy' or a copying function."
        )
    must_answer_at_once(f"isolate= of {key!r}", isolate, "Make it a plain function that returns the copy of one argument.")


def check_passthrough(key: str, passthrough: object) -> None:
    """Check that `passthrough` is a tuple of exception classes."""
    if isinstance(passthrough, tuple) and all(
        isinstance(each, type) and issubclass(each, BaseException) for each in passthrough
    ):
        return
    raise ConfigurationError(
        f"passthrough={passthrough!r:.60} of {key!r} is not a tuple of exception classes. "
        "It names the exceptions of a candidate that reach the caller. Write passthrough=(KeyError,)."
    )


def check_failed_if(key: str, failed_if: object, kind: FunctionKind) -> None:
    """Check that `failed_if` is a plain function, and that answers are complete when it is called."""
    if failed_if is None:
        return
    if not callable(failed_if):
        raise ConfigurationError(
            f"failed_if={failed_if!r:.60} of {key!r} is not callable. It is a function of an answer, and returns "
            "whether that is a failure. Write failed_if=lambda answer: answer.status_code >= 500."
        )
    must_answer_at_once(f"failed_if= of {key!r}", failed_if, "Make it a plain function of the answer.")
    if kind in ("generator", "async generator"):
        raise ConfigurationError(
            f"failed_if= of {key!r} cannot be applied: {key!r} is {KINDS[kind]}, and its first items are served before the "
            "answer is complete. Leave it out, and raise an exception in the stream."
        )


def check_measure(key: str, measure: object) -> None:
    """Check that `measure` is a plain function."""
    if measure is None:
        return
    if not callable(measure):
        raise ConfigurationError(
            f"measure={measure!r:.60} of {key!r} is not callable. It takes numbers from an answer, by metric. "
            "Write measure=lambda answer: {'tokens': answer.usage.total_tokens}."
        )
    must_answer_at_once(f"measure= of {key!r}", measure, "Make it a plain function of the answer.")


def check_judge(key: str, judge: object, *, by_row: bool) -> None:
    """Check that `judge` is a `Judge`, and that it is given single answers."""
    if judge is None:
        return
    if not isinstance(judge, Judge):
        raise ConfigurationError(
            f"judge={judge!r:.60} of {key!r} is not a Judge. A judge says which of two answers is better, and has limits. "
            "Write judge=Judge(function, sample=0.1)."
        )
    if by_row:
        raise ConfigurationError(
            f"judge= of {key!r} does not work with batch=. A judge compares two answers, and a batch has many. Decorate the "
            "function of one row, or leave judge= out."
        )


def check_effects(key: str, effects: str, on_error: str, *, shadows: bool, blends: bool) -> None:
    """Check that shadowed or blended variants have no side effects, and that variants with side effects run only once."""
    if shadows and effects != "read":
        raise ConfigurationError(
            f"{key!r} would be shadowed, and its effects are {effects!r}. A shadow's output is discarded, but what it writes, "
            "sends or charges happens twice. If no variant changes anything, set effects='read', and guard writes with "
            "shadow_guard."
        )
    if effects == "write" and blends:
        raise ConfigurationError(
            f"{key!r} would be blended, and its effects are 'write'. A blend runs every variant for one answer. "
            "Use another strategy, or take the writes out of the variants."
        )
    if effects == "write" and on_error == "control":
        raise ConfigurationError(
            f"{key!r} has effects='write' and on_error='control'. If a candidate failed, the control would run after it and "
            "write again. Set on_error='raise'."
        )


def check_processes(key: str, kind: FunctionKind, candidates: Mapping[str, Callable[..., Any]]) -> None:
    """Check that candidates can run in another process."""
    if kind != "function":
        raise ConfigurationError(
            f"Shadow(where='process') of {key!r} cannot run it: {key!r} is {KINDS[kind]}. Another process has another event "
            "loop, and streams cannot be sent. Use where='thread'."
        )
    for name, candidate in candidates.items():
        check_picklable(key, name, candidate)


def check_deadline(key: str, deadline_s: object, kind: FunctionKind) -> None:
    """Check that `deadline_s` is a time, and that candidates can be abandoned."""
    if deadline_s is None:
        return
    if isinstance(deadline_s, bool) or not isinstance(deadline_s, int | float) or not 0 < deadline_s < math.inf:
        raise ConfigurationError(
            f"deadline_s={deadline_s!r:.60} of {key!r} is not a time. It is a number of seconds above 0. Write deadline_s=0.5."
        )
    if kind not in ("coroutine", "async generator"):
        raise ConfigurationError(
            f"deadline_s={deadline_s} of {key!r} cannot be kept: {key!r} is {KINDS[kind]}. Python cannot stop a thread: only "
            "asynchronous candidates can be abandoned safely. Leave it out, and give the model's own client a timeout."
        )


def check_breaker(key: str, breaker: object) -> None:
    """Check that `breaker` is a Breaker, or None."""
    if breaker is not None and not isinstance(breaker, Breaker):
        raise ConfigurationError(
            f"breaker={breaker!r:.60} of {key!r} is not a Breaker. It sets when a failing candidate is no longer run. "
            "Write breaker=Breaker(...), or None for none."
        )


def check_keep(key: str, keep: object) -> None:
    """Check that `keep` is a `Disagreements`, or None."""
    if keep is not None and not isinstance(keep, Disagreements):
        raise ConfigurationError(
            f"keep={keep!r:.60} of {key!r} is not a Disagreements. It says how many pairs are kept, and what of them. "
            "Write keep=Disagreements(50, redact=...)."
        )


def check_on_abort(key: str, on_abort: str, unit: UnitSpec, *, by_row: bool, blends: bool) -> None:
    """Check that what drains has units, which are its conversations, and one variant for each of them."""
    if on_abort != "drain":
        return
    if unit is None:
        raise ConfigurationError(
            f"on_abort='drain' of {key!r} lets conversations end on their candidate, and calls of {key!r} have no unit. Set "
            "unit= to what identifies a conversation, or leave on_abort out."
        )
    if blends:
        raise ConfigurationError(
            f"on_abort='drain' of {key!r} does not work with interleaving. A conversation ends on one model, and a blend is of "
            "several. Leave on_abort out."
        )
    if by_row:
        raise ConfigurationError(
            f"on_abort='drain' of {key!r} does not work with batch=. A batch has rows of many units. Decorate the function of "
            "one row, or leave on_abort out."
        )


def check_holdout(key: str, holdout: Share, unit: UnitSpec) -> float:
    """Check and parse the share of the holdout; it needs units."""
    share = parse_share(holdout, f"holdout of {key!r}")
    if share and unit is None:
        raise ConfigurationError(
            f"holdout= of {key!r} holds units out, and calls of {key!r} have none. Without unit=, no unit could be held out. "
            "Set unit=."
        )
    return share


def check_layer(key: str, layer: object, others: Iterable[tuple[str, Layer | None]]) -> None:
    """Check that the slot does not overlap with another rollout's in the layer."""
    if layer is None:
        return
    if not isinstance(layer, Layer):
        raise ConfigurationError(
            f"layer={layer!r:.60} of {key!r} is not a Layer. A layer has a name and a slot. "
            "Write layer=Layer('checkout', 0, 0.5)."
        )
    check_name(layer.name, f"name of the layer of {key!r}")
    for other, theirs in others:
        if other != key and theirs is not None and layer.overlaps(theirs):
            raise ConfigurationError(
                f"{key!r} takes {layer.start:.2%} to {layer.end:.2%} of layer {layer.name!r}, and "
                f"{other!r} takes {theirs.start:.2%} to {theirs.end:.2%}. Rollouts of a layer exclude each other. "
                "Give them slots that do not overlap."
            )
