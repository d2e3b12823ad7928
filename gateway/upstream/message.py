"""What goes over a connection: the head of a request, the head of an answer, a whole answer.

Which fields a request has is the caller's matter; framing fields are computed here or by the caller, never copied.
"""

import re
from collections.abc import Iterable
from operator import itemgetter, methodcaller
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
    """The head of an answer as it was received.

    `lines` are its fields, each a well-formed line (RFC 9110, 5.1 and 5.5), and `names` their names in lower case. `length` is the declared
    Content-Length; `bodiless` says that no body follows (RFC 9112 section 6.3, items 1 and 2).
    """

    status: int
    reason: bytes
    lines: list[bytes]
    names: list[bytes]
    length: int | None = None
    bodiless: bool = False

    @property
    def fields(self) -> tuple[Field, ...]:
        """The fields: names in their own case, values without white space around them."""
        return tuple((name, value.strip(b" \t")) for name, _, value in map(_parts, self.lines))

    @property
    def interim(self) -> bool:
        """Tell whether another head follows (1xx, but not 101)."""
        return self.status < FIRST_FINAL and self.status != SWITCHING_PROTOCOLS

    def all(self, name: bytes) -> list[bytes]:
        """Return all values of a field in their order. `name` is in lower case."""
        names = self.names
        if name not in names:
            return []
        if names.count(name) == 1:
            return [self.lines[names.index(name)][len(name) + 1 :].strip(b" \t")]
        return [line[len(name) + 1 :].strip(b" \t") for line, found in zip(self.lines, names, strict=True) if found == name]


def field_names(lines: Iterable[bytes]) -> list[bytes]:
    """Return the names of the fields in these lines, in lower case."""
    return list(map(bytes.lower, map(first, map(_parts, lines))))


_parts: Final = methodcaller("partition", b":")
first: Final = itemgetter(0)
"""Returns the name of a field, fast."""


class Answer(msgspec.Struct, frozen=True, gc=False):
    """A whole answer."""

    head: Head
    body: bytes = b""

    @property
    def status(self) -> int:
        """The status code."""
        return self.head.status

    def get(self, name: str) -> str | None:
        """Return the first value of a field, None where it is absent. `name` is in lower case, the value decoded as latin-1."""
        values = self.head.all(name.encode())
        return values[0].decode("latin-1") if values else None

    def all(self, name: str) -> list[str]:
        """Return all values of a field in their order. `name` is in lower case, the values are decoded as latin-1."""
        return [value.decode("latin-1") for value in self.head.all(name.encode())]


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
