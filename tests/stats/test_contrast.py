"""Comparisons of two arms: the floor of their variances, constant arms, and covariates."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special, stats

from rollout_sdk.stats import StratifiedBuckets, log_e_one_sided

BUCKETS, ALPHA = 512, 0.05


def _sums(x, d, buckets=None):
    """Sums of one phase: X and D of shape (candidate and control, bucket)."""
    sums = StratifiedBuckets(buckets or x.shape[1])
    for arm, values, weights in zip(("v2", "control"), x, d, strict=True):
        sums.add_sums("p", arm, values, weights)
    return sums


def _difference(x, d, times=1.0):
    """`StratifiedBuckets.difference` of many experiments at once: X and D of shape (experiment, arm, bucket)."""
    total_x, total_d = x.sum(axis=2), d.sum(axis=2)
    occupied = (d > 0).sum(axis=2)
    with np.errstate(all="ignore"):
        ratio = total_x / total_d
        factor = np.array([1.0, times]) / total_d * np.sqrt(occupied / (occupied - 1))
        psi = factor[:, :, None] * (x - ratio[:, :, None] * d)
        own = (psi**2).sum(axis=2)
        lent = own[:, ::-1] * total_d[:, ::-1] / total_d * np.array([times**-2, times**2])
        missing = np.maximum(0, lent - own)
        variance = ((psi[:, 0] - psi[:, 1]) ** 2).sum(axis=1) + missing.sum(axis=1)
        own += missing
        effect = ratio[:, 0] - times * ratio[:, 1]
        nothing = variance < 1e-24 * (ratio**2).sum(axis=1)
        half = effect[:, None] ** 2 / 12 * ((d / total_d[:, :, None]) ** 2).sum(axis=2)
        own = np.where(nothing[:, None], half, own)
        variance = np.where(nothing, half.sum(axis=1), variance)
        part = own / own.sum(axis=1, keepdims=True)
        welch = 1 / (part**2 / (occupied - 1)).sum(axis=1)
        df = np.minimum(welch, (d.sum(axis=1) > 0).sum(axis=1) - 1)
        error = np.sqrt(variance)
    known = (occupied.min(axis=1) >= 2) & (error > 0)
    return effect, np.where(known, error, math.inf), np.where(known, df, 0.0)


def _log_e(effect, error, df, rho):
    """`log_e_one_sided` of many experiments at once."""
    found = np.zeros(len(effect))
    known = np.isfinite(error) & (df >= 1)
    z, nu = effect[known] / error[known], df[known]
    r = rho / (error[known] ** -2.0 + rho)
    two_sided = np.log(r) / 2 + (nu + 1) / 2 * (np.log1p(z * z / nu) - np.log1p(r * z * z / nu))
    half = stats.t.logcdf(z * np.sqrt((1 - r) * (nu + 1) / (nu + r * z * z)), nu + 1)
    found[known] = math.log(2) + two_sided + half
    return found


@pytest.mark.parametrize("seed", range(6))
def test_the_vectorised_form_that_the_simulations_use_is_the_real_one(seed):
    rng = np.random.default_rng(seed)
    d = rng.poisson([[[0.2], [4.0]]], (1, 2, 64)).astype(float)
    x = rng.binomial(d.astype(int), (0.0, 0.02, 0.3)[seed % 3]) * 1.0
    times = (1.0, 2.0)[seed // 3]
    found = _sums(x[0], d[0]).difference("v2", "control", times=times)
    expected = [part[0] for part in _difference(x, d, times)]
    if found.std_error:
        assert expected == pytest.approx([found.estimate, found.std_error, found.df], rel=1e-9)
        log_e = log_e_one_sided(found.estimate, found.std_error, rho=9.0, df=found.df)
        assert _log_e(*(np.array([part]) for part in expected), 9.0)[0] == pytest.approx(log_e, rel=1e-6, abs=1e-9)
    else:
        assert expected[:2] == [0.0, math.inf]


def _bernoulli(rate):
    return lambda rng, counts: rng.binomial(counts, rate) * 1.0


def _heavy(draw):
    def sums(rng, counts):
        values = draw(rng, counts.sum())
        return np.bincount(np.repeat(np.arange(counts.size), counts.ravel()), values, counts.size).reshape(counts.shape)

    return sums


WORLDS = {
    "rate .005": (_bernoulli(0.005), 0.0025),
    "rate .02": (_bernoulli(0.02), 0.01),
    "rate .1": (_bernoulli(0.1), 0.05),
    "Pareto 1.5": (_heavy(lambda rng, n: 1 + rng.pareto(1.5, n)), 0.3),
    "Pareto 2": (_heavy(lambda rng, n: 1 + rng.pareto(2.0, n)), 0.2),
    "Pareto 2.5": (_heavy(lambda rng, n: 1 + rng.pareto(2.5, n)), 0.17),
    "lognormal 1.5": (_heavy(lambda rng, n: rng.lognormal(0, 1.5, n)), 0.3),
}


def _fooled(world, share, *, rounds, units, looks=50, seed=0):
    """The part of A/A experiments in which 50 looks ever found the candidate surely higher, and surely lower."""
    draw, mde = WORLDS[world]
    rng = np.random.default_rng(seed)
    x, d = np.zeros((rounds, 2, BUCKETS)), np.zeros((rounds, 2, BUCKETS))
    ever = np.zeros((2, rounds), bool)
    for _ in range(looks):
        rate = np.array([share, 1 - share])[:, None] * units / looks / BUCKETS
        counts = rng.poisson(rate, (rounds, 2, BUCKETS))
        d += counts
        x += draw(rng, counts)
        effect, error, df = _difference(x, d)
        for side, sign in enumerate((1, -1)):
            ever[side] |= _log_e(sign * effect, error, df, mde**-2) >= -math.log(ALPHA)
    return ever.mean(axis=1)


@pytest.mark.parametrize("share", [0.01, 0.05, 0.5])
@pytest.mark.parametrize("world", WORLDS)
def test_rare_values_and_heavy_tails_do_not_make_an_identical_candidate_surely_different(world, share):
    rounds = 40
    bound = ALPHA + 3 * math.sqrt(ALPHA * (1 - ALPHA) / rounds)
    assert _fooled(world, share, rounds=rounds, units=8000).max() <= bound


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.01, 0.05, 0.5])
@pytest.mark.parametrize("world", WORLDS)
def test_four_hundred_experiments_a_world_keep_the_error_probability(world, share):
    bound = ALPHA + 3 * math.sqrt(ALPHA * (1 - ALPHA) / 400)
    assert _fooled(world, share, rounds=400, units=20_000, seed=1).max() <= bound


def test_a_candidate_without_an_event_is_as_uncertain_as_the_control_says():
    """Two hundred units without an event, at a rate of one in two hundred, had a variance of 0 and were surely worse."""
    rng = np.random.default_rng(0)
    d = np.array([rng.multinomial(n, [1 / BUCKETS] * BUCKETS) for n in (200, 19_800)]) * 1.0
    x = np.array([np.zeros(BUCKETS), rng.binomial(d[1].astype(int), 0.005)])
    found = _sums(x, d).difference("v2", "control")
    assert found.std_error == pytest.approx(math.sqrt(0.005 * (1 / 200 + 1 / 19_800)), rel=0.15)
    same_calls = _sums(x, d).difference("v2", "control", paired=True)
    assert same_calls.std_error < 0.2 * found.std_error


@pytest.mark.parametrize("units", [4, 7, 20, 100, 250])
def test_a_constant_candidate_beside_another_constant_is_as_sure_as_a_permutation_test_is(units):
    sums = StratifiedBuckets(BUCKETS)
    for bucket in range(units):
        sums.add("p", "v2", 2 * bucket, 0.0)
        sums.add("p", "control", 2 * bucket + 1, 1.0)
    found = sums.difference("v2", "control")
    assert found.std_error == pytest.approx(1 / math.sqrt(6 * units))
    # The weakest prior shows what the data say: log e is its Bayes factor less the price of the prior.
    z2, nu = (found.estimate / found.std_error) ** 2, found.df
    evidence = (nu + 1) / 2 * math.log1p(z2 / nu)
    exact = special.gammaln(2 * units + 1) - 2 * special.gammaln(units + 1)
    assert 0.8 * exact <= evidence <= 1.2 * exact + 2


def test_the_evidence_of_constant_arms_grows_with_the_data_and_is_reached_within_a_dozen_units():
    log_es = []
    for units in (2, 5, 12, 50, 300, 5000):
        d = np.bincount(np.arange(units) % BUCKETS, minlength=BUCKETS) * np.ones((2, 1))
        found = _sums(d * [[1.0], [0.0]], d).difference("v2", "control")
        log_es.append(log_e_one_sided(found.estimate, found.std_error, rho=1.0, df=found.df))
    assert log_es == sorted(log_es)
    assert log_es[0] < math.log(20) <= log_es[2]


@pytest.mark.parametrize("value", [1e-6, 0.3, 7.0])
def test_constant_arms_are_as_sure_in_whatever_unit_and_from_whatever_zero_they_are_measured(value):
    d = np.ones((2, 64))
    plain = _sums(d * [[value], [0.0]], d).difference("v2", "control")
    shifted = _sums(d * [[value + 1000], [1000.0]], d).difference("v2", "control")
    assert plain.std_error / value == pytest.approx(math.sqrt(2 / 12 / 64))
    assert shifted.std_error == pytest.approx(plain.std_error, rel=1e-3)


def test_one_heavy_unit_does_not_make_constant_arms_sure():
    d = np.ones((2, 64))
    d[0, 0] = 1e6
    found = _sums(d * [[1.0], [0.0]], d).difference("v2", "control")
    assert found.std_error == pytest.approx(math.sqrt(1 / 12 * (1 + 1 / 64)), rel=1e-3)


def test_the_floor_follows_a_unit_through_the_phases():
    """With the same units in two phases, the other arm's covariance across phases is in the floor as well."""
    rng = np.random.default_rng(4)
    sums, taste = StratifiedBuckets(64), rng.normal(0, 1, 64)
    for phase in ("a", "b"):
        sums.add_sums(phase, "control", 20 * taste, [20.0] * 64)
        sums.add_sums(phase, "v2", [0.0] * 64, [5.0] * 64)
    variance = taste.var(ddof=1) / 64
    # Per unit of weight, four times the variance where there is a quarter of the weight.
    assert sums.difference("v2", "control").std_error == pytest.approx(math.sqrt(variance * (1 + 4)))


