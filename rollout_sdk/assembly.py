"""Builds the parts of the engine for one rollout from its settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal

from rollout_sdk.assignment import Outline, Phase, UnitHash, unit_hash
from rollout_sdk.concurrency.forking import fresh_random
from rollout_sdk.concurrency.synchronous import answered
from rollout_sdk.control.draining import Draining
from rollout_sdk.control.local_state import LocalState
from rollout_sdk.control.state import start
from rollout_sdk.engine.arguments import Getter, binder, getter, is_method, parameter_names, rebinder
from rollout_sdk.engine.batches.row_arguments import RowArguments
from rollout_sdk.engine.copies.one_shot import takes_asgi
from rollout_sdk.engine.copies.snapshot import Isolate
from rollout_sdk.engine.covariates import Covariate
from rollout_sdk.engine.first_present import FirstPresent
from rollout_sdk.engine.rollout import Rollout
from rollout_sdk.engine.routing import OverridesByUnit, Router
from rollout_sdk.engine.segments import Attribute, Segments
from rollout_sdk.engine.shadows.caller_state import surrounds_of
from rollout_sdk.engine.shadows.processes import ProcessLane
from rollout_sdk.exceptions import MutationError
from rollout_sdk.journal.kept_pairs import KeptPairs
from rollout_sdk.journal.pairs import AUDITS, DISAGREEMENTS
from rollout_sdk.plan import ITEMS_PER_S, Criterion, is_judged
from rollout_sdk.plugins.discovery import strategy_name
from rollout_sdk.records import BreakerEvent
from rollout_sdk.resilience.breaker import CircuitBreaker, ControlHealth
from rollout_sdk.settings import Settings

__all__ = ["make_rollout", "make_router", "make_row_arguments"]

_OBSERVING = ("rollout_routed", "rollout_shadowed", "rollout_recorded", "rollout_transitioned", "rollout_tripped")


def make_router(settings: Settings) -> Router:
    """Build the router, which describes and decides calls."""
    return Router(
        key=settings.key,
        control=settings.control_name,
        functions=settings.functions,
        unit=_unit(settings),
        unit_path=settings.unit if isinstance(settings.unit, str) and "." in settings.unit else "",
        missing_unit=settings.missing_unit,
        hash=unit_hash(settings.key, None if settings.layer is None else settings.layer.name, settings.runtime.key),
        layer=settings.layer,
        holdout=settings.holdout,  # type: ignore[arg-type]
        override=OverridesByUnit(settings.override) if isinstance(settings.override, Mapping) else settings.override,
        route=settings.hooks.first("rollout_route"),
        effects=settings.effects,
        runs_twice=settings.on_error == "control",
        failed=settings.failed,
        keeps_unit=settings.runtime.telemetry.unit_id == "raw",
        covariate=_covariate(settings),
        segments=_segments(settings),
        shared=int(is_method(settings.signature)),
        is_asgi=takes_asgi(settings.signature),
        shadow_share=_shadow_share(settings),
        drains=settings.on_abort == "drain",
    )


def _shadow_share(settings: Settings) -> Callable[[Phase], float] | None:
    """Return the shadows' share by phase if the strategy alone decides, and only by lanes; else None."""
    routes = [route for _, route in settings.hooks.implementations("rollout_route")]
    share = getattr(routes[0], "shadow_share", None) if len(routes) == 1 else None
    return None if share is None else partial(share, routes[0].__self__)  # type: ignore[attr-defined]


def _unit(settings: Settings) -> Getter | None:
    """Build the getter of the unit; None if each call is its own unit."""
    signature, key = settings.signature, settings.key
    if not isinstance(settings.unit, tuple):
        return getter(settings.unit, signature, key)
    found = ((name, getter(name, signature, key)) for name in settings.unit)
    return FirstPresent({name: get for name, get in found if get is not None}, by_row=settings.batch is not None)


def _isolate(settings: Settings) -> Isolate:
    """Return how arguments are copied; a copying function that returns an awaitable is reported as a fault."""
    isolate, failed = settings.isolate, settings.failed
    if isinstance(isolate, str):
        return isolate

    def copied(value: Any) -> Any:
        twin = isolate(value)
        if twin is value:
            return twin
        try:
            return answered("isolate=", twin)
        except TypeError as error:
            failed("isolate", error)
            raise

    return copied


def _covariate(settings: Settings) -> Covariate | None:
    get = getter(settings.covariate, settings.signature, settings.key, "covariate")
    return None if get is None else Covariate(get, settings.failed)


def _segments(settings: Settings) -> Segments | None:
    attributes = []
    for name, values in settings.segments.items():
        get = getter(name, settings.signature, settings.key, "segments")
        assert get is not None
        attributes.append(Attribute(name, get, frozenset(values)))
    return Segments(tuple(attributes), settings.failed) if attributes else None


