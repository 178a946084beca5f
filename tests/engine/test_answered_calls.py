"""Successive common calls of a rollout become one fact, and no fact changes its place."""

from itertools import groupby
from types import SimpleNamespace

from hypothesis import given
from hypothesis import strategies as st

from rollout_sdk import ABTest, rollout
from rollout_sdk.engine.answered_calls import AnsweredCalls, grouped
from rollout_sdk.engine.common import CommonCall
from rollout_sdk.journal import read_journal

ROLLOUTS = "abc"


def call_of(name):
    call = CommonCall()
    call.arm = SimpleNamespace(plan=SimpleNamespace(rollout=name))
    return call


@given(st.lists(st.sampled_from([*ROLLOUTS, None])))
def test_facts_keep_their_order(names):
    facts = [object() if name is None else call_of(name) for name in names]
    found = grouped(facts)
    # Observers and the journal hear of a call that another made before that other one, whatever their rollouts.
    seen = [call for fact in found for call in (fact.calls if isinstance(fact, AnsweredCalls) else [fact])]
    assert facts == seen
    assert len([*groupby(names)]) == len(
        [*groupby(fact.rollout if isinstance(fact, AnsweredCalls) else None for fact in found)]
    )


def test_calls_of_rollouts_by_turns_are_journalled(watch, tmp_path):
    runtime = watch(journal=tmp_path)
    models = [
        rollout(candidate=lambda user: "new", strategy=ABTest(0.5), unit="user", key=name, runtime=runtime)(lambda user: "old")
        for name in ROLLOUTS
    ]
    given = [(model, f"u-{number}") for number in range(50) for model in models]
    answers = [model(user) for model, user in given]
    runtime.close()
    found = [record for record in read_journal(tmp_path) if record["event"] == "decision"]
    by_rollout = {name: [record["served"] for record in found if record["rollout"] == name] for name in ROLLOUTS}
    served = ["candidate" if answer == "new" else "control" for answer in answers]
    assert {name: served[place :: len(ROLLOUTS)] for place, name in enumerate(ROLLOUTS)} == by_rollout
    assert 150 == len({record["id"] for record in found})
