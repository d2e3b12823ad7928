"""The bench: rounds over the paths, each with a gateway and stubs of its own, the floor measured around each, medians in one table."""

import argparse
import platform
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from tempfile import TemporaryDirectory
from typing import Final, TextIO

from gateway.simulator.answers import sample
from tests.bench.floor import RsaFloor
from tests.bench.load import BuiltIn, Load, LoadFailed, Wrk, has_wrk
from tests.bench.machine import Cores
from tests.bench.program import PREFIX, Gateway, GatewayFailed
from tests.bench.report import Measured, Memory, table
from tests.bench.stubs import Stubs, StubsFailed, has_nginx, nginx, simulator

PATHS: Final = {"session called out": 0, "session cached": 3600}
"""The paths that are measured, with the time to live of the session cache in seconds."""
STUBS: Final[dict[str, Callable[[Path, int], AbstractContextManager[Stubs]]]] = {"nginx": nginx, "simulator": simulator}
LOADS: Final[dict[str, Callable[[Path, list[bytes], int, int], Load]]] = {"wrk": Wrk, "builtin": BuiltIn}

_WARM_UP: Final = 2.0  # seconds
_FLOOR: Final = 0.3  # seconds
_SLICE: Final = 10.0  # seconds
_LOGINS_PER_CONNECTION: Final = 8


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

    @contextmanager
    def _running(self, session_ttl: int) -> Iterator[tuple[Gateway, Load]]:
        with TemporaryDirectory() as name:
            folder = Path(name)
            generate = LOADS[self.load](folder, requests(self.connections), self.connections, self.cores.others)
            with (
                STUBS[self.stubs](folder, self.cores.others) as peers,
                Gateway(folder, peers, self.cores.gateway, session_ttl=session_ttl) as gateway,
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


def requests(connections: int) -> list[bytes]:
    """Return the specification's sample request under many logins: two calls in flight never share one, or they would share its check."""
    body = sample("app-request")
    head = f"POST {PREFIX}/v1/sdkProxy HTTP/1.1\r\nHost: gateway.bench\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    logins = range(connections * _LOGINS_PER_CONNECTION)
    return [f"{head}Authorization: Bearer demo-token-{login:06d}\r\n\r\n".encode() + body for login in logins]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure as the options say and print the table. Returns 0, or 1 when a program does not run."""
    options = _parser().parse_args(arguments)
    cores = Cores.choose()
    floor = RsaFloor(cores.gateway, sample("app-request"), sample("alipayplus-response"))
    bench = Bench(cores, floor, options.stubs, options.load, options.connections, options.seconds)
    _say(_heading(bench, options.rounds))
    rounds: dict[str, list[Measured]] = {path: [] for path in PATHS}
    try:
        for number in range(options.rounds):
            for path, session_ttl in PATHS.items():
                rounds[path].append(bench.measure(session_ttl))
                _say(f"round {number + 1}, {path}: {rounds[path][-1].per_second:.0f} requests/s", sys.stderr)
        memory = bench.memory(options.requests) if options.memory else None
    except (GatewayFailed, StubsFailed, LoadFailed) as error:
        _say(f"bench: {error}", sys.stderr)
        return 1
    _say(table(rounds, memory))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="make bench ARGS=...", description="Measures the SDK path of the gateway on this machine.")
    parser.add_argument("--seconds", type=float, default=6, help="how long each load lasts (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="the figures are medians over so many rounds (default: %(default)s)")
    parser.add_argument("--connections", type=int, default=32, help="connections of the load (default: %(default)s)")
    parser.add_argument("--memory", action="store_true", help="look at the memory over many requests, too")
    parser.add_argument("--requests", type=int, default=100_000, help="how many with --memory (default: %(default)s)")
    parser.add_argument("--stubs", choices=STUBS, default="nginx" if has_nginx() else "simulator", help="(default: %(default)s)")
    parser.add_argument("--load", choices=LOADS, default="wrk" if has_wrk() else "builtin", help="(default: %(default)s)")
    return parser


def _heading(bench: Bench, rounds: int) -> str:
    programs = f"stubs: {bench.stubs}; load: {bench.load}, {bench.connections} connections"
    return f"Python {platform.python_version()}; {bench.cores}; {programs}; medians of {rounds} rounds of {bench.seconds:g} s"


def _say(text: str, stream: TextIO = sys.stdout) -> None:
    stream.write(f"{text}\n")
    stream.flush()
