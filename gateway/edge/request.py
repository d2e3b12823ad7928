"""One request as it came: its head as aiohttp's parser has read it, and its body as a stream that is still coming."""

from typing import TYPE_CHECKING, Self

from aiohttp import HttpVersion
from aiohttp.http import RawRequestMessage
from aiohttp.streams import StreamReader
from msgspec import Struct
from multidict import CIMultiDictProxy

if TYPE_CHECKING:
    from gateway.edge.connection import Connection


class Request(Struct, frozen=True, eq=False):
    """A request. `raw_path` is its target, and `raw_headers` are its fields, as they stand on the wire.

    `upgrade`: it asks for another protocol; `chunked`: its body comes in chunks; `keep_alive`: the client lets another one follow.
    """

    method: str
    raw_path: str
    version: HttpVersion
    headers: "CIMultiDictProxy[str]"
    raw_headers: tuple[tuple[bytes, bytes], ...]
    keep_alive: bool
    upgrade: bool
    chunked: bool
    content: StreamReader
    connection: "Connection"

    @classmethod
    def of(cls, message: RawRequestMessage, content: StreamReader, connection: "Connection") -> Self:
        """Return the request that the parser has read."""
        return cls(
            message.method,
            message.path,
            message.version,
            message.headers,
            message.raw_headers,
            not message.should_close,
            message.upgrade,
            message.chunked,
            content,
            connection,
        )

    @property
    def content_length(self) -> int | None:
        """The declared length of the body."""
        length = self.headers.get("Content-Length")
        return int(length) if length is not None else None
