"""The simulated MPP API: the wallet's own services behind the gateway, as far as a gateway can tell them apart.

GET  /healthz               200
GET  /api/balance           some JSON for the customer whom the gateway names in X-Customer-Id
*    /api/echo...           what came: method, target, headers and the SHA-256 of the body, as JSON
GET  /api/events?count=N    N server-sent events, `pause` seconds apart
GET  /api/download?size=N   N bytes
GET  /api/socket            a WebSocket that sends back what it gets
"""

import asyncio
import hashlib
import math
import socket
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec
from aiohttp import WSMsgType, web

CHUNK: Final = 64 * 1024
MAX_BODY: Final = 64 * 1024 * 1024
MOST: Final = 10**12
"""The largest number that can be asked for."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Mpp:
    """Serves the API on a bound socket."""

    def __init__(self) -> None:
        self.port = 0
        self._runner: web.AppRunner | None = None

    async def start(self, sock: socket.socket) -> None:
        """Serve on a bound socket."""
        self.port = sock.getsockname()[1]
        self._runner = web.AppRunner(application(), access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.SockSite(self._runner, sock).start()

    async def close(self) -> None:
        """Stop."""
        if self._runner:
            await self._runner.cleanup()


def application() -> web.Application:
    """Give the API."""
    app = web.Application(client_max_size=MAX_BODY, middlewares=[_until_left])
    app.router.add_get("/healthz", _health)
    app.router.add_get("/api/balance", _balance)
    app.router.add_get("/api/events", _events)
    app.router.add_get("/api/download", _download)
    app.router.add_get("/api/socket", _socket)
    app.router.add_route("*", "/api/echo{rest:.*}", _echo)
    return app


@web.middleware
async def _until_left(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Handle a request; when its client leaves, that is the end of it and nothing to report."""
    try:
        return await handler(request)
    except ConnectionError:
        return web.Response(status=400)


def _number(request: web.Request, name: str, default: float) -> float:
    text = request.query.get(name, str(default))
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 <= number <= MOST:
        raise web.HTTPBadRequest(text=f"{name} is a number from 0 to {MOST}\n")
    return number


def _json(document: object) -> web.Response:
    return web.Response(body=msgspec.json.encode(document), content_type="application/json")


async def _health(_request: web.Request) -> web.Response:
    return _json({"status": "ok"})


async def _balance(request: web.Request) -> web.Response:
    return _json({"customerId": request.headers.get("X-Customer-Id"), "balance": {"currency": "IDR", "value": "125000"}})


async def _echo(request: web.Request) -> web.Response:
    body = await request.read()
    return _json(
        {
            "method": request.method,
            "target": request.raw_path,
            "headers": [[name.decode("latin-1"), value.decode("latin-1")] for name, value in request.raw_headers],
            "length": len(body),
            "sha256": hashlib.sha256(body).hexdigest(),
        }
    )


async def _events(request: web.Request) -> web.StreamResponse:
    count, pause = int(_number(request, "count", 3)), _number(request, "pause", 0)
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-cache"})
    await response.prepare(request)
    for number in range(count):
        await response.write(f"id: {number}\ndata: event {number}\n\n".encode())
        await asyncio.sleep(pause)
    return response


async def _download(request: web.Request) -> web.StreamResponse:
    left = int(_number(request, "size", 1 << 20))
    response = web.StreamResponse(headers={"Content-Type": "application/octet-stream", "Content-Length": str(left)})
    await response.prepare(request)
    while left > 0:
        await response.write(b"\0" * min(left, CHUNK))
        left -= CHUNK
    return response


async def _socket(request: web.Request) -> web.WebSocketResponse:
    websocket = web.WebSocketResponse()
    await websocket.prepare(request)
    async for message in websocket:
        match message.type:
            case WSMsgType.TEXT:
                await websocket.send_str(message.data)
            case WSMsgType.BINARY:
                await websocket.send_bytes(message.data)
    return websocket
