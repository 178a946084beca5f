"""The observer: sends every transition to one address."""

from __future__ import annotations

import atexit
import uuid
import weakref
from collections.abc import Collection
from functools import partial
from hashlib import blake2b
from typing import Any, Final, Literal, get_args
from urllib.parse import urlsplit
from urllib.request import Request

from rollout_sdk import ConfigurationError, TransitionedEvent
from rollout_sdk.control.stores import StateStore
from rollout_sdk.extending import renew_after_fork, store_at
from rollout_sdk_notify.messages import as_event, as_slack
from rollout_sdk_notify.sending import Sender, Unsent, unix_time
from rollout_sdk_notify.signing import as_secret, signature

__all__ = ["Form", "Webhook"]

Form = Literal["event", "slack"]

_BODIES: Final = {"event": as_event, "slack": as_slack}
_EXIT_DEADLINE_S: Final = 2.0


class Webhook:
    """Sends every transition to an address: `Runtime(plugins=[Webhook("https://...", secret="whsec_...")])`.

    Requests are made in a daemon thread, in order; calls and other observers do not wait for them. An attempt that fails in the
    network, or with 408, 425, 429 or 5xx, is repeated after 1, 2, 4 ... s, or after `Retry-After`, at most 60 s. Redirects are
    not followed. When the process ends, waiting messages get two more seconds.

    Every process that follows a rollout learns of its transitions. With `store=`, one of them sends each (see the README).

    The request has the headers `webhook-id` (the transition's id, the same in all processes and attempts), `webhook-timestamp`
    and, with a secret, `webhook-signature`, according to Standard Webhooks 1.0.
    """

    name = "notify"

    def __init__(
        self,
        url: str,
        *,
        form: Form = "event",
        secret: str | None = None,
        actions: Collection[str] | None = None,
        store: StateStore | str | None = None,
        timeout_s: float = 5.0,
        attempts: int = 6,
        pause_s: float = 1.0,
        most_waiting: int = 1_000,
    ) -> None:
        """Create a webhook.

        Args:
            url: Address of the receiver; it is never logged.
            form: "event" (JSON for programs), or "slack" (`{"text": ...}`, which Slack, Mattermost and others accept).
            secret: The signing secret, "whsec_..."; None: requests are not signed.
            actions: Actions to report, such as {"roll_back", "abort"}; None: all.
            store: The store of the rollouts, or its address: one of the processes that share it sends each transition.
            timeout_s: Seconds that an attempt may wait for the receiver.
            attempts: Maximum of attempts for a message, including the first.
            pause_s: Seconds before the second attempt.
            most_waiting: Maximum of waiting messages; further ones are dropped, counted and logged.

        Raises:
            ConfigurationError: An argument cannot be used.
        """
        _check(url, form, timeout_s=timeout_s, attempts=attempts, pause_s=pause_s, most_waiting=most_waiting)
        self._url, self._body = url, _BODIES[form]
        self._secret = None if secret is None else as_secret(secret)
        self._actions = None if actions is None else frozenset(actions)
        self._store = store_at(store) if isinstance(store, str) else store
        self._sender = Sender(timeout_s=timeout_s, attempts=attempts, pause_s=pause_s, most_waiting=most_waiting)
        self.renew()
        renew_after_fork(self)
        atexit.register(_at_exit, weakref.ref(self))

    def __repr__(self) -> str:
        """Show only the host: the rest of an address may be a secret."""
        return f"<Webhook to {urlsplit(self._url).hostname}>"

    def renew(self) -> None:
        """Become another claimant in a forked child."""
        self._claimant = f"notify-{uuid.uuid4().hex}"

    @property
    def counts(self) -> dict[str, int]:
        """Numbers of messages in this process: sent, failed (given up), dropped (queue full or closed), waiting."""
        sender = self._sender
        return {"sent": sender.sent, "failed": sender.failed, "dropped": sender.dropped, "waiting": sender.waiting}

    def rollout_transitioned(self, event: TransitionedEvent) -> None:
        """Queue the message; returns at once."""
        if self._actions is not None and event.action not in self._actions:
            return
        id_ = event.id or uuid.uuid4().hex
        wanted = partial(self._is_ours, event) if self._store is not None and event.id else _always
        self._sender.put(Unsent(event.rollout, wanted, partial(self._request, id_, self._body(event))))

    def flush(self, timeout_s: float = 5.0) -> bool:
        """Wait until no messages are waiting; return False after the time-out."""
        return self._sender.flush(timeout_s)

    def close(self, timeout_s: float = _EXIT_DEADLINE_S) -> bool:
        """Send the waiting messages within `timeout_s`, and nothing afterwards; return False after the time-out."""
        return self._sender.close(timeout_s)

    def _is_ours(self, event: TransitionedEvent) -> bool:
        """Claim the transition for this address. If the store fails, it counts as claimed: twice is better than never."""
        assert self._store is not None
        try:
            stored = self._store.load(event.rollout)
            if stored is None:
                return True
            # A webhook with another address has its own claims.
            name = f"notify {event.id} {blake2b(self._url.encode(), digest_size=8).hexdigest()}"
            return name in self._store.claim(event.rollout, stored.document["epoch"], self._claimant, [name])
        except Exception:
            return True

    def _request(self, id_: str, body: bytes) -> Request:
        now = unix_time()
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "rollout-sdk-notify",
            "webhook-id": id_,
            "webhook-timestamp": str(now),
        }
        if self._secret is not None:
            headers["webhook-signature"] = signature(self._secret, id_, now, body)
        return Request(self._url, data=body, headers=headers, method="POST")  # noqa: S310 - http(s), as checked


def _always() -> bool:
    return True


def _is_address(url: object) -> bool:
    if not isinstance(url, str) or not url.isascii() or not url.isprintable() or " " in url:
        return False
    try:
        parts = urlsplit(url)
        # Reading the port validates it.
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0 and parts.username is None
    except ValueError:
        return False


def _check(url: object, form: object, **numbers: Any) -> None:
    if not _is_address(url):
        raise ConfigurationError(
            "The address of a Webhook cannot be used (it is not shown, because it may be a secret). It starts with https:// or "
            "http://, and has a host, no login, and neither spaces nor letters beyond ASCII. Write Webhook('https://...')."
        )
    if form not in get_args(Form):
        raise ConfigurationError(f"form={form!r:.60} of Webhook is unknown. It is 'event' or 'slack'. Write one of them.")
    for name, value in numbers.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
            raise ConfigurationError(f"{name}={value!r:.60} of Webhook is not a positive number. Give one.")
        if name in ("attempts", "most_waiting") and not isinstance(value, int):
            raise ConfigurationError(f"{name}={value!r:.60} of Webhook is a number of things. Give a whole one.")


def _at_exit(reference: weakref.ref[Webhook]) -> None:
    webhook = reference()
    if webhook is not None:
        webhook.close()
