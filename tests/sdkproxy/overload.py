"""What clients send while new work is refused: an SDK call, or a request for the API."""

from tests.sdkproxy.conftest import BODY, PATH

_HEAD = f"POST {PATH} HTTP/1.1\r\nHost: wallet\r\nAuthorization: Bearer demo-token-anna\r\n"


def call(*fields: str, body: bytes = BODY, kind: str = "Content-Type: application/json") -> bytes:
    head = _HEAD + "".join(f"{field}\r\n" for field in (kind, f"Content-Length: {len(body)}", *fields))
    return f"{head}\r\n".encode() + body


def api_request(*fields: str, method: str = "GET", body: str = "") -> bytes:
    head = (f"{method} /api/balance?of=anna HTTP/1.1", "Host: wallet", "Authorization: Bearer demo-token-anna", *fields)
    return ("\r\n".join(head) + "\r\n\r\n" + body).encode()
