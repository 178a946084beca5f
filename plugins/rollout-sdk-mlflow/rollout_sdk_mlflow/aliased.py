"""A function of a model, served with the champion and the challenger of a registry."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, Final, NamedTuple

from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from rollout_sdk import ConfigurationError, RolloutController, Runtime, TransitionedEvent, default_runtime, rollout
from rollout_sdk.extending import get_logger, renew_after_fork
from rollout_sdk_mlflow.registry import LoadedModel, Registry, is_missing

__all__ = ["AliasedRollout", "aliased"]

_SHORTEST_PAUSE_S: Final = 0.05
_LOGIN: Final = re.compile(r"://[^/\s]*@")
_LONGEST_PROBLEM: Final = 1_000


def aliased(
    name: str,
    *,
    champion: str = "champion",
    challenger: str = "challenger",
    every_s: float = 30.0,
    load: Callable[[str], Any] | None = None,
    client: MlflowClient | None = None,
    moves_alias: bool = True,
    **options: Any,
) -> Callable[[Callable[..., Any]], AliasedRollout]:
    """Serve a function of a model with the champion as the control and the challenger as the candidate.

    The decorated function has the model as its first parameter; callers leave it out.

    Args:
        name: Name of the registered model.
        champion: Alias of the model that serves.
        challenger: Alias of the model that may replace it.
        every_s: Seconds between two polls of the aliases, in a daemon thread that `start()` starts.
        load: Loads a model by its address, "models:/ranker/7"; `mlflow.pyfunc.load_model` by default.
        client: The registry's client; by default, one with MLflow's own settings.
        moves_alias: Whether the champion's alias is moved to the challenger when the rollout is promoted.
        options: The other options of `@rollout`; `candidate`, `candidates` and `version` come from the registry.

    Raises:
        ConfigurationError: There is no champion, or an option of `@rollout` is refused.
        MlflowException: The registry does not answer: a service cannot start without its model.
    """
    refused = {"candidate", "candidates", "version"} & options.keys()
    if refused:
        raise ConfigurationError(
            f"aliased({name!r:.60}) got {', '.join(sorted(refused))}. "
            "Candidate and version come from the registry. Leave them out."
        )
    if isinstance(every_s, bool) or not isinstance(every_s, int | float) or not 0 < every_s < float("inf"):
        raise ConfigurationError(f"every_s={every_s!r:.60} of aliased is not a positive number of seconds. Write 30.0.")
    registry = Registry(name, client, load)

    def decorate(function: Callable[..., Any]) -> AliasedRollout:
        return AliasedRollout(function, registry, champion, challenger, every_s, options, moves_alias=moves_alias)

    return decorate


class AliasedRollout:
    """The decorated function, which is called without its model.

    The versions that it serves change in the background only: `poll` loads models, calls never do. While there is no challenger
    newer than the champion, the champion serves alone.

    Attributes:
        champion: The model that serves.
        challenger: The challenger; None if there is none.
        problem: The last failure to follow the aliases; None if there is none.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        registry: Registry,
        champion: str,
        challenger: str,
        every_s: float,
        options: dict[str, Any],
        *,
        moves_alias: bool,
    ) -> None:
        """Load the models; see `aliased`."""
        self._function, self._registry = function, registry
        self._aliases = champion, challenger
        self._every_s, self._moves_alias = max(every_s, _SHORTEST_PAUSE_S), moves_alias
        self._options = {**options, "plugins": [*options.get("plugins", ()), _Promotion(self)]}
        self._lock = threading.Lock()
        self.problem: str | None = None
        self._unwritten: _Unwritten | None = None
        version = registry.version_of(champion)
        if version is None:
            raise ConfigurationError(
                f"The registered model {registry.name!r} has no alias {champion!r}. The champion serves, so it must exist. "
                f"Set the alias: mlflow.MlflowClient().set_registered_model_alias({registry.name!r}, {champion!r}, '1')."
            )
        self.champion = registry.load_version(version)
        self.challenger = self._load_challenger(version, registry.version_of(challenger))
        self._serve()
        self._thread: threading.Thread | None = None
        self._ended = threading.Event()
        renew_after_fork(self)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function with the model that the rollout's decision selects."""
        return self._current(*args, **kwargs)

    @property
    def rollout(self) -> RolloutController[..., Any]:
        """The controller of the rollout.

        Raises:
            ConfigurationError: There is no challenger now, hence no rollout.
        """
        controller = getattr(self._current, "rollout", None)
        if controller is None:
            raise ConfigurationError(
                f"{self._registry.name!r} has no rollout now: no version newer than {self.champion.version}, the champion, has "
                f"the alias {self._aliases[1]!r}. Set the alias, and poll()."
            )
        found: RolloutController[..., Any] = controller
        return found

    def poll(self) -> bool:
        """Read the aliases now, and load their versions; return whether anything has changed. For webhooks and tests.

        A failure is in `problem` and in the log, and does not change what is served.
        """
        with self._lock:
            try:
                changed = self._follow()
            # Any error: of the registry, the network or the loading of a model.
            except Exception as error:
                self._report(f"{type(error).__qualname__}: {error}")
                return False
            return changed

    def start(self) -> None:
        """Start one daemon thread of this process that polls the aliases; a second start does nothing."""
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, args=(self._ended,), name="rollout-mlflow", daemon=True)
                self._thread.start()

    def close(self) -> None:
        """Stop polling the aliases."""
        self._ended.set()
        self._ended, self._thread = threading.Event(), None

    def renew(self) -> None:
        """Start a thread in a forked child, if the parent had one."""
        was_started, self._lock, self._thread, self._ended = self._thread is not None, threading.Lock(), None, threading.Event()
        if was_started:
            self.start()

    def promoted(self, event: TransitionedEvent) -> None:
        """Tag the challenger with the transition, and make it the champion if it was promoted; `poll` repeats what fails.

        Raises:
            MlflowException: The registry does not answer.
        """
        with self._lock:
            if self.challenger is None or event.version != self._version:
                return
            self._unwritten = _Unwritten(event, self.champion.version, self.challenger.version)
            self._write()

    def _write(self) -> None:
        """Write to the registry what the last transition asks for."""
        if self._unwritten is None:
            return
        event, champion, challenger = self._unwritten
        verdict = (event.evidence or {}).get("outcome", "")
        tags = {"key": event.rollout, "status": event.status, "phase": event.to_phase, "reason": event.reason}
        try:
            # If the alias was moved in the meantime, that change takes precedence.
            is_ours = self._registry.version_of(self._aliases[0]) == champion
            if self._moves_alias and event.status == "promoted" and is_ours:
                self._registry.move(self._aliases[0], challenger)
                self._log("rollout.mlflow.promoted", version=challenger)
            self._registry.tag(challenger, **tags, verdict=verdict)
        except MlflowException as error:
            # If the version was deleted, repeating it would keep the aliases from being followed.
            if is_missing(error):
                self._unwritten = None
            raise
        self._unwritten = None

    @property
    def _version(self) -> str:
        """Version of the rollout: another champion is another comparison, too."""
        return "" if self.challenger is None else f"{self.challenger.version} against {self.champion.version}"

    def _follow(self) -> bool:
        self._write()
        champion = self._registry.version_of(self._aliases[0])
        challenger = self._registry.version_of(self._aliases[1])
        if champion is None:
            self._report(f"no version has the alias {self._aliases[0]}: version {self.champion.version} continues to serve")
            return False
        known = {each.version: each for each in (self.champion, self.challenger) if each is not None}
        before = self.champion.version, None if self.challenger is None else self.challenger.version
        new_champion = known.get(champion) or self._registry.load_version(champion)
        new_challenger = self._load_challenger(champion, challenger, known)
        self.problem = None
        if before == (new_champion.version, None if new_challenger is None else new_challenger.version):
            return False
        self.champion, self.challenger = new_champion, new_challenger
        self._serve()
        self._log("rollout.mlflow.followed", champion=champion, challenger=challenger)
        return True

    def _load_challenger(
        self, champion: int, challenger: int | None, known: dict[int, LoadedModel] | None = None
    ) -> LoadedModel | None:
        """Return the challenger; None if it is not newer than the champion, so that no version is compared with itself."""
        if challenger is None or challenger <= champion:
            return None
        return (known or {}).get(challenger) or self._registry.load_version(challenger)

    def _serve(self) -> None:
        control = self._with(self.champion.model)
        if self.challenger is None:
            self._current: Callable[..., Any] = control
            return
        # Decorated again with the same key: the new version starts without evidence; the previous function serves its control.
        self._current = rollout(candidate=self._with(self.challenger.model), version=self._version, **self._options)(control)

    def _with(self, model: Any) -> Callable[..., Any]:
        bound: Any = partial(self._function, model)
        for attribute in ("__name__", "__qualname__", "__module__", "__doc__"):
            setattr(bound, attribute, getattr(self._function, attribute))
        called: Callable[..., Any] = bound
        return called

    def _run(self, ended: threading.Event) -> None:
        while not ended.wait(self._every_s):
            self.poll()

    def _report(self, why: str) -> None:
        # MLflow's errors have the server's address, login included.
        why = _LOGIN.sub("://", why)[:_LONGEST_PROBLEM]
        if why != self.problem:
            self.problem = why
            self._log("rollout.mlflow.problem", reason=why)

    def _log(self, event: str, **fields: object) -> None:
        level = "warning" if event.endswith("problem") else "info"
        with suppress(Exception, SystemExit):
            getattr(get_logger(), level)(event, model=self._registry.name, **fields)

    @property
    def runtime(self) -> Runtime:
        """The runtime of the rollout."""
        given: Runtime | None = self._options.get("runtime")
        return default_runtime() if given is None else given


class _Unwritten(NamedTuple):
    """A transition that the registry does not have yet, and the versions that it was about."""

    event: TransitionedEvent
    champion: int
    challenger: int


class _Promotion:
    """The observer of the rollout's transitions, in whose thread the registry is called."""

    name = "mlflow"

    def __init__(self, served: AliasedRollout) -> None:
        self._served = served

    def __repr__(self) -> str:
        return "<mlflow>"

    def rollout_transitioned(self, event: TransitionedEvent) -> None:
        """Update the registry."""
        self._served.promoted(event)
