"""The analyzer against other ways to compute the same, and against simulated users under peeking."""

import math
import random
import statistics
from collections import Counter

import numpy as np
import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from rollout_sdk import ConfigurationError
from rollout_sdk.interleaving import (
    Balanced,
    Interleaved,
    InterleavingAnalyzer,
    Optimized,
    PairwisePreference,
    Probabilistic,
    TeamDraft,
    impressions_needed,
)

A, B = list(range(10)), [3, 0, 7, 1, 9, 2, 12, 4, 11, 5]


def visits(number, *, users=300, chance=lambda item, team: 0.1, design=TeamDraft(), seed=1, orders=(A, B)):
    """(user, page, clicks) of so many visits: an item is clicked with a chance that depends on item and team."""
    rng = random.Random(seed)
    for visit in range(number):
        page = design.merge({"control": orders[0], "v2": orders[1]}, seed=f"{seed}/{visit}")
        clicks = {slot.key: 1.0 for slot in page.slots if rng.random() < chance(slot.key, slot.team)}
        yield f"user-{rng.randrange(users)}", page, clicks


def analyzed(rows, **options):
    analyzer = InterleavingAnalyzer(**options)
    for row in rows:
        analyzer.add(*row)
    return analyzer


def better(item, team):
    return 0.14 if team == "v2" else 0.1


def test_without_a_list_nothing_is_said():
    result = InterleavingAnalyzer().result()
    assert (None, 0.0, -0.5, 0.5, 1.0) == (result.winner, result.preference, result.low, result.high, result.sign_p_value)
    assert "No interleaved list" in str(result)


def test_preference_and_error_are_those_of_a_cluster_robust_mean():
    rows = list(visits(20_000, users=4000, chance=better))
    result = analyzed(rows).result()
    signs = [page.preference(clicks) for _, page, clicks in rows]
    assert result.wins == signs.count(1.0)
    assert result.losses == signs.count(-1.0)
    assert result.preference == pytest.approx(np.mean(signs) / 2)
    assert result.preference == pytest.approx((result.wins + (20_000 - result.wins - result.losses) / 2) / 20_000 - 0.5)
    by_user, mean = Counter(), np.mean(signs)
    for (user, _, _), sign in zip(rows, signs, strict=True):
        by_user[user] += sign - mean
    robust = math.sqrt(sum(value**2 for value in by_user.values())) / 20_000 / 2
    # Buckets of users give the same error within their own, 1 / sqrt(2 * 511) = 3 %.
    assert result.std_error == pytest.approx(robust, rel=0.1)
    assert result.low < result.preference - 2 * result.std_error
    assert result.bootstrap[0] == pytest.approx(result.preference - 1.96 * robust, abs=0.25 * robust)
    assert result.bootstrap[1] == pytest.approx(result.preference + 1.96 * robust, abs=0.25 * robust)
    assert result.winner == "v2"
    assert result.is_valid


def test_the_interval_of_the_credit_is_robust_to_users_too_and_as_wide_as_the_weights():
    rows = list(visits(20_000, users=9000, chance=better))
    single, heavy = (
        analyzed((user, page, {key: weight * value for key, value in clicks.items()}) for user, page, clicks in rows).result()
        for weight in (1.0, 20.0)
    )
    by_user, credits_ = Counter(), [page.credit(clicks) for _, page, clicks in rows]
    differences = [credit["v2"] - credit["control"] for credit in credits_]
    mean = np.mean(differences)
    for (user, _, _), difference in zip(rows, differences, strict=True):
        by_user[user] += difference - mean
    robust = math.sqrt(sum(value**2 for value in by_user.values())) / 20_000
    assert single.credit == pytest.approx(mean)
    assert 0 < single.credit_low < mean - 2 * robust
    assert mean + 2 * robust < single.credit_high < mean + 5 * robust
    assert single.credit_log_e > math.log(20)
    assert heavy.credit == pytest.approx(20 * mean)
    assert heavy.credit_low < 20 * mean - 2 * 20 * robust
    assert f"Credit for v2 {mean:+.3f} a list [{single.credit_low:+.3f}, {single.credit_high:+.3f}] at any look" in str(single)


