"""The exporter: what it sends to a real receiver, and what it does when there is none."""

import threading
from collections.abc import AsyncIterator
from pathlib import Path
from time import perf_counter

import pytest
import structlog

from gateway.telemetry.otlp import OtlpExporter
from gateway.telemetry.spans import Kind, Span, Trace
from tests.telemetry.collector import Collector
from tests.upstream.certificates import Authority

OFTEN, QUEUE = "OTEL_BSP_SCHEDULE_DELAY", "OTEL_BSP_MAX_QUEUE_SIZE"


@pytest.fixture
async def collector() -> AsyncIterator[Collector]:
    async with Collector() as collector:
        yield collector


def span(kind: Kind = "server", number: int = 1, error: str | None = None) -> Span:
    return Span("a", kind, f"{number:016x}", "", 1, 2, {"text": "ä", "number": 7}, error)


def trace(*spans: Span, tracestate: str = "") -> Trace:
    return Trace("0af7651916cd43dd8448eb211c80319c", tracestate, spans or (span(),))


async def test_spans_arrive_as_they_are(collector: Collector) -> None:
    log = structlog.testing.CapturingLogger()
    exporter = OtlpExporter(f"{collector.endpoint}/", log)
    exporter.export(trace(span(number=1), span("client", 2, error="why"), span("internal", 3, error=""), tracestate="a=1,b@c=2"))
    await exporter.close()
    assert [(one.kind, one.span_id[-1], one.status, one.message) for one in collector.spans] == [
        ("SERVER", "1", "UNSET", ""),
        ("CLIENT", "2", "ERROR", "why"),
        ("INTERNAL", "3", "ERROR", ""),
    ]
    assert {one.tracestate for one in collector.spans} == {"a=1,b@c=2"}
    assert collector.spans[0].attributes == {"text": "ä", "number": 7}
    assert log.calls == []


async def test_the_environment_says_more(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "wallet-gateway")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-token=abc")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://elsewhere.invalid")
    exporter = OtlpExporter(collector.endpoint, structlog.testing.CapturingLogger())
    exporter.export(trace())
    await exporter.close()
    [one] = collector.spans
    assert (one.resource["service.name"], one.resource["deployment.environment.name"]) == ("wallet-gateway", "test")
    assert collector.headers[0]["x-token"] == "abc"


async def test_a_collector_is_reached_over_TLS_if_its_CA_is_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):  # they would go before it
        monkeypatch.delenv(name, raising=False)
    authority = Authority(tmp_path, "ca")
    log = structlog.testing.CapturingLogger()
    async with Collector(authority.issue("collector", "127.0.0.1").server_context()) as collector:
        stranger = OtlpExporter(collector.endpoint, log)
        stranger.export(trace())
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_CERTIFICATE", str(authority.ca))
        trusting = OtlpExporter(collector.endpoint, log)
        trusting.export(trace())
        await trusting.close()
        assert len(collector.spans) == 1
        await stranger.close()
        assert len(collector.spans) == 1
    assert all(call.args[0].startswith("spans are lost") for call in log.calls)


async def test_what_fails_for_a_while_is_sent_again(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(OFTEN, "10")
    collector.status = 503
    exporter = OtlpExporter(collector.endpoint, structlog.testing.CapturingLogger())
    exporter.export(trace())
    await collector.until_posts(1)
    collector.status = 200
    await collector.until(1)
    await exporter.close()
    assert collector.bodies[0] == collector.bodies[1]


async def test_without_a_thread_for_the_end_spans_are_lost_and_the_worker_ends_as_it_should(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = structlog.testing.CapturingLogger()
    exporter = OtlpExporter(collector.endpoint, log)
    exporter.export(trace())

    def no_thread(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", no_thread)
    await exporter.close()
    assert [call.args for call in log.calls] == [("spans are lost: there is no thread that sends the last ones",)]


async def test_what_is_refused_is_said_once_and_gone(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(OFTEN, "10")
    collector.status = 400
    log = structlog.testing.CapturingLogger()
    exporter = OtlpExporter(collector.endpoint, log)
    exporter.export(trace(span(), span("client")))
    await exporter.close()
    assert [(call.method_name, call.args, call.kwargs) for call in log.calls] == [
        ("warning", ("spans are lost: the collector does not take them",), {"spans": 2})
    ]


async def test_a_silent_collector_costs_a_bounded_queue_and_no_time(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(QUEUE, "600")
    collector.gate.clear()
    log = structlog.testing.CapturingLogger()
    exporter = OtlpExporter(collector.endpoint, log)
    begun = perf_counter()
    for _ in range(20_000):
        exporter.export(trace())
    assert perf_counter() - begun < 5
    assert len(exporter._processor._batch_processor._queue) == 600
    begun = perf_counter()
    await exporter.close()
    assert 1.5 < perf_counter() - begun < 4
    assert [call.args for call in log.calls] == [("spans are lost: the collector does not take them in time",)]
