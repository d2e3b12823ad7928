"""Listening sockets, an acceptor and an edge server whose handler answers with what it knows of the client."""

import asyncio
import json
import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import structlog

from gateway.edge.answer import Answer
from gateway.edge.body import BodyLimits, read_body
from gateway.edge.exchange import Exchange, Recorder
from gateway.edge.forwarded import TrustedProxies
from gateway.edge.front import Front
from gateway.edge.request import Request
from gateway.edge.server import EdgeServer, ServerLimits
from gateway.edge.shedding import Shedder
from gateway.edge.turns import Turns
from gateway.errors import GatewayError
from gateway.server.acceptor import AGAIN, Acceptor, Admit
from gateway.server.admission import Admission
from gateway.server.standing import REFUSAL as REFUSED
from gateway.telemetry.metrics import Metrics
from tests.lines import Lines

PATH = "/alipayplus/v1/sdkProxy"
REQUEST = f"GET {PATH} HTTP/1.1\r\nHost: a\r\n\r\n".encode()
LAST_REQUEST = f"GET {PATH} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode()
REFUSAL = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"

StartRig = Callable[..., Awaitable["Rig"]]


async def tell(request: Request, exchange: Exchange) -> Answer:
    """Answer with the client's address, the scheme, and the body's length; with as many bytes more as the query of the path asks for."""
    body = await read_body(request, BodyLimits(1 << 24, 5, 30))
    told = {"client": exchange.client, "secure": request.connection.is_secure, "subject": exchange.subject, "length": len(body)}
    more = int(request.headers.get("X-More", "0"))
    return Answer(200, json.dumps(told | ({"more": "x" * more} if more else {})).encode(), exchange.request_id)


def _unknown(_path: str, _exchange: Exchange) -> GatewayError:
    return GatewayError("METHOD_NOT_ALLOWED", "method")


class Rig:
    """Listens on a free port, or on the given sockets, and counts and logs in memory."""

    def __init__(
        self,
        *,
        tls: ssl.SSLContext | None = None,
        proxies: Sequence[str] | None = None,
        timeout: float = 5.0,
        connections: int = 100,
        is_short: bool = False,
        again: float = AGAIN,
        has_room: Callable[[int], bool] = lambda _: True,
        sockets: Sequence[socket.socket] = (),
        admission: Admit | None = None,
        handler: Callable[[Request, Exchange], Awaitable[Answer]] = tell,
        limits: ServerLimits | None = None,
        shedder: Shedder | None = None,
    ) -> None:
        self.sockets = tuple(sockets) or (listening(),)
        self.metrics, self.lines = Metrics(), Lines()
        self.logged: Any = structlog.testing.CapturingLogger()
        recorder = Recorder(self.metrics, self.lines)
        self.front = Front("/alipayplus", handler, recorder, self.metrics, self.logged, sdk_target=PATH, shedder=shedder)
        given = limits or ServerLimits(16384, 5, 5)
        self.edge = EdgeServer(
            self.front.handle,
            given,
            recorder,
            self.metrics,
            self.front.unknown_method(_unknown),
            turns=Turns(asyncio.get_running_loop()),
            shedder=shedder,
            refuse=self.front.refuse,
        )
        trusted = TrustedProxies(proxies) if proxies is not None else None
        admits = admission or Admission(self.edge, self.logged, tls=tls, proxies=trusted, timeout=timeout)
        self.acceptor = Acceptor(
            self.sockets,
            self.edge,
            admits,
            self.logged,
            connections=connections,
            is_short=is_short,
            refusal=lambda: REFUSAL if tls is None else REFUSED,
            has_room=has_room,
            again=again,
        )

    @property
    def port(self) -> int:
        port: int = self.sockets[0].getsockname()[1]
        return port

    async def connect(self, *, tls: ssl.SSLContext | None = None) -> "Client":
        place = self.sockets[0].getsockname()
        if self.sockets[0].family == socket.AF_UNIX:
            return Client(*await asyncio.open_unix_connection(place, ssl=tls, server_hostname="localhost" if tls else None))
        return Client(*await asyncio.open_connection(*place[:2], ssl=tls, server_hostname="localhost" if tls else None))

    def rejected(self, reason: str) -> float:
        return self.metrics.registry.get_sample_value("gateway_rejected_total", {"reason": reason}) or 0.0

    async def until(self, is_so: Callable[[], bool]) -> None:
        """Return when it is so."""
        async with asyncio.timeout(10):
            while not is_so():  # noqa: ASYNC110  what is looked at has no event
                await asyncio.sleep(0.005)

    async def close(self) -> None:
        self.acceptor.close()
        await self.edge.shutdown(0.01)
        await self.until(lambda: self.acceptor.open == self.edge.open == 0)
        for sock in self.sockets:
            sock.close()


@dataclass
class Client:
    """One connection of a client."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def ask(self, data: bytes = REQUEST) -> dict[str, Any]:
        """Send a request and return what the answer says."""
        self.writer.write(data)
        return await self.answer()

    async def answer(self) -> dict[str, Any]:
        head = await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), 10)
        assert head.startswith(b"HTTP/1.1 200 "), head
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        told: dict[str, Any] = json.loads(await asyncio.wait_for(self.reader.readexactly(length), 10))
        return told

    async def rest(self) -> bytes:
        """Return all that comes until the end, which may be a reset."""
        try:
            return await asyncio.wait_for(self.reader.read(), 10)
        except ConnectionError:
            return b""

    def close(self) -> None:
        self.writer.close()


def listening(family: socket.AddressFamily = socket.AF_INET, host: str = "127.0.0.1") -> socket.socket:
    sock = socket.create_server((host, 0), family=family, backlog=512)
    sock.setblocking(False)
    return sock
