import base64
import json
from typing import Any
from urllib.parse import parse_qsl

import pytest

from gateway.config.model import CustomerId, Introspection
from gateway.config.values import Secret
from gateway.session.check import Identity
from gateway.session.introspection import IntrospectionCheck
from tests.upstream.answers import an_answer


def introspection(**keys: Any) -> IntrospectionCheck:
    keys = {"url": "https://idp.example:8443/introspect", "client_id": "gate way", "client_secret": Secret("s:e+c/\u00e4"), **keys}
    return IntrospectionCheck(Introspection(**keys), "idp.example:8443")


def judged(value: object, **keys: Any) -> Any:
    return introspection(**keys).judge(an_answer(200, (), json.dumps(value).encode()))


def test_the_request_is_that_of_RFC_7662() -> None:
    message = introspection().request(b"abc", request_id="id-1", traceparent="00-1-2-01")
    # RFC 6749 section 2.3.1: both parts are form-encoded before they are joined.
    basic = base64.b64encode(b"gate+way:s%3Ae%2Bc%2F%C3%A4")
    assert message.body == b"token=abc&token_type_hint=access_token"
    assert message.head == (
        b"POST /introspect HTTP/1.1\r\nHost: idp.example:8443\r\nAccept: application/json\r\nAuthorization: Basic %b\r\n"
        b"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 38\r\nX-Request-Id: id-1\r\ntraceparent: 00-1-2-01\r\n\r\n"
        % basic
    )


@pytest.mark.parametrize("token", [b"a+b/c==", b"a&token=b", b"a%26b=c", b"1|x;y", b"~._-"])
def test_a_token_goes_through_the_form_unchanged(token: bytes) -> None:
    body = introspection().request(token, request_id="i", traceparent="t").body
    assert parse_qsl(body.decode(), strict_parsing=True) == [("token", token.decode()), ("token_type_hint", "access_token")]


def test_only_the_bearer_of_one_Authorization_is_a_credential() -> None:
    check = introspection()
    assert check.credential([(b"Cookie", b"a=b"), (b"authorization", b"bearer t")]) == b"t"
    assert check.credential([(b"Authorization", b"Bearer t"), (b"Authorization", b"Bearer t")]) is None
    assert check.challenge == ("Bearer",)


def test_active_with_an_id_is_valid() -> None:
    verdict = judged({"active": True, "sub": "user-1"})
    assert (verdict.outcome, verdict.identity, verdict.expires_at) == ("valid", Identity("user-1"), None)


def test_the_id_may_stand_elsewhere() -> None:
    assert judged({"active": True, "sub": "x", "ext": {"id": "user-2"}}, customer_id=CustomerId(json="/ext/id")).identity == Identity(
        "user-2"
    )
    answer = an_answer(200, (("x-user", "user-3"),), b'{"active": true}')
    assert introspection(customer_id=CustomerId(header="X-User")).judge(answer).identity == Identity("user-3")


def test_B2_inactive_is_denied_with_the_challenge_of_RFC_6750() -> None:
    verdict = judged({"active": False, "sub": "user-1"})
    assert (verdict.outcome, verdict.identity) == ("denied", None)
    assert verdict.www_authenticate == ('Bearer error="invalid_token"',)


@pytest.mark.parametrize("status", [201, 204, 301, 302, 400, 401, 403, 404, 429, 500, 503])
def test_B5_every_other_status_is_unavailable(status: int) -> None:
    verdict = introspection().judge(an_answer(status, (), b'{"active": true, "sub": "user-1"}'))
    assert (verdict.outcome, verdict.identity) == ("unavailable", None)


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"sub": "user-1"},
        {"active": None, "sub": "user-1"},
        {"active": "true", "sub": "user-1"},
        {"active": "false"},
        {"active": 1, "sub": "user-1"},
        {"active": 0},
        {"Active": True, "sub": "user-1"},
        {"active": True},
        {"active": True, "sub": 7},
        {"active": True, "sub": ""},
        {"active": True, "sub": "a" * 65},
        [{"active": True, "sub": "user-1"}],
        "active",
        None,
    ],
)
def test_B6_what_is_not_a_clear_yes_or_no_is_unavailable(document: object) -> None:
    verdict = judged(document)
    assert (verdict.outcome, verdict.identity) == ("unavailable", None)


@pytest.mark.parametrize("body", [b"", b"<html>", b'{"active": true, "sub": "user', b"\xff"])
def test_B6_what_is_not_json_is_unavailable(body: bytes) -> None:
    assert introspection().judge(an_answer(200, (), body)).outcome == "unavailable"


@pytest.mark.parametrize(
    ("exp", "expires_at"),
    [(1893456000, 1893456000.0), (1893456000.5, 1893456000.5), (None, None), (0, 0.0), ("soon", 0.0), (True, 0.0), ([], 0.0)],
)
def test_exp_bounds_the_time_for_which_a_verdict_is_kept(exp: object, expires_at: float | None) -> None:
    assert judged({"active": True, "sub": "user-1", "exp": exp}).expires_at == expires_at


def test_a_huge_exp_is_no_failure() -> None:
    verdict = introspection().judge(an_answer(200, (), b'{"active": true, "sub": "user-1", "exp": %b}' % (b"9" * 400)))
    assert verdict.outcome in {"valid", "unavailable"}


def test_the_secret_is_not_printed() -> None:
    check = introspection(client_secret=Secret("canary"))
    assert "canary" not in repr(check) + repr(check.request(b"canary", request_id="i", traceparent="t"))
