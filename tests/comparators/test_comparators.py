"""The comparators that `compare=` takes: what matches, how far answers are apart, and what is refused."""

import math
from collections import namedtuple
from dataclasses import dataclass, field
from types import SimpleNamespace

import attrs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict
from scipy.spatial import distance

from rollout_sdk import Comparison, ConfigurationError
from rollout_sdk.comparators import (
    Close,
    Cosine,
    Equal,
    Fields,
    Ignore,
    Label,
    RankBiasedOverlap,
    Text,
    TopK,
    as_comparator,
    compare,
)


@dataclass
class Data:
    score: float
    label: str = "ham"
    vector: list[float] = field(default_factory=list)


@attrs.define
class Attrs:
    score: float
    label: str = "ham"


class Model(BaseModel):
    model_config = ConfigDict(extra="allow")
    score: float
    label: str = "ham"


class Plain:
    def __init__(self, score):
        self.score = score


Tuple = namedtuple("Tuple", "score label")


@pytest.mark.parametrize(
    "make",
    [
        Data,
        Attrs,
        lambda score: Model(score=score),
        Plain,
        lambda score: SimpleNamespace(score=score),
        lambda score: Tuple(score, "x"),
    ],
)
def test_objects_are_compared_by_field(make):
    assert compare(make(0.5), make(0.5 + 1e-9)).match
    assert compare(make(0.5), make(0.6)).reason == "value"
    fields = Fields({"score": Close(abs=0.2)}, extra="ignore")
    assert fields(make(0.5), make(0.6)).match
    assert not fields(make(0.5), make(0.8)).match


def test_a_dataclass_that_holds_arrays_has_no_truth_and_is_compared_all_the_same():
    one, other = (Data(0.5, vector=np.array([1.0, 2.0])) for _ in "ab")
    assert compare(one, other).match
    other.vector[1] = 3.0
    assert compare(one, other).reason == "value"


def test_a_class_that_says_that_two_are_equal_is_believed():
    @dataclass(eq=False)
    class Known:
        id: int

        def __eq__(self, other):
            return True

        __hash__ = None

    assert compare(Known(1), Known(2)).match


def test_extra_fields_of_a_pydantic_model_count():
    assert compare(Model(score=1, more=1), Model(score=1, more=2)).reason == "value"


def test_messages_of_protobuf():
    struct = pytest.importorskip("google.protobuf.struct_pb2", reason="protobuf is not installed")
    one, other = struct.Struct(), struct.Struct()
    for message, score in ((one, 0.5), (other, 0.5 + 1e-9)):
        message.update({"score": score, "labels": ["a", "b"], "more": {"x": 1}})
    assert compare(one, other).match
    other["score"] = 0.7
    assert not compare(one, other).match
    one.Clear()
    assert not compare(one, other).match


def completion(text, **about):
    openai = pytest.importorskip("openai.types.chat", reason="openai is not installed")
    message = {"role": "assistant", "content": text}
    return openai.ChatCompletion.model_validate(
        {"id": "c1", "created": 1, "model": "m", "object": "chat.completion",
         "choices": [{"index": 0, "finish_reason": "stop", "message": message}], **about}
    )  # fmt: skip


def test_answers_of_language_models_with_ids_and_times():
    answers = Fields({"id": Ignore(), "created": Ignore(), "choices.0.message.content": Text()})
    one = completion("Yes, of course.")
    assert answers(one, completion("yes of  course", id="c2", created=99)).match
    other = answers(one, completion("No.", id="c2", created=99))
    assert (other.match, other.reason) == (False, "choices.0.message.content: text")
    assert not compare(one, completion("Yes, of course.", id="c2")).match


# Fields ----------------------------------------------------------------------------------------------------------------------


def test_each_field_is_compared_in_its_own_way_and_found_by_name():
    fields = Fields({"score": Close(abs=0.01), "label": Equal(), "id": Ignore()})
    found = fields({"score": 0.5, "label": "a", "id": 1, "n": 3}, {"score": 0.505, "label": "b", "id": 2, "n": 3})
    assert (found.match, found.reason, found.difference) == (False, "label: value", pytest.approx(1 / 3))
    assert {name: each.match for name, each in found.fields.items()} == {"score": True, "label": False, "n": True}


