"""What aiohttp's C parser lets through and the gateway does not (faults A1 to A3): requests that two readers may read in two ways.

llhttp refuses by itself: bare LF and CR, folded lines, control characters, names with spaces, repeated, signed, listed and empty
Content-Length, Content-Length beside Transfer-Encoding, `chunked` that is not last, malformed chunks. It takes, and we do not: other
versions and protocols, request lines with more than single spaces, an empty Transfer-Encoding, codings before `chunked`,
Transfer-Encoding in HTTP/1.0, a Host that is none. All of this is pure.
"""

import re
from typing import Final

from aiohttp import HttpVersion11

from gateway.edge.request import Request
from gateway.edge.target import is_host
from gateway.errors import GatewayError

# Blank lines before a request are skipped (RFC 9112, 2.2), a few: each time that more comes, they are looked at again. The target is looked
# at in `gateway.edge.target`.
_REQUEST_LINE: Final = re.compile(rb"(?:\r\n){0,8}[!#$%&'*+\-.^_`|~0-9A-Za-z]+ [^ \r\n]+ HTTP/1\.[01]\r\n")
_PART_OF_IT: Final = re.compile(rb"(?:\r\n){0,8}(?:\r?|[!#$%&'*+\-.^_`|~0-9A-Za-z]+(?: (?:[^ \r\n]+(?: [HTP/.01]*\r?)?)?)?)")
END_OF_HEAD: Final = b"\r\n\r\n"
_END_OF_CHUNKS: Final = b"\r\n0\r\n\r\n"
TAIL: Final = len(_END_OF_CHUNKS)


def is_request_line(data: bytes) -> bool:
    """Whether what begins a message begins with a request line (RFC 9112, 3), or with what may become one."""
    return _REQUEST_LINE.match(data) is not None or _PART_OF_IT.fullmatch(data) is not None


def end_of_head(data: bytes) -> int:
    """Return how long the head is with which data begins, the blank lines before it included; 0 if data does not hold all of it."""
    start = len(data) - len(data.lstrip(b"\r\n")) if data.startswith((b"\r", b"\n")) else 0
    end = data.find(END_OF_HEAD, start)
    return end + len(END_OF_HEAD) if end >= 0 else 0


def is_proxy_header(data: bytes) -> bool:
    """Whether data begins as a PROXY header, version 1 or 2, does: whoever may send one has sent it already, or it is not asked for."""
    return data.startswith((b"PROXY ", b"\r\n\r\n\x00\r\nQUIT\n"))


def check_framing(request: Request) -> None:
    """Raise REQUEST_MALFORMED for a head that is not one request to one host with one framing."""
    headers = request.headers
    host = headers.get("Host")
    if host and not is_host(host):
        raise _malformed("Host")
    coding = headers.get("Transfer-Encoding")
    if coding is not None and (not coding.isascii() or coding.lower() != "chunked" or request.version != HttpVersion11):
        raise _malformed("Transfer-Encoding")


def ends_plainly(tail: bytes) -> bool:
    """Whether a chunked body that has just ended with these last bytes ended without trailers and chunk extensions, and nothing follows.

    aiohttp 3.14 gives the last trailer of one request to the next one on the connection as its first header.
    """
    return tail.endswith(_END_OF_CHUNKS)


def _malformed(reason: str) -> GatewayError:
    return GatewayError("REQUEST_MALFORMED", f"bad request: {reason}")
