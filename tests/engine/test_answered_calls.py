"""Common calls become one fact for each rollout, however many rollouts are called by turns."""

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
def test_calls_keep_their_order_within_a_rollout_and_beside_all_other_facts(names):
    facts = [object() if name is None else call_of(name) for name in names]
    found = grouped(facts)
    for own in ROLLOUTS:
        # What a reader of one rollout sees: its calls, and what is no call.
        expected = [fact for fact, name in zip(facts, names, strict=True) if name in (own, None)]
        seen = []
        for fact in found:
            if not isinstance(fact, AnsweredCalls):
                seen.append(fact)
            elif fact.rollout == own:
                seen.extend(fact.calls)
        assert expected == seen
    groups = "".join("." if name is None else name for name in names).split(".")
    assert sum(len(set(group)) for group in groups) == sum(isinstance(fact, AnsweredCalls) for fact in found)


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
