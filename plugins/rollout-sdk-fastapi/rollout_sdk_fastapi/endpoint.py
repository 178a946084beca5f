"""Options of a rollout that is an endpoint, or is called by one."""

from __future__ import annotations

from typing import Any, TypedDict

from attrs import frozen
from starlette.exceptions import HTTPException

from rollout_sdk import Decision, RouteRequest
from rollout_sdk_fastapi.middleware import served_request

__all__ = ["HttpAnswer", "endpoint", "request_decisions", "request_unit"]

_SERVER_ERROR = 500


def request_unit(*_: Any, **__: Any) -> str | None:
    """The unit of the request that is served; None where it has none, and outside of a request."""
    request = served_request.get()
    return None if request is None else request.unit()


class _RequestDecisions:
    """A plugin that keeps what was decided for the response's header."""

    name = "fastapi"

    def rollout_decided(self, request: RouteRequest, decision: Decision) -> None:
        """Keep the first decision of each rollout; of a batch, that of its first row."""
        del request
        served = served_request.get()
        if served is not None:
            served.decisions.setdefault(decision.rollout, decision)

    def __reduce__(self) -> str:
        """The one instance."""
        return "request_decisions"


request_decisions = _RequestDecisions()
"""The plugin behind `X-Rollout`: in `plugins=` of a rollout, or of its runtime for all."""


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
    """Every HTTPException (of FastAPI and Starlette) below 500: a 404 or a redirect is an answer, and no failure.

    For `passthrough=` of any rollout; `isinstance` alone knows it, it is never raised.
    """


class _Options(TypedDict):
    key: str
    unit: Any
    override: Any
    passthrough: tuple[type[BaseException], ...]
    plugins: list[Any]


def endpoint(key: str) -> _Options:
    """Options of `@rollout` for what serves requests: `@rollout(candidate=..., strategy=..., **endpoint("shop.rank"))`.

    The unit is the request's, the signed header forces variants, an HTTPException below 500 is an answer, and the decision
    stands in the response. Another `unit=` or `passthrough=`: `**{**endpoint("shop.rank"), "unit": "user_id"}`.

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
