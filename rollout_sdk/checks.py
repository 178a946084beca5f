"""What is checked when decorating: everything that could only fail later is refused here, with its cure."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from inspect import Parameter, Signature
from typing import Any, get_args

from rollout_sdk.assignment import Layer, Phase, Share, canonical, parse_share
from rollout_sdk.breaker import Breaker
from rollout_sdk.engine.arguments import UnitSpec, getter, incompatibility, parameter, signature_of
from rollout_sdk.engine.describe import Override
from rollout_sdk.engine.rollout import Kind, kind_of
from rollout_sdk.exceptions import ConfigurationError, PluginError, SignatureError
from rollout_sdk.identity import check_name
from rollout_sdk.installed import load_named
from rollout_sdk.plugins import PluginSet
from rollout_sdk.strategies.interleave import INTERLEAVED

__all__ = [
    "check_batch",
    "check_breaker",
    "check_candidate",
    "check_choice",
    "check_covariate",
    "check_deadline",
    "check_effects",
    "check_failed_if",
    "check_holdout",
    "check_isolate",
    "check_layer",
    "check_names",
    "check_override",
    "check_passthrough",
    "check_unit",
    "load_plugins",
    "planned_phases",
]

_KINDS = {
    "function": "a plain function",
    "coroutine": "a coroutine function",
    "generator": "a generator function",
    "async generator": "an async generator function",
}


def check_names(key: str, control: str, candidates: Mapping[str, object]) -> None:
    """Key, control and candidates have names that can stand in records, and no two are alike."""
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


def check_candidate(key: str, kind: Kind, signature: Signature | None, name: str, candidate: object) -> None:
    """A candidate is of the control's kind, and can be called in every way in which the control can."""
    if not callable(candidate):
        raise SignatureError(
            f"Candidate {name!r} of {key!r} is {candidate!r:.60}, which cannot be called. "
            "A candidate is a function that takes what the control takes. Pass the function itself."
        )
    if kind_of(candidate) != kind:
        raise SignatureError(
            f"Candidate {name!r} of {key!r} is {_KINDS[kind_of(candidate)]}, but {key!r} is {_KINDS[kind]}. "
            f"All variants of a rollout must be of one kind. Make {name!r} {_KINDS[kind]} or wrap it."
        )
    _check_takes_the_same(f"Candidate {name!r} of {key!r}", signature, candidate)


def _check_takes_the_same(subject: str, signature: Signature | None, function: Callable[..., Any]) -> None:
    why = incompatibility(signature, signature_of(function))
    if why is not None:
        raise SignatureError(
            f"{subject} cannot be called as the control is: {why}. "
            "Every call of the control must be possible for it, too. Give it the control's parameters, or *args and **kwargs."
        )


def check_choice(key: str, option: str, value: object, choices: Any) -> None:
    """An option is one of a Literal's values."""
    if value not in get_args(choices):
        raise ConfigurationError(
            f"{option}={value!r:.60} of {key!r} is unknown. It must be one of: {', '.join(get_args(choices))}."
        )


def check_isolate(key: str, isolate: object) -> None:
    """How arguments are copied is a known word or a function."""
    if not callable(isolate) and isolate not in ("auto", "none", "deepcopy"):
        raise ConfigurationError(
            f"isolate={isolate!r:.60} of {key!r} is unknown. It must be 'auto', 'none', 'deepcopy' or a copying function."
        )


def check_passthrough(key: str, passthrough: object) -> None:
    """The exceptions that are an answer are a tuple of exception classes."""
    if isinstance(passthrough, tuple) and all(
        isinstance(each, type) and issubclass(each, BaseException) for each in passthrough
    ):
        return
    raise ConfigurationError(
        f"passthrough={passthrough!r:.60} of {key!r} is no tuple of exception classes. "
        "It names the exceptions of a candidate that the caller gets. Write passthrough=(KeyError,)."
    )


def check_failed_if(key: str, failed_if: object, kind: Kind) -> None:
    """What says that an answer is a failure is a plain function, of answers that are there as a whole."""
    if failed_if is None:
        return
    if not callable(failed_if):
        raise ConfigurationError(
            f"failed_if={failed_if!r:.60} of {key!r} is not callable. It is a function of an answer, and says "
            "whether that is a failure. Write failed_if=lambda answer: answer.status_code >= 500."
        )
    if kind_of(failed_if) != "function":
        raise ConfigurationError(
            f"failed_if= of {key!r} is {_KINDS[kind_of(failed_if)]}. It is asked between the answer and the caller, and "
            "must not wait. Make it a plain function of the answer."
        )
    if kind in ("generator", "async generator"):
        raise ConfigurationError(
            f"failed_if= of {key!r} cannot be asked: {key!r} is {_KINDS[kind]}, and its first items are served before the "
            "answer is whole. Leave it out, and raise an exception in the stream."
        )


