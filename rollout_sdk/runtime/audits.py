"""Audits: pairs of answers that were drawn for people to compare, and what people say about them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, TypeAlias

from attrs import evolve, frozen

from rollout_sdk.concurrency.clocks import time
from rollout_sdk.journal import KeptPair, read_pairs
from rollout_sdk.journal.pairs import AUDITS, MAX_AGE_S, by_budget, control_is_first
from rollout_sdk.plan import JUDGE_PREFERENCE
from rollout_sdk.recording import outcomes
from rollout_sdk.runtime import Runtime

__all__ = ["CHOICES", "Label", "Pair", "label", "label_in", "waiting_pairs"]

CHOICES: Mapping[str, float] = {"a": 1.0, "b": -1.0, "tie": 0.0}
"""What a person may say: which answer is better, and by how much the first then is."""


Pair: TypeAlias = tuple[str, str]
"""A pair of answers: id of the decision, and name of the candidate."""


@frozen
class Label:
    """What people have compared.

    Attributes:
        id: Id of the decision.
        candidate: Name of the candidate, whose answer was compared with the control's.
        rollout: Key of the rollout.
        fingerprint: Fingerprint of the decision.
        decided_s: Time of the decision, in seconds since 1970.
    """

    id: str
    candidate: str
    rollout: str
    fingerprint: str
    decided_s: float

    @property
    def pair(self) -> Pair:
        """The pair that it is about."""
        return self.id, self.candidate


def label_in(record: Mapping[str, Any]) -> Label | None:
    """Return the label that a line of the journal is; None if it is something else."""
    if record["event"] != "outcome" or record.get("metric") != JUDGE_PREFERENCE or record.get("source") != "human":
        return None
    return Label(
        id=str(record.get("id")),
        candidate=str(record.get("variant")),
        rollout=str(record["rollout"]),
        fingerprint=str(record.get("fingerprint")),
        decided_s=float(record.get("decided") or 0.0),
    )


def waiting_pairs(journal: str | os.PathLike[str], rollout: str, *, labels: Mapping[Pair, Label]) -> list[KeptPair]:
    """Return the pairs of a rollout that people are to compare: drawn for them, without a label, and within the budget.

    The budget of a period is `most` of `Disagreements`, less the labels that its decisions have already. So people are asked
    for no more than that, however many processes have kept pairs, and although later pairs replace those with a label.

    Args:
        journal: Folder of the journal.
        rollout: Key of the rollout.
        labels: What people have said already, by the pair.

    Raises:
        OSError: The pairs cannot be read.
    """
    since_s = time() - MAX_AGE_S
    given = [each for each in labels.values() if each.rollout == rollout and each.decided_s >= since_s]
    found: list[KeptPair] = []
    for budget, period, pairs in by_budget(read_pairs(journal, rollout, folder=AUDITS)):
        spent = sum(evolve(budget, fingerprint=each.fingerprint).period_of(each.decided_s) == period for each in given)
        found += [pair for pair in pairs if (pair.id, pair.candidate) not in labels][: max(0, budget.most - spent)]
    return found


def label(runtime: Runtime, rollout: str, pair: KeptPair, choice: str) -> Label:
    """Record which answer of a pair a person prefers; return the label.

    Args:
        runtime: With the journal, the store of the processes that judge, and the key with which ids are signed.
        rollout: Key of the rollout.
        pair: The pair.
        choice: One of `CHOICES`.

    Raises:
        OutcomeError: The id of the pair is not one of this rollout's, or its signature does not fit the key.
    """
    preferred = -CHOICES[choice] if control_is_first(pair.id) else CHOICES[choice]
    event = outcomes.by_decision(
        JUDGE_PREFERENCE,
        preferred + 0.0,
        pair.id,
        key=runtime.key,
        time_s=time(),
        rollout=rollout,
        variant=pair.candidate,
        source="human",
    )
    runtime.conclude_outcome(event)
    return Label(pair.id, pair.candidate, rollout, event.fingerprint, event.decided_s or 0.0)
