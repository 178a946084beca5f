"""The options of a rollout: validated at once, and compared if a key is used twice."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping, Sequence
from hashlib import blake2b
from inspect import Signature
from typing import Any, Literal

from attrs import define, field, fields

from rollout_sdk.assignment import Layer, Phase, Share
from rollout_sdk.assignment.ids import check_name
from rollout_sdk.comparators import Comparator, DefaultComparator, Disagreements
from rollout_sdk.engine.arguments import Spec, UnitSpec, is_method, signature_of
from rollout_sdk.engine.candidate_code import CandidateCode, code_of
from rollout_sdk.engine.copies.snapshot import Isolate
from rollout_sdk.engine.judges.judge import Judge
from rollout_sdk.engine.likeness import FunctionKind, kind_of
from rollout_sdk.engine.mutation import watched
from rollout_sdk.engine.rollout import FailedIf, Measure
from rollout_sdk.engine.routing import Override
from rollout_sdk.formatting import plain
from rollout_sdk.plugins.discovery import load_plugins, make_strategy, strategy_name
from rollout_sdk.plugins.manager import PluginSet
from rollout_sdk.records import INTERLEAVED
from rollout_sdk.resilience.breaker import Breaker
from rollout_sdk.resilience.faults import OPTIONS
from rollout_sdk.runtime import Runtime
from rollout_sdk.settings import checks, signatures
from rollout_sdk.settings.fingerprint import Fingerprint, fingerprint_of
from rollout_sdk.strategies.phases import phases_of

__all__ = ["Effects", "MissingUnit", "OnAbort", "OnError", "Settings"]

MissingUnit = Literal["control", "random", "raise"]
OnError = Literal["control", "raise"]
OnAbort = Literal["stop", "drain"]
Effects = Literal["unknown", "read", "write"]

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
    "on_abort",
    "failed_if",
    "measure",
    "judge",
    "passthrough",
    "effects",
    "deadline_s",
    "breaker",
    "detect_mutation",
    "isolate",
    "compare",
    "keep",
    "plugins",
)
_LONGEST_TEXT = 1_000
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")


@define(kw_only=True, eq=False)
class Settings:
    """All validated options of one rollout.

    Attributes are the options of `rollout(...)`, where `function` is the control, `candidates` are by name, and `strategy`
    and `plugins` are instances.
    """

    key: str
    function: Callable[..., Any]
    candidates: Mapping[str, Callable[..., Any]]
    strategy: Any
    control_name: str
    version: str
    unit: UnitSpec
    missing_unit: MissingUnit
    covariate: Spec
    batch: tuple[str, ...] | None
    override: Override
    holdout: Share
    layer: Layer | None
    on_error: OnError
    on_abort: OnAbort
    failed_if: FailedIf
    measure: Measure
    judge: Judge | None
    passthrough: tuple[type[BaseException], ...]
    effects: Effects
    deadline_s: float | None
    breaker: Breaker | None
    detect_mutation: bool
    compare: Comparator | None
    keep: Disagreements | None
    isolate: Isolate
    plugins: Sequence[object]
    runtime: Runtime
    kind: FunctionKind = field(init=False)
    signature: Signature | None = field(init=False)
    hooks: PluginSet = field(init=False)
    phases: tuple[Phase, ...] = field(init=False)
    code: CandidateCode | None = field(init=False)
    has_other_values: bool = field(init=False, default=False)
    fingerprint: Fingerprint = field(init=False)
    failed: Callable[..., None] = field(init=False)
    described: Mapping[str, str] = field(init=False)

    def __attrs_post_init__(self) -> None:
        """Validate the options, and derive the rest.

        Raises:
            ConfigurationError: See the leaves of `rollout_sdk.exceptions`.
        """
        self.kind = kind_of(self.function)
        self.signature = signature_of(self.function)
        checks.check_names(self.key, self.control_name, self.candidates)
        if self.version:
            check_name(self.version, f"version of {self.key!r}")
        for name, candidate in self.candidates.items():
            signatures.check_candidate(self.key, self.kind, self.signature, name, candidate)
        checks.check_choice(self.key, "missing_unit", self.missing_unit, MissingUnit)
        checks.check_choice(self.key, "on_error", self.on_error, OnError)
        checks.check_choice(self.key, "on_abort", self.on_abort, OnAbort)
        checks.check_choice(self.key, "effects", self.effects, Effects)
        checks.check_deadline(self.key, self.deadline_s, self.kind)
        checks.check_breaker(self.key, self.breaker)
        checks.check_isolate(self.key, self.isolate)
        checks.check_keep(self.key, self.keep)
        checks.check_passthrough(self.key, self.passthrough)
        checks.check_failed_if(self.key, self.failed_if, self.kind)
        checks.check_measure(self.key, self.measure)
        checks.check_judge(self.key, self.judge, by_row=self.batch is not None)
        signatures.check_unit(self.key, self.unit, self.signature)
        signatures.check_covariate(self.key, self.covariate, self.signature)
        signatures.check_batch(self.key, self.batch, self.kind, self.signature, self.override)
        signatures.check_override(self.key, self.override, tuple(self.functions), self.unit, self.signature)
        self.holdout = checks.check_holdout(self.key, self.holdout, self.unit)
        checks.check_layer(self.key, self.layer, [(other.key, other.layer) for other in list(self.runtime.rollouts.values())])
        self.plugins = load_plugins(self.key, self.plugins)
        self.strategy = make_strategy(self.strategy)
        signatures.check_segments(self.key, self.segments, self.signature)
        check_name(strategy_name(self.strategy), f"name of the strategy of {self.key!r}")
        # In this order: the strategy, this rollout's plugins, the runtime's, and finally the default comparison.
        plugins = [self.strategy, *self.plugins, *self.runtime.plugins, DefaultComparator()]
        self.failed = self.runtime.failed_of(self.key, {name: _written(getattr(self, name)) for name in OPTIONS})
        self.hooks = PluginSet(plugins, failed=self.failed)
        self.phases = phases_of(
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
        checks.check_on_abort(
            self.key,
            self.on_abort,
            self.unit,
            by_row=self.batch is not None,
            blends=INTERLEAVED in self.phases[0].shares,
        )
        if getattr(self.strategy, "where", "thread") == "process":
            checks.check_processes(self.key, self.kind, self.candidates)
        self.code = None if self.version else self._code()
        self.fingerprint = fingerprint_of(
            version=self.version,
            key=self.runtime.key,
            unit=self.unit,
            missing_unit=self.missing_unit,
            layer=self.layer,
            holdout=self.holdout,
            control=self.control_name,
            candidates=self.candidates,
            strategy=self.strategy,
            shares=None if self.ramps else self.phases[0].shares,
            compare=self.compare,
            measure=self.measure,
            code=None if self.code is None else self.code.digest,
            counts_code=self._counts_code,
        )
        self.described = self._described()

    @property
    def options(self) -> dict[str, Any]:
        """The options as they were passed, by name."""
        return {each.name: getattr(self, each.name) for each in fields(type(self)) if each.init}

    @property
    def segments(self) -> Mapping[str, Sequence[str]]:
        """Values by which the strategy has the report split attributes of the calls."""
        criteria = getattr(self.strategy, "criteria", None)
        return {} if criteria is None else criteria.segments

    @property
    def ramps(self) -> bool:
        """Whether the strategy has steps; a strategy with a `steps` attribute does, even with a single one."""
        return len(self.phases) > 1 or hasattr(self.strategy, "steps")

    @property
    def functions(self) -> dict[str, Callable[..., Any]]:
        """The variants by name, the control first."""
        candidates = self.candidates
        if self.detect_mutation:
            shared = int(is_method(self.signature))
            candidates = {
                name: watched(function, self.kind, key=self.key, name=name, shared=shared)
                for name, function in candidates.items()
            }
        return {self.control_name: self.function, **candidates}

    @property
    def _counts_code(self) -> bool:
        return self.code is not None and not self.runtime.reconciler.store.is_shared

    def _code(self) -> CandidateCode:
        """Return the code of the candidates, with the values that this process has first decorated it with.

        A key may be decorated for each model object, or in each request, with other values in the closure: one rollout.
        """
        mine, first = code_of(self.candidates), self.runtime.code_of(self.key)
        if first is None or first.compiled != mine.compiled:
            return mine
        self.has_other_values = first != mine and not self.runtime.reconciler.store.is_shared
        return first

    def clash(self, other: Settings) -> str | None:
        """Explain why a rollout with these settings may not use the key of another, or return None if it may.

        A function may be decorated again with the same settings (once per model object, say), and a module that is imported
        again (a reload, a notebook's cell) may change them; another function may not use the key. Candidates whose code alone
        has changed were edited, in a cell of their own.
        """
        differing = [option for option, text in self.described.items() if other.described[option] != text]
        # These two follow from the others.
        differing = [option for option in differing if option not in ("fingerprint", "code")] or differing[:1]
        mine, theirs = (getattr(each.function, "__func__", each.function) for each in (self, other))
        imported_anew = "<" not in self.described["function"] and mine is not theirs
        if not differing or differing == ["code"] or ("function" not in differing and imported_anew):
            return None
        return (
            f"Key {self.key!r} is taken by a rollout with another {' and another '.join(differing)}. "
            "A key names one rollout in every record of a runtime. Give this one a key= of its own."
        )

    def _described(self) -> dict[str, str]:
        """Describe the settings as text, by option: equal for the same settings, even if a module is imported again."""
        options = {option: _shortly(_ADDRESS.sub("", repr(getattr(self, option)))) for option in _DESCRIBED}
        candidates = ", ".join(f"{name}={_place(function)}" for name, function in self.candidates.items())
        own = {"function": _place(self.function), "candidates": candidates}
        code = self.code.compiled if self.code is not None and self._counts_code else ""
        return {**own, **options, "code": code, "fingerprint": self.fingerprint.value}


def _written(option: Any) -> str:
    """How an option was written, for people who hear that it failed; of what may name units, nothing."""
    if isinstance(option, str) or (isinstance(option, tuple) and all(isinstance(each, str) for each in option)):
        return repr(option)
    return plain(getattr(option, "__qualname__", None) or type(option).__qualname__)


def _shortly(text: str) -> str:
    """Hash long texts, which stay equal for equal texts: overrides can name a million units."""
    return text if len(text) <= _LONGEST_TEXT else blake2b(text.encode("utf-8", "surrogatepass")).hexdigest()


def _place(function: Callable[..., Any]) -> str:
    """Return where a function is defined, with its line if its name is not unique."""
    module, name = (getattr(function, attribute, None) for attribute in ("__module__", "__qualname__"))
    if not module or not name:
        return _ADDRESS.sub("", repr(function))
    line = getattr(getattr(function, "__code__", None), "co_firstlineno", "")
    # A file can be two modules: run as a script, and imported by the server that the script starts. Both define its functions.
    file = getattr(sys.modules.get(module), "__file__", None)
    place = f"{file or module}.{name}"
    return f"{place}:{line}" if "<" in name else place
