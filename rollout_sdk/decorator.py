"""`@rollout`: a decorated model function is called as before, and its rollout is `function.rollout`."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from inspect import Signature
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar, overload

from rollout_sdk.assignment import Layer, Share
from rollout_sdk.controller import RolloutController
from rollout_sdk.engine.arguments import Spec, UnitSpec
from rollout_sdk.engine.copies.snapshot import Isolate
from rollout_sdk.engine.likeness import keep_attributes, look_alike
from rollout_sdk.engine.routing import Override
from rollout_sdk.exceptions import ConfigurationError
from rollout_sdk.resilience.breaker import Breaker
from rollout_sdk.runtime import Runtime, default_runtime
from rollout_sdk.settings import Effects, MissingUnit, OnError, Settings

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
    """What can be called with an object (or a class) first: a method."""

    def __call__(self, first: S_contra, /, *args: Q.args, **kwargs: Q.kwargs) -> R_co: ...


class Decorated(Protocol[P, R_co]):
    """A decorated function: it has the signature and the kind that it had, and its controller in `rollout`."""

    __name__: str
    __qualname__: str

    @property
    def rollout(self) -> RolloutController[P, R_co]:
        """The controller."""
        ...

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """Call it as before."""
        ...

    # Type checkers bind only what they know to be a function, so that binding is spelled out: what takes the class is a class
    # method, what takes an instance of it a method, and anything else a function or a static method.
    @overload
    def __get__(self: _Taking[type[S], Q, R], instance: object, owner: type[S], /) -> DecoratedMethod[type[S], Q, R]: ...

    @overload
    def __get__(self: _Taking[S, Q, R], instance: S, owner: type[Any], /) -> DecoratedMethod[S, Q, R]: ...

    @overload
    def __get__(self, instance: object, owner: type[Any], /) -> Decorated[P, R_co]: ...


class DecoratedMethod(Protocol[S_co, Q, R_co]):
    """A decorated method, bound. Its controller is that of the function: `method.rollout.route(object, ...)`."""

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
    failed_if: Callable[[Any], object] | None = None,
    passthrough: tuple[type[BaseException], ...] = (),
    effects: Effects = "unknown",
    deadline_s: float | None = None,
    breaker: Breaker | None = _DEFAULT_BREAKER,
    isolate: Isolate = "auto",
    detect_mutation: bool = False,
    plugins: Sequence[object] = (),
    runtime: Runtime | None = None,
) -> Callable[[Callable[P, R]], Decorated[P, R]]:
    """Put one or more candidates beside the decorated function, which stays in control.

    Works on functions, coroutine functions, generators and async generators; on methods, static and class methods, partials
    and callable objects.

    Args:
        candidate: The function that may replace it; recorded as "candidate".
        candidates: Or several, by name. All take what the control takes, and are of its kind.
        strategy: Who gets what: `ABTest`, `Canary`, `Interleave`, `Shadow`, an object with `rollout_route`, or the name of
            an installed strategy.
        unit: What is assigned and analysed, usually the user: a parameter's name, a dotted path into a parameter
            ("request.user.id"), or a callable with the function's own parameters. Of a tuple, ("user_id", "device_id"), the
            first that a call has is its unit: at login, a user is another unit and may change variants (docs/assignment.md).
            None: each call is its own unit.
        key: Name of the rollout; by default the function's module and name. Assignment depends on it.
        control_name: Name of the decorated function in every record.
        version: Version of the candidates: a model's version or run id. A new one starts the rollout anew, with no evidence,
            and an old one never comes back.
        missing_unit: What a call without its unit gets: the "control" (not analysed), a "random" variant, or an error
            ("raise").
        covariate: A number that is known of the unit before the call and goes with what is measured (what a user spent last
            month): a parameter's name, a dotted path or a callable, as for `unit`; with `batch=`, a list gives each row its
            own. An analysis takes out of a metric what it explains (CUPED). It must not depend on the variant. What is not a
            finite number counts as unknown, and as a fault: give a constant, such as 0, for units without one.
        batch: Parameter that holds a list of rows (or several, split alike): each row is decided for itself, each variant is
            called once with its rows, and results come back in the input's order. A `unit` that names a list or
            tuple gives each row its unit.
        override: Variants that are fixed and not analysed: by unit, or by a callable with the function's own parameters.
            The type is part of a unit's name: a request that brings "42" is not the unit 42.
        holdout: Share of the units that always get the control and are not analysed.
        layer: Slot of a layer: rollouts of one layer never meet the same unit.
        on_error: When a candidate fails, the "control" answers (the failure stays the candidate's), or the caller gets the
            exception ("raise": for functions that must not run twice).
        failed_if: Whether an answer is a failure: `lambda answer: answer.status_code >= 500`. Such an answer of a
            candidate counts as if it had raised: the control answers (or, with on_error="raise", the caller gets it as it is).
            Asked of the control, too, whose answers always reach the caller; with `batch=`, of the answer of each row; not of
            streams. Where it raises itself, the answer counts as good.
        passthrough: Exceptions of a candidate that are an answer, or a time limit that the SDK does not know: the caller gets
            them, and no control runs.
        effects: What running a variant does to the world: "read" (nothing: only then may a candidate be shadowed), "write", or
            "unknown". What writes must not run twice for one call: it needs on_error="raise", and is not blended.
        deadline_s: Seconds that a candidate has for its answer (a stream: for its first item); then the control answers.
            Only for coroutine functions and async generators: Python cannot leave a thread.
        breaker: When a failing candidate is left alone for a while; None: never.
        isolate: How what a candidate does to its arguments is kept from the control: "auto" (what it changed is put back when
            it fails; where two run on them, it works on copies), "none", or on copies by "deepcopy" or a copying function.
        detect_mutation: In tests: raise `MutationError` when a candidate has changed an argument; it reaches the caller,
            whatever `on_error` says.
        plugins: Observers and comparators for this rollout: instances, or names of installed plugins.
        runtime: What it shares with other rollouts; by default one built from the environment.

    Returns:
        A decorator. What it returns is called as the function was.

    Raises:
        ConfigurationError: Anything that cannot work is refused here, when decorating.
    """
    if (candidate is None) == (candidates is None):
        raise ConfigurationError(
            f"rollout got {'neither candidate= nor candidates=' if candidate is None else 'candidate= and candidates='}. "
            "A rollout has one candidate, or several by name. Pass one of the two."
        )
    if candidates is not None and not isinstance(candidates, Mapping):
        raise ConfigurationError(
            f"candidates={candidates!r:.60} is no mapping. Several candidates have names, by which every record tells them "
            "apart. Write candidates={'v2': f}."
        )
    if runtime is not None and not isinstance(runtime, Runtime):
        raise ConfigurationError(
            f"runtime={runtime!r:.60} is no Runtime. A runtime is what rollouts share. Pass Runtime(...), or leave it out."
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
            failed_if=failed_if,
            passthrough=passthrough,
            effects=effects,
            deadline_s=deadline_s,
            breaker=breaker,
            isolate=isolate,
            detect_mutation=detect_mutation,
            plugins=plugins,
            runtime=default_runtime() if runtime is None else runtime,
        )
        controller: RolloutController[..., Any] = RolloutController(settings)
        wrapper = _like(bare, controller.serving_function(), settings.signature)
        wrapper.rollout = controller
        return type(function)(wrapper) if isinstance(function, staticmethod | classmethod) else wrapper

    return decorate


def _is_decorated(function: Any) -> bool:
    """Whether a function is what `@rollout` returned. One round it that `functools.wraps` made has its controller, too."""
    controller = getattr(function, "rollout", None)
    return isinstance(controller, RolloutController) and controller.is_of(function)


def _bare(function: Any) -> Any:
    """The function inside a static or class method."""
    return function.__func__ if isinstance(function, staticmethod | classmethod) else function


def _unwrapped(function: Any) -> Any:
    """What a partial or a callable object is called by: something with a name."""
    while isinstance(function, functools.partial):
        function = function.func
    return function if hasattr(function, "__qualname__") else type(function)


def _default_key(function: Callable[..., Any]) -> str:
    named = _unwrapped(function)
    module = getattr(named, "__module__", None) or "builtins"
    # A process that multiprocessing spawned calls the main module by another name: the rollout is the same.
    module = "__main__" if module == "__mp_main__" else module
    return f"{module}.{named.__qualname__}".replace(".<locals>", "")


def _like(function: Callable[..., Any], wrapper: Any, signature: Signature | None) -> Any:
    """The wrapper under the function's name, documentation, annotations, signature and attributes."""
    functools.update_wrapper(wrapper, function)
    if not hasattr(function, "__qualname__"):
        named = _unwrapped(function)
        functools.update_wrapper(wrapper, named, updated=())
        wrapper.__wrapped__ = function
    look_alike(wrapper, function, signature)
    keep_attributes(wrapper, function)
    return wrapper