def test_the_interval_of_the_credit_seldom_leaves_out_the_truth_at_any_look():
    missed = 0
    for seed in range(60):
        analyzer, out = InterleavingAnalyzer(), False
        for number, row in enumerate(visits(500, users=250, seed=seed)):
            analyzer.add(*row)
            if number % 100 == 99:
                result = analyzer.result(bootstrap=False)
                out |= not result.credit_low <= 0.0 <= result.credit_high
        missed += out
    # 4 standard errors above 5 %.
    assert missed <= 60 * (0.05 + 4 * math.sqrt(0.05 * 0.95 / 60))


def test_the_sign_test_is_over_users_and_exact():
    rows = list(visits(3000, users=200, chance=better))
    result = analyzed(rows).result()
    net = Counter()
    for user, page, clicks in rows:
        net[user] += page.preference(clicks)
    more, fewer = sum(value > 0 for value in net.values()), sum(value < 0 for value in net.values())
    assert (more, fewer, len(net)) == (result.units_for, result.units_against, result.units)
    assert result.sign_p_value == pytest.approx(stats.binomtest(more, more + fewer).pvalue)


@given(st.integers(0, 60), st.integers(0, 60))
def test_the_p_value_is_that_of_scipy(more, fewer):
    result = InterleavingAnalyzer().result()
    expected = stats.binomtest(more, more + fewer).pvalue if more + fewer else 1.0
    assert evolve(result, units_for=more, units_against=fewer).sign_p_value == pytest.approx(expected)


@given(st.integers(1, 60), st.integers(0, 60), st.integers(0, 5))
def test_merging_is_the_same_as_adding_everything_in_one_place(size, cut, seed):
    rows = list(visits(size, users=9, chance=better, seed=seed))
    whole, first, rest = analyzed(rows), analyzed(rows[:cut]), analyzed(rows[cut:])
    first.merge(rest)
    assert whole == first
    assert whole.result() == first.result()


def test_users_who_always_click_alike_are_not_taken_for_independent():
    rng = random.Random(4)
    loves = {f"user-{number}": rng.choice(["control", "v2"]) for number in range(40)}
    rows = []
    for _ in range(4000):
        user = f"user-{rng.randrange(40)}"
        page = TeamDraft().merge({"control": A, "v2": B}, seed=rng.getrandbits(60))
        rows.append((user, page, {slot.key: 1.0 for slot in page.slots if slot.team == loves[user]}))
    by_user, by_list = analyzed(rows).result(), analyzed(rows, unit="impression").result()
    assert by_user.std_error > 5 * analyzed([(number, *row[1:]) for number, row in enumerate(rows)]).result().std_error
    assert by_user.winner is None
    assert by_list.units == 4000


def test_looking_fifty_times_at_equal_rankers_seldom_finds_a_winner():
    false, rounds = 0, 80
    for seed in range(rounds):
        analyzer, found = InterleavingAnalyzer(), False
        for number, row in enumerate(visits(1000, users=500, seed=seed), 1):
            analyzer.add(*row)
            if number % 20 == 0:
                found = found or analyzer.result(bootstrap=False).is_decided
        false += found
    assert false / rounds <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / rounds)


def test_a_better_ranker_is_found_and_a_worse_one_is_not_preferred():
    assert analyzed(visits(6000, users=2000, chance=better)).result().winner == "v2"
    worse = analyzed(visits(6000, users=2000, chance=lambda item, team: 0.1 if team == "v2" else 0.14)).result()
    assert worse.winner == "control"
    assert worse.preference < 0
    assert "control is preferred." in str(worse)


def reads_nothing(page, rng):
    """Clicks of somebody who looks at positions alone."""
    return {key: 1.0 for position, key in enumerate(page.keys) if rng.random() < 0.6 / (1 + position)}


