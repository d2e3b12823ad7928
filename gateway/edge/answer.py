"""The answers that the gateway gives itself: one JSON shape for every outcome (architecture, The app's contract).

`Answer` writes exactly the headers that stand here: no Server, nothing added by the web server. Answers of the MPP's own
upstreams do not pass through this module.
"""

from collections.abc import Awaitable
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from time import time
from typing import Final, Protocol

import msgspec
from aiohttp import HttpVersion, HttpVersion11
from msgspec import Struct

from gateway.edge.request import Request
from gateway.errors import GatewayError, ResultStatus

RETRY_AFTER_SECONDS: Final = 1
PIECE: Final = 64 * 1024
"""Bytes of an answer that are written at once."""
MESSAGE_KEPT: Final = 1024
"""Characters. A longer message of Alipay+ is written anew each time, so that what is remembered is bounded."""
_AN_ID: Final = "0" * 32
_REASONS: Final = {status.value: status.phrase for status in HTTPStatus}


@lru_cache(maxsize=2)
def _date(second: int) -> str:
    return formatdate(second, usegmt=True)


class Reply(Protocol):
    """What a handler returns: an answer that `send` writes, or one that has been written.

    `close` is set before `send`; `keep_alive` says afterwards whether the connection goes on, `sent` whether the client had not left
    before all was written, `size` how many bytes of a body were written.
    """

    status: int
    close: bool
    keep_alive: bool
    sent: bool
    size: int

    @property
    def has_begun(self) -> bool:
        """Whether its head has been written, which tells the client whether the connection goes on."""

    def send(self, request: Request) -> Awaitable[None] | None:
        """Write the answer, if that has not been done. Return what is to be awaited for the rest, if there is any.

        That raises ConnectionError when the client leaves meanwhile.
        """


class Answer(Struct, gc=False):
    """A complete answer held in memory, with its status, its JSON body and extra headers.

    `sent` is False when the client had gone before it was written.
    """

    status: int
    body: bytes
    request_id: str
    headers: tuple[tuple[str, str], ...] = ()
    close: bool = False
    keep_alive: bool = False
    sent: bool = False
    size: int = 0

    @property
    def has_begun(self) -> bool:
        """Say that nothing has been written."""
        return False

    def send(self, request: Request) -> Awaitable[None] | None:
        """Write the whole answer, once: a long one in pieces, each when the client has taken those before.

        TLS keeps as much memory for a connection as it was ever given at once, until the connection ends.
        """
        transport = request.connection.transport
        if transport is None or transport.is_closing():
            return None
        self.keep_alive = request.keep_alive and not self.close
        body = b"" if request.method == "HEAD" else self.body
        transport.write(self._head(request.version) + body[:PIECE])
        self.size = min(PIECE, len(body))
        self.sent = self.size == len(body)
        return None if self.sent else self._send_rest(request)

    async def _send_rest(self, request: Request) -> None:
        connection, body = request.connection, self.body
        while self.size < len(body):
            await connection.drain()
            transport = connection.transport
            if transport is None or transport.is_closing():
                return
            piece = body[self.size : self.size + PIECE]
            transport.write(piece)
            self.size += len(piece)
        self.sent = True

    def whole(self) -> bytes:
        """Return the whole answer as bytes. Without `keep_alive` it is the last thing on its connection."""
        return self._head(HttpVersion11) + self.body

    def _head(self, version: HttpVersion) -> bytes:
        head = (
            f"HTTP/1.1 {self.status} {_REASONS.get(self.status, '')}\r\n"
            "Content-Type: application/json\r\n"
            f"Content-Length: {len(self.body)}\r\n"
            "Cache-Control: no-store\r\n"
            f"X-Request-Id: {self.request_id}\r\n"
            f"Date: {_date(int(time()))}\r\n"
        )
        for name, value in self.headers:
            head += f"{name}: {value}\r\n"
        if not self.keep_alive:
            head += "Connection: close\r\n"
        elif version < HttpVersion11:
            head += "Connection: keep-alive\r\n"
        return f"{head}\r\n".encode("latin-1")


def result_body(
    *, status: ResultStatus, code: str, message: str, source: str, request_id: str, header: bytes | None = None, data: bytes | None = None
) -> bytes:
    """Return the JSON that every outcome has; `header` and `data` are spliced in as the raw JSON text that they are.

    `request_id` is of letters, digits and `._-` only.
    """
    opening = _opening if len(message) <= MESSAGE_KEPT else _opening.__wrapped__
    parts = [opening(status, code, message, source), request_id.encode("ascii"), b'"']
    if header is not None:
        parts += [b',"proxyResponseHeader":', header]
    if data is not None:
        parts += [b',"proxyResponseData":', data]
    parts.append(b"}")
    return b"".join(parts)


@lru_cache(maxsize=256)
def _opening(status: ResultStatus, code: str, message: str, source: str) -> bytes:
    """Write all but the id and the two strings: the same few of them come again and again."""
    body = msgspec.json.encode(
        {"isSuccess": status == "S", "resultCode": code, "resultStatus": status, "resultMessage": message, "source": source}
    )
    return body[:-1] + b',"requestId":"'


def failure_answer(error: GatewayError, request_id: str, *, close: bool = False) -> Answer:
    """Return the one answer of this failure. 503 carries Retry-After: nothing was sent, so repeating is safe."""
    failure = error.failure
    body = result_body(status=failure.result_status, code=failure.code, message=error.message, source="gateway", request_id=request_id)
    headers = error.headers
    if failure.http_status == HTTPStatus.SERVICE_UNAVAILABLE:
        headers = (*headers, ("Retry-After", str(RETRY_AFTER_SECONDS)))
    return Answer(failure.http_status, body, request_id, headers=headers, close=close)


def overloaded_answer(request_id: str, *, close: bool) -> tuple[bytes, int]:
    """Return the whole answer OVERLOADED and the size of its body, for a connection that ends with it, or a request of HTTP/1.1.

    All but the id has been written once in this second, if it is one of the gateway's own.
    """
    if len(request_id) != len(_AN_ID):
        return _overloaded(request_id, close=close)
    between, size = _around_an_id(int(time()), close=close)
    return request_id.encode("ascii").join(between), size


@lru_cache(maxsize=4)
def _around_an_id(_second: int, *, close: bool) -> tuple[list[bytes], int]:
    answer, size = _overloaded(_AN_ID, close=close)
    return answer.split(_AN_ID.encode("ascii")), size


def _overloaded(request_id: str, *, close: bool) -> tuple[bytes, int]:
    answer = failure_answer(GatewayError("OVERLOADED", ""), request_id)
    answer.keep_alive = not close
    return answer.whole(), len(answer.body)
