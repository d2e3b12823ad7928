"""What goes over a connection: the head of a request, the head of an answer, a whole answer.

Which fields a request has is the caller's matter; framing fields are computed here or by the caller, never copied.
"""

import re
from collections.abc import Iterable
from typing import Final

import msgspec

Field = tuple[bytes, bytes]

LAST_CHUNK: Final = b"0\r\n\r\n"
SWITCHING_PROTOCOLS: Final = 101
FIRST_FINAL: Final = 200

_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_TARGET = re.compile(rb"[\x21-\x7e\x80-\xff]+")
_VALUE = re.compile(rb"[^\x00-\x08\x0a-\x1f\x7f]*")


class Head(msgspec.Struct, frozen=True, gc=False):
    """The head of an answer as it was received: names in their own case, values without white space around them.

    `length` is the declared Content-Length; `bodiless` says that no body follows (RFC 9112 section 6.3, items 1 and 2).
    """

    status: int
    reason: bytes
    fields: tuple[Field, ...]
    length: int | None = None
    bodiless: bool = False

    @property
    def interim(self) -> bool:
        """Tell whether another head follows (1xx, but not 101)."""
        return self.status < FIRST_FINAL and self.status != SWITCHING_PROTOCOLS


class Answer(msgspec.Struct, frozen=True, gc=False):
    """A whole answer. Names of `headers` are in lower case, values are decoded as latin-1; order and repetitions are kept."""

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""

    def get(self, name: str) -> str | None:
        """Return the first value of a field, None where it is absent. `name` is in lower case."""
        for key, value in self.headers:
            if key == name:
                return value
        return None

    def all(self, name: str) -> list[str]:
        """Return all values of a field in their order. `name` is in lower case."""
        return [value for key, value in self.headers if key == name]


def request_head(method: str, target: bytes, fields: Iterable[Field]) -> bytes:
    """Return the head of a request, its empty line included. The caller gives Host and the framing fields too.

    Raises ValueError for anything that would not be one request on the wire (RFC 9110 section 5.5, RFC 9112 section 3).
    """
    parts = [b"%s %s HTTP/1.1\r\n" % (method.encode("ascii"), target)]
    if not _TOKEN.fullmatch(method.encode("ascii")) or not _TARGET.fullmatch(target):
        raise ValueError("not a method and a target")
    for name, value in fields:
        if not _TOKEN.fullmatch(name) or not _VALUE.fullmatch(value):
            raise ValueError("not a header field")
        parts.append(b"%s: %s\r\n" % (name, value))
    parts.append(b"\r\n")
    return b"".join(parts)


def chunk(data: bytes) -> bytes:
    """Return a piece of a request body in the chunked coding (RFC 9112 section 7.1); nothing for nothing, since that would end it."""
    return b"%x\r\n%b\r\n" % (len(data), data) if data else b""
