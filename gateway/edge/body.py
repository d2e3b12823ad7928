"""Reading a request's body whole: bounded in size, in the pause between two reads, and in all.

Bodies that are streamed to an upstream are not read here.
"""

import asyncio
from dataclasses import dataclass
from typing import Final

from aiohttp import web

from gateway.errors import GatewayError

DISCARD_SECONDS: Final = 2.0
DISCARD_BYTES: Final = 256 * 1024


@dataclass(frozen=True, slots=True)
class BodyLimits:
    """Limits of one body: bytes, seconds between two reads, seconds for the whole."""

    size: int
    idle_timeout: float
    timeout: float


class ClientLeft(Exception):
    """The client went away before its request was complete."""


class BodyTooLarge(GatewayError):
    """The body is larger than allowed."""

    def __init__(self) -> None:
        super().__init__("REQUEST_TOO_LARGE", "body over max_body")


class BodyTimeout(GatewayError):
    """The body did not arrive in time."""

    def __init__(self, reason: str) -> None:
        super().__init__("REQUEST_TIMEOUT", reason)


async def read_body(request: web.BaseRequest, limits: BodyLimits) -> bytes:
    """Return the body. Raises BodyTooLarge, BodyTimeout, REQUEST_MALFORMED for bad framing, or ClientLeft."""
    content = request.content
    try:
        if content.is_eof() and content.exception() is None:  # all of it has arrived: no timer needed
            return _bounded(content.read_nowait(-1), limits.size)
        return await _read_slowly(request, limits)
    except web.RequestPayloadError as error:
        if request.transport is None:
            raise ClientLeft from error
        raise GatewayError("REQUEST_MALFORMED", "bad body framing") from error
    except ConnectionError as error:
        raise ClientLeft from error


def _bounded(body: bytes, size: int) -> bytes:
    if len(body) > size:
        raise BodyTooLarge
    return body


async def _read_slowly(request: web.BaseRequest, limits: BodyLimits) -> bytes:
    body = bytearray()
    try:
        async with asyncio.timeout(limits.timeout):
            while chunk := await _next_chunk(request, limits.idle_timeout):
                body += chunk
                if len(body) > limits.size:
                    raise BodyTooLarge
    except TimeoutError:
        raise BodyTimeout("body took too long") from None
    return bytes(body)


async def _next_chunk(request: web.BaseRequest, idle_timeout: float) -> bytes:
    try:
        async with asyncio.timeout(idle_timeout):
            return await request.content.readany()
    except TimeoutError:
        raise BodyTimeout("body stopped") from None


async def discard_body(request: web.BaseRequest) -> bool:
    """Read and throw away what is left of a refused request, so that the client sees the answer and not a reset.

    At most 2 s or 256 KiB; returns whether the body has ended, so that the connection can be kept.
    """
    content, read = request.content, 0
    try:
        async with asyncio.timeout(DISCARD_SECONDS):
            while not content.is_eof() and read < DISCARD_BYTES:
                read += len(await content.readany())
    except (TimeoutError, ConnectionError, web.RequestPayloadError):
        return False
    return content.is_eof()
