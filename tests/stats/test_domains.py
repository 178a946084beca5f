"""The domain of every argument: its closed ends are accepted, its open ends and what lies outside are refused by name."""

import math
import re

import pytest

from rollout_sdk.stats import (
    agreement,
    buckets,
    cluster_bets,
    concentration,
    counts,
    distributions,
    group_sequential,
    multiplicity,
    planning,
    quantiles,
    rare_events,
    rates,
    sequential,
)
from tests.domains import ends

PLAN = {"effect": 0.5, "sigma": 1.0}


def cells(value=1.0, weight=1.0, bucket=0):
    made = buckets.StratifiedBuckets(8)
    made.add("phase", "arm", bucket, value, weight)


# Name in the message, call with a value, and the domain.
DOMAINS = [
    ("count", lambda x: agreement.cohens_kappa([[x, 1.0], [1.0, 2.0]]), "[0, inf)"),
    ("p", lambda x: agreement.rank_biased_overlap("ab", "ba", p=x), "(0, 1)"),
    ("depth", lambda x: agreement.average_overlap("ab", "ba", depth=int(x) if math.isfinite(x) else x), "[1, inf)"),
    ("count", lambda x: agreement.population_stability([x, 2.0], [1.0, 2.0]), "[0, inf)"),
    ("count", lambda x: agreement.population_stability([1.0, 2.0], [1.0, x]), "[0, inf)"),
    ("ratio", lambda x: cluster_bets.cluster_bets_log_e([[(1, 0, 0.5)]], ratio=x, direction="above"), "[1, inf)"),
    ("ratio", lambda x: cluster_bets.cluster_bets_log_e([[(1, 0, 0.5)]], ratio=x, direction="below"), "(0, 1]"),
    ("count", lambda x: cluster_bets.cluster_bets_log_e([[(x, 0, 0.5)]], direction="above"), "[0, inf)"),
    ("count", lambda x: cluster_bets.cluster_bets_log_e([[(0, x, 0.5)]], direction="above"), "[0, inf)"),
    ("share", lambda x: cluster_bets.cluster_bets_log_e([[(0, 0, x)]], direction="above"), "[0, 1]"),
    ("units", lambda x: concentration.skewness_squared_of([], units=x), "[0, inf)"),
    ("count", lambda x: counts.srm_log_e([x, 5], [0.5, 0.5]), "[0, inf)"),
    ("share", lambda x: counts.srm_log_e([5, 5], [x, 0.5]), "(0, inf)"),
    ("concentration", lambda x: counts.srm_log_e([5, 5], [0.5, 0.5], concentration=x), "(0, inf)"),
    ("win", lambda x: counts.sign_log_e(x, 3), "[0, inf)"),
    ("loss", lambda x: counts.sign_log_e(3, x), "[0, inf)"),
    ("prior", lambda x: counts.sign_log_e(3, 3, prior=x), "(0, inf)"),
    ("p", lambda x: distributions.student_t_quantile(x, 5.0), "(0, 1)"),
    ("df", lambda x: distributions.student_t_quantile(0.9, x), "(0, inf]"),
    ("alpha", lambda x: group_sequential.spending_boundaries([1.0], alpha=x), "(0, 1)"),
    ("information", lambda x: group_sequential.spending_boundaries([x]), "(0, inf)"),
    ("alpha", lambda x: multiplicity.e_bh([1.0, 2.0], alpha=x), "(0, 1)"),
    ("e", lambda x: multiplicity.e_bh([1.0, x]), "[0, inf]"),
    ("weight", lambda x: multiplicity.mix_log_e([0.1, 0.2], [x, 1 - x]), "[0, 1]"),
    ("cluster", lambda x: planning.design_effect(cluster_size=x, icc=0.1), "[1, inf)"),
    ("coefficient", lambda x: planning.design_effect(cluster_size=2.0, cv=x, icc=0.1), "[0, inf)"),
    ("intra-cluster", lambda x: planning.design_effect(cluster_size=2.0, icc=x), "[0, 1]"),
    ("days", lambda x: planning.planned_duration(traffic_per_day=1.0, ramp=[(0.1, x)], **PLAN), "[0, inf)"),
    ("traffic_per_day", lambda x: planning.planned_duration(traffic_per_day=x, **PLAN), "(0, inf)"),
    ("alpha", lambda x: planning.sample_size(alpha=x, power=0.9999, **PLAN), "(0, 0.9999)"),
    ("power", lambda x: planning.sample_size(power=x, **PLAN), "(0.05, 1)"),
    ("power", lambda x: planning.mde(total=100, sigma=1.0, power=x, sequential=True), "(0.05, 1)"),
    ("rate", lambda x: planning.sample_size(effect=0.01, rate=x), "(0, 1)"),
    ("share", lambda x: planning.sample_size(share=x, **PLAN), "(0, 1)"),
    ("sigma", lambda x: planning.sample_size(effect=0.5, sigma=x), "(0, inf)"),
    ("design_effect", lambda x: planning.sample_size(design_effect=x, **PLAN), "(0, inf)"),
    ("effect", lambda x: planning.sample_size(effect=max(x, 0.0), sigma=1.0), "(0, inf)"),
    ("mean", lambda x: planning.sample_size(relative=True, mean=max(x, 0.0), **PLAN), "(0, inf)"),
    ("total", lambda x: planning.mde(total=x, sigma=1.0), "(0, inf)"),
    ("total", lambda x: planning.planned_information(total=x, sigma=1.0), "(0, inf)"),
    ("q", lambda x: quantiles.quantile_interval([1.0, 2.0], x), "(0, 1)"),
    ("alpha", lambda x: quantiles.quantile_interval([1.0, 2.0], 0.5, alpha=x), "(0, 1)"),
    ("effect", lambda x: quantiles.quantile_interval([1.0, 2.0], 0.5, effect=x), "[1, inf)"),
    ("t_opt", lambda x: quantiles.quantile_interval([1.0, 2.0], 0.5, t_opt=x), "[1, inf)"),
    ("alpha", lambda x: rare_events.rare_event_interval([(1, 1, 0.5)], alpha=x), "(0, 1)"),
    ("margin", lambda x: rare_events.rare_event_log_e([(1, 1, 0.5)], margin=x), "(-1, inf)"),
    ("margin", lambda x: rare_events.rare_event_safe_log_e([(1, 1, 0.5)], margin=x), "(-1, inf)"),
    ("event", lambda x: rare_events.rare_event_log_e([(x, 1, 0.5)]), "[0, inf)"),
    ("event", lambda x: rare_events.rare_event_log_e([(1, x, 0.5)]), "[0, inf)"),
    ("share", lambda x: rare_events.rare_event_log_e([(0, 0, x)]), "[0, 1]"),
    ("t_opt", lambda x: rates.bernoulli_interval(5, 10, t_opt=x), "[1, inf)"),
    ("limit", lambda x: rates.rate_above_log_e(5, 10, limit=x), "[0, 1]"),
    ("limit", lambda x: rates.rate_below_log_e(5, 10, limit=x), "(0, 1)"),
    ("success", lambda x: rates.bernoulli_interval(x, 10), "[0, 10]"),
    ("trial", lambda x: rates.bernoulli_interval(2, x), "[2, inf)"),
    ("information", lambda x: sequential.plan_rho(x), "(0, inf)"),
    ("alpha", lambda x: sequential.confidence_sequence(0.1, 0.1, rho=1.0, alpha=x), "(0, 1)"),
    ("alpha", lambda x: sequential.one_sided_bound(0.1, 0.1, rho=1.0, alpha=x), "(0, 1)"),
    ("std_error", lambda x: sequential.log_e_two_sided(0.1, x, rho=1.0), "[0, inf]"),
    ("rho", lambda x: sequential.log_e_one_sided(0.1, 0.1, rho=x), "(0, inf)"),
    ("df", lambda x: sequential.log_e_two_sided(0.1, 0.1, rho=1.0, df=x), "[0, inf]"),
]


