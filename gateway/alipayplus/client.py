"""Calling Alipay+: one SDK request signed, sent at most once, its answer verified before anything of it is returned.

Whoever calls gives the two strings as raw JSON text and gets a `Response`, or one of the failures of `alipayplus.errors`; the
`Call` record says in every case what happened. The client knows nothing of the app, of sessions or of metrics.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import lru_cache
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
from gateway.alipayplus.signature import format_signature, string_to_sign
from gateway.alipayplus.verification import verify_answer
from gateway.telemetry.spans import Phases
from gateway.upstream import Answer, AnswerInvalid, AnswerLate, Cluster, Endpoint, Lease, Limiter, Outcome, UpstreamError
from gateway.upstream import Unreachable as NoConnection

URI: Final = "/aps/api/v1/mobile/sdkProxy"
HTTP_OK: Final = 200


class Call(Struct, gc=False):
    """The record of one call. `phases` are queue, sign, alipayplus, verify; `sent` is not_sent, answered or unknown; `status` is HTTP's."""

    phases: Phases = field(default_factory=dict)
    sent: str = "not_sent"
    endpoint: str | None = None
    status: int | None = None
    request_time: str | None = None
    response_time: str | None = None
    key_version: str | None = None
    clock_offset: float | None = None


class Timeouts(Struct, frozen=True):
    """Seconds: `total` from the first byte sent to the last byte of the answer, `connect` over all hosts, `queue` for a place."""

    total: float
    connect: float
    queue: float


class Client:
    """Signs and sends SDK requests.

    `scenes` are the hosts of each scene that has hosts of its own, `default` those of all others. Another one than the first is tried
    only while no connection could be made: `sdkProxy` has no idempotency key (protocol section 4).
    """

    def __init__(
        self,
        ring: KeyRing,
        default: Cluster,
        *,
        scenes: Mapping[str, Cluster],
        limiter: Limiter,
        timeouts: Timeouts,
        max_response: int,
        allow_unsigned_failures: bool,
        now: Callable[[], float] = monotonic,
        wall_clock: Callable[[], float] = time,
    ) -> None:
        self._ring = ring
        self._default = default
        self._scenes = dict(scenes)
        self._limiter = limiter
        self._timeouts = timeouts
        self._max_response = max_response
        self._allow_unsigned_failures = allow_unsigned_failures
        self._now = now
        self._wall_clock = wall_clock

    async def call(self, header: bytes, data: bytes, customer_id: str, scene: str | None, call: Call) -> Response:
        """Send one SDK request and return the verified answer.

        `header` and `data` are the raw JSON text of the two strings, quotes included. Raises Overloaded, Unreachable (nothing was
        sent), TimedOut, ConnectionLost, ResponseInvalid or SignatureInvalid (the outcome is unknown).
        """
        body = encode_request(header, data, customer_id)
        await self._take_place(call)
        try:
            answer = await self._exchange(body, self._scenes.get(scene or "", self._default), call)
        finally:
            self._limiter.release()
        return self._verify(answer, call)

    async def _take_place(self, call: Call) -> None:
        begun = self._now()
        try:
            if not self._limiter.take():
                await self._limiter.acquire(self._timeouts.queue)
        except TimeoutError:
            raise Overloaded("waited too long for a place among max_in_flight") from None
        finally:
            call.phases["queue"] = (begun, self._now())

    async def _exchange(self, body: bytes, hosts: Cluster, call: Call) -> Answer:
        deadline = self._now() + self._timeouts.connect
        while True:
            begun = self._now()
            lease = await self._connect(hosts, deadline - begun, call)
            connected = self._now() - begun
            try:
                return await self._send(hosts, lease, body, call, connected)
            except NoConnection as error:  # a kept connection that had ended: not a byte was written
                call.sent = "not_sent"
                if not lease.connection.reused:
                    raise Unreachable(error.reason) from error

    async def _connect(self, hosts: Cluster, timeout: float, call: Call) -> Lease:
        begun = self._now()
        try:
            lease = await hosts.acquire(timeout=timeout)
        except NoConnection as error:
            call.endpoint = error.endpoint
            call.phases["alipayplus"] = (begun, self._now())
            raise Unreachable(error.reason) from error
        call.endpoint = lease.endpoint.name
        return lease

    async def _send(self, hosts: Cluster, lease: Lease, body: bytes, call: Call, connected: float) -> Answer:
        head = self._signed_head(lease.endpoint, body, call)
        outcome: Outcome = "abandoned"
        begun, sent_at = self._now(), self._wall_clock()
        call.sent = "unknown"
        try:
            answer = await lease.connection.exchange(head, body, limit=self._max_response, timeout=self._timeouts.total)
        except AnswerLate as error:
            outcome = "timeout"
            raise TimedOut(error.reason) from error
        except NoConnection:
            outcome = "unreachable"
            raise
        except AnswerInvalid as error:
            outcome = "invalid"
            raise ResponseInvalid(error.reason) from error
        except UpstreamError as error:
            outcome = "error"
            raise ConnectionLost(error.reason) from error
        else:
            outcome = "ok"
            call.status = answer.status
            call.response_time = answer.get("response-time")
            call.clock_offset = clock_offset(call.response_time, sent_at, self._now() - begun)
            return answer
        finally:
            call.phases["alipayplus"] = (begun - connected, self._now())
            hosts.release(lease, outcome)

    def _signed_head(self, endpoint: Endpoint, body: bytes, call: Call) -> bytes:
        begun = self._now()
        time = request_time(int(self._wall_clock()))
        key = self._ring.signing
        signature = key.sign(string_to_sign(URI, self._ring.client_id, time, body))
        call.request_time, call.key_version = time, key.version
        call.phases["sign"] = (begun, self._now())
        return (
            f"POST {URI} HTTP/1.1\r\n"
            f"Host: {endpoint.authority}\r\n"
            "Content-Type: application/json; charset=UTF-8\r\n"
            f"Client-Id: {self._ring.client_id}\r\n"
            f"Request-Time: {time}\r\n"
            f"Signature: {format_signature(signature, key.version)}\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        ).encode("ascii")

    def _verify(self, answer: Answer, call: Call) -> Response:
        if answer.status != HTTP_OK:
            raise ResponseInvalid(f"HTTP status {answer.status}")
        if any(coding.strip().lower() != "identity" for coding in answer.all("content-encoding")):
            raise ResponseInvalid("content coding")
        begun = self._now()
        try:
            response = verify_answer(
                self._ring,
                URI,
                answer.body,
                signature=answer.all("signature"),
                response_time=answer.all("response-time"),
                client_id=answer.all("client-id"),
                allow_unsigned_failures=self._allow_unsigned_failures,
            )
        except Exception:
            call.clock_offset = None
            raise
        finally:
            call.phases["verify"] = (begun, self._now())
        call.sent = "answered"
        return response


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
