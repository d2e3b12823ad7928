"""What else is promised in figures: the start, memory for large bodies and for kept sessions, many routes, and the API beside SDK calls."""

from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b
from multiprocessing import get_context
from os import getpid
from statistics import median
from threading import Event, Thread
from time import perf_counter
from typing import Final

from gateway.edge.routes import Route
from gateway.edge.routing import RouteTable
from gateway.edge.target import parse
from gateway.session.cache import Cache
from gateway.session.check import Identity, Verdict
from tests.bench.load import Load, Outcome
from tests.bench.machine import resident_mib
from tests.bench.program import Gateway

USUAL: Final = 0.7
ENTRIES: Final = 100_000
ROUTES: Final = 1_000
LARGE: Final = 64
_CUSTOMER: Final = "20200415111215830128DANAW3ID{:012d}"
_MATCHES: Final = 20_000
_REPEATS: Final = 5
_LOOKS: Final = 0.02  # seconds


@dataclass(frozen=True, slots=True)
class Large:
    """So many requests with `mib` of body in all, at once, and by how many MiB they raised the resident memory at most."""

    mib: float
    raised: float
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Beside:
    """The latency of API requests alone, and beside SDK calls that take 70 % of what the gateway can carry.

    `stub` is that of the stub itself beside these calls, which answers from memory: the machine's part.
    """

    alone: Outcome
    beside: Outcome
    stub: Outcome
    calls: Outcome


def large_bodies(gateway: Gateway, usual: Load, load: Load, size: int, seconds: float) -> Large:
    """Load the gateway with LARGE requests of this size at once, after the usual ones."""
    usual(gateway.port, seconds / 2)
    before = gateway.resident_mib()
    with _highest(gateway.resident_mib) as highest:
        outcome = load(gateway.port, seconds)
    return Large(LARGE * size / 2**20, highest() - before, outcome)


def api_beside(gateway: Gateway, api: Load, paced: Callable[[float | None], Load], seconds: float) -> Beside:
    """Measure the API alone, find what SDK calls the gateway can carry, and measure the API beside 70 % of these."""
    api(gateway.port, seconds / 2)
    alone = api(gateway.port, seconds)
    peak = paced(None)(gateway.port, seconds / 2).per_second
    with ProcessPoolExecutor(1, get_context("spawn")) as other:  # a generator in this process would delay the other one
        calls = other.submit(paced(peak * USUAL), gateway.port, 2 * seconds + 1)
        beside, stub = api(gateway.port, seconds), api(gateway.stub_port, seconds)
        return Beside(alone, beside, stub, calls.result())


def kept_sessions() -> float:
    """Return how many MiB ENTRIES kept sessions take."""
    before = resident_mib(getpid())
    cache = Cache(ENTRIES)
    for number in range(ENTRIES):
        key = blake2b(str(number).encode(), digest_size=32).digest()
        cache.put(key, Verdict("valid", Identity(_CUSTOMER.format(number))), 1e9 + number)
    assert len(cache) == ENTRIES
    return resident_mib(getpid()) - before


def many_routes() -> tuple[float, float]:
    """Return microseconds to find the route of a request among one, and among ROUTES."""
    one = _matching([Route("/service-500/v1", "wallet")])
    return one, _matching([Route(f"/service-{number}/v1", "wallet") for number in range(ROUTES)])


def report(starts: list[float], large: Large, beside: Beside) -> str:
    """Return the lines of what was measured."""
    one, many = many_routes()
    raised = f"{large.raised:.0f} MiB more, {large.raised / large.mib:.1f} times"
    lines = [
        f"start to ready, one worker: {median(starts):.2f} s",
        f"{LARGE} SDK requests at once, {large.mib:.0f} MiB: {raised}; errors: {large.outcome.errors}",
        f"{ENTRIES} kept sessions: {kept_sessions():.1f} MiB",
        f"finding a route among {ROUTES}: {many:.2f} us; among one: {one:.2f} us",
        f"API alone: {_latency(beside.alone)}; beside {beside.calls.per_second:.0f} SDK calls/s: {_latency(beside.beside)}",
        f"the stub itself beside these: {_latency(beside.stub)}",
    ]
    return "\n".join(lines)


def _latency(outcome: Outcome) -> str:
    return f"{outcome.latency}, errors: {outcome.errors}"


def _matching(routes: list[Route]) -> float:
    table = RouteTable(routes, "/alipayplus")
    target = parse("/service-500/v1/orders?id=1")
    return min(_microseconds(lambda: table.match(target, "GET", "api.wallet.example")) for _ in range(_REPEATS))


def _microseconds(work: Callable[[], object]) -> float:
    begun = perf_counter()
    for _ in range(_MATCHES):
        work()
    return (perf_counter() - begun) / _MATCHES * 1e6


@contextmanager
def _highest(read: Callable[[], float]) -> Iterator[Callable[[], float]]:
    """Read a value again and again; give what tells the highest."""
    seen, has_ended = [read()], Event()

    def watch() -> None:
        while not has_ended.wait(_LOOKS):
            seen.append(read())

    watching = Thread(target=watch)
    watching.start()
    try:
        yield lambda: max(seen)
    finally:
        has_ended.set()
        watching.join()
