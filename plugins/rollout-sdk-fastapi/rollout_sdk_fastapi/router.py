"""A router: states of rollouts, health of the process, and, with a token, promote and abort."""

from __future__ import annotations

import hmac
from collections.abc import Callable
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, HTTPException
from pydantic import BaseModel, Field

from rollout_sdk import (
    ConfigurationError,
    NotAllowedError,
    RolloutError,
    RolloutStatus,
    Runtime,
    StateError,
    StoreError,
    default_runtime,
)
from rollout_sdk.extending import Controller, find_rollout

__all__ = ["rollout_router"]

_SHORTEST_TOKEN = 16
_STATUS_OF: tuple[tuple[type[RolloutError], int], ...] = (
    (NotAllowedError, 403),
    (StoreError, 503),
    (StateError, 409),
    (ConfigurationError, 422),
)


class Change(BaseModel):
    """The body of a request for a change.

    Attributes:
        actor: Who changes the rollout, for its history; the token does not identify its holder.
        reason: Why.
        revision: The revision that the operator looked at: the answer is 409 if another change came first.
    """

    actor: str = Field(min_length=1, max_length=200)
    reason: str = Field(min_length=1, max_length=2_000)
    revision: int | None = None


def rollout_router(runtime: Runtime | None = None, *, token: str | None = None) -> APIRouter:
    """Return routes for the rollouts of a runtime: `app.include_router(rollout_router(token=...), prefix="/rollouts")`.

    They are `GET /health`, `GET /` (all), `GET /{key}`, and with a token `POST /{key}/promote` and `POST /{key}/abort`, which
    need the header `Authorization: Bearer TOKEN` and a JSON body with `actor` and `reason`.

    Reading needs no token: protect it like your own routes, `include_router(..., dependencies=[...])`.

    Args:
        runtime: The runtime; None: the default one.
        token: Permits promoting and aborting; None: there are no such routes.

    Raises:
        ConfigurationError: The token has fewer than 16 characters.
    """
    if token is not None and len(token) < _SHORTEST_TOKEN:
        raise ConfigurationError(
            f"token= of rollout_router has {len(token)} characters. It permits changes, so it needs at least 16. "
            "Make one with: python -c 'import secrets; print(secrets.token_urlsafe(32))'"
        )
    router = APIRouter(tags=["rollouts"])

    def found(key: str) -> Controller:
        controller = find_rollout(_runtime(runtime), key)
        if controller is None:
            raise HTTPException(404, f"There is no rollout {key!r:.200} in this process.")
        return controller

    # Sync functions, which run in a thread: a status waits for the recorder, and a change for the store.
    @router.get("/health")
    def health() -> dict[str, Any]:
        """Report faults and lost facts; controls answer calls in any case."""
        return _health(_runtime(runtime))

    @router.get("/")
    def all_statuses() -> list[dict[str, Any]]:
        """Return the status of every rollout of this process."""
        controllers = [find_rollout(_runtime(runtime), key) for key in sorted(_runtime(runtime).rollouts)]
        return [_as_dict(each.status()) for each in controllers if each is not None]

    @router.get("/{key:path}")
    def one_status(key: str) -> dict[str, Any]:
        """Return the status of a rollout in this process."""
        return _as_dict(found(key).status())

    if token is not None:
        _add_changes(router, found, f"Bearer {token}".encode())
    return router


def _add_changes(router: APIRouter, found: Callable[[str], Controller], expected: bytes) -> None:
    def change_rollout(action: Literal["promote", "abort"], key: str, change: Change, authorization: str) -> dict[str, Any]:
        if not hmac.compare_digest(authorization.encode(), expected):
            raise HTTPException(401, "The token is missing or wrong.", {"WWW-Authenticate": "Bearer"})
        return _as_dict(_apply(getattr(found(key), action), change))

    @router.post("/{key:path}/promote")
    def promote(key: str, change: Change, authorization: Annotated[str, Header()] = "") -> dict[str, Any]:
        """Go to the next step; after the last, the candidate serves all units."""
        return change_rollout("promote", key, change, authorization)

    @router.post("/{key:path}/abort")
    def abort(key: str, change: Change, authorization: Annotated[str, Header()] = "") -> dict[str, Any]:
        """Serve the control to all units from now on; this is final."""
        return change_rollout("abort", key, change, authorization)


def _runtime(runtime: Runtime | None) -> Runtime:
    return default_runtime() if runtime is None else runtime


def _apply(action: Callable[..., RolloutStatus], change: Change) -> RolloutStatus:
    try:
        return action(actor=change.actor, reason=change.reason, revision=change.revision)
    except RolloutError as error:
        status = next((status for kind, status in _STATUS_OF if isinstance(error, kind)), 500)
        raise HTTPException(status, str(error)) from error


def _health(runtime: Runtime) -> dict[str, Any]:
    return {
        "status": "degraded" if runtime.faults or runtime.lost else "ok",
        "rollouts": len(runtime.rollouts),
        "lost": runtime.lost,
        "faults": {f"{what} {kind}": number for (what, kind), number in sorted(runtime.faults.items())},
    }


def _as_dict(status: RolloutStatus) -> dict[str, Any]:
    verdict = status.verdict
    return {
        "key": status.key,
        "strategy": status.strategy,
        "status": status.status,
        "phase": status.phase,
        "revision": status.revision,
        "shares": dict(status.shares),
        "realised": dict(status.realised),
        "calls": dict(status.calls),
        "version": status.version,
        "fingerprint": status.fingerprint,
        "invalid": status.invalid,
        "lost": status.lost,
        "verdict": None if verdict is None else {"outcome": verdict.outcome, "reason": verdict.reason},
        "text": str(status),
    }
