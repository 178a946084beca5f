"""Audits: pairs of answers that were drawn for people to compare, and what people say about them."""

from __future__ import annotations

import os
from collections.abc import Container, Mapping
from typing import Any

from rollout_sdk.concurrency.clocks import time
from rollout_sdk.journal import KeptPair, read_pairs
from rollout_sdk.journal.kept_pairs import AUDITS, control_is_first
from rollout_sdk.plan import JUDGE_PREFERENCE
from rollout_sdk.recording import outcomes
from rollout_sdk.runtime import Runtime

__all__ = ["CHOICES", "is_label", "label", "waiting_pairs"]

CHOICES: Mapping[str, float] = {"a": 1.0, "b": -1.0, "tie": 0.0}
"""What a person may say: which answer is better, and by how much the first then is."""


def is_label(record: Mapping[str, Any]) -> bool:
    """Whether a line of the journal is what a person said about a pair."""
    return record["event"] == "outcome" and record.get("metric") == JUDGE_PREFERENCE and record.get("source") == "human"


def waiting_pairs(journal: str | os.PathLike[str], rollout: str, *, labelled: Container[str]) -> list[KeptPair]:
    """Return the pairs of a rollout that people have not compared yet.

    Args:
        journal: Folder of the journal.
        rollout: Key of the rollout.
        labelled: Ids of the decisions whose pairs have a label.

    Raises:
        OSError: The pairs cannot be read.
    """
    return [pair for pair in read_pairs(journal, rollout, folder=AUDITS) if pair.id not in labelled]


def label(runtime: Runtime, rollout: str, pair: KeptPair, choice: str) -> None:
    """Record which answer of a pair a person prefers.

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
