"""The bench: rounds over the paths, each with a gateway and stubs of its own, the floor measured around each, medians in one table."""

import argparse
import platform
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import mean
from tempfile import TemporaryDirectory
from typing import Any, Final, TextIO

from gateway.simulator.answers import sample
from tests.bench import bounds, crowd, overload, soak, telemetry, tracing
from tests.bench.crowd import Attacked, CrowdFailed, Idle
from tests.bench.floor import RsaFloor
from tests.bench.load import BuiltIn, Load, LoadFailed, Wrk, has_wrk
from tests.bench.machine import Cores, Steal
from tests.bench.program import API, PREFIX, Gateway, GatewayFailed
from tests.bench.report import Measured, Memory, table
from tests.bench.soak import Soak
from tests.bench.stubs import Stubs, StubsFailed, has_nginx, nginx, simulator
from tests.bench.telemetry import Scrape

PATHS: Final = {"session called out": 0, "session cached": 3600}
"""The paths that are measured, with the time to live of the session cache in seconds."""
STUBS: Final[dict[str, Callable[[Path, int], AbstractContextManager[Stubs]]]] = {"nginx": nginx, "simulator": simulator}
LOADS: Final[dict[str, Callable[[Path, list[bytes], int, int], Load]]] = {"wrk": Wrk, "builtin": BuiltIn}

_WARM_UP: Final = 2.0  # seconds
_FLOOR: Final = 0.3  # seconds
_SLICE: Final = 10.0  # seconds
_LOGINS_PER_CONNECTION: Final = 8
_STARTS: Final = 5
_LARGEST: Final = 1 << 20  # bytes: sdk_proxy.max_body
_MANY: Final = 512  # connections of a load that comes when it is due
_CROWD: Final = 1024  # of the API's overload: the requests of 640 clients are none
_BODY: Final = b"x" * 200  # of an API request
_OTHERS: Final = 100.0  # requests a second beside a crowd


