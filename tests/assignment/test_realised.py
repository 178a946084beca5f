"""What users get: shares realised, nobody moved back, rollouts independent, memory flat."""

from itertools import combinations

import numpy as np
import pytest

from rollout_sdk import ABTest, Canary, Layer, Shadow, rollout
from rollout_sdk.assignment import UnitHash, point_of

SERVED = {"control": 1, "v2": 2, "v3": 3}


@pytest.fixture
def decorate(runtime):
    """Decorates a function of a user, which gives 1; its candidates give 2 and 3."""

    def make(strategy, *, key="model", candidates=("v2",), **options):
        functions = {name: lambda user, answer=SERVED[name]: answer for name in candidates}

        @rollout(
            candidates=functions, strategy=strategy, effects="read", unit="user", key=key, **{"runtime": runtime, **options}
        )
        def model(user):
            return 1

        return model

    return make


def arms(model, users):
    """The variant of every user, by the real decorated function."""
    return {user: model(user) for user in users}


def tenth_of_traffic(model, runtime, users, calls):
    for _ in range(calls):
        for user in range(users):
            model(f"u-{user}")
        # What is asked is who was served what, not whether the queue of a busy machine takes it all at once.
        assert runtime.flush(60.0)
    return model.rollout.status()


def test_a_ten_percent_canary_of_two_thousand_users_serves_ten_percent(decorate, runtime):
    status = tenth_of_traffic(decorate(Canary(["10%"])), runtime, users=2_000, calls=10)
    assert sum(status.calls.values()) == 20_000
    assert status.realised["v2"] == pytest.approx(0.10, abs=0.02)


@pytest.mark.slow
def test_ten_thousand_users_with_fifty_requests_at_ten_percent_realise_ten_percent(decorate, runtime):
    status = tenth_of_traffic(decorate(Canary(["10%"])), runtime, users=10_000, calls=50)
    assert sum(status.calls.values()) + status.lost == 500_000
    assert status.realised["v2"] == pytest.approx(0.10, abs=0.01)


def test_ten_thousand_users_are_assigned_in_the_configured_share(decorate):
    assign = decorate(Canary(["10%"])).rollout.assign
    canary = sum(assign(f"u-{user}").variant == "v2" for user in range(10_000))
    assert canary / 10_000 == pytest.approx(0.10, abs=0.01)


def test_every_request_of_a_user_gets_the_same_arm(decorate):
    model = decorate(ABTest(0.5))
    once = arms(model, range(200))
    assert all(arms(model, range(200)) == once for _ in range(5))


def test_an_assignment_without_a_call_is_what_the_call_gets(decorate):
    model = decorate(ABTest({"v2": 0.3, "v3": 0.3}), candidates=("v2", "v3"))
    users = range(500)
    assert {user: SERVED[model.rollout.assign(user).variant] for user in users} == arms(model, users)


def test_a_ramp_moves_nobody_back(decorate):
    model = decorate(Canary(["5%", "10%", "25%"]))
    users = [f"u-{number}" for number in range(4_000)]
    canary = []
    for promoted in range(4):
        if promoted:
            model.rollout.promote()
        canary.append({user for user, answer in arms(model, users).items() if answer == 2})
    five, ten, quarter, all_users = canary
    assert five < ten < quarter < all_users == set(users)
    assert [len(part) / len(users) for part in canary[:3]] == pytest.approx([0.05, 0.10, 0.25], abs=0.02)


def test_lowering_a_share_moves_users_back_to_the_control_only(decorate):
    model = decorate(Canary([{"v2": "40%", "v3": "40%"}]), candidates=("v2", "v3"))
    users = range(1_000)
    before = arms(model, users)
    model.rollout.set_share("10%", "v2")
    after = arms(model, users)
    assert {(before[user], after[user]) for user in users} == {(1, 1), (2, 2), (2, 1), (3, 3)}


def test_a_share_of_one_in_two_thousand_is_realised(decorate):
    assign = decorate(Canary(["0.05%"])).rollout.assign
    canary = sum(assign(f"u-{user}").variant == "v2" for user in range(60_000))
    assert 30 - 5 * 30**0.5 < canary < 30 + 5 * 30**0.5


def test_assignments_of_forty_rollouts_are_independent_of_each_other():
    units = 20_000
    hashes = [UnitHash(f"rollout-{number}") for number in range(40)]
    points = np.array([[point_of(hash_(b"su-%d" % unit)) for unit in range(units)] for hash_ in hashes])
    errors = np.corrcoef(points < 0.5)[np.triu_indices(40, 1)] * units**0.5
    assert len(errors) == len(list(combinations(range(40), 2))) == 780
    assert np.abs(errors).max() < 5


def test_the_decorated_functions_of_two_rollouts_split_users_independently(decorate):
    one, other = decorate(ABTest(0.5), key="one"), decorate(ABTest(0.5), key="other")
    users = range(4_000)
    answers = np.array([[one(user) for user in users], [other(user) for user in users]])
    assert abs(np.corrcoef(answers)[0, 1]) < 5 / len(users) ** 0.5


def test_a_secret_key_gives_other_arms_than_none(decorate, watch):
    plain, keyed = decorate(ABTest(0.5)), decorate(ABTest(0.5), runtime=watch(key="secret"))
    users = range(2_000)
    answers = np.array([[plain(user) for user in users], [keyed(user) for user in users]])
    assert abs(np.corrcoef(answers)[0, 1]) < 5 / len(users) ** 0.5


