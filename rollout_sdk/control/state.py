"""The state of a rollout and its transitions: pure functions from one frozen state to the next.

    shadowing --promote--> running --promote--> running (next step) --promote--> promoted (the candidate serves all units)
    shadowing or running <--pause / resume--> paused
    shadowing, running or paused --promote_full--> promoted
    shadowing, running or paused --set_share--> the same status, with other shares
    any but aborted --abort--> aborted (the control serves all units; final)
    shadowing, running or paused --roll_back--> rolled_back (the same, by the judge)
    shadowing, running or paused --invalidate--> the same status; no step is taken until resume(clear_invalid=True)

Every change of shares, and an abort, starts a new phase with a new number, even if the shares were used before: evidence of
different periods is not pooled. So does clearing an alarm. All other transitions stay in their phase. The lanes of a phase are
derived from those of the previous one, so that no unit moves from one candidate to another before one of them serves all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from attrs import evolve, field, frozen

from rollout_sdk.assignment import Phase, Share, last_step_within, parse_share
from rollout_sdk.control.preconditions import must_be, must_be_valid, must_have_steps, one_candidate
from rollout_sdk.exceptions import StateError

__all__ = ["RolloutState", "Status", "start"]

Status = Literal["shadowing", "running", "paused", "promoted", "rolled_back", "aborted"]

_GOING: tuple[Status, ...] = ("shadowing", "running")
_STOPPED: tuple[Status, ...] = ("rolled_back", "aborted")


@frozen
class RolloutState:
    """The state of a rollout.

    Attributes:
        key: Key of the rollout, for errors.
        plan: The planned phases, in order.
        phase: The current phase, numbered: "0:1%".
        step: Index of the planned phase last entered or passed; -1 before the first.
        status: Determines which transitions are possible.
        revision: Number of transitions so far.
        change_id: Id of the last transition, as in the store's history; empty before the first one is stored.
        number: Number of the current phase.
        ramps: Whether the strategy has steps.
        version: Version of the candidates, as given to the decorator.
        fingerprint: Identifies comparable calls; includes the version. Empty in states stored by early SDKs.
        code: Digest of the candidates' code that the rollout was begun with. Empty if a version says what they are, and in
            states stored by early SDKs.
        epoch: Number of the evidence; each fingerprint has its own.
        since: Number of the fingerprint's first phase: outcomes of earlier decisions do not count.
        entered_s: When the current phase began, in seconds since 1970.
        resumed_s: When the rollout was last resumed after a pause; the step's waiting time starts again.
        dropped: Candidates that were rolled back while others went on.
        superseded: Versions replaced by later ones; they never come back.
        replaced: Fingerprints replaced by later ones; they never come back either.
        invalid: Why the judge does not trust the comparison; latched until a person clears it. Empty if it is valid.
        valid_from: Number of the phase that began when a person last cleared the alarm: realised shares are checked from there.
        paused_by: Labels of the checks for which the judge paused the rollout; it resumes by itself once they recover. Empty
            for all other pauses, which a person ends.
        futile: Gates for which the judge paused the rollout as futile. It pauses once for each: resuming is a decision.
        stopped: Whether no candidate may run any more.
    """

    key: str
    plan: tuple[Phase, ...]
    phase: Phase
    step: int = 0
    status: Status = "running"
    revision: int = 0
    change_id: str = ""
    number: int = 0
    ramps: bool = True
    version: str = ""
    fingerprint: str = ""
    code: str = ""
    epoch: int = 0
    since: int = 0
    entered_s: float = 0.0
    resumed_s: float = 0.0
    dropped: tuple[str, ...] = ()
    superseded: tuple[str, ...] = ()
    replaced: tuple[str, ...] = ()
    invalid: str = ""
    valid_from: int = 0
    paused_by: tuple[str, ...] = ()
    futile: tuple[str, ...] = ()
    stopped: bool = field(init=False, eq=False)

    def __attrs_post_init__(self) -> None:
        """Compute once what every call reads."""
        object.__setattr__(self, "stopped", self.status in _STOPPED)
        if self.status != "paused":
            object.__setattr__(self, "paused_by", ())

    @property
    def candidates(self) -> tuple[str, ...]:
        """The candidates that have not been rolled back."""
        return tuple(name for name in self.phase.shares if name not in self.dropped)

    @property
    def versions(self) -> int:
        """How many sets of arms the rollout has had; each starts without evidence and with its own alpha."""
        # States stored by early SDKs have versions only.
        return 1 + max(len(self.superseded), len(self.replaced))

    @property
    def is_open(self) -> bool:
        """Whether a verdict can still change anything."""
        return self.status in (*_GOING, "paused")

    @property
    def is_last(self) -> bool:
        """Whether the next step is the promotion."""
        return self.step + 1 >= len(self.plan)

    @property
    def is_planned(self) -> bool:
        """Whether the current shares are those of a planned step."""
        return 0 <= self.step < len(self.plan) and self.plan[self.step].without(self.dropped).shares == self.phase.shares

    def promote(self, candidate: str | None = None) -> RolloutState:
        """Enter the next step; after the last, the candidate serves all units.

        Raises:
            StateError: The rollout is not running, is invalid, has no steps, or the candidate is unknown or ambiguous.
        """
        self._must_move("promote", *_GOING)
        if candidate is not None:
            one_candidate(self, candidate)
        return self._enter_step(self.step + 1) if not self.is_last else self._promoted(candidate)

    def promote_full(self, candidate: str | None = None) -> RolloutState:
        """Have the candidate serve all units now.

        Raises:
            StateError: The rollout is over, is invalid, has no steps, or the candidate is unknown or ambiguous.
        """
        self._must_move("promote", *_GOING, "paused")
        return self._promoted(candidate)

    def skip_step(self) -> RolloutState:
        """Enter the step after the next.

        Raises:
            StateError: The rollout is not running, is invalid, has no steps, or there is no step after the next.
        """
        self._must_move("skip a step of", *_GOING)
        if self.step + 2 >= len(self.plan):
            raise StateError(
                f"Cannot skip a step of {self.key!r}: no step after {self.phase.name} can be left out. "
                "Only a step that has one after it can be skipped. To give all units the candidate, use promote_full()."
            )
        return self._enter_step(self.step + 2)

    def set_share(self, share: Share, candidate: str | None = None) -> RolloutState:
        """Change one candidate's share, outside the plan; a later promote goes to the next planned step above it.

        Setting the current share changes nothing. A smaller share is always possible.

        Raises:
            StateError: The rollout is over, has no steps, the candidate is ambiguous, or the share grows while the rollout is
                invalid.
            ConfigurationError: The share is invalid, or the shares exceed 100 %.
        """
        must_be(self, *_GOING, "paused", action="set the share of")
        must_have_steps(self, "set the share of")
        return self.set_shares({one_candidate(self, candidate): share})

    def set_shares(self, shares: Mapping[str, Share]) -> RolloutState:
        """Other shares for some candidates, in one step and outside the plan; the others keep theirs. See `set_share`.

        Raises:
            StateError: As for `set_share`.
            ConfigurationError: As for `set_share`.
        """
        must_be(self, *_GOING, "paused", action="set the share of")
        must_have_steps(self, "set the share of")
        values = {one_candidate(self, name): parse_share(share, f"share of {name!r}") for name, share in shares.items()}
        if all(value == self.phase.shares[name] for name, value in values.items()):
            return self
        if any(value > self.phase.shares[name] for name, value in values.items()):
            must_be_valid(self, "raise the share of")
        after = evolve(self._entered(self.phase.with_shares(values)), step=last_step_within(self.plan, values))
        return after if after.status != "shadowing" else evolve(after, status="running")

    def pause(self, *, by: Sequence[str] = (), futile: Sequence[str] = ()) -> RolloutState:
        """Keep the shares and refuse promote until resume; a rollback is still possible.

        When a person pauses a rollout that the judge has paused for a failing check, the pause no longer ends by itself.

        Args:
            by: Labels of the checks that caused the pause, if it ends by itself once they recover.
            futile: Gates that caused the pause because they cannot be expected to pass.

        Raises:
            StateError: The rollout is over, or paused already.
        """
        if not self.paused_by or by:
            must_be(self, *_GOING, action="pause")
        asked = (*self.futile, *(gate for gate in futile if gate not in self.futile))
        return evolve(self, status="paused", paused_by=tuple(by), futile=asked, revision=self.revision + 1)

    def resume(self, *, clear_invalid: bool = False) -> RolloutState:
        """End a pause; with `clear_invalid`, also clear the judge's alarm, paused or not, in a new phase.

        Without it, a rollout that is paused and invalid is resumed but stays invalid.

        Raises:
            StateError: The rollout is not paused; or, with `clear_invalid`, not invalid.
        """
        if not clear_invalid:
            must_be(self, "paused", action="resume")
            return evolve(self, status=_going(self.phase), revision=self.revision + 1)
        must_be(self, *_GOING, "paused", action="clear the alarm of")
        if not self.invalid:
            raise StateError(
                f"Cannot clear the alarm of {self.key!r}: it is not invalid. clear_invalid=True says that you know why the "
                "judge had called it invalid. Call resume() without it to end a pause."
            )
        # In a new phase, because users that were lost return as new ones, all of them in one arm.
        begun = self._entered(evolve(self.phase, name=self.phase.name.partition(":")[2]), anew=True)
        return evolve(begun, status=_going(self.phase), invalid="", valid_from=begun.number)

    def invalidate(self, reason: str) -> RolloutState:
        """Mark the comparison as untrustworthy: no step is taken until a person clears it. Repeating it changes nothing.

        Raises:
            StateError: The rollout is over.
        """
        must_be(self, *_GOING, "paused", action="invalidate")
        return self if self.invalid else evolve(self, invalid=reason or "invalid", revision=self.revision + 1)

    def abort(self) -> RolloutState:
        """Give all units the control; final. Aborting twice changes nothing."""
        return self if self.status == "aborted" else self._stop("aborted")

    def roll_back(self, candidate: str | None = None) -> RolloutState:
        """Remove a failed candidate; without any left, all units get the control, which is final.

        Raises:
            StateError: The rollout is over, or the candidate is unknown.
        """
        must_be(self, *_GOING, "paused", action="roll back")
        name = one_candidate(self, candidate)
        if set(self.candidates) == {name}:
            return self._stop("rolled_back")
        return evolve(self._entered(self.phase.without((name,))), dropped=(*self.dropped, name))

    def begun_again(self, other: RolloutState) -> RolloutState:
        """Return the state of this rollout after it was decorated again with other settings, those of `other`.

        It starts again in a phase with a new number, because the evidence so far is about other settings. An abort and the
        rollback of a candidate remain, unless they belong to another version.
        """
        same = other.version == self.version
        fresh = evolve(
            other,
            number=self.number,
            since=self.number + 1,
            revision=self.revision,
            epoch=self.epoch + 1,
            superseded=self.superseded if same else (*self.superseded, self.version),
            replaced=self.replaced if self.fingerprint in ("", other.fingerprint) else (*self.replaced, self.fingerprint),
        )
        if self.status == "aborted" and same:
            return fresh.abort()
        failed = tuple(self.phase.shares) if self.status == "rolled_back" else self.dropped
        dropped = tuple(name for name in other.phase.shares if same and name in failed)
        if dropped and set(dropped) == set(other.phase.shares):
            return fresh._stop("rolled_back")  # noqa: SLF001 - its own class
        first = other.plan[0].without(dropped)
        # Derived from the current lanes: a candidate that stays keeps its units.
        begun = evolve(fresh, phase=self.phase)._entered(first, anew=True)  # noqa: SLF001 - its own class
        return evolve(begun, step=0, status=_going(first), dropped=dropped)

    def _must_move(self, action: str, *allowed: Status) -> None:
        must_be(self, *allowed, action=action)
        must_have_steps(self, action)
        must_be_valid(self, action)

    def _stop(self, status: Status) -> RolloutState:
        return evolve(self._entered(self.phase.control_only(), anew=True), status=status)

    def _promoted(self, candidate: str | None) -> RolloutState:
        return evolve(self._entered(self.phase.candidate_only(one_candidate(self, candidate))), status="promoted")

    def _enter_step(self, step: int) -> RolloutState:
        phase = self.plan[step]
        return evolve(self._entered(phase.without(self.dropped)), step=step, status=_going(phase))

    def _entered(self, phase: Phase, *, anew: bool = False) -> RolloutState:
        """Return the state in a phase with these shares: the current one if they are equal, unless it must be a new one."""
        if (phase.shares, phase.shadow) == (self.phase.shares, self.phase.shadow) and not anew:
            return evolve(self, revision=self.revision + 1)
        number = self.number + 1
        entered = phase.after(self.phase, f"{number}:{phase.name}", self.fingerprint)
        return evolve(self, phase=entered, number=number, revision=self.revision + 1)


def _going(phase: Phase) -> Literal["shadowing", "running"]:
    return "shadowing" if phase.is_shadow else "running"


def start(
    key: str,
    plan: Sequence[Phase],
    *,
    ramps: bool,
    version: str = "",
    fingerprint: str = "",
    code: str = "",
    now_s: float = 0.0,
) -> RolloutState:
    """Return the first state of a rollout."""
    return RolloutState(
        key,
        tuple(plan),
        evolve(plan[0], name=f"0:{plan[0].name}", fingerprint=fingerprint),
        status=_going(plan[0]),
        ramps=ramps,
        version=version,
        fingerprint=fingerprint,
        code=code,
        entered_s=now_s,
    )
