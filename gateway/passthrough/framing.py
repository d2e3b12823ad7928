"""How messages are framed on the wire, towards the upstream and towards the client. Framing is computed, never copied (RFC 9112, 6).

Pure. Which fields a message has is decided in `gateway.passthrough.headers`.
"""

from collections.abc import Iterable, Sequence
from enum import Enum, auto
from typing import Final

from gateway.upstream.message import FIRST_FINAL, LAST_CHUNK, Field, Head

_NO_CONTENT: Final = 204
CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"


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


def answer_framing_fields(head: Head, framing: Framing) -> list[Field]:
    """Return the framing fields of an answer. A HEAD's and a 304's length is that of the body that is not there (RFC 9110, 8.6)."""
    if framing is Framing.CHUNKED:
        return [(b"Transfer-Encoding", b"chunked")]
    if head.length is None or head.status < FIRST_FINAL or head.status == _NO_CONTENT:
        return []
    return [(b"Content-Length", b"%d" % head.length)]


def request_framing_fields(framing: Framing, length: int | None) -> list[Field]:
    """Return the framing fields of a request whose body has this length, if it was declared; 0 too."""
    if framing is Framing.CHUNKED:
        return [(b"Transfer-Encoding", b"chunked")]
    return [(b"Content-Length", b"%d" % length)] if length is not None else []


def request_bytes(method: str, target: str, fields: Sequence[Field]) -> bytes:
    """Return the head of a request."""
    return _head_bytes(b"%b %b HTTP/1.1" % (method.encode("ascii"), target.encode("ascii")), fields)


def answer_bytes(status: int, reason: bytes, fields: Sequence[Field]) -> bytes:
    """Return the head of an answer."""
    return _head_bytes(b"HTTP/1.1 %d %b" % (status, reason), fields)


def _head_bytes(first: bytes, fields: Iterable[Field]) -> bytes:
    lines = [first, *[b"%b: %b" % field for field in fields], b"", b""]
    head = b"\r\n".join(lines)
    # Each part was checked where it came from; this holds if one was not.
    if head.count(b"\n") != len(lines) - 1 or head.count(b"\r") != len(lines) - 1:
        raise ValueError("a line break within a field")
    return head
