"""Hands both answers of a shadowed call to the judge, and records what it says."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from rollout_sdk.engine.judges.lane import JUDGE, Judged, Pair, is_candidate_first, is_sampled
from rollout_sdk.engine.judges.sizes import bytes_of
from rollout_sdk.judging.preferences import JUDGE_FAILED, is_drawn_for_people
from rollout_sdk.plan import JUDGE_PREFERENCE
from rollout_sdk.records import Decision, RecordedEvent
from rollout_sdk.records.sampling import is_drawn
from rollout_sdk.resilience.interruptions import is_fault

if TYPE_CHECKING:
    from rollout_sdk.assignment import RouteRequest
    from rollout_sdk.engine.call import Call
    from rollout_sdk.engine.rollout import Rollout
    from rollout_sdk.engine.shadows.counterpart import Counterpart
    from rollout_sdk.engine.steps import Result

__all__ = ["Finished", "hand_to_judge"]


class Finished(Protocol):
    """A shadow run at its end.

    Attributes:
        rollout: The rollout.
        variant: The variant that ran.
        counterpart: The control's answer to the same call.
        size: Bytes of the copied arguments and of the copied control's answer.
    """

    rollout: Rollout
    variant: str
    counterpart: Counterpart
    size: int

    @property
    def call(self) -> Call:
        """The call that it shadows."""
        ...

    @property
    def request(self) -> RouteRequest:
        """The request, with the copied arguments."""
        ...


def hand_to_judge(run: Finished, result: Result) -> None:
    """Have a judge compare a candidate's answer with the control's, if the pair is in its sample, and people, if it is drawn.

    Never raises.

    Args:
        run: The shadow run, at its end.
        result: Its answer.
    """
    rollout, call = run.rollout, run.call
    lane, pair = rollout.judge, run.counterpart
    if (lane is None and rollout.audited is None) or run.variant == rollout.control:
        return
    if not pair.is_comparable or call.is_excluded:
        return
    try:
        id_, decision = call.decision_id, call.full_decision()
        # Under overload, calls that are not drawn leave no record, and so no evidence.
        if not is_drawn(id_, call.rate) or (lane is not None and not is_sampled(id_, lane.judge.sample)):
            return
        if rollout.audited is not None and is_drawn_for_people(id_, rollout.audit):
            about = {
                "t": decision.time_s,
                "variant": run.variant,
                "fingerprint": decision.fingerprint,
                "reason": None,
                "difference": None,
            }
            rollout.audited.offer((pair.value, result.value), run.request.arguments, about, id_)
        if lane is not None:
            done = partial(_record, rollout, decision, call.rate, run.variant, lane.judge.name)
            size = _size(run, result, lane.judge.max_bytes)
            lane.submit(Pair(id_, run.request, pair.value, result.value, size, done))
    except BaseException as error:
        if not is_fault(error):
            raise
        rollout.failed(JUDGE, error)


def _size(run: Finished, result: Result, most: int) -> int:
    """Return the bytes of a pair's arguments and answers; more than `most` if they are unknown."""
    answers: tuple[Any, ...] = (result.value,)
    if run.rollout.isolate in ("none", "deepcopy"):
        # Only a snapshot has counted the control's answer. Arguments that are shared are not the judge's to hold.
        answers = (run.counterpart.value, result.value)
    return run.size + bytes_of(answers, most)


def _record(rollout: Rollout, decision: Decision, rate: float, candidate: str, name: str, judged: Judged) -> None:
    details: dict[str, Any] = {"judge": name, "duration_s": round(judged.duration_s, 6), "tries": judged.tries}
    if judged.preference is None:
        details |= {"end": judged.end, "error": judged.error}
    else:
        details["first"] = candidate if is_candidate_first(decision.id) else rollout.control
    if judged.cost is not None:
        details["cost"] = judged.cost
    rollout.record(
        RecordedEvent(
            rollout=rollout.key,
            metric=JUDGE_FAILED if judged.preference is None else JUDGE_PREFERENCE,
            value=1.0 if judged.preference is None else judged.preference,
            time_s=rollout.time_ns() / 1e9,
            decision_id=decision.id,
            phase=decision.phase,
            variant=candidate,
            bucket=decision.bucket,
            decided_s=decision.time_s,
            fingerprint=decision.fingerprint,
            rate=rate,
            call_rate=rate,
            shadow=True,
            source="judge",
            details=details,
            measured=True,
        )
    )
