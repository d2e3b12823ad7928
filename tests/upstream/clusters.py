"""What tests of health and clusters share: a clock and a pulse in the test's hand, an observer that keeps all, servers with a script."""

import asyncio
import socket
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

from gateway.config import model
from gateway.upstream import request_head
from gateway.upstream.cluster import Cluster, Outcome, State
from tests.upstream.peer import Call, Peer, until

GET = request_head("GET", b"/", [(b"Host", b"peer")])
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
DOWN = b"HTTP/1.1 503 Down\r\nContent-Length: 0\r\n\r\n"

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
