"""E-values and confidence sequences, held against numerical integration, published numbers and simulation."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, stats

from rollout_sdk.stats import confidence_sequence, log_e_one_sided, log_e_two_sided, one_sided_bound, plan_rho
from rollout_sdk.stats.distributions import log_normal_cdf, log_student_t_cdf

ALPHAS = st.floats(1e-6, 0.5)
ESTIMATES = st.floats(-1e6, 1e6)
ERRORS = st.floats(1e-6, 1e6)
RHOS = st.floats(1e-6, 1e6)
DFS = st.none() | st.floats(1, 1e6)


def _mixture(estimate, error, rho, null, *, one_sided):
    """The likelihood ratio of every effect, integrated over its prior by quadrature."""
    ratio = lambda d: math.exp(stats.norm.logpdf(estimate, d, error) - stats.norm.logpdf(estimate, null, error))
    prior = lambda d: stats.norm.pdf(d, null, rho**-0.5) * (2 if one_sided else 1)
    low = null if one_sided else null - 12 * rho**-0.5
    return math.log(integrate.quad(lambda d: ratio(d) * prior(d), low, null + 12 * rho**-0.5, points=[estimate], limit=200)[0])


@pytest.mark.parametrize("one_sided", [False, True])
@pytest.mark.parametrize(("estimate", "error"), [(0.2, 0.5), (1.3, 0.4), (-0.9, 0.35), (0.1, 2.0), (2.4, 1.1)])
def test_the_normal_e_values_equal_their_mixture_integrals(estimate, error, one_sided):
    function = log_e_one_sided if one_sided else log_e_two_sided
    assert _mixture(estimate, error, 1.7, 0.2, one_sided=one_sided) == pytest.approx(
        function(estimate, error, rho=1.7, null=0.2), rel=1e-8
    )


@pytest.mark.parametrize("one_sided", [False, True])
@pytest.mark.parametrize("df", [1, 3, 19])
@pytest.mark.parametrize("z", [-6.0, -1.0, 0.0, 2.5, 5.0])
def test_the_t_e_values_equal_the_noncentral_t_mixed_over_its_prior(z, df, one_sided):
    sd = 2.0  # of the noncentrality: I / rho = 4
    density = lambda d: stats.norm.pdf(d, 0, sd) * stats.nct.pdf(z, df, d) / stats.t.pdf(z, df)
    upper = integrate.quad(density, 0, 12 * sd, limit=200)[0]
    expected = 2 * upper if one_sided else upper + integrate.quad(density, -12 * sd, 0, limit=200)[0]
    function = log_e_one_sided if one_sided else log_e_two_sided
    assert math.log(expected) == pytest.approx(function(z, 1.0, rho=1 / sd**2, df=df), rel=1e-7)


@pytest.mark.parametrize(
    ("times", "expected"), [(0.1, 3.82), (0.25, 3.25), (0.5, 3.08), (1, 3.035), (2, 3.06), (4, 3.13), (10, 3.25)]
)
def test_the_standard_errors_needed_are_the_published_ones(times, expected):
    error = times**-0.5
    _, high = confidence_sequence(0.0, error, rho=plan_rho(1.0))
    assert expected == pytest.approx(high / error, abs=0.0051)


def test_a_one_sided_decision_takes_2_77_standard_errors_as_published():
    _, high = one_sided_bound(0.0, 1.0, rho=plan_rho(1.0))
    assert pytest.approx(2.77, abs=0.0051) == high


def test_the_planned_rho_at_five_per_cent_is_an_8_21th_of_the_information():
    assert pytest.approx(100 / 8.21, rel=5e-4) == plan_rho(100.0)


@given(st.floats(1e-9, 0.9), st.floats(0.2, 5))
def test_no_other_rho_is_narrower_at_the_planned_information(alpha, factor):
    best = confidence_sequence(0.0, 1.0, rho=plan_rho(1.0, alpha=alpha), alpha=alpha)[1]
    other = confidence_sequence(0.0, 1.0, rho=plan_rho(1.0, alpha=alpha) * factor, alpha=alpha)[1]
    assert best <= other * (1 + 1e-12)


@given(ESTIMATES, ERRORS, RHOS, ALPHAS, DFS, st.floats(-8, 8))
def test_the_confidence_sequence_leaves_out_exactly_what_the_e_value_refutes(estimate, error, rho, alpha, df, distance):
    low, high = confidence_sequence(estimate, error, rho=rho, alpha=alpha, df=df)
    half = (high - low) / 2 if math.isfinite(high) else error
    null = estimate + distance * half
    log_e = log_e_two_sided(estimate, error, rho=rho, null=null, df=df)
    if abs(abs(null - estimate) - half) > 1e-6 * (half + abs(estimate)):
        assert (not low < null < high) == (log_e >= -math.log(alpha))


def test_where_no_effect_can_be_refuted_the_interval_is_infinite_and_beyond_that_it_grows_without_a_gap():
    """With r = 1/2 and alpha = 1/2, c r is 2^(3/(nu + 1)) / 2: exactly 1 where nu is 2."""
    ends = [confidence_sequence(3.0, 1.0, rho=1.0, alpha=0.5, df=df) for df in (1.5, 2.0, 2.0 + 1e-6, 2.1)]
    assert [(-math.inf, math.inf)] * 2 == ends[:2]
    assert ends[2][1] > 1_000 > ends[3][1]


@given(ESTIMATES, ERRORS, RHOS, ALPHAS, DFS, st.floats(-8, 8))
def test_a_one_sided_bound_leaves_out_exactly_what_the_e_value_refutes(estimate, error, rho, alpha, df, distance):
    low, high = one_sided_bound(estimate, error, rho=rho, alpha=alpha, df=df)
    half = (high - low) / 2 if math.isfinite(high) else error
    null = estimate + distance * half
    if abs(abs(null - estimate) - half) > 1e-6 * (half + abs(estimate)):
        at_most = log_e_one_sided(estimate, error, rho=rho, null=null, df=df)
        at_least = log_e_one_sided(-estimate, error, rho=rho, null=-null, df=df)
        assert (low >= null) == (at_most >= -math.log(alpha))
        assert (high <= null) == (at_least >= -math.log(alpha))


@given(ESTIMATES, ERRORS, RHOS, ALPHAS, DFS)
def test_a_bound_for_one_side_is_never_wider_than_the_interval_for_both(estimate, error, rho, alpha, df):
    low, high = confidence_sequence(estimate, error, rho=rho, alpha=alpha, df=df)
    lower, upper = one_sided_bound(estimate, error, rho=rho, alpha=alpha, df=df)
    assert low <= lower <= estimate <= upper <= high


@given(st.floats(-1e3, 1e3), st.floats(1e-3, 1e3), st.floats(1e-3, 1e3), DFS, st.floats(1e-6, 1e6), st.floats(-1e3, 1e3))
def test_evidence_does_not_depend_on_the_unit_of_the_metric(estimate, error, rho, df, unit, null):
    for function in (log_e_two_sided, log_e_one_sided):
        plain = function(estimate, error, rho=rho, null=null, df=df)
        scaled = function(estimate * unit, error * unit, rho=rho / unit**2, null=null * unit, df=df)
        assert plain == pytest.approx(scaled, rel=1e-6, abs=1e-6)


FINITE = st.floats(allow_nan=False, allow_infinity=False)


@given(FINITE, st.floats(0, math.inf), st.floats(0, 1e308, exclude_min=True), FINITE, st.none() | st.floats(0, 1e300))
def test_no_finite_input_gives_nan_or_minus_infinity(estimate, error, rho, null, df):
    for function in (log_e_two_sided, log_e_one_sided):
        assert function(estimate, error, rho=rho, null=null, df=df) > -math.inf
    for function in (confidence_sequence, one_sided_bound):
        low, high = function(estimate, error, rho=rho, df=df)
        assert low <= high


def test_the_one_sided_evidence_stays_finite_and_falls_however_far_below_the_null_the_estimate_is():
    values = [log_e_one_sided(-(10.0**k), 1.0, rho=0.1) for k in range(150)]
    assert sorted(values, reverse=True) == values
    assert all(map(math.isfinite, values))


@pytest.mark.parametrize(("error", "df"), [(0.0, None), (math.inf, None), (0.0, 7), (1.0, 0), (1.0, 0.9), (math.inf, 0)])
def test_without_a_standard_error_there_is_no_evidence_and_no_end_to_the_interval(error, df):
    assert log_e_two_sided(5.0, error, rho=1.0, df=df) == 0.0
    assert log_e_one_sided(5.0, error, rho=1.0, df=df) == 0.0
    assert confidence_sequence(5.0, error, rho=1.0, df=df) == (-math.inf, math.inf)
    assert one_sided_bound(5.0, error, rho=1.0, df=df) == (-math.inf, math.inf)


@pytest.mark.parametrize(
    "wrong",
    [
        {"estimate": math.nan},
        {"estimate": math.inf},
        {"std_error": math.nan},
        {"std_error": -1.0},
        {"rho": 0.0},
        {"rho": math.nan},
        {"rho": math.inf},
        {"df": -1.0},
        {"df": math.nan},
    ],
)
@pytest.mark.parametrize("function", [log_e_two_sided, log_e_one_sided, confidence_sequence, one_sided_bound])
def test_arguments_outside_their_domain_are_refused_by_name(function, wrong):
    arguments = {"estimate": 1.0, "std_error": 1.0, "rho": 1.0, "df": 5.0} | wrong
    with pytest.raises(ValueError, match=f"{function.__name__}.*{next(iter(wrong))}="):
        function(arguments.pop("estimate"), arguments.pop("std_error"), **arguments)


@pytest.mark.parametrize("alpha", [0, 1, math.nan, -1])
def test_an_impossible_alpha_is_refused(alpha):
    for function in (confidence_sequence, one_sided_bound):
        with pytest.raises(ValueError, match="alpha"):
            function(0.0, 1.0, rho=1.0, alpha=alpha)
    with pytest.raises(ValueError, match="alpha"):
        plan_rho(1.0, alpha=alpha)


@pytest.mark.parametrize("information", [0, -1, math.nan, math.inf])
def test_rho_is_planned_for_a_positive_information_only(information):
    with pytest.raises(ValueError, match="information"):
        plan_rho(information)


@pytest.mark.parametrize("x", [-1e8, -1000.0, -38.0, -12.1, -12.0, -11.9, -3.0, 0.0, 2.0, 7.0])
def test_the_logarithm_of_the_normal_distribution_equals_scipys(x):
    assert stats.norm.logcdf(x) == pytest.approx(log_normal_cdf(x), rel=1e-11, abs=2e-16)


@pytest.mark.parametrize("df", [1, 2.5, 19, 512, 1e5])
@pytest.mark.parametrize("t", [-30.0, -3.0, -0.1, -1e-9, 0.0, 0.5, 8.0])
def test_the_logarithm_of_students_distribution_equals_scipys(t, df):
    assert stats.t.logcdf(t, df) == pytest.approx(log_student_t_cdf(t, df), rel=1e-8, abs=1e-15)


def test_far_out_the_tail_of_students_distribution_is_the_power_it_should_be():
    # Cauchy: P(T < -t) = 1 / (pi t) far out.
    assert -math.log(math.pi * 1e200) == pytest.approx(log_student_t_cdf(-1e200, 1), rel=1e-12)
    # The tail is a power of t.
    for df in (0.5, 3, 40):
        expected = math.log(stats.t.sf(1e4, df)) - df * math.log(1e196)
        assert expected == pytest.approx(log_student_t_cdf(-1e200, df), rel=1e-7)


def _peeking(clusters, df, experiments, seed, *, looks=60):
    """The part of true nulls that were rejected at one look at least, two-sided and one-sided."""
    rng = np.random.default_rng(seed)
    rho = plan_rho(1.0)
    times = np.geomspace(0.05, 4, looks)
    # The boundary as a function of the standard error, read off a fine grid: the functions take one look at a time.
    grid = np.linspace(-8, 8, 300)
    errors = np.exp(grid / 2)
    both = [min(confidence_sequence(0.0, s, rho=rho, df=df)[1] / s, 1e9) for s in errors]
    one = [min(one_sided_bound(0.0, s, rho=rho, df=df)[1] / s, 1e9) for s in errors]
    sums = np.zeros((experiments, clusters))
    hits, upper = np.zeros(experiments, bool), np.zeros(experiments, bool)
    for time, step in zip(times, np.diff(times, prepend=0), strict=True):
        sums += rng.standard_normal(sums.shape) * math.sqrt(step * clusters)
        error = sums.std(axis=1, ddof=1) / math.sqrt(clusters) / time
        z = sums.mean(axis=1) / time / error
        hits |= np.abs(z) >= np.interp(2 * np.log(error), grid, both)
        upper |= z >= np.interp(2 * np.log(error), grid, one)
    return hits.mean(), upper.mean()


def _at_most(alpha, experiments):
    return alpha + 3 * math.sqrt(alpha * (1 - alpha) / experiments)


def test_with_twenty_clusters_the_t_forms_keep_their_promise_where_the_normal_forms_do_not():
    t_forms, normal_forms = _peeking(20, 19, 4000, seed=1), _peeking(20, None, 4000, seed=1)
    assert max(t_forms) <= 0.05
    assert min(normal_forms) > 0.05


@pytest.mark.slow
@pytest.mark.parametrize("clusters", [16, 20, 50, 200])
def test_peeking_two_hundred_times_keeps_the_error_probability(clusters):
    assert max(_peeking(clusters, clusters - 1, 10_000, seed=clusters, looks=200)) <= _at_most(0.05, 10_000)


@pytest.mark.parametrize("clusters", [5, 8, 12])
def test_with_very_few_clusters_half_of_the_degrees_of_freedom_keep_the_error_probability(clusters):
    assert max(_peeking(clusters, (clusters - 1) / 2, 4000, seed=clusters)) <= 0.05


def test_an_effect_of_the_planned_size_is_found():
    rng = np.random.default_rng(5)
    rho = plan_rho(1.0)
    found = [log_e_one_sided(z / 1.0, 1.0, rho=rho) >= math.log(20) for z in rng.normal(3.61, 1, 2000)]
    assert pytest.approx(0.8, abs=0.03) == np.mean(found)
