"""The auth service as it is reached: kept connections, a bound on how many calls are in flight, one repeat of a call.

Deadlines are the caller's: who cancels a call ends it, wherever it is.
"""

import asyncio
from typing import Final, Protocol

from gateway.session.flight import Flight
from gateway.session.message import Message
from gateway.upstream import Answer, AnswerInvalid, Connection, ConnectionLost, Limiter, Pool, Unreachable, UpstreamError

ANSWER_LIMIT: Final = 64 * 1024
"""Bytes of an answer's body (faults B6)."""

_OUTCOMES: Final = {Unreachable: "unreachable", ConnectionLost: "error", AnswerInvalid: "invalid"}


class Observer(Protocol):
    """Counts what came of each request to an endpoint: ok, error, timeout, unreachable or invalid."""

    def __call__(self, endpoint: str, outcome: str) -> None:
        """Count one."""


class Peer:
    """Exchanges messages with the auth service. `timeout` (seconds) bounds the wait for a place."""

    def __init__(self, pool: Pool, limiter: Limiter, *, method: str, timeout: float, observe: Observer) -> None:
        self._pool = pool
        self._limiter = limiter
        self._method = method
        self._timeout = timeout
        self._observe = observe

    async def exchange(self, message: Message, flight: Flight) -> Answer:
        """Return the answer to a message. Raises UpstreamError, and TimeoutError where no place came free.

        An auth check changes nothing whatever its method, so when a kept connection turns out to have ended, the message is sent
        once more on a new one (RFC 9110 section 9.2.2).
        """
        await self._limiter.acquire(self._timeout)
        flight.has_place = True
        try:
            return await self._exchange(message)
        finally:
            self._limiter.release()

    async def close(self) -> None:
        """Close all connections."""
        await self._pool.close()

    async def _exchange(self, message: Message) -> Answer:
        connection = await self._connect(fresh=False)
        try:
            return await self._send(connection, message)
        except (ConnectionLost, Unreachable):
            if not connection.reused:
                raise
        return await self._send(await self._connect(fresh=True), message)

    async def _connect(self, *, fresh: bool) -> Connection:
        try:
            return await self._pool.acquire(fresh=fresh)
        except Unreachable:
            self._observe(self._pool.name, "unreachable")
            raise
        except asyncio.CancelledError:
            self._observe(self._pool.name, "timeout")
            raise

    async def _send(self, connection: Connection, message: Message) -> Answer:
        outcome = "timeout"  # who is cancelled is late
        try:
            answer = await connection.exchange(message.head, message.body, limit=ANSWER_LIMIT, method=self._method)
            outcome = "ok"
        except UpstreamError as error:
            outcome = _OUTCOMES[type(error)]
            raise
        else:
            return answer
        finally:
            self._pool.release(connection)
            self._observe(self._pool.name, outcome)
