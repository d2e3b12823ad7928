from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import GatewayError
from gateway.session.credential import CREDENTIAL_LIMIT, HeaderSelector, bearer_token, keep_cookies, keyed_hash

Headers = Sequence[tuple[bytes, bytes]]

DEFAULT = HeaderSelector(("Authorization", "Cookie"))


def test_only_configured_headers_are_taken_in_any_case_as_they_are_configured() -> None:
    headers = [(b"Host", b"a"), (b"aUTHORIZATION", b"Bearer \xe4\xff"), (b"X-Debug", b"1"), (b"cookie", b"sid=1; b=2"), (b"Expect", b"x")]
    assert DEFAULT.select(headers) == b"Authorization: Bearer \xe4\xff\r\nCookie: sid=1; b=2\r\n"


def test_repetitions_are_kept_in_their_order() -> None:
    headers = [(b"Cookie", b"b=2"), (b"Authorization", b"x"), (b"Cookie", b"a=1"), (b"cookie", b"b=2")]
    assert DEFAULT.select(headers) == b"Cookie: b=2\r\nAuthorization: x\r\nCookie: a=1\r\nCookie: b=2\r\n"


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param([], id="nothing"),
        pytest.param([(b"Accept", b"*/*"), (b"X-Authorization", b"x"), (b"Author_ization", b"x")], id="others"),
        pytest.param([(b"Authorization", b"")], id="empty"),
        pytest.param([(b"Authorization", b""), (b"Cookie", b"")], id="all-empty"),
    ],
)
def test_B1_no_credential(headers: Headers) -> None:
    assert DEFAULT.select(headers) is None


def test_B1_no_credential_when_no_cookie_is_left() -> None:
    assert HeaderSelector(("Cookie",), ("sid",)).select([(b"Cookie", b"theme=dark"), (b"cookie", b"SID=1")]) is None


def test_B1_credentials_over_8_KiB_are_refused() -> None:
    fits = [(b"Authorization", b"x" * 8000), (b"Cookie", b"y" * (CREDENTIAL_LIMIT - 8000))]
    assert DEFAULT.select(fits) is not None
    with pytest.raises(GatewayError) as refusal:
        DEFAULT.select([*fits, (b"Cookie", b"z")])
    assert refusal.value.failure.code == "HEADERS_TOO_LARGE"


def test_B1_only_what_would_be_sent_counts() -> None:
    headers = [(b"X-Large", b"x" * 9000), (b"Cookie", b"theme=%b; sid=1" % (b"x" * 9000))]
    assert HeaderSelector(("Cookie",), ("sid",)).select(headers) == b"Cookie: sid=1\r\n"


@pytest.mark.parametrize("byte", [*range(9), *range(10, 32), 127])
def test_control_characters_never_reach_the_wire(byte: int) -> None:
    with pytest.raises(GatewayError) as refusal:
        DEFAULT.select([(b"Authorization", b"Bearer a%cX-Forged: 1" % byte)])
    assert refusal.value.failure.code == "REQUEST_MALFORMED"
    assert "Forged" not in str(refusal.value)


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        (b"sid=1", b"sid=1"),
        (b"a=1; sid=1; b=2; lang=de", b"sid=1; lang=de"),
        (b"lang=de;sid=1", b"lang=de; sid=1"),
        (b"sid=1; sid=2", b"sid=1; sid=2"),
        (b"sid=a=b==; x=sid=1", b"sid=a=b=="),
        (b'sid="quoted value, with comma"', b'sid="quoted value, with comma"'),
        (b"sid=\xff\xfe", b"sid=\xff\xfe"),
        (b"sid=", b"sid="),
        (b" \t sid=1 \t ;", b"sid=1"),
        (b"SID=1; Sid=1", b""),
        (b"sid", b""),
        (b"xsid=1; sidx=1; sid =1; =sid", b""),
        (b"", b""),
        (b";;;", b""),
    ],
)
def test_cookies_are_filtered_by_name_and_kept_byte_for_byte(value: bytes, kept: bytes) -> None:
    assert keep_cookies(value, {b"sid", b"lang"}) == kept


pairs = st.tuples(st.sampled_from([b"sid", b"SID", b"lang", b"theme", b"s"]), st.binary().filter(lambda b: b";" not in b))


@given(st.lists(pairs.map(lambda pair: b"%b=%b" % pair)))
def test_the_cookie_filter_keeps_exactly_the_named_pairs_in_order(cookies: list[bytes]) -> None:
    expected = [cookie.strip(b" \t") for cookie in cookies if cookie.startswith((b"sid=", b"lang="))]
    assert keep_cookies(b"; ".join(cookies), {b"sid", b"lang"}) == b"; ".join(expected)


@given(st.binary())
def test_the_cookie_filter_is_stable(value: bytes) -> None:
    once = keep_cookies(value, {b"sid"})
    assert keep_cookies(once, {b"sid"}) == once


def test_filtered_cookie_headers_stay_apart_and_empty_ones_are_left_out() -> None:
    selector = HeaderSelector(("Cookie",), ("sid",))
    assert (
        selector.select([(b"Cookie", b"sid=1; a=1"), (b"Cookie", b"a=2"), (b"cookie", b"sid=2")]) == b"Cookie: sid=1\r\nCookie: sid=2\r\n"
    )


