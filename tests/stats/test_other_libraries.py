"""Where SciPy, statsmodels and tea-tasting compute the same figure, it is the same."""

import math

import numpy
import pytest
from scipy import stats

from rollout_sdk.stats import StratifiedBuckets, cohens_kappa, mde, ratio_of_sums, sample_size

WHY = "it comes with the extra [dev]: make test installs it"
TO = 1e-9


def drawn(seed, treated=150, control=250):
    """Users of two arms: their calls, sums of values, and a covariate that goes with these."""
    rng = numpy.random.default_rng(seed)
    users = treated + control
    calls = rng.integers(1, 20, users).astype(float)
    before = rng.gamma(2.0, 3.0, users)
    values = calls * (1.0 + 0.2 * before) + rng.normal(0.0, 3.0, users) + 20.0
    return numpy.arange(users) < treated, calls, values, before


def sums(is_treated, values, weights):
    """Sums of two arms with a bucket for each user: then nothing is lost by buckets."""
    found = StratifiedBuckets(len(values))
    for bucket, (treated, value, weight) in enumerate(zip(is_treated, values, weights, strict=True)):
        found.add("0", "v2" if treated else "control", bucket, float(value), float(weight))
    return found


def interval(found, confidence=0.95):
    half = stats.t.ppf((1 + confidence) / 2, found.df) * found.std_error
    return found.estimate - half, found.estimate + half


@pytest.mark.parametrize("seed", range(3))
def test_a_difference_of_means_is_that_of_welchs_test(seed):
    is_treated, _, values, _ = drawn(seed)
    # Without the floor, which lets no arm have a smaller variance than the other.
    found = sums(is_treated, values, numpy.ones(len(values))).difference("v2", "control", paired=True)
    welch = stats.ttest_ind(values[is_treated], values[~is_treated], equal_var=False)
    assert welch.df == pytest.approx(found.df, rel=TO)
    assert tuple(welch.confidence_interval(0.95)) == pytest.approx(interval(found), rel=TO)


@pytest.mark.parametrize("seed", range(3))
def test_ratios_their_difference_and_lift_are_those_of_tea_tasting(seed):
    tea_tasting = pytest.importorskip("tea_tasting", reason=WHY)
    pandas = pytest.importorskip("pandas")
    is_treated, calls, values, _ = drawn(seed)
    users = pandas.DataFrame({"variant": is_treated.astype(int), "calls": calls, "value": values})
    experiment = tea_tasting.Experiment(
        mean=tea_tasting.Mean("value", equal_var=False), ratio=tea_tasting.RatioOfMeans("value", "calls", equal_var=False)
    )
    analysed = experiment.analyze(users)
    for theirs, weights in ((analysed["mean"], numpy.ones(len(values))), (analysed["ratio"], calls)):
        of_arms = sums(is_treated, values, weights)
        difference = of_arms.difference("v2", "control", paired=True)
        lift = of_arms.relative("v2", "control", paired=True)
        assert theirs.effect_size == pytest.approx(difference.estimate, rel=TO)
        assert (theirs.effect_size_ci_lower, theirs.effect_size_ci_upper) == pytest.approx(interval(difference), rel=TO)
        assert theirs.rel_effect_size == pytest.approx(math.expm1(lift.estimate), rel=TO)
        ends = theirs.rel_effect_size_ci_lower, theirs.rel_effect_size_ci_upper
        assert ends == pytest.approx(tuple(map(math.expm1, interval(lift))), rel=TO)


@pytest.mark.parametrize("seed", range(3))
def test_standard_errors_by_user_are_the_cluster_robust_ones_of_statsmodels(seed):
    api = pytest.importorskip("statsmodels.api", reason=WHY)
    is_treated, calls, _, _ = drawn(seed, treated=120, control=120)
    rng, size = numpy.random.default_rng(seed), calls.astype(int)
    user = numpy.repeat(numpy.arange(len(size)), size)
    value = numpy.repeat(rng.normal(5.0, 2.0, len(size)), size) + rng.normal(0.0, 1.0, len(user))
    found = sums(is_treated, numpy.bincount(user, value), calls).difference("v2", "control", paired=True)
    of_calls = api.OLS(value, api.add_constant(is_treated[user].astype(float)))
    fitted = of_calls.fit(cov_type="cluster", cov_kwds={"groups": user, "use_correction": False})
    assert fitted.params[1] == pytest.approx(found.estimate, rel=TO)
    # They correct for the number of clusters as for one sample, or not at all; here each arm is one.
    assert fitted.bse[1] * math.sqrt(120 / 119) == pytest.approx(found.std_error, rel=TO)


