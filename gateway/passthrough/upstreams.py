"""Where the connections to an upstream come from, as forwarding needs it, and the simplest source: one server."""

from collections.abc import Callable
from typing import Final, Literal, Protocol

from msgspec import Struct

from gateway.upstream import Connection, Endpoint, Pool, Unreachable

Outcome = Literal["ok", "error", "timeout", "unreachable", "invalid", "abandoned"]
"""What came of a request, as the upstream is to be judged by it; `abandoned` (the client left) says nothing of it."""
ABANDONED: Final = "abandoned"


class Lease(Struct, frozen=True, eq=False):
    """A connection for one request, and the server that it leads to."""

    connection: Connection
    endpoint: Endpoint


class Upstream(Protocol):
    """Gives out connections to the servers of one upstream, and counts what comes of each request (gateway_upstream_requests_total)."""

    async def acquire(self, *, fresh: bool = False) -> Lease:
        """Return a connection; a new one if `fresh`. Raises Unreachable where none can be made, GatewayError where none may be."""

    def release(self, lease: Lease, outcome: Outcome) -> None:
        """Take a connection back in any case, and learn what came of the request: of its whole answer, or of a tunnel at its end."""

    def may_repeat(self, attempts: int) -> bool:
        """Whether a request that was sent so often, and that may safely be sent once more, is to be."""


class SingleServer:
    """An upstream of one server, with one pool. A request may be sent again `attempts` times; `observe` counts endpoint and outcome."""

    def __init__(self, pool: Pool, *, attempts: int, observe: Callable[[str, str], None]) -> None:
        self._pool = pool
        self._attempts = attempts
        self._observe = observe

    async def acquire(self, *, fresh: bool = False) -> Lease:
        """Return a connection. Raises Unreachable."""
        try:
            return Lease(await self._pool.acquire(fresh=fresh), self._pool.endpoint)
        except Unreachable:
            self._observe(self._pool.name, "unreachable")
            raise

    def release(self, lease: Lease, outcome: Outcome) -> None:
        """Take a connection back and count."""
        self._pool.release(lease.connection)
        if outcome != ABANDONED:
            self._observe(self._pool.name, outcome)

    def may_repeat(self, attempts: int) -> bool:
        """Whether there are attempts left."""
        return attempts <= self._attempts
