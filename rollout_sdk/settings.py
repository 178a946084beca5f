"""What was said when decorating: checked at once, compared when a key is used twice, and turned into the engine's parts."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from inspect import Parameter, Signature
from typing import Any, Literal

from attrs import define, field

from rollout_sdk.assignment import Layer, Phase, Share, UnitHash, parse_share
from rollout_sdk.comparison import compare
from rollout_sdk.control.state import start
from rollout_sdk.engine.arguments import UnitSpec, binder, getter, incompatibility, parameter, signature_of
from rollout_sdk.engine.describe import Describe, Override
from rollout_sdk.engine.rollout import Kind, Rollout, kind_of
from rollout_sdk.engine.snapshot import Isolate
from rollout_sdk.exceptions import ConfigurationError, DuplicateKeyError, PluginError, SignatureError
from rollout_sdk.identity import check_name
from rollout_sdk.plugins import PluginSet, load_named, make_strategy, strategy_name
from rollout_sdk.records import Comparison
from rollout_sdk.runtime import Runtime
from rollout_sdk.strategies.interleave import INTERLEAVED

__all__ = ["MissingUnit", "OnError", "Settings"]

MissingUnit = Literal["control", "random", "raise"]
OnError = Literal["control", "raise"]

_OBSERVING = ("rollout_routed", "rollout_shadowed", "rollout_recorded", "rollout_transitioned")
_ARTICLE = {"function": "a plain function", "coroutine": "a coroutine function", "generator": "a generator function"}


class _DefaultComparator:
    """The comparison when no plugin has one."""

    name = "default-comparison"

    @staticmethod
    def rollout_compare(control: Any, candidate: Any) -> Comparison:
        return compare(control, candidate)


@define(kw_only=True, eq=False)
class Settings:
    """Everything about one rollout, checked.

    Attributes are the options of `rollout(...)`, with `function` the control itself, `candidates` by name, and `strategy`
    built.
    """

    key: str
    function: Callable[..., Any]
    candidates: Mapping[str, Callable[..., Any]]
    strategy: Any
    control_name: str
    unit: UnitSpec
    missing_unit: MissingUnit
    batch: tuple[str, ...] | None
    override: Override
    holdout: Share
    layer: Layer | None
    on_error: OnError
    passthrough: tuple[type[BaseException], ...]
    isolate: Isolate
    plugins: Sequence[object]
    runtime: Runtime
    kind: Kind = field(init=False)
    signature: Signature | None = field(init=False)
    phases: tuple[Phase, ...] = field(init=False)
    changing: threading.Lock = field(init=False, factory=threading.Lock)

    def __attrs_post_init__(self) -> None:
        """Refuse what cannot work.

        Raises:
            ConfigurationError: See the leaves of `rollout_sdk.exceptions`.
        """
        self.kind = kind_of(self.function)
        self.signature = signature_of(self.function)
        self._check_names()
        for name, candidate in self.candidates.items():
            self._check_candidate(name, candidate)
        self.holdout = parse_share(self.holdout, f"holdout of {self.key!r}")
        self._check_choices()
        self._check_batch()
        self._check_override()
        self._check_layer()
        self.plugins = tuple(load_named(plugin) if isinstance(plugin, str) else plugin for plugin in self.plugins)
        self.strategy = make_strategy(self.strategy)
        self.phases = self._planned()

    def _check_names(self) -> None:
        check_name(self.key, "key")
        check_name(self.control_name, f"control's name in {self.key!r}")
        if not self.candidates:
            raise ConfigurationError(
                f"{self.key!r} has no candidate. A rollout compares the control with at least one. "
                "Pass candidate=f or candidates={...}."
            )
        for name in self.candidates:
            check_name(name, f"name of a candidate of {self.key!r}")
            if name in (self.control_name, INTERLEAVED):
                taken = "the control's" if name == self.control_name else "that of blended answers"
                raise ConfigurationError(
                    f"A candidate of {self.key!r} is named {name!r}, and so is {taken}. "
                    "Names tell variants apart in every record. "
                    "Choose another name, or set control_name=."
                )

    def _check_candidate(self, name: str, candidate: object) -> None:
        if not callable(candidate):
            raise SignatureError(
                f"Candidate {name!r} of {self.key!r} is {candidate!r:.60}, which cannot be called. "
                "A candidate is a function that takes what the control takes. Pass the function itself."
            )
        kind = kind_of(candidate)
        if kind != self.kind:
            theirs, ours = (_ARTICLE.get(each, "an async generator function") for each in (kind, self.kind))
            raise SignatureError(
                f"Candidate {name!r} of {self.key!r} is {theirs}, but {self.key!r} is {ours}. "
                f"All variants of a rollout must be of one kind. Make {name!r} {ours} or wrap it."
            )
        why = incompatibility(self.signature, signature_of(candidate))
        if why is not None:
            raise SignatureError(
                f"Candidate {name!r} of {self.key!r} cannot be called as the control is: {why}. "
                "Every call of the control must be possible for every candidate. "
                "Give it the control's parameters, or *args and **kwargs."
            )

    def _check_choices(self) -> None:
        for option, value, allowed in (
            ("missing_unit", self.missing_unit, ("control", "random", "raise")),
            ("on_error", self.on_error, ("control", "raise")),
        ):
            if value not in allowed:
                raise ConfigurationError(
                    f"{option}={value!r:.60} of {self.key!r} is unknown. It must be one of: {', '.join(allowed)}."
                )
        if not callable(self.isolate) and self.isolate not in ("auto", "none", "deepcopy"):
            raise ConfigurationError(
                f"isolate={self.isolate!r:.60} of {self.key!r} is unknown. It must be 'auto', 'none', 'deepcopy' "
                "or a copying function."
            )
        getter(self.unit, self.signature, self.key)

    def _check_batch(self) -> None:
        if self.batch is None:
            return
        for name in self.batch:
            parameter(name, self.signature, self.key, "batch")
        if self.kind not in ("function", "coroutine"):
            raise ConfigurationError(
                f"batch={self.batch!r} of {self.key!r} does not work with a stream. "
                "Rows can be put in order only when all are there. Leave batch= out, or return a list."
            )
        if callable(self.override) and not isinstance(self.override, Mapping):
            raise ConfigurationError(
                f"override= of {self.key!r} is a callable, and batch= is set. A callable sees the whole call, not a row. "
                "Pass override= as a mapping of units to variants."
            )

    def _check_override(self) -> None:
        if self.override is None or callable(self.override):
            return
        for unit, variant in self.override.items():
            if variant != self.control_name and variant not in self.candidates:
                raise ConfigurationError(
                    f"override= of {self.key!r} gives unit {unit!r:.60} the variant {variant!r}, which does not exist. "
                    f"An override names a variant. The variants are: {', '.join((self.control_name, *self.candidates))}."
                )

    def _check_layer(self) -> None:
        if self.layer is None:
            return
        for other in list(self.runtime.rollouts.values()):
            theirs = other._settings.layer  # noqa: SLF001 - settings of one package
            if other.key != self.key and theirs is not None and self.layer.overlaps(theirs):
                raise ConfigurationError(
                    f"{self.key!r} takes {self.layer.start:.2%} to {self.layer.end:.2%} of layer {self.layer.name!r}, and "
                    f"{other.key!r} takes {theirs.start:.2%} to {theirs.end:.2%}. Rollouts of a layer exclude each other. "
                    "Give them slots that do not overlap."
                )

    def _planned(self) -> tuple[Phase, ...]:
        plan = getattr(self.strategy, "rollout_phases", None)
        phases = None if plan is None else plan(self.control_name, tuple(self.candidates))
        if phases is None:
            return (Phase("whole", {}, self.control_name),)
        if not phases or not all(isinstance(phase, Phase) for phase in phases):
            raise PluginError(
                f"Strategy {strategy_name(self.strategy)!r} of {self.key!r} gave {phases!r:.80} as its phases. "
                "rollout_phases gives at least one Phase, or None. Mend the strategy."
            )
        if self.batch is not None and any(INTERLEAVED in phase.shares for phase in phases):
            raise ConfigurationError(
                f"batch= of {self.key!r} does not work with interleaving. "
                "Interleaving makes one list of a call's lists; a batch splits a call by row. Leave batch= out."
            )
        return tuple(phases)

    # What the engine needs ----------------------------------------------------------------------------------------------

    @property
    def functions(self) -> dict[str, Callable[..., Any]]:
        """The variants by name, the control first."""
        return {self.control_name: self.function, **self.candidates}

    def plugin_set(self) -> PluginSet:
        """The strategy, this rollout's plugins and the runtime's, in that order, and the default comparison at the end."""
        plugins = [self.strategy, *self.plugins, *self.runtime.plugins, _DefaultComparator()]
        return PluginSet(plugins, failed=self.runtime.failed)

    def describe(self, plugins: PluginSet) -> Describe:
        """What describes and decides calls."""
        return Describe(
            key=self.key,
            control=self.control_name,
            functions=self.functions,
            unit=getter(self.unit, self.signature, self.key),
            missing_unit=self.missing_unit,
            hash=UnitHash(self.key if self.layer is None else f"layer:{self.layer.name}", self.runtime.key),
            layer=self.layer,
            holdout=self.holdout,  # type: ignore[arg-type]
            override=self.override,
            route=plugins.first("rollout_route"),
            bind=binder(self.signature),
            failed=self.runtime.failed,
        )

    def engine(self, plugins: PluginSet) -> Rollout:
        """What runs calls."""
        runtime = self.runtime
        return Rollout(
            key=self.key,
            strategy_name=strategy_name(self.strategy),
            control=self.control_name,
            functions=self.functions,
            kind=self.kind,
            merge=plugins.first("rollout_merge"),
            compare=plugins.first("rollout_compare"),
            on_error=self.on_error,
            passthrough=self.passthrough,
            isolate=self.isolate,
            shared=int(_is_method(self.signature)),
            bind=binder(self.signature),
            item_hash=UnitHash(self.key, runtime.key),
            secret=runtime.key,
            limits=runtime.shadows,
            background=runtime.background,
            spans=runtime.spans,
            record=runtime.recorder.put,
            failed=runtime.failed,
            span_name=f"route {self.key}",
            audience=runtime.audience,
            time_ns=runtime.time_ns,
            nonces=runtime.nonces,
            state=start(self.key, self.phases, ramps=hasattr(self.strategy, "steps")),
            observers={hook: plugins.every(hook) for hook in _OBSERVING if plugins.has(hook)},
        )

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
        """The arguments, with every row-wise one replaced; a list of units is row-wise, too."""
        assert self.batch is not None
        names = set(self.batch)
        if isinstance(self.unit, str) and _is_rowwise(
            parameter(self.unit.partition(".")[0], self.signature, self.key, "unit")(args, kwargs)
        ):
            names.add(self.unit.partition(".")[0])
        parameters = list(self.signature.parameters) if self.signature is not None else []
        positional = [replace(value) if name in names else value for name, value in zip(parameters, args, strict=False)]
        named = {name: replace(value) if name in names else value for name, value in kwargs.items()}
        return (*positional, *args[len(positional) :]), named

    # Two rollouts of one key --------------------------------------------------------------------------------------------

    def check_same(self, other: Settings) -> None:
        """Refuse another rollout of the same key, unless it is this one again.

        A module that is imported anew (a notebook cell, a reload, a spawned worker) may change its settings; another function
        may not take the key.

        Raises:
            DuplicateKeyError: It is another.
        """
        if self._place() == other._place() is not None or self._signature() == other._signature():
            return
        raise DuplicateKeyError(
            f"Key {self.key!r} is taken by a rollout with other settings. "
            "A key names one rollout in every record of a runtime. "
            "Give this one a key= of its own."
        )

    def _place(self) -> tuple[str, str] | None:
        """Where the control is defined, when that is one place in a module."""
        module, name = (getattr(self.function, attribute, None) for attribute in ("__module__", "__qualname__"))
        return (module, name) if module and name and "<" not in name else None

    def _signature(self) -> tuple[str, ...]:
        candidates = {name: getattr(function, "__qualname__", repr(function)) for name, function in self.candidates.items()}
        return tuple(
            map(
                repr,
                (
                    self.strategy,
                    candidates,
                    self.control_name,
                    self.unit,
                    self.missing_unit,
                    self.batch,
                    self.override,
                    self.holdout,
                    self.layer,
                    self.on_error,
                    self.passthrough,
                    self.isolate,
                ),
            )
        )


def _is_method(signature: Signature | None) -> bool:
    """Whether the first parameter is the object of a method: the model itself, which shadows share."""
    first = None if signature is None else next(iter(signature.parameters.values()), None)
    return first is not None and first.name in ("self", "cls") and first.kind is not Parameter.KEYWORD_ONLY


def _is_rowwise(value: Any) -> bool:
    return hasattr(value, "__len__") and hasattr(value, "__getitem__") and not isinstance(value, str | bytes | Mapping | tuple)
