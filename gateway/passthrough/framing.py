"""How messages are framed on the wire, towards the upstream and towards the client. Framing is computed, never copied (RFC 9112, 6).

Pure. Which fields a message has is decided in `gateway.passthrough.headers`.
"""

from collections.abc import Sequence
from enum import Enum, auto
from typing import Final

from gateway.upstream.message import FIRST_FINAL, LAST_CHUNK, Head

_NO_CONTENT: Final = 204
_CHUNKED: Final = b"\r\nTransfer-Encoding: chunked"


class Framing(Enum):
    """How a receiver finds the end of a body."""

    NONE = auto()  # there is none
    LENGTH = auto()
    CHUNKED = auto()
    CLOSE = auto()  # it ends with the connection

    def pack(self, data: bytes, *, is_last: bool = False) -> Sequence[bytes]:
        """Return what is written for a piece of the body (of which nothing is needed to be the last)."""
        if self is not Framing.CHUNKED:
            return (data,)
        if not data:
            return (LAST_CHUNK,) if is_last else ()
        return (b"%x\r\n" % len(data), data, b"\r\n" + LAST_CHUNK if is_last else b"\r\n")


def answer_framing(head: Head, *, is_http_1_0: bool) -> Framing:
    """Return how the body of an answer goes on to a client."""
    if head.bodiless:
        return Framing.NONE
    if head.length is not None:
        return Framing.LENGTH
    return Framing.CLOSE if is_http_1_0 else Framing.CHUNKED


def answer_framing_block(head: Head, framing: Framing) -> bytes:
    """Return the framing fields of an answer. A HEAD's and a 304's length is that of the body that is not there (RFC 9110, 8.6)."""
    if framing is Framing.CHUNKED:
        return _CHUNKED
    if head.length is None or head.status < FIRST_FINAL or head.status == _NO_CONTENT:
        return b""
    return b"\r\nContent-Length: %d" % head.length


def request_framing_block(framing: Framing, length: int | None) -> bytes:
    """Return the framing fields of a request whose body has this length, if it was declared; 0 too."""
    if framing is Framing.CHUNKED:
        return _CHUNKED
    return b"\r\nContent-Length: %d" % length if length is not None else b""


def request_bytes(method: str, target: str, *blocks: bytes) -> bytes:
    """Return the head of a request with these blocks of fields."""
    return b"".join((f"{method} {target} HTTP/1.1".encode("ascii"), *blocks, b"\r\n\r\n"))


def answer_bytes(status: int, reason: bytes, *blocks: bytes) -> bytes:
    """Return the head of an answer with these blocks of fields."""
    return b"".join((b"HTTP/1.1 %d " % status, reason, *blocks, b"\r\n\r\n"))
