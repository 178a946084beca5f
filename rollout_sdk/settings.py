"""What was said when decorating: checked at once, compared when a key is used twice, and turned into the engine's parts."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from hashlib import blake2b
from inspect import Parameter, Signature
from typing import Any, Literal

from attrs import define, field, fields

from rollout_sdk import checks
from rollout_sdk.assignment import Layer, Outline, Phase, Share, UnitHash, canonical
from rollout_sdk.breaker import Breaker, CircuitBreaker, ControlHealth
from rollout_sdk.comparison import compare
from rollout_sdk.control.standing import Standing
from rollout_sdk.control.state import start
from rollout_sdk.engine.arguments import UnitSpec, binder, getter, parameter, rebinder, signature_of
from rollout_sdk.engine.covariates import Covariate
from rollout_sdk.engine.describe import Describe, Override, fresh_random
from rollout_sdk.engine.failing import FailedIf
from rollout_sdk.engine.mutation import watched
from rollout_sdk.engine.rollout import Kind, Rollout, kind_of
from rollout_sdk.engine.snapshot import Isolate
from rollout_sdk.exceptions import MutationError
from rollout_sdk.identity import check_name
from rollout_sdk.installed import make_strategy, strategy_name
from rollout_sdk.plugins import PluginSet
from rollout_sdk.records import BreakerEvent, Comparison
from rollout_sdk.runtime import Runtime
from rollout_sdk.strategies.interleave import INTERLEAVED

__all__ = ["Effects", "MissingUnit", "OnError", "Settings"]

MissingUnit = Literal["control", "random", "raise"]
OnError = Literal["control", "raise"]
Effects = Literal["unknown", "read", "write"]

_OBSERVING = ("rollout_routed", "rollout_shadowed", "rollout_recorded", "rollout_transitioned", "rollout_tripped")
_DESCRIBED = (
    "strategy",
    "control_name",
    "version",
    "unit",
    "missing_unit",
    "covariate",
    "batch",
    "override",
    "holdout",
    "layer",
    "on_error",
    "failed_if",
    "passthrough",
    "effects",
    "deadline_s",
    "breaker",
    "detect_mutation",
    "isolate",
    "plugins",
)
_LONGEST_TEXT = 1_000
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")


class _DefaultComparator:
    """The comparison when no plugin has one."""

    name = "default-comparison"

    @staticmethod
    def rollout_compare(control: Any, candidate: Any) -> Comparison:
        return compare(control, candidate)


class _ByUnit(Mapping[Any, str]):
    """Variants by unit; a unit is the same here as everywhere, whatever form of Unicode or type of integer it comes in."""

    def __init__(self, variants: Mapping[Any, str]) -> None:
        self._variants = {canonical(unit): variant for unit, variant in variants.items()}

    def __getitem__(self, unit: Any) -> str:
        return self._variants[canonical(unit)]

    def __iter__(self) -> Iterator[Any]:
        return iter(self._variants)

    def __len__(self) -> int:
        return len(self._variants)


@define(kw_only=True, eq=False)
class Settings:
    """Everything about one rollout, checked.

    Attributes are the options of `rollout(...)`, with `function` the control itself, `candidates` by name, and `strategy`
    and `plugins` built.
    """

    key: str
    function: Callable[..., Any]
    candidates: Mapping[str, Callable[..., Any]]
    strategy: Any
    control_name: str
    version: str
    unit: UnitSpec
    missing_unit: MissingUnit
    covariate: UnitSpec
    batch: tuple[str, ...] | None
    override: Override
    holdout: Share
    layer: Layer | None
    on_error: OnError
    failed_if: FailedIf
    passthrough: tuple[type[BaseException], ...]
    effects: Effects
    deadline_s: float | None
    breaker: Breaker | None
    detect_mutation: bool
    isolate: Isolate
    plugins: Sequence[object]
    runtime: Runtime
    kind: Kind = field(init=False)
    signature: Signature | None = field(init=False)
    hooks: PluginSet = field(init=False)
    phases: tuple[Phase, ...] = field(init=False)
    described: Mapping[str, str] = field(init=False)

    def __attrs_post_init__(self) -> None:
        """Refuse what cannot work.

        Raises:
            ConfigurationError: See the leaves of `rollout_sdk.exceptions`.
        """
        self.kind = kind_of(self.function)
        self.signature = signature_of(self.function)
        checks.check_names(self.key, self.control_name, self.candidates)
        if self.version:
            check_name(self.version, f"version of {self.key!r}")
        for name, candidate in self.candidates.items():
            checks.check_candidate(self.key, self.kind, self.signature, name, candidate)
        checks.check_choice(self.key, "missing_unit", self.missing_unit, MissingUnit)
        checks.check_choice(self.key, "on_error", self.on_error, OnError)
        checks.check_choice(self.key, "effects", self.effects, Effects)
        checks.check_deadline(self.key, self.deadline_s, self.kind)
        checks.check_breaker(self.key, self.breaker)
        checks.check_isolate(self.key, self.isolate)
        checks.check_passthrough(self.key, self.passthrough)
        checks.check_failed_if(self.key, self.failed_if, self.kind)
        checks.check_unit(self.key, self.unit, self.signature)
        checks.check_covariate(self.key, self.covariate, self.signature)
        checks.check_batch(self.key, self.batch, self.kind, self.signature, self.override)
        checks.check_override(self.key, self.override, tuple(self.functions), self.unit, self.signature)
        self.holdout = checks.check_holdout(self.key, self.holdout, self.unit)
        rollouts = list(self.runtime.rollouts.values())
        checks.check_layer(self.key, self.layer, [(other.key, other._settings.layer) for other in rollouts])  # noqa: SLF001
        self.plugins = checks.load_plugins(self.key, self.plugins)
        self.strategy = make_strategy(self.strategy)
        check_name(strategy_name(self.strategy), f"name of the strategy of {self.key!r}")
        # The strategy, this rollout's plugins and the runtime's, in that order, and the default comparison at the end.
        plugins = [self.strategy, *self.plugins, *self.runtime.plugins, _DefaultComparator()]
        self.hooks = PluginSet(plugins, failed=self.runtime.failed)
        self.phases = checks.planned_phases(
            self.key,
            self.hooks,
            strategy_name(self.strategy),
            self.control_name,
            tuple(self.candidates),
            batch=self.batch is not None,
        )
        checks.check_effects(
            self.key,
            self.effects,
            self.on_error,
            shadows=bool(getattr(self.strategy, "shadows", False)),
            blends=INTERLEAVED in self.phases[0].shares,
        )
        self.described = self._described()

    @property
    def said(self) -> dict[str, Any]:
        """The settings as they were said, by name."""
        return {each.name: getattr(self, each.name) for each in fields(type(self)) if each.init}

    # What the engine needs ----------------------------------------------------------------------------------------------

    @property
    def functions(self) -> dict[str, Callable[..., Any]]:
        """The variants by name, the control first."""
        candidates = self.candidates
        if self.detect_mutation:
            shared = int(_is_method(self.signature))
            candidates = {
                name: watched(function, self.kind, key=self.key, name=name, shared=shared)
                for name, function in candidates.items()
            }
        return {self.control_name: self.function, **candidates}

    def describe(self) -> Describe:
        """What describes and decides calls."""
        return Describe(
            key=self.key,
            control=self.control_name,
            functions=self.functions,
            unit=getter(self.unit, self.signature, self.key),
            missing_unit=self.missing_unit,
            # No key can hold the separator: no rollout alone is hashed as a layer is.
            hash=UnitHash(self.key if self.layer is None else f"layer\0{self.layer.name}", self.runtime.key),
            layer=self.layer,
            holdout=self.holdout,  # type: ignore[arg-type]
            override=_ByUnit(self.override) if isinstance(self.override, Mapping) else self.override,
            route=self.hooks.first("rollout_route"),
            effects=self.effects,
            runs_twice=self.on_error == "control",
            failed=self.runtime.failed,
            keeps_unit=self.runtime.telemetry.unit_id == "raw",
            covariate=self._covariate(),
        )

    def _covariate(self) -> Covariate | None:
        get = getter(self.covariate, self.signature, self.key, "covariate")
        return None if get is None else Covariate(get, self.runtime.failed)

    def engine(self) -> Rollout:
        """What runs calls."""
        runtime, hooks = self.runtime, self.hooks
        # One plan has steps to go; a strategy that says so has them with a single one, too.
        ramps = len(self.phases) > 1 or hasattr(self.strategy, "steps")
        return Rollout(
            key=self.key,
            strategy_name=strategy_name(self.strategy),
            control=self.control_name,
            functions=self.functions,
            kind=self.kind,
            arguments=hooks.first("rollout_arguments") if hooks.has("rollout_arguments") else None,
            rebind=rebinder(self.signature),
            merge=hooks.first("rollout_merge"),
            compare=hooks.first("rollout_compare"),
            on_error=self.on_error,
            failed_if=self.failed_if,
            by_row=self.batch is not None,
            passthrough=(*self.passthrough, MutationError) if self.detect_mutation else self.passthrough,
            deadline_s=self.deadline_s,
            isolate=self.isolate,
            shared=int(_is_method(self.signature)),
            outline=Outline(self.key, self.control_name, tuple(self.candidates), binder(self.signature), fresh_random),
            item_hash=UnitHash(self.key, runtime.key),
            secret=runtime.key,
            limits=runtime.shadows,
            background=runtime.background,
            spans=runtime.spans,
            record=runtime.recorder.put,
            conclude=runtime.conclude,
            failed=runtime.failed,
            span_name=f"route {self.key}",
            clocked=runtime.telemetry.decision_duration,
            surrounds=runtime.telemetry.surrounds,
            audience=runtime.audience,
            time_ns=runtime.time_ns,
            nonces=runtime.nonces,
            standing=Standing(
                start(self.key, self.phases, ramps=ramps, version=self.version), self.described, self._breakers()
            ),
            observers={hook: hooks.every(hook) for hook in _OBSERVING if hooks.has(hook)},
            plugins=hooks.names,
        )

    def _breakers(self) -> dict[str, CircuitBreaker]:
        """A circuit breaker for each candidate."""
        breaker, runtime = self.breaker, self.runtime
        if breaker is None:
            return {}

        def teller(variant: str) -> Callable[[bool, int, int, float], None]:
            def tell(opened: bool, failures: int, runs: int, cooldown_s: float) -> None:  # noqa: FBT001 - one signature, one caller
                action: Literal["open", "close"] = "open" if opened else "close"
                time_s = runtime.time_ns() / 1e9
                runtime.recorder.put(BreakerEvent(self.key, variant, action, failures, runs, cooldown_s, time_s))

            return tell

        # One for all, because there is one control.
        health = ControlHealth()
        return {variant: CircuitBreaker(breaker, teller(variant), health) for variant in self.candidates}

    # Batches ------------------------------------------------------------------------------------------------------------

    def row_units(self, unit: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[Any]:
        """The unit of every row: of a list of units each its own, else the same for all."""
        assert self.batch is not None
        rows = parameter(self.batch[0], self.signature, self.key, "batch")(args, kwargs)
        if not hasattr(rows, "__len__"):
            return []
        if not _is_rowwise(unit):
            return [unit] * len(rows)
        units = list(unit)
        if len(units) == len(rows):
            return units
        self.runtime.failed("unit", ValueError(f"{len(units)} units for {len(rows)} rows"))
        return [None] * len(rows)

    def replace_rows(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any], replace: Callable[[Any], Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments, with every row-wise one replaced; a list of units or covariates is row-wise, too."""
        assert self.batch is not None
        names = set(self.batch)
        for option, path in (("unit", self.unit), ("covariate", self.covariate)):
            name = path.partition(".")[0] if isinstance(path, str) else ""
            if name and _is_rowwise(parameter(name, self.signature, self.key, option)(args, kwargs)):
                names.add(name)
        parameters = list(self.signature.parameters) if self.signature is not None else []
        positional = [replace(value) if name in names else value for name, value in zip(parameters, args, strict=False)]
        named = {name: replace(value) if name in names else value for name, value in kwargs.items()}
        return (*positional, *args[len(positional) :]), named

    # Two rollouts of one key --------------------------------------------------------------------------------------------

    def clash(self, other: Settings) -> str | None:
        """Why a rollout with these settings may not take the key of one with the others, or None when it may.

        A function may be decorated again with the same settings (once for each model object, say), and a module that is
        imported anew (a reload, a notebook's cell) may change them; another function may not take the key.
        """
        differing = [option for option, text in self.described.items() if other.described[option] != text]
        mine, theirs = (getattr(each.function, "__func__", each.function) for each in (self, other))
        imported_anew = "<" not in self.described["function"] and mine is not theirs
        if not differing or ("function" not in differing and imported_anew):
            return None
        return (
            f"Key {self.key!r} is taken by a rollout with another {' and another '.join(differing)}. "
            "A key names one rollout in every record of a runtime. Give this one a key= of its own."
        )

    def _described(self) -> dict[str, str]:
        """The settings as text, by option: equal for the same settings, also when a module is imported anew."""
        options = {option: _shortly(_ADDRESS.sub("", repr(getattr(self, option)))) for option in _DESCRIBED}
        candidates = ", ".join(f"{name}={_place(function)}" for name, function in self.candidates.items())
        return {"function": _place(self.function), "candidates": candidates, **options}


def _shortly(text: str) -> str:
    """A text that is equal for equal texts; overrides can name a million units."""
    return text if len(text) <= _LONGEST_TEXT else blake2b(text.encode("utf-8", "surrogatepass")).hexdigest()


def _place(function: Callable[..., Any]) -> str:
    """Where a function is defined; with its line, where its name does not say it."""
    module, name = (getattr(function, attribute, None) for attribute in ("__module__", "__qualname__"))
    if not module or not name:
        return _ADDRESS.sub("", repr(function))
    line = getattr(getattr(function, "__code__", None), "co_firstlineno", "")
    return f"{module}.{name}:{line}" if "<" in name else f"{module}.{name}"


def _is_method(signature: Signature | None) -> bool:
    """Whether the first parameter is the object of a method: the model itself, which shadows share."""
    first = None if signature is None else next(iter(signature.parameters.values()), None)
    return first is not None and first.name in ("self", "cls") and first.kind is not Parameter.KEYWORD_ONLY


def _is_rowwise(value: Any) -> bool:
    return hasattr(value, "__len__") and hasattr(value, "__getitem__") and not isinstance(value, str | bytes | Mapping)