@pytest.mark.parametrize(
    ("design", "orders"),
    [
        *((design, (A, A[::-1])) for design in (Optimized(), Optimized("linear"), Optimized("binary"), PairwisePreference())),
        (Probabilistic(), (A, A[::-1])),
        (TeamDraft(), (A, B)),
        (TeamDraft(neutral="off"), ("ad", "aecdb")),
        (TeamDraft(neutral="prefix"), ("ebadc", "baec")),
        (TeamDraft(), ("daecb", "decab", "bdeac")),
        (Probabilistic(), ("daecb", "decab", "bdeac")),
        (Probabilistic(), ("abc", "bcade", "ed")),
    ],
    ids=str,
)
def test_clicks_that_read_nothing_find_no_winner_in_any_design_but_balanced(design, orders):
    rng, rankers, analyzer = random.Random(7), ("control", "v2", "v3"), InterleavingAnalyzer()
    for number in range(4000):
        page = design.merge(dict(zip(rankers, orders, strict=False)), k=5, seed=f"visit {number}")
        analyzer.add(f"user-{number}", page.between("control", "v2"), reads_nothing(page, rng))
    result = analyzer.result(bootstrap=False)
    assert (True, None) == (result.is_valid, result.winner)
    assert "Undecided" in str(result)


def test_where_lists_won_mean_nothing_the_credit_decides():
    rows = list(visits(3000, chance=lambda item, team: 0.3 if item == B[0] else 0.02, design=Optimized()))
    result = analyzed(rows).result()
    assert ("credit", "v2") == (result.decided_by, result.winner)
    assert f"v2 is preferred. Credit for v2 {result.credit:+.3f} a list" in str(result)
    read_back = [(user, Interleaved.from_dict(page.as_dict()), clicks) for user, page, clicks in rows]
    assert "credit" == analyzed(read_back).result().decided_by
    assert "wins" == analyzed(visits(50)).result().decided_by


# Which units decide -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("decided_by", "evidence", "decided"),
    [
        ("wins", {"log_e": math.log(20), "credit_log_e": 0.0}, True),
        ("wins", {"log_e": math.log(19.9), "credit_log_e": 50.0}, False),
        ("credit", {"credit_log_e": math.log(20), "log_e": 0.0}, True),
        ("credit", {"credit_log_e": math.log(19.9), "log_e": 50.0}, False),
    ],
)
def test_what_decides_is_the_evidence_of_what_is_compared_and_no_other(decided_by, evidence, decided):
    """The sign test, which is for one look, and the other of the two quantities count for nothing."""
    result = evolve(analyzed(visits(400)).result(), decided_by=decided_by, sign_log_e=50.0, **evidence)
    assert (True, None) == (result.is_valid, result.caution)
    assert decided == result.is_decided == (result.winner is not None)
    # And of 99 equally active users nothing is concluded, whatever the evidence.
    assert evolve(result, effective_units=99.0, log_e=50.0, credit_log_e=50.0).is_decided is False


def clicked(page, team):
    """Clicks on the items of one team."""
    return {slot.key: 1.0 for slot in page.slots if slot.team == team}


def everybody(number, *, team="v2", first=0):
    """(user, page, clicks) of so many users, each with one list on which only the items of one team are clicked."""
    for n in range(first, first + number):
        page = TeamDraft().merge({"control": A, "v2": B}, seed=f"{n}")
        yield f"user-{n}", page, clicked(page, team)


@pytest.mark.parametrize(("users", "winner"), [(99, None), (100, "v2")])
def test_nothing_is_concluded_before_the_lists_of_a_hundred_units_are_won_or_lost(users, winner):
    result = analyzed([*everybody(users), *((f"idle-{n}", page, {}) for n, (_, page, _) in enumerate(visits(300)))]).result()
    assert (winner, float(users)) == (result.winner, pytest.approx(result.effective_units))
    assert (winner is None) == (result.caution is not None)


def test_a_preference_that_all_units_share_is_the_surest_and_not_an_unknown_one():
    result = analyzed(everybody(150)).result()
    assert ("v2", 0.5) == (result.winner, result.preference)
    assert 0.4 < result.low <= 0.5 == result.high