CASES = [pytest.param(*each, id=f"{number}-{each[0]}-{each[2]}") for number, each in enumerate(DOMAINS)]


@pytest.mark.parametrize(("name", "call", "domain"), CASES)
def test_what_lies_in_the_domain_is_accepted(name, call, domain):
    for value in ends(domain)[0]:
        call(value)


@pytest.mark.parametrize(("name", "call", "domain"), CASES)
def test_what_lies_outside_the_domain_is_refused_by_name(name, call, domain):
    for value in [*ends(domain)[1], math.nan, -math.inf]:
        with pytest.raises(ValueError, match=re.escape(name)):
            call(value)


@pytest.mark.parametrize(
    ("call", "accepted", "refused"),
    [
        (lambda x: cells(bucket=x), [0, 7], [-1, 8]),
        (lambda x: cells(value=x), [-1e50, 0.0, 1e50], [-1.1e50, 1.1e50, math.nan, math.inf]),
        (lambda x: cells(weight=x), [0.0, 1e-50, 1e50], [-1e-50, 1e-51, 1.1e50, math.nan]),
        (buckets.StratifiedBuckets, [1, 9], [0, -1]),
        (lambda x: agreement.average_overlap("ab", "ba", depth=x), [1, 2], [0, -1, 1.0, True]),
        (lambda x: planning.sample_size(effect=x, sigma=1.0), [-0.5, 0.5], [0.0, -math.inf, math.inf]),
    ],
    ids=["bucket", "value", "weight", "buckets", "depth", "effect"],
)
def test_whole_numbers_and_numbers_of_either_sign_have_ends_too(call, accepted, refused):
    for value in accepted:
        call(value)
    for value in refused:
        with pytest.raises(ValueError, match=re.escape(f"{value}"[:2])):
            call(value)


@pytest.mark.parametrize("df", [1e-4, 1e-3, 0.003, 0.01, 0.1, 0.5])
@pytest.mark.parametrize("p", [0.05, 0.4, 0.6, 0.9])
def test_quantiles_of_next_to_no_degrees_of_freedom_are_huge_and_invert_the_tail(p, df):
    t = distributions.student_t_quantile(p, df)
    assert (t < 0) == (p < 0.5)
    if math.isfinite(t):
        assert math.exp(distributions.log_student_t_cdf(-abs(t), df)) == pytest.approx(min(p, 1 - p), rel=1e-8)
    else:
        # Beyond the largest number: the tail is not yet this small there.
        assert math.exp(distributions.log_student_t_cdf(-1.7e308, df)) > min(p, 1 - p)
