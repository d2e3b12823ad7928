from collections.abc import Callable

import pytest

from gateway.alipayplus.keys import KeyRing
from gateway.simulator.arrival import Partner, Refusal, verify
from gateway.simulator.wire import Request, parse_head

Sign = Callable[..., bytes]

STANDARD = "algorithm=RSA256,keyVersion=1,signature=AA%3D%3D"


@pytest.fixture(scope="session")
def partner(ring: KeyRing) -> Partner:
    return Partner(ring.client_id, {"1": ring.signing.public})


def read(data: bytes) -> Request:
    head, _, body = data.partition(b"\r\n\r\n")
    parsed = parse_head(head)
    return Request(parsed.method, parsed.target, parsed.headers, body)


def refused(data: bytes, partner: Partner) -> tuple[str, bool]:
    with pytest.raises(Refusal) as raised:
        verify(read(data), partner)
    return raised.value.code, raised.value.signed


def with_id(customer_id: str) -> bytes:
    return b'{"sdkRequestHeader":"","sdkRequestData":"","customerId":"%b"}' % customer_id.encode()


def test_a_right_request_passes(sign: Sign, partner: Partner) -> None:
    verify(read(sign()), partner)


@pytest.mark.parametrize("time", ["2026-11-22T10:00:00Z", "2026-11-22T10:00:00.123+00:00", "2026-11-22T10:00:00-05:00"])
def test_times_with_an_offset_pass(sign: Sign, partner: Partner, time: str) -> None:
    verify(read(sign(headers={"Request-Time": time})), partner)


@pytest.mark.parametrize("customer_id", ["c", "\u00e9" * 64])
def test_customer_ids_up_to_64_characters_pass(sign: Sign, partner: Partner, customer_id: str) -> None:
    verify(read(sign(body=with_id(customer_id))), partner)


@pytest.mark.parametrize(
    ("changed", "code", "signed"),
    [
        pytest.param({"target": "/aps/api/v1/mobile/sdkproxy"}, "INVALID_API", False, id="other path"),
        pytest.param({"target": "/aps/api/v1/mobile/sdkProxy?a=b"}, "INVALID_API", False, id="query"),
        pytest.param({"method": "PUT"}, "METHOD_NOT_SUPPORTED", False, id="method"),
        pytest.param({"headers": {"Content-Type": "text/plain"}}, "MEDIA_TYPE_NOT_ACCEPTABLE", False, id="media type"),
        pytest.param({"headers": {"Content-Type": "application/json"}}, "MEDIA_TYPE_NOT_ACCEPTABLE", False, id="no charset"),
        pytest.param({"headers": {"Content-Type": None}}, "MEDIA_TYPE_NOT_ACCEPTABLE", False, id="no media type"),
        pytest.param({"headers": {"Client-Id": "T_2"}}, "INVALID_CLIENT", False, id="other client"),
        pytest.param({"headers": {"Client-Id": None}}, "INVALID_CLIENT", False, id="no client"),
        pytest.param({"headers": {"client-id": "T_000000000000000001"}}, "INVALID_CLIENT", False, id="client twice"),
        pytest.param({"headers": {"Signature": None}}, "INVALID_SIGNATURE", False, id="no signature"),
        pytest.param({"headers": {"Signature": "nonsense"}}, "INVALID_SIGNATURE", False, id="no signature header's form"),
        pytest.param({"headers": {"Signature": STANDARD.replace("=1", "=2")}}, "KEY_NOT_FOUND", False, id="version"),
        pytest.param({"headers": {"Signature": STANDARD}}, "INVALID_SIGNATURE", True, id="wrong"),
        pytest.param({"headers": {"Signature": "keyVersion=1,algorithm=RSA256,signature=AA%3D%3D"}}, "INVALID_SIGNATURE", True, id="order"),
        pytest.param({"headers": {"Signature": STANDARD.replace("%3D", "=")}}, "INVALID_SIGNATURE", True, id="raw base64"),
        pytest.param({"signed": b"{}"}, "INVALID_SIGNATURE", True, id="another body signed"),
        pytest.param({"headers": {"Request-Time": None}}, "PARAM_ILLEGAL", True, id="no time"),
        pytest.param({"headers": {"Request-Time": "1559016732000"}}, "PARAM_ILLEGAL", True, id="epoch time"),
        pytest.param({"headers": {"Request-Time": "2019-05-28T12:12:12"}}, "PARAM_ILLEGAL", True, id="time without offset"),
        pytest.param({"headers": {"Request-Time": "2019-02-30T12:12:12+08:00"}}, "PARAM_ILLEGAL", True, id="no such day"),
        pytest.param({"body": b"{"}, "PARAM_ILLEGAL", True, id="not JSON"),
        pytest.param({"body": b'{"sdkRequestHeader":"","sdkRequestData":""}'}, "PARAM_ILLEGAL", True, id="no customer id"),
        pytest.param({"body": with_id("").replace(b'Data":""', b'Data":{}')}, "PARAM_ILLEGAL", True, id="no string"),
        pytest.param({"body": with_id("c" * 65)}, "PARAM_ILLEGAL", True, id="65 characters"),
        pytest.param({"body": with_id("")}, "PARAM_ILLEGAL", True, id="empty customer id"),
        pytest.param({"body": b'{"sdkRequestHeader":"\xff","sdkRequestData":"","customerId":"c"}'}, "PARAM_ILLEGAL", True, id="bad UTF-8"),
    ],
)
def test_each_wrong_input_is_refused_with_its_code(
    sign: Sign, partner: Partner, changed: dict[str, object], code: str, *, signed: bool
) -> None:
    assert refused(sign(**changed), partner) == (code, signed)


def test_another_time_than_the_signed_one_is_refused(sign: Sign, partner: Partner) -> None:
    data = sign().replace(b"12:12:12", b"12:12:13")
    assert refused(data, partner) == ("INVALID_SIGNATURE", True)
