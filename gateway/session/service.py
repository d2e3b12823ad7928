"""The check of a caller's login: credential, cache, single flight, call-out, verdict.

`Sessions.check` decides in one synchronous step and then awaits at most one thing, so there is no lock. How credentials are read and
answers judged stands in `forward` and `introspection`, how the auth service is reached in `peer`.
"""

import asyncio
import secrets
import time
from collections.abc import Callable
from functools import partial
from typing import Final, get_args

from gateway.config.model import Forward, Introspection, Session
from gateway.session.cache import Cache
from gateway.session.check import Check, Verdict, Work, unavailable
from gateway.session.credential import RawHeaders, keyed_hash
from gateway.session.flight import Flight
from gateway.session.forward import ForwardCheck
from gateway.session.freshness import keep_for
from gateway.session.introspection import IntrospectionCheck
from gateway.session.message import Message
from gateway.session.peer import Observe, Peer
from gateway.upstream import Answer, AnswerLate, ConnectionLost, Endpoint, Limiter, Pool, Unreachable, UpstreamError
from gateway.upstream.tls import client_context

KEPT_IDLE: Final = 20.0
KEPT_AGE: Final = 600.0
"""Seconds for which a connection to the auth service is kept unused, and at all. One that has ended costs a repeat, not a failure."""
_TURNS: Final = 4
"""Turns of the event loop in which an answer that has come is read, and its verdict given to those who wait."""

_CLOSING: Final = unavailable("the gateway is closing")


