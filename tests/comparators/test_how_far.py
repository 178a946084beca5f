"""How far two answers are apart, and the reason, for each comparator and kind of answer."""

import array

import numpy as np
import pandas as pd
import pytest

from rollout_sdk.comparators import Cosine, Text, compare


def objects(*values):
    found = np.empty(len(values), dtype=object)
    found[:] = values
    return found


@pytest.mark.parametrize(
    ("one", "other", "reason", "difference"),
    [
        (np.array([1.0, 2.0, 3.0]), np.array([1.0, 2.5]), "shape", 2 / 3),
        ([1.0, 2.0, 3.0], np.array([1.0, 2.0]), "length", 1 / 3),
        (np.array([1.0, 2.0]), [1.0, 2.0, 3.0], "length", 1 / 3),
        (np.array([[1, 2], [3, 4]]), np.array([1, 2]), "shape", 1.0),
        (np.array(["a", "b"]), np.array(["a"]), "shape", 0.5),
        (np.array([]), np.array([1.0]), "shape", 1.0),
        (pd.Series([1, 2, 3]), pd.Series([1, 2]), "shape", 1 / 3),
        (pd.Series([1.0, None, 3.0]), pd.Series([1.0, None]), "shape", 1 / 3),
        # Only Python can compare these.
        (objects(1.0, "x", 3.0), objects(1.0, "y"), "shape", 2 / 3),
        (objects(1.0, "x", 3.0), objects(1.0, "x"), "shape", 1 / 3),
        (np.array([1.0, 2.0, 3.0]), objects(1.0, None), "shape", 2 / 3),
        (array.array("d", [1, 2, 3]), array.array("d", [1, 3]), "length", 2 / 3),
    ],
)
def test_of_answers_of_two_lengths_the_places_that_are_not_the_same_are_counted(one, other, reason, difference):
    for found in (compare(one, other), compare(other, one)):
        assert (reason, pytest.approx(difference)) == (found.reason, found.difference)


FRAME = pd.DataFrame({"a": [1, 2], "b": [3, 4]})


@pytest.mark.parametrize(
    ("other", "reason", "difference"),
    [
        (FRAME.copy(), None, 0.0),
        (FRAME.assign(b=[3, 5]), "value", 0.5),
        (FRAME.set_axis([1, 2]), "index", 1.0),
        (FRAME.head(1), "shape", 1.0),
        (FRAME.rename(columns={"b": "c"}), "columns", 1.0),
        (FRAME.assign(c=0), "columns", 1 / 3),
        (FRAME[["b", "a"]], "columns", 1.0),
    ],
)
def test_of_two_frames_the_columns_that_differ_are_counted(other, reason, difference):
    for found in (compare(FRAME, other), compare(other, FRAME)):
        assert (reason, pytest.approx(difference)) == (found.reason, found.difference)


@pytest.mark.parametrize(
    ("one", "other", "reason", "difference"),
    [
        (None, None, None, 0.0),
        ("yes", None, "missing", 1.0),
        (None, "yes", "missing", 1.0),
        ("Yes, of course!", "yes of  course", None, 0.0),
        ("", "!", None, 0.0),
        ("", "yes", "text", 1.0),
        ("one two three four", "one two three five", "text", 0.25),
        ("one two", "two one", "text", 0.0),
        ("no no", "no", "text", 1 / 3),
    ],
)
def test_of_two_texts_the_words_that_only_one_has_are_counted(one, other, reason, difference):
    found = Text()(one, other)
    assert (reason, pytest.approx(difference)) == (found.reason, found.difference)


@pytest.mark.parametrize(("least", "is_match"), [(0.75, True), (0.76, False), (1.0, False)])
def test_texts_match_from_their_least_similarity_on(least, is_match):
    assert is_match == Text(min=least)("one two three four", "one two three five").match


VECTORS = ([3.0, 4.0], (3.0, 4.0), np.array([3.0, 4.0]), pd.Series([3.0, 4.0]), objects(3, 4))


@pytest.mark.parametrize("one", VECTORS, ids=lambda each: type(each).__name__)
@pytest.mark.parametrize("other", VECTORS, ids=lambda each: type(each).__name__)
def test_the_cosine_of_vectors_of_any_two_kinds(one, other):
    found = Cosine()(one, other)
    assert (True, pytest.approx(0, abs=1e-12)) == (found.match, found.difference)
    halved = Cosine(min=0.59)(one, [1.0, 0.0])
    assert (True, pytest.approx(0.4)) == (halved.match, halved.difference)
    assert ("value", pytest.approx(0.4)) == ((apart := Cosine(min=0.61)(one, [1.0, 0.0])).reason, apart.difference)
    assert ("length", 1.0) == ((longer := Cosine()(one, [*other, 1.0])).reason, longer.difference)
    assert ("value", 2.0) == ((opposite := Cosine()(one, [-each for each in other])).reason, pytest.approx(opposite.difference))
    assert ("value", 1.0) == ((nothing := Cosine()(one, [0.0, 0.0])).reason, nothing.difference)
