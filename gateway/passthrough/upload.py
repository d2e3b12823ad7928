"""A request body: how it is framed, and how it goes to the upstream piece by piece, bounded in size and in the pauses between them."""

from typing import Final

from aiohttp.web import RequestPayloadError
from msgspec import Struct

from gateway.edge.body import BodyTimeout, BodyTooLarge, ClientLeft
from gateway.edge.front import expects_continue
from gateway.edge.request import Request
from gateway.edge.stall import HOLD_NOTHING, has_left, until_taken
from gateway.errors import GatewayError
from gateway.passthrough.framing import Framing
from gateway.upstream import Connection
from gateway.upstream.deadline import within

_ASKED_WITHIN: Final = 1.0  # seconds; so late a client that waits for 100 may be asked for its body


class Body(Struct, frozen=True):
    """A request body as it is announced. `whole` is all of it, if it has come already."""

    framing: Framing
    length: int | None
    whole: bytes | None


def announced_body(request: Request, max_body: int) -> Body:
    """Return what is known of the body of a request. Raises BodyTooLarge."""
    length = request.content_length
    if length is not None and length > max_body:
        raise BodyTooLarge
    if not request.chunked and not length:
        return Body(Framing.NONE, length, b"")
    content = request.content
    whole = None
    if content.is_eof() and content.exception() is None:
        whole = content.read_nowait(-1)
        _bound(len(whole), max_body)
    return Body(Framing.CHUNKED if request.chunked else Framing.LENGTH, length, whole)


class Upload:
    """A body that is still coming, on its way to the upstream. Times are seconds."""

    def __init__(self, request: Request, framing: Framing, *, max_body: int, idle_timeout: float, write_timeout: float) -> None:
        self._request = request
        self._framing = framing
        self._max_body = max_body
        self._idle_timeout = idle_timeout
        self._write_timeout = write_timeout

    async def run(self, connection: Connection) -> None:
        """Send the body. Raises BodyTooLarge, BodyTimeout, REQUEST_MALFORMED, ClientLeft; of the upstream ConnectionLost, TimeoutError."""
        if not connection.transport.is_closing():  # uvloop's raises once it is closed
            connection.transport.set_write_buffer_limits(high=HOLD_NOTHING)  # what it has not taken holds up the client
        sent, timeout = 0, self._idle_timeout + (_ASKED_WITHIN if expects_continue(self._request) else 0.0)
        while data := await self._read(timeout):
            sent += len(data)
            _bound(sent, self._max_body)
            await self._send(connection, data)
            timeout = self._idle_timeout
        await self._send(connection, b"")
        connection.finish()

    async def _send(self, connection: Connection, data: bytes) -> None:
        connection.send(b"".join(self._framing.pack(data, is_last=not data)))
        await until_taken(connection.transport, connection.drain, self._write_timeout, self._look)

    def _look(self) -> None:
        transport = self._request.connection.transport
        if transport is None or has_left(transport):
            raise ClientLeft

    async def _read(self, timeout: float) -> bytes:
        try:
            return await within(timeout, self._request.content.readany)
        except TimeoutError:
            raise BodyTimeout("body stopped") from None
        except RequestPayloadError as error:
            if self._request.connection.transport is None:
                raise ClientLeft from error
            raise GatewayError("REQUEST_MALFORMED", "bad body framing") from error
        except (ConnectionError, RuntimeError) as error:  # RuntimeError: aiohttp's word for reading on when the client has left
            raise ClientLeft from error


def _bound(size: int, max_body: int) -> None:
    if size > max_body:
        raise BodyTooLarge
