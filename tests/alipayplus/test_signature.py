"""The signed text and the Signature header: protocol section 3."""

from base64 import b64encode
from contextlib import suppress
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.alipayplus.signature import SignatureError, decode_signature, format_signature, parse_signature, string_to_sign

BYTES = bytes(range(256))
ENCODED = b64encode(BYTES).decode()


def test_the_text_is_line_one_then_client_time_and_the_exact_body() -> None:
    text = string_to_sign("/aps/api/v1/mobile/sdkProxy", "CLIENT", "2019-05-28T12:12:12+08:00", b'{"a":\r\n 1}\n')
    assert text == b'POST /aps/api/v1/mobile/sdkProxy\nCLIENT.2019-05-28T12:12:12+08:00.{"a":\r\n 1}\n'


def test_the_text_of_an_empty_body_ends_with_the_dot() -> None:
    assert string_to_sign("/p?a=b%20c", "C", "T", b"") == b"POST /p?a=b%20c\nC.T."


def test_the_method_is_the_requests() -> None:
    assert string_to_sign("/p", "C", "T", b"", method="GET") == b"GET /p\nC.T."


def test_header_texts_are_the_bytes_of_the_wire() -> None:
    assert string_to_sign("/p", "C", "\xe9", b"") == b"POST /p\nC.\xe9."
    with pytest.raises(UnicodeEncodeError):
        string_to_sign("/p", "C", "\u20ac", b"")


def test_the_header_has_no_spaces_this_order_and_percent_encoded_base64() -> None:
    assert format_signature(b"\xfb\xff\xfe\x00", "1") == "algorithm=RSA256,keyVersion=1,signature=%2B%2F%2F%2BAA%3D%3D"


@given(signature=st.binary(min_size=1, max_size=512))
def test_the_percent_encoding_is_that_of_the_standard_library(signature: bytes) -> None:
    assert format_signature(signature, "1").endswith(f"signature={quote(b64encode(signature), safe='')}")


@given(signature=st.binary(min_size=1, max_size=512), version=st.from_regex(r"[A-Za-z0-9._-]{1,64}", fullmatch=True))
def test_what_is_formatted_is_parsed_back(signature: bytes, version: str) -> None:
    header = parse_signature(format_signature(signature, version))
    assert (header.key_version, header.signature) == (version, signature)


UPPER = quote(ENCODED, safe="")
LOWER = UPPER.replace("%2B", "%2b").replace("%2F", "%2f").replace("%3D", "%3d")


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(f"algorithm=RSA256,keyVersion=1,signature={UPPER}", id="as-it-should-be"),
        pytest.param(f"algorithm=RSA256, keyVersion=1,\tsignature={UPPER} ", id="C10-spaces"),
        pytest.param(f"signature={UPPER},keyVersion=1,algorithm=RSA256", id="C10-other-order"),
        pytest.param(f"algorithm=RSA256,keyVersion=1,signature={LOWER}", id="C10-lower-case-escapes"),
        pytest.param(f"algorithm=RSA256,keyVersion=1,signature={ENCODED}", id="C10-raw-base64"),
        pytest.param(f"algorithm=RSA256,keyVersion=1,signature=%41{UPPER[1:]}", id="C10-an-escaped-letter"),
        pytest.param(f"algorithm=RSA256,keyVersion=1,signature={UPPER},later=x", id="an-unknown-part"),
    ],
)
def test_forms_of_the_header_that_are_read(value: str) -> None:
    assert parse_signature(value).signature == BYTES
    assert parse_signature(value).key_version == "1"


def test_the_key_version_is_opaque() -> None:
    assert parse_signature("algorithm=RSA256,keyVersion=a%2B=b,signature=AAAA").key_version == "a%2B=b"


@pytest.mark.parametrize(
    "value",
    [
        pytest.param("", id="C9-empty"),
        pytest.param("RSA256,1,AAAA", id="C9-without-names"),
        pytest.param("keyVersion=1,signature=AAAA", id="C9-no-algorithm"),
        pytest.param("algorithm=RSA256,signature=AAAA", id="C9-no-key-version"),
        pytest.param("algorithm=RSA256,keyVersion=,signature=AAAA", id="C9-empty-key-version"),
        pytest.param("algorithm=RSA256,keyVersion=1", id="C9-no-signature"),
        pytest.param("algorithm=RSA256,keyVersion=1,signature=", id="C9-empty-signature"),
        pytest.param("algorithm=RSA512,keyVersion=1,signature=AAAA", id="C9-other-algorithm"),
        pytest.param("algorithm=rsa256,keyVersion=1,signature=AAAA", id="C9-algorithm-in-lower-case"),
        pytest.param("algorithm=none,keyVersion=1,signature=AAAA", id="C9-algorithm-none"),
        pytest.param("algorithm=RSA256,keyVersion=1,signature=AAAA,", id="C9-trailing-comma"),
        pytest.param("algorithm=RSA256,keyVersion=1,signature=AAAA,junk", id="C9-junk"),
        pytest.param("algorithm=RSA256,keyVersion=1,keyVersion=2,signature=AAAA", id="C9-key-version-twice"),
        pytest.param("algorithm=RSA256,algorithm=RSA256,keyVersion=1,signature=AAAA", id="C9-algorithm-twice"),
        pytest.param("algorithm=RSA256,keyVersion=1,signature=AAAA,signature=BBBB", id="C9-signature-twice"),
    ],
)
def test_headers_that_are_refused(value: str) -> None:
    with pytest.raises(SignatureError):
        parse_signature(value)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("AA A", id="C9-space"),
        pytest.param("AA\nAA", id="C9-line-feed"),
        pytest.param("AAA", id="C9-no-padding"),
        pytest.param("AAA==", id="C9-too-much-padding"),
        pytest.param("AA==AA==", id="C9-after-the-padding"),
        pytest.param("=AAA", id="C9-padding-first"),
        pytest.param("AA-_", id="C9-url-safe"),
        pytest.param("AA!A", id="C9-junk"),
        pytest.param("AAA\xe9", id="C9-not-ascii"),
        pytest.param("AAA%", id="C9-half-an-escape"),
        pytest.param("AA%2", id="C9-short-escape"),
        pytest.param("AA%zz", id="C9-bad-escape"),
        pytest.param("AAA%253D", id="C9-encoded-twice"),
        pytest.param("AA%%32BA", id="C9-escape-within-an-escape"),
        pytest.param("AAA%20", id="C9-encoded-space"),
    ],
)
def test_C9_junk_in_base64_is_refused(text: str) -> None:
    with pytest.raises(SignatureError):
        decode_signature(text)


def test_a_plus_is_never_a_space() -> None:
    assert decode_signature("++++") == b"\xfb\xef\xbe"
    with pytest.raises(SignatureError):
        decode_signature("    ")


@given(text=st.text(max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    for read in (parse_signature, decode_signature):
        with suppress(SignatureError):
            read(text)