def _covaried(rng, corr, buckets=BUCKETS, per=20):
    """Sums of a metric and of its covariate: calls of users, half in either arm, with this correlation."""
    users = buckets * per
    before = rng.normal(0, 1, users)
    after = corr * before + math.sqrt(1 - corr * corr) * rng.normal(0, 1, users)
    arm, bucket = rng.random(users) < 0.5, rng.integers(0, buckets, users)
    both = []
    for values in (after, before):
        mine = [np.bincount(bucket[each], values[each], buckets) for each in (arm, ~arm)]
        counts = [np.bincount(bucket[each], minlength=buckets) * 1.0 for each in (arm, ~arm)]
        both.append(_sums(np.array(mine), np.array(counts)))
    return both


def test_a_covariate_takes_off_the_part_of_the_variance_that_it_explains():
    rng = np.random.default_rng(5)
    kept = []
    for _ in range(10):
        sums, before = _covaried(rng, 0.7)
        plain, less = sums.difference("v2", "control"), sums.difference("v2", "control", covariate=before)
        assert less.df == pytest.approx(plain.df - 1, abs=2)
        kept.append((less.std_error / plain.std_error) ** 2)
    assert np.mean(kept) == pytest.approx(1 - 0.49, abs=0.04)


def test_adjusted_differences_scatter_as_their_standard_errors_say():
    rng = np.random.default_rng(6)
    z = []
    for _ in range(200):
        sums, before = _covaried(rng, 0.7, buckets=64)
        found = sums.difference("v2", "control", covariate=before)
        z.append(found.estimate / found.std_error)
    assert abs(np.mean(z)) < 3 / math.sqrt(200)
    assert np.std(z) == pytest.approx(1.0, abs=0.16)


