"""What tests of health and clusters share: a clock and a pulse in the test's hand, an observer that keeps all, servers with a script.

`Rig` makes clusters with them.
"""

import asyncio
import socket
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from functools import partial
from typing import Any

from gateway.config import model
from gateway.config.values import Duration, Share
from gateway.upstream import Endpoint, Pool, request_head
from gateway.upstream.balance import BALANCES
from gateway.upstream.cluster import Cluster, Outcome, State
from gateway.upstream.health import Health
from gateway.upstream.member import Member
from tests.upstream.peer import Call, Peer, StartPeer, until

GET = request_head("GET", b"/", [(b"Host", b"peer")])
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
DOWN = b"HTTP/1.1 503 Down\r\nContent-Length: 0\r\n\r\n"

EJECTION = model.Ejection(failures=2, interval=Duration(10), duration=Duration(30), max_share=Share(0.5))
NO_EJECTION = model.Ejection(failures=1_000_000)


class Clock:
    """Monotonic seconds, which pass when the test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Pulse:
    """A sleep that ends when the test says so. `slept` are the seconds that were asked for."""

    def __init__(self) -> None:
        self.slept: list[float] = []
        self._beats: asyncio.Queue[None] = asyncio.Queue()

    async def __call__(self, seconds: float) -> None:
        self.slept.append(seconds)
        await self._beats.get()

    def beat(self, times: int = 1) -> None:
        for _ in range(times):
            self._beats.put_nowait(None)

    async def turn(self, sleepers: int, *, rounds: int = 1) -> None:
        """Let so many sleep no longer, and wait until they sleep again."""
        for _ in range(rounds):
            asleep = len(self.slept) + sleepers
            self.beat(sleepers)
            await until(partial(self._has_slept, asleep))

    def _has_slept(self, times: int) -> bool:
        return len(self.slept) >= times


class Seen:
    """An observer that keeps what it is told."""

    def __init__(self) -> None:
        self.requests: Counter[tuple[str, str]] = Counter()
        self.repeats = 0
        self.turns: list[tuple[str, State, str]] = []

    def requested(self, endpoint: str, outcome: Outcome) -> None:
        self.requests[endpoint, outcome] += 1

    def repeated(self) -> None:
        self.repeats += 1

    def turned(self, endpoint: str, state: State, reason: str) -> None:
        self.turns.append((endpoint, state, reason))


class Wallet:
    """A script for a peer that answers each request with `answer`; one that `hangs` says nothing."""

    def __init__(self, answer: bytes = OK) -> None:
        self.answer = answer
        self.hangs = False
        self.asked: list[bytes] = []

    async def __call__(self, call: Call) -> None:
        while True:
            self.asked.append(await call.read_request())
            if self.hangs:
                await call.read_to_end()
                return
            call.write(self.answer)


@contextmanager
def refusing() -> Iterator[str]:
    """Give a URL at which connections are refused."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{sock.getsockname()[1]}"


async def ask(cluster: Cluster) -> str:
    """Send one request and return the name of the endpoint that answered."""
    lease = await cluster.acquire()
    await lease.connection.exchange(GET, limit=10, method="GET")
    cluster.release(lease, "ok")
    return lease.endpoint.name


async def use(cluster: Cluster, outcome: Outcome) -> str:
    """Take a connection, use it for nothing, and give it back with an outcome."""
    lease = await cluster.acquire()
    cluster.release(lease, outcome)
    return lease.endpoint.name


def names(peers: Sequence[Peer]) -> list[str]:
    return [f"127.0.0.1:{peer.port}" for peer in peers]


class Rig:
    """Clusters with a clock, a pulse and an observer of the test's."""

    def __init__(self, stack: AsyncExitStack) -> None:
        self._stack = stack
        self.clock = Clock()
        self.pulse = Pulse()
        self.seen = Seen()

    async def __call__(
        self,
        urls: Sequence[str],
        *,
        balance: str = "round_robin",
        ejection: model.Ejection = NO_EJECTION,
        check: model.HealthCheck | None = None,
        weights: Sequence[int] = (),
        backups: Sequence[str] = (),
        limit: int | None = None,
        connect_timeout: float = 5,
        **options: Any,
    ) -> Cluster:
        members = [
            Member(
                Pool(Endpoint.parse(url), idle=20, age=600, connect_timeout=connect_timeout, clock=self.clock),
                ejection=ejection,
                weight=weight,
                backup=url in backups,
                limit=limit,
                health=Health(healthy=check.healthy, unhealthy=check.unhealthy) if check else None,
            )
            for url, weight in zip(urls, weights or [1] * len(urls), strict=True)
        ]
        cluster = Cluster(
            "wallet",
            members,
            observer=self.seen,
            balance=BALANCES[balance](),  # type: ignore[index]  # the test says one of them
            ejection=ejection,
            health_check=check,
            **{"clock": self.clock, "sleep": self.pulse, **options},
        )
        return await self._stack.enter_async_context(cluster)


async def fail(cluster: Cluster, times: int, outcome: Outcome = "error") -> None:
    for _ in range(times):
        await use(cluster, outcome)


async def start_peers(start_peer: StartPeer, count: int) -> tuple[list[str], list[str]]:
    peers = [await start_peer(Wallet()) for _ in range(count)]
    return [peer.url for peer in peers], names(peers)
