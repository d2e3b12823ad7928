"""The auth service as it is reached: kept connections, a bound on how many calls are in flight, one repeat of a call.

`begin` is for most calls, which need no task. The deadlines of `exchange` are the caller's: who cancels it ends it, wherever it is.
"""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Final

from gateway.session.flight import Flight
from gateway.session.message import Message
from gateway.upstream import (
    Answer,
    AnswerInvalid,
    AnswerLate,
    Connection,
    ConnectionLost,
    Done,
    Limiter,
    Pool,
    Unreachable,
    UpstreamError,
)

ANSWER_LIMIT: Final = 64 * 1024
"""Bytes of an answer's body (faults B6)."""

_OUTCOMES: Final = {Answer: "ok", Unreachable: "unreachable", ConnectionLost: "error", AnswerInvalid: "invalid", AnswerLate: "timeout"}

Observe = Callable[[str, str], None]
"""Counts a request by its endpoint and by what came of it: ok, error, timeout, unreachable or invalid."""


class Peer:
    """Exchanges messages with the auth service. `timeout` (seconds) bounds the wait for a place, and what is begun at once."""

    def __init__(self, pool: Pool, limiter: Limiter, *, method: str, timeout: float, observe: Observe) -> None:
        self._pool = pool
        self._limiter = limiter
        self._method = method
        self._timeout = timeout
        self._observe = observe

    def begin(self, message: Message, done: Done) -> bool:
        """Send a message now, if there are a place and a kept connection for it; tell whether there were. `done` is told what came of it.

        Lost or Unreachable says that the connection had ended: the message is to be given to `exchange`, as `again`.
        """
        if not self._limiter.take():
            return False
        connection = self._pool.take()
        if connection is None:
            self._limiter.release()
            return False
        end = partial(self._end, connection, done)
        connection.begin(message.head, message.body, limit=ANSWER_LIMIT, method=self._method, timeout=self._timeout, done=end)
        return True

    def _end(self, connection: Connection, done: Done, outcome: Answer | UpstreamError) -> None:
        self._pool.release(connection)
        self._limiter.release()
        done(outcome)

    def observe(self, outcome: Answer | UpstreamError) -> None:
        """Count what came of a message that was given to `begin`."""
        self._observe(self._pool.name, _OUTCOMES[type(outcome)])

    async def exchange(self, message: Message, flight: Flight, *, again: bool = False) -> Answer:
        """Return the answer to a message. Raises UpstreamError, and TimeoutError where no place came free.

        An auth check changes nothing whatever its method, so when a kept connection turns out to have ended, the message is sent
        once more on a new one (RFC 9110 section 9.2.2): at once if it was sent before (`again`).
        """
        await self._limiter.acquire(self._timeout, flight.work)
        flight.has_place = True
        try:
            return await self._exchange(message, again=again)
        finally:
            self._limiter.release()

    async def close(self) -> None:
        """Close all connections."""
        await self._pool.close()

    async def _exchange(self, message: Message, *, again: bool) -> Answer:
        if not again:
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
