"""The gateway's path of the MPP's API in one process: a real edge, real routes and pools, a scripted session check."""

import asyncio
import re
import socket
import ssl
import struct
import traceback
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import structlog

from gateway.config import (
    Alipayplus,
    Api,
    ApiRoute,
    Config,
    CustomerId,
    Duration,
    Forward,
    Limits,
    Server,
    Session,
    Signing,
    Size,
    Upstream,
    UpstreamServer,
    Verification,
)
from gateway.edge.answer import Answer
from gateway.edge.exchange import Exchange, Recorder
from gateway.edge.forwarded import TrustedProxies
from gateway.edge.front import Front
from gateway.edge.routing import RouteTable
from gateway.edge.server import EdgeServer, ServerLimits
from gateway.edge.shedding import Share
from gateway.edge.turns import Turns
from gateway.errors import GatewayError
from gateway.passthrough.handler import Passthrough
from gateway.passthrough.tunnel import Tunnel
from gateway.passthrough.ways import api_routes, api_ways
from gateway.session import Check, Identity, RawHeaders, Work
from gateway.telemetry.metrics import Metrics
from gateway.upstream import Cluster, Connection, Pool
from gateway.upstream.configured import api_cluster
from gateway.upstream.watch import Watch, show_health
from tests.lines import Lines
from tests.upstream.peer import Call, Script, until

SDK = "/alipayplus"
LIMITS = Limits(header_size=Size(2048))
IMPATIENT = Limits(header_size=Size(2048), body_idle_timeout=Duration(0.3), write_idle_timeout=Duration(0.3))


@dataclass
class Sessions:
    """By Authorization: `good` is customer 7, `mad` forbidden, `down` unavailable, anything else denied."""

    checked: list[str] = field(default_factory=list)
    block: asyncio.Event | None = None

    async def check(self, headers: RawHeaders, work: Work, *, request_id: str, traceparent: Callable[[], str]) -> Check:
        assert work == "api"
        self.checked.append(request_id)
        if self.block is not None:
            await self.block.wait()
        values = [value for name, value in headers if name.lower() == b"authorization"]
        match values:
            case []:
                return Check("missing", "none", reason="no credential")
            case [b"good"]:
                return Check("valid", "call", Identity("customer-7", (("X-Customer-Tier", "gold"),)))
            case [b"mad"]:
                return Check("forbidden", "call", reason="forbidden")
            case [b"down"]:
                return Check("unavailable", "call", reason="down")
            case _:
                return Check("denied", "call", www_authenticate=('Bearer realm="wallet"',), reason="denied")


def route(prefix: str = "/", upstream: str = "wallet", **more: Any) -> ApiRoute:
    return ApiRoute(prefix=prefix, upstream=upstream, **{"session": "none", **more})


def upstream(url: str, **more: Any) -> Upstream:
    times = {"connect_timeout": Duration(5), "response_timeout": Duration(10), "idle_timeout": Duration(10)}
    return Upstream(servers=(UpstreamServer(url=url),), **{**times, **more})


def configuration(routes: Sequence[ApiRoute], upstreams: dict[str, Upstream], *, limits: Limits = LIMITS) -> Config:
    forward = Forward(url="http://auth.example", customer_id=CustomerId(header="X-Auth-Id"), forward_headers=("X-Customer-Tier",))
    return Config(
        server=Server(limits=limits),
        session=Session(forward=forward),
        alipayplus=Alipayplus(
            client_id="T",
            host=("https://alipayplus.example",),
            signing=Signing(key_version="1", private_keys={}),
            verification=Verification(public_keys={"1": Path("none")}),
        ),
        api=Api(upstreams=upstreams, routes=tuple(routes)),
    )


