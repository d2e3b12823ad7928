"""What the simulated Alipay+ makes of a request: everything in it is verified, in the order in which a server comes to know it.

Pure; the codes are the specification's (protocol section 2). What is answered then stands in `gateway.simulator.answers`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import msgspec
from msgspec import Struct

from gateway.alipayplus.keys import VerificationKey
from gateway.alipayplus.signature import SignatureError, format_signature, parse_signature, string_to_sign
from gateway.simulator.wire import Request

URI: Final = "/aps/api/v1/mobile/sdkProxy"
MAX_CUSTOMER_ID: Final = 64

_TIME: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Partner:
    """Whom Alipay+ knows: one client, and its public keys by version."""

    client_id: str
    keys: Mapping[str, VerificationKey]


class Refusal(Exception):
    """A request that is not what it should be: the code to answer, whether the answer is signed, and the reason for people."""

    def __init__(self, code: str, *, signed: bool, reason: str) -> None:
        super().__init__(f"{code}: {reason}")
        self.code = code
        self.signed = signed


class RequestBody(Struct, frozen=True):
    """The body of a request (protocol section 2)."""

    sdkRequestHeader: str  # noqa: N815  the specification's name
    sdkRequestData: str  # noqa: N815  the specification's name
    customerId: str  # noqa: N815  the specification's name


def verify(request: Request, partner: Partner) -> None:
    """Return when all is right with a request; else raise the Refusal."""
    _verify_form(request)
    _verify_signature(request, partner)
    _verify_body(request.body)


def _verify_form(request: Request) -> None:
    if request.target != URI:
        raise Refusal("INVALID_API", signed=False, reason="another path")
    if request.method != "POST":
        raise Refusal("METHOD_NOT_SUPPORTED", signed=False, reason="another method than POST")
    if request.get("content-type") != "application/json; charset=UTF-8":
        raise Refusal("MEDIA_TYPE_NOT_ACCEPTABLE", signed=False, reason="Content-Type is not application/json; charset=UTF-8")


def _verify_signature(request: Request, partner: Partner) -> None:
    if request.get("client-id") != partner.client_id:
        raise Refusal("INVALID_CLIENT", signed=False, reason="an unknown Client-Id, none or several")
    value = request.get("signature")
    if value is None:
        raise Refusal("INVALID_SIGNATURE", signed=False, reason="no Signature, or several")
    try:
        header = parse_signature(value)
    except SignatureError as error:
        raise Refusal("INVALID_SIGNATURE", signed=False, reason=str(error)) from None
    key = partner.keys.get(header.key_version)
    if key is None:
        raise Refusal("KEY_NOT_FOUND", signed=False, reason="an unknown key version")
    if format_signature(header.signature, header.key_version) != value:
        raise Refusal("INVALID_SIGNATURE", signed=True, reason="the Signature header is not in its standard form")
    time = _verify_time(request.get("request-time"))
    try:
        key.verify(string_to_sign(request.target, partner.client_id, time, request.body), header.signature)
    except SignatureError as error:
        raise Refusal("INVALID_SIGNATURE", signed=True, reason=str(error)) from None


def _verify_time(time: str | None) -> str:
    try:
        if time is not None and _TIME.fullmatch(time):
            datetime.fromisoformat(time)
            return time
    except ValueError:
        pass
    raise Refusal("PARAM_ILLEGAL", signed=True, reason="Request-Time is not ISO 8601 with an offset, or is absent or repeated")


def _verify_body(body: bytes) -> None:
    try:
        body.decode()
        decoded = msgspec.json.decode(body, type=RequestBody)
    except (UnicodeDecodeError, msgspec.DecodeError, RecursionError):
        raise Refusal("PARAM_ILLEGAL", signed=True, reason="the body is not JSON with three strings") from None
    if not 1 <= len(decoded.customerId) <= MAX_CUSTOMER_ID:
        raise Refusal("PARAM_ILLEGAL", signed=True, reason=f"customerId is empty or longer than {MAX_CUSTOMER_ID}")
