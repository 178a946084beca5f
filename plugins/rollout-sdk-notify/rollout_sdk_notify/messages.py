"""A transition as the body of a webhook: an event for programs, or a message for Slack and compatible services."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from rollout_sdk import TransitionedEvent

__all__ = ["as_event", "as_slack"]

_TYPE: Final = "rollout.transition"
_LONGEST: Final = 2_000
_LONGEST_END: Final = 600
_LONGEST_REASON: Final = 400
_LONGEST_NAME: Final = 120
_MOST_FAILURES: Final = 5
# Slack and Mattermost would notify people, or show an address behind other words.
_HARMLESS: Final = (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("@", "@\u200b"), ("](", "]\u200b("))
_VERBS: Final = {
    "start": "started",
    "promote": "promoted to its next step",
    "promote_full": "promoted to all units",
    "skip_step": "promoted, skipping a step",
    "set_share": "given another share",
    "set_plan": "given another plan",
    "pause": "paused",
    "resume": "resumed",
    "invalidate": "CHECK: the comparison cannot be trusted",
    "roll_back": "rolled back",
    "abort": "aborted",
    "restore": "restored in a store that had lost it",
}
_FINDING: Final = ("name", "kind", "candidate", "outcome", "reason", "estimate", "low", "high", "relative")


def as_event(event: TransitionedEvent) -> bytes:
    """Return the transition as JSON, in the form that Standard Webhooks recommends: `type`, `timestamp`, `data`."""
    verdict = event.evidence or {}
    data = {
        "id": event.id,
        "rollout": event.rollout,
        "strategy": event.strategy,
        "action": event.action,
        "status": event.status,
        "revision": event.revision,
        "from_phase": event.from_phase,
        "to_phase": event.to_phase,
        "shares": dict(event.shares),
        "shadow": event.shadow,
        "actor": event.actor,
        "reason": event.reason,
        "invalid": event.invalid,
        "version": event.version,
        "fingerprint": event.fingerprint,
        "verdict": {
            "outcome": verdict.get("outcome"),
            "reason": verdict.get("reason"),
            "findings": [{name: each.get(name) for name in _FINDING} for each in verdict.get("findings", ())],
        }
        if verdict
        else None,
    }
    when = datetime.fromtimestamp(event.time_s, UTC).isoformat(timespec="milliseconds")
    return _json({"type": _TYPE, "timestamp": when, "data": data})


def as_slack(event: TransitionedEvent) -> bytes:
    """Return the transition as a Slack message: what happened, why, who did it, and each check that failed."""
    done = _VERBS.get(event.action) or _escaped(event.action)
    if event.status == "promoted" and event.action in ("promote", "skip_step"):
        done = _VERBS["promote_full"]
    lines = [f"*{_escaped(event.rollout)}* {done}"]
    if event.reason:
        lines.append(_escaped(event.reason, _LONGEST_REASON))
    failures = [f"• {_escaped(line)}" for line in _failures(event.evidence or {})]
    lines += failures[:_MOST_FAILURES]
    if len(failures) > _MOST_FAILURES:
        lines.append(f"• and {len(failures) - _MOST_FAILURES} more")
    shares = ", ".join(f"{variant} {100 * share:g} %" for variant, share in event.shares.items())
    details = [
        event.to_phase,
        shares,
        f"by {event.actor}" if event.actor else "",
        f"version {event.version}" if event.version else "",
    ]
    # However long the rest is, who did it stays.
    end = " · ".join(_escaped(each) for each in details if each)[-_LONGEST_END:]
    return _json({"text": "\n".join(lines)[: _LONGEST - len(end) - 1] + "\n" + end})


def _failures(verdict: Mapping[str, Any]) -> Iterable[str]:
    for each in verdict.get("findings", ()):
        if each.get("outcome") in ("FAIL", "ERROR", "FUTILE"):
            yield f"{each['outcome']} {each.get('kind', '')} {each.get('name', '')}: {each.get('reason', '')}"


def _escaped(text: str, longest: int = _LONGEST_NAME) -> str:
    """Return a text as one line in which Slack and services like it find no mentions and no links behind other words."""
    text = "".join(each if each.isprintable() else " " for each in text)
    if len(text) > longest:
        text = text[: longest - 3] + "..."
    for each, harmless in _HARMLESS:
        text = text.replace(each, harmless)
    return text


def _json(value: object) -> bytes:
    return json.dumps(_finite(value), allow_nan=False, separators=(",", ":")).encode()


def _finite(value: Any) -> Any:
    """Replace NaN and infinity, which are not JSON, by None."""
    if isinstance(value, Mapping):
        return {str(name): _finite(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