class Client:
    """One connection to the gateway."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def head(self) -> bytes:
        return await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), 10)

    async def read(self, count: int) -> bytes:
        return await asyncio.wait_for(self.reader.readexactly(count), 10)

    async def until(self, end: bytes) -> bytes:
        return await asyncio.wait_for(self.reader.readuntil(end), 10)

    async def rest(self) -> bytes:
        return await asyncio.wait_for(self.reader.read(), 10)

    def close(self) -> None:
        self.writer.close()

    def reset(self) -> None:
        self.writer.transport.abort()


class Log(structlog.testing.CapturingLogger):
    """Keeps what is logged, and shows where a bug was raised."""

    def exception(self, event: str, **more: str) -> None:
        """Take an exception that nobody expected."""
        traceback.print_exc()
        self.__getattr__("exception")(event, **more)


class Rig:
    """A running gateway."""

    def __init__(self, config: Config, *, trusted: Sequence[str] = ()) -> None:
        assert config.api is not None
        self.metrics, self.lines, self.sessions = Metrics(), Lines(), Sessions()
        self.log = Log()
        self.tunnels: set[Tunnel] = set()
        self.turns = structlog.testing.CapturingLogger()
        self.in_hand: list[int] = [0]  # requests that the loop has something to do for, and how many there were before
        self.clusters = {name: self._cluster(name, each) for name, each in config.api.upstreams.items()}
        show_health(self.metrics, self.clusters.values())
        self.sdk_requests: list[str] = []
        self._clients: list[Client] = []
        self._running = AsyncExitStack()
        recorder = Recorder(self.metrics, self.lines)
        routes = api_routes(config)
        ways = api_ways(config, routes, self.clusters, self.tunnels)
        share = Share(
            begin=lambda _: self._note(1),
            end=lambda _: self._note(-1),
            pause=lambda: self._note(-1),
            resume=lambda: self._note(1),
            shrink=lambda _: None,
        )
        api = Passthrough(ways, self.sessions, self.metrics, identity_header="X-Customer-Id", share=share)
        log: Any = self.log
        self.front = Front(
            SDK, self._sdk, recorder, self.metrics, log, api=api.handle, routes=RouteTable(routes, SDK), trusted=TrustedProxies(trusted)
        )
        limits = config.server.limits
        self.edge = EdgeServer(
            self.front.handle,
            ServerLimits(limits.header_size, limits.header_timeout, limits.idle_timeout, limits.write_idle_timeout),
            recorder,
            self.metrics,
            self.front.unknown_method(lambda _path, _exchange: GatewayError("METHOD_NOT_ALLOWED", "method")),
            turns=Turns(asyncio.get_running_loop()),
        )
        self._listener: asyncio.Server

    @property
    def port(self) -> int:
        port: int = self._listener.sockets[0].getsockname()[1]
        return port

    @property
    def pools(self) -> dict[str, Pool]:
        """The pool of the first server of each upstream."""
        return {name: cluster.members[0].pool for name, cluster in self.clusters.items()}

    @property
    def server(self) -> str:
        """The label of the wallet's first server."""
        return self.pools["wallet"].name

    async def start(self, tls: ssl.SSLContext | None = None) -> None:
        for cluster in self.clusters.values():
            await self._running.enter_async_context(cluster)
        self._listener = await asyncio.get_running_loop().create_server(self.edge.receiver, "127.0.0.1", 0, ssl=tls)

    async def stop(self) -> None:
        self._listener.close()
        for client in self._clients:
            client.writer.transport.abort()
        await self.edge.shutdown(0)
        await self._running.aclose()

    async def connect(self, first: bytes = b"") -> Client:
        """Open a connection and send on it."""
        client = Client(*await asyncio.open_connection("127.0.0.1", self.port, limit=1 << 24))
        self._clients.append(client)
        if first:
            client.send(first)
        return client

    async def raw(self, data: bytes) -> bytes:
        """Send on a connection of its own and return all that comes until the gateway closes it."""
        client = await self.connect(data)
        try:
            return await client.rest()
        finally:
            client.close()

    async def ended(self, count: int = 1) -> list[dict[str, Any]]:
        """Wait for so many requests to be over and return their access lines."""
        async with asyncio.timeout(10):
            while len(self.lines.lines) < count:  # noqa: ASYNC110  a line has no event
                await asyncio.sleep(0.005)
        return self.lines.lines

    def count(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(name, labels) or 0.0

    def _note(self, more: int) -> None:
        self.in_hand.append(self.in_hand[-1] + more)

    def _cluster(self, name: str, settings: Upstream) -> Cluster:
        log: Any = self.turns
        return api_cluster(name, settings, Watch(name, self.metrics, log))

    async def _sdk(self, request: Any, exchange: Exchange) -> Answer:
        self.sdk_requests.append(request.raw_path)
        return Answer(200, b"{}", exchange.request_id)


StartRig = Callable[..., Awaitable[Rig]]


GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


def answering(answer: bytes, *, keeps: bool = True) -> Script:
    """Answer each request with these bytes; close afterwards unless `keeps`."""

    async def script(call: Call) -> None:
        while True:
            await call.read_request()
            call.write(answer)
            if not keeps:
                return

    return script


async def reading_all(call: Call) -> None:
    """Read one request, chunked or not, and answer."""
    head = await call.read_head()
    if b"chunked" in head.lower():
        while not call.received.endswith(b"0\r\n\r\n"):
            await call.read(1)
    else:
        lengths = re.findall(rb"Content-Length: ([0-9]+)", head)
        await call.read(int(lengths[0]) if lengths else 0)
    call.write(b"HTTP/1.1 204 No Content\r\n\r\n")
    await call.read_to_end()


async def reset_when_asked(start_rig: StartRig, monkeypatch: pytest.MonkeyPatch, last: bytes = b"") -> Client:
    """Give a client of a gateway whose kept connection to the upstream is reset, behind these bytes, just before it is next sent on.

    It has had an upload: what cannot be written on it is known at once, so that it is closed before anything else is done for the request.
    """
    loop, send = asyncio.get_running_loop(), Connection.send
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        rig = await start_rig(f"http://127.0.0.1:{listener.getsockname()[1]}")
        client = await rig.connect(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n")
        upstream, _ = await loop.sock_accept(listener)
    assert (await loop.sock_recv(upstream, 1000)).endswith(b"\r\n\r\n")
    client.send(b"abc")
    assert await loop.sock_recv(upstream, 1000) == b"abc"
    upstream.send(b"HTTP/1.1 204 No Content\r\n\r\n")
    assert b" 204 " in await client.head()
    await until(lambda: rig.pools["wallet"].idle == 1)

    def send_too_late(self: Connection, data: bytes) -> None:
        upstream.send(last)
        upstream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        upstream.close()
        send(self, data)

    monkeypatch.setattr(Connection, "send", send_too_late)
    return client