def check_effects(key: str, effects: str, on_error: str, *, shadows: bool, blends: bool) -> None:
    """What a strategy runs beside the answer has no effects, and what has effects runs once."""
    if shadows and effects != "read":
        raise ConfigurationError(
            f"{key!r} would be shadowed, and its effects are {effects!r}. A shadow runs for nobody: what it writes, sends or "
            "charges happens twice. If no variant changes anything, say effects='read', and guard writes with shadow_guard."
        )
    if effects == "write" and blends:
        raise ConfigurationError(
            f"{key!r} would be blended, and its effects are 'write'. A blend runs every variant for one answer. "
            "Use another strategy, or take the writes out of the variants."
        )
    if effects == "write" and on_error == "control":
        raise ConfigurationError(
            f"{key!r} has effects='write' and on_error='control'. When a candidate fails, the control would run after it, and "
            "write again. Say on_error='raise'."
        )


def check_deadline(key: str, deadline_s: object, kind: Kind) -> None:
    """A deadline is a time, and of candidates that can be left."""
    if deadline_s is None:
        return
    if isinstance(deadline_s, bool) or not isinstance(deadline_s, int | float) or not 0 < deadline_s < math.inf:
        raise ConfigurationError(
            f"deadline_s={deadline_s!r:.60} of {key!r} is no time. It is a number of seconds above 0. Write deadline_s=0.5."
        )
    if kind not in ("coroutine", "async generator"):
        raise ConfigurationError(
            f"deadline_s={deadline_s} of {key!r} cannot be kept: {key!r} is {_KINDS[kind]}. Python cannot leave a thread: only "
            "asynchronous candidates can be late and harmless. Leave it out, and give the model's own client a timeout."
        )


def check_breaker(key: str, breaker: object) -> None:
    """A breaker is settings, or none."""
    if breaker is not None and not isinstance(breaker, Breaker):
        raise ConfigurationError(
            f"breaker={breaker!r:.60} of {key!r} is no Breaker. It says when a failing candidate is left alone. "
            "Write breaker=Breaker(...), or None for none."
        )


def _check_one_argument(key: str, option: str, name: str, signature: Signature | None) -> None:
    """A parameter that is looked at stands for one argument."""
    found = None if signature is None else signature.parameters.get(name)
    if found is not None and found.kind in (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD):
        raise ConfigurationError(
            f"{option}={name!r} of {key!r} names {str(found).partition(':')[0]}, which is many arguments. "
            "It must name one. Name a parameter, or a keyword argument that **kwargs takes."
        )


def check_unit(key: str, unit: UnitSpec, signature: Signature | None) -> None:
    """The unit can be found in every call."""
    _check_path(key, "unit", unit, signature)


def _check_path(key: str, option: str, spec: UnitSpec, signature: Signature | None) -> None:
    """What is read out of the arguments is a parameter, a path into one, or a callable that takes them."""
    if isinstance(spec, str):
        if not all(spec.split(".")):
            raise ConfigurationError(
                f"{option}={spec!r:.60} of {key!r} has an empty part. A path is names with dots between. "
                "Write 'user_id' or 'request.user.id'."
            )
        _check_one_argument(key, option, spec.partition(".")[0], signature)
    getter(spec, signature, key, option)
    if callable(spec):
        _check_takes_the_same(f"{option}= of {key!r}", signature, spec)


def check_covariate(key: str, covariate: UnitSpec, signature: Signature | None) -> None:
    """The covariate can be found in every call, without waiting."""
    _check_path(key, "covariate", covariate, signature)
    if callable(covariate) and kind_of(covariate) != "function":
        raise ConfigurationError(
            f"covariate= of {key!r} is {_KINDS[kind_of(covariate)]}. It is read before each call, and must not wait. "
            "Make it a plain function with the control's parameters."
        )


def check_batch(key: str, batch: object, kind: Kind, signature: Signature | None, override: Override) -> None:
    """The row-wise parameters exist, and what is decided can be decided by row."""
    if batch is None:
        return
    if not isinstance(batch, tuple) or not batch or not all(isinstance(name, str) for name in batch):
        raise ConfigurationError(
            f"batch={batch!r:.60} of {key!r} names no parameters. It is the name of the list of rows, or several names. "
            "Write batch='texts'."
        )
    for name in batch:
        _check_one_argument(key, "batch", name, signature)
        parameter(name, signature, key, "batch")
    if kind not in ("function", "coroutine"):
        raise ConfigurationError(
            f"batch={batch!r} of {key!r} does not work with a stream. "
            "Rows can be put in order only when all are there. Leave batch= out, or return a list."
        )
    if callable(override) and not isinstance(override, Mapping):
        raise ConfigurationError(
            f"override= of {key!r} is a callable, and batch= is set. A callable sees the whole call, not a row. "
            "Pass override= as a mapping of units to variants."
        )


