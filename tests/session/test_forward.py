from typing import Any

import pytest

from gateway.config.model import CustomerId, Forward
from gateway.config.values import MaskedQuery
from gateway.session.check import Identity
from gateway.session.forward import ForwardCheck
from gateway.upstream import Answer
from tests.upstream.answers import an_answer


def forward(**keys: Any) -> ForwardCheck:
    keys = {"url": "http://auth.example/session?x=1", "customer_id": CustomerId(header="X-Customer-Id"), **keys}
    return ForwardCheck(Forward(**keys), "auth.example")


def ask(check: ForwardCheck, *headers: tuple[bytes, bytes]) -> bytes:
    credential = check.credential(headers)
    assert credential is not None
    message = check.request(credential, request_id="id-1", traceparent="00-1-2-01")
    assert message.body == b""
    return message.head


def test_the_request_holds_the_credential_and_the_gateways_own_headers_only() -> None:
    sent = ask(
        forward(),
        (b"Host", b"app.example"),
        (b"Cookie", b"sid=1"),
        (b"X-Request-Id", b"forged"),
        (b"Transfer-Encoding", b"chunked"),
        (b"Content-Length", b"12"),
        (b"Expect", b"100-continue"),
        (b"Connection", b"cookie"),
        (b"X-Customer-Id", b"forged"),
        (b"authorization", b"Bearer t"),
    )
    assert sent == (
        b"GET /session?x=1 HTTP/1.1\r\nHost: auth.example\r\nAccept: */*\r\nCookie: sid=1\r\nAuthorization: Bearer t\r\n"
        b"X-Request-Id: id-1\r\ntraceparent: 00-1-2-01\r\n\r\n"
    )


def test_a_POST_has_no_body() -> None:
    sent = ask(forward(method="POST", customer_id=CustomerId(json="/id")), (b"Cookie", b"a=b"))
    assert sent == (
        b"POST /session?x=1 HTTP/1.1\r\nHost: auth.example\r\nAccept: application/json\r\nContent-Length: 0\r\nCookie: a=b\r\n"
        b"X-Request-Id: id-1\r\ntraceparent: 00-1-2-01\r\n\r\n"
    )


def test_a_query_that_is_not_shown_is_sent() -> None:
    assert ask(forward(url=MaskedQuery("http://auth.example/a?k=secret")), (b"Cookie", b"a=b")).startswith(b"GET /a?k=secret HTTP/1.1\r\n")


@pytest.mark.parametrize("status", [200, 201, 202, 204, 206, 299])
def test_2xx_with_an_id_is_valid(status: int) -> None:
    verdict = forward().judge(an_answer(status, (("x-customer-id", "user-1"),), b"<html>"))
    assert (verdict.outcome, verdict.identity, verdict.expires_at) == ("valid", Identity("user-1"), None)


def test_the_id_may_stand_in_the_body() -> None:
    verdict = forward(customer_id=CustomerId(json="/user/id")).judge(an_answer(200, (), b'{"user": {"id": "user-1"}}'))
    assert verdict.identity == Identity("user-1")


def test_B2_401_is_denied_with_its_challenges() -> None:
    answer = an_answer(401, (("www-authenticate", "Bearer"), ("x-customer-id", "user-1"), ("www-authenticate", 'Basic realm="x"')))
    verdict = forward().judge(answer)
    assert (verdict.outcome, verdict.identity, verdict.www_authenticate) == ("denied", None, ("Bearer", 'Basic realm="x"'))


def test_B2_403_is_forbidden() -> None:
    verdict = forward().judge(an_answer(403, (("x-customer-id", "user-1"), ("www-authenticate", "Bearer"))))
    assert (verdict.outcome, verdict.identity, verdict.www_authenticate) == ("forbidden", None, ())


@pytest.mark.parametrize(
    "status", [300, 301, 302, 303, 304, 307, 308, 400, 402, 404, 405, 407, 429, 500, 501, 502, 503, 504, 599, 600, 999]
)
def test_B5_every_other_status_is_unavailable(status: int) -> None:
    verdict = forward().judge(an_answer(status, (("x-customer-id", "user-1"), ("location", "http://elsewhere/"))))
    assert (verdict.outcome, verdict.identity) == ("unavailable", None)
    assert verdict.reason == f"the auth service answered {status}"


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(an_answer(200), id="B6-no-id"),
        pytest.param(an_answer(200, (("x-customer-id", "a"), ("x-customer-id", "a"))), id="B6-repeated"),
        pytest.param(an_answer(200, (("x-customer-id", "a" * 65),)), id="B6-over-64"),
        pytest.param(an_answer(200, (("x_customer_id", "a"),)), id="B6-underscore-twin"),
    ],
)
def test_2xx_without_a_well_formed_id_is_unavailable(answer: Answer) -> None:
    verdict = forward().judge(answer)
    assert (verdict.outcome, verdict.identity) == ("unavailable", None)


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'"user-1"', b"null", b'{"user": "user-1"}', b'{"user": {"id": 7}}'])
def test_B6_2xx_without_the_id_in_its_body_is_unavailable(body: bytes) -> None:
    verdict = forward(customer_id=CustomerId(json="/user/id")).judge(an_answer(200, (("user", "x"),), body))
    assert (verdict.outcome, verdict.identity) == ("unavailable", None)


def test_forward_headers_are_collected_with_repetitions_under_their_configured_names() -> None:
    answer = an_answer(
        200, (("x-tier", "gold"), ("x-customer-id", "u"), ("x-other", "no"), ("x-tags", "a"), ("x-tier", "\xe4"), ("x-tags", ""))
    )
    verdict = forward(forward_headers=("X-TAGS", "X-Tier")).judge(answer)
    assert verdict.identity == Identity("u", (("X-Tier", "gold"), ("X-TAGS", "a"), ("X-Tier", "\xe4"), ("X-TAGS", "")))


def test_an_identity_is_not_printed() -> None:
    verdict = forward(forward_headers=("X-Tier",)).judge(an_answer(200, (("x-tier", "canary"), ("x-customer-id", "canary"))))
    assert "canary" not in repr(verdict) + repr(verdict.check("call"))
