"""Kept pairs of answers, for who gave the token: those that differ are shown, and those drawn for people compared."""

from __future__ import annotations

import os
from collections.abc import Mapping
from threading import Lock
from urllib.parse import quote

from rollout_sdk.charts import Markup, element, join, text
from rollout_sdk.control.stores import StateStore
from rollout_sdk.dashboard.sessions import Session
from rollout_sdk.exceptions import ConfigurationError, ConflictError, JournalError
from rollout_sdk.formatting import several
from rollout_sdk.journal import KeptPair, read_pairs
from rollout_sdk.page.pairs import disagreements, pair_block
from rollout_sdk.records.sampling import lot_of
from rollout_sdk.runtime import Runtime
from rollout_sdk.runtime.audits import CHOICES, Label, Pair, label, waiting_pairs

__all__ = ["Answers", "subject"]

_LONGEST = 16_000
_WORDS: dict[str, str] = {"a": "a is better", "b": "b is better", "tie": "I cannot tell"}


class Answers:
    """The pairs of a journal's folder. They are payloads, in files of one user, and are shown only in a session."""

    def __init__(
        self, folder: str | os.PathLike[str], store: StateStore, *, labels: Mapping[Pair, Label], key: str | None = None
    ) -> None:
        """Read and write nothing yet.

        Args:
            folder: Folder of the journal, which labels are written to.
            store: Where the processes that judge find them.
            labels: What people have said already, by the pair, as far as the journal was read.
            key: The key with which ids are signed.
        """
        self._folder, self._store, self._key = folder, store, key
        self._labels = labels
        self._mine: dict[Pair, Label] = {}
        self._runtime: Runtime | None = None
        # One label at a time, so that no pair gets two.
        self._labelling = Lock()

    def close(self) -> None:
        """Write the labels that are still to be written."""
        if self._runtime is not None:
            self._runtime.close()

    def waiting(self, rollout: str, actor: str) -> list[KeptPair]:
        """The pairs that wait for people, in an order of chance that is this person's own.

        In such an order, any number of them is a fair sample; and two people at work label different pairs.

        Raises:
            JournalError: They cannot be read.
        """
        try:
            pairs = waiting_pairs(self._folder, rollout, labels={**self._labels, **self._mine})
        except OSError as error:
            raise JournalError(f"The pairs of {rollout!r} cannot be read: {error.strerror}.") from None
        return sorted(pairs, key=lambda pair: lot_of(f"{pair.id} {actor}", "audited"))

    def block(self, rollout: str, actor: str) -> Markup:
        """What the page of a rollout shows of its pairs.

        Raises:
            JournalError: They cannot be read.
        """
        number = len(self.waiting(rollout, actor))
        try:
            shown = disagreements(read_pairs(self._folder, rollout))
        except OSError as error:
            raise JournalError(f"The pairs of {rollout!r} cannot be read: {error.strerror}.") from None
        if not number:
            return shown
        link = element("a", text("Say which answer is better"), href=f"/audit/{quote(rollout, safe='')}")
        asks = element("p", text(f"{several(number, 'pair')} drawn for people: "), link)
        return join([shown, element("section", element("h2", text("Compare answers")), asks, class_="block")])

    def page(self, rollout: str, session: Session) -> Markup:
        """The next pair, blind, and a form for what is said about it.

        Raises:
            JournalError: The pairs cannot be read.
        """
        pairs = self.waiting(rollout, session.actor)
        back = element("p", element("a", text("Back to the rollout"), href=f"/rollout/{quote(rollout, safe='')}"))
        if not pairs:
            none = text("No pair waits for people.")
            return join([element("h1", text(f"Compare answers of {rollout}")), element("p", none), back])
        pair = pairs[0]
        ticket = session.hand_out(subject(rollout, pair.id, pair.candidate))
        hidden = {"key": rollout, "id": pair.id, "candidate": pair.candidate, "ticket": ticket}
        return join(
            [
                element("h1", text(f"Compare answers of {rollout}")),
                element(
                    "p",
                    text(f"{several(len(pairs), 'pair')} left, in random order. Answer each, and say so if you cannot tell."),
                    class_="muted",
                ),
                pair_block(pair, longest=_LONGEST, level=2),
                element(
                    "form",
                    *(element("input", type="hidden", name=name, value=value) for name, value in hidden.items()),
                    element(
                        "div",
                        *(element("button", text(word), name="better", value=choice) for choice, word in _WORDS.items()),
                        class_="choose",
                    ),
                    method="post",
                    action="/audit",
                ),
                back,
            ]
        )

    def label(self, rollout: str, decision: str, candidate: str, choice: str) -> None:
        """Record what a person said about a pair.

        Raises:
            ConfigurationError: The form says nothing that can be said, or there is no such pair.
            ConflictError: The pair has a label already.
            OutcomeError: The id is not signed with this dashboard's key.
        """
        if choice not in CHOICES:
            raise ConfigurationError("This form says neither a, b nor tie. Nothing was recorded. Load the page again.")
        with self._labelling:
            about = decision, candidate
            if about in self._mine or about in self._labels:
                raise ConflictError("This pair has a label already. Nothing was recorded.")
            pair = next((each for each in self.waiting(rollout, "") if (each.id, each.candidate) == about), None)
            if pair is None:
                raise ConfigurationError("This pair is not kept any more. Nothing was recorded.")
            if self._runtime is None:
                self._runtime = Runtime(journal=self._folder, store=self._store, key=self._key, durability="call")
            self._mine[about] = label(self._runtime, rollout, pair, choice)


def subject(rollout: str, decision: str, candidate: str) -> str:
    """What the ticket of a pair's form is good for."""
    return f"{decision} of {candidate} of {rollout}"
