"""Strategies, plugins and records as their authors and readers see them. Checked by mypy and pyright, never run."""

from collections.abc import Mapping, Sequence
from typing import Any, assert_type

from rollout_sdk import (
    ABTest,
    Canary,
    Comparison,
    Decision,
    Interleave,
    Layer,
    Phase,
    RolloutController,
    RolloutStatus,
    RoutedEvent,
    RouteRequest,
    Runtime,
    Shadow,
    hookimpl,
    record,
    rollout,
)


class Beginners:
    """A strategy."""

    name = "beginners"

    def rollout_phases(self, control: str, candidates: tuple[str, ...]) -> Sequence[Phase]:
        """One phase."""
        return [Phase("whole", dict.fromkeys(candidates, "5%"), control)]

    @hookimpl(tryfirst=True)
    def rollout_route(self, request: RouteRequest) -> Decision | None:
        """Typed throughout."""
        assert_type(request.point, float)
        assert_type(request.draw, float)
        assert_type(request.bucket, int)
        assert_type(request.has_unit, bool)
        assert_type(request.candidates, tuple[str, ...])
        assert_type(request.arguments, Mapping[str, Any])
        assert_type(request.phase.shares, Mapping[str, float])
        return request.phase.split.decide(request.point) if request.has_unit else None


class Audit:
    """An observer and comparator."""

    def rollout_decided(self, request: RouteRequest, decision: Decision) -> None:
        """Typed throughout."""
        assert_type(decision.id, str)
        assert_type(request.key, str)
        request.note("Calls come without a country. Pass one.", is_error=True)

    def rollout_routed(self, event: RoutedEvent) -> None:
        """Typed throughout."""
        assert_type(event.decision.propensity, float)
        assert_type(event.unit, str | None)
        assert_type([run.duration_s for run in event.runs], list[float])

    def rollout_compare(self, control: Any, candidate: Any) -> Comparison:
        """May leave the request out."""
        return Comparison(match=control == candidate)


@rollout(
    candidates={"v2": lambda user: 2.0, "v3": lambda user: 3.0},
    strategy=Beginners(),
    unit=lambda user: user,
    override={"u-qa": "v2", 7: "v3"},
    holdout="1%",
    layer=Layer("checkout", 0, "50%"),
    batch=None,
    passthrough=(KeyError, ValueError),
    isolate=lambda value: value,
    plugins=[Audit(), "audit"],
    runtime=Runtime(journal="journal", key="secret", plugins=[Audit()]),
)
def price(user: str) -> float: ...  # type: ignore[empty-body]


controller: RolloutController[[str], float] = price.rollout
assert_type(controller.status(), RolloutStatus)
assert_type(controller.promote(actor="ann", revision=1), RolloutStatus)
assert_type(controller.set_share("5%", "v2"), RolloutStatus)
assert_type(controller.assign("u-1"), Decision)
assert_type(controller.status().shares, Mapping[str, float])
controller.record("click", 1.0, decision_id=controller.route("u-1").decision.id, item=7)
controller.record("click", 1, unit=("acme", 7))
record("click", 1.0, decision_id="id", item="b", time_s=1.0)
record("click", 1.0, token="token")
controller.record("click", "1.0", unit="u-1")  # type: ignore[arg-type]
controller.set_share()  # type: ignore[call-arg]

Canary(["1%", 0.05, {"v2": "10%"}], shadow="5%")
Interleave(k=10, key=lambda item: item["id"], items=lambda output: output["items"], rebuild=lambda output, items: items)
Shadow(rate="10%")
ABTest({"v2": 0.1, "v3": "10%"}, shadow=0.5)
Decision("v2", shadows=["v3"])  # type: ignore[arg-type]
Phase("p", 0.5)  # type: ignore[arg-type]