def test_what_no_path_is_about_is_compared_or_ignored():
    one, other = {"a": 1, "b": 2}, {"a": 1, "b": 3, "c": 4}
    assert Fields({"a": Equal()}, extra="ignore")(one, other).match
    found = Fields({"a": Equal()})(one, other)
    assert {name: each.reason for name, each in found.fields.items()} == {"a": None, "b": "value", "c": "missing"}


@pytest.mark.parametrize(
    ("path", "value"),
    [("a", 1), ("b.c", 2), ("b.d.1", 4), ("items.*.p", [1, 2]), ("items.1.p", 2), ("o.score", 0.5)],
)
def test_paths_lead_into_mappings_lists_and_objects(path, value):
    answer = {"a": 1, "b": {"c": 2, "d": [3, 4]}, "items": [{"p": 1}, {"p": 2}], "o": Data(0.5)}
    seen = []
    fields = Fields({path: lambda ours, theirs: seen.append(ours) or ours == theirs}, extra="ignore")
    assert fields(answer, answer).match
    assert seen == [value]


def test_a_field_that_only_one_answer_has_differs():
    fields = Fields({"a.b": Equal()}, extra="ignore")
    assert fields({"a": {"b": 1}}, {"a": {}}).reason == "a.b: missing"
    assert fields({"a": {}}, {}).match


def test_lists_of_another_length_differ():
    fields = Fields({"*.p": Close()})
    assert not fields([{"p": 1}], [{"p": 1}, {"p": 1}]).match
    assert fields([{"p": 1, "id": 3}], [{"p": 1, "id": 4}]).match


def test_private_attributes_are_no_fields():
    assert Fields({"__class__": Equal()}, extra="ignore")(Data(1.0), Model(score=2.0)).match


@pytest.mark.parametrize(("fields", "options", "why"), [
    ([], {}, "does not name fields"), ({"": Equal()}, {}, "does not name fields"), ({"a": 3}, {}, "is not a comparator"),
    ({}, {"extra": "fail"}, "must be 'compare' or 'ignore'"),
])  # fmt: skip
def test_fields_that_cannot_be_used_are_refused(fields, options, why):
    with pytest.raises(ConfigurationError, match=why):
        Fields(fields, **options)


# Single values ---------------------------------------------------------------------------------------------------------------


components = st.floats(1e-3, 1e3) | st.floats(-1e3, -1e-3) | st.just(0.0)


@given(st.lists(components, min_size=1, max_size=8), st.lists(components, min_size=1, max_size=8))
def test_cosine_is_that_of_scipy(one, other):
    found = Cosine(min=0.9)(one, other)
    if len(one) != len(other):
        assert found.reason == "length"
    elif np.dot(one, one) > 0 and np.dot(other, other) > 0:
        expected = distance.cosine(one, other)
        assert found.difference == pytest.approx(expected, abs=1e-9)
        assert Cosine()(np.array(one), np.array(other)).difference == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(("one", "other", "match"), [
    ([0, 0], [0.0, 0.0], True), ([0, 0], [1, 0], False), ([1, 0], [2, 0], True), ([1, 0], [-1, 0], False),
    ([math.nan], [1.0], False), ([1e-200, 0], [1e200, 0], True),
])  # fmt: skip
def test_vectors_at_the_edge(one, other, match):
    assert [Cosine()(one, other).match, Cosine()(np.array(one, float), np.array(other, float)).match] == [match, match]


@pytest.mark.parametrize(("one", "other", "match", "difference"), [
    ("Yes, of course!", "yes of\ncourse", True, 0.0), ("\ufb01ne", "FINE", True, 0.0), ("a b c d", "a b c e", False, 0.25),
    ("", "", True, 0.0), ("", "a", False, 1.0), ("...", "!", True, 0.0),
])  # fmt: skip
def test_texts(one, other, match, difference):
    found = Text()(one, other)
    assert (found.match, found.difference) == (match, pytest.approx(difference))


