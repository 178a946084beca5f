"""The worlds."""

from __future__ import annotations

from attrs import evolve

from rollout_sdk import Gate, Guardrail, Step
from worlds.traffic import Outcome, World

__all__ = ["FAMILIES", "WORLDS", "world_named"]

# Harm from nothing on: the sharpest hypothesis that the same model on both sides can violate. No floor: it speaks of a
# candidate alone, and is true of one that fails twice as often as a control that hardly fails.
_ERRORS = Guardrail("error_rate", harm=0.0, floor=0.0)
_LATENCY = Guardrail("latency", threshold_s=0.5, margin=0.02, harm=0.0)
_RATING = Guardrail("rating", margin=0.1, harm=0.0, per="outcome")
_LIKED = Gate("liked", mde=0.03, before="promotion")
_USUAL = {
    "guardrails": (_ERRORS, _LATENCY, _RATING),
    "gates": (_LIKED,),
    "outcomes": {"rating": Outcome(kind="normal"), "liked": Outcome()},
}


def _ramp(number: int, last: float = 0.5) -> tuple[float, ...]:
    """So many even steps."""
    return tuple(last * (step + 1) / number for step in range(number))


def _usual() -> list[World]:
    return [
        World(name="iid", **_USUAL),
        World(name="users, heavy-tailed", users=5000, spread=1.0, **_USUAL),
        World(name="few returning users", users=400, spread=0.7, **_USUAL),
        World(name="rare errors at 5 %", steps=(0.05,), error_rate=0.005, calls=1000, **_USUAL),
        World(name="ramp, drifting base", steps=(0.05, 0.2, 0.5), drift=4.0, **_USUAL),
        World(name="sticky ramp, clusters", steps=(0.05, 0.2, 0.5), users=5000, spread=1.0, drift=2.0, **_USUAL),
        World(name="Zipf users", steps=(0.05, 0.2, 0.5), users=5000, zipf=1.0, **_USUAL),
        World(name="by the judge, 1-5-25-50", steps=(0.01, 0.05, 0.25, 0.5), by_judge=True, calls=2000, users=50000, **_USUAL),
        World(
            name="by the judge, defaults",
            steps=(0.05, 0.25, 0.5),
            by_judge=True,
            calls=1000,
            users=20000,
            guardrails=(Guardrail("error_rate", floor=0.0),),
            checks=("same", "margin", "harm"),
        ),
    ]


def _rare() -> list[World]:
    return [
        World(
            name=f"rare metric {base:.1%} at {share:.0%}",
            steps=(share,),
            calls=calls,
            guardrails=(
                Guardrail("click", margin=base / 2, harm=0.0),
                Guardrail("complaint", margin=base, harm=0.0, better="lower"),
            ),
            gates=(Gate("buy", mde=base / 2),),
            outcomes={name: Outcome(base=base) for name in ("click", "complaint", "buy")},
        )
        for share, calls in ((0.01, 4000), (0.05, 2000), (0.5, 500))
        for base in (0.005, 0.02, 0.1)
    ]


def _tails() -> list[World]:
    worlds = []
    for kind, shape in (("pareto", 1.5), ("pareto", 2.0), ("pareto", 2.5), ("lognormal", 1.5)):
        for share, calls in ((0.01, 3000), (0.05, 2000), (0.5, 1000)):
            outcome = Outcome(kind=kind, base=0.05, shape=shape)
            worlds.append(
                World(
                    name=f"{kind} {shape:g} at {share:.0%}",
                    steps=(share,),
                    calls=calls,
                    guardrails=(Guardrail("revenue", margin=0.2 * outcome.mean, harm=0.0),),
                    gates=(Gate("spend", mde=0.2 * outcome.mean),),
                    outcomes={"revenue": outcome, "spend": outcome},
                )
            )
    return worlds


def _failing() -> list[World]:
    return [
        World(
            name=f"20 always fail, {number} steps",
            steps=_ramp(number),
            users=3000,
            calls=600,
            failing=20,
            error_rate=0.001,
            guardrails=(_ERRORS, _LATENCY),
        )
        for number in (4, 6, 10, 21)
    ]


def _bots() -> list[World]:
    worlds = [
        World(
            name=f"bot {part:.0%} {({'1': 'clicks', '0': 'never clicks'}).get(does, does)}",
            users=2000,
            calls=500,
            bot=part,
            bot_does=does,
            guardrails=(_ERRORS, _LATENCY, Guardrail("click", margin=0.02, harm=0.0)),
            gates=(Gate("buy", mde=0.02),),
            outcomes={"click": Outcome(base=0.3), "buy": Outcome(base=0.3)},
            checks=("same", "margin") if does in ("0", "1") else ("same",),
        )
        for part in (0.2, 0.4, 0.9)
        for does in ("1", "0", "fails", "slow")
    ]
    return [*worlds, *(evolve(each, name=f"{each.name}, capped", max_calls=20) for each in worlds if each.bot == 0.9)]