@pytest.mark.parametrize("seed", range(3))
def test_a_difference_with_a_covariate_is_that_of_the_regression_on_both(seed):
    api = pytest.importorskip("statsmodels.api", reason=WHY)
    is_treated, _, values, before = drawn(seed, treated=200, control=200)
    ones = numpy.ones(len(values))
    found = sums(is_treated, values, ones).difference("v2", "control", covariate=sums(is_treated, before, ones))
    fitted = api.OLS(values, numpy.column_stack([ones, is_treated, before])).fit()
    assert fitted.params[1] == pytest.approx(found.estimate, rel=TO)


@pytest.mark.parametrize("seed", range(3))
def test_a_mean_and_its_interval_are_those_of_statsmodels(seed):
    weightstats = pytest.importorskip("statsmodels.stats.weightstats", reason=WHY)
    api = pytest.importorskip("statsmodels.api", reason=WHY)
    _, calls, values, _ = drawn(seed)
    mean = ratio_of_sums((value, 1.0) for value in values)
    assert weightstats.DescrStatsW(values).tconfint_mean() == pytest.approx((mean.low, mean.high), rel=TO)
    # With unequal users: the mean, and the standard error from leaving out one at a time (HC3), times a quantile of Student's.
    ratio, n = ratio_of_sums(zip(values, calls, strict=True)), len(calls)
    fitted = api.WLS(values / calls, numpy.ones(n), weights=calls).fit(cov_type="HC3")
    assert fitted.params[0] == pytest.approx(ratio.mean, rel=TO)
    quantile = (ratio.high - ratio.low) / 2 / (fitted.bse[0] * math.sqrt((n - 1) / n))
    assert stats.t.ppf(0.975, n - 1) < quantile < stats.t.ppf(0.975, n / 4)


@pytest.mark.parametrize("n", [1_000, 150, 40])
def test_the_share_that_nobody_of_n_had_is_that_of_clopper_and_pearson(n):
    proportion = pytest.importorskip("statsmodels.stats.proportion", reason=WHY)
    nobody = ratio_of_sums([(0.0, 1.0)] * n, within=(0.0, 1.0))
    assert proportion.proportion_confint(0, n, method="beta") == pytest.approx((nobody.low, nobody.high), rel=TO)


@pytest.mark.parametrize("seed", range(3))
def test_kappa_is_that_of_statsmodels(seed):
    inter_rater = pytest.importorskip("statsmodels.stats.inter_rater", reason=WHY)
    table = numpy.random.default_rng(seed).integers(0, 50, (4, 4)).tolist()
    assert inter_rater.cohens_kappa(numpy.array(table)).kappa == pytest.approx(cohens_kappa(table), rel=TO)


@pytest.mark.parametrize(("share", "alpha", "power"), [(0.5, 0.05, 0.8), (0.1, 0.05, 0.9), (0.3, 0.01, 0.5)])
def test_units_needed_and_effects_detected_are_those_of_statsmodels(share, alpha, power):
    theirs = pytest.importorskip("statsmodels.stats.power", reason=WHY).NormalIndPower()
    test = {"alpha": alpha, "ratio": share / (1 - share), "alternative": "larger"}
    plan = {"sigma": 3.0, "share": share, "alpha": alpha, "power": power, "one_sided": True}
    controls = theirs.solve_power(effect_size=0.1 / 3.0, power=power, **test)
    assert math.ceil(controls / (1 - share)) == sample_size(effect=0.1, **plan)
    effect = mde(total=5_000, **plan)
    assert power == pytest.approx(theirs.power(effect / 3.0, nobs1=5_000 * (1 - share), **test), rel=TO)
