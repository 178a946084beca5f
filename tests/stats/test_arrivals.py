"""Checks of shares and of labels, against simulation and against each other."""

import math

import numpy as np
import pytest

from rollout_sdk.stats import MISMATCH, arrivals_log_e, labels_log_e, srm_log_e


def test_a_mismatch_takes_evidence_of_a_thousand():
    assert 1000 == pytest.approx(math.exp(MISMATCH))


def test_phases_add_up_and_those_with_nothing_random_are_left_out():
    split = ({"control": 480, "v2": 520}, {"control": 0.5, "v2": 0.5})
    ramp = ({"control": 990, "v2": 10}, {"control": 0.99, "v2": 0.01})
    shadow = ({"control": 500}, {"control": 1.0, "v2": 0.0})
    idle = ({}, {"control": 0.5, "v2": 0.5})
    expected = srm_log_e([480, 520], [0.5, 0.5]) + srm_log_e([990, 10], [0.99, 0.01])
    assert expected == pytest.approx(arrivals_log_e([split, ramp, shadow, idle]))
    assert arrivals_log_e([shadow, idle]) is None


def test_an_arm_that_has_a_share_and_no_unit_counts():
    assert arrivals_log_e([({"control": 200}, {"control": 0.5, "v2": 0.5})]) > MISMATCH


def test_labels_missing_alike_are_no_evidence_on_average_and_hardly_ever_an_alarm():
    rng, found = np.random.default_rng(1), []
    for rate in (0.02, 0.5, 0.97):
        for _ in range(600):
            labelled = {"control": int(rng.binomial(900, rate)), "v2": int(rng.binomial(100, rate))}
            found.append(labels_log_e(labelled, {"control": 900, "v2": 100}))
    assert np.exp(found).mean() <= 1
    assert max(found) < MISMATCH


@pytest.mark.parametrize(("rate", "fewer"), [(0.95, 0.85), (0.5, 0.4), (0.1, 0.06)])
def test_labels_that_one_arm_misses_are_found(rate, fewer):
    rng = np.random.default_rng(2)
    units = {"control": 3000, "v2": 3000}
    alarms = [
        labels_log_e({"control": int(rng.binomial(3000, rate)), "v2": int(rng.binomial(3000, fewer))}, units) >= MISMATCH
        for _ in range(50)
    ]
    # A power of four in five.
    assert sum(alarms) >= 40


def test_labels_of_one_arm_alone_compare_nothing():
    assert 0.0 == labels_log_e({"control": 5}, {"control": 10, "v2": 0})
