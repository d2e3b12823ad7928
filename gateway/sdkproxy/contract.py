"""The app's contract, pure: what an SDK request must look like, and which HTTP status an outcome of Alipay+ has.

The two strings are never parsed: their raw JSON text goes on as it came (architecture, decision 1).
"""

from typing import Final

import msgspec

from gateway.alipayplus.messages import ABSENT, NotStrictJson, decode_strict, is_json_string
from gateway.alipayplus.results import TRAFFIC_LIMIT, UNSIGNED_FAILURES, Result
from gateway.errors import GatewayError

ENDPOINT: Final = "/v1/sdkProxy"
SCENE_CHARACTERS: Final = 64
SCENES: Final = frozenset({"PROXY_SCENE_MINIPROGRAM", "PROXY_SCENE_PAY", "PROXY_SCENE_AC", "IAPProxySceneMiniProgram", "IAPProxyScenePay"})
_NULL: Final = b"null"
_USUAL_TYPES: Final = frozenset({"application/json", "application/json; charset=utf-8", "application/json; charset=UTF-8"})
_TEXT: Final = msgspec.json.Decoder(str)


class _AppMessage(msgspec.Struct):
    scene: msgspec.Raw = ABSENT
    proxyRequestHeader: msgspec.Raw = ABSENT  # noqa: N815  names of the contract
    proxyRequestData: msgspec.Raw = ABSENT  # noqa: N815
    customerId: msgspec.Raw = ABSENT  # noqa: N815


class AppRequest(msgspec.Struct, frozen=True):
    """An SDK request of the app: its scene, and the two strings as raw JSON text with their quotes."""

    scene: str | None
    header: bytes
    data: bytes


_DECODER: Final = msgspec.json.Decoder(_AppMessage)


def decode_request(body: bytes) -> AppRequest:
    """Decode the app's JSON. Raises REQUEST_MALFORMED, with a text that says what is wrong and quotes nothing of the body."""
    try:
        message = decode_strict(body, _DECODER)
    except NotStrictJson as error:
        raise malformed("not a JSON object in UTF-8") from error
    if message.customerId is not ABSENT:
        raise malformed("customerId comes from the session, not from the app")
    header, data = bytes(message.proxyRequestHeader), bytes(message.proxyRequestData)
    if not is_json_string(header):
        raise malformed("proxyRequestHeader must be a string")
    if not is_json_string(data):
        raise malformed("proxyRequestData must be a string")
    return AppRequest(_scene(bytes(message.scene)), header, data)


def _scene(raw: bytes) -> str | None:
    if not raw or raw == _NULL:
        return None
    if not is_json_string(raw):
        raise malformed("scene must be a string")
    scene = _TEXT.decode(raw)
    if len(scene) > SCENE_CHARACTERS:
        raise malformed("scene must have at most 64 characters")
    return scene


def malformed(reason: str) -> GatewayError:
    """Return REQUEST_MALFORMED for a reason of our own words, which the app may read."""
    return GatewayError("REQUEST_MALFORMED", reason, message=reason)


def is_json_in_utf8(content_type: str) -> bool:
    """Whether a Content-Type is application/json with no charset but UTF-8 (RFC 9110, 8.3)."""
    if content_type in _USUAL_TYPES:
        return True
    media_type, *parameters = content_type.split(";")
    if media_type.strip().lower() != "application/json":
        return False
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "charset" and value.strip().strip('"').lower() not in ("utf-8", "utf8"):
            return False
    return True


def http_status(result: Result) -> int:
    """Return the status of the answer to the app: 200 if and only if the result is S."""
    if result.status == "S":
        return 200
    if result.status == "F":
        return 502 if result.code in UNSIGNED_FAILURES else 422
    return 429 if result.code == TRAFFIC_LIMIT else 502
