"""The report of shadows: fields, classes, numbers of both answers, noise, and both latencies."""

import json
import random
import threading
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from scipy.spatial.distance import jensenshannon

from rollout_sdk import Runtime, Shadow, ShadowLimits, rollout
from rollout_sdk.analysis import as_screen, as_text, summarise
from rollout_sdk.analysis.drift import drift_of
from rollout_sdk.comparators import Close, Fields, Ignore, Label, RankBiasedOverlap
from rollout_sdk.formatting import percent

samples = st.lists(st.floats(-100, 100) | st.sampled_from([0.0, 1.0]), min_size=1, max_size=60)


@given(samples, samples)
def test_distances_of_distributions_are_those_of_scipy(one, other):
    drift = drift_of(one, other)
    with warnings.catch_warnings():
        # About p-values of small samples, which are not used.
        warnings.simplefilter("ignore")
        statistic = stats.ks_2samp(one, other, method="asymp").statistic
    assert drift.kolmogorov_smirnov == pytest.approx(statistic, abs=1e-12)
    assert drift.wasserstein == pytest.approx(stats.wasserstein_distance(one, other), abs=1e-9)
    edges = sorted({sorted(one)[len(one) * place // 10] for place in range(1, 10)})
    counts = [np.bincount(np.searchsorted(edges, each, side="right"), minlength=len(edges) + 1) for each in (one, other)]
    assert drift.jensen_shannon == pytest.approx(jensenshannon(*counts, base=2) ** 2, abs=1e-9)
    p, q = ((each + 0.5) / (each + 0.5).sum() for each in counts)
    assert drift.population_stability == pytest.approx(((q - p) * np.log(q / p)).sum(), abs=1e-9)


def test_equal_samples_do_not_drift():
    drift = drift_of([1.0, 2.0, 2.0], [2.0, 1.0, 2.0])
    assert (drift.population_stability, drift.kolmogorov_smirnov, drift.wasserstein, drift.jensen_shannon) == (0, 0, 0, 0)


@pytest.fixture
def reported(tmp_path):
    """The report of calls to two models, and the only row about shadows."""

    def report(control, candidate, *, calls=200, outcomes=None, **options):
        runtime = Runtime(
            journal=tmp_path, shadows=ShadowLimits(max_jobs=10_000, cpu_share=1.0, max_age_s=60.0, timeout_s=60.0)
        )
        options = {"strategy": Shadow(1.0), "effects": "read", "unit": "user", "key": "model", "runtime": runtime, **options}
        model = rollout(candidate=candidate, **options)(control)
        for number in range(calls):
            decision = model.rollout.route(f"u{number}").decision
            if outcomes is not None:
                outcomes(model.rollout, decision, number)
            if number % 50 == 0:
                runtime.flush(60.0)
        runtime.close(60.0)
        found = summarise(tmp_path)
        (shadow,) = found.rollouts[0].phases[0].shadows
        return found, shadow

    return report


def classified(shift):
    def model(user):
        score = int(user[1:]) % 100 / 100 + shift
        return {"id": random.random(), "score": score, "label": "spam" if score > 0.5 else "ham"}

    return model


FIELDS = Fields({"id": Ignore(), "score": Close(abs=0.001), "label": Label()})


def test_every_field_is_counted(reported):
    found, shadow = reported(classified(0), classified(0.1), compare=FIELDS)
    fields = {each.field: each for each in shadow.fields}
    assert (fields["score"].compared, fields["score"].mismatch.mean) == (200, 1.0)
    assert fields["label"].mismatch.mean == pytest.approx(0.1)
    assert fields["score"].difference.mean == pytest.approx(0.1)
    assert fields["score"].reasons == {"value": 200}
    assert "score" in as_text(found)
    json.dumps(found.as_dict())


def test_the_screen_says_how_many_answers_agree_and_between_which_limits(reported):
    found, shadow = reported(lambda user: 1, lambda user: 1 if int(user[1:]) % 10 else 2)
    share = shadow.agreement
    assert 0.9 == pytest.approx(share.mean)
    expected = f"{percent(share.mean)} agree [{percent(share.low)}, {percent(share.high)}]"
    assert expected in " ".join(as_screen(found).split())


def test_classes_have_their_table_and_kappa(reported):
    found, shadow = reported(classified(0), classified(0.1), compare=FIELDS)
    table = shadow.labels
    counts = {(table.labels[i], table.labels[j]): table.counts[i][j] for i in range(2) for j in range(2)}
    assert counts == {("ham", "ham"): 82, ("ham", "spam"): 20, ("spam", "ham"): 0, ("spam", "spam"): 98}
    assert table.kappa == pytest.approx((0.9 - 0.51 * 0.41 - 0.49 * 0.59) / (1 - 0.51 * 0.41 - 0.49 * 0.59))
    text = as_text(found)
    assert "Cohen's kappa: 0.80" in text
    assert all(len(line) <= 80 for line in text.splitlines())


def test_numbers_of_both_answers_stand_side_by_side(reported):
    _, shadow = reported(classified(0), classified(0.1), compare=FIELDS, measure=lambda answer: {"score": answer["score"]})
    (metric,) = shadow.metrics
    assert (metric.metric, metric.pairs) == ("score", 200)
    assert metric.candidate - metric.control == pytest.approx(metric.difference.mean) == pytest.approx(0.1)
    assert metric.drift.wasserstein == pytest.approx(0.1)


def test_labels_of_both_answers_are_paired_and_of_one_alone_are_told(reported):
    def label(controller, decision, number):
        controller.record("correct", 1.0, decision_id=decision.id)
        controller.record("correct", float(number % 2), decision_id=decision.id, variant="candidate")
        controller.record("rated", 1.0, decision_id=decision.id, variant="candidate")

    found, shadow = reported(classified(0), classified(0), outcomes=label, calls=100)
    (metric,) = shadow.metrics
    assert (metric.pairs, metric.control, metric.candidate, metric.difference.mean) == (100, 1.0, 0.5, -0.5)
    assert found.rollouts[0].problems == {"of a shadow's answer alone": 100}
    (control,) = found.rollouts[0].phases[0].variants
    assert {each.metric: each.outcomes for each in control.metrics} == {"correct": 100}


def test_the_noise_of_the_control_stands_beside_the_candidate(reported):
    turns = iter(range(100_000))
    found, shadow = reported(lambda user: next(turns), lambda user: -1, compare=Close(noise=0.5))
    assert shadow.noise == 1.0
    assert "the control differs from itself in" in as_text(found)


def test_latency_of_both_is_that_of_the_same_calls(reported):
    found, shadow = reported(lambda user: 1, lambda user: 1)
    assert (shadow.latency.runs, shadow.control_latency.runs) == (200, 200)
    assert "candidate, in the background" in as_text(found)
    assert "Shadows cannot tell how users react" in as_text(found)


def test_agreement_has_an_interval_also_at_a_hundred_percent(reported):
    _, shadow = reported(lambda user: 1, lambda user: 1)
    assert shadow.agreement.mean == 1.0
    assert 0.95 < shadow.agreement.low < 1.0 == shadow.agreement.high


def test_errors_are_no_part_of_the_agreement(reported):
    def fails(user):
        if int(user[1:]) % 2:
            raise ValueError(user)
        return 1

    found, shadow = reported(lambda user: 1, fails, breaker=None)
    assert (shadow.compared, shadow.agreement.mean, shadow.errors) == (100, 1.0, {"ValueError": 100})
    assert found.rollouts[0].phases[0].shadows == (shadow,)


def test_rankings_have_their_overlap(reported):
    found, _ = reported(lambda user: list("abcd"), lambda user: list("abdc"), compare=RankBiasedOverlap())
    assert "mean rank-biased overlap of candidate and the control: 0.9" in as_text(found)


def test_the_report_names_what_was_not_copied(tmp_path):
    runtime = Runtime(journal=tmp_path, shadows=ShadowLimits(cpu_share=1.0))
    model = rollout(candidate=lambda lock: 1, strategy=Shadow(1.0), effects="read", key="model", runtime=runtime)(
        lambda lock: 1
    )
    for _ in range(10):
        model(threading.Lock())
    runtime.close(10.0)
    found = summarise(tmp_path)
    (shadow,) = found.rollouts[0].phases[0].shadows
    assert shadow.not_copied == {"unknown type lock (argument 'lock')": 10}
    assert shadow.errors == {}
    assert "candidate had no copy of its input: unknown type lock (argument 'lock') 10\n" in as_text(found)
