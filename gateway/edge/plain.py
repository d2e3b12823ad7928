"""Requests as most of them are, read without a parser: whoever refuses them by the thousand looks only at what that needs.

This is the stricter reader: what it takes for a whole request the parser takes for the same one, with the same end. All else is left to
the parser: what is written unusually, is more or less than one request, asks for anything special, or could be read in two ways (faults
A1 to A4).
"""

import re
from typing import Final

from msgspec import Struct

_TOKEN: Final = rb"[!#$%&'*+\-.^_`|~0-9a-z]+"
_LINE: Final = re.compile(rb"(DELETE|GET|OPTIONS|PATCH|POST|PUT) (/[!\"$-~]*) HTTP/1\.1\r\n")
_FIELDS: Final = re.compile(rb"(?:" + _TOKEN + rb":[\t -~]*\r\n){1,64}\r\n")
# Those that say where a request ends, where it goes, or that it is none of the usual ones.
_TELLING: Final = re.compile(
    rb"\n(host|content-(?:length|type|encoding)|transfer-encoding|connection|proxy-connection|upgrade|expect):[\t ]*([^\r]*)"
)
_USUAL: Final = frozenset({b"host", b"content-length", b"content-type", b"connection"})
_FIELD: Final = re.compile(rb"\n([^:\r\n]+):[\t ]*([^\r]*?)[\t ]*(?=\r)")
_HOST: Final = re.compile(rb"[a-z0-9._-]+(?::[0-9]{1,5})?")
END_OF_HEAD: Final = b"\r\n\r\n"


class PlainRequest(Struct, frozen=True, eq=False, gc=False):
    """A whole request of HTTP/1.1 behind which another may follow.

    `host` and `content_type` are in lower case, the latter empty if there is none; the body has `size` bytes.
    """

    method: str
    raw_path: str
    host: str
    content_type: str
    size: int
    head: bytes

    @property
    def raw_headers(self) -> tuple[tuple[bytes, bytes], ...]:
        """Its fields as they stand on the wire."""
        return tuple(_FIELD.findall(self.head))


def plain_request(data: bytes, header_size: int) -> PlainRequest | None:
    """Return the request that `data` is, if it is a plain one, whole, and alone; its head has `header_size` bytes at most."""
    line = _LINE.match(data)
    end = data.find(END_OF_HEAD) + len(END_OF_HEAD)
    if line is None or not line.end() < end <= header_size:
        return None
    head = data[:end].lower()
    found = _TELLING.findall(head)
    fields = dict(found)
    size = len(data) - end
    if (
        len(fields) != len(found)
        or not fields.keys() <= _USUAL
        or fields.get(b"content-length", b"0") != b"%d" % size
        or fields.get(b"connection", b"keep-alive") != b"keep-alive"
        or _HOST.fullmatch(fields.get(b"host", b"")) is None
        or _FIELDS.fullmatch(head, line.end()) is None
    ):
        return None
    method, target = line.groups()
    host, content_type = fields[b"host"], fields.get(b"content-type", b"")
    return PlainRequest(method.decode(), target.decode(), host.decode(), content_type.decode(), size, data[:end])
