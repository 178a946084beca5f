"""One digest of a unit gives its point, its bucket and its holdout draw."""

import json
import subprocess
import sys
from uuid import UUID

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi2, chisquare

from rollout_sdk.assignment import BUCKETS, UnitHash, bucket_of, canonical, holdout_point, point_of, pseudonym, pseudonyms
from rollout_sdk.assignment.hashing import pseudonyms_of

UNITS = 100_000


def digests(salt, units=range(UNITS), key=None):
    hash_ = UnitHash(salt, key)
    return np.array([hash_(b"su-%d" % unit) for unit in units], dtype=np.uint64)


def points(found):
    return (found >> np.uint64(32)) / 2.0**32


def buckets(found):
    return (found & np.uint64(BUCKETS - 1)).astype(int)


def holdouts(found):
    return ((found >> np.uint64(9)) & np.uint64((1 << 23) - 1)) / 2.0**23


# Whoever changes one of these moves every user of every running rollout to another arm.
GOLDEN = [
    ("search", None, "u-1", "b48f5626466f3a93", 0.7053121416829526, 147),
    ("search", None, 1, "ee4cc237fa1add53", 0.9308587440755218, 339),
    ("search", None, True, "9a193b146f80b78c", 0.6019474910572171, 396),
    ("search", None, 1.5, "d0db0270a9a020f1", 0.8158418200910091, 241),
    ("search", None, "Zoë", "3d2763e53ff59f29", 0.23888229695148766, 297),
    ("search", None, b"\0\n", "5704680e4bcf7f41", 0.33991098729893565, 321),
    ("search", None, UUID(int=7), "1544237f240437af", 0.08307096338830888, 431),
    ("search", None, ("acme", 42), "b932750ceac99414", 0.7234261659905314, 20),
    ("search", None, "x" * 2000, "87b7ed7b732fcaf8", 0.5301502633374184, 248),
    ("ranking", None, "u-1", "b13c7aae405369a3", 0.6923290896229446, 419),
    ("search", b"secret", "u-1", "9e81a29950779d96", 0.6191655753646046, 406),
]


@pytest.mark.parametrize(("salt", "key", "unit", "digest", "point", "bucket"), GOLDEN)
def test_the_hash_of_a_unit_never_changes(salt, key, unit, digest, point, bucket):
    found = UnitHash(salt, key)(canonical(unit))
    assert (pseudonym(found), point_of(found), bucket_of(found)) == (digest, point, bucket)


def test_three_processes_with_different_hash_seeds_give_every_unit_the_same_arm():
    program = """
import json, uuid
from rollout_sdk import ABTest, rollout

@rollout(candidates={"v2": lambda u: 2, "v3": lambda u: 3}, strategy=ABTest({"v2": 0.2, "v3": 0.3}), unit="u", key="k")
def model(u):
    return 1

units = [f"u-{n}" for n in range(200)] + list(range(200)) + [("t", 1), uuid.UUID(int=5), b"x", 2.5, "Zo\\u00eb"]
print(json.dumps([model(unit) for unit in units]))
"""
    answers = [
        json.loads(
            subprocess.run(
                [sys.executable, "-c", program], env={"PYTHONHASHSEED": seed}, capture_output=True, check=True
            ).stdout
        )
        for seed in ("0", "1", "4242")
    ]
    assert answers[0] == answers[1] == answers[2]
    assert {1, 2, 3} == set(answers[0])


def test_points_are_uniform():
    counts = np.histogram(points(digests("uniform")), bins=1000, range=(0, 1))[0]
    assert chisquare(counts).pvalue > 1e-4


def test_buckets_are_uniform():
    assert chisquare(np.bincount(buckets(digests("uniform")), minlength=BUCKETS)).pvalue > 1e-4


def test_the_smallest_units_of_a_tiny_arm_are_spread_over_all_buckets():
    found = digests("tiny", range(400_000))
    counts = np.bincount(buckets(found[points(found) < 0.01]), minlength=BUCKETS)
    assert counts.all()
    assert chisquare(counts).pvalue > 1e-4


@pytest.mark.parametrize(("one", "other"), [(points, buckets), (points, holdouts), (holdouts, buckets)])
def test_point_bucket_and_holdout_are_independent_of_each_other(one, other):
    found = digests("independent")
    table = np.histogram2d(one(found), other(found), bins=16)[0]
    expected = table.sum() / table.size
    assert chi2.sf(((table - expected) ** 2 / expected).sum(), table.size - 1) > 1e-4


@given(st.integers(min_value=0, max_value=2**64 - 1))
def test_every_digest_has_a_point_a_bucket_and_a_holdout_draw_in_range(digest):
    assert 0 <= point_of(digest) < 1
    assert 0 <= bucket_of(digest) < BUCKETS
    assert 0 <= holdout_point(digest) < 1


@given(st.text(), st.text(), st.binary(), st.binary())
def test_salt_and_unit_do_not_run_together(salt, other_salt, unit, other_unit):
    same = (salt, unit) == (other_salt, other_unit)
    assert (UnitHash(salt)(unit) == UnitHash(other_salt)(other_unit)) == same


def test_a_key_changes_every_hash():
    plain, keyed = digests("key", range(10_000)), digests("key", range(10_000), key=b"secret")
    assert not (plain == keyed).any()
    assert abs(np.corrcoef(points(plain), points(keyed))[0, 1]) < 5 / 100


def test_ids_picked_to_fall_into_an_arm_without_the_key_fall_out_of_it_with_the_key():
    plain, keyed = digests("search"), digests("search", key=b"secret")
    bought = points(plain) < 0.01
    assert abs((points(keyed)[bought] < 0.01).mean() - 0.01) < 5 * np.sqrt(0.01 * 0.99 / bought.sum())


def test_pseudonyms_of_items_are_keyed_and_tell_items_of_any_type_apart():
    items = [1, "01", 1.5, True, b"1", ("a", 1), None, ("u", None), frozenset({1}), UUID(int=1)]
    plain, keyed = pseudonyms(UnitHash("k"), items), pseudonyms(UnitHash("k", b"secret"), items)
    assert len({*plain, *keyed}) == 2 * len(items)
    assert {len(pseudonym) for pseudonym in plain} == {16}


@given(st.lists(st.text(max_size=6)), st.sampled_from([None, b"key"]))
def test_many_texts_have_the_digests_that_they_have_one_by_one(texts, key):
    hash_ = UnitHash("salt", key)
    digests = hash_.each_text(texts)
    if all(text and text.isascii() for text in texts):
        assert [hash_(canonical(text)) for text in texts] == digests.tolist()
        assert [pseudonym(digest) for digest in digests] == pseudonyms_of(digests)
    else:
        assert digests is None
    raws = [raw for text in texts if (raw := canonical(text)) is not None]
    assert list(map(hash_, raws)) == hash_.each(raws).tolist()


@pytest.mark.parametrize(("length", "is_short"), [(1_024, True), (1_025, False)])
def test_long_texts_are_hashed_by_their_ends_also_among_others(length, is_short):
    assert is_short == (UnitHash("salt").each_text(["a", "a" * length]) is not None)
