"""The state of a rollout and its transitions: pure functions from one frozen state to the next.

    shadowing --promote--> running --promote--> running (next step) --promote--> promoted (everybody has the candidate)
    shadowing or running <--pause / resume--> paused
    shadowing, running or paused --promote_full--> promoted
    shadowing, running or paused --set_share--> the same, with other shares
    any but aborted --abort--> aborted (everybody has the control; latched)
    shadowing, running or paused --roll_back--> rolled_back (the same, by the judge)
    shadowing, running or paused --invalidate--> the same, and no step is taken until resume(clear_invalid=True)

Every change of shares, and an abort, starts a new phase with a new number, also when the shares were used before: what was
measured last week is another week's evidence. So does clearing an alarm. Any other transition stays in its phase. The lanes of
a phase are made of those of the phase before it, so that no unit goes from one candidate to another before one has everybody.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from attrs import evolve, field, frozen

from rollout_sdk.assignment import Phase, Share, parse_share
from rollout_sdk.control.phase_changes import candidate_only, control_only, going, step_within, with_shares, without
from rollout_sdk.control.preconditions import must_be, must_be_valid, must_have_steps, one_candidate
from rollout_sdk.exceptions import StateError

__all__ = ["RolloutState", "Status", "start"]

Status = Literal["shadowing", "running", "paused", "promoted", "rolled_back", "aborted"]

_GOING: tuple[Status, ...] = ("shadowing", "running")
_STOPPED: tuple[Status, ...] = ("rolled_back", "aborted")


@frozen
class RolloutState:
    """Where a rollout stands.

    Attributes:
        key: Key of the rollout, for errors.
        plan: The planned phases, in order.
        phase: The current phase, numbered: "0:1%".
        step: Index of the planned phase last entered or passed; -1 before the first.
        status: What may happen next.
        revision: Number of transitions so far.
        change_id: Id of the last of them, as the store's history has it; empty before the first one is stored.
        number: Number of the current phase.
        ramps: Whether the strategy has steps at all.
        version: Version of the candidates, as it was said when decorating.
        fingerprint: What makes its calls comparable, the version among it; empty in what an earlier SDK has stored.
        epoch: Number of the evidence: that of another fingerprint is another's.
        since: Number of the fingerprint's first phase: outcomes of decisions before it are about other calls.
        entered_s: When the current phase began, in seconds since 1970.
        resumed_s: When somebody last let it go on after a pause: from then on, a step has its time to wait once more.
        dropped: Candidates that were rolled back while others went on.
        superseded: Versions that a later one has replaced; they never come back.
        replaced: Fingerprints that a later one has replaced; nor do these.
        invalid: Why the comparison cannot be trusted, by the judge's alarm; latched until a person clears it. Empty: it can.
        valid_from: Number of the phase that began when a person last cleared the alarm: the realised shares are checked from
            there on.
        paused_by: Labels of the checks that the judge has paused it for, and for which it goes on by itself when they have
            recovered. Empty for every other pause, which a person ends.
        futile: Gates that the judge has paused it for as futile. It pauses once for each: to resume is a decision.
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
        """Looked at by every call: known at once."""
        object.__setattr__(self, "stopped", self.status in _STOPPED)
        if self.status != "paused":
            object.__setattr__(self, "paused_by", ())

    @property
    def candidates(self) -> tuple[str, ...]:
        """The candidates that are still in."""
        return tuple(name for name in self.phase.shares if name not in self.dropped)

    @property
    def versions(self) -> int:
        """How many sets of arms the rollout has had: each begins with no evidence, and with an alpha of its own."""
        # What an earlier SDK has stored knows versions only.
        return 1 + max(len(self.superseded), len(self.replaced))

    @property
    def is_open(self) -> bool:
        """Whether a verdict can still change anything."""
        return self.status in (*_GOING, "paused")

    @property
    def is_last(self) -> bool:
        """Whether everybody gets the candidate next."""
        return self.step + 1 >= len(self.plan)

    @property
    def is_planned(self) -> bool:
        """Whether the shares are a planned step's."""
        return 0 <= self.step < len(self.plan) and without(self.plan[self.step], self.dropped).shares == self.phase.shares

    def promote(self, candidate: str | None = None) -> RolloutState:
        """The next step, or after the last one everybody.

        Raises:
            StateError: The rollout is not running, is invalid, has no steps, there is no such candidate, or several could be
                meant.
        """
        must_be(self, *_GOING, action="promote")
        must_have_steps(self, "promote")
        must_be_valid(self, "promote")
        if candidate is not None:
            one_candidate(self, candidate)
        return self._gone(self.step + 1) if not self.is_last else self._everybody(candidate)

    def promote_full(self, candidate: str | None = None) -> RolloutState:
        """Everybody, now.

        Raises:
            StateError: It is over, is invalid, has no steps, there is no such candidate, or several could be meant.
        """
        must_be(self, *_GOING, "paused", action="promote")
        must_have_steps(self, "promote")
        must_be_valid(self, "promote")
        return self._everybody(candidate)

    def skip_step(self) -> RolloutState:
        """The step after the next: the next one is left out.

        Raises:
            StateError: It is not running, is invalid, has no steps, or there is no step after the next.
        """
        must_be(self, *_GOING, action="skip a step of")
        must_have_steps(self, "skip a step of")
        must_be_valid(self, "skip a step of")
        if self.step + 2 >= len(self.plan):
            raise StateError(
                f"Cannot skip a step of {self.key!r}: after {self.phase.name} comes no step that could be left out. "
                "Only a step that has one after it can be skipped. To give everybody the candidate, use promote_full()."
            )
        return self._gone(self.step + 2)

    def set_share(self, share: Share, candidate: str | None = None) -> RolloutState:
        """Another share for one candidate, outside the plan; a later promote goes to the next planned step above it.

        The share that it has already changes nothing. A smaller share is always possible.

        Raises:
            StateError: The rollout is over, has no steps, several candidates could be meant, or the share is a greater one and
                the rollout is invalid.
            ConfigurationError: The share is none, or the shares exceed 100 %.
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
        after = evolve(self._entered(with_shares(self.phase, values)), step=step_within(self.plan, values))
        return after if after.status != "shadowing" else evolve(after, status="running")

    def pause(self, *, by: Sequence[str] = (), futile: Sequence[str] = ()) -> RolloutState:
        """Shares stay as they are, and promote is refused until resume; a rollback is not.

        A person who pauses what the judge has paused for a failing check takes the pause over: it no longer ends by itself.

        Args:
            by: Labels of the checks that it is paused for, when it goes on by itself after they have recovered.
            futile: Gates that it is paused for because they cannot be expected to pass.

        Raises:
            StateError: It is over, or paused already.
        """
        if not self.paused_by or by:
            must_be(self, *_GOING, action="pause")
        asked = (*self.futile, *(gate for gate in futile if gate not in self.futile))
        return evolve(self, status="paused", paused_by=tuple(by), futile=asked, revision=self.revision + 1)

    def resume(self, *, clear_invalid: bool = False) -> RolloutState:
        """Going on, after a pause; with `clear_invalid`, also after the judge's alarm, paused or not, in a new phase.

        Without it, a rollout that is paused and invalid is no longer paused and still invalid.

        Raises:
            StateError: It is not paused; or not invalid, with `clear_invalid`.
        """
        if not clear_invalid:
            must_be(self, "paused", action="resume")
            return evolve(self, status=going(self.phase), revision=self.revision + 1)
        must_be(self, *_GOING, "paused", action="clear the alarm of")
        if not self.invalid:
            raise StateError(
                f"Cannot clear the alarm of {self.key!r}: it is not invalid. clear_invalid=True says that you know why the "
                "judge had called it invalid. Call resume() without it to end a pause."
            )
        # In a phase of its own, because users that were lost come back as new ones, and all of them to one arm.
        begun = self._entered(evolve(self.phase, name=self.phase.name.partition(":")[2]), anew=True)
        return evolve(begun, status=going(self.phase), invalid="", valid_from=begun.number)

    def invalidate(self, reason: str) -> RolloutState:
        """The comparison cannot be trusted: no step is taken until a person clears it. Doing so twice changes nothing.

        Raises:
            StateError: It is over.
        """
        must_be(self, *_GOING, "paused", action="invalidate")
        return self if self.invalid else evolve(self, invalid=reason or "invalid", revision=self.revision + 1)

    def abort(self) -> RolloutState:
        """Everybody gets the control, for good. Aborting twice changes nothing."""
        return self if self.status == "aborted" else self._stop("aborted")

    def roll_back(self, candidate: str | None = None) -> RolloutState:
        """A candidate has failed: everybody gets the control, for good; or the others go on without it.

        Raises:
            StateError: It is over already, or there is no such candidate.
        """
        must_be(self, *_GOING, "paused", action="roll back")
        name = one_candidate(self, candidate)
        if set(self.candidates) == {name}:
            return self._stop("rolled_back")
        return evolve(self._entered(without(self.phase, (name,))), dropped=(*self.dropped, name))

    def begun_again(self, other: RolloutState) -> RolloutState:
        """Where a rollout stands that is described anew with other settings, as `other`: by a reloaded module, say.

        It begins again, in a phase with a new number, because the evidence so far is about something else. An abort stays, and
        so does the rollback of a candidate, unless they were another version's.
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
        first = without(other.plan[0], dropped)
        # From the lanes as they are: a candidate that stays, keeps its units.
        begun = evolve(fresh, phase=self.phase)._entered(first, anew=True)  # noqa: SLF001 - its own class
        return evolve(begun, step=0, status=going(first), dropped=dropped)

    def _stop(self, status: Status) -> RolloutState:
        return evolve(self._entered(control_only(self.phase), anew=True), status=status)

    def _everybody(self, candidate: str | None) -> RolloutState:
        return evolve(self._entered(candidate_only(self.phase, one_candidate(self, candidate))), status="promoted")

    def _gone(self, step: int) -> RolloutState:
        phase = self.plan[step]
        return evolve(self._entered(without(phase, self.dropped)), step=step, status=going(phase))

    def _entered(self, phase: Phase, *, anew: bool = False) -> RolloutState:
        """In a phase of these shares; in the current one, unless they are other shares or it shall be `anew`."""
        if (phase.shares, phase.shadow) == (self.phase.shares, self.phase.shadow) and not anew:
            return evolve(self, revision=self.revision + 1)
        number = self.number + 1
        entered = phase.after(self.phase, f"{number}:{phase.name}", self.fingerprint)
        return evolve(self, phase=entered, number=number, revision=self.revision + 1)


def start(
    key: str, plan: Sequence[Phase], *, ramps: bool, version: str = "", fingerprint: str = "", now_s: float = 0.0
) -> RolloutState:
    """The state of a rollout that begins."""
    first = plan[0]
    return RolloutState(
        key,
        tuple(plan),
        evolve(first, name=f"0:{first.name}", fingerprint=fingerprint),
        status=going(first),
        ramps=ramps,
        version=version,
        fingerprint=fingerprint,
        entered_s=now_s,
    )
