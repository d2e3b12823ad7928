from dataclasses import replace
from datetime import UTC, datetime

import msgspec
import pytest

from gateway.simulator.answers import sample
from gateway.simulator.peer import Received
from gateway.simulator.walkthrough import Passage, brief, lines, signature

STRINGS = rb'"sdkRequestHeader":"a\u2028","sdkRequestData":"b%5B"'
SIGNATURE = "algorithm=RSA256,keyVersion=1,signature=" + "A" * 40
RECEIVED = Received(
    number=1,
    time=datetime(2026, 1, 1, tzinfo=UTC),
    method="POST",
    target="/",
    headers=(("Client-Id", "T_1"), ("Request-Time", "then"), ("Signature", SIGNATURE)),
    body=b"{%b,%b}" % (STRINGS, b'"customerId":"customer-a"'),
    verified=True,
    reason=None,
)


@pytest.fixture
def passage() -> Passage:
    response = sample("alipayplus-response")
    strings = response[response.index(b'"sdkResponseHeader"') :].replace(b"sdkResponse", b"proxyResponse")
    answer = b'{"isSuccess":true,"resultCode":"SUCCESS","resultStatus":"S","requestId":"r",' + strings
    phases = {"session": 0.001, "sign": 0.0021, "alipayplus": 0.012, "verify": 0.0001}
    access = {"phases": phases, "duration": 0.02, "response_time": "later"}
    return Passage(b"{%b}" % STRINGS.replace(b"sdkRequest", b"proxyRequest"), 200, answer, RECEIVED, access)


def test_each_step_has_its_time_and_what_came_of_it(passage: Passage) -> None:
    assert list(lines(passage, "token"))[:6] == [
        "  session      1.0 ms   the auth service knows token: customer-a",
        "  sign         2.1 ms   Client-Id T_1, Request-Time then",
        "                        RSA256, key version 1, signature AAAAAAAAAAAAAAAAAAAAAAAA... (30 bytes)",
        "  Alipay+     12.0 ms   signature verified there",
        "  verify       0.1 ms   Response-Time later, signature of Alipay+ verified",
        "  in all      20.0 ms   HTTP 200, SUCCESS (S)",
    ]


def test_strings_that_came_through_are_the_same(passage: Passage) -> None:
    assert passage.is_faithful
    assert [line.endswith("byte for byte the same") for line in lines(passage, "token")][-4:] == [True] * 4


def test_a_string_of_the_same_meaning_in_other_bytes_is_changed(passage: Passage) -> None:
    changed = replace(passage, received=msgspec.structs.replace(RECEIVED, body=RECEIVED.body.replace(rb"\u2028", "\u2028".encode())))
    assert not changed.is_faithful
    assert [line.endswith("CHANGED") for line in lines(changed, "token")][-4:] == [True, False, False, False]


def test_what_alipayplus_did_not_verify_is_no_success(passage: Passage) -> None:
    refused = replace(passage, received=msgspec.structs.replace(RECEIVED, verified=False, reason="INVALID_SIGNATURE: wrong"))
    assert not refused.is_faithful
    assert any("INVALID_SIGNATURE: wrong" in line for line in lines(refused, "token"))


def test_a_signature_that_can_not_be_read_is_described() -> None:
    assert signature("nonsense") == "the signature header is malformed"


def test_other_requests_are_a_line_each() -> None:
    access = {"method": "POST", "status": 422, "result_code": "PROCESS_FAIL", "duration": 0.0042, "phases": {"session": 0.001}}
    assert brief(access) == "  POST 422 PROCESS_FAIL 4.2 ms (session 1.0)"
    assert brief({"method": "GET", "status": 404, "reason": "no_route", "duration": 0.0001}) == "  GET 404 no_route 0.1 ms"