def _outages() -> list[World]:
    worlds = []
    for part in (1.0, 0.6):
        for share in (0.05, 0.5):
            world = World(
                name=f"outage {part:.0%} at {share:.0%}",
                steps=(share, min(0.5, 5 * share)) if share < 0.5 else (0.5,),
                by_judge=True,
                calls=1000,
                users=20000,
                error_rate=0.005,
                outage=(5, 12, part),
                guardrails=(Guardrail("error_rate", harm=0.0, floor=0.0),),
            )
            worlds.append(world)
    return [
        *worlds,
        World(
            name="noisy: 45 % fail",
            calls=80,
            error_rate=0.45,
            guardrails=(_ERRORS,),
        ),
        World(
            name="noisy: 45 % slow",
            calls=80,
            slow_rate=0.45,
            guardrails=(_LATENCY,),
        ),
        # A day of a service whose ordinary minutes lie near the ceiling: which are left out must not depend on one arm alone.
        World(
            name="slow near the ceiling, for hours",
            look_s=600.0,
            calls=800,
            slow_rate=0.45,
            guardrails=(Guardrail("latency", threshold_s=0.5),),
            checks=("same", "harm"),
        ),
        World(
            name="noisy: 40 % slow, users",
            calls=80,
            users=300,
            spread=1.0,
            slow_rate=0.4,
            guardrails=(_ERRORS, _LATENCY),
        ),
    ]


def _others() -> list[World]:
    four = (
        _ERRORS,
        _LATENCY,
        Guardrail("click", margin=0.03, harm=0.0),
        Guardrail("rating", margin=0.1, harm=0.0, per="outcome"),
    )
    labels = {"click": Outcome(base=0.2, delay_s=(10.0, 15.0)), "buy": Outcome(base=0.2, delay_s=(10.0, 15.0))}
    return [
        World(
            name="shadow, drops at peak",
            steps=(Step(0, shadow=0.5, min_time=0), Step(0.05, min_time=0), Step(0.5, min_time=0)),
            by_judge=True,
            calls=1000,
            users=20000,
            peak=0.48,
            guardrails=(_ERRORS, _LATENCY),
        ),
        World(
            name="shadow, no drops",
            steps=(Step(0, shadow=0.5, min_time=0), Step(0.05, min_time=0), Step(0.5, min_time=0)),
            by_judge=True,
            calls=1000,
            users=20000,
            guardrails=(_ERRORS, _LATENCY),
        ),
        World(
            name="labels later in one arm",
            guardrails=(Guardrail("click", margin=0.05, harm=0.0, window=120.0),),
            gates=(Gate("buy", mde=0.03, window=120.0),),
            outcomes=labels,
        ),
        World(
            name="labels later, rating",
            guardrails=(Guardrail("rating", margin=0.1, harm=0.0, per="outcome", window=120.0),),
            outcomes={"rating": Outcome(kind="normal", delay_s=(10.0, 15.0))},
        ),
        World(
            name="3 candidates x 4 guardrails",
            steps=tuple(dict.fromkeys(("v2", "v3", "v4"), share) for share in (0.05, 0.1, 0.2)),
            candidates=("v2", "v3", "v4"),
            calls=800,
            users=5000,
            spread=0.5,
            guardrails=four,
            gates=(_LIKED,),
            outcomes={"click": Outcome(), "rating": Outcome(kind="normal"), "liked": Outcome()},
        ),
        World(
            name="mean latency",
            steps=(0.05, 0.5),
            users=5000,
            spread=0.7,
            guardrails=(Guardrail("latency_mean", harm=0.0),),
        ),
        *(
            World(
                name=f"incidents at {share:.0%}",
                steps=(share,),
                calls=calls,
                error_rate=0.001,
                incidents=incidents,
                guardrails=(_ERRORS,),
            )
            for share, calls, incidents in ((0.01, 3000, 2.0), (0.05, 2000, 2.0))
        ),
    ]


FAMILIES: dict[str, list[World]] = {
    "usual": _usual(),
    "rare": _rare(),
    "tails": _tails(),
    "failing": _failing(),
    "bots": _bots(),
    "outages": _outages(),
    "others": _others(),
}
"""The worlds by what they are about."""

WORLDS = tuple(world for family in FAMILIES.values() for world in family)


def world_named(name: str) -> World:
    """The world of this name."""
    return next(world for world in WORLDS if world.name == name)
