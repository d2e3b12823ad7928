"""What traces cost: the record of an SDK request made and given away, without tracing and with it, to a collector that takes all.

A load says nothing of this size. CPU time is that of the whole process, so that the thread which sends the spans is counted.
"""

import asyncio
import gc
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, HTTPServer
from time import monotonic, process_time
from typing import Final

import structlog
from msgspec import Struct

from gateway.config import Tracing as Settings
from gateway.edge.exchange import Recorder, SdkRecord
from gateway.edge.tracing import Surroundings, Tracing, call_attributes
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.tracing import exporter
from tests.bench.machine import Cores, on_core
from tests.bench.stubs import PROJECT

SHARES: Final = (None, 0.0, 0.01, 1.0)
"""The shares of traces that are taken; None is without tracing."""

_SURROUNDINGS: Final = Surroundings(
    "http",
    "/alipayplus/v1/sdkProxy",
    call_attributes("GET", "127.0.0.1:8081", "http://127.0.0.1:8081/session"),
    "/aps/api/v1/mobile/sdkProxy",
)
_PHASES: Final = ("queue", "sign", "alipayplus", "verify")
_BATCH: Final = 80
_PAUSE: Final = 0.05  # seconds; no queue takes spans as fast as they are made here
_FEWER: Final = 20  # times, where there are pauses


@dataclass(frozen=True, slots=True)
class Cost:
    """CPU microseconds a request."""

    share: float | None
    microseconds: float


class _NoLog:
    access_enabled = False

    def access(self, lines: Sequence[Struct]) -> None:
        raise NotImplementedError


def tracing(cores: Cores, rounds: int, requests: int) -> list[Cost]:
    """Measure each share: the least of so many rounds, since what else the machine does only adds to it."""
    with on_core(cores.others), _collector() as endpoint, on_core(cores.gateway):
        found: dict[float | None, list[float]] = {share: [] for share in SHARES}
        gc.freeze()  # as workers do
        for _ in range(rounds):
            for share in SHARES:
                found[share].append(asyncio.run(_measure(share, endpoint, requests)))
    return [Cost(share, min(times)) for share, times in found.items()]


def report(costs: Sequence[Cost]) -> str:
    """Return a line for each share, and what it costs above none."""
    base = costs[0].microseconds
    names = ["off" if cost.share is None else f"{cost.share:.0%} of the traces" for cost in costs]
    return "\n".join(
        f"tracing {name:<20}{cost.microseconds:8.2f} us a record, {cost.microseconds - base:+.2f} us"
        for name, cost in zip(names, costs, strict=True)
    )


async def _measure(share: float | None, endpoint: str, requests: int) -> float:
    sender = exporter(Settings(otlp_endpoint=endpoint) if share is not None else None, structlog.get_logger())
    tracer = Tracing(share, _SURROUNDINGS, sender.export) if share is not None and sender is not None else None
    recorder = Recorder(Metrics(), _NoLog(), tracer=tracer)
    is_all = share == 1
    count = requests // _FEWER if is_all else requests
    begun = process_time()
    for number in range(count):
        _one(recorder)
        if is_all and number % _BATCH == 0:
            await asyncio.sleep(_PAUSE)
    if sender is not None:
        await sender.close()
    return (process_time() - begun) / count * 1e6


def _one(recorder: Recorder) -> None:
    """Make and give away the record that a successful SDK request leaves."""
    exchange = recorder.begin("POST", "127.0.0.1", version=(1, 1))
    exchange.route, exchange.status = "sdk", 200
    exchange.sdk = SdkRecord("PROXY_SCENE_PAY", "S", "SUCCESS", "SUCCESS", "alipayplus", "answered")
    exchange.note_session(exchange.started, monotonic(), "valid", "call", 200)
    exchange.endpoint, exchange.peer_status = "127.0.0.1:8443", 200
    for phase in _PHASES:
        exchange.phases[phase] = (exchange.started, monotonic())
    recorder.record(exchange)


@contextmanager
def _collector() -> Iterator[str]:
    """Run what takes everything and keeps nothing, in a process of its own."""
    process = subprocess.Popen([sys.executable, "-m", __spec__.name], cwd=PROJECT, stdout=subprocess.PIPE, text=True)
    with process:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.terminate()


class _Sink(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


if __name__ == "__main__":
    server = HTTPServer(("127.0.0.1", 0), _Sink)
    sys.stdout.write(f"http://127.0.0.1:{server.server_port}\n")
    sys.stdout.flush()
    server.serve_forever()
