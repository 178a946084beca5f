"""What stores accept, to the last number: the same rules for those of the SDK and for others that use these functions."""

import pytest

from rollout_sdk import ConfigurationError, StoreError
from rollout_sdk.control.stores.validation import (
    MOST_BYTES,
    checked_document,
    checked_name,
    checked_number,
    checked_text,
    checked_timeout,
    parsed,
    plain,
)

MOST = 2**53 - 1


def accepts(check, *arguments):
    """Whether a check hands back what it was given."""
    try:
        return check(*arguments) == arguments[-1]
    except (StoreError, ConfigurationError):
        return False


@pytest.mark.parametrize(
    ("number", "is_valid"),
    [(-1, False), (0, True), (MOST, True), (MOST + 1, False), (1.0, False), (True, False), ("1", False), (None, False)],
)
def test_numbers_are_whole_and_survive_as_doubles(number, is_valid):
    assert is_valid == accepts(checked_number, "cursor", number)


@pytest.mark.parametrize(
    ("expected", "revision", "is_valid"),
    [(None, 0, True), (None, -1, False), (0, 0, False), (0, 1, True), (4, 4, False), (4, 5, True), (-1, 0, False)],
)
def test_a_revision_is_above_the_expected_one(expected, revision, is_valid):
    document = {"revision": revision, "epoch": 0}
    if is_valid:
        assert (revision, 0, f'{{"revision": {revision}, "epoch": 0}}') == checked_document(expected, document)
    else:
        with pytest.raises(StoreError):
            checked_document(expected, document)


@pytest.mark.parametrize("document", [{"revision": 1}, {"epoch": 0}, {"revision": 1, "epoch": -1}])
def test_a_document_has_a_revision_and_an_epoch(document):
    with pytest.raises(StoreError, match="from 0 to"):
        checked_document(None, document)


def test_a_refused_revision_is_shown_with_the_lowest_that_is_possible():
    with pytest.raises(StoreError, match=r"the revision 4\. .* from 5 to 2\*\*53 - 1"):
        checked_document(4, {"revision": 4, "epoch": 0})


@pytest.mark.parametrize(
    ("name", "is_valid"),
    [("", False), ("n", True), ("日" * 200, True), ("n" * 201, False), ("\ud800", False), (b"n", False), (None, False)],
)
def test_names_are_short_texts(name, is_valid):
    assert is_valid == accepts(checked_name, "key", name)


@pytest.mark.parametrize(
    ("text", "is_valid"),
    [
        ("", True),
        ("t" * MOST_BYTES, True),
        ("t" * (MOST_BYTES + 1), False),
        ("é" * (MOST_BYTES // 2), True),
        ("é" * (MOST_BYTES // 2) + "t", False),
        ("\ud800", False),
        (b"t", False),
    ],
)
def test_texts_have_at_most_4_mib(text, is_valid):
    assert is_valid == accepts(checked_text, "part", text)


@pytest.mark.parametrize(
    ("timeout_s", "seconds"),
    [(1, 1.0), ("0.5", 0.5), (10, 10.0), (0, None), (-1, None), (10.1, None), ("soon", None), (True, None), (None, None)],
)
def test_timeouts_are_at_most_ten_seconds(timeout_s, seconds):
    if seconds is not None:
        assert seconds == checked_timeout("redis://host", timeout_s)
    else:
        with pytest.raises(ConfigurationError, match="'redis://host' has timeout_s"):
            checked_timeout("redis://host", timeout_s)


def nested(depth):
    value = {}
    for _ in range(depth):
        value = {"in": value}
    return value


@pytest.mark.parametrize(
    "value", [{"a": (1,)}, {"a": float("nan")}, {"a": float("inf")}, {1: "a"}, {"a": {1}}, [("a",)], nested(100_000)]
)
def test_what_would_not_come_back_equal_is_refused(value):
    with pytest.raises(StoreError, match="not plain JSON"):
        plain("record", value)


def test_plain_values_come_back_equal():
    value = {"none": None, "true": True, "number": 1.5, "text": "日", "list": [1, [2]], "mapping": {"a": {}}}
    assert value == parsed(plain("document", value))


@pytest.mark.parametrize("text", ["", "{", "[1]", "1", '{"a": NaN}', '{"a": -Infinity}', None, b"{}", '{"a":' * 100_000])
def test_damaged_text_is_a_value_error(text):
    with pytest.raises(ValueError):
        parsed(text)
