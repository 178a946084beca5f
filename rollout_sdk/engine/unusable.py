"""Why a strategy's decision cannot be carried out, for the author of the strategy."""

from __future__ import annotations

from collections.abc import Sequence

from rollout_sdk.formatting import brief
from rollout_sdk.records import Decision

__all__ = ["why_unusable"]


def why_unusable(decision: object, key: str, variants: Sequence[str], control: str) -> str:
    """What is wrong with a decision, by which rule, and the cure; names of variants only, and no data.

    Args:
        decision: What a strategy gave.
        key: Key of the rollout.
        variants: Names of its variants.
        control: Name of the control.
    """
    strategy = f"The strategy of {key!r}"
    if not isinstance(decision, Decision):
        return f"{strategy} gave {brief(decision)}. A strategy gives a Decision, or None for the control. Return one of these."
    candidates = [name for name in variants if name != control]
    for names, known, what in (
        ((decision.variant,) if not decision.blend else decision.blend, list(variants), "variants"),
        (decision.shadows, candidates, "candidates"),
    ):
        for name in names:
            if name not in known:
                return (
                    f"{strategy} named the variant {brief(name)}. The {what} are {', '.join(known)}. Name one of these, as "
                    "request.control and request.candidates have them."
                )
    if decision.blend and control not in decision.blend:
        return f"{strategy} blends without the control {control!r}, which must be among what is blended. Add it to blend."
    if not 0 < decision.propensity <= 1:
        return (
            f"{strategy} gave the propensity {brief(decision.propensity)}. It is the probability with which the variant was "
            "drawn: above 0, and 1 at most. Give that."
        )
    return f"{strategy} blends variants that write. All of them would run. Blend only with effects='read'."
