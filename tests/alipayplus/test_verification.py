"""Which answers are believed: every rule of protocol section 3."""

import json
from collections.abc import Sequence
from typing import Any

import pytest

from gateway.alipayplus.errors import ResponseInvalid, SignatureInvalid
from gateway.alipayplus.keys import KeyRing
from gateway.alipayplus.messages import Response
from gateway.alipayplus.results import DOCUMENTED, UNSIGNED_FAILURES, Result
from gateway.alipayplus.signature import format_signature, parse_signature
from gateway.alipayplus.verification import verify_answer
from gateway.errors import ResultStatus

URI = "/aps/api/v1/mobile/sdkProxy"
TIME = "2019-05-28T12:12:14+08:00"
CLIENT_ID = "T_000000000000000001"


def answer(code: str = "SUCCESS", status: str = "S", **members: Any) -> bytes:
    result = json.dumps({"resultCode": code, "resultStatus": status, "resultMessage": "said so"})
    return json.dumps({"result": result, "sdkResponseHeader": "canary", "sdkResponseData": "canary", **members}).encode()


def unsigned(ring: KeyRing, body: bytes, *, allowed: bool = True, client_id: Sequence[str] = ()) -> Response:
    return verify_answer(ring, URI, body, signature=[], response_time=[], client_id=client_id, allow_unsigned_failures=allowed)


def signed(ring: KeyRing, body: bytes, signature: Sequence[str], time: Sequence[str] = (TIME,), client_id: Sequence[str] = ()) -> Response:
    return verify_answer(ring, URI, body, signature=signature, response_time=time, client_id=client_id, allow_unsigned_failures=True)


@pytest.mark.parametrize("client_id", [[], [CLIENT_ID]])
def test_a_signed_success_is_released(ring: KeyRing, their_ring: KeyRing, client_id: list[str]) -> None:
    body = answer()
    response = signed(ring, body, [their_ring.sign(URI, TIME, body)], client_id=client_id)
    assert response == Response(Result("SUCCESS", "S", "said so"), b'"canary"', b'"canary"')


@pytest.mark.parametrize(("code", "status"), [*DOCUMENTED.items(), ("NEW", "S"), ("NEW", "F"), ("NEW", "U"), ("PROCESS_FAIL", "U")])
def test_C8_every_signed_result_is_passed_on_with_its_strings(ring: KeyRing, their_ring: KeyRing, code: str, status: ResultStatus) -> None:
    body = answer(code, status)
    response = signed(ring, body, [their_ring.sign(URI, TIME, body)])
    assert response == Response(Result(code, status, "said so"), b'"canary"', b'"canary"')


@pytest.mark.parametrize(("code", "status"), DOCUMENTED.items())
def test_C9_F_and_U_with_a_wrong_signature_are_refused_too(ring: KeyRing, their_ring: KeyRing, code: str, status: str) -> None:
    with pytest.raises(SignatureInvalid):
        signed(ring, answer(code, status), [their_ring.sign(URI, TIME, answer(code, status) + b" ")])


@pytest.mark.parametrize("body", [answer(), answer("INVALID_SIGNATURE", "F"), answer("UNKNOWN_EXCEPTION", "U"), b"<html>"])
@pytest.mark.parametrize("half", ["signature", "response_time"])
def test_C9_half_signed_is_refused(ring: KeyRing, their_ring: KeyRing, body: bytes, half: str) -> None:
    signature = [their_ring.sign(URI, TIME, body)] if half == "signature" else []
    time = [TIME] if half == "response_time" else []
    with pytest.raises(SignatureInvalid):
        signed(ring, body, signature, time)


def test_C9_an_empty_header_counts_as_there(ring: KeyRing, their_ring: KeyRing) -> None:
    body = answer("INVALID_SIGNATURE", "F")
    for signature, time in (([""], []), ([], [""]), ([""], [""]), ([""], [TIME])):
        with pytest.raises(SignatureInvalid):
            signed(ring, body, signature, time)
    with pytest.raises(SignatureInvalid):
        signed(ring, body, [their_ring.sign(URI, TIME, body)], [""])


def test_C9_repeated_headers_are_refused(ring: KeyRing, their_ring: KeyRing) -> None:
    body = answer()
    good = their_ring.sign(URI, TIME, body)
    for signature, time, client_id in (([good, good], [TIME], []), ([good], [TIME, TIME], []), ([good], [TIME], [CLIENT_ID, CLIENT_ID])):
        with pytest.raises(SignatureInvalid):
            signed(ring, body, signature, time, client_id)


@pytest.mark.parametrize("client_id", ["T_2", "", "t_000000000000000001", f" {CLIENT_ID}"])
def test_C9_another_client_id_is_refused(ring: KeyRing, their_ring: KeyRing, client_id: str) -> None:
    body = answer()
    with pytest.raises(SignatureInvalid):
        signed(ring, body, [their_ring.sign(URI, TIME, body)], client_id=[client_id])
    with pytest.raises(SignatureInvalid):
        unsigned(ring, answer("INVALID_CLIENT", "F"), client_id=[client_id])


