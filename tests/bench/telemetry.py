"""What being seen costs: metrics and access line of an SDK request, and a scrape of several workers.

The first is of a size that a load says nothing of: it is measured on the record of a request, with the log going to a pipe that somebody
reads. CPU time is that of the whole process, so that the thread which writes the log is counted.
"""

import asyncio
import gc
import logging
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median
from time import monotonic, perf_counter, process_time
from typing import Final

from msgspec import Struct

from gateway.config.model import Log
from gateway.config.values import Secret
from gateway.edge.exchange import Exchange, Recorder, SdkRecord
from gateway.telemetry.log import AccessLog, Logs
from gateway.telemetry.metrics import Metrics
from tests.bench.load import Load
from tests.bench.machine import Cores, cpu_seconds, on_core
from tests.bench.program import Gateway

WORKERS: Final = 4
TARGET_RECORD: Final = 45
"""Microseconds of CPU for metrics and access line of a request."""
TARGET_SCRAPE: Final = 50
"""Milliseconds."""

_PHASES: Final = ("queue", "sign", "alipayplus", "verify")
_TIME: Final = "2026-01-01T00:00:00+00:00"
_CUSTOMER: Final = "20200415111215830128DANAW3ID123000000002"
_BATCH: Final = 50
_PAUSE: Final = 0.002  # seconds; at full speed the log's buffer would be full
_SCRAPES: Final = 50


@dataclass(frozen=True, slots=True)
class Record:
    """CPU microseconds a request: of a record that is thrown away, of one that is counted, and of one that is counted and logged."""

    nothing: float
    counted: float
    logged: float
    dropped: float


@dataclass(frozen=True, slots=True)
class Scrape:
    """Milliseconds from asking to the last byte, and of CPU in all processes; bytes."""

    middle: float
    longest: float
    cpu: float
    size: int


class _NoLog:
    access_enabled = False

    def access(self, lines: Sequence[Struct]) -> None:
        raise NotImplementedError


def record(cores: Cores, rounds: int, requests: int) -> Record:
    """Measure records: the least of so many rounds, since what else the machine does only adds to it."""
    with _reader(cores.others) as descriptor, on_core(cores.gateway):
        metrics = Metrics()
        logs = Logs(Log(customer_hash_key=Secret("bench")), on_drop=metrics.log_lines_dropped.inc, out=descriptor)
        gc.freeze()  # as workers do
        found = [
            (
                asyncio.run(_measure(None, None, requests)),
                asyncio.run(_measure(metrics, _NoLog(), requests)),
                asyncio.run(_measure(metrics, logs, requests)),
            )
            for _ in range(rounds)
        ]
        logs.close()
        logging.getLogger().handlers.clear()
    nothing, counted, logged = map(min, zip(*found, strict=True))
    return Record(nothing, counted, logged, metrics.registry.get_sample_value("gateway_log_lines_dropped_total") or 0)


def scrape(gateway: Gateway, generate: Load, seconds: float) -> Scrape:
    """Scrape a gateway, one that has been under load and is not any more."""
    generate(gateway.port, seconds)
    size, times, before = 0, [], cpu_seconds(gateway.pid)
    for _ in range(_SCRAPES):
        begun = perf_counter()
        size = len(gateway.scrape())
        times.append((perf_counter() - begun) * 1e3)
    return Scrape(median(times), max(times), (cpu_seconds(gateway.pid) - before) / _SCRAPES * 1e3, size)


def report(cost: Record, scraped: Scrape) -> str:
    """Return a line for each figure, with its target."""
    counted, logged = cost.counted - cost.nothing, cost.logged - cost.nothing
    records = f"metrics {counted:.1f} us, access log {logged - counted:.1f} us, together {logged:.1f} us of CPU a request"
    scrapes = f"scrape of {WORKERS} workers: median {scraped.middle:.1f} ms, longest {scraped.longest:.1f} ms (target {TARGET_SCRAPE})"
    return (
        f"{records} (target {TARGET_RECORD}); lines dropped: {cost.dropped:.0f}\n"
        f"{scrapes}, {scraped.cpu:.1f} ms of CPU in all processes, {scraped.size} bytes"
    )


async def _measure(metrics: Metrics | None, logs: AccessLog | None, requests: int) -> float:
    recorder = Recorder(metrics, logs) if metrics is not None and logs is not None else None
    making = recorder or Recorder(Metrics(), _NoLog())
    hashed = logs.customer if isinstance(logs, Logs) else None
    begun = process_time()
    for number in range(requests):
        exchange = _made(making)
        if metrics is not None and recorder is not None:
            _count_around(metrics)
            if hashed is not None and exchange.sdk is not None:
                exchange.sdk.customer = hashed(_CUSTOMER)
            recorder.record(exchange)
        if number % _BATCH == 0:
            await asyncio.sleep(_PAUSE)
    return (process_time() - begun) / requests * 1e6


def _made(recorder: Recorder) -> Exchange:
    """Make the record that a successful SDK request leaves."""
    exchange = recorder.begin("POST", "127.0.0.1", version=(1, 1))
    exchange.route, exchange.status, exchange.bytes_in, exchange.bytes_out = "sdk", 200, 400, 900
    exchange.sdk = SdkRecord("PROXY_SCENE_PAY", "S", "SUCCESS", "SUCCESS", "alipayplus", "answered", _TIME, _TIME, "1")
    exchange.note_session(exchange.started, monotonic(), "valid", "call", 200)
    exchange.endpoint, exchange.peer_status = "127.0.0.1:8443", 200
    for phase in _PHASES:
        exchange.phases[phase] = (exchange.started, monotonic())
    return exchange


def _count_around(metrics: Metrics) -> None:
    """Count what is counted of a request before its record is complete."""
    metrics.session_checks("valid", "call").inc()
    metrics.upstream_requests("session", "127.0.0.1:8081", "ok").inc()
    metrics.upstream_requests("alipayplus", "127.0.0.1:8443", "ok").inc()
    metrics.clock_offset.set(0.1)


@contextmanager
def _reader(core: int) -> Iterator[int]:
    """Run what reads the log, and give the pipe to it."""
    with on_core(core):
        process = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    with process:
        assert process.stdin is not None
        yield process.stdin.fileno()
        process.stdin.close()
