"""Options of a rollout whose function is an endpoint, or is called by one."""

from __future__ import annotations

from typing import Any, TypedDict

from attrs import frozen
from starlette.exceptions import HTTPException

from rollout_sdk import Decision, RouteRequest
from rollout_sdk_fastapi.middleware import served_request

__all__ = ["HttpAnswer", "endpoint", "request_decisions", "request_unit"]

_SERVER_ERROR = 500


def request_unit(*_: Any, **__: Any) -> str | None:
    """Return the unit of the current request; None if it has none, and outside a request."""
    request = served_request.get()
    return None if request is None else request.unit()


class _RequestDecisions:
    """A plugin that collects decisions for the response's header."""

    name = "fastapi"

    def rollout_decided(self, request: RouteRequest, decision: Decision) -> None:
        """Keep the first decision of each rollout; of a batch, that of its first row."""
        del request
        served = served_request.get()
        if served is not None:
            served.decisions.setdefault(decision.rollout, decision)

    def __reduce__(self) -> str:
        """Pickle as the single instance."""
        return "request_decisions"


request_decisions = _RequestDecisions()
"""The plugin behind `X-Rollout`, for `plugins=` of a rollout, or of a runtime for all its rollouts."""


@frozen
class _Forced:
    """`override=` of a rollout: the variant that the request's signed header forces."""

    key: str

    def __call__(self, *_: Any, **__: Any) -> str | None:
        request = served_request.get()
        return None if request is None else request.forced.get(self.key)


class _ByStatus(type):
    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, HTTPException) and instance.status_code < _SERVER_ERROR


class HttpAnswer(Exception, metaclass=_ByStatus):  # noqa: N818 - it is an answer
    """Any HTTPException (of FastAPI or Starlette) below 500: a 404 or a redirect is an answer, not a failure.

    For `passthrough=` of any rollout. It is only for `isinstance`, and is never raised.
    """


class _Options(TypedDict):
    key: str
    unit: Any
    override: Any
    passthrough: tuple[type[BaseException], ...]
    plugins: list[Any]


def endpoint(key: str) -> _Options:
    """Return options of `@rollout` for endpoints: `@rollout(candidate=..., strategy=..., **endpoint("shop.rank"))`.

    The unit is the request's, the signed header forces variants, an HTTPException below 500 is an answer, and the decision
    is sent in the response. To change one of them: `**{**endpoint("shop.rank"), "unit": "user_id"}`.

    Args:
        key: Key of the rollout.
    """
    return {
        "key": key,
        "unit": request_unit,
        "override": _Forced(key),
        "passthrough": (HttpAnswer,),
        "plugins": [request_decisions],
    }
