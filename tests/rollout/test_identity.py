"""Decision ids carry what an outcome needs, and nothing that they should not."""

import string
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import crc32

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rollout_sdk import ConfigurationError, DecisionIdError
from rollout_sdk.assignment.ids import DecodedId, check_name, decode_id, encode_id

printable = st.characters(exclude_categories=["Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp", "Zs"])
names = st.text(printable, min_size=1, max_size=200)
keys = st.none() | st.binary(min_size=1, max_size=64)
decisions = st.fixed_dictionaries(
    {
        "rollout": names,
        "phase": names,
        "variant": names,
        "bucket": st.integers(0, 511),
        "time_ns": st.integers(0, 2**63),
        "nonce": st.text(string.hexdigits, min_size=1, max_size=30),
    }
)
DECISION = {
    "rollout": "search",
    "phase": "1:5%",
    "variant": "v2",
    "bucket": 17,
    "time_ns": 1_700_000_000_000_000_000,
    "nonce": "ab1",
}


@settings(deadline=None)
@given(decisions, keys)
def test_an_id_says_what_it_was_made_of(decision, key):
    assert decode_id(encode_id(**decision, key=key), key) == DecodedId(
        decision["rollout"],
        decision["phase"],
        decision["variant"],
        decision["bucket"],
        decision["time_ns"] // 1_000_000 / 1000,
        decision["nonce"],
    )


@given(decisions, keys)
def test_an_id_is_safe_in_urls_headers_and_file_names(decision, key):
    assert set(encode_id(**decision, key=key)) <= set(string.ascii_letters + string.digits + "-_")


@given(decisions, keys, st.data())
def test_an_id_survives_no_change_at_all(decision, key, data):
    text = encode_id(**decision, key=key)
    place = data.draw(st.integers(0, len(text) - 1))
    letter = data.draw(st.sampled_from(string.ascii_letters + string.digits + "-_=+/ \n."))
    changed = text[:place] + letter + text[place + 1 :]
    if changed != text:
        with pytest.raises(DecisionIdError):
            decode_id(changed, key)


@given(decisions, keys, st.data())
def test_an_id_is_read_only_as_it_was_written(decision, key, data):
    # Whatever else base64 would read is no id: it would match no decision in the journal.
    text = encode_id(**decision, key=key)
    place = data.draw(st.integers(0, len(text)))
    foreign = data.draw(st.sampled_from(["\n", " ", "=", "!", "é", "\0", "%3D"]))
    with pytest.raises(DecisionIdError):
        decode_id(text[:place] + foreign + text[place:], key)


@given(st.text(max_size=60) | st.binary(max_size=60) | st.none() | st.integers(), keys)
def test_what_is_no_id_is_refused_with_our_error(nonsense, key):
    with pytest.raises(DecisionIdError):
        decode_id(nonsense, key)


@given(st.binary(max_size=80), keys)
def test_foreign_base64_is_refused_with_our_error(raw, key):
    with pytest.raises(DecisionIdError):
        decode_id(urlsafe_b64encode(b"9" + raw).rstrip(b"=").decode(), key)


def forged(*fields):
    body = "\x1f".join(fields).encode()
    return urlsafe_b64encode(body + crc32(body).to_bytes(4)).rstrip(b"=").decode()


@pytest.mark.parametrize(
    "fields",
    [
        ("1", "search", "0:5%", "v2", "1f", "18bcfe56800"),
        ("1", "search", "0:5%", "v2", "1f", "18bcfe56800", "n", "more"),
        ("2", "search", "0:5%", "v2", "1f", "18bcfe56800", "n"),
        ("1", "search", "0:5%", "v2", "-1", "18bcfe56800", "n"),
        ("1", "search", "0:5%", "v2", "0x1f", "18bcfe56800", "n"),
        ("1", "search", "0:5%", "v2", " 1f", "18bcfe56800", "n"),
        ("1", "search", "0:5%", "v2", "", "18bcfe56800", "n"),
        ("1", "search", "0:5%", "v2", "1f", "f" * 1000, "n"),
        ("1", "search", "0:5%", "v2", "1f", "nan", "n"),
    ],
)
def test_an_id_with_other_fields_is_refused(fields):
    with pytest.raises(DecisionIdError, match=r"cannot be read. An id is opaque and must come back whole."):
        decode_id(forged(*fields))


@given(decisions, keys, st.integers(1, 40))
def test_a_shortened_id_is_refused_with_a_key_and_without(decision, key, cut):
    with pytest.raises(DecisionIdError):
        decode_id(encode_id(**decision, key=key)[:-cut], key)


def test_another_key_is_refused():
    with pytest.raises(DecisionIdError, match=r"is not signed with this runtime's key. .* Set the same ROLLOUT_KEY"):
        decode_id(encode_id(**DECISION, key=b"one"), b"other")


def test_an_unsigned_id_is_refused_where_a_key_is_set():
    with pytest.raises(DecisionIdError, match="is not signed with this runtime's key"):
        decode_id(encode_id(**DECISION), b"key")


def test_a_signed_id_is_refused_where_no_key_is_set():
    with pytest.raises(
        DecisionIdError, match=r"is signed, and this runtime has no key to check it. .* Set ROLLOUT_KEY here too."
    ):
        decode_id(encode_id(**DECISION, key=b"key"))


def test_a_huge_id_is_refused_in_a_short_message():
    with pytest.raises(DecisionIdError) as caught:
        decode_id("A" * 10_000_000)
    assert len(str(caught.value)) < 200


def test_an_id_holds_no_unit():
    raw = urlsafe_b64decode(encode_id(**DECISION) + "==")
    assert raw[:-4] == b"\x1f".join([b"1", b"search", b"1:5%", b"v2", b"11", b"18bcfe56800", b"ab1"])


@given(names)
def test_a_name_is_given_back(name):
    assert check_name(name, "key") == name


@given(st.one_of(st.text().filter(lambda text: not text.isprintable() or not text), st.none(), st.integers(), st.binary()))
def test_what_is_no_name_is_refused(name):
    with pytest.raises(
        ConfigurationError, match=r"^The key is .* Names are printable text of 1 to 200 characters. Choose another.$"
    ):
        check_name(name, "key")


def test_an_id_of_the_longest_names_comes_back():
    longest = {"rollout": "\U0001f600" * 200, "phase": "\U0001f600" * 200, "variant": "\U0001f600" * 200}
    text = encode_id(**{**DECISION, **longest}, key=b"key")
    assert decode_id(text, b"key").variant == longest["variant"]
