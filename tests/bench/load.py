"""The load: many connections that each send one request after the other. wrk where it is installed, else a generator of our own."""

import asyncio
import gc
import re
import shutil
import subprocess
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import chain, cycle
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Final, cast

import uvloop

from tests.bench.machine import on_core

_TIMEOUT: Final = 20.0
_LENGTH: Final = re.compile(rb"\r\ncontent-length: *([0-9]+)\r\n", re.IGNORECASE)
_BLANK: Final = b"\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a load: requests answered, requests per second, two quantiles of their latency in milliseconds, and errors.

    Our own generator tells those that were refused with 503 apart; they count as errors too. It tells `p99_of_seconds`, too: the median of
    what p99 was in each second, which a stall of the machine in some of them leaves as it is.
    """

    requests: int
    per_second: float
    p50: float
    p99: float
    errors: int
    refused: int = 0
    refused_p99: float = 0.0
    p99_of_seconds: float = 0.0

    @property
    def latency(self) -> str:
        """What our own generator tells of it, in words."""
        return f"p50 {self.p50:.1f} ms, p99 {self.p99:.1f} ms, {self.p99_of_seconds:.1f} ms in a second (median)"


class LoadFailed(Exception):
    """The load generator did not run; the text holds what it said."""


Load = Callable[[int, float], Outcome]
"""Loads a port of 127.0.0.1 for so many seconds."""


class BuiltIn:
    """Our own generator. `requests` are whole HTTP requests that are sent in turn, as fast as they are answered or `rate` a second.

    Without a rate, only so many as `at_once` are in flight, if that is given: with each answer the next connection sends, all in turn. The
    load begins `onset` seconds before what comes of it counts.
    """

    def __init__(
        self,
        folder: Path,
        requests: list[bytes],
        connections: int,
        core: int,
        rate: float | None = None,
        *,
        at_once: int | None = None,
        onset: float = 0.0,
    ) -> None:
        _ = folder
        self._requests, self._connections, self._core = requests, connections, core
        self._pause = connections / rate if rate else 0.0
        self._at_once = at_once or connections
        self._onset = onset

    def __call__(self, port: int, seconds: float) -> Outcome:
        """Load `port` for so many seconds."""
        with on_core(self._core), _uncollected(), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(self._run(port, seconds))

    async def _run(self, port: int, seconds: float) -> Outcome:
        loop = asyncio.get_running_loop()
        tally = _Tally(cycle(self._requests))
        new = partial(_Client, tally, self._pause)
        clients = [(await loop.create_connection(new, "127.0.0.1", port))[1] for _ in range(self._connections)]
        begun = perf_counter()
        tally.begun, tally.ends = begun + self._onset, begun + self._onset + seconds
        tally.resting.extend(clients[self._at_once :])
        for place, client in enumerate(clients[: self._at_once]):
            client.begin(begun + self._pause * place / self._connections)
        await asyncio.wait([client.done for client in clients], timeout=self._onset + seconds + _TIMEOUT)
        tally.errors += sum(not client.done.done() for client in clients)
        return tally.outcome(perf_counter() - tally.begun)


@contextmanager
def _uncollected() -> Iterator[None]:
    """Let no garbage be collected meanwhile: that takes 20 ms and more, in which nothing is sent, and then all that is due at once."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


class _Tally:
    """What all connections have seen since `begun`, and what they send next, and which."""

    def __init__(self, requests: Iterator[bytes]) -> None:
        self.requests = requests
        self.resting: deque[_Client] = deque()  # those whose turn it is not
        self.begun = self.ends = 0.0
        self.latencies: defaultdict[int, list[float]] = defaultdict(list)  # by the second in which the answer came
        self.refused: list[float] = []
        self.errors = 0

    def take(self, seconds: float, answer: bytes, *, is_whole: bool) -> None:
        passed = perf_counter() - self.begun
        if passed < 0:
            return
        if is_whole and answer.startswith(b"HTTP/1.1 200 "):
            self.latencies[int(passed)].append(seconds)
            return
        self.errors += 1
        if answer.startswith(b"HTTP/1.1 503 "):
            self.refused.append(seconds)

    def outcome(self, seconds: float) -> Outcome:
        latencies, refused = list(chain.from_iterable(self.latencies.values())), self.refused
        whole = max(1, int(self.ends - self.begun))
        by_second = median(_milliseconds_of(self.latencies[second], 0.99) for second in range(whole))
        p50, p99, refused_p99 = (_milliseconds_of(*each) for each in ((latencies, 0.5), (latencies, 0.99), (refused, 0.99)))
        return Outcome(len(latencies), len(latencies) / seconds, p50, p99, self.errors, len(refused), refused_p99, by_second)


def _milliseconds_of(latencies: list[float], share: float) -> float:
    ordered = sorted(latencies) or [0.0]
    return ordered[int(len(ordered) * share)] * 1000


class _Client(asyncio.Protocol):
    """One connection: a request, its whole answer, the next request, until the time is over.

    With a `pause` a request is due each so many seconds, and its latency counts from then.
    """

    def __init__(self, tally: _Tally, pause: float) -> None:
        self._tally = tally
        self._held = b""
        self._due, self._pause = 0.0, pause
        self._loop = asyncio.get_running_loop()
        self.done: asyncio.Future[None] = self._loop.create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's do not derive from it

    def begin(self, due: float) -> None:
        """Send the first request when it is due."""
        self._due = due
        self._next()

    def data_received(self, data: bytes) -> None:
        self._held += data
        head = self._held.find(_BLANK)
        if head < 0:
            return
        length = _LENGTH.search(self._held, 0, head + 2)
        if length is not None and len(self._held) < head + len(_BLANK) + int(length[1]):
            return
        latency = max(0.0, perf_counter() - self._due)  # the loop's timers come up to a millisecond early
        self._tally.take(latency, self._held, is_whole=length is not None)
        self._held = b""
        self._due += self._pause
        self._tally.resting.append(self)
        self._tally.resting.popleft()._next()  # as a rule this one

    def connection_lost(self, _: Exception | None) -> None:
        if not self.done.done():
            self._tally.errors += 1
            self.done.set_result(None)

    def _next(self) -> None:
        now = perf_counter()
        if max(now, self._due) >= self._tally.ends:
            self._end()
        elif self._pause and self._due > now:
            self._loop.call_later(self._due - now, self._send)
        else:
            self._due = self._due if self._pause else now
            self._send()

    def _end(self) -> None:
        resting, self._tally.resting = self._tally.resting, deque()
        for client in (self, *resting):
            if not client.done.done():
                client.done.set_result(None)
            client._transport.close()

    def _send(self) -> None:
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
