"""The comparators that `compare=` takes: what matches, how far answers are apart, and what is refused."""

import math
from collections import namedtuple
from dataclasses import dataclass, field
from types import SimpleNamespace

import attrs
import numpy as np
import pandas as pd
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


def test_a_tool_call_has_no_text_and_is_compared_all_the_same():
    answers = Fields({"choices.0.message.content": Text()})
    assert answers(completion(None), completion(None)).match
    assert answers(completion(None), completion("No.")).reason == "choices.0.message.content: missing"


# Missing values, and what has no truth ---------------------------------------------------------------------------------------

MISSING = [math.nan, pd.NA, pd.NaT, np.datetime64("NaT"), np.float32("nan")]


@pytest.mark.parametrize("value", MISSING, ids=repr)
@pytest.mark.parametrize("comparator", [Close(), Equal(), Label()], ids=lambda each: each.name)
def test_missing_values_match_themselves_and_nothing_else(comparator, value):
    assert comparator(value, value).match
    assert not comparator(value, 1.0).match
    assert not comparator(0, value).match


@pytest.mark.parametrize("value", MISSING, ids=repr)
@pytest.mark.parametrize("wrap", [lambda x: [x], lambda x: {"a": x}, lambda x: Data(0.5, x), lambda x: [[x], {"a": (x, 1)}]])
@pytest.mark.parametrize("comparator", [Close(), Equal()], ids=lambda each: each.name)
def test_so_they_do_inside_of_other_values(comparator, wrap, value):
    assert comparator(wrap(value), wrap(value)).match
    assert not comparator(wrap(value), wrap(1.0)).match


def test_scalars_of_arrow_are_compared_by_their_values():
    pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    assert compare(pa.scalar(1.0), pa.scalar(1.0 + 1e-9)).match
    assert not compare(pa.scalar(1.0), pa.scalar(1.1)).match
    assert compare(pa.scalar(None), pa.scalar(None)).match


def frames():
    """Makes frames of the libraries that are installed."""
    pa, pl = (pytest.importorskip(name, reason=f"{name} is not installed") for name in ("pyarrow", "polars"))
    return [pd.DataFrame, pl.DataFrame, pa.table]


def test_frames_and_what_holds_arrays_are_equal_or_not():
    for frame in frames():
        one, other = (frame({"a": [1.0, math.nan], "b": ["x", end]}) for end in "yz")
        assert Equal()(one, frame({"a": [1.0, math.nan], "b": ["x", "y"]})).match
        assert Equal()(one, other).reason == "value"
    assert Equal()(np.arange(3), np.arange(4)).reason == "shape"
    assert Equal()([np.arange(3)], [np.arange(3)]).match
    assert Equal()({"a": np.arange(3)}, {"a": np.arange(1, 4)}).reason == "value"
    assert Equal()(pd.Series([1], index=[1]), pd.Series([1], index=[2])).reason == "index"
    # Without a tolerance, also there.
    assert Equal()([np.array([1.0])], [np.array([1.0 + 1e-12])]).reason == "value"


def test_columns_of_frames_are_fields():
    fields = Fields({"score": Close(abs=0.01), "item": TopK(2), "id": Ignore()})
    for frame in frames():
        one = frame({"score": [0.5, 0.4], "item": ["a", "b"], "id": [1, 2], "more": [1, 2]})
        assert fields(one, frame({"score": [0.501, 0.4], "item": ["b", "a"], "id": [8, 9], "more": [1, 2]})).match
        for name, values in (("score", [0.9, 0.4]), ("item", ["a", "c"]), ("more", [1, 3])):
            columns = {"score": [0.5, 0.4], "item": ["a", "b"], "id": [1, 2], "more": [1, 2], name: values}
            found = fields(one, frame(columns))
            assert {field for field, each in found.fields.items() if not each.match} == {name}


def test_places_of_arrays_and_series_are_fields():
    fields = Fields({"items.*.price": Close(abs=0.1), "items.0.name": Equal()})
    for wrap in (list, pd.Series, lambda items: np.array(items, dtype=object)):
        one, other = ({"items": wrap([{"price": price, "name": "a"}])} for price in (1.0, 9.0))
        found = fields(one, other)
        assert {field: each.match for field, each in found.fields.items()} == {"items.*.price": False, "items.0.name": True}


def test_where_no_field_is_found_nothing_is_said():
    for options in ({"extra": "ignore"}, {}):
        fields = Fields({"lable": Label(), "scroe": Close()}, **options)
        with pytest.raises(LookupError, match="'lable', 'scroe' is in the answers, of int and int: nothing was compared"):
            fields(1, 2)
    with pytest.raises(LookupError, match="nothing was compared"):
        Fields({"lable": Label()}, extra="ignore")({"label": 1}, {"label": 2})
    # One that is sometimes there is no mistake, and neither is one that is ignored.
    assert Fields({"label": Label(), "note": Text()}, extra="ignore")({"label": 1}, {"label": 1}).match
    assert Fields({"id": Ignore()}, extra="ignore")({"id": 1}, {"id": 2}).match
    assert Ignore()(1, "another").match
    assert Fields({"note": Text()})({"label": 1}, {"label": 1}).match


def test_a_frame_is_no_ranking():
    for frame in frames():
        for comparator in (TopK(2), RankBiasedOverlap()):
            with pytest.raises(TypeError, match="Name the column"):
                comparator(frame({"item": ["a"]}), frame({"item": ["b"]}))


@pytest.mark.parametrize(
    ("said", "match", "difference"),
    [(np.bool_(1), True, None), (np.array(True), True, None), (np.array(False), False, None), (np.array(0.5), False, 0.5)],
)
def test_functions_of_arrays_may_say_it_with_an_array_of_one(said, match, difference):
    """As tensors do: `(a == b).all()` is a tensor, and not 1.0 apart if it is true."""
    found = as_comparator(lambda a, b: said)(1, 2)
    assert (found.match, found.difference) == (match, difference)


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
    assert Fields({"a.b": Equal(), "c": Equal()})({"a": {}, "c": 1}, {"c": 1}).match


def test_lists_of_another_length_differ():
    fields = Fields({"*.p": Close()})
    assert not fields([{"p": 1}], [{"p": 1}, {"p": 1}]).match
    assert fields([{"p": 1, "id": 3}], [{"p": 1, "id": 4}]).match


def test_private_attributes_are_no_fields():
    fields = Fields({"__class__": Equal(), "label": Equal()}, extra="ignore")
    assert fields(Data(1.0), Model(score=2.0)).match


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
    ([math.nan], [1.0], False), ([1e-200, 0], [1e200, 0], True), ([], [], True),
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
