"""The load: many connections that each send one request after the other. wrk where it is installed, else a generator of our own."""

import asyncio
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from time import perf_counter
from typing import Final, cast

import uvloop

from tests.bench.machine import on_core

_TIMEOUT: Final = 20.0
_LENGTH: Final = re.compile(rb"\r\ncontent-length: *([0-9]+)\r\n", re.IGNORECASE)
_BLANK: Final = b"\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a load: requests answered, requests per second, two quantiles of their latency in milliseconds, and errors."""

    requests: int
    per_second: float
    p50: float
    p99: float
    errors: int


class LoadFailed(Exception):
    """The load generator did not run; the text holds what it said."""


Load = Callable[[int, float], Outcome]
"""Loads a port of 127.0.0.1 for so many seconds."""


class BuiltIn:
    """Our own generator. `requests` are whole HTTP requests that are sent in turn."""

    def __init__(self, folder: Path, requests: list[bytes], connections: int, core: int) -> None:
        _ = folder
        self._requests, self._connections, self._core = requests, connections, core

    def __call__(self, port: int, seconds: float) -> Outcome:
        """Load `port` for so many seconds."""
        with on_core(self._core), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(self._run(port, seconds))

    async def _run(self, port: int, seconds: float) -> Outcome:
        loop = asyncio.get_running_loop()
        tally = _Tally(cycle(self._requests), perf_counter() + seconds)
        begun = perf_counter()
        clients = [(await loop.create_connection(lambda: _Client(tally), "127.0.0.1", port))[1] for _ in range(self._connections)]
        await asyncio.wait([client.done for client in clients], timeout=seconds + _TIMEOUT)
        tally.errors += sum(not client.done.done() for client in clients)
        return tally.outcome(perf_counter() - begun)


class _Tally:
    """What all connections have seen, and what they send next."""

    def __init__(self, requests: Iterator[bytes], ends: float) -> None:
        self.requests = requests
        self.ends = ends
        self.latencies: list[float] = []
        self.errors = 0

    def outcome(self, seconds: float) -> Outcome:
        ordered = sorted(self.latencies) or [0.0]
        p50, p99 = (ordered[int(len(ordered) * share)] * 1000 for share in (0.5, 0.99))
        count = len(self.latencies)
        return Outcome(count, count / seconds, p50, p99, self.errors)


class _Client(asyncio.Protocol):
    """One connection: a request, its whole answer, the next request, until the time is over."""

    def __init__(self, tally: _Tally) -> None:
        self._tally = tally
        self._held = b""
        self._sent = 0.0
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's do not derive from it
        self._next()

    def data_received(self, data: bytes) -> None:
        self._held += data
        head = self._held.find(_BLANK)
        if head < 0:
            return
        length = _LENGTH.search(self._held, 0, head + 2)
        if length is not None and len(self._held) < head + len(_BLANK) + int(length[1]):
            return
        self._tally.latencies.append(perf_counter() - self._sent)
        self._tally.errors += length is None or not self._held.startswith(b"HTTP/1.1 200 ")
        self._held = b""
        self._next()

    def connection_lost(self, _: Exception | None) -> None:
        if not self.done.done():
            self._tally.errors += 1
            self.done.set_result(None)

    def _next(self) -> None:
        self._sent = perf_counter()
        if self._sent >= self._tally.ends:
            self.done.set_result(None)
            self._transport.close()
        else:
            self._transport.write(next(self._tally.requests))


class Wrk:
    """wrk, which costs a tenth of our own generator."""

    def __init__(self, folder: Path, requests: list[bytes], connections: int, core: int) -> None:
        self._script = folder / "load.lua"
        self._script.write_text(_lua(requests))
        self._connections, self._core = connections, core

    def __call__(self, port: int, seconds: float) -> Outcome:
        """Load `port` for so many seconds, of which wrk knows whole ones only."""
        options = ["-t1", f"-c{self._connections}", f"-d{max(1, round(seconds))}s", "--latency", f"--timeout={_TIMEOUT:.0f}s"]
        command = ["wrk", *options, "-s", str(self._script), f"http://127.0.0.1:{port}/"]
        with on_core(self._core):
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise LoadFailed(done.stderr or done.stdout)
        return parse_report(done.stdout)


def parse_report(report: str) -> Outcome:
    """Read what wrk prints."""
    refused = _number(report, r"Non-2xx or 3xx responses: (\d+)")
    broken = sum(int(count) for count in re.findall(r"(?:connect|read|write|timeout) (\d+)", report))
    return Outcome(
        int(_number(report, r"(\d+) requests in")),
        _number(report, r"Requests/sec: +([\d.]+)"),
        _milliseconds(report, "50"),
        _milliseconds(report, "99"),
        int(refused) + broken,
    )


def _number(report: str, pattern: str) -> float:
    found = re.search(pattern, report)
    return float(found[1]) if found else 0.0


def _milliseconds(report: str, percent: str) -> float:
    found = re.search(rf"^ +{percent}% +([\d.]+)(us|ms|s|m)$", report, re.MULTILINE)
    return float(found[1]) * {"us": 0.001, "ms": 1, "s": 1000, "m": 60000}[found[2]] if found else 0.0


def _lua(requests: list[bytes]) -> str:
    """Write a script of wrk's that sends the same bytes; decimal escapes, since Lua's long strings lose CR."""
    literals = ",\n".join('"' + "".join(f"\\{byte:03d}" for byte in request) + '"' for request in requests)
    return f"local requests, at = {{{literals}}}, 0\nfunction request() at = at % #requests + 1; return requests[at] end\n"


def has_wrk() -> bool:
    """Whether wrk is installed."""
    return shutil.which("wrk") is not None