def test_two_runtimes_with_one_key_agree(decorate, watch):
    one, other = (decorate(ABTest(0.5), runtime=watch(key="secret")) for _ in range(2))
    assert arms(one, range(300)) == arms(other, range(300))


def test_a_call_without_a_unit_is_drawn_anew(runtime):
    @rollout(candidate=lambda: 2, strategy=ABTest(0.5), key="drawn", runtime=runtime)
    def model():
        return 1

    answers = [model() for _ in range(2_000)]
    assert answers.count(2) / 2_000 == pytest.approx(0.5, abs=0.06)


# Layers -----------------------------------------------------------------------------------------------------------------


def test_rollouts_of_a_layer_never_meet_the_same_user(decorate):
    one = decorate(ABTest(0.5), key="one", layer=Layer("checkout", 0, "50%"))
    other = decorate(ABTest(0.5), key="other", layer=Layer("checkout", "50%", 1))
    both = [(one.rollout.assign(user), other.rollout.assign(user)) for user in range(4_000)]
    assert {(first.reason == "layer") != (second.reason == "layer") for first, second in both} == {True}
    assert all("control" in {first.variant, second.variant} for first, second in both)


def test_shares_in_a_layer_are_shares_of_the_slot(decorate):
    model = decorate(ABTest(0.5), layer=Layer("checkout", "20%", "40%"))
    decisions = [model.rollout.assign(user) for user in range(10_000)]
    inside = [decision for decision in decisions if decision.reason != "layer"]
    assert len(inside) / len(decisions) == pytest.approx(0.2, abs=0.02)
    assert sum(decision.variant == "v2" for decision in inside) / len(inside) == pytest.approx(0.5, abs=0.05)


def test_users_outside_the_slot_get_the_control_and_are_not_analysed(decorate, runtime):
    model = decorate(ABTest(1.0), layer=Layer("checkout", 0, 0.25))
    users = range(400)
    arms(model, users)
    status = model.rollout.status()
    assert status.realised == {"v2": 1.0}
    assert status.excluded == {"layer": status.calls["control"]}


def test_layers_of_different_names_are_independent(decorate):
    one = decorate(ABTest(1.0), key="one", layer=Layer("checkout", 0, 0.5))
    other = decorate(ABTest(1.0), key="other", layer=Layer("search", 0, 0.5))
    users = range(4_000)
    answers = np.array([[one(user) for user in users], [other(user) for user in users]])
    assert abs(np.corrcoef(answers)[0, 1]) < 5 / len(users) ** 0.5


def test_a_rollout_is_not_hashed_as_a_layer_whatever_its_key(decorate):
    inside, alone = (
        decorate(ABTest(0.5), key="a", layer=Layer("x")),
        [decorate(ABTest(0.5), key=key) for key in ("x", "layer:x")],
    )
    users = range(200)
    assert all(arms(inside, users) != arms(each, users) for each in alone)


# Holdout ----------------------------------------------------------------------------------------------------------------


def test_the_holdout_has_its_share_gets_the_control_and_is_not_analysed(decorate):
    model = decorate(ABTest(1.0), holdout="10%")
    answers = arms(model, range(5_000))
    status = model.rollout.status()
    assert list(answers.values()).count(1) / 5_000 == pytest.approx(0.10, abs=0.025)
    assert status.excluded == {"holdout": list(answers.values()).count(1)}
    assert status.realised == {"v2": 1.0}


def test_the_holdout_is_independent_of_the_split(decorate, watch):
    free, held = decorate(ABTest(0.5)), decorate(ABTest(0.5), holdout=0.5, runtime=watch())
    users = range(4_000)
    split = np.array([free(user) == 2 for user in users])
    out = np.array([held.rollout.assign(user).reason == "holdout" for user in users])
    assert abs(np.corrcoef(split, out)[0, 1]) < 5 / len(users) ** 0.5


def test_users_out_of_the_holdout_keep_the_arm_that_they_had_without_it(decorate, watch):
    free, held = decorate(ABTest(0.5)), decorate(ABTest(0.5), holdout=0.5, runtime=watch())
    kept = [user for user in range(1_000) if held.rollout.assign(user).reason != "holdout"]
    assert [held(user) for user in kept] == [free(user) for user in kept]


# Memory -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("units", [100_000, pytest.param(1_000_000, marks=pytest.mark.slow)])
def test_memory_stays_flat_over_distinct_units(run_python, units):
    process = run_python(
        f"""
        import gc, resource, sys
        from rollout_sdk import Canary, Runtime, rollout

        runtime = Runtime()

        @rollout(candidate=lambda user: 2, strategy=Canary(["10%"]), unit="user", key="k", holdout="1%", runtime=runtime)
        def model(user):
            return 1

        def serve(start, stop):
            for unit in range(start, stop):
                model(unit)
                if unit % 5_000 == 0:
                    runtime.flush(30)
            runtime.flush(30)
            gc.collect()
            return sys.getallocatedblocks(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

        blocks, peak = serve(0, 20_000)
        more_blocks, higher_peak = serve(20_000, {units})
        print(more_blocks - blocks, higher_peak - peak)
        """,
        timeout=110,
    )
    assert (process.returncode, process.stderr) == (0, "")
    blocks, peak_kib = map(int, process.stdout.split())
    # The recorder holds on to its last batch; one block kept for each unit would be more than this.
    assert blocks < 20_000
    assert peak_kib < 8 * 1024


def test_a_shadow_test_assigns_everybody_to_the_control(decorate):
    model = decorate(Shadow(rate=1.0))
    assert {model.rollout.assign(user).variant for user in range(100)} == {"control"}
