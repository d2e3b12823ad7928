import json

import pytest

from gateway.alipayplus.results import DOCUMENTED, Result
from gateway.errors import GatewayError, ResultStatus
from gateway.sdkproxy.contract import decode_request, http_status, is_json_in_utf8


@pytest.mark.parametrize(
    ("code", "status", "expected"),
    [
        ("SUCCESS", "S", 200),
        ("ANYTHING", "S", 200),
        ("PROCESS_FAIL", "S", 200),
        ("PROCESS_FAIL", "F", 422),
        ("PARAM_ILLEGAL", "F", 422),
        ("NEVER_SEEN", "F", 422),
        ("REQUEST_TRAFFIC_EXCEED_LIMIT", "F", 422),
        ("UNKNOWN_EXCEPTION", "F", 422),
        *((code, "F", 502) for code in ("ACCESS_DENIED", "INVALID_API", "INVALID_CLIENT", "INVALID_SIGNATURE", "KEY_NOT_FOUND")),
        ("MEDIA_TYPE_NOT_ACCEPTABLE", "F", 502),
        ("METHOD_NOT_SUPPORTED", "F", 502),
        ("REQUEST_TRAFFIC_EXCEED_LIMIT", "U", 429),
        ("UNKNOWN_EXCEPTION", "U", 502),
        ("NEVER_SEEN", "U", 502),
        ("PROCESS_FAIL", "U", 502),
    ],
)
def test_the_status_of_each_outcome(code: str, status: ResultStatus, expected: int) -> None:
    result = Result(code, status, "")
    assert http_status(result) == expected


def test_every_documented_code_has_a_status() -> None:
    assert {http_status(Result(code, status, "")) for code, status in DOCUMENTED.items()} == {200, 422, 429, 502}


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json",
        "application/json;charset=utf-8",
        'Application/JSON; Charset="UTF-8"',
        "application/json; charset=utf8",
        "application/json;",
    ],
)
def test_json_in_utf8_is_taken(content_type: str) -> None:
    assert is_json_in_utf8(content_type)


@pytest.mark.parametrize(
    "content_type",
    [
        "",
        "text/plain",
        "application/json; charset=latin-1",
        "application/jsonp",
        "application/x-www-form-urlencoded",
        "json",
        "application/json, text/html",
    ],
)
def test_other_media_types_are_not(content_type: str) -> None:
    assert not is_json_in_utf8(content_type)


def test_the_strings_stay_raw() -> None:
    request = decode_request(rb' {"proxyRequestData" : "a\/\u0041\n" ,"x":[1], "proxyRequestHeader": "{\"a\":1}", "scene":"\u0053"} ')
    assert (request.header, request.data, request.scene) == (rb'"{\"a\":1}"', rb'"a\/\u0041\n"', "S")


@pytest.mark.parametrize("scene", ["", ',"scene":null', ',"scene":"' + "s" * 64 + '"'])
def test_the_scene_is_optional(scene: str) -> None:
    decode_request(b'{"proxyRequestHeader":"","proxyRequestData":""%b}' % scene.encode())


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b'"x"',
        b"null",
        b"{}",
        b'{"proxyRequestHeader":"a"}',
        b'{"proxyRequestData":"a"}',
        b'{"proxyRequestHeader":1,"proxyRequestData":"a"}',
        b'{"proxyRequestHeader":"a","proxyRequestData":null}',
        b'{"proxyRequestHeader":"a","proxyRequestData":{}}',
        b'{"proxyRequestHeader":"a","proxyRequestData":"a","scene":1}',
        b'{"proxyRequestHeader":"a","proxyRequestData":"a","scene":"%b"}' % (b"s" * 65),
        b'{"proxyRequestHeader":"a","proxyRequestData":"\\ud800"}',
        b'{"proxyRequestHeader":"a","proxyRequestData":"\xff"}',
        b'\xef\xbb\xbf{"proxyRequestHeader":"a","proxyRequestData":"a"}',
        b'{"proxyRequestHeader":"a","proxyRequestData":"a","x":NaN}',
        b'{"proxyRequestHeader":"a","proxyRequestData":"a"}x',
        b'{"proxyRequestHeader":"a","proxyRequestData":"a","x":' + b"[" * 100_000,
        b'{"proxyRequestHeader":"a","proxyRequestData":"a","x":"\xc0\xaf"}',
    ],
)
def test_A14_what_is_not_the_contract_is_malformed(body: bytes) -> None:
    with pytest.raises(GatewayError) as caught:
        decode_request(body)
    assert caught.value.failure.code == "REQUEST_MALFORMED"


@pytest.mark.parametrize("value", ["x", None, 1, {}, ""])
def test_G7_a_customer_id_of_any_value_is_refused(value: object) -> None:
    with pytest.raises(GatewayError, match="customerId"):
        decode_request(json.dumps({"proxyRequestHeader": "", "proxyRequestData": "", "customerId": value}).encode())


def test_of_a_key_that_stands_twice_the_last_counts() -> None:
    assert decode_request(b'{"proxyRequestHeader":1,"proxyRequestData":"a","proxyRequestHeader":"b"}').header == b'"b"'
