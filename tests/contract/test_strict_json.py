"""JSONTestSuite through the strict decoding that both bodies go through (faults A14, C12)."""

from pathlib import Path
from typing import Any, Final

import msgspec
import pytest

from gateway.alipayplus.errors import ResponseInvalid
from gateway.alipayplus.messages import ABSENT, NotStrictJson, decode_response, decode_strict, encode_request, is_json_string

RESULT = rb'"result":"{\"resultCode\":\"SUCCESS\",\"resultStatus\":\"S\"}"'


class Holder(msgspec.Struct):
    value: msgspec.Raw = ABSENT


DECODER = msgspec.json.Decoder(Holder)
ANYTHING: Final[msgspec.json.Decoder[Any]] = msgspec.json.Decoder()


def cases(corpora: Path, prefix: str) -> list[tuple[str, bytes]]:
    found = sorted((corpora / "JSONTestSuite" / "test_parsing").glob(f"{prefix}_*.json"))
    assert len(found) > 30
    return [(file.name, file.read_bytes()) for file in found]


def is_read(body: bytes, decoder: msgspec.json.Decoder[Any]) -> bool:
    try:
        decode_strict(body, decoder)
    except NotStrictJson:
        return False
    return True


def is_answer(body: bytes) -> bool:
    try:
        decode_response(body)
    except ResponseInvalid:
        return False
    return True


def test_A14_what_is_not_json_is_never_read_as_a_body(corpora: Path) -> None:
    for name, content in cases(corpora, "n"):
        assert not is_read(content, DECODER), name
        assert not is_read(content, ANYTHING), name


def test_A14_what_is_not_json_is_never_read_within_a_body(corpora: Path) -> None:
    for name, content in cases(corpora, "n"):
        for place in (b'{"value":%b}', b'{"other":%b}', b'{"other":{"deeper":[1,%b]}}'):
            assert not is_read(place % content, DECODER), name


def test_C12_what_is_not_json_is_never_an_answer(corpora: Path) -> None:
    for name, content in cases(corpora, "n"):
        for body in (content, b'{"result":%b}' % content, b"{%b,%b}" % (RESULT, b'"sdkResponseData":' + content)):
            assert not is_answer(body), name


def test_what_is_json_is_read_as_it_stands(corpora: Path) -> None:
    for name, content in cases(corpora, "y"):
        text = content.strip(b" \t\r\n")
        assert bytes(decode_strict(b'{"value":%b}' % content, DECODER).value) == text, name
        assert bytes(decode_strict(b'{"other":%b,"value":0}' % content, DECODER).value) == b"0", name


def test_strings_that_are_json_are_spliced_byte_for_byte_and_all_else_is_no_string(corpora: Path) -> None:
    spliced = 0
    for name, content in cases(corpora, "y"):
        # Most of the files hold a list with the one string that they are about.
        value = content.strip().removeprefix(b"[").removesuffix(b"]") if name.startswith("y_string") else content
        raw = decode_strict(b'{"value":%b}' % value, DECODER).value
        text = value.strip()
        assert is_json_string(raw) is text.startswith(b'"'), name
        if is_json_string(raw):
            spliced += 1
            assert encode_request(raw, raw, "1") == b'{"sdkRequestHeader":%b,"sdkRequestData":%b,"customerId":"1"}' % (text, text), name
            assert decode_response(b'{%b,"sdkResponseData":%b}' % (RESULT, value)).data == text, name
    assert spliced > 30


def test_A14_what_may_be_either_is_read_or_refused_and_what_is_read_is_utf_8(corpora: Path) -> None:
    for _, content in cases(corpora, "i"):
        try:
            raw = decode_strict(b'{"value":%b}' % content, DECODER).value
        except NotStrictJson:
            continue
        bytes(raw).decode("utf-8")


@pytest.mark.parametrize(
    "prefix",
    ["i_string_1st_surrogate", "i_string_incomplete_surrogate", "i_string_invalid_lonely", "i_string_lone_second", "i_string_inverted"],
)
def test_A14_lone_surrogates_are_refused(corpora: Path, prefix: str) -> None:
    found = [content for name, content in cases(corpora, "i") if name.startswith(prefix)]
    assert found
    for content in found:
        with pytest.raises(NotStrictJson):
            decode_strict(b'{"value":%b}' % content, DECODER)