class Sessions:
    """Tells of each request whether its caller is logged in and who it is. For one event loop; belongs to one worker.

    `method`, `url` and `endpoint` (`host:port`) are those of its calls, to be shown.

    Concurrent checks of one credential share one call-out, which has `timeout` seconds from its start, waiting for a place and
    connecting included. Nothing but verdicts is kept, and only where the configuration has a ttl. `observe` counts the requests to
    the auth service; checks are counted by who asks for them, from outcome and source.
    """

    def __init__(
        self,
        config: Session,
        *,
        observe: Observe = lambda _endpoint, _outcome: None,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        settings = config.forward or config.introspection
        if settings is None:
            raise ValueError("one of forward and introspection is needed")
        endpoint = _endpoint(settings)
        self.method = settings.method if isinstance(settings, Forward) else "POST"
        self.url, self.endpoint = settings.url, endpoint.name
        self._service = _service(settings, endpoint.authority)
        self._peer = _peer(settings, self.method, endpoint, observe)
        self._timeout = float(settings.timeout)
        self._clock = clock
        self._wall_clock = wall_clock
        self._ttl, self._negative_ttl = float(config.cache.ttl), float(config.cache.negative_ttl)
        self._cache = Cache(config.cache.max_entries) if self._ttl or self._negative_ttl else None
        self._hash = keyed_hash(secrets.token_bytes(32))
        self._missing = Check("missing", "none", None, self._service.challenge, "no credential")
        self._flights: dict[bytes, Flight] = {}
        self._tasks: set[asyncio.Task[Verdict]] = set()
        self._closed = False

    async def check(self, headers: RawHeaders, work: Work, *, request_id: str, traceparent: Callable[[], str]) -> Check:
        """Return whether the caller of a request with these raw header fields is logged in, and who it is. Fails closed.

        `work` says what for; it, `request_id` and what `traceparent` gives are used for a call-out (those of the first where several share
        one). A caller that is cancelled leaves the call-out to the others. Raises GatewayError: HEADERS_TOO_LARGE for credentials above
        8 KiB, REQUEST_MALFORMED for control characters in one.
        """
        credential = self._service.credential(headers)
        if credential is None:
            return self._missing
        key = self._hash(credential)
        if self._cache is not None and (kept := self._cache.get(key, self._clock())) is not None:
            return kept.check("cache")
        flight = self._flights.get(key)
        if flight is not None:
            return (await flight.join()).check("shared")
        flight = self._depart(key, work, self._service.request(credential, request_id=request_id, traceparent=traceparent()))
        verdict = await flight.join()
        return verdict.check("call", flight.status)

    def forget_half(self) -> None:
        """Let go of half of the verdicts that are kept, if any are: memory is short."""
        if self._cache is not None:
            self._cache.forget_half()

    async def close(self) -> None:
        """End what is under way, as unavailable, and close the connections."""
        self._closed = True
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._peer.close()

    def _depart(self, key: bytes, work: Work, message: Message) -> Flight:
        """Start a call-out that this object owns. Its time runs from here."""
        flight = self._flights[key] = Flight(self._clock(), work)
        flight.has_place = self._peer.begin(message, partial(self._arrive, key, message, flight))
        if not flight.has_place:
            self._fly(key, message, flight, self._timeout)
        return flight

    def _arrive(self, key: bytes, message: Message, flight: Flight, outcome: Answer | UpstreamError) -> None:
        """Take what has come of a call-out over a kept connection."""
        try:
            self._peer.observe(outcome)
            if isinstance(outcome, (ConnectionLost, Unreachable)) and not self._closed:
                self._fly(key, message, flight, flight.began + self._timeout - self._clock(), again=True)
                return
            verdict = self._verdict(key, flight, outcome)
        except Exception as error:  # noqa: BLE001  raised in those who wait
            self._leave(key, flight)
            self._fail(flight, error)
        else:
            self._leave(key, flight)
            flight.settle(verdict)

    def _verdict(self, key: bytes, flight: Flight, outcome: Answer | UpstreamError) -> Verdict:
        if isinstance(outcome, AnswerLate):
            return flight.late
        if isinstance(outcome, UpstreamError):
            return _CLOSING if self._closed else unavailable(f"the auth service could not be asked: {outcome.reason}")
        flight.status = outcome.status
        verdict = self._service.judge(outcome)
        if self._cache is not None:
            self._keep(self._cache, key, flight.began, verdict, outcome)
        return verdict

    def _keep(self, cache: Cache, key: bytes, began: float, verdict: Verdict, answer: Answer) -> None:
        """Keep a verdict, from the call-out's start: a login that ends while it is under way is noticed within ttl of that (B8)."""
        kept = keep_for(verdict, answer, ttl=self._ttl, negative_ttl=self._negative_ttl, wall_time=self._wall_clock())
        if began + kept > self._clock():
            cache.put(key, verdict, began + kept)

    # Call-outs that have to wait for a place or a connection, and those that are made again.

    def _fly(self, key: bytes, message: Message, flight: Flight, timeout: float, *, again: bool = False) -> None:
        loop = asyncio.get_running_loop()
        task = loop.create_task(self._ask(key, message, flight, again=again))
        self._tasks.add(task)
        deadline = loop.call_later(timeout, self._expire, key, flight, task)
        task.add_done_callback(partial(self._land, key, flight, deadline))

    async def _ask(self, key: bytes, message: Message, flight: Flight, *, again: bool) -> Verdict:
        try:
            return self._verdict(key, flight, await self._peer.exchange(message, flight, again=again))
        except UpstreamError as error:
            return self._verdict(key, flight, error)
        except TimeoutError:
            return flight.late

    def _expire(self, key: bytes, flight: Flight, task: asyncio.Task[Verdict], turns: int = _TURNS) -> None:
        """End a call-out whose time is up; those who wait learn it now, not when the connection is closed.

        A loop that is late may come here before it reads what has come in time: it has some turns for that.
        """
        if turns:
            asyncio.get_running_loop().call_soon(self._expire, key, flight, task, turns - 1)
            return
        self._leave(key, flight)
        flight.settle(flight.late)
        task.cancel()

    def _land(self, key: bytes, flight: Flight, deadline: asyncio.TimerHandle, task: asyncio.Task[Verdict]) -> None:
        """Give what a call-out has come to to those who wait."""
        deadline.cancel()
        self._tasks.discard(task)
        self._leave(key, flight)
        if task.cancelled():
            flight.settle(_CLOSING)
        elif (error := task.exception()) is not None:
            self._fail(flight, error)
        else:
            flight.settle(task.result())

    def _fail(self, flight: Flight, error: BaseException) -> None:
        """Raise a bug in those who wait."""
        if not flight.fail(error):
            asyncio.get_running_loop().call_exception_handler({"message": "a session check failed and nobody waits", "exception": error})

    def _leave(self, key: bytes, flight: Flight) -> None:
        """Let nobody join a call-out any more; another one may have taken its place."""
        if self._flights.get(key) is flight:
            del self._flights[key]


def _endpoint(settings: Forward | Introspection) -> Endpoint:
    context = client_context(settings.tls) if settings.url.startswith("https:") else None
    return Endpoint.parse(settings.url, tls=context, server_name=settings.tls.server_name if settings.tls else None)


def _service(settings: Forward | Introspection, authority: str) -> ForwardCheck | IntrospectionCheck:
    return ForwardCheck(settings, authority) if isinstance(settings, Forward) else IntrospectionCheck(settings, authority)


def _peer(settings: Forward | Introspection, method: str, endpoint: Endpoint, observe: Observe) -> Peer:
    timeout = float(settings.timeout)
    pool = Pool(endpoint, idle=KEPT_IDLE, age=KEPT_AGE, connect_timeout=timeout)
    return Peer(pool, Limiter(settings.max_in_flight, get_args(Work)), method=method, timeout=timeout, observe=observe)
