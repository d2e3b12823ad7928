"""Sends spans to a collector by OTLP (HTTP, protobuf) with OpenTelemetry's SDK, from a thread of its own. The only module that imports it.

Spans are values that have ended when they come here, so the SDK's tracer has no part in it: they go straight to its batch processor,
whose queue is bounded, and which drops what a dead collector does not take. The standard environment variables count (`OTEL_*`: headers,
certificates, limits of the queue, attributes of the resource).
"""

import asyncio
import logging
import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import Final
from uuid import uuid4

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState
from structlog.typing import FilteringBoundLogger

from gateway import __version__
from gateway.telemetry.spans import Span, Trace

END_SECONDS: Final = 2.0
"""For sending what is held when the process ends."""

_PATH: Final = "/v1/traces"
_KINDS: Final = {"server": SpanKind.SERVER, "client": SpanKind.CLIENT, "internal": SpanKind.INTERNAL}
_SAMPLED: Final = TraceFlags(TraceFlags.SAMPLED)
_SCOPE: Final = InstrumentationScope("alipayplus-gateway", __version__)
_UNSET: Final = Status(StatusCode.UNSET)
_NO_STATE: Final = TraceState()


class OtlpExporter:
    """Sends spans to the collector at this endpoint; what fails is logged."""

    def __init__(self, endpoint: str, log: FilteringBoundLogger) -> None:
        logging.getLogger("opentelemetry.exporter").setLevel(logging.CRITICAL)  # it says each attempt, with the URL; we say what is lost
        self._log = log
        self._sender = _Sender(OTLPSpanExporter(endpoint=endpoint.rstrip("/") + _PATH), log)
        self._processor = BatchSpanProcessor(self._sender)
        self._resource = _resource()

    def export(self, trace: Trace) -> None:
        """Take the spans of one request. Never waits and never fails."""
        state = TraceState.from_header([trace.tracestate]) if trace.tracestate else _NO_STATE
        trace_id = int(trace.trace_id, 16)
        for span in trace.spans:
            self._processor.on_end(self._readable(span, trace_id, state))

    async def close(self) -> None:
        """Send what is held, within END_SECONDS; then give up."""
        ended, loop = asyncio.Event(), asyncio.get_running_loop()

        def end() -> None:
            self._processor.shutdown()  # type: ignore[no-untyped-call]  # it has no types there
            with suppress(RuntimeError):  # the loop did not wait for it
                loop.call_soon_threadsafe(ended.set)

        try:
            threading.Thread(target=end, name="tracing-end", daemon=True).start()
            async with asyncio.timeout(END_SECONDS):
                await ended.wait()
        except TimeoutError:
            self._sender.shutdown()  # it stops waiting to try again
            self._log.warning("spans are lost: the collector does not take them in time")
        except RuntimeError:  # at the limit of processes and threads
            self._sender.shutdown()
            self._log.warning("spans are lost: there is no thread that sends the last ones")

    def _readable(self, span: Span, trace_id: int, state: TraceState) -> ReadableSpan:
        parent = SpanContext(trace_id, int(span.parent_id, 16), span.kind == "server", _SAMPLED, state) if span.parent_id else None
        return ReadableSpan(
            span.name,
            SpanContext(trace_id, int(span.span_id, 16), is_remote=False, trace_flags=_SAMPLED, trace_state=state),
            parent,
            self._resource,
            span.attributes,
            kind=_KINDS[span.kind],
            status=_UNSET if span.error is None else Status(StatusCode.ERROR, span.error or None),
            start_time=span.began,
            end_time=span.ended,
            instrumentation_scope=_SCOPE,
        )


class _Sender(SpanExporter):
    """The SDK's exporter, which tries again by itself for a while; says when it has given up."""

    def __init__(self, exporter: OTLPSpanExporter, log: FilteringBoundLogger) -> None:
        self._exporter = exporter
        self._log = log

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send spans; called from the processor's thread."""
        result = self._exporter.export(spans)
        if result is not SpanExportResult.SUCCESS:
            self._log.warning("spans are lost: the collector does not take them", spans=len(spans))
        return result

    def shutdown(self) -> None:
        """Stop sending, and waiting to try again."""
        self._exporter.shutdown()  # type: ignore[no-untyped-call]  # as above


class _Resource(Resource):
    """A resource that is found by its identity: the SDK looks it up for each span, and its own hash is that of a JSON text made anew."""

    __hash__ = object.__hash__

    def __eq__(self, other: object) -> bool:
        return self is other


def _resource() -> Resource:
    """Return what all spans of this process share; what the environment says goes before what we say."""
    ours = {"service.name": "alipayplus-gateway", "service.version": __version__, "service.instance.id": str(uuid4())}
    return _Resource(Resource.create(ours).merge(OTELResourceDetector().detect()).attributes)
