"""An edge server on port 0 with a handler of the test's, and what it recorded, under both event loops."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import pytest
import structlog
import uvloop

from gateway.edge.answer import Answer
from gateway.edge.body import BodyLimits, read_body
from gateway.edge.exchange import Exchange, Recorder
from gateway.edge.front import Front, Handler, send_continue
from gateway.edge.request import Request
from gateway.edge.server import EdgeServer, ServerLimits
from gateway.edge.shedding import Shedder
from gateway.edge.turns import Turns
from gateway.errors import GatewayError
from gateway.telemetry.metrics import Metrics
from tests.lines import Lines


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run each asynchronous test of this folder under both loops."""
    return {"uvloop": uvloop.new_event_loop, "asyncio": asyncio.SelectorEventLoop}


async def echo(request: Request, exchange: Exchange) -> Answer:
    """Answer with the body's length, as the SDK handler would: the session first, then 100, then the body."""
    send_continue(request)
    body = await read_body(request, BodyLimits(4096, 0.2, 0.5))
    return Answer(200, b'{"length":%d}' % len(body), exchange.request_id)


@dataclass
class Edge:
    """A running edge: its port, what it logged and counted."""

    port: int
    lines: Lines
    metrics: Metrics
    front: Front
    server: EdgeServer

    async def raw(self, data: bytes) -> bytes:
        """Send these bytes on a new connection and return all that comes back until the server closes."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(data)
        try:
            return await asyncio.wait_for(reader.read(), 10)
        finally:
            writer.close()

    def count(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(name, labels) or 0.0


StartEdge = Callable[..., Any]


def unknown(_path: str, _exchange: Exchange) -> GatewayError:
    return GatewayError("METHOD_NOT_ALLOWED", "method", headers=(("Allow", "POST"),))


@pytest.fixture
async def start_edge() -> AsyncIterator[StartEdge]:
    running: list[tuple[EdgeServer, asyncio.Server]] = []

    async def start(
        handler: Handler = echo,
        *,
        header_size: int = 2048,
        header_timeout: float = 0.3,
        idle_timeout: float = 5.0,
        turns: Turns | None = None,
        shedder: Shedder | None = None,
    ) -> Edge:
        lines, metrics = Lines(), Metrics()
        recorder = Recorder(metrics, lines)
        log: Any = structlog.testing.CapturingLogger()
        front = Front("/alipayplus", handler, recorder, metrics, log)
        limits = ServerLimits(header_size, header_timeout, idle_timeout)
        loop = asyncio.get_running_loop()
        unknown_method = front.unknown_method(unknown)
        turns = turns or Turns(loop)
        edge = EdgeServer(
            front.handle, limits, recorder, metrics, unknown_method, turns=turns, shedder=shedder, note_unbegun=front.note_unbegun
        )
        server = await loop.create_server(edge.receiver, "127.0.0.1", 0)
        running.append((edge, server))
        return Edge(server.sockets[0].getsockname()[1], lines, metrics, front, edge)

    yield start
    for edge, server in running:
        server.close()
        await edge.shutdown(0)
