"""Ids and tokens are read by processes of other versions, and stored with outcomes: their text never changes."""

from base64 import urlsafe_b64encode
from binascii import crc32

import pytest

from rollout_sdk import DecisionIdError, ItemToken, read_token
from rollout_sdk.assignment.ids import DecodedId, IdTemplate, decode_id, encode_id, encode_token

KEY = b"k" * 16
TIME_NS = 1_790_000_000_123_456_789
PLAIN = "MR9zZWFyY2gfMDo1JR92Mh85Mx8xYTBjNDUwNmM3Yh9hMS4yXA6UgA"
SIGNED = "MXMfc2VhcmNoHzA6NSUfdjIfOTMfMWEwYzQ1MDZjN2IfYTEuMk8iC5rbYnfK"

# A decision that is served before an update must find its outcome after it.
IDS = [
    (None, "", PLAIN),
    (None, "ab12", "MR9zZWFyY2gfMDo1JR92Mh85Mx8xYTBjNDUwNmM3Yh9hMS4yH2FiMTJ9hddn"),
    (KEY, "", SIGNED),
    (KEY, "ab12", "MXMfc2VhcmNoHzA6NSUfdjIfOTMfMWEwYzQ1MDZjN2IfYTEuMh9hYjEy15MBmrdnJFY"),
]
TOKENS = [
    (
        None,
        ItemToken(PLAIN, 12, "4f5a", {"v2": 0.333333333, "control": 0.666666667}),
        (
            "Mh9NUjl6WldGeVkyZ2ZNRG8xSlI5Mk1oODVNeDh4WVRCak5EVXdObU0zWWg5aE1TNHlYQTZVZ0EfYx80ZjVhH3YyHzAuMzMzMzMzMzMz"
            "H2NvbnRyb2wfMC42NjY2NjY2NjfThnFB"
        ),
    ),
    (
        None,
        ItemToken(PLAIN, 0, "4f5a", None),
        "Mh9NUjl6WldGeVkyZ2ZNRG8xSlI5Mk1oODVNeDh4WVRCak5EVXdObU0zWWg5aE1TNHlYQTZVZ0EfMB80ZjVhHy1NveB0",
    ),
    (
        KEY,
        ItemToken(SIGNED, 0, "4f5a", None),
        "MnMfTVhNZmMyVmhjbU5vSHpBNk5TVWZkaklmT1RNZk1XRXdZelExTURaak4ySWZZVEV1TWs4aUM1cmJZbmZLHzAfNGY1YR8toAd-6QU5N-s",
    ),
]


@pytest.mark.parametrize(("key", "fingerprint", "text"), IDS)
def test_an_id_is_written_as_ever(key, fingerprint, text):
    assert text == encode_id("search", "0:5%", "v2", 147, TIME_NS, "a1.2", key, fingerprint=fingerprint)
    template = IdTemplate("search", "0:5%", "v2", key, fingerprint=fingerprint)
    assert [text] == template.each([147], [TIME_NS], [0x2], origin="a1.")
    assert DecodedId("search", "0:5%", "v2", 147, 1_790_000_000.123, "a1.2", fingerprint) == decode_id(text, key)


@pytest.mark.parametrize(("key", "token", "text"), TOKENS)
def test_a_token_is_written_and_read_as_ever(key, token, text):
    assert token == read_token(text, key)
    assert text == encode_token(token.decision_id, token.position, token.item, token.credit, key)


def test_ids_made_together_are_those_made_one_by_one_also_where_the_time_changes_between_them():
    buckets, times, sequences = [0, 511, 16, 3], [TIME_NS, TIME_NS, TIME_NS + 10**6, TIME_NS], [0, 10, 255, 16]
    for name in ("a", "ab", "abc", "Zoë"):
        made = IdTemplate(name, "p", "v").each(buckets, times, sequences, origin="x", end="~3-")
        of_each = zip(buckets, times, sequences, strict=True)
        assert made == [encode_id(name, "p", "v", bucket, time, f"x{number:x}~3-") for bucket, time, number in of_each]


@pytest.mark.parametrize(
    ("nonce", "rate", "is_excluded"),
    [("a1.2", 1.0, False), ("a1.2-", 1.0, True), ("a1.2~1", 0.5, False), ("a1.2~3-", 0.125, True), ("~1.2", 1.0, False)],
)
def test_an_id_says_how_many_calls_were_kept_and_whether_it_counts(nonce, rate, is_excluded):
    decoded = decode_id(encode_id("search", "0:5%", "v2", 147, TIME_NS, nonce))
    assert (rate, is_excluded) == (decoded.rate, decoded.excluded)


@pytest.mark.parametrize(
    "fields",
    [
        # A name without its credit, a credit that is no number, neither of both.
        ("2", PLAIN, "0", "item", "v2"),
        ("2", PLAIN, "0", "item", "v2", "1", "control"),
        ("2", PLAIN, "0", "item", "v2", "much"),
        ("2", PLAIN, "0", "item", "-", "-"),
        ("2", PLAIN, "-1", "item", "-"),
        ("2", PLAIN, "x", "item", "-"),
        ("2", PLAIN, "0"),
        ("1", PLAIN, "0", "item", "-"),
    ],
)
def test_a_token_with_other_fields_is_refused(fields):
    body = "\x1f".join(fields).encode()
    with pytest.raises(DecisionIdError, match="cannot be read"):
        read_token(urlsafe_b64encode(body + crc32(body).to_bytes(4)).rstrip(b"=").decode())


def test_a_forged_token_with_all_fields_is_read_without_a_key():
    body = f"2\x1f{PLAIN}\x1f0\x1fitem\x1fv2\x1f0.5\x1fv3\x1f0.25\x1fcontrol\x1f0.25".encode()
    token = urlsafe_b64encode(body + crc32(body).to_bytes(4)).rstrip(b"=").decode()
    assert {"v2": 0.5, "v3": 0.25, "control": 0.25} == read_token(token).credit


@pytest.mark.parametrize(("characters", "problem"), [(16_384, "cannot be read"), (16_385, "is not a decision id")])
def test_what_is_longer_than_any_id_is_not_even_decoded(characters, problem):
    with pytest.raises(DecisionIdError, match=problem):
        decode_id("A" * characters)
