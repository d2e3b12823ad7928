"""Active health: a request of our own to an endpoint from time to time, and what its results make of the endpoint."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Final

from gateway.config.model import HealthCheck
from gateway.upstream.connection import Connection
from gateway.upstream.errors import UpstreamError
from gateway.upstream.message import FIRST_FINAL, request_head
from gateway.upstream.pool import Pool

_FIRST_UNHEALTHY: Final = 400
_JITTER: Final = 0.1

Sleep = Callable[[float], Awaitable[None]]


class Health:
    """Whether an endpoint is healthy by its checks; pure. It is at first, so that nothing waits for the first check.

    `healthy` good checks in a row make an unhealthy one healthy, `unhealthy` bad ones a healthy one unhealthy.
    """

    __slots__ = ("_against", "_healthy", "_unhealthy", "is_healthy")

    def __init__(self, *, healthy: int = 1, unhealthy: int = 1) -> None:
        self._healthy = healthy
        self._unhealthy = unhealthy
        self._against = 0
        self.is_healthy = True

    def observe(self, *, passed: bool) -> bool:
        """Take the result of a check; tell whether the state has changed."""
        if passed == self.is_healthy:
            self._against = 0
            return False
        self._against += 1
        if self._against < (self._healthy if passed else self._unhealthy):
            return False
        self._against = 0
        self.is_healthy = passed
        return True


class Checker:
    """Checks one endpoint until it is cancelled; `on_result` gets nothing after a good check, else what was wrong with it.

    Each check is a GET on a connection of its own, so it tests connecting too, and takes no place among the requests. Statuses from
    200 to 399 are healthy; the body is not read. Intervals differ by up to a tenth, so that workers do not check in step.
    """

    def __init__(
        self,
        pool: Pool,
        check: HealthCheck,
        on_result: Callable[[str | None], None],
        *,
        sleep: Sleep = asyncio.sleep,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._pool = pool
        self._interval = float(check.interval)
        self._timeout = float(check.timeout)
        self._on_result = on_result
        self._sleep = sleep
        self._chance = chance
        fields = ((b"Host", pool.endpoint.authority.encode()), (b"User-Agent", b"alipayplus-gateway"), (b"Connection", b"close"))
        self._request = request_head("GET", check.path.encode(), fields)

    async def run(self) -> None:
        """Check at once, and then from time to time."""
        while True:
            self._on_result(await self._check())
            await self._sleep(self._interval * (1 + _JITTER * (2 * self._chance() - 1)))

    async def _check(self) -> str | None:
        try:
            async with asyncio.timeout(self._timeout):
                connection = await self._pool.acquire(fresh=True)
                try:
                    status = await self._ask(connection)
                finally:
                    connection.abort()
                    self._pool.release(connection)
        except UpstreamError as error:
            return f"health check: {error.reason}"
        except TimeoutError:
            return "health check: no answer in time"
        return None if FIRST_FINAL <= status < _FIRST_UNHEALTHY else f"health check: status {status}"

    async def _ask(self, connection: Connection) -> int:
        connection.start("GET")
        connection.send(self._request)
        connection.finish()
        head = await connection.read_head()
        while head.interim:
            head = await connection.read_head()
        return head.status
