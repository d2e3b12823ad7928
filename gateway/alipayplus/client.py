"""Calling Alipay+: one SDK request signed, sent at most once, its answer verified before anything of it is returned.

Whoever calls gives the two strings as raw JSON text and gets a `Response`, or one of the failures of `alipayplus.errors`; the
`Call` record says in every case what happened. The client knows nothing of the app, of sessions or of metrics.
"""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache, partial
from time import monotonic, time
from typing import Final

from msgspec import Struct, field

from gateway.alipayplus.errors import (
    ConnectionLost,
    Overloaded,
    ResponseInvalid,
    TimedOut,
    Unreachable,
)
from gateway.alipayplus.keys import KeyRing
from gateway.alipayplus.messages import Response, encode_request
from gateway.alipayplus.signature import URI, format_signature, string_to_sign
from gateway.alipayplus.signer import Signer
from gateway.alipayplus.verification import verify_answer
from gateway.errors import GatewayError
from gateway.telemetry.spans import Phases
from gateway.upstream import Answer, AnswerInvalid, AnswerLate, Cluster, Endpoint, Lease, Limiter, Outcome, UpstreamError, settle
from gateway.upstream import Unreachable as NoConnection
from gateway.upstream.connection import HasRoom

HTTP_OK: Final = 200


class Call(Struct, gc=False):
    """The record of one call. `phases` are queue, sign, alipayplus, verify; `sent` is not_sent, answered or unknown; `status` is HTTP's.

    `room` is for how many bytes of a large answer there has to be room for as long as that, or what is made of it, is held.
    `response_times` and `clock_offset` are those of the answer as it came: they mean nothing unless it was verified (answered).
    """

    phases: Phases = field(default_factory=dict)
    sent: str = "not_sent"
    endpoint: str | None = None
    status: int | None = None
    request_time: str | None = None
    response_times: Sequence[str] = ()
    key_version: str | None = None
    clock_offset: float | None = None
    room: int = 0

    @property
    def response_time(self) -> str | None:
        """The answer's first Response-Time."""
        return self.response_times[0] if self.response_times else None


class Timeouts(Struct, frozen=True):
    """Seconds: `total` from the first byte sent to the last byte of the answer, `connect` over all hosts, `queue` for a place."""

    total: float
    connect: float
    queue: float