@dataclass(frozen=True, slots=True)
class Bench:
    """What is measured with what, for how long."""

    cores: Cores
    floor: RsaFloor
    stubs: str
    load: str
    connections: int
    seconds: float

    def measure(self, session_ttl: int) -> Measured:
        """Start everything, warm it up, load it once and stop it."""
        with self._running(session_ttl) as (gateway, generate):
            return self._measure(gateway, generate)

    def memory(self, requests: int) -> Memory:
        """Start everything and look at the memory at each quarter of so many requests, each with a call-out."""
        with self._running(0) as (gateway, generate):
            outcome = generate(gateway.port, min(_WARM_UP, self.seconds))
            errors, served, resident = outcome.errors, 0, [gateway.resident_mib()]
            for quarter in (1, 2, 3, 4):
                while served < requests * quarter / 4:
                    left = (requests * quarter / 4 - served) / max(outcome.per_second, 1)
                    outcome = generate(gateway.port, min(max(left, 0.1), _SLICE))
                    served, errors = served + outcome.requests, errors + outcome.errors
                resident.append(gateway.resident_mib())
        return Memory(served, resident, errors)

    def idle(self, connections: int) -> Idle:
        """Start everything and look at what so many idle connections cost."""
        with self._running(0, limits=crowd.LIMITS) as (gateway, _):
            return crowd.idle(gateway, self.paced(_OTHERS), connections, self.seconds)

    def attacked(self) -> list[Attacked]:
        """Start everything and look at what attackers do to others."""
        with self._running(0, limits=crowd.LIMITS) as (gateway, _):
            return list(crowd.attacked(gateway, self.paced(_OTHERS), self.seconds, self.cores.others))

    def soak(self, minutes: float) -> Soak:
        """Start everything and soak it for so many minutes."""
        with self._running(0) as (gateway, _):
            return soak.soak(gateway, self.paced, minutes)

    def scrape(self) -> Scrape:
        """Start several workers, load them once and look what a scrape takes."""
        with self._running(0, workers=telemetry.WORKERS) as (gateway, generate):
            return telemetry.scrape(gateway, generate, min(_WARM_UP, self.seconds))

    def bounds(self) -> str:
        """Measure what is promised in figures besides."""
        starts = []
        for _ in range(_STARTS):
            with self._running(0) as (gateway, _):
                starts.append(gateway.started_in)
        with self._running(0) as (gateway, _):
            beside = bounds.api_beside(gateway, self.paced(_OTHERS, made=api_requests(self.connections)), self.paced, self.seconds)
        with self._running(0) as (gateway, _):
            body = large_body()
            load = self.paced(None, bounds.LARGE, requests(bounds.LARGE, body))
            large = bounds.large_bodies(gateway, self.paced(None), load, len(body), self.seconds)
        return bounds.report(starts, large, beside)

    def overload(self, rounds: int) -> str:
        """Start everything, load each path as usual and beyond what it can carry, in so many rounds."""
        api = api_requests(_CROWD)
        kinds = {"API": (api, _CROWD), "API, with bodies": (api_requests(_CROWD, _BODY), _CROWD), "SDK": (requests(_MANY), _MANY)}
        with self._running(0) as (gateway, _):
            reports = []
            for name, (made, clients) in kinds.items():
                path = overload.Path(
                    peak=self.paced(None, clients, made, at_once=self.connections),
                    paced=partial(self.paced, connections=clients, made=made, onset=overload.ONSET_SECONDS),
                    alone=partial(self.paced, connections=clients, made=api),
                )
                reports.append(overload.report(name, overload.overload(gateway, path, self.seconds, rounds)))
            return "\n".join(reports)

    def paced(
        self,
        rate: float | None,
        connections: int | None = None,
        made: list[bytes] | None = None,
        *,
        at_once: int | None = None,
        onset: float = 0.0,
    ) -> Load:
        """Return a load of so many requests a second, or of as many as are answered: SDK calls, or what is `made`.

        Only so many as `at_once` are in flight, if that is given. It begins `onset` seconds before it counts.
        """
        connections = connections or self.connections
        made = made or requests(connections)
        return BuiltIn(Path(), made, connections, self.cores.others, rate, at_once=at_once, onset=onset)

    @contextmanager
    def _running(self, session_ttl: int, **server: Any) -> Iterator[tuple[Gateway, Load]]:
        with TemporaryDirectory() as name:
            folder = Path(name)
            generate = LOADS[self.load](folder, requests(self.connections), self.connections, self.cores.others)
            with (
                STUBS[self.stubs](folder, self.cores.others) as peers,
                Gateway(folder, peers, self.cores.gateway, session_ttl=session_ttl, **server) as gateway,
            ):
                yield gateway, generate
                served = gateway.usage().requests
            if gateway.access_lines < served:
                raise GatewayFailed(f"{gateway.access_lines} access lines for {served:.0f} requests")

    def _measure(self, gateway: Gateway, generate: Load) -> Measured:
        warm = generate(gateway.port, min(_WARM_UP, self.seconds))
        floors = [self.floor.measure(_FLOOR)]
        before = gateway.usage()
        outcome = generate(gateway.port, self.seconds)
        after = gateway.usage()
        floors.append(self.floor.measure(_FLOOR))
        served = max(after.requests - before.requests, 1)
        return Measured(
            per_second=outcome.per_second,
            cpu=(after.cpu - before.cpu) / served * 1e6,
            sign=mean(floor.sign for floor in floors),
            verify=mean(floor.verify for floor in floors),
            p50=outcome.p50,
            p99=outcome.p99,
            resident=gateway.resident_mib(),
            call_outs=(after.call_outs - before.call_outs) / served,
            errors=warm.errors + outcome.errors,
        )


def api_requests(connections: int, body: bytes = b"") -> list[bytes]:
    """Return a request of the API under many logins: a GET, or a POST with that body."""
    method, framing = ("POST", f"Content-Length: {len(body)}\r\n") if body else ("GET", "")
    head = f"{method} {API} HTTP/1.1\r\nHost: gateway.bench\r\n{framing}"
    logins = range(connections * _LOGINS_PER_CONNECTION)
    return [f"{head}Authorization: Bearer api-{login:06d}\r\n\r\n".encode() + body for login in logins]


