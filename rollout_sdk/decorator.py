"""`@rollout`: decorates a model function, which is called as before; its rollout is `function.rollout`."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from inspect import Signature
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar, overload

from rollout_sdk.assignment import Layer, Share
from rollout_sdk.comparators import Compare, Disagreements, as_comparator
from rollout_sdk.controller import RolloutController
from rollout_sdk.engine.arguments import Spec, UnitSpec
from rollout_sdk.engine.copies.snapshot import Isolate
from rollout_sdk.engine.judges.judge import Judge
from rollout_sdk.engine.likeness import keep_attributes, look_alike
from rollout_sdk.engine.routing import Override
from rollout_sdk.exceptions import ConfigurationError
from rollout_sdk.resilience.breaker import Breaker
from rollout_sdk.runtime import Runtime, default_runtime
from rollout_sdk.settings import Effects, MissingUnit, OnAbort, OnError, Settings

__all__ = ["Decorated", "DecoratedMethod", "rollout"]

_DEFAULT_BREAKER = Breaker()

P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)
S = TypeVar("S")
S_co = TypeVar("S_co", covariant=True)
S_contra = TypeVar("S_contra", contravariant=True)


class _Taking(Protocol[S_contra, Q, R_co]):
    """A callable that takes an object (or a class) first: a method."""

    def __call__(self, first: S_contra, /, *args: Q.args, **kwargs: Q.kwargs) -> R_co: ...


class Decorated(Protocol[P, R_co]):
    """A decorated function, with its original signature and kind, and its controller in `rollout`."""

    __name__: str
    __qualname__: str

    @property
    def rollout(self) -> RolloutController[P, R_co]:
        """The controller."""
        ...

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """Call it as before."""
        ...

    # Type checkers bind only what they know to be a function, so binding is spelled out: a function that takes the class is a
    # class method, one that takes an instance is a method, and any other a function or a static method.
    @overload
    def __get__(self: _Taking[type[S], Q, R], instance: object, owner: type[S], /) -> DecoratedMethod[type[S], Q, R]: ...

    @overload
    def __get__(self: _Taking[S, Q, R], instance: S, owner: type[Any], /) -> DecoratedMethod[S, Q, R]: ...

    @overload
    def __get__(self, instance: object, owner: type[Any], /) -> Decorated[P, R_co]: ...


class DecoratedMethod(Protocol[S_co, Q, R_co]):
    """A decorated method, bound. Its controller belongs to the function: `method.rollout.route(object, ...)`."""

    __name__: str
    __qualname__: str

    @property
    def rollout(self) -> RolloutController[Concatenate[S_co, Q], R_co]:
        """The controller of the function."""
        ...

    def __call__(self, *args: Q.args, **kwargs: Q.kwargs) -> R_co:
        """Call it as before."""
        ...


def rollout(
    *,
    candidate: Callable[..., Any] | None = None,
    candidates: Mapping[str, Callable[..., Any]] | None = None,
    strategy: object,
    unit: UnitSpec = None,
    key: str | None = None,
    control_name: str = "control",
    version: str = "",
    missing_unit: MissingUnit = "control",
    covariate: Spec = None,
    batch: str | Sequence[str] | None = None,
    override: Override = None,
    holdout: Share = 0.0,
    layer: Layer | None = None,
    on_error: OnError = "control",
    on_abort: OnAbort = "stop",
    failed_if: Callable[[Any], object] | None = None,
    measure: Callable[[Any], Mapping[str, float]] | None = None,
    judge: Judge | None = None,
    passthrough: tuple[type[BaseException], ...] = (),
    effects: Effects = "unknown",
    deadline_s: float | None = None,
    breaker: Breaker | None = _DEFAULT_BREAKER,
    isolate: Isolate = "auto",
    detect_mutation: bool = False,
    compare: Compare | None = None,
    keep: Disagreements | None = None,
    plugins: Sequence[object] = (),
    runtime: Runtime | None = None,
) -> Callable[[Callable[P, R]], Decorated[P, R]]:
    """Put one or more candidates beside the decorated function, which stays the control.

    Works on functions, coroutine functions, generators and async generators; on methods, static and class methods, partials
    and callable objects.

    Args:
        candidate: The function that may replace it; recorded as "candidate".
        candidates: Several candidates, by name. All accept what the control accepts, and are of the same kind.
        strategy: Decides which variant answers: `ABTest`, `Canary`, `Interleave`, `Shadow`, an object with `rollout_route`, or
            the name of an installed strategy.
        unit: What is assigned and analysed, usually the user: a parameter's name, a dotted path into a parameter
            ("request.user.id"), or a callable with the function's own parameters. With a tuple, ("user_id", "device_id"), the
            first that a call has is its unit: at login, a user becomes another unit and may change variants
            (docs/assignment.md). None: each call is its own unit.
        key: Name of the rollout; by default the function's module and name. Assignment depends on it.
        control_name: Name of the decorated function in every record.
        version: Version of the candidates: a model's version or run id. A new version restarts the rollout without evidence,
            and an old one never returns. Without one, their code takes its place, if the rollout's store is this process's own
            (docs/assignment.md).
        missing_unit: Treatment of a call without its unit: the "control" (not analysed), a "random" variant, or an error
            ("raise").
        covariate: A number known about the unit before the call and correlated with the metrics (a user's spending last
            month): a parameter's name, a dotted path or a callable, as for `unit`; with `batch=`, a list gives each row its
            own. Analyses remove the variance that it explains (CUPED). It must not depend on the variant. Anything but a
            finite number counts as unknown, and as a fault: pass a constant, such as 0, for units without one.
        batch: Parameter that holds a list of rows (or several, split alike): each row is decided separately, each variant is
            called once with its rows, and results are returned in the input's order. A `unit` that names a list or tuple
            gives each row its unit.
        override: Fixed variants, which are not analysed: by unit, or by a callable with the function's own parameters. A unit
            is its text: 42 and "42" are the same unit.
        holdout: Share of the units that always get the control and are not analysed.
        layer: Slot of a layer: rollouts of one layer never use the same unit.
        on_error: When a candidate fails, the "control" answers (the failure still counts against the candidate), or the
            caller gets the exception ("raise": for functions that must not run twice).
        on_abort: With "drain", units are conversations: while a person has paused the rollout, or another version or other
            settings have replaced this process's in the store, those that this process has begun on a candidate go on there,
            and all others get the control (docs/judging.md). An abort or a rollback stops them at once in any case.
        failed_if: Classifies answers as failures: `lambda answer: answer.status_code >= 500`. Such an answer of a candidate
            counts as if it had raised: the control answers (or, with on_error="raise", the caller gets the answer unchanged).
            Also applied to the control, whose answers always reach the caller; with `batch=`, to the answer of each row; not
            to streams. If it raises, the answer counts as good.
        measure: Takes numbers from an answer, by metric: `lambda answer: {"tokens": answer.usage.total_tokens}`. They are
            recorded as outcomes of the call, for candidates and control, and for the answers of shadows; guardrails and gates
            can name them. With `batch=`, it gets the answer of each row; of a stream that was read to its end, the list of its
            items. It runs on the caller's path, so keep it short.
        judge: Says which of both answers to a shadowed call is better, on a sample of them, in threads of its own; recorded as
            `judge.preference` (docs/judging.md).
        passthrough: Exceptions of a candidate that are an answer, or a time limit that the SDK does not know: the caller gets
            them, and the control does not run.
        effects: Side effects of running a variant: "read" (none: required for shadowing), "write", or "unknown". A function
            that writes must not run twice for one call: it needs on_error="raise", and cannot be blended.
        deadline_s: Seconds that a candidate has for its answer (a stream: for its first item); after that the control
            answers. Only for coroutine functions and async generators: Python cannot stop a thread.
        breaker: When a failing candidate is not run for a while; None: never.
        isolate: How the control is shielded from a candidate's changes to its arguments: "auto" (changes are undone if the
            candidate fails; if two variants run on them, the candidate gets copies), "none", or copies by "deepcopy" or a
            copying function.
        detect_mutation: In tests: raise `MutationError` if a candidate has changed an argument; it reaches the caller,
            whatever `on_error` is.
        compare: How a shadow's answer (of a row, with `batch=`) is compared with the control's: one of
            `rollout_sdk.comparators`, or a function of both that returns whether they match, their difference (0 matches), or
            a `Comparison`. By default numbers within rounding, and anything else that is equal, match. It runs in the
            background.
        keep: Keeps some pairs of answers that do not match, for people to look at: `Disagreements(50, redact=...)`. They are in
            the journal's folder, and the only payloads that the SDK ever writes. None: no pair is kept.
        plugins: Observers and comparators for this rollout: instances, or names of installed plugins.
        runtime: Resources shared with other rollouts; by default one built from the environment.

    Returns:
        A decorator. The function that it returns is called as before.

    Raises:
        ConfigurationError: Any invalid option is rejected here, when decorating.
    """
    if (candidate is None) == (candidates is None):
        raise ConfigurationError(
            f"rollout got {'neither candidate= nor candidates=' if candidate is None else 'candidate= and candidates='}. "
            "A rollout has one candidate, or several by name. Pass one of the two."
        )
    if candidates is not None and not isinstance(candidates, Mapping):
        raise ConfigurationError(
            f"candidates={candidates!r:.60} is not a mapping. Several candidates have names, which identify them in every "
            "record. Write candidates={'v2': f}."
        )
    if runtime is not None and not isinstance(runtime, Runtime):
        raise ConfigurationError(
            f"runtime={runtime!r:.60} is not a Runtime. A runtime is what rollouts share. Pass Runtime(...), or leave it out."
        )
    named = {"candidate": candidate} if candidates is None else dict(candidates)

    def decorate(function: Any) -> Any:
        bare = _bare(function)
        if not callable(bare):
            raise ConfigurationError(f"{bare!r:.60} cannot be decorated: it is not callable. A rollout needs a function.")
        if _is_decorated(bare):
            raise ConfigurationError(
                f"{bare.rollout.key!r} is decorated twice. A function is the control of one rollout. "
                "Pass all candidates to one."
            )
        settings = Settings(
            key=_default_key(bare) if key is None else key,
            function=bare,
            candidates={name: _bare(each) for name, each in named.items()},
            strategy=strategy,
            control_name=control_name,
            version=version,
            unit=unit,
            missing_unit=missing_unit,
            covariate=covariate,
            batch=(batch,) if isinstance(batch, str) else tuple(batch) if isinstance(batch, Iterable) else batch,
            override=override,
            holdout=holdout,
            layer=layer,
            on_error=on_error,
            on_abort=on_abort,
            failed_if=failed_if,
            measure=measure,
            judge=judge,
            passthrough=passthrough,
            effects=effects,
            deadline_s=deadline_s,
            breaker=breaker,
            isolate=isolate,
            detect_mutation=detect_mutation,
            compare=None if compare is None else as_comparator(compare),
            keep=keep,
            plugins=plugins,
            runtime=default_runtime() if runtime is None else runtime,
        )
        controller: RolloutController[..., Any] = RolloutController(settings)
        wrapper = _like(bare, controller.serving_function(), settings.signature)
        wrapper.rollout = controller
        return type(function)(wrapper) if isinstance(function, staticmethod | classmethod) else wrapper

    return decorate


def _is_decorated(function: Any) -> bool:
    """Whether `@rollout` returned this function. A function that wraps it with `functools.wraps` has its controller, too."""
    controller = getattr(function, "rollout", None)
    return isinstance(controller, RolloutController) and controller.is_of(function)


def _bare(function: Any) -> Any:
    """Return the function inside a static or class method."""
    return function.__func__ if isinstance(function, staticmethod | classmethod) else function


def _unwrapped(function: Any) -> Any:
    """Return the function or class behind a partial or a callable object, which has a name."""
    while isinstance(function, functools.partial):
        function = function.func
    return function if hasattr(function, "__qualname__") else type(function)


def _default_key(function: Callable[..., Any]) -> str:
    named = _unwrapped(function)
    module = getattr(named, "__module__", None) or "builtins"
    # A process spawned by multiprocessing gives the main module another name, but the rollout is the same.
    module = "__main__" if module == "__mp_main__" else module
    return f"{module}.{named.__qualname__}".replace(".<locals>", "")


def _like(function: Callable[..., Any], wrapper: Any, signature: Signature | None) -> Any:
    """Give the wrapper the function's name, documentation, annotations, signature and attributes."""
    functools.update_wrapper(wrapper, function)
    if not hasattr(function, "__qualname__"):
        named = _unwrapped(function)
        functools.update_wrapper(wrapper, named, updated=())
        wrapper.__wrapped__ = function
    look_alike(wrapper, function, signature)
    keep_attributes(wrapper, function)
    return wrapper
