"""Requests as most of them are, read without a parser: whoever refuses them by the thousand looks only at what that needs.

This is the stricter reader: what it takes for a request the parser takes for the same one, with the same end. All else is left to
the parser: what is written unusually, is more than one request or less than a head, asks for anything special, or could be read in two
ways (faults A1 to A4).
"""

import re
from typing import Final

from aiohttp import HttpVersion, HttpVersion10, HttpVersion11
from msgspec import Struct

from gateway.edge.strictness import END_OF_HEAD

_LINE: Final = re.compile(rb"(DELETE|GET|OPTIONS|PATCH|POST|PUT) (/[!\"$-~]*) HTTP/1\.([01])\r\n")
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
_DIGITS: Final = 18  # of a length that is read here at most: the parser counts up to 2^64
_FIELD: Final = re.compile(rb"\n([^:\r\n]+):([^\r]*)")


class PlainRequest(Struct, frozen=True, eq=False, gc=False):
    """A request of HTTP/1.0 or 1.1. Behind it another may follow, unless it `is_last`.

    `host` and `content_type` are in lower case, the latter empty if there is none; the body has `size` bytes, of which so many as `missing`
    have not come.
    """

    method: str
    raw_path: str
    version: HttpVersion
    is_last: bool
    host: str
    content_type: str
    size: int
    missing: int
    head: bytes

    @property
    def raw_headers(self) -> tuple[tuple[bytes, bytes], ...]:
        """Its fields as they stand on the wire."""
        return tuple((name, value.strip(b" \t")) for name, value in _FIELD.findall(self.head))


def plain_request(data: bytes, header_size: int) -> PlainRequest | None:
    """Return the request that `data` is, if it is a plain one, alone and with its whole head, of `header_size` bytes at most."""
    line = _LINE.match(data)
    end = data.find(END_OF_HEAD) + len(END_OF_HEAD)
    if line is None or not line.end() < end <= header_size:
        return None
    head = data[:end].lower()
    fields = _FIELDS.fullmatch(head, line.end())
    if fields is None or head.count(b"\nhost:") != 1 or head.count(b"\ncontent-length:") > 1:
        return None
    if head.count(b"\ncontent-type:") > 1 or head.count(b"\nuser-agent:") > 1 or head.count(b"\nconnection:") > 1:
        return None
    host, length, content_type, connection = fields.groups(b"")
    size = int(length[:_DIGITS] or 0)
    missing = size - (len(data) - end)
    if missing < 0 or (length or b"0") != b"%d" % size or content_type.endswith((b" ", b"\t")):
        return None
    method, target, minor = line.groups()
    version, is_last = (HttpVersion11, connection == b"close") if minor == b"1" else (HttpVersion10, connection != b"keep-alive")
    if version is HttpVersion10 and not is_last:
        return None
    whose = (host.decode(), content_type.decode())
    return PlainRequest(method.decode(), target.decode(), version, is_last, *whose, size, missing, data[:end])