def large_body() -> bytes:
    """Return a body as large as it may be."""
    begin, end = b'{"proxyRequestHeader":"","proxyRequestData":"', b'"}'
    return begin + b"x" * (_LARGEST - len(begin) - len(end)) + end


def requests(connections: int, body: bytes | None = None) -> list[bytes]:
    """Return the specification's sample request under many logins: two calls in flight never share one, or they would share its check."""
    body = body or sample("app-request")
    head = f"POST {PREFIX}/v1/sdkProxy HTTP/1.1\r\nHost: gateway.bench\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    logins = range(connections * _LOGINS_PER_CONNECTION)
    return [f"{head}Authorization: Bearer demo-token-{login:06d}\r\n\r\n".encode() + body for login in logins]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure as the options say and print the table. Returns 0, or 1 when a program does not run."""
    options = _parser().parse_args(arguments)
    cores = Cores.choose()
    floor = RsaFloor(cores.gateway, sample("app-request"), sample("alipayplus-response"))
    bench = Bench(cores, floor, options.stubs, options.load, options.connections, options.seconds)
    _say(f"Python {platform.python_version()}; {bench.cores}; stubs: {bench.stubs}")
    steal = Steal()
    try:
        measured = _MEASUREMENTS[options.what](bench, options)
        _say(f"other machines took {steal.share():.0%} of this one's cores meanwhile", sys.stderr)
        _say(measured)
    except (GatewayFailed, StubsFailed, LoadFailed, CrowdFailed) as error:
        _say(f"bench: {error}", sys.stderr)
        return 1
    return 0


def _measure_paths(bench: Bench, options: argparse.Namespace) -> str:
    _say(f"load: {bench.load}, {bench.connections} connections; medians of {options.rounds} rounds of {bench.seconds:g} s")
    rounds: dict[str, list[Measured]] = {path: [] for path in PATHS}
    for number in range(options.rounds):
        for path, session_ttl in PATHS.items():
            rounds[path].append(bench.measure(session_ttl))
            _say(f"round {number + 1}, {path}: {rounds[path][-1].per_second:.0f} requests/s", sys.stderr)
    return table(rounds, bench.memory(options.requests) if options.memory else None)


_MEASUREMENTS: Final[dict[str, Callable[[Bench, argparse.Namespace], str]]] = {
    "paths": _measure_paths,
    "idle": lambda bench, options: crowd.report(bench.idle(options.idle), []),
    "attackers": lambda bench, _: crowd.report(None, bench.attacked()),
    "bounds": lambda bench, _: bench.bounds(),
    "overload": lambda bench, options: bench.overload(options.rounds),
    "soak": lambda bench, options: soak.report(bench.soak(options.minutes)),
    "telemetry": lambda bench, options: telemetry.report(telemetry.record(bench.cores, options.rounds, options.requests), bench.scrape()),
    "tracing": lambda bench, options: tracing.report(tracing.tracing(bench.cores, options.rounds, options.requests)),
}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="make bench ARGS=...", description="Measures the SDK path of the gateway on this machine.")
    parser.add_argument("what", nargs="?", choices=_MEASUREMENTS, default="paths", help="what to measure (default: %(default)s)")
    parser.add_argument("--idle", type=int, default=10_000, help="how many connections idle (default: %(default)s)")
    parser.add_argument("--minutes", type=float, default=10, help="how long the soak lasts (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=6, help="how long each load lasts (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="the figures are medians over so many (default: %(default)s)")
    parser.add_argument("--connections", type=int, default=32, help="connections of the load (default: %(default)s)")
    parser.add_argument("--memory", action="store_true", help="look at the memory over many requests, too")
    parser.add_argument("--requests", type=int, default=100_000, help="how many with --memory (default: %(default)s)")
    parser.add_argument("--stubs", choices=STUBS, default="nginx" if has_nginx() else "simulator", help="(default: %(default)s)")
    parser.add_argument("--load", choices=LOADS, default="wrk" if has_wrk() else "builtin", help="(default: %(default)s)")
    return parser


def _say(text: str, stream: TextIO = sys.stdout) -> None:
    stream.write(f"{text}\n")
    stream.flush()
