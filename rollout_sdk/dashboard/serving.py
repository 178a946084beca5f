"""Serving the dashboard until it is stopped."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Collection
from contextlib import ExitStack
from pathlib import Path

import uvicorn

from rollout_sdk.control.stores import StateStore
from rollout_sdk.dashboard.answers import Answers
from rollout_sdk.dashboard.app import LOCAL_HOSTS, application
from rollout_sdk.dashboard.live import LivePages
from rollout_sdk.exceptions import ConfigurationError

__all__ = ["TOKEN_VARIABLE", "serve", "token_from"]

TOKEN_VARIABLE = "ROLLOUT_DASHBOARD_TOKEN"  # noqa: S105 # the name of a variable
_PRIVATE = 0o077


def token_from(path: str | None) -> tuple[str, bool]:
    """The token that operators must know, and whether it was made up.

    Args:
        path: A file that only its owner can read; None: the variable ROLLOUT_DASHBOARD_TOKEN, or a new one.

    Raises:
        ConfigurationError: The file cannot be read, or others can read it.
    """
    if path is None:
        given = os.environ.get(TOKEN_VARIABLE, "")
        return (given, False) if given else (secrets.token_urlsafe(24), True)
    try:
        mode, found = Path(path).stat().st_mode, Path(path).read_text("utf-8").strip()
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"The file of the token, {path!r}, cannot be read: {error}. Fix it, or leave --token-file out."
        ) from None
    if os.name == "posix" and mode & _PRIVATE:
        raise ConfigurationError(f"Others can read the file of the token, {path!r}. Run: chmod 600 {path}")
    return found, False


def serve(
    folder: str,
    *,
    store: StateStore | None = None,
    token: str | None = None,
    host: str = "127.0.0.1",
    port: int = 8765,
    hosts: Collection[str] = (),
    started: Callable[[str], None] | None = None,
) -> None:
    """Serve the dashboard until it is interrupted.

    Args:
        folder: Folder of the journal.
        store: Where the rollouts stand; None: only the journal is shown.
        token: Anyone with it may operate; None: read-only.
        host: The address to listen on.
        port: The port; 0: any that is free.
        hosts: Further hosts that it answers for, beside `host` and this machine.
        started: Called with the address of the page, when it can be opened.

    Raises:
        ConfigurationError: There is no such folder, or the port is taken.
    """
    with ExitStack() as stack:
        pages = stack.enter_context(LivePages(folder, store))
        answers = None
        if token is not None and store is not None:
            answers = Answers(folder, store, labels=pages.labels, key=os.environ.get("ROLLOUT_KEY") or None)
            stack.callback(answers.close)
        app = application(pages, store=store, token=token, hosts={*LOCAL_HOSTS, host, *hosts}, answers=answers)
        # No access log: it would record who looks at what, and pages ask every few seconds.
        server = uvicorn.Server(
            uvicorn.Config(app, host=host, port=port, log_level="warning", access_log=False, timeout_graceful_shutdown=1)
        )
        try:
            listening = server.config.bind_socket()
        except SystemExit:
            raise ConfigurationError(f"Nothing can listen on {host}:{port}. Another --port may be free.") from None
        try:
            # A browser that is opened by the address below waits then, and is not refused.
            listening.listen()
            if started is not None:
                at, number = listening.getsockname()[:2]
                started(f"http://{f'[{at}]' if ':' in at else at}:{number}/")
            server.run([listening])
        finally:
            listening.close()
