"""The two messages, and the strict decoding beneath them: protocol section 2, architecture decision 1."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.alipayplus.errors import ResponseInvalid
from gateway.alipayplus.messages import ABSENT, NotStrictJson, decode_response, decode_strict, encode_request, is_json_string
from gateway.alipayplus.results import DOCUMENTED, Result
from gateway.errors import ResultStatus

SUCCESS = {"resultCode": "SUCCESS", "resultStatus": "S", "resultMessage": "Success"}


class Holder(msgspec.Struct):
    value: msgspec.Raw = ABSENT


DECODER = msgspec.json.Decoder(Holder)


def answer(**members: Any) -> bytes:
    return json.dumps(members).encode()


def test_a_raw_value_is_the_text_as_it_stands() -> None:
    text = rb'"\u0041\/ \ud83d\ude00 \" x"'
    assert bytes(decode_strict(b'\n{ "value" :\t' + text + b" \n}", DECODER).value) == text


def test_of_a_key_that_stands_twice_the_last_counts() -> None:
    assert bytes(decode_strict(b'{"value":"1","value":"2"}', DECODER).value) == b'"2"'


@pytest.mark.parametrize("place", [b'{"value":%b}', b'{"other":%b}', b'{"value":[%b]}', b'{"other":{"x":%b}}'])
@pytest.mark.parametrize(
    "text",
    [
        pytest.param(b'"\xff"', id="not-utf-8"),
        pytest.param(b'"\xc0\xaf"', id="overlong"),
        pytest.param(b'"\xed\xa0\x80"', id="surrogate-in-utf-8"),
        pytest.param(b'"\xf4\x90\x80\x80"', id="beyond-unicode"),
        pytest.param(rb'"\ud800"', id="lone-high-surrogate"),
        pytest.param(rb'"\ud800 and some more text"', id="lone-high-surrogate-then-text"),
        pytest.param(rb'"\udc00 and some more text"', id="lone-low-surrogate"),
        pytest.param(rb'"\ud800\ud800 and some more"', id="two-high-surrogates"),
        pytest.param(rb'"\udc00\ud800 and some more"', id="surrogates-turned-round"),
        pytest.param(rb'"\ud800\u0041 and some more"', id="high-surrogate-then-letter"),
        pytest.param(rb'"\ud800\n and some more text"', id="high-surrogate-then-escape"),
        pytest.param(rb'"\\\ud800 and some more text"', id="backslash-then-lone-surrogate"),
        pytest.param(rb'"\x41"', id="unknown-escape"),
        pytest.param(rb'"\u12"', id="short-escape"),
        pytest.param(rb'"\u12G4"', id="bad-escape"),
        pytest.param(b'"\x00"', id="nul"),
        pytest.param(b'"a\nb"', id="line-feed-in-a-string"),
        pytest.param(b'"a\x1fb"', id="control-character-in-a-string"),
        pytest.param(b'"a', id="open-string"),
        pytest.param(b"'a'", id="single-quotes"),
        pytest.param(b"NaN", id="nan"),
        pytest.param(b"Infinity", id="infinity"),
        pytest.param(b"-Infinity", id="minus-infinity"),
        pytest.param(b"01", id="leading-zero"),
        pytest.param(b"True", id="python-true"),
        pytest.param(b"/**/1", id="comment"),
        pytest.param(b'"a" "b"', id="two-values"),
        pytest.param(b'"a",', id="trailing-comma"),
        pytest.param(b"[" * 100_000, id="A14-deep-nesting"),
        pytest.param(b'{"a":' * 100_000, id="A14-deep-objects"),
        pytest.param(b"[" * 100_000 + b"]" * 100_000, id="A14-deep-and-closed"),
    ],
)
def test_A14_C12_what_is_not_strict_json_is_refused_wherever_it_stands(place: bytes, text: bytes) -> None:
    with pytest.raises(NotStrictJson) as caught:
        decode_strict(place % text, DECODER)
    # The cause would hold the body.
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b" ", id="blank"),
        pytest.param(b"\xef\xbb\xbf{}", id="A14-bom"),
        pytest.param("{}".encode("utf-16"), id="A14-utf-16"),
        pytest.param(b"{} x", id="trailing-text"),
        pytest.param(b"{}{}", id="two-objects"),
        pytest.param(b"[]", id="a-list"),
        pytest.param(b"null", id="null"),
        pytest.param(b'"text"', id="a-string"),
        pytest.param(b'{"\xff":1}', id="not-utf-8-in-a-key"),
        pytest.param(rb'{"\ud800":1}', id="lone-surrogate-in-a-key"),
        pytest.param(b"{value:1}", id="key-without-quotes"),
        pytest.param(b"<html></html>", id="html"),
    ],
)
def test_A14_C12_bodies_that_are_refused(body: bytes) -> None:
    with pytest.raises(NotStrictJson):
        decode_strict(body, DECODER)


@pytest.mark.parametrize(
    ("text", "is_string"),
    [
        (b'""', True),
        (b'"a"', True),
        (b"null", False),
        (b"1", False),
        (b"true", False),
        (b"[]", False),
        (b'{"a":"b"}', False),
        (b'["a"]', False),
    ],
)
def test_a_string_is_told_from_every_other_type(text: bytes, is_string: bool) -> None:  # noqa: FBT001 - a parameter of the test
    assert is_json_string(decode_strict(b'{"value": %b }' % text, DECODER).value) is is_string


def test_an_absent_value_is_no_string() -> None:
    assert not is_json_string(decode_strict(b"{}", DECODER).value)


def test_the_request_holds_the_two_texts_as_they_are_and_the_customer_id() -> None:
    expected = '{"sdkRequestHeader":"\\u0041","sdkRequestData":"%5B+","customerId":"a\\"b€"}'
    assert encode_request(rb'"\u0041"', b'"%5B+"', 'a"b€') == expected.encode()


def test_the_request_takes_raw_values() -> None:
    raw = decode_strict(rb'{"value":"\/x"}', DECODER).value
    assert encode_request(raw, raw, "1") == rb'{"sdkRequestHeader":"\/x","sdkRequestData":"\/x","customerId":"1"}'


@pytest.mark.parametrize("shape", [json.dumps, lambda result: result], ids=["C7-result-as-a-string", "C7-result-as-an-object"])
def test_C7_an_answer_is_read(shape: Any) -> None:
    response = decode_response(
        b'{"sdkResponseData": "\\u0041" , "result":' + json.dumps(shape(SUCCESS)).encode() + b',"sdkResponseHeader":""}'
    )
    assert response.result == Result("SUCCESS", "S", "Success")
    assert (response.header, response.data) == (b'""', rb'"\u0041"')


@pytest.mark.parametrize("body", [answer(result=SUCCESS), answer(result=SUCCESS, sdkResponseHeader=None, sdkResponseData=None)])
def test_C7_a_success_without_the_two_strings_is_read(body: bytes) -> None:
    response = decode_response(body)
    assert (response.result.status, response.header, response.data) == ("S", None, None)


@pytest.mark.parametrize(("code", "status"), DOCUMENTED.items())
def test_C8_every_documented_result_is_read(code: str, status: ResultStatus) -> None:
    response = decode_response(answer(result=json.dumps({"resultCode": code, "resultStatus": status})))
    assert response.result == Result(code, status, "")
    assert response.result.known


@pytest.mark.parametrize("status", ["S", "F", "U"])
def test_C8_an_unknown_code_is_judged_by_its_status(status: ResultStatus) -> None:
    result = decode_response(answer(result={"resultCode": "NEW_CODE", "resultStatus": status})).result
    assert (result.status, result.known) == (status, False)


def test_C8_a_known_code_under_another_status_is_an_unknown_one() -> None:
    result = decode_response(answer(result={"resultCode": "PROCESS_FAIL", "resultStatus": "U"})).result
    assert (result.status, result.known) == ("U", False)


@pytest.mark.parametrize("message", [{}, {"resultMessage": None}, {"resultMessage": ""}])
def test_the_result_message_is_optional(message: dict[str, Any]) -> None:
    assert decode_response(answer(result={"resultCode": "X", "resultStatus": "F", **message})).result.message == ""


def test_codes_have_64_characters_at_most_and_unknown_members_are_ignored() -> None:
    assert decode_response(answer(result={"resultCode": "€" * 64, "resultStatus": "F", "more": [1]}, more={})).result.code == "€" * 64


@pytest.mark.parametrize(
    "result",
    [
        pytest.param(None, id="null"),
        pytest.param(1, id="number"),
        pytest.param([SUCCESS], id="list"),
        pytest.param("", id="empty-string"),
        pytest.param("SUCCESS", id="plain-string"),
        pytest.param(json.dumps(json.dumps(SUCCESS)), id="encoded-twice"),
        pytest.param("[]", id="encoded-list"),
        pytest.param("\ufeff" + json.dumps(SUCCESS), id="bom-within"),
        pytest.param('{"resultCode":"SUCCESS","resultStatus":"S","x":"\\ud800"}', id="lone-surrogate-within"),
        pytest.param("[" * 100_000, id="deep-nesting-within"),
        pytest.param({}, id="empty"),
        pytest.param({"resultStatus": "S"}, id="no-code"),
        pytest.param({"resultCode": "SUCCESS"}, id="no-status"),
        pytest.param({"resultCode": None, "resultStatus": "S"}, id="code-null"),
        pytest.param({"resultCode": "", "resultStatus": "S"}, id="code-empty"),
        pytest.param({"resultCode": 1, "resultStatus": "S"}, id="code-number"),
        pytest.param({"resultCode": "X" * 65, "resultStatus": "S"}, id="code-too-long"),
        pytest.param({"resultCode": "X", "resultStatus": "s"}, id="C8-status-in-lower-case"),
        pytest.param({"resultCode": "X", "resultStatus": "S "}, id="C8-status-with-a-space"),
        pytest.param({"resultCode": "X", "resultStatus": "A"}, id="C8-unknown-status"),
        pytest.param({"resultCode": "X", "resultStatus": ""}, id="C8-status-empty"),
        pytest.param({"resultCode": "X", "resultStatus": None}, id="C8-status-null"),
        pytest.param({"resultCode": "X", "resultStatus": True}, id="C8-status-of-another-type"),
        pytest.param({"resultCode": "X", "resultStatus": "F", "resultMessage": 1}, id="message-of-another-type"),
        pytest.param({"resultCode": "SUCCESS", "resultStatus": "F"}, id="C8-success-with-F"),
        pytest.param({"resultCode": "SUCCESS", "resultStatus": "U"}, id="C8-success-with-U"),
    ],
)
@pytest.mark.parametrize("encoded", [False, True], ids=["as-object", "as-string"])
def test_C8_results_that_are_refused(result: Any, encoded: bool) -> None:  # noqa: FBT001 - a parameter of the test
    with pytest.raises(ResponseInvalid):
        decode_response(answer(result=json.dumps(result) if encoded and not isinstance(result, str) else result))


@pytest.mark.parametrize("name", ["sdkResponseHeader", "sdkResponseData"])
@pytest.mark.parametrize("value", [1, True, {}, {"a": "b"}, [], ["a"]])
def test_the_two_strings_are_strings(name: str, value: Any) -> None:
    with pytest.raises(ResponseInvalid):
        decode_response(answer(result=SUCCESS, **{name: value}))


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"{}", b"[]", b"null", b'{"result":', b"\xef\xbb\xbf" + answer(result=SUCCESS), b'{"result":"\xff"}']
)
def test_C11_C12_answers_that_are_refused(body: bytes) -> None:
    with pytest.raises(ResponseInvalid):
        decode_response(body)


def test_G9_neither_the_two_strings_nor_a_refused_body_are_shown() -> None:
    response = decode_response(answer(result=SUCCESS, sdkResponseHeader="canary-1", sdkResponseData="canary-2"))
    assert "canary" not in repr(response) + str(response)
    with pytest.raises(ResponseInvalid) as caught:
        decode_response(answer(result={"resultCode": "X", "resultStatus": "canary-3"}))
    assert "canary" not in repr(caught.value) + str(caught.value)
    assert caught.value.__cause__ is None


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=12,
)


@given(value=JSON_VALUES, ascii_only=st.booleans())
def test_every_value_that_is_json_is_read_as_it_stands(value: Any, ascii_only: bool) -> None:  # noqa: FBT001 - a parameter of the test
    text = json.dumps(value, ensure_ascii=ascii_only).encode()
    assert bytes(decode_strict(b'{"other":%b,"value": %b }' % (text, text), DECODER).value) == text


@given(body=st.binary(max_size=80) | st.text(max_size=80).map(str.encode) | JSON_VALUES.map(lambda value: json.dumps(value).encode()))
def test_any_body_is_read_or_refused(body: bytes) -> None:
    try:
        decode_response(body)
    except ResponseInvalid:
        return
    assert json.loads(body)["result"]
