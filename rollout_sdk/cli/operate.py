"""Operating rollouts in a store: every process that serves them follows within a second or two."""

from __future__ import annotations

import getpass
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import click

from rollout_sdk.assignment import percent
from rollout_sdk.cli.output import Fault, fault, say, warn
from rollout_sdk.concurrency.clocks import time
from rollout_sdk.control.preconditions import must_be_explained
from rollout_sdk.control.state import RolloutState
from rollout_sdk.control.state_document import from_document
from rollout_sdk.control.stored_state import Change, change_stored
from rollout_sdk.control.stores import StateStore
from rollout_sdk.control.stores.opening import store_at
from rollout_sdk.exceptions import RolloutError, StateError
from rollout_sdk.formatting import number, plain, when
from rollout_sdk.judging import Verdict
from rollout_sdk.plan import as_duration

__all__ = ["COMMANDS"]

_LONGEST_S = 1e12
"""A time beyond it is damage, and not a time."""

_in_store = click.option(
    "--store",
    "address",
    envvar="ROLLOUT_STORE",
    required=True,
    show_envvar=True,
    help="Address of the store: sqlite:///rollouts.db.",
)
_as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@contextmanager
def _opened(address: str) -> Iterator[StateStore]:
    try:
        store = store_at(address)
        try:
            yield store
        finally:
            store.close()
    except RolloutError as error:
        raise fault(error) from None


def _state(store: StateStore, name: str) -> RolloutState:
    stored = store.load(name)
    if stored is None:
        raise StateError(f"The store knows no rollout {name!r}. It knows: {', '.join(store.keys()) or 'none'}.")
    return from_document(stored.document)


def _verdict(store: StateStore, name: str) -> Verdict | None:
    """The last verdict; None where there is none, and, which is printed, where it cannot be read."""
    text = store.noted(name, "verdict")
    if text is None:
        return None
    try:
        verdict = Verdict.from_dict(json.loads(text))
        # Its fields may be anything: they are readable when they can be written out.
        json.dumps(verdict.as_dict(), allow_nan=False), str(verdict), when(verdict.time_s)
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        warn(
            f"The last verdict about {name!r} cannot be read ({type(error).__name__}). It is damaged; the next one replaces it."
        )
        return None
    return verdict


def _as_table(state: RolloutState, verdict: Verdict | None) -> dict[str, Any]:
    return {
        "rollout": state.key,
        "status": state.status,
        "version": state.version,
        "fingerprint": state.fingerprint,
        "versions": state.versions,
        "revision": state.revision,
        "phase": state.phase.name,
        "shares": state.phase.all_shares,
        "entered_s": state.entered_s,
        "plan": [phase.name for phase in state.plan],
        "dropped": list(state.dropped),
        "invalid": state.invalid,
        "paused_by": list(state.paused_by),
        "verdict": None if verdict is None else verdict.as_dict(),
    }


def _as_text(state: RolloutState, verdict: Verdict | None) -> str:
    shares = "  ".join(f"{plain(name)} {percent(share)}" for name, share in state.phase.all_shares.items())
    since_s = time() - state.entered_s
    since = as_duration(max(0.0, since_s)) if since_s < _LONGEST_S else "an unknown time"
    lines = [
        f"{plain(state.key)}: {state.status}, phase {plain(state.phase.name)} for {since}, revision {number(state.revision)}"
        + (f", version {plain(state.version)}" if state.version else "")
        + (f", fingerprint {plain(state.fingerprint)}" if state.fingerprint else "")
        + (f" (number {state.versions} of this rollout)" if state.versions > 1 else ""),
        f"  {shares}",
        "  plan: "
        + " ".join(f"[{plain(at.name)}]" if step == state.step else plain(at.name) for step, at in enumerate(state.plan)),
    ]
    if state.invalid:
        cure = f"no step is taken until: rollout resume {plain(state.key)} --clear-invalid --reason ..."
        lines.append(f"  INVALID, {cure}\n  {plain(state.invalid, 2_000)}")
    if state.paused_by:
        lines.append(f"  paused until it has recovered: {', '.join(map(plain, state.paused_by))}")
    if verdict is not None:
        lines.append(f"  {_moment(verdict.time_s)}")
        lines.extend(f"  {line}" for line in str(verdict).splitlines())
    return "\n".join(lines)


def _moment(time_s: float) -> str:
    return when(time_s).replace(" UTC", "Z")


