"""Which requests ask for a WebSocket (RFC 6455, 4.2.1), and which only seem to (faults A15). Pure.

Other protocols (h2c) are not offered: such a request goes on without its Upgrade, which belongs to one connection only.
"""

import re
from typing import Final

from gateway.edge.request import Request
from gateway.errors import GatewayError

WEBSOCKET: Final = b"websocket"
_KEY: Final = re.compile(r"[A-Za-z0-9+/]{22}==")  # 16 bytes, and four bits that are not looked at
_VERSION: Final = re.compile(r"[0-9]{1,3}")


def asks_for_websocket(request: Request) -> bool:
    """Whether a request is the handshake of a WebSocket. Raises REQUEST_MALFORMED for one that is none though it says so."""
    if not request.upgrade or request.version < (1, 1):
        return False
    if [value.lower() for value in request.headers.getall("Upgrade", ())] != ["websocket"]:
        return False
    if request.method != "GET" or request.chunked or request.headers.get("Content-Length", "0").strip("0"):
        raise GatewayError("REQUEST_MALFORMED", "WebSocket handshake with a body or by another method than GET")
    if not (_is_one(request, "Sec-WebSocket-Key", _KEY) and _is_one(request, "Sec-WebSocket-Version", _VERSION)):
        raise GatewayError("REQUEST_MALFORMED", "WebSocket handshake without a sound key and version")
    return True


def _is_one(request: Request, name: str, form: re.Pattern[str]) -> bool:
    values = request.headers.getall(name, ())
    return len(values) == 1 and form.fullmatch(values[0]) is not None