@pytest.mark.parametrize("loves", ["control", "v2"])
def test_one_unit_with_most_visits_neither_decides_nor_voids_a_test(loves):
    rng = random.Random(loves)
    people = [(user, page, clicks) for user, page, clicks in visits(300, users=300, seed=5)]
    # A bot asks for the same few queries again and again, so that its lists repeat.
    pages = [TeamDraft().merge({"control": A, "v2": B}, seed=f"bot {n}") for n in range(20)]
    bot = [("bot", page, clicked(page, loves)) for page in rng.choices(pages, k=1500)]
    alone, together = analyzed(people).result(), analyzed(people + bot).result()
    assert (True, None, None) == (together.is_valid, together.winner, together.bootstrap)
    assert together.effective_units < 2
    assert together.heaviest == pytest.approx(1500 / (1500 + alone.wins + alone.losses))
    assert f"the heaviest has {together.heaviest:.1%}" in together.caution
    assert f"No conclusion: {together.caution}." in str(together)
    assert "at any look" not in str(together)
    assert (-0.5, 0.5, 0.0, 0.0) == (together.low, together.high, together.log_e, together.credit_log_e)


def test_a_unit_with_most_of_the_credit_does_not_decide_where_the_credit_does():
    rows = list(visits(600, users=400, chance=lambda item, team: 0.3, design=Optimized()))
    heavy = [("bot", page, {B[0]: 500.0} if B[0] in page.keys else {}) for _, page, _ in rows[:40]]
    result = analyzed(rows + heavy).result()
    assert ("credit", None) == (result.decided_by, result.winner)
    assert "the credit of " in result.caution


def test_lists_that_are_units_of_their_own_are_weighed_one_by_one():
    result = analyzed(everybody(250), unit="impression").result()
    assert (250.0, 1 / 250, "v2") == (pytest.approx(result.effective_units), pytest.approx(result.heaviest), result.winner)
    first, rest = analyzed(everybody(90), unit="impression"), analyzed(everybody(160, first=90), unit="impression")
    assert first.result().winner is None
    first.merge(rest)
    assert result == first.result()


def test_equal_rankers_with_a_bot_are_hardly_ever_decided_at_any_of_twenty_looks():
    false, rounds = 0, 40
    for seed in range(rounds):
        analyzer, found = InterleavingAnalyzer(), False
        rng = random.Random(seed)
        loves, share = rng.choice(["control", "v2"]), rng.choice([0.05, 0.2, 0.5])
        for number, (user, page, clicks) in enumerate(visits(1000, users=700, seed=seed), 1):
            row = ("bot", page, clicked(page, loves)) if rng.random() < share else (user, page, clicks)
            analyzer.add(*row)
            if number % 50 == 0:
                found = found or analyzer.result(bootstrap=False).is_decided
        false += found
    assert false / rounds <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / rounds)


# What voids an experiment ------------------------------------------------------------------------------------------------


def always_first(seed):
    """A broken shuffle: the candidate always begins."""
    while True:
        page = TeamDraft().merge({"control": A, "v2": B}, seed=seed)
        if next(slot.team for slot in page.slots if slot.team) == "v2":
            return page
        seed += 10**9


def test_a_candidate_that_is_always_first_voids_the_experiment():
    rng, analyzer = random.Random(1), InterleavingAnalyzer()
    for number in range(400):
        page = always_first(number)
        # Users click what is on top.
        analyzer.add(f"user-{number}", page, {slot.key: 1.0 for slot in page.slots if rng.random() < 0.5 / (1 + slot.position)})
    result = analyzer.result()
    assert [check.name for check in result.checks if check.is_broken] == ["first"]
    assert (result.is_valid, result.winner) == (False, None)
    assert "void" in str(result)


def ranked_first(team, number, *, first=0):
    """Lists on which one team always begins, of as many users."""
    found = 0
    for seed in range(10**6):
        page = TeamDraft().merge({"control": A, "v2": B}, seed=f"{team} {seed}")
        if next(slot.team for slot in page.slots if slot.team) == team:
            yield f"user-{first + found}", page, {}
            found += 1
        if found == number:
            return