def test_texts_as_they_are_and_texts_that_are_near():
    assert not Text(normalise=False)("Yes", "yes").match
    assert Text(min=0.7)("a b c d", "a b c e").match
    with pytest.raises(TypeError, match="Text compares texts, and got int"):
        Text()("a", 1)


def test_labels_are_kept_for_the_table():
    found = Label(of=lambda answer: answer["label"])({"label": "ham"}, {"label": "spam"})
    assert (found.match, found.reason, found.labels) == (False, "label", ("ham", "spam"))
    assert Label()(np.int64(3), 3).match
    assert Fields({"label": Label()}, extra="ignore")({"label": 1}, {"label": 2}).labels == ("1", "2")


def test_equality_is_of_one_type_and_arrays_are_equal_as_a_whole():
    assert Equal()(np.array([1, 2]), np.array([1, 2])).match
    assert not Equal()(np.array([1, 2]), np.array([1, 3])).match
    assert [Equal()(1, 1.0).reason, Equal()("a", "b").reason, Equal()(None, None).reason] == ["type", "value", None]


# Rankings --------------------------------------------------------------------------------------------------------------------


def test_the_top_is_compared_in_any_order():
    assert TopK(3)(["a", "b", "c", "d"], ["c", "a", "b", "x"]).match
    found = TopK(4)(["a", "b", "c", "d"], ["c", "a", "b", "x"])
    assert (found.match, found.difference) == (False, 0.25)
    assert TopK(4, min=0.7)(["a", "b", "c", "d"], ["c", "a", "b", "x"]).match
    assert TopK(2, key=lambda item: item["id"])([{"id": 1, "t": 5}], [{"id": 1, "t": 6}]).match
    assert TopK(2)([], []).match
    assert TopK(2)(np.array([1, 2, 3]), [2, 1, 9]).match


def test_rankings_by_their_overlap():
    same = RankBiasedOverlap()(["a", "b", "c"], ["a", "b", "c"])
    assert (same.match, same.difference) == (True, pytest.approx(0))
    early, late = (RankBiasedOverlap()(list("abcdefgh"), list(other)).difference for other in ("bacdefgh", "abcdefhg"))
    assert early > late > 0
    assert RankBiasedOverlap(min=0.5)(list("abcd"), list("bacd")).match
    assert not RankBiasedOverlap()(list("abcd"), list("wxyz")).match


# Functions -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("given", "match", "difference"), [
    (True, True, None), (False, False, None), (np.True_, True, None), (0.0, True, 0.0), (0.25, False, 0.25),
    (np.float32(0.5), False, 0.5), (0, True, 0.0), (-1, False, -1.0),
])  # fmt: skip
def test_a_function_gives_a_truth_or_a_difference(given, match, difference):
    def judge(control, candidate):
        return given

    found = as_comparator(judge)(1, 2)
    assert (found.match, found.difference, found.name) == (match, difference, "judge")


def test_or_a_comparison():
    wanted = Comparison(match=False, difference=2.0, reason="tone", name="style")
    assert as_comparator(lambda control, candidate: wanted)(1, 2) is wanted


@pytest.mark.parametrize("given", [None, "yes", math.nan, math.inf, [1]])
def test_anything_else_is_a_fault(given):
    with pytest.raises(TypeError, match="neither a bool, a finite number nor a Comparison"):
        as_comparator(lambda control, candidate: given)(1, 2)


async def later(control, candidate):
    return True


@pytest.mark.parametrize(
    ("compare", "why"), [(3, "is not a comparator"), (Close, "is not a comparator"), (later, "coroutine function")]
)
def test_what_compares_nothing_is_refused(compare, why):
    with pytest.raises(ConfigurationError, match=why):
        as_comparator(compare)


@pytest.mark.parametrize("make", [
    lambda: Close(rel=-1), lambda: Close(abs=math.nan), lambda: Cosine(min=2), lambda: TopK(0), lambda: RankBiasedOverlap(p=1),
    lambda: Text(noise=-0.1),
])  # fmt: skip
def test_options_out_of_range_are_refused(make):
    with pytest.raises(ConfigurationError):
        make()
