"""The bytes of the simulated Alipay+'s answers: what a `Behaviour` says, signed, mis-signed or not.

Pure: clock and keys are arguments. How an answer is delivered is in `gateway.simulator.delivery`.
"""

import gzip
from base64 import b64encode
from dataclasses import dataclass, field
from importlib import resources
from typing import Final
from urllib.parse import quote

import msgspec
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA1, SHA256, SHA512, HashAlgorithm
from msgspec import Raw, Struct

from gateway.alipayplus.results import DOCUMENTED
from gateway.alipayplus.signature import string_to_sign
from gateway.simulator.behaviour import Behaviour
from gateway.simulator.delivery import Answer
from gateway.simulator.wire import Request

OK: Final = 200
NOT_JSON: Final = b"<html><head><title>Welcome</title></head><body>Please log in.</body></html>"
BOM: Final = b"\xef\xbb\xbf"

_DIGESTS: Final[dict[str, HashAlgorithm]] = {"sha256": SHA256(), "sha1": SHA1(), "sha512": SHA512()}  # noqa: S303  to be refused


@dataclass(frozen=True, slots=True)
class Signer:
    """Who answers: the client id that the answers name, Alipay+'s key and version, and a key that nobody knows."""

    client_id: str
    key_version: str
    key: rsa.RSAPrivateKey = field(repr=False)
    stranger: rsa.RSAPrivateKey = field(repr=False)

    def sign(self, behaviour: Behaviour, text: bytes) -> bytes:
        """Sign with the key and the digest that the behaviour names."""
        key = self.stranger if behaviour.key == "stranger" else self.key
        return key.sign(text, padding.PKCS1v15(), _DIGESTS[behaviour.digest])


class _Strings(Struct, frozen=True):
    """The two strings of a request or an answer, as their JSON text."""

    sdkRequestHeader: Raw = Raw(b"")  # noqa: N815  the specification's name
    sdkRequestData: Raw = Raw(b"")  # noqa: N815  the specification's name
    sdkResponseHeader: Raw = Raw(b"")  # noqa: N815  the specification's name
    sdkResponseData: Raw = Raw(b"")  # noqa: N815  the specification's name


def sample(name: str) -> bytes:
    """Give one of the specification's samples: `app-request` or `alipayplus-response`."""
    return resources.files(__package__).joinpath("samples", f"{name}.json").read_bytes()


_SAMPLE: Final = msgspec.json.decode(sample("alipayplus-response"), type=_Strings)


def compose(behaviour: Behaviour, request: Request, signer: Signer, time: str) -> Answer:
    """Make the answer to a request. `time` is the Response-Time where the behaviour has none of its own."""
    body = _body(behaviour, request.body)
    headers = _headers(behaviour, request, signer, body, behaviour.response_time or time)
    if behaviour.tampered:
        body = body[:-1] + b" " + body[-1:]
    if behaviour.coding == "gzip":
        body = gzip.compress(body, mtime=0)
        headers["content-encoding"] = "gzip"
    kept = [(name, value) for name, value in headers.items() if name not in behaviour.omit]
    return Answer(behaviour.http_status, (*kept, *behaviour.headers), body, behaviour)


def _headers(behaviour: Behaviour, request: Request, signer: Signer, body: bytes, time: str) -> dict[str, str]:
    is_text = behaviour.text is not None or behaviour.http_status != OK
    headers = {"content-type": "text/html;charset=UTF-8" if is_text else "application/json;charset=UTF-8"}
    if 300 <= behaviour.http_status < 400 and not any(name.lower() == "location" for name, _ in behaviour.headers):  # noqa: PLR2004  3xx
        headers["location"] = request.target
    if behaviour.http_status == OK or behaviour.signed:
        headers["client-id"] = behaviour.client_id or signer.client_id
    if behaviour.signed if behaviour.signed is not None else behaviour.http_status == OK:
        headers["response-time"] = time
        headers["signature"] = _signature(behaviour, request, signer, body, time)
    return headers


def _signature(behaviour: Behaviour, request: Request, signer: Signer, body: bytes, time: str) -> str:
    text = string_to_sign(
        behaviour.signed_path or request.target,
        behaviour.signed_client_id or signer.client_id,
        behaviour.signed_time or time,
        body,
        method=request.method,
    )
    raw = b64encode(signer.sign(behaviour, text)).decode()
    algorithm, version = f"algorithm={behaviour.algorithm}", f"keyVersion={behaviour.key_version or signer.key_version}"
    escaped = quote(raw, safe="")
    match behaviour.signature_form:
        case "spaces":
            return f" {algorithm} , {version},  signature={escaped} "
        case "reordered":
            return f"signature={escaped},{version},{algorithm}"
        case "lower_case_escapes":
            escaped = escaped.replace("%2B", "%2b").replace("%2F", "%2f").replace("%3D", "%3d")
        case "raw":
            escaped = raw
        case "junk":
            escaped = "%%no*base64%"
        case "incomplete":
            return f"{algorithm},{version}"
    return f"{algorithm},{version},signature={escaped}"


def _body(behaviour: Behaviour, request_body: bytes) -> bytes:
    if behaviour.body is not None:
        return behaviour.body
    if behaviour.text is not None:
        return behaviour.text.encode()
    if behaviour.http_status != OK:
        return f"<html><body>{behaviour.http_status:03d}</body></html>".encode()
    if behaviour.content == "not_json":
        return NOT_JSON
    document = _document(behaviour, request_body)
    return BOM + document if behaviour.content == "bom" else document


def _document(behaviour: Behaviour, request_body: bytes) -> bytes:
    status = behaviour.status if behaviour.status is not None else DOCUMENTED.get(behaviour.code, "F")
    header, data = _strings(behaviour, status, request_body)
    members = {"result": _result(behaviour, status), "sdkResponseHeader": header, "sdkResponseData": data}
    return b"{" + b",".join(b'"%b":%b' % (name.encode(), value) for name, value in members.items() if value) + b"}"


def _result(behaviour: Behaviour, status: str) -> bytes:
    message = behaviour.message if behaviour.message is not None else ("Success" if status == "S" else behaviour.code)
    result = msgspec.json.encode({"resultCode": behaviour.code, "resultMessage": message, "resultStatus": status})
    forms = {"text": msgspec.json.encode(result.decode()), "object": result, "absent": b"", "null": b"null", "junk": b'"no result"'}
    return forms[behaviour.result_form]


def _strings(behaviour: Behaviour, status: str, request_body: bytes) -> tuple[bytes, bytes]:
    """Give the JSON text of the two strings; empty where absent."""
    header, data = _chosen_strings(behaviour, status, request_body)
    if behaviour.header is not None:
        header = msgspec.json.encode(behaviour.header)
    if behaviour.data is not None:
        data = msgspec.json.encode(behaviour.data)
    if behaviour.size:
        data = b'"' + b"x" * max(0, behaviour.size - 2) + b'"'
    if behaviour.content == "invalid_utf8":
        data = b'"\xff\xfe"'
    return header, data


def _chosen_strings(behaviour: Behaviour, status: str, request_body: bytes) -> tuple[bytes, bytes]:
    if behaviour.strings == "echo":
        sent = msgspec.json.decode(request_body, type=_Strings)
        return bytes(sent.sdkRequestHeader), bytes(sent.sdkRequestData)
    if behaviour.strings == "sample" or (behaviour.strings == "auto" and status == "S"):
        return bytes(_SAMPLE.sdkResponseHeader), bytes(_SAMPLE.sdkResponseData)
    return b"", b""
