"""What came and is no request: why a head was refused, and as which failure that is answered.

The parser's words, which quote the client, go nowhere.
"""

import re
from collections.abc import Callable
from typing import Final

from gateway.edge.exchange import Exchange
from gateway.errors import GatewayError

UnknownMethod = Callable[[str, str, Exchange], GatewayError]
"""Says how a method that the parser does not know is answered on a path: method, target, exchange."""

_REQUEST_LINE: Final = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]{1,32}) (/[!-~]*) HTTP/1\.[01]\r\n")


class HeadRefused(Exception):
    """A request head was refused before the parser had it whole. `reason` is a value of gateway_rejected_total.

    It had been coming for so many seconds as `lasted` says, if that is known.
    """

    def __init__(self, code: str, reason: str, *, lasted: float = 0.0) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason
        self.lasted = lasted


class MethodUnknown(Exception):
    """A request's only fault is a method that the parser does not know."""

    def __init__(self, method: str, target: str) -> None:
        super().__init__(method, target)
        self.method = method
        self.target = target


def named_method(data: bytes) -> MethodUnknown | None:
    """Return what is wrong with the head that `data` begins with, if that is its method alone; None if it is no HTTP."""
    line = _REQUEST_LINE.match(data)
    return MethodUnknown(line[1].decode("ascii"), line[2].decode("ascii")) if line else None


def failure_of(error: Exception, exchange: Exchange, unknown_method: UnknownMethod) -> tuple[GatewayError, str]:
    """Return the failure that is answered, and its reason as gateway_rejected_total has it; take to the record what is known of it."""
    if isinstance(error, MethodUnknown):
        return unknown_method(error.method, error.target, exchange), "bad_request"
    if isinstance(error, HeadRefused):
        exchange.started -= error.lasted
        return GatewayError(error.code, error.reason), error.reason
    if "Too many headers" in str(error):
        return GatewayError("HEADERS_TOO_LARGE", "headers_too_large"), "headers_too_large"
    return GatewayError("REQUEST_MALFORMED", "bad_request"), "bad_request"
