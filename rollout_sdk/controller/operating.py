"""Operations of a rollout: changes by a person or the control file, and its status."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from rollout_sdk.assignment import Share
from rollout_sdk.concurrency.threads import missing_threads
from rollout_sdk.control.control_file import WantedRollout, followed
from rollout_sdk.control.preconditions import must_be_explained
from rollout_sdk.control.state import RolloutState
from rollout_sdk.control.stored_status import is_about
from rollout_sdk.control.transitions import Transitions
from rollout_sdk.controller.status import RolloutStatus
from rollout_sdk.engine.first_present import FirstPresent
from rollout_sdk.engine.stopping import wait_for_starts
from rollout_sdk.exceptions import ConfigurationError, StateError
from rollout_sdk.formatting import brief
from rollout_sdk.judging import Verdict
from rollout_sdk.records import TransitionAction
from rollout_sdk.strategies.canary import planned_phases

if TYPE_CHECKING:
    from rollout_sdk.engine.rollout import Rollout
    from rollout_sdk.engine.routing import Router
    from rollout_sdk.runtime import Runtime

__all__ = ["Operated"]

_CONTROL_FILE = "control file"
_LONGEST_WAIT_S = 1.0


class Operated:
    """The operator's interface of a rollout."""

    _router: Router
    _rollout: Rollout
    _runtime: Runtime

    @property
    def key(self) -> str:
        """Name of the rollout."""
        return self._rollout.key

    @property
    def runtime(self) -> Runtime:
        """The runtime that it shares with other rollouts."""
        return self._runtime

    @property
    def strategy_name(self) -> str:
        """Name of the strategy, as in the records."""
        return self._rollout.strategy_name

    def promote(
        self, candidate: str | None = None, *, actor: str = "", reason: str = "", revision: int | None = None
    ) -> RolloutStatus:
        """Go to the next step; after the last, the candidate serves everybody.

        Refused while the rollout is invalid, because realised shares that differ from the configured ones cast doubt on all
        numbers in favour of the candidate: clear the alarm first, `resume(clear_invalid=True)`. The same applies to
        `promote_full`, `skip_step` and a greater share.

        Args:
            candidate: The candidate that serves everybody, if there are several.
            actor: Name of the operator, for the journal.
            reason: Reason, for the journal.
            revision: The revision that you looked at; refused if another change came first.

        Raises:
            StateError: It is not running, is invalid, or has no steps.
            ConflictError: The revision is not the current one.
        """
        return self._change("promote", lambda state: state.promote(candidate), actor, reason, revision)

    def promote_full(
        self, candidate: str | None = None, *, actor: str = "", reason: str = "", revision: int | None = None
    ) -> RolloutStatus:
        """Have the candidate serve everybody now, skipping all further steps. Refused while the rollout is invalid."""
        return self._change("promote_full", lambda state: state.promote_full(candidate), actor, reason, revision)

    def skip_step(self, *, actor: str = "", reason: str = "", revision: int | None = None) -> RolloutStatus:
        """Skip the next step: from 1 % to 25 % in a plan of 1, 5 and 25 %. Refused while the rollout is invalid."""
        return self._change("skip_step", RolloutState.skip_step, actor, reason, revision)

    def set_share(
        self,
        share: Share,
        candidate: str | None = None,
        *,
        actor: str = "",
        reason: str = "",
        revision: int | None = None,
    ) -> RolloutStatus:
        """Change a candidate's share, outside the plan; the next promote goes to the first step above it.

        While the rollout is invalid, only a smaller share is allowed.
        """
        return self._change("set_share", lambda state: state.set_share(share, candidate), actor, reason, revision)

    def set_shares(
        self, shares: Mapping[str, Share], *, actor: str = "", reason: str = "", revision: int | None = None
    ) -> RolloutStatus:
        """Give several candidates other shares in one transition, as `set_share` does for one; the others keep theirs.

        Evidence about the shares before is not pooled with evidence about these.
        """
        wanted = dict(shares)
        return self._change("set_share", lambda state: state.set_shares(wanted), actor, reason, revision)

    def pause(self, *, actor: str = "", reason: str = "", revision: int | None = None) -> RolloutStatus:
        """Keep the shares, and refuse promote until resume.

        If the judge has paused the rollout for a failing check, the pause no longer ends by itself.
        """
        return self._change("pause", RolloutState.pause, actor, reason, revision)

    def resume(
        self, *, clear_invalid: bool = False, actor: str = "", reason: str = "", revision: int | None = None
    ) -> RolloutStatus:
        """End a pause; with `clear_invalid`, also clear the judge's alarm that the rollout is invalid, paused or not.

        The judge marks a rollout as invalid if realised shares significantly differ from the configured ones. Better numbers
        afterwards do not clear it: a person finds the cause, clears it here, and shares are then checked on units first seen
        from now on. Without `clear_invalid`, a rollout that is paused and invalid stays invalid.

        If a check still fails, the next look pauses the rollout again.

        Args:
            clear_invalid: Confirm that the comparison can be trusted again.
            actor: Name of the operator, for the journal; required with `clear_invalid`.
            reason: Reason, for the journal; required with `clear_invalid`.
            revision: The revision that you looked at; refused if another change came first.

        Raises:
            StateError: It is not paused; with `clear_invalid`, it is not invalid.
            ConfigurationError: `clear_invalid` without an actor or a reason.
            ConflictError: The revision is not the current one.
        """
        self._check_texts("resume", actor, reason)
        if clear_invalid:
            must_be_explained(self.key, actor, reason)
        return self._change("resume", lambda state: state.resume(clear_invalid=clear_invalid), actor, reason, revision)

    def abort(self, *, actor: str = "", reason: str = "", revision: int | None = None) -> RolloutStatus:
        """Have the control serve everybody, without shadows; final.

        When it returns, no candidate starts any more, in any thread; running ones run to their end.
        """
        self._check_texts("abort", actor, reason)
        self._transitions.abort(self.key, actor=actor, reason=reason, revision=revision)
        wait_for_starts()
        return self.status()

    def disable(self, *, holder: str) -> None:
        """Run no candidate in this process until the same holder enables it; not stored, and not a transition.

        When it returns, no candidate starts any more, in any thread. A rollout may have several holders, each of which enables
        it separately.

        Args:
            holder: Name of the holder.
        """
        self._hold(holder, disabled=True)

    def enable(self, *, holder: str) -> None:
        """Remove a holder; candidates run again once there is none."""
        self._hold(holder, disabled=False)

    @property
    def is_disabled(self) -> bool:
        """Whether no candidate runs in this process now: it has a holder, is stopped, or its state is unknown."""
        return self._rollout.local_state.closed

    def _hold(self, holder: str, *, disabled: bool) -> None:
        local_state = self._rollout.local_state
        if disabled != (holder in local_state.held_by):
            with local_state.changing:
                local_state.disable(disabled=disabled, holder=holder)
            if disabled:
                wait_for_starts()

    def follow(self, *, disabled: bool, wanted: WantedRollout, version: int) -> None:
        """Do what the control file wants, once for all processes of a store: a restart does not undo later operations.

        Raises:
            StateError: It wants a transition that is not possible.
            StoreError: The store did not answer.
        """
        local_state, reason = self._rollout.local_state, f"version {version} of the control file"
        if disabled:
            self.disable(holder=_CONTROL_FILE)
        else:
            self.enable(holder=_CONTROL_FILE)
        # Stopping comes first: the rest may be refused.
        if wanted.status == "aborted":
            self.abort(actor=_CONTROL_FILE, reason=reason)
            return
        if wanted == WantedRollout():
            return
        store, wish = self._runtime.reconciler.store, followed(wanted, epoch=local_state.state.epoch, version=version)
        if wish.is_done(store, self.key):
            return
        try:
            self._obey(wanted, reason)
        except StateError:
            # A later process could not do better.
            wish.note(store, self.key)
            raise
        wish.note(store, self.key)

    def _obey(self, wanted: WantedRollout, reason: str) -> None:
        local_state = self._rollout.local_state
        state = local_state.state
        if wanted.status == "paused" and (state.status in ("shadowing", "running") or state.paused_by):
            self.pause(actor=_CONTROL_FILE, reason=reason)
        if wanted.criteria is not None:
            state = local_state.state
            plan = planned_phases(wanted.criteria, state.phase.control, tuple(state.phase.shares))
            self._transitions.replan(self.key, wanted.criteria, tuple(plan), actor=_CONTROL_FILE, reason=reason)
        now = local_state.state.phase.shares
        shares = {next(iter(now)) if name is None and len(now) == 1 else name: share for name, share in wanted.shares.items()}
        # Smaller shares first, so that their sum never exceeds 100 %.
        for name, share in sorted(shares.items(), key=lambda item: item[1] - now.get(item[0] or "", 0.0)):
            if now.get(name or "") != share:
                self.set_share(share, name, actor=_CONTROL_FILE, reason=reason)
        if wanted.status == "running" and local_state.state.status == "paused":
            self.resume(actor=_CONTROL_FILE, reason=reason)

    @property
    def _transitions(self) -> Transitions:
        return self._runtime.reconciler.transitions

    def _change(
        self,
        action: TransitionAction,
        change: Callable[[RolloutState], RolloutState],
        actor: str,
        reason: str,
        revision: int | None,
    ) -> RolloutStatus:
        self._check_texts(action, actor, reason)
        self._transitions.change(self.key, action, change, actor=actor, reason=reason, revision=revision)
        return self.status()

    def _check_texts(self, action: str, actor: object, reason: object) -> None:
        for option, text in (("actor", actor), ("reason", reason)):
            if not isinstance(text, str):
                raise ConfigurationError(
                    f"{option}={brief(text)} of {action} of {self.key!r} is not a text. It is stored in the history "
                    f"and in the journal. Write {option}='...'."
                )

    def judge(self) -> Verdict | None:
        """Judge the candidates now, on the evidence of all processes, and act on the verdict; None if nothing judges them.

        The background thread does this every few seconds; call it in tests, or if you cannot wait.

        Raises:
            StoreError: The store did not answer: nothing was judged, and nothing changed.
        """
        self._runtime.recorder.flush(_LONGEST_WAIT_S)
        return self._runtime.reconciler.judge(self.key)

    def status(self) -> RolloutStatus:
        """Return the status of the rollout in this process, after waiting briefly for the recorder."""
        self._runtime.recorder.flush(_LONGEST_WAIT_S)
        state, tally = self._rollout.state, self._runtime.tally(self.key)
        calls: dict[str, int] = {}
        excluded: dict[str, int] = {}
        for (phase, variant, reason, left_out), number in list(tally.decisions.items()):
            if phase == state.phase.name:
                calls[variant] = calls.get(variant, 0) + number
            if left_out:
                excluded[reason] = excluded.get(reason, 0) + number
        return RolloutStatus(
            key=self.key,
            strategy=self.strategy_name,
            status=state.status,
            phase=state.phase.name,
            revision=state.revision,
            shares=state.phase.all_shares,
            realised=tally.realised(state.phase.name),
            calls=calls,
            excluded=excluded,
            errors=dict(tally.errors),
            fallbacks=dict(tally.fallbacks),
            unmeasured=dict(tally.unmeasured),
            open_breakers=tuple(name for name, breaker in self._rollout.local_state.breakers.items() if breaker.is_open),
            shadows=dict(tally.shadows),
            agreement={name: (each.compared, each.matching, *each.interval()) for name, each in list(tally.agreement.items())},
            differences=tally.differences(),
            fields=tally.fields(),
            durations={name: each.quantiles() for name, each in list(tally.durations.items())},
            not_copied=dict(tally.not_copied),
            faults=self._runtime.faults_of(self.key),
            held_by=tuple(sorted(self._rollout.local_state.held_by)),
            lost=self._runtime.lost,
            invalid=state.invalid,
            paused_by=state.paused_by,
            units_from=dict(unit.seen) if isinstance(unit := self._router.unit, FirstPresent) else {},
            version=state.version,
            fingerprint=state.fingerprint,
            versions=state.versions,
            verdict=verdict if (verdict := self._runtime.reconciler.verdict(self.key)) and is_about(verdict, state) else None,
            notes=(*self._rollout.local_state.notes, *filter(None, [missing_threads()])),
        )