@pytest.mark.parametrize("constant", [0.0, 0.1, 3.0])
def test_a_covariate_that_does_not_vary_changes_nothing(constant):
    sums, before = _covaried(np.random.default_rng(7), 0.5)
    flat = StratifiedBuckets(BUCKETS)
    for arm in ("v2", "control"):
        weights = np.array(before.cell("p", arm)[1])
        flat.add_sums("p", arm, constant * weights, weights)
    assert sums.difference("v2", "control", covariate=flat) == sums.difference("v2", "control")
    assert sums.difference("v2", "control", covariate=StratifiedBuckets(BUCKETS)) == sums.difference("v2", "control")


@pytest.mark.parametrize("unit", [1e-13, 1e-3, 1e3, 1e13])
def test_the_unit_of_a_covariate_changes_nothing(unit):
    rng = np.random.default_rng(9)
    weights = rng.poisson(20, (2, BUCKETS)) * 1.0
    # The candidate varies so little that its variance is the least that the control's allows.
    before, noise = rng.normal(0, 1, (2, BUCKETS)), rng.normal(0, 1, (2, BUCKETS))
    sums = _sums((before + noise) * [[0.01], [1.0]], weights)
    found = sums.difference("v2", "control", covariate=_sums(before, weights))
    scaled = sums.difference("v2", "control", covariate=_sums(before * unit, weights))
    assert found.std_error < 0.9 * sums.difference("v2", "control").std_error
    numbers = [(each.estimate, each.std_error, each.df) for each in (found, scaled)]
    assert numbers[1] == pytest.approx(numbers[0], rel=1e-9)


def test_a_covariate_equal_to_the_metric_explains_everything():
    sums, _ = _covaried(np.random.default_rng(8), 0.5)
    found = sums.difference("v2", "control", covariate=sums)
    assert (pytest.approx(0.0, abs=1e-12), 0.0) == (found.estimate, found.std_error)


