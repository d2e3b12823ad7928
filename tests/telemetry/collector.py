"""An OTLP receiver of traces (HTTP, protobuf), which decodes with the official package and keeps what it got."""

import asyncio
import ssl
from collections.abc import Iterable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest, ExportTraceServiceResponse
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status


@dataclass(frozen=True)
class Received:
    """A span as it came. Times are UNIX nanoseconds."""

    name: str
    kind: str
    trace_id: str
    span_id: str
    parent_id: str
    began: int
    ended: int
    attributes: dict[str, Any]
    status: str
    message: str
    tracestate: str
    is_parent_remote: bool
    resource: dict[str, Any]

    @property
    def seconds(self) -> float:
        return (self.ended - self.began) / 1e9


class Collector:
    """Listens on port 0 while the context is open, with TLS if it is given that. It answers `status`, once `gate` is set."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls
        self.spans: list[Received] = []
        self.bodies: list[bytes] = []
        self.headers: list[dict[str, str]] = []
        self.status = 200
        self.gate = asyncio.Event()
        self.gate.set()
        self._grown = asyncio.Event()
        self._stack = AsyncExitStack()
        self.endpoint = ""

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=1 << 26)
        app.router.add_post("/v1/traces", self._take)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        self._stack.push_async_callback(runner.cleanup)
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=self._tls)
        await site.start()
        self.endpoint = f"{'https' if self._tls else 'http'}://127.0.0.1:{runner.addresses[0][1]}"
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.gate.set()
        await self._stack.aclose()

    async def until(self, requests: int) -> None:
        """Wait until the spans of so many requests have come, as their server spans show, and so many posts if it refuses."""
        async with asyncio.timeout(30):
            while len([span for span in self.spans if span.kind == "SERVER"]) < requests:
                self._grown.clear()
                await self._grown.wait()

    async def until_posts(self, posts: int) -> None:
        async with asyncio.timeout(30):
            while len(self.bodies) < posts:
                self._grown.clear()
                await self._grown.wait()

    def traces(self) -> dict[str, "Tree"]:
        """The spans of each trace."""
        found: dict[str, list[Received]] = {}
        for span in self.spans:
            found.setdefault(span.trace_id, []).append(span)
        return {trace_id: Tree(spans) for trace_id, spans in found.items()}

    async def _take(self, request: web.Request) -> web.Response:
        body = await request.read()
        self.bodies.append(body)
        self.headers.append(dict(request.headers))
        self._grown.set()
        await self.gate.wait()
        assert request.content_type == "application/x-protobuf"
        if self.status == 200:
            self.spans += decode(body)
            self._grown.set()
        return web.Response(
            status=self.status, body=ExportTraceServiceResponse().SerializeToString(), content_type="application/x-protobuf"
        )


class Tree:
    """The spans of one request: its own, and those of its phases by name."""

    def __init__(self, spans: list[Received]) -> None:
        [self.server] = [span for span in spans if span.kind == "SERVER"]
        self.phases = {span.name: span for span in spans if span is not self.server}
        assert len(self.phases) == len(spans) - 1
        assert {span.parent_id for span in self.phases.values()} <= {self.server.span_id}
        assert len({span.span_id for span in spans}) == len(spans)
        assert all(self.server.began <= span.began <= span.ended <= self.server.ended for span in spans)


def decode(body: bytes) -> list[Received]:
    request = ExportTraceServiceRequest.FromString(body)
    return [
        _received(span, _attributes(of_resource.resource.attributes))
        for of_resource in request.resource_spans
        for of_scope in of_resource.scope_spans
        for span in of_scope.spans
    ]


def _received(span: Span, resource: dict[str, Any]) -> Received:
    return Received(
        span.name,
        Span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
        span.trace_id.hex(),
        span.span_id.hex(),
        span.parent_span_id.hex(),
        span.start_time_unix_nano,
        span.end_time_unix_nano,
        _attributes(span.attributes),
        Status.StatusCode.Name(span.status.code).removeprefix("STATUS_CODE_"),
        span.status.message,
        span.trace_state,
        bool(span.flags & 0x200),  # SPAN_FLAGS_CONTEXT_IS_REMOTE_MASK
        resource,
    )


def _attributes(pairs: Iterable[KeyValue]) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value") or "string_value") for pair in pairs}