def test_the_first_alarm_of_a_check_is_not_forgotten():
    broken, opposite = list(ranked_first("v2", 300)), list(ranked_first("control", 300, first=300))
    analyzer = analyzed(broken + opposite)
    (first,) = [check for check in analyzer.result().checks if check.name == "first"]
    assert math.log(1000) == pytest.approx(first.needed)
    # By now as many lists begin with either, and still they were no coin's.
    assert (first.log_e < 0, first.latched, first.is_broken) == (True, True, True)
    assert analyzer.result().is_valid is False
    # Also when it is merged from parts that were never asked for a result.
    whole = analyzed(opposite)
    whole.merge(analyzed(broken))
    assert whole.result().is_valid is False


def test_the_same_list_again_and_again_for_a_few_users_is_not_a_broken_coin():
    rows = list(ranked_first("v2", 8))
    assert analyzed(rows * 100).result().is_valid
    assert analyzed(ranked_first("v2", 99)).result().is_valid
    assert analyzed(ranked_first("v2", 100)).result().is_valid is False


def test_items_lost_on_the_way_to_the_page_void_the_experiment():
    rng, analyzer = random.Random(1), InterleavingAnalyzer()
    for number, (user, page, clicks) in enumerate(visits(2000, users=900)):
        teams = [-1 if team == 1 and rng.random() < 0.15 else team for team in page.teams]
        analyzer.add(f"{user}-{number}", evolve(page, teams=teams), clicks)
    assert "items" in [check.name for check in analyzer.result().checks if check.is_broken]


@pytest.mark.parametrize(
    ("design", "names"),
    [
        (Probabilistic(), ["items", "first"]),
        (Optimized(), ["items", "first"]),
        (Optimized("linear"), ["items", "first"]),
        (Balanced(), ["first"]),
        (PairwisePreference(), ["first"]),
    ],
    ids=repr,
)
def test_what_chance_makes_equal_is_watched_in_every_design(design, names):
    rows = list(visits(1500, design=design))
    sound = analyzed(rows).result()
    assert [*names, "clicks", "competitive"] == [check.name for check in sound.checks]
    assert sound.is_valid
    # Somebody shows only those pages again and again that begin as the candidate's ranking does.
    broken = analyzed([(user, page, clicks) for user, page, clicks in rows if page.keys[0] == B[0]]).result()
    assert "first" in [check.name for check in broken.checks if check.is_broken]
    assert broken.winner is None


@pytest.mark.parametrize("design", [Probabilistic(), Balanced(), PairwisePreference()], ids=repr)
def test_rankers_with_one_top_are_both_first(design):
    result = analyzed(visits(300, design=design, orders=([0, 1, 2], [0, 2, 1]))).result()
    assert result.is_valid


@pytest.mark.parametrize("design", [TeamDraft(), Balanced()], ids=["teams", "no teams"])
def test_clicks_that_never_arrive_void_the_experiment(design):
    rows = [(user, page, {}) for user, page, _ in visits(900, design=design)]
    assert analyzed(rows, least_clicked=0.02).result().is_valid is False
    # With fewer than ten clicks to be expected it may be chance; and whoever wants to may do without the check.
    assert analyzed(rows, least_clicked=0.01).result().is_valid
    assert analyzed(rows, least_clicked=0.0).result().is_valid


def test_clicks_that_arrive_too_seldom_void_the_experiment():
    rng = random.Random(2)
    rows = [(user, page, clicks if rng.random() < 0.05 else {}) for user, page, clicks in visits(6000, users=3000)]
    share = analyzed(rows).result().clicked / 6000
    assert 0 < share < 0.06
    result = analyzed(rows, least_clicked=0.2).result()
    assert ["clicks"] == [check.name for check in result.checks if check.is_broken]
    assert analyzed(rows, least_clicked=0.9 * share).result().is_valid


def test_rankers_that_nearly_always_agree_cannot_be_compared():
    result = analyzed(visits(1200, orders=(A, A))).result()
    assert ["competitive"] == [check.name for check in result.checks if check.is_broken]
    assert result.winner is None