def test_C9_each_wrong_input_is_refused(ring: KeyRing, their_ring: KeyRing) -> None:
    body = answer()
    wrong = {
        "body": their_ring.sign(URI, TIME, body.replace(b"canary", b"Canary")),
        "path": their_ring.sign("/aps/api/v2/mobile/sdkProxy", TIME, body),
        "time": their_ring.sign(URI, "2019-05-28T12:12:15+08:00", body),
        "client id": KeyRing("T_2", their_ring.signing, {}).sign(URI, TIME, body),
        "key": KeyRing(CLIENT_ID, ring.signing, {}).sign(URI, TIME, body).replace("keyVersion=1", "keyVersion=7"),
        "key version": their_ring.sign(URI, TIME, body).replace("keyVersion=7", "keyVersion=8"),
        "algorithm": their_ring.sign(URI, TIME, body).replace("RSA256", "RSA1"),
        "junk": their_ring.sign(URI, TIME, body) + "!",
    }
    for signature in wrong.values():
        with pytest.raises(SignatureInvalid):
            signed(ring, body, [signature])


def test_C10_other_forms_of_a_right_signature_are_taken(ring: KeyRing, their_ring: KeyRing) -> None:
    body = answer()
    raw = parse_signature(their_ring.sign(URI, TIME, body)).signature
    for text in (
        format_signature(raw, "7").replace(",", ", "),
        format_signature(raw, "7").replace("%2B", "%2b").replace("%2F", "%2f").replace("%3D", "%3d"),
        format_signature(raw, "7").replace("%2B", "+").replace("%2F", "/").replace("%3D", "="),
        ",".join(reversed(format_signature(raw, "7").split(","))),
    ):
        assert signed(ring, body, [text]).result.status == "S"


def test_the_response_time_is_opaque(ring: KeyRing, their_ring: KeyRing) -> None:
    body = answer()
    for time in ("1559016732000", "yesterday", "\xe9\xff"):
        assert signed(ring, body, [their_ring.sign(URI, time, body)], [time]).result.status == "S"


@pytest.mark.parametrize("body", [b"<html>", b"", b"\xff", b'{"result":{"resultCode":"SUCCESS","resultStatus":"F"}}'])
def test_C11_C12_what_is_not_an_answer_is_invalid_when_unsigned_or_rightly_signed(ring: KeyRing, their_ring: KeyRing, body: bytes) -> None:
    with pytest.raises(ResponseInvalid):
        unsigned(ring, body)
    with pytest.raises(ResponseInvalid):
        signed(ring, body, [their_ring.sign(URI, TIME, body)])
    with pytest.raises(SignatureInvalid):
        signed(ring, body, [their_ring.sign(URI, TIME, body + b" ")])


@pytest.mark.parametrize("code", ["SUCCESS", "NEW", "INVALID_CLIENT"])
def test_C9_an_unsigned_success_is_refused(ring: KeyRing, code: str) -> None:
    with pytest.raises(SignatureInvalid):
        unsigned(ring, answer(code, "S"))


@pytest.mark.parametrize("code", sorted(UNSIGNED_FAILURES))
def test_an_early_unsigned_failure_is_taken_without_the_strings_if_allowed(ring: KeyRing, code: str) -> None:
    assert unsigned(ring, answer(code, "F"), client_id=[CLIENT_ID]) == Response(Result(code, "F", "said so"), None, None)
    with pytest.raises(SignatureInvalid):
        unsigned(ring, answer(code, "F"), allowed=False)


@pytest.mark.parametrize("code", ["PROCESS_FAIL", "PARAM_ILLEGAL", "UNKNOWN_EXCEPTION", "REQUEST_TRAFFIC_EXCEED_LIMIT", "NEW"])
def test_C9_any_other_unsigned_failure_proves_nothing(ring: KeyRing, code: str) -> None:
    with pytest.raises(SignatureInvalid):
        unsigned(ring, answer(code, "F"))


@pytest.mark.parametrize("allowed", [True, False])
@pytest.mark.parametrize("code", ["UNKNOWN_EXCEPTION", "REQUEST_TRAFFIC_EXCEED_LIMIT", "INVALID_CLIENT", "NEW"])
def test_an_unsigned_U_stays_U_under_its_own_code_without_the_strings(ring: KeyRing, code: str, allowed: bool) -> None:  # noqa: FBT001 - a parameter of the test
    assert unsigned(ring, answer(code, "U"), allowed=allowed) == Response(Result(code, "U", "said so"), None, None)


def test_G9_nothing_of_a_refused_answer_is_in_the_error(ring: KeyRing) -> None:
    for refused in (answer(), b"canary"):
        with pytest.raises((SignatureInvalid, ResponseInvalid)) as caught:
            unsigned(ring, refused)
        assert "canary" not in repr(caught.value) + str(caught.value)
    assert caught.value.failure.result_status == "U"
