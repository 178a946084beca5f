"""Evidence from counts, held against SciPy's distributions, brute force and published numbers."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special, stats

from rollout_sdk.stats import (
    bernoulli_interval,
    plan_rho,
    rare_event_interval,
    rare_event_log_e,
    rare_event_safe_log_e,
    rate_below_log_e,
    sign_log_e,
    srm_log_e,
)

COUNTS = st.integers(0, 10**6)
STRATA = st.lists(st.tuples(COUNTS, COUNTS, st.floats(0, 1)), max_size=6)
MARGINS = st.floats(-0.5, 3)


def _e_by_likelihoods(strata, null, ratios):
    """The mean over the alternatives of the ratio of binomial probabilities, term by term."""
    found = []
    for r in ratios:
        product = 1.0
        for a, b, s in strata:
            q, q0 = s * r / (s * r + 1 - s), s * null / (s * null + 1 - s)
            product *= stats.binom.pmf(a, a + b, q) / stats.binom.pmf(a, a + b, q0)
        found.append(product)
    return math.log(np.mean(found))


@pytest.mark.parametrize("margin", [0.0, 0.25])
@pytest.mark.parametrize("strata", [[(4, 1, 0.01), (9, 30, 0.2), (3, 3, 0.5)], [(0, 12, 0.5)], [(7, 0, 0.5)]])
def test_rare_event_evidence_is_the_mean_ratio_of_binomial_probabilities(strata, margin):
    ratios = np.geomspace(1.1, 10, 40)
    harm = _e_by_likelihoods(strata, 1 + margin, ratios * (1 + margin))
    safe = _e_by_likelihoods(strata, 1 + margin, (1 + margin) / ratios)
    assert harm == pytest.approx(rare_event_log_e(strata, margin=margin), abs=1e-9)
    assert safe == pytest.approx(rare_event_safe_log_e(strata, margin=margin), abs=1e-9)


@pytest.mark.parametrize("ratio", [0.3, 1.0, 1.25])
def test_under_the_null_hypothesis_the_expected_e_value_is_one_at_most(ratio):
    share, margin, events = 0.2, 0.25, 60
    q = share * ratio / (share * ratio + 1 - share)
    expected = sum(
        stats.binom.pmf(a, events, q) * math.exp(rare_event_log_e([(a, events - a, share)], margin=margin))
        for a in range(events + 1)
    )
    assert expected <= 1 + 1e-9
    mirrored = sum(
        stats.binom.pmf(a, events, 1 - q) * math.exp(rare_event_safe_log_e([(a, events - a, 1 - share)], margin=1 / 1.25 - 1))
        for a in range(events + 1)
    )
    assert mirrored <= 1 + 1e-9


def test_seven_errors_that_are_all_the_candidates_are_enough_at_a_share_of_one_half():
    enough = [n for n in range(1, 30) if rare_event_log_e([(n, 0, 0.5)]) >= math.log(20)]
    assert enough[0] == 7


@given(STRATA, MARGINS)
def test_the_evidence_of_rare_events_is_a_number_and_does_not_depend_on_the_order_of_phases(strata, margin):
    for function in (rare_event_log_e, rare_event_safe_log_e):
        assert math.isfinite(function(strata, margin=margin))
        assert function(strata[::-1], margin=margin) == pytest.approx(function(strata, margin=margin), rel=1e-9, abs=1e-7)


@given(st.integers(0, 1000), st.integers(0, 1000), st.floats(0.001, 0.999), MARGINS)
def test_calling_the_control_candidate_turns_harm_into_safety(a, b, share, margin):
    harm = rare_event_log_e([(a, b, share)], margin=margin)
    safe = rare_event_safe_log_e([(b, a, 1 - share)], margin=1 / (1 + margin) - 1)
    assert harm == pytest.approx(safe, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("nothing", [[], [(0, 0, 0.5)], [(5, 3, 0.0)], [(5, 3, 1.0)], [(5, 0, 1), (0, 9, 0)]])
def test_phases_that_compare_nothing_contribute_nothing(nothing):
    assert pytest.approx(0.0, abs=1e-12) == rare_event_log_e(nothing)
    some = [(5, 1, 0.5)]
    assert rare_event_log_e(some) == rare_event_log_e(some + nothing)


@pytest.mark.parametrize(
    ("strata", "margin", "word"),
    [
        ([(-1, 0, 0.5)], 0, "count"),
        ([(math.nan, 0, 0.5)], 0, "count"),
        ([(1, math.inf, 0.5)], 0, "count"),
        ([(1, 1, 1.5)], 0, "share"),
        ([(1, 1, math.nan)], 0, "share"),
        ([], -1, "margin"),
        ([], math.nan, "margin"),
    ],
)
def test_impossible_strata_are_refused(strata, margin, word):
    for function in (rare_event_log_e, rare_event_safe_log_e):
        with pytest.raises(ValueError, match=word):
            function(strata, margin=margin)


def _ever(function, direction, ratio, rng, *, rounds, phases=((0.01, 40), (0.05, 80), (0.25, 160), (0.5, 160)), level=20):
    """The part of ramps in which e reached `level` after one event or another, at a given rate ratio."""
    hits = 0
    for _ in range(rounds):
        done, reached = [], False
        for share, events in phases:
            q = share * ratio / (share * ratio + 1 - share)
            ours = np.cumsum(rng.random(events) < q)
            for n in range(4, events + 1, 4):
                a = int(ours[n - 1])
                reached = reached or function([*done, (a, n - a, share)], margin=direction) >= math.log(level)
            done.append((int(ours[-1]), events - int(ours[-1]), share))
        hits += reached
    return hits / rounds


def test_a_ramp_looked_at_after_every_few_errors_seldom_blames_a_good_candidate_and_finds_a_bad_one():
    rng = np.random.default_rng(11)
    assert _ever(rare_event_log_e, 0.0, 1.0, rng, rounds=60) <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 60)
    assert _ever(rare_event_log_e, 0.0, 3.0, rng, rounds=20) == 1.0


@pytest.mark.slow
def test_a_thousand_ramps_keep_the_error_probability_in_both_directions():
    rng = np.random.default_rng(12)
    bound = 0.05 + 3 * math.sqrt(0.05 * 0.95 / 500)
    assert _ever(rare_event_log_e, 0.0, 1.0, rng, rounds=500) <= bound
    assert _ever(rare_event_safe_log_e, 0.5, 1.5, rng, rounds=500) <= bound


@pytest.mark.parametrize(
    "strata", [[(4, 1, 0.01), (9, 30, 0.2), (30, 35, 0.5)], [(40, 900, 0.05)], [(12, 0, 0.5)], [(0, 30, 0.3)]]
)
@pytest.mark.parametrize("alpha", [0.05, 0.01])
def test_the_interval_of_a_ratio_holds_what_neither_one_sided_test_refutes(strata, alpha):
    low, high = rare_event_interval(strata, alpha=alpha)
    goal = math.log(2 / alpha)
    if low:
        assert rare_event_log_e(strata, margin=low - 1) == pytest.approx(goal, abs=1e-6)
    else:
        assert rare_event_log_e(strata, margin=-1 + 1e-12) < goal
    if math.isfinite(high):
        assert rare_event_safe_log_e(strata, margin=high - 1) == pytest.approx(goal, abs=1e-6)
    else:
        assert rare_event_safe_log_e(strata, margin=1e12) < goal


@given(STRATA, st.floats(1e-6, 0.9))
def test_the_interval_of_a_ratio_is_one_and_turns_round_with_the_arms(strata, alpha):
    # Shares whose complement is a float as well.
    exact = [(a, b, round(s * 1024) / 1024) for a, b, s in strata]
    low, high = rare_event_interval(exact, alpha=alpha)
    assert 0 <= low < high
    turned = rare_event_interval([(b, a, 1 - s) for a, b, s in exact], alpha=alpha)
    assert (low, 1 / high) == pytest.approx((1 / turned[1], turned[0]), rel=1e-6)
    # With one phase the likeliest ratio is known.
    a, b = sum(each[0] for each in exact), sum(each[1] for each in exact)
    low, high = rare_event_interval([(a, b, 0.25)], alpha=alpha)
    assert low <= (3 * a / b if b else math.inf)
    assert high >= 3 * a / b if b else high == math.inf


def test_without_events_a_ratio_can_be_anything():
    for nothing in ([], [(0, 0, 0.5)], [(3, 3, 1.0)]):
        assert rare_event_interval(nothing) == (0.0, math.inf)
    with pytest.raises(ValueError, match="alpha"):
        rare_event_interval([], alpha=0)
    with pytest.raises(ValueError, match="rare_event_interval: stratum"):
        rare_event_interval([(1, 1, 2)])


@pytest.mark.parametrize("ratio", [1.0, 2.0])
def test_the_interval_of_a_ratio_holds_the_truth_at_all_looks(ratio):
    rounds, rng, missed = 60, np.random.default_rng(14), 0
    for _ in range(rounds):
        q = 0.1 * ratio / (0.1 * ratio + 0.9)
        ours = np.cumsum(rng.random(300) < q)
        intervals = [rare_event_interval([(int(ours[n - 1]), n - int(ours[n - 1]), 0.1)]) for n in range(20, 301, 40)]
        missed += any(not low <= ratio <= high for low, high in intervals)
    assert missed / rounds <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / rounds)


def _interval_by_grid(successes, trials, alpha, t_opt, points=20_001):
    """All rates on a grid that the beta-binomial mixture does not refute."""
    p = np.linspace(0, 1, points)[1:-1]
    c = plan_rho(t_opt, alpha=alpha)
    log_e = stats.betabinom.logpmf(successes, trials, c * p, c * (1 - p)) - stats.binom.logpmf(successes, trials, p)
    kept = p[log_e < -math.log(alpha)]
    return kept.min(), kept.max()


@pytest.mark.parametrize(("successes", "trials"), [(0, 40), (1, 10), (5, 10), (40, 40), (37, 500), (499, 500), (2, 2)])
@pytest.mark.parametrize(("alpha", "t_opt"), [(0.05, 100), (0.01, 1000)])
def test_the_interval_of_a_rate_holds_what_the_beta_binomial_mixture_does_not_refute(successes, trials, alpha, t_opt):
    expected = _interval_by_grid(successes, trials, alpha, t_opt)
    assert expected == pytest.approx(bernoulli_interval(successes, trials, alpha=alpha, t_opt=t_opt), abs=1.01e-4)


@given(
    st.integers(0, 10**7).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), st.floats(1e-6, 0.9), st.floats(1, 1e6)
)
def test_the_interval_of_a_rate_lies_in_0_to_1_and_holds_the_observed_rate(counts, alpha, t_opt):
    successes, trials = counts
    low, high = bernoulli_interval(successes, trials, alpha=alpha, t_opt=t_opt)
    observed = successes / trials if trials else 0.5
    assert 0 <= low <= observed <= high <= 1
    mirrored = bernoulli_interval(trials - successes, trials, alpha=alpha, t_opt=t_opt)
    assert (1 - high, 1 - low) == pytest.approx(mirrored, abs=1e-6)


def test_without_trials_a_rate_can_be_anything():
    assert bernoulli_interval(0, 0) == (0.0, 1.0)


def test_the_interval_of_a_rate_holds_the_truth_at_all_looks():
    rng = np.random.default_rng(3)
    missed = 0
    for _ in range(200):
        total = np.cumsum(rng.random(400) < 0.1)
        intervals = [bernoulli_interval(int(total[n - 1]), n) for n in range(5, 401, 5)]
        missed += any(not low <= 0.1 <= high for low, high in intervals)
    assert missed / 200 <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 200)


@pytest.mark.parametrize(("successes", "trials", "limit"), [(0, 10, 0.2), (3, 400, 0.05), (1, 900, 0.01)])
def test_a_certificate_is_the_mean_of_five_bets_on_lower_rates(successes, trials, limit):
    rates = np.array([0, limit / 16, limit / 8, limit / 4, limit / 2])
    expected = stats.binom.pmf(successes, trials, rates).mean() / stats.binom.pmf(successes, trials, limit)
    assert math.log(expected) == pytest.approx(rate_below_log_e(successes, trials, limit=limit), rel=1e-9)


@pytest.mark.parametrize(("limit", "expected"), [(0.01, 348), (0.001, 3491)])
def test_without_a_mismatch_a_limit_is_certified_after_the_number_of_pairs_that_the_docstring_gives(limit, expected):
    needed = next(n for n in itertools.count(1) if rate_below_log_e(0, n, limit=limit) >= math.log(20))
    assert needed == expected


@pytest.mark.parametrize("rate", [0.05, 0.06, 0.2, 0.9])
@pytest.mark.parametrize("trials", [1, 40, 300])
def test_at_any_rate_from_the_limit_up_the_expected_certificate_is_one_at_most(rate, trials):
    expected = sum(
        stats.binom.pmf(s, trials, rate) * math.exp(rate_below_log_e(s, trials, limit=0.05)) for s in range(trials + 1)
    )
    assert expected <= 1 + 1e-9
    if rate == 0.05:
        assert expected == pytest.approx(1.0)


def test_certificates_looked_at_after_every_trial_are_seldom_wrong():
    rounds, rng = 300, np.random.default_rng(13)
    wrong = 0
    for _ in range(rounds):
        successes = np.cumsum(rng.random(600) < 0.02)
        wrong += any(rate_below_log_e(int(successes[n - 1]), n, limit=0.02) >= math.log(20) for n in range(1, 601, 3))
    assert wrong / rounds <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / rounds)


@given(st.integers(1, 10**6), st.floats(0, 1), st.floats(0.001, 0.999))
def test_a_rate_observed_at_the_limit_or_above_is_no_evidence_of_being_below(trials, rate, limit):
    successes = math.ceil(max(limit, rate) * trials)
    assert rate_below_log_e(min(successes, trials), trials, limit=limit) <= 1e-6


def test_certifying_nothing_is_no_evidence():
    assert rate_below_log_e(0, 0, limit=0.01) == 0.0


@pytest.mark.parametrize("counts", [(10, 12), (0, 300), (1, 0), (480, 520)])
@pytest.mark.parametrize("concentration", [100.0, 1000.0])
def test_sample_ratio_evidence_is_the_dirichlet_mixture_over_the_multinomial(counts, concentration):
    shares = np.array([0.4, 0.6])
    n = sum(counts)
    expected = stats.dirichlet_multinomial.logpmf(counts, concentration * shares, n) - stats.multinomial.logpmf(
        counts, n, shares
    )
    assert expected == pytest.approx(srm_log_e(counts, shares, concentration=concentration), abs=1e-8)


def test_three_arms_and_shares_as_weights_give_the_same_evidence_as_shares_that_add_to_one():
    assert srm_log_e([9, 20, 31], [1, 2, 3]) == pytest.approx(srm_log_e([9, 20, 31], [1 / 6, 1 / 3, 1 / 2]))


def test_a_sample_ratio_is_alarming_when_it_is_wrong_and_not_when_it_is_right():
    assert srm_log_e([50_000, 51_500], [1, 1]) >= math.log(1000)
    assert srm_log_e([50_000, 50_100], [1, 1]) < 0
    assert srm_log_e([0, 0], [1, 1]) == 0.0
    assert srm_log_e([7], [1]) == pytest.approx(0.0, abs=1e-9)


@given(st.lists(st.tuples(COUNTS, st.floats(1e-6, 1)), min_size=1, max_size=5))
def test_sample_ratio_evidence_is_a_number_and_does_not_depend_on_the_order_of_arms(arms):
    counts, shares = zip(*arms, strict=True)
    found = srm_log_e(counts, shares)
    assert math.isfinite(found)
    assert found == pytest.approx(srm_log_e(counts[::-1], shares[::-1]), rel=1e-9, abs=1e-6)


@pytest.mark.parametrize(
    ("counts", "shares", "concentration", "word"),
    [
        ([1], [1, 1], 1, "1 counts and 2 shares"),
        ([], [], 1, "0 counts"),
        ([-1, 2], [1, 1], 1, "counts"),
        ([math.nan, 2], [1, 1], 1, "counts"),
        ([1, 2], [0, 1], 1, "shares"),
        ([1, 2], [math.inf, 1], 1, "shares"),
        ([1, 2], [1, 1], 0, "concentration"),
    ],
)
def test_impossible_counts_and_shares_are_refused(counts, shares, concentration, word):
    with pytest.raises(ValueError, match=word):
        srm_log_e(counts, shares, concentration=concentration)


@pytest.mark.parametrize(("wins", "losses"), [(0, 0), (8, 1), (40, 60), (300, 200)])
@pytest.mark.parametrize("prior", [0.5, 1.0, 20.0])
def test_the_sign_evidence_is_the_beta_mixture_over_a_fair_coin(wins, losses, prior):
    expected = special.betaln(prior + wins, prior + losses) - special.betaln(prior, prior) + (wins + losses) * math.log(2)
    assert expected == pytest.approx(sign_log_e(wins, losses, prior=prior), abs=1e-9)


def test_the_expected_sign_evidence_under_a_fair_coin_is_exactly_one():
    expected = sum(stats.binom.pmf(w, 50, 0.5) * math.exp(sign_log_e(w, 50 - w)) for w in range(51))
    assert pytest.approx(1.0, rel=1e-9) == expected


@pytest.mark.parametrize(
    ("call", "word"),
    [
        (lambda: sign_log_e(-1, 0), "wins"),
        (lambda: sign_log_e(0, math.nan), "losses"),
        (lambda: sign_log_e(0, 0, prior=0), "prior"),
        (lambda: bernoulli_interval(3, 2), "successes"),
        (lambda: bernoulli_interval(math.nan, 2), "successes"),
        (lambda: bernoulli_interval(1, 2, t_opt=0.5), "t_opt"),
        (lambda: bernoulli_interval(1, 2, alpha=1), "alpha"),
        (lambda: rate_below_log_e(1, 2, limit=0), "limit"),
        (lambda: rate_below_log_e(-1, 2, limit=0.5), "successes"),
    ],
)
def test_impossible_arguments_are_refused_by_name(call, word):
    with pytest.raises(ValueError, match=word):
        call()
