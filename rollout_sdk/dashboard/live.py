"""Pages of a journal and a store as they are now: both are read in the background, and a page is made when it is asked for."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Collection, Mapping
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
        # When the page of a rollout changed last, and when those of all did.
        self._numbers: dict[str, int] = {}
        self._all_at = 0
        self._pages: dict[str | None, tuple[int, Markup | None]] = {}
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

    def version(self, key: str | None = None) -> str:
        """Changes whenever there is something new on the page of a rollout; None: in the list."""
        return f"{self._started}.{self._number_of(key)}"

    def _number_of(self, key: str | None) -> int:
        return self._number if key is None else max(self._all_at, self._numbers.get(key, 0))

    @property
    def labels(self) -> Mapping[Pair, Label]:
        """What people have said about pairs of answers, by the pair."""
        return self._live.labels

    def overview(self) -> Markup:
        """All rollouts, the one that needs a person on top."""
        return self._made(None, self._overview) or Markup("")

    def rollout(self, key: str) -> Markup | None:
        """One rollout; None where it is known neither to the journal nor to the store, once both are read."""
        return self._made(key, lambda: self._rollout(key))

    def ready(self, key: str | None) -> tuple[Markup | None] | None:
        """Return the page of a rollout, or the list, if it can be had without waiting; None if it has not been made yet."""
        number, page = self._pages.get(key, (-1, None))
        return (page,) if number == self._number_of(key) else None

    # Reading -------------------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            try:
                changed = self._read()
            except Exception as error:  # a page that says what is wrong is better than one that stands still
                changed, self._wrong = None, plain(error, 500)
            self._announce(changed)
            if self._closing.wait(self._every_s):
                return

    def _announce(self, changed: Collection[str] | None) -> None:
        """Give the pages of some rollouts another version, and the list; None: all pages."""
        if changed is None:
            self._all_at = self._number + 1
        else:
            self._numbers.update(dict.fromkeys(changed, self._number + 1))
        self._number += changed is None or len(changed) > 0

    def _read(self) -> Collection[str] | None:
        """Read what is new; returns the rollouts of which something is new, and None if all pages show something new."""
        before, notes = self._report, self._notes()
        if self._live.read(self._tell_progress if before is None else None) or before is None:
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
        changed = {key for key, _ in _shown(stored).items() ^ _shown(self._stored).items()}
        self._stored, self._wrong = stored, wrong
        if before is None or self._notes() != notes:
            return None
        return changed | _changed(before, self._report)

    def _tell_progress(self, done: int, of: int) -> None:
        """Note how much of the first reading is done; a version for each percent, so that open pages follow."""
        percent = 100 * done // max(of, 1)
        if percent != self._percent:
            self._percent = percent
            self._announce(None)

    # Pages ---------------------------------------------------------------------------------------------------------------

    def _made(self, key: str | None, make: Callable[[], Markup | None]) -> Markup | None:
        """A page, made once for each version, however many browsers ask for it."""
        with self._making:
            number = self._number_of(key)
            known, page = self._pages.get(key, (-1, None))
            if known != number:
                page = make()
                if len(self._pages) >= _MOST_PAGES:
                    self._pages.clear()
                self._pages[key] = number, page
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
            # Before the journal is read, nothing is known of any rollout.
            return None if self._report is not None else join([element("h1", text(key)), *self._notes()])
        parts = self._notes()
        parts += [rollout_page(each, has_place=True) for each in _current_first(sets)[:1]]
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


def _shown(stored: Mapping[str, StoredStatus]) -> dict[str, str]:
    """What the page of each rollout shows of the store: the time of the look does not belong to it."""
    return {
        key: repr((each.revision, each.status, len(each.processes), len(each.behind), each.invalid, each.notes))
        for key, each in stored.items()
    }


def _changed(before: Report | None, after: Report | None) -> set[str]:
    """The rollouts of which a report says something else than the one before."""
    known = set() if before is None else set(map(id, before.rollouts))
    return set() if after is None else {each.rollout for each in after.rollouts if id(each) not in known}


def _stored_card(status: StoredStatus) -> Markup:
    return element(
        "li",
        element("div", element("a", text(status.key), href=_address(status.key)), text(status.status), class_="headline"),
        element("p", text(alive(status)), class_="muted"),
    )