@click.command()
@click.argument("name", required=False)
@_in_store
@_as_json
def status(name: str | None, address: str, as_json: bool) -> None:
    """Say how rollout NAME stands, with its last verdict; all of the store's without a name."""
    with _opened(address) as store:
        found = [(_state(store, key), _verdict(store, key)) for key in ([name] if name else store.keys())]
    if as_json:
        tables = [_as_table(*each) for each in found]
        say(json.dumps(tables[0] if name else tables, indent=2))
    else:
        say("\n\n".join(_as_text(*each) for each in found) or "The store has no rollout.")


@click.command()
@click.argument("name")
@_in_store
@_as_json
def history(name: str, address: str, as_json: bool) -> None:
    """List every change of rollout NAME: when, what, who, why."""
    with _opened(address) as store:
        _state(store, name)
        records = store.history(name)
    if as_json:
        say(json.dumps(records, indent=2))
        return
    damaged = 0
    for record in records:
        try:
            say(_as_line(record))
        except (ArithmeticError, LookupError, TypeError, ValueError):
            damaged += 1
    if damaged:
        raise Fault(
            f"{damaged} of {len(records)} records of {name!r} cannot be read and are left out above. "
            "They are damaged, or of another version of rollout_sdk. Look at them with --json."
        )


def _as_line(record: Mapping[str, Any]) -> str:
    """A change in one line, whatever stands in its fields."""
    by = f"  by {plain(record['actor'])}" if record["actor"] else ""
    why = f": {plain(record['reason'], 2_000)}" if record["reason"] else ""
    what = f"{record['revision']:>4}  {plain(record['action']):<12}  {plain(record['status']):<11}  {plain(record['phase'])}"
    return f"{_moment(record['time_s'])}  {what}{by}{why}"


def _changing(
    action: str, change: Callable[[Mapping[str, Any]], Change], help_: str, *options: Any, urgent: bool = False
) -> click.Command:
    """A command that changes a rollout; an urgent one asks for no reason."""

    def run(name: str, address: str, actor: str, reason: str, revision: int | None, as_json: bool, **said: Any) -> None:
        with _opened(address) as store:
            if said.get("clear_invalid"):
                must_be_explained(name, actor, reason)
            before, after = change_stored(
                store,
                name,
                action,
                change(said),
                now_s=time(),
                actor=actor,
                reason=reason,
                revision=revision,
            )
        if as_json:
            say(json.dumps(_as_table(after, None), indent=2))
        elif after is before:
            say(f"{plain(name)}: nothing to change, it is {after.status} in phase {plain(after.phase.name)}.")
        else:
            was, is_now = f"{before.status} {plain(before.phase.name)}", f"{after.status} {plain(after.phase.name)}"
            say(f"{plain(name)}: {was} -> {is_now}, revision {after.revision}")

    run.__doc__ = help_
    why = {"default": ""} if urgent else {"required": True}
    command: Any = run
    # The last is the first on the command line.
    for decorate in (
        _as_json,
        click.option("--revision", type=int, help="The revision you looked at: refused when somebody was faster."),
        click.option("--reason", help="Why, for the history.", **why),
        click.option("--actor", default=getpass.getuser, show_default="you", help="Who does it, for the history."),
        _in_store,
        *options,
        click.argument("name"),
    ):
        command = decorate(command)
    return click.command(action.replace("_", "-").replace("skip-step", "skip"))(command)


_candidate = click.option("--candidate", help="Which candidate, where there are several.")

COMMANDS = (
    status,
    history,
    _changing(
        "promote",
        lambda said: lambda state: state.promote(said["candidate"]),
        "Go to the next step of rollout NAME.",
        _candidate,
    ),
    _changing(
        "promote_full",
        lambda said: lambda state: state.promote_full(said["candidate"]),
        "Give everybody the candidate now.",
        _candidate,
    ),
    _changing("pause", lambda _: RolloutState.pause, "Stay in the step: only a rollback goes on.", urgent=True),
    _changing(
        "resume",
        lambda said: lambda state: state.resume(clear_invalid=said["clear_invalid"]),
        "Go on after a pause.",
        click.option(
            "--clear-invalid",
            is_flag=True,
            help="Also clear the judge's alarm: you know why the shares were not the configured ones, and it is over.",
        ),
    ),
    _changing("abort", lambda _: RolloutState.abort, "Give everybody the control, for good.", urgent=True),
    _changing(
        "set_share",
        lambda said: lambda state: state.set_share(said["share"], said["candidate"]),
        "Give a candidate another SHARE, outside the plan.",
        click.argument("share"),
        _candidate,
    ),
    _changing("skip_step", lambda _: RolloutState.skip_step, "Leave the next step out."),
)