def test_a_covariate_with_other_buckets_is_refused():
    with pytest.raises(ValueError, match="covariate with 8 buckets"):
        StratifiedBuckets(16).difference("v2", "control", covariate=StratifiedBuckets(8))


CELL = st.lists(st.tuples(st.integers(-20, 20).map(float), st.integers(0, 5).map(float)), min_size=6, max_size=6)


@given(CELL, CELL, st.sampled_from([0.5, 1.0, 2.0]))
def test_the_floor_never_lowers_an_error_and_neither_does_anything_else_become_nan(candidate, control, times):
    sums = StratifiedBuckets(6)
    for arm, cell in (("v2", candidate), ("control", control)):
        sums.add_sums("p", arm, *(np.array(part) for part in zip(*cell, strict=True)))
    found, bare = (sums.difference("v2", "control", times=times, paired=each) for each in (False, True))
    assert found.estimate == bare.estimate
    assert not math.isnan(found.std_error)
    assert not math.isnan(found.df)
    varies = len({(x - bare.estimate * d) for x, d in candidate}) > 1
    if math.isfinite(bare.std_error) and varies and bare.df == found.df:
        assert found.std_error >= bare.std_error * (1 - 1e-9)


def _revenue(rng, lift=1.0, users=4000, buckets=BUCKETS):
    """Sums of two phases in which the base changes, and the candidate earns `lift` times the control."""
    sums = StratifiedBuckets(buckets)
    bucket, point, taste = rng.integers(0, buckets, users), rng.random(users), rng.gamma(2, 1, users)
    for phase, share, base in (("a", 0.1, 1.0), ("b", 0.5, 3.0)):
        values = base * taste * rng.gamma(4, 0.25, users)
        for arm, mine, times in (("v2", point < share, lift), ("control", point >= share, 1.0)):
            counts = np.bincount(bucket[mine], minlength=buckets) * 1.0
            sums.add_sums(phase, arm, np.bincount(bucket[mine], times * values[mine], buckets), counts)
    return sums


def test_relative_lifts_are_logarithms_that_scatter_as_their_standard_errors_say():
    rng = np.random.default_rng(9)
    z = []
    for _ in range(200):
        found = _revenue(rng, lift=1.3, users=1500, buckets=128).relative("v2", "control")
        z.append((found.estimate - math.log(1.3)) / found.std_error)
    assert abs(np.mean(z)) < 3 / math.sqrt(200)
    assert np.std(z) == pytest.approx(1.0, abs=0.16)


def test_in_one_phase_a_relative_lift_is_the_delta_method_on_the_ratio_of_means():
    rng = np.random.default_rng(10)
    d = rng.integers(1, 40, (2, 64)).astype(float)
    x = rng.gamma(3, 1, (2, 64)) * d
    found = _sums(x, d).relative("v2", "control", paired=True)
    ratio = x.sum(axis=1) / d.sum(axis=1)
    psi = (x - ratio[:, None] * d) / d.sum(axis=1)[:, None] / ratio[:, None]
    expected = math.log(ratio[0] / ratio[1]), math.sqrt(64 / 63 * ((psi[0] - psi[1]) ** 2).sum()), 63
    assert expected[:2] == pytest.approx((found.estimate, found.std_error))
    assert _sums(x, d).relative("v2", "control").std_error > found.std_error


def test_a_relative_lift_does_not_depend_on_the_unit_of_the_metric_and_turns_round_with_the_arms():
    sums, more = (_revenue(np.random.default_rng(11)) for _ in range(2))
    for phase in sums.phases():
        for arm in sums.arms():
            values, weights = sums.cell(phase, arm)
            more.add_sums(phase, arm, np.array(values) * 63, np.zeros(len(weights)))
    found, scaled, turned = sums.relative("v2", "control"), more.relative("v2", "control"), sums.relative("control", "v2")
    assert (found.estimate, found.std_error) == pytest.approx((scaled.estimate, scaled.std_error))
    assert (found.estimate, found.std_error) == pytest.approx((-turned.estimate, turned.std_error))


@pytest.mark.parametrize("means", [(0.0, 1.0), (1.0, 0.0), (-1.0, 1.0), (1.0, -2.0)])
def test_there_is_no_relative_lift_of_means_that_are_not_positive(means):
    d = np.ones((2, 8))
    assert _sums(d * np.array(means)[:, None], d).relative("v2", "control") is None
    assert StratifiedBuckets(8).relative("v2", "control") is None
    with pytest.raises(ValueError, match="compared with itself"):
        StratifiedBuckets(8).relative("v2", "v2")