class Client:
    """Signs and sends SDK requests. For the running event loop.

    `scenes` are the hosts of each scene that has hosts of its own, `default` those of all others. Another one than the first is tried
    only while no connection could be made: `sdkProxy` has no idempotency key (protocol section 4). `signer` signs with the ring's key.
    `grow` is asked before more of a large answer is taken; whoever calls gives back what the call has then.
    """

    def __init__(
        self,
        ring: KeyRing,
        signer: Signer,
        default: Cluster,
        *,
        scenes: Mapping[str, Cluster],
        limiter: Limiter,
        timeouts: Timeouts,
        max_response: int,
        allow_unsigned_failures: bool,
        grow: HasRoom = lambda _size: True,
    ) -> None:
        self._ring = ring
        self._loop = asyncio.get_running_loop()
        self._signer = signer
        self._default = default
        self._scenes = dict(scenes)
        self._limiter = limiter
        self._timeouts = timeouts
        self._max_response = max_response
        self._allow_unsigned_failures = allow_unsigned_failures
        self._grow = grow

    async def call(self, header: bytes, data: bytes, customer_id: str, scene: str | None, call: Call) -> Response:
        """Send one SDK request and return the verified answer.

        `header` and `data` are the raw JSON text of the two strings, quotes included. Raises Overloaded, Unreachable (nothing was
        sent), TimedOut, ConnectionLost, ResponseInvalid or SignatureInvalid (the outcome is unknown).
        """
        body = encode_request(header, data, customer_id)
        del header, data  # which hold the whole body that they came in
        await self._take_place(call)
        try:
            answer = await self._exchange(body, self._scenes.get(scene or "", self._default), call)
        finally:
            self._limiter.release()
        return self._verify(answer, call)

    async def _take_place(self, call: Call) -> None:
        begun = monotonic()
        try:
            if not self._limiter.take():
                await self._limiter.acquire(self._timeouts.queue)
        except TimeoutError:
            raise Overloaded("no place among max_in_flight in time") from None
        finally:
            call.phases["queue"] = (begun, monotonic())

    async def _exchange(self, body: bytes, hosts: Cluster, call: Call) -> Answer:
        deadline = monotonic() + self._timeouts.connect
        while True:
            begun = monotonic()
            lease = await self._connect(hosts, deadline - begun, begun, call)
            answer = await self._send(hosts, lease, body, call, monotonic() - begun)
            if answer is not None:
                return answer

    async def _connect(self, hosts: Cluster, timeout: float, begun: float, call: Call) -> Lease:
        try:
            lease = await hosts.acquire(timeout=timeout)
        except NoConnection as error:
            call.endpoint = error.endpoint
            call.phases["alipayplus"] = (begun, monotonic())
            raise Unreachable(error.reason) from error
        call.endpoint = lease.endpoint.name
        return lease

    async def _send(self, hosts: Cluster, lease: Lease, body: bytes, call: Call, connected: float) -> Answer | None:
        """Return the answer; None where a kept connection had ended and not a byte was written."""
        answered: asyncio.Future[Answer] = self._loop.create_future()
        outcome: Outcome = "abandoned"
        begun, sent_at = monotonic(), 0.0
        call.request_time = request_time(int(time()))

        def send(signature: bytes) -> None:
            nonlocal begun, sent_at
            asked, begun, sent_at = begun, monotonic(), time()
            call.phases["sign"] = (asked, begun)
            call.sent = "unknown"
            head = self._head(lease.endpoint, call, signature, len(body))
            end, limit, has_room = partial(settle, answered), self._max_response, partial(self._has_room, call)
            lease.connection.begin(head, body, limit=limit, timeout=self._timeouts.total, done=end, has_room=has_room)

        try:
            text = partial(string_to_sign, URI, self._ring.client_id, call.request_time, body)
            self._signer.sign(text, send, answered)
            answer = await answered
            outcome = "ok"
        except UpstreamError as error:
            outcome, failure = _failure(error)
            error.__traceback__ = None  # `answered` holds it, and would be held by it
            if outcome == "unreachable":
                call.sent = "not_sent"
                if lease.connection.reused:
                    return None
            try:
                raise failure from error
            finally:
                del failure
        finally:
            ended = monotonic()
            call.phases["alipayplus"] = (begun - connected, ended)
            hosts.release(lease, outcome)
        call.status = answer.status
        call.response_times = answer.all("response-time")
        call.clock_offset = clock_offset(call.response_time, sent_at, ended - begun)
        return answer

    def _has_room(self, call: Call, size: int) -> bool:
        has_room = self._grow(size)
        if has_room:
            call.room = size
        return has_room

    def _head(self, endpoint: Endpoint, call: Call, signature: bytes, size: int) -> bytes:
        call.key_version = version = self._ring.signing.version
        return (
            f"POST {URI} HTTP/1.1\r\n"
            f"Host: {endpoint.authority}\r\n"
            "Content-Type: application/json; charset=UTF-8\r\n"
            f"Client-Id: {self._ring.client_id}\r\n"
            f"Request-Time: {call.request_time}\r\n"
            f"Signature: {format_signature(signature, version)}\r\n"
            f"Content-Length: {size}\r\n\r\n"
        ).encode("ascii")

    def _verify(self, answer: Answer, call: Call) -> Response:
        if answer.status != HTTP_OK:
            raise ResponseInvalid(f"HTTP status {answer.status}")
        if any(coding.lower() not in {"", "identity"} for coding in answer.all("content-encoding")):
            raise ResponseInvalid("content coding")
        begun = monotonic()
        try:
            response = verify_answer(
                self._ring,
                URI,
                answer.body,
                signature=answer.all("signature"),
                response_time=call.response_times,
                client_id=answer.all("client-id"),
                allow_unsigned_failures=self._allow_unsigned_failures,
            )
        finally:
            call.phases["verify"] = (begun, monotonic())
        call.sent = "answered"
        return response


def _failure(error: UpstreamError) -> tuple[Outcome, GatewayError]:
    """Return what a failure is to the host, and what it is to the app."""
    if isinstance(error, AnswerLate):
        return "timeout", TimedOut(error.reason)
    if isinstance(error, NoConnection):
        return "unreachable", Unreachable(error.reason)
    if isinstance(error, AnswerInvalid):
        return "invalid", ResponseInvalid(error.reason)
    return "error", ConnectionLost(error.reason)


@lru_cache(maxsize=2)
def request_time(second: int) -> str:
    """Write a UNIX time as a Request-Time: ISO 8601 with an offset."""
    return datetime.fromtimestamp(second, UTC).isoformat()


def clock_offset(response_time: str | None, sent_at: float, took: float) -> float | None:
    """Return by how many seconds the clock of Alipay+ is ahead of ours, measured at the middle of the call, which was sent at a UNIX time.

    None where the response time is absent or no ISO 8601 time with an offset (some sister products send epoch milliseconds, which
    are understood too).
    """
    theirs = _seconds(response_time) if response_time is not None else None
    return theirs - (sent_at + took / 2) if theirs is not None else None


@lru_cache(maxsize=64)  # it changes once a second
def _seconds(time: str) -> float | None:
    """Return a time in UNIX seconds, if it is one."""
    try:
        if time.isascii() and time.isdigit():
            return int(time) / 1000
        parsed = datetime.fromisoformat(time)
        return parsed.timestamp() if parsed.tzinfo is not None else None
    except (ValueError, OverflowError):
        return None
