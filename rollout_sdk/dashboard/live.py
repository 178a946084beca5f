"""Pages of a journal and a store as they are now: both are read in the background, and a page is made when it is asked for."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Mapping
from threading import Event, Lock, Thread
from typing import Self
from urllib.parse import quote

from rollout_sdk.analysis.live import Live
from rollout_sdk.analysis.outcomes import OVER_THE_LIMIT
from rollout_sdk.analysis.report import Report, RolloutReport
from rollout_sdk.analysis.screen import ordered
from rollout_sdk.charts import Markup, element, join, text
from rollout_sdk.control.stored import StoredRollout, StoredStatus
from rollout_sdk.control.stores import StateStore
from rollout_sdk.exceptions import RolloutError
from rollout_sdk.formatting import number, plain, several
from rollout_sdk.page import rollout_page
from rollout_sdk.page.report import cards
from rollout_sdk.page.stored import alive, changes, standing
from rollout_sdk.runtime.audits import Label, Pair

__all__ = ["LivePages"]

_EVERY_S = 1.0
_MOST_PAGES = 200


class LivePages:
    """Pages of what was read last. Close it, or use it in `with`."""

    def __init__(self, folder: str | os.PathLike[str], store: StateStore | None = None, *, every_s: float = _EVERY_S) -> None:
        """Begin to read.

        Args:
            folder: Folder of the journal.
            store: Where the rollouts stand; without it, only what the journal says is shown.
            every_s: How long to wait after a reading, in seconds.

        Raises:
            ConfigurationError: There is no such folder.
        """
        self._live = Live(folder)
        self._folder = os.fspath(folder)
        self._store = store
        self._every_s = every_s
        self._report: Report | None = None
        self._stored: dict[str, StoredStatus] = {}
        self._wrong = ""
        self._percent = 0
        # Numbers begin anew with every process, and a page may be older than its process.
        self._started = secrets.token_hex(4)
        self._number = 0
        self._pages: dict[str, tuple[int, Markup | None]] = {}
        self._making = Lock()
        self._closing = Event()
        self._thread = Thread(target=self._run, name="rollout-dashboard", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    def close(self) -> None:
        """Stop reading."""
        self._closing.set()
        self._thread.join(5.0)

    def version(self) -> str:
        """Changes whenever there is something new."""
        return f"{self._started}.{self._number}"

    @property
    def labels(self) -> Mapping[Pair, Label]:
        """What people have said about pairs of answers, by the pair."""
        return self._live.labels

    def overview(self) -> Markup:
        """All rollouts, the one that needs a person on top."""
        return self._made("", self._overview) or Markup("")

    def rollout(self, key: str) -> Markup | None:
        """One rollout; None where it is known neither to the journal nor to the store."""
        return self._made(f"/{key}", lambda: self._rollout(key))

    # Reading -------------------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            try:
                changed = self._read()
            except Exception as error:  # a page that says what is wrong is better than one that stands still
                changed, self._wrong = True, plain(error, 500)
            self._number += changed
            if self._closing.wait(self._every_s):
                return

    def _read(self) -> bool:
        is_new = self._live.read(self._tell_progress if self._report is None else None) or self._report is None
        if is_new:
            self._report = self._live.report()
        wrong = ""
        stored: dict[str, StoredStatus] = {}
        if self._store is not None:
            try:
                keys = self._store.keys()
                stored = {key: StoredRollout(self._store, key).status() for key in keys}
            except RolloutError as error:
                # What was known before stays, with the reason beside it.
                stored, wrong = self._stored, plain(error, 500)
        is_other = _shown(stored) != _shown(self._stored) or wrong != self._wrong
        self._stored, self._wrong = stored, wrong
        return is_new or is_other

    def _tell_progress(self, done: int, of: int) -> None:
        """Note how much of the first reading is done; a version for each percent, so that open pages follow."""
        percent = 100 * done // max(of, 1)
        if percent != self._percent:
            self._percent = percent
            self._number += 1

    # Pages ---------------------------------------------------------------------------------------------------------------

    def _made(self, name: str, make: Callable[[], Markup | None]) -> Markup | None:
        """A page, made once for each version, however many browsers ask for it."""
        with self._making:
            version, page = self._pages.get(name, (-1, None))
            if version != self._number:
                version = self._number
                page = make()
                if len(self._pages) >= _MOST_PAGES:
                    self._pages.clear()
                self._pages[name] = version, page
            return page

    def _notes(self) -> list[Markup]:
        notes = []
        if self._report is None:
            notes.append(
                element(
                    "p", text(f"The journal is being read: {self._percent} %. The page fills when that is done."), role="status"
                )
            )
        if self._wrong:
            notes.append(element("p", element("span", text("CHECK "), class_="word bad"), text(self._wrong), role="alert"))
        if self._report is not None and self._report.lost:
            notes.append(element("p", text(f"{number(self._report.lost)} facts are lost: rollout doctor says why.")))
        if self._report is not None and (beyond := self._report.skipped.get(OVER_THE_LIMIT)):
            said = f"There are more rollouts than can be shown: {several(beyond, 'line')} of others are left out."
            notes.append(element("p", text(said)))
        return notes

    def _overview(self) -> Markup:
        report = self._report
        known = [] if report is None else ordered(report)
        others = [status for key, status in self._stored.items() if key not in {each.rollout for each in known}]
        parts = [element("h1", text(several(len(known) + len(others), "rollout"))), *self._notes()]
        if known:
            parts.append(cards(known, [_address(each.rollout) for each in known]))
        if others:
            parts.append(element("h2", text("In the store, without calls in this journal")))
            parts.append(element("ul", *(_stored_card(each) for each in others), class_="cards"))
        if not known and not others and report is not None:
            parts.append(
                element("p", text(f"Nothing was written to {self._folder} yet. Processes write within a second of a call."))
            )
        return join(parts)

    def _rollout(self, key: str) -> Markup | None:
        sets = [] if self._report is None else [each for each in ordered(self._report) if each.rollout == key]
        stored = self._stored.get(key)
        if not sets and stored is None:
            return None
        parts = self._notes()
        parts += [rollout_page(each) for each in _current_first(sets)[:1]]
        if not sets:
            parts.append(element("h1", text(key)))
            parts.append(element("p", text("The journal has no call of it.")))
        if stored is not None:
            parts += [standing(stored, is_live=True), self._changes(key)]
        former = _current_first(sets)[1:]
        if former:
            pages = (rollout_page(each, level=2) for each in former)
            parts.append(
                element("details", element("summary", text(several(len(former), "former version"))), *pages, data_name="former")
            )
        return join(parts)

    def _changes(self, key: str) -> Markup:
        """The history in the store, which is read when a page is made: every change is another version."""
        if self._store is None:
            return Markup("")
        try:
            return changes(StoredRollout(self._store, key).history())
        except RolloutError as error:
            return element("p", text(plain(error, 500)))


def _current_first(sets: list[RolloutReport]) -> list[RolloutReport]:
    return sorted(sets, key=lambda each: each.status == "replaced")


def _address(key: str) -> str:
    return f"/rollout/{quote(key, safe='')}"


def _shown(stored: Mapping[str, StoredStatus]) -> list[tuple[object, ...]]:
    """What a page shows of the store: the time of the look does not belong to it."""
    return [
        (key, each.revision, each.status, len(each.processes), len(each.behind), each.invalid, each.notes)
        for key, each in stored.items()
    ]


def _stored_card(status: StoredStatus) -> Markup:
    return element(
        "li",
        element("div", element("a", text(status.key), href=_address(status.key)), text(status.status), class_="headline"),
        element("p", text(alive(status)), class_="muted"),
    )
