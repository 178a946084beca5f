"""rollout_sdk in FastAPI (and, except for the router, in Starlette).

@app.get("/rank")
@rollout(candidate=rank_v2, strategy=Canary(["5%", "50%"]), **endpoint("shop.rank"))
def rank(query: str) -> list[str]: ...
"""

from rollout_sdk_fastapi.endpoint import HttpAnswer, endpoint, request_decisions, request_unit
from rollout_sdk_fastapi.forcing import FORCE_HEADER, force_value
from rollout_sdk_fastapi.lifespan import flushing
from rollout_sdk_fastapi.middleware import RolloutMiddleware
from rollout_sdk_fastapi.router import rollout_router
from rollout_sdk_fastapi.units import cookie, header, user

__all__ = [
    "FORCE_HEADER",
    "HttpAnswer",
    "RolloutMiddleware",
    "cookie",
    "endpoint",
    "flushing",
    "force_value",
    "header",
    "request_decisions",
    "request_unit",
    "rollout_router",
    "user",
]