def make_rollout(settings: Settings) -> Rollout:
    """Build the rollout, which runs calls."""
    runtime, hooks, signature, compare = settings.runtime, settings.hooks, settings.signature, settings.compare
    paced = any(each.metric == ITEMS_PER_S for each in _criteria(settings))
    rollout = Rollout(
        key=settings.key,
        strategy_name=strategy_name(settings.strategy),
        control=settings.control_name,
        functions=settings.functions,
        kind=settings.kind,
        decided=hooks.every("rollout_decided"),
        arguments=hooks.first("rollout_arguments") if hooks.has("rollout_arguments") else None,
        rebind=rebinder(signature),
        merge=hooks.first("rollout_merge"),
        compare=hooks.first("rollout_compare") if compare is None else lambda _, ours, theirs: compare(ours, theirs),
        kept=_kept_pairs(settings, DISAGREEMENTS),
        audit=(audit := _audit_share(settings)),
        audited=_kept_pairs(settings, AUDITS) if audit and settings.batch is None else None,
        lanes=_lanes(settings),
        noise=0.0 if compare is None else compare.noise,
        on_error=settings.on_error,
        failed_if=settings.failed_if,
        measure=_nothing if paced and settings.measure is None else settings.measure,
        paced=paced,
        by_row=settings.batch is not None,
        passthrough=(*settings.passthrough, MutationError) if settings.detect_mutation else settings.passthrough,
        deadline_s=settings.deadline_s,
        isolate=_isolate(settings),
        shared=int(is_method(signature)),
        parameters=parameter_names(signature),
        outline=Outline(settings.key, settings.control_name, tuple(settings.candidates), binder(signature), fresh_random),
        item_hash=UnitHash(settings.key, runtime.key),
        secret=runtime.key,
        limits=runtime.shadows,
        background=runtime.background,
        spans=runtime.spans,
        record=runtime.recorder.put,
        conclude=runtime.conclude,
        take=runtime.take,
        failed=settings.failed,
        tell=runtime.recorder.tell,
        span_name=f"route {settings.key}",
        clocked=runtime.telemetry.decision_duration,
        surrounds=runtime.telemetry.surrounds,
        audience=runtime.audience,
        hidden=runtime.hidden,
        surround=surrounds_of(hooks),
        time_ns=runtime.time_ns,
        nonces=runtime.nonces,
        local_state=LocalState(
            start(
                settings.key,
                settings.phases,
                ramps=settings.ramps,
                version=settings.version,
                fingerprint=settings.fingerprint.value,
                code="" if settings.code is None else settings.code.digest,
            ),
            settings.described,
            _breakers(settings),
            draining=Draining(settings.control_name) if settings.on_abort == "drain" else None,
        ),
        made_of=settings.fingerprint.parts,
        code=settings.code,
        observers={hook: hooks.observers(hook, runtime.thread_of) for hook in _OBSERVING if hooks.has(hook)},
        plugins=hooks.names,
    )
    if settings.judge is not None:
        rollout.judge = runtime.judges.lane(settings.key, settings.judge, settings.failed, rollout.note)
        if not any(is_judged(each.metric) for each in _criteria(settings)):
            rollout.note(
                f"judge= of {settings.key!r} decides nothing, and nothing checks whether it always prefers the answer that it "
                "sees first, because no criterion of the strategy is about judge.preference. Add "
                "Guardrail('judge.preference', margin=0.05), and have people label a few pairs."
            )
    return rollout


def _audit_share(settings: Settings) -> float:
    """Return the share of the judged pairs that people look at; 0 if no metric is about their preference."""
    return next((each.audit for each in _criteria(settings) if is_judged(each.metric)), 0.0)


def _criteria(settings: Settings) -> Sequence[Criterion]:
    """Return the criteria of the strategy, if it has any."""
    criteria = getattr(settings.strategy, "criteria", None)
    return () if criteria is None else criteria.all


def _nothing(_: Any) -> Mapping[str, float]:
    """Take no number from an answer; its items are counted."""
    return {}


def _kept_pairs(settings: Settings, folder: str) -> KeptPairs | None:
    """Build what keeps pairs of answers; None if none are kept, or there is no folder for them."""
    keep, journal = settings.keep, settings.runtime.journal
    return None if keep is None or journal is None else KeptPairs(settings.key, journal, keep, folder)


def _lanes(settings: Settings) -> dict[str, ProcessLane]:
    """Build the worker processes of each candidate, if the strategy shadows in processes; none starts yet."""
    if getattr(settings.strategy, "where", "thread") != "process":
        return {}
    limits, pool = settings.runtime.shadows, settings.runtime.background
    lanes = {
        name: ProcessLane(function, timeout_s=limits.timeout_s, most_bytes=limits.process_bytes)
        for name, function in settings.candidates.items()
    }
    pool.lanes.update(lanes.values())
    return lanes


def _breakers(settings: Settings) -> dict[str, CircuitBreaker]:
    """Build a circuit breaker for each candidate."""
    breaker, runtime = settings.breaker, settings.runtime
    if breaker is None:
        return {}

    def teller(variant: str) -> Callable[[bool, int, int, float], None]:
        def tell(opened: bool, failures: int, runs: int, cooldown_s: float) -> None:  # noqa: FBT001 - one signature, one caller
            action: Literal["open", "close"] = "open" if opened else "close"
            time_s = runtime.time_ns() / 1e9
            runtime.recorder.put(BreakerEvent(settings.key, variant, action, failures, runs, cooldown_s, time_s))

        return tell

    # Shared by all candidates, because there is one control.
    health = ControlHealth()
    return {variant: CircuitBreaker(breaker, teller(variant), health) for variant in settings.candidates}


def make_row_arguments(settings: Settings) -> RowArguments | None:
    """Build the locator of a batch's rows; None if calls are not split by row."""
    if settings.batch is None:
        return None
    return RowArguments(
        key=settings.key,
        names=settings.batch,
        signature=settings.signature,
        unit=settings.unit,
        covariate=settings.covariate,
        segments=tuple(settings.segments),
        failed=settings.failed,
    )