def check_override(key: str, override: object, variants: Sequence[str], unit: UnitSpec, signature: Signature | None) -> None:
    """Overrides name variants that exist, for units that a call can have."""
    if override is None:
        return
    if not isinstance(override, Mapping):
        if not callable(override):
            raise ConfigurationError(
                f"override={override!r:.60} of {key!r} is neither a mapping nor a callable. "
                "Overrides are variants by unit, or found by a callable. Write override={'u-1': 'v2'}."
            )
        _check_takes_the_same(f"override= of {key!r}", signature, override)
        return
    if unit is None:
        raise ConfigurationError(
            f"override= of {key!r} names units, and calls of {key!r} have none. Without unit=, nobody could be meant. "
            "Set unit=, or pass override= as a callable."
        )
    for each, variant in override.items():
        if canonical(each) is None:
            raise ConfigurationError(
                f"override= of {key!r} names the unit {each!r:.60}, which no call can have. "
                "A unit is a non-empty text, a number, bytes, a UUID or a tuple of these. Take it out."
            )
        if variant not in variants:
            raise ConfigurationError(
                f"override= of {key!r} gives unit {each!r:.60} the variant {variant!r:.60}, which does not exist. "
                f"An override names a variant. The variants are: {', '.join(variants)}."
            )


def check_holdout(key: str, holdout: Share, unit: UnitSpec) -> float:
    """The held-out share as a number; there is somebody to hold out."""
    share = parse_share(holdout, f"holdout of {key!r}")
    if share and unit is None:
        raise ConfigurationError(
            f"holdout= of {key!r} holds units out, and calls of {key!r} have none. Without unit=, nobody could be meant. "
            "Set unit=."
        )
    return share


def check_layer(key: str, layer: object, others: Iterable[tuple[str, Layer | None]]) -> None:
    """No other rollout of the layer has any of the slot."""
    if layer is None:
        return
    if not isinstance(layer, Layer):
        raise ConfigurationError(
            f"layer={layer!r:.60} of {key!r} is no Layer. A layer has a name and a slot. Write layer=Layer('checkout', 0, 0.5)."
        )
    check_name(layer.name, f"name of the layer of {key!r}")
    for other, theirs in others:
        if other != key and theirs is not None and layer.overlaps(theirs):
            raise ConfigurationError(
                f"{key!r} takes {layer.start:.2%} to {layer.end:.2%} of layer {layer.name!r}, and "
                f"{other!r} takes {theirs.start:.2%} to {theirs.end:.2%}. Rollouts of a layer exclude each other. "
                "Give them slots that do not overlap."
            )


def load_plugins(key: str, plugins: object) -> tuple[object, ...]:
    """The plugins, with names looked up."""
    if isinstance(plugins, str | Mapping) or not isinstance(plugins, Iterable):
        raise ConfigurationError(
            f"plugins={plugins!r:.60} of {key!r} is no list. It lists plugins, or names of installed ones. Write plugins=[...]."
        )
    return tuple(load_named(plugin) if isinstance(plugin, str) else plugin for plugin in plugins)


def planned_phases(
    key: str, hooks: PluginSet, strategy: str, control: str, candidates: tuple[str, ...], *, batch: bool
) -> tuple[Phase, ...]:
    """The phases that the strategy plans, checked; without a plan one phase without shares."""
    phases: tuple[Any, ...] | None = None
    for _, plan in hooks.implementations("rollout_phases"):
        try:
            planned = plan(control, candidates)
            phases = None if planned is None else tuple(planned)
        except ConfigurationError:
            raise
        except Exception as error:
            raise _bad_plan(key, strategy, f"failed to plan its phases: {type(error).__name__}: {error}") from error
        if phases is not None:
            break
    if phases is None:
        return (Phase("whole", {}, control),)
    if not phases or not all(isinstance(phase, Phase) for phase in phases):
        raise _bad_plan(key, strategy, f"gave {phases!r:.80} as its phases")
    for phase in phases:
        check_name(phase.name, f"name of a phase of {key!r}")
        unknown = set(phase.shares) - {*candidates, INTERLEAVED}
        if phase.control != control or unknown or phase.shares.keys() != phases[0].shares.keys():
            raise _bad_plan(key, strategy, f"gave {phase!r:.200} as a phase for {control!r} and {', '.join(candidates)}")
    if batch and INTERLEAVED in phases[0].shares:
        raise ConfigurationError(
            f"batch= of {key!r} does not work with interleaving. "
            "Interleaving makes one list of a call's lists; a batch splits a call by row. Leave batch= out."
        )
    return phases


def _bad_plan(key: str, strategy: str, what: str) -> PluginError:
    return PluginError(
        f"Strategy {strategy!r} of {key!r} {what}. rollout_phases gives at least one Phase (or None): "
        "each with the control's name, and all with shares of the same candidates. Mend the strategy."
    )
