"""The domain of every number that a user sets: its closed ends are accepted; what lies outside, or is no number, is refused."""

import math

import pytest

from rollout_sdk import (
    ABTest,
    Breaker,
    Canary,
    Gate,
    Guardrail,
    Interleave,
    Judge,
    Money,
    Runtime,
    Shadow,
    ShadowLimits,
    rollout,
)
from rollout_sdk.comparators import Close, Cosine, Disagreements, RankBiasedOverlap, Text, TopK
from rollout_sdk.exceptions import ConfigurationError
from tests.domains import ends


def decorated(strategy=ABTest(0.5), **options):
    async def model(user):
        return 1

    return rollout(candidate=model, unit="user", runtime=Runtime(), strategy=strategy, **options)(model)


# The option, how it is set, and its domain; "whole" ones are counts.
NUMBERS = [
    ("alpha", lambda x: ABTest(0.5, alpha=x), "(0, 0.5)"),
    ("alpha", lambda x: Canary(alpha=x), "(0, 0.5)"),
    ("alpha", lambda x: Shadow(alpha=x), "(0, 0.5)"),
    ("alpha", lambda x: Interleave(alpha=x), "(0, 0.5)"),
    ("shares", lambda x: decorated(strategy=ABTest(x)), "[0, 1]"),
    ("shadow", lambda x: ABTest(0.5, shadow=x), "[0, 1]"),
    ("rate", lambda x: Shadow(x), "[0, 1]"),
    ("share", lambda x: Interleave(share=x), "[0, 1]"),
    ("oversample", lambda x: Interleave(limit="k", oversample=x), "[1, 100]"),
    ("holdout", lambda x: decorated(holdout=x), "[0, 1]"),
    ("deadline_s", lambda x: decorated(deadline_s=x), "(0, inf)"),
    ("mde", lambda x: Gate("click", mde=x), "(0, inf)"),
    ("window", lambda x: Gate("click", window=x), "[0, inf)"),
    ("grace", lambda x: Gate("click", grace=x), "[0, inf)"),
    ("audit", lambda x: Gate("judge.preference", audit=x), "[0, 1]"),
    ("floor", lambda x: Guardrail("error_rate", floor=x), "[0, 1)"),
    ("ceiling", lambda x: Guardrail("error_rate", ceiling=x), "(0, 1]"),
    ("copy_s", lambda x: ShadowLimits(copy_s=x), "[0, inf]"),
    ("timeout_s", lambda x: ShadowLimits(timeout_s=x), "[0, inf]"),
    ("max_age_s", lambda x: ShadowLimits(max_age_s=x), "[0, inf]"),
    ("cpu_share", lambda x: ShadowLimits(cpu_share=x), "(0, inf]"),
    ("failure_share", lambda x: Breaker(failure_share=x), "(0, 1]"),
    ("cooldown_s", lambda x: Breaker(cooldown_s=x, max_cooldown_s=9.0), "(0, 9]"),
    ("sample", lambda x: Judge(max, sample=x), "[0, 1]"),
    ("timeout_s", lambda x: Judge(max, timeout_s=x), "(0, inf)"),
    ("price", lambda x: Judge(max, budget=Money(1.0, "USD"), price=x), "(0, inf)"),
    ("noise", lambda x: Close(noise=x), "[0, 1]"),
    ("rel", lambda x: Close(rel=x), "[0, inf)"),
    ("abs", lambda x: Close(abs=x), "[0, inf)"),
    ("min", lambda x: Cosine(min=x), "[0, 1]"),
    ("p", lambda x: RankBiasedOverlap(p=x), "(0, 1)"),
    ("min", lambda x: RankBiasedOverlap(min=x), "[0, 1]"),
    ("min", lambda x: Text(min=x), "[0, 1]"),
    ("min", lambda x: TopK(3, min=x), "[0, 1]"),
    ("max_age_s", lambda x: Disagreements(redact=None, max_age_s=x), "[1, inf]"),
    ("exit_deadline_s", lambda x: Runtime(exit_deadline_s=x), "[0, inf)"),
]
COUNTS = [
    ("workers", lambda x: ShadowLimits(workers=x), 1),
    ("max_jobs", lambda x: ShadowLimits(max_jobs=x), 0),
    ("max_tasks", lambda x: ShadowLimits(max_tasks=x), 0),
    ("max_bytes", lambda x: ShadowLimits(max_bytes=x), 0),
    ("max_abandoned", lambda x: ShadowLimits(max_abandoned=x), 0),
    ("kept_items", lambda x: ShadowLimits(kept_items=x), 0),
    ("process_bytes", lambda x: ShadowLimits(process_bytes=x), 0),
    ("copy_bytes", lambda x: ShadowLimits(copy_bytes=x), 0),
    ("window", lambda x: Breaker(window=x, min_runs=1), 1),
    ("min_runs", lambda x: Breaker(window=100, min_runs=x), 1),
    ("concurrency", lambda x: Judge(max, concurrency=x), 1),
    ("retries", lambda x: Judge(max, retries=x), 0),
    ("queue", lambda x: Judge(max, queue=x), 1),
    ("k", lambda x: Interleave(k=x), 1),
    ("k", lambda x: TopK(x), 1),
    ("max_calls_per_unit", lambda x: Canary(max_calls_per_unit=x), 1),
    ("most", lambda x: Disagreements(x, redact=None), 1),
    ("max_bytes", lambda x: Disagreements(redact=None, max_bytes=x), 1),
]
NO_NUMBERS = ["many", b"1", [1], object(), math.nan]


def ids(cases):
    return [pytest.param(*each, id=f"{number}-{each[0]}-{each[2]}") for number, each in enumerate(cases)]


@pytest.mark.parametrize(("name", "make", "domain"), ids(NUMBERS))
def test_a_number_in_its_domain_is_accepted(name, make, domain):
    for value in ends(domain)[0]:
        make(value)


@pytest.mark.parametrize(("name", "make", "domain"), ids(NUMBERS))
def test_a_number_outside_its_domain_is_refused(name, make, domain):
    for value in [*ends(domain)[1], *NO_NUMBERS]:
        with pytest.raises(ConfigurationError):
            make(value)


@pytest.mark.parametrize(("name", "make", "least"), ids(COUNTS))
def test_a_count_is_a_whole_number_of_a_least_size(name, make, least):
    for value in (least, least + 1, least + 50):
        make(value)
    for value in [least - 1, -1000, least + 0.5, *NO_NUMBERS]:
        with pytest.raises(ConfigurationError):
            make(value)


@pytest.mark.parametrize(
    ("kind", "name", "choices"),
    [
        (Gate, "per", ("call", "outcome", "list")),
        (Gate, "before", ("step", "promotion")),
        (Gate, "better", ("higher", "lower")),
        (Guardrail, "per", ("call", "outcome")),
        (Guardrail, "better", ("higher", "lower")),
        (Guardrail, "on_fail", ("rollback", "pause", "warn")),
    ],
)
def test_an_option_takes_its_words_and_no_other(kind, name, choices):
    needed = {"margin": 0.1} if kind is Guardrail else {}
    for word in choices:
        assert word == getattr(kind("click", **needed, **{name: word}), name)
    for word in ("another", 1, True, *(("list",) if "list" not in choices else ())):
        with pytest.raises(ConfigurationError, match=f"{name}={word!r} of {kind.__name__}"):
            kind("click", **needed, **{name: word})