visible = st.binary(max_size=12).map(lambda data: bytes(byte for byte in data if byte >= 32 and byte != 127))
header_lists = st.lists(
    st.tuples(st.sampled_from([b"A", b"B", b"A: ", b"B-A"]), visible | st.sampled_from([b"", b" ", b"A: ", b"x"])), max_size=5
)
every = HeaderSelector(("A", "B", "B-A"))
keyed = keyed_hash(b"k" * 32)


@given(header_lists, header_lists)
def test_G13_different_credentials_have_different_keys(one: Headers, other: Headers) -> None:
    """Names, raw values, order, repetitions and absent headers all make a difference."""
    sent = [[(name, value) for name, value in headers if name in {b"A", b"B", b"B-A"}] for headers in (one, other)]
    keys = [credential and keyed(credential) for credential in (every.select(one), every.select(other))]
    if None not in keys:
        assert (keys[0] == keys[1]) == (sent[0] == sent[1])


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param([(b"A", b"x")], [(b"A", b"x ")], id="G13-space-after"),
        pytest.param([(b"A", b"x")], [(b"A", b" x")], id="G13-space-before"),
        pytest.param([(b"A", b"x y")], [(b"A", b"x  y")], id="G13-space-within"),
        pytest.param([(b"A", b"x y")], [(b"A", b"x\ty")], id="G13-tab"),
        pytest.param([(b"A", b"Bearer x")], [(b"A", b"bearer x")], id="G13-case-of-scheme"),
        pytest.param([(b"A", b"abc")], [(b"A", b"abC")], id="G13-case-of-value"),
        pytest.param([(b"A", b"abc")], [(b"A", b"ab")], id="G13-prefix"),
        pytest.param([(b"A", b"ab"), (b"A", b"c")], [(b"A", b"a"), (b"A", b"bc")], id="G13-border"),
        pytest.param([(b"A", b"a"), (b"A", b"b")], [(b"A", b"b"), (b"A", b"a")], id="G13-order"),
        pytest.param([(b"A", b"a")], [(b"A", b"a"), (b"A", b"a")], id="G13-repeated"),
        pytest.param([(b"A", b"a, b")], [(b"A", b"a"), (b"A", b"b")], id="G13-folded"),
        pytest.param([(b"A", b"x")], [(b"B", b"x")], id="G13-other-name"),
        pytest.param([(b"A", b"x")], [(b"A", b"x"), (b"B", b"")], id="G13-absent-or-empty"),
    ],
)
def test_variants_of_a_credential_have_keys_of_their_own(one: Headers, other: Headers) -> None:
    credentials = [every.select(one), every.select(other)]
    assert all(credentials)
    assert keyed(credentials[0] or b"") != keyed(credentials[1] or b"")


def test_B9_keys_are_hashes_under_a_key_of_their_own() -> None:
    assert keyed_hash(b"1" * 32)(b"secret") != keyed_hash(b"2" * 32)(b"secret")
    assert len(keyed(b"secret" * 1000)) == 16


@pytest.mark.parametrize(
    ("headers", "token"),
    [
        ([(b"Authorization", b"Bearer abc.DEF-_~+/==")], b"abc.DEF-_~+/=="),
        ([(b"authorization", b"bEARER 1|x&y=%")], b"1|x&y=%"),
        ([(b"Authorization", b"Bearer   x")], b"x"),
        ([], None),
        ([(b"Cookie", b"Bearer x")], None),
        ([(b"Authorization", b"")], None),
        ([(b"Authorization", b"Bearer")], None),
        ([(b"Authorization", b"Bearer ")], None),
        ([(b"Authorization", b"Bearerx")], None),
        ([(b"Authorization", b"Bearer\tx")], None),
        ([(b"Authorization", b"Bearer x y")], None),
        ([(b"Authorization", b"Bearer x ")], None),
        ([(b"Authorization", b"Bearer x\n")], None),
        ([(b"Authorization", b"Bearer \xe4")], None),
        ([(b"Authorization", b"Basic Ym9iOmJvYg==")], None),
        ([(b"Authorization", b"Basic x, Bearer y")], None),
        pytest.param([(b"Authorization", b"Bearer x"), (b"authorization", b"Bearer y")], None, id="two"),
        pytest.param([(b"Authorization", b"Bearer x"), (b"Authorization", b"Bearer x")], None, id="twice-the-same"),
        pytest.param([(b"Authorization", b"Bearer x"), (b"Authorization", b"Basic y")], None, id="two-schemes"),
    ],
)
def test_the_bearer_token_is_taken_only_where_there_is_exactly_one(headers: Headers, token: bytes | None) -> None:
    assert bearer_token(headers) == token


def test_B1_a_token_over_8_KiB_is_refused() -> None:
    with pytest.raises(GatewayError) as refusal:
        bearer_token([(b"Authorization", b"Bearer " + b"x" * CREDENTIAL_LIMIT)])
    assert refusal.value.failure.code == "HEADERS_TOO_LARGE"
