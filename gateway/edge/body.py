"""Reading a request's body whole: bounded in size, in the pause between two reads, and in all.

Bodies that are streamed to an upstream are not read here.
"""

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from aiohttp.web import RequestPayloadError

from gateway.edge.request import Request
from gateway.errors import GatewayError
from gateway.upstream.deadline import TURN

DISCARD_SECONDS: Final = 2.0
DISCARD_BYTES: Final = 256 * 1024


@dataclass(frozen=True, slots=True)
class BodyLimits:
    """Limits of one body: bytes, seconds between two reads, seconds for the whole."""

    size: int
    idle_timeout: float
    timeout: float


class ClientLeft(Exception):
    """The client went away before its request had been read."""


class BodyTooLarge(GatewayError):
    """The body is larger than allowed."""

    def __init__(self) -> None:
        super().__init__("REQUEST_TOO_LARGE", "body over max_body")


class BodyTimeout(GatewayError):
    """The body did not arrive in time."""

    def __init__(self, reason: str) -> None:
        super().__init__("REQUEST_TIMEOUT", reason)


async def read_body(request: Request, limits: BodyLimits) -> bytes:
    """Return the body, of a request whose declared length, if it has one, is known to be within the limits.

    Raises BodyTooLarge, BodyTimeout, REQUEST_MALFORMED for bad framing, or ClientLeft.
    """
    content = request.content
    try:
        if content.is_eof() and content.exception() is None:  # all of it has arrived: no timer needed
            return _bounded(content.read_nowait(-1), limits.size)
        return await _read_slowly(request, limits)
    except RequestPayloadError as error:
        if request.connection.transport is None:
            raise ClientLeft from error
        raise GatewayError("REQUEST_MALFORMED", "bad body framing") from error
    except ConnectionError as error:
        raise ClientLeft from error


def _bounded(body: bytes, size: int) -> bytes:
    if len(body) > size:
        raise BodyTooLarge
    return body


async def _read_slowly(request: Request, limits: BodyLimits) -> bytes:
    deadline = _Deadline(request, limits)
    if request.content_length is not None:
        return await _read_announced(request, request.content_length, deadline)
    body = bytearray()
    while piece := await _read_piece(request, deadline):
        body += piece
        if len(body) > limits.size:
            raise BodyTooLarge
    return bytes(body)


class _Deadline:
    """When the body has to go on, or to have come, on the loop's clock. A loop that is late has one more turn to read that."""

    def __init__(self, request: Request, limits: BodyLimits) -> None:
        self._connection = request.connection
        self._began = asyncio.get_running_loop().time()
        self._limits = limits
        self._reached = 0.0

    def at(self) -> float:
        """Return it; when it is over, the end of one more turn. Raises BodyTimeout after that."""
        limits, now = self._limits, asyncio.get_running_loop().time()
        ends = self._began + limits.timeout
        stops = max(self._began, self._connection.heard_at) + limits.idle_timeout
        at = min(ends, stops)
        if now < at:
            return at
        if self._reached != at:
            self._reached = at
            return now + TURN
        raise BodyTimeout("body took too long" if now >= ends else "body stopped")


async def _read_announced(request: Request, length: int, deadline: _Deadline) -> bytes:
    """Return a body of this length; its pieces wake nobody, however many they are."""
    content = request.content
    begin = content.read_nowait(-1)
    content.set_read_chunk_size(length)  # so much of it comes without a pause
    while not content.is_eof() and content.exception() is None:
        with suppress(TimeoutError):
            async with asyncio.timeout_at(deadline.at()):
                await content.wait_eof()
    return begin + content.read_nowait(-1)


async def _read_piece(request: Request, deadline: _Deadline) -> bytes:
    content = request.content
    while not content.is_eof():
        with suppress(TimeoutError):
            async with asyncio.timeout_at(deadline.at()):
                return await content.readany()
    return content.read_nowait(-1)


async def discard_body(request: Request, most: float = DISCARD_BYTES) -> bool:
    """Read and throw away what is left of a refused request, so that the client sees the answer and not a reset.

    For at most 2 s, and so many bytes: a proxy sends all that it holds of a body before it looks for an answer. Returns whether the body
    has ended, so that the connection can be kept.
    """
    content, read = request.content, 0
    try:
        async with asyncio.timeout(DISCARD_SECONDS):
            while not content.is_eof() and read < most:
                read += len(await content.readany())
    except (TimeoutError, ConnectionError, RequestPayloadError):
        return False
    return content.is_eof()
