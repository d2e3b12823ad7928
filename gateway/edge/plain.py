"""Requests as most of them are, read without a parser: whoever refuses them by the thousand looks only at what that needs.

This is the stricter reader: what it takes for a request the parser takes for the same one, with the same end. All else is left to
the parser: what is written unusually, is more than one request or less than a head, asks for anything special, or could be read in two
ways (faults A1 to A4).

What has just been read need not be read again: apps send the same few request lines, and each app the same fields again and again.
"""

import re
from functools import lru_cache
from typing import Final

from aiohttp import HttpVersion, HttpVersion10, HttpVersion11
from msgspec import Struct

from gateway.edge.strictness import END_OF_HEAD

_LINE: Final = re.compile(rb"(DELETE|GET|OPTIONS|PATCH|POST|PUT) (/[!\"$-~]*) HTTP/1\.([01])")
# All fields, in lower case. Those that say where a request ends or goes, or that it is none of the usual ones, have to be as they are here,
# and so have those that the parser does not take, or not twice.
# What follows one another never takes the same characters, so that time grows with the length only, whatever is sent.
_FIELDS: Final = re.compile(
    rb"(?:host:[\t ]*([a-z0-9._-]+(?::[0-9]{1,5})?)\r\n"
    rb"|content-length:[\t ]*([0-9]+)\r\n"
    rb"|content-type: ?((?:[!-~][\t -~]*)?)\r\n"
    rb"|connection:[\t ]*(keep-alive|close)\r\n"
    rb"|(?!(?:host|content-[a-z]+|transfer-encoding|(?:proxy-)?connection|upgrade|expect|etag|max-forwards|server|sec-websocket-key1):)"
    rb"[!#$%&'*+\-.^_`|~0-9a-z]+:[\t -~]*\r\n){1,64}\r\n"
)
LINE_KEPT: Final = 256
"""Bytes of a request line that is remembered, if it has no query: that may tell a secret, and is another each time."""
LINES_KEPT: Final = 1024
FIELDS_KEPT: Final = 2048
"""Bytes of fields that may be kept for a client (`plain_request`)."""
_DIGITS: Final = 18  # of a length that is read here at most: the parser counts up to 2^64
_FIELD: Final = re.compile(rb"\n([^:\r\n]+):([^\r]*)")


class PlainLine(Struct, frozen=True, eq=False, gc=False):
    """A request line of HTTP/1.0 or 1.1."""

    method: str
    raw_path: str
    version: HttpVersion


class PlainFields(Struct, frozen=True, eq=False, gc=False):
    """The fields of a request, `text` as they stand on the wire, with the line breaks before and behind them.

    `host`, `content_type` and `connection` are in lower case, and empty if there is none; the body has `size` bytes.
    """

    text: bytes
    host: str
    content_type: str
    size: int
    connection: bytes

    @property
    def raw_headers(self) -> tuple[tuple[bytes, bytes], ...]:
        """What they are, one by one."""
        return tuple((name, value.strip(b" \t")) for name, value in _FIELD.findall(self.text))


class PlainRequest(Struct, frozen=True, eq=False, gc=False):
    """A request. Behind it another may follow, unless it `is_last`. Of its body, so many bytes as `missing` have not come."""

    line: PlainLine
    fields: PlainFields
    is_last: bool
    missing: int


def plain_request(data: bytes, header_size: int, known: PlainFields | None = None) -> PlainRequest | None:
    """Return the request that `data` is, if it is a plain one, alone and with its whole head, of `header_size` bytes at most.

    `known` are those fields that it is likely to have, as those of its client's last request.
    """
    ends, end = data.find(b"\r\n"), data.find(END_OF_HEAD) + len(END_OF_HEAD)
    if end < len(END_OF_HEAD) or end > header_size:
        return None
    text = data[:ends]
    line = (_known_line if ends <= LINE_KEPT and b"?" not in text else _line)(text)
    if line is None:
        return None
    text = data[ends:end]
    fields = known if known is not None and known.text == text else _fields(text)
    if fields is None:
        return None
    missing = fields.size - (len(data) - end)
    if missing < 0:
        return None
    if line.version is HttpVersion11:
        return PlainRequest(line, fields, fields.connection == b"close", missing)
    return PlainRequest(line, fields, True, missing) if fields.connection != b"keep-alive" else None


def _line(text: bytes) -> PlainLine | None:
    found = _LINE.fullmatch(text)
    if found is None:
        return None
    method, target, minor = found.groups()
    return PlainLine(method.decode(), target.decode(), HttpVersion11 if minor == b"1" else HttpVersion10)


_known_line: Final = lru_cache(LINES_KEPT)(_line)


def _fields(text: bytes) -> PlainFields | None:
    lower = text.lower()
    found = _FIELDS.fullmatch(lower, len(b"\r\n"))
    if found is None or lower.count(b"\nhost:") != 1 or lower.count(b"\ncontent-length:") > 1:
        return None
    if lower.count(b"\ncontent-type:") > 1 or lower.count(b"\nuser-agent:") > 1 or lower.count(b"\nconnection:") > 1:
        return None
    host, length, content_type, connection = found.groups(b"")
    size = int(length[:_DIGITS] or 0)
    if (length or b"0") != b"%d" % size or content_type.endswith((b" ", b"\t")):
        return None
    return PlainFields(text, host.decode(), content_type.decode(), size, connection)