def test_a_sound_experiment_is_seldom_void():
    assert all(analyzed(visits(1500, seed=seed)).result().is_valid for seed in range(20))


def test_lists_of_the_control_alone_are_left_out():
    analyzer = InterleavingAnalyzer()
    analyzer.add("u", TeamDraft().merge({"control": A, "v2": []}, seed=0), {0: 1.0})
    assert (0, 1) == (analyzer.result().impressions, analyzer.result().not_interleaved)


def test_identical_rankers_are_undecided_and_never_nan():
    result = analyzed(visits(500, orders=(A, A))).result()
    assert (0.0, None, None, 0.0) == (result.preference, result.std_error, result.winner, result.competitive)
    assert "Undecided." in str(result)


def test_other_rankers_are_refused():
    analyzer = analyzed(visits(3))
    with pytest.raises(ConfigurationError, match="An analyzer compares two rankers"):
        analyzer.add("u", TeamDraft().merge({"control": A, "v3": B}, seed=0), {})
    with pytest.raises(ConfigurationError, match="An analyzer compares two rankers"):
        analyzer.add("u", TeamDraft().merge({"a": A, "b": B, "c": B}, seed=0), {})
    with pytest.raises(ConfigurationError, match="cannot be added"):
        analyzer.merge(InterleavingAnalyzer("impression"))
    with pytest.raises(ConfigurationError, match="cannot be a user's id"):
        analyzer.add(object(), TeamDraft().merge({"control": A, "v2": B}, seed=0), {})


def test_the_sample_size_is_that_of_the_textbook():
    # (1.959964 + 0.841621)^2 = 7.8489
    assert math.ceil(7.8489 * (0.6 / 0.05) ** 2) == impressions_needed(0.05, 0.6)
    assert impressions_needed(0.0, 1.0) is None
    rng = np.random.default_rng(1)
    number = impressions_needed(0.1, 0.9)
    means = rng.normal(0.1, 0.9, (4000, number)).mean(axis=1)
    assert np.mean(np.abs(means) > 1.959964 * 0.9 / math.sqrt(number)) == pytest.approx(0.8, abs=0.02)


@given(st.integers(1, 60), st.integers(0, 60), st.integers(0, 60))
def test_the_share_of_ties_says_how_much_lists_differ(won, lost, tied):
    results = [1.0] * won + [-1.0] * lost + [0.0] * tied
    mean, share = statistics.fmean(results), tied / len(results)
    assert impressions_needed(mean, statistics.pstdev(results)) == pytest.approx(impressions_needed(mean, ties=share), abs=1)


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ({}, "Pass one of them"),
        ({"deviation": 1.0, "ties": 0.5}, "Pass one of them"),
        ({"ties": 0.9}, "impossible with ties"),
        ({"ties": -0.1}, "impossible with ties"),
    ],
)
def test_a_sample_size_that_does_not_follow_is_refused(arguments, why):
    with pytest.raises(ConfigurationError, match=why):
        impressions_needed(0.2, **arguments)


def test_a_page_of_another_design_is_analyzed_by_its_own_credit():
    rows = [(user, Interleaved.from_dict(page.as_dict()), clicks) for user, page, clicks in visits(800, design=Probabilistic())]
    result = analyzed(rows).result()
    assert result.wins == pytest.approx(sum(max(page.preference(clicks), 0.0) for _, page, clicks in rows))
    assert ["items", "first", "clicks", "competitive"] == [check.name for check in result.checks]


@pytest.mark.parametrize(("name", "inside", "outside"), [
    ("alpha", (0.001, 0.9), (0.0, 1.0)), ("mde", (0.001, 0.49), (0.0, 0.5, 0.9)),
    ("least_clicked", (0.0, 0.9), (-0.1, 1.0)), ("least_competitive", (0.0, 0.9), (-0.1, 1.0)),
])  # fmt: skip
def test_settings_of_an_analysis_have_a_domain(name, inside, outside):
    for value in inside:
        InterleavingAnalyzer(**{name: value})
    for value in outside:
        with pytest.raises(ValueError, match=name):
            InterleavingAnalyzer(**{name: value})
