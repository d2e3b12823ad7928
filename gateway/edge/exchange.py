"""One request's record: what happened to it, kept while it is handled, then counted and logged once.

It leaves deciding to those who handle the request: they fill in what they know.
"""

import asyncio
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from http import HTTPStatus
from random import random
from ssl import RAND_bytes
from time import monotonic, time
from typing import Final, Protocol

from msgspec import Struct, field

from gateway.errors import FAILURES, Failure
from gateway.telemetry.failures import OWN_ANSWER, Failed, LastFailures
from gateway.telemetry.log import AccessLog
from gateway.telemetry.metrics import PHASES, Metrics, method_label
from gateway.telemetry.spans import Phases

CLIENT_ABORT: Final = "client_abort"
SHUTDOWN: Final = "shutdown"
CLIENT_CLOSED: Final = "client closed"
UPSTREAM_CLOSED: Final = "upstream closed"
"""These two are how a tunnel ends in order."""
_DIGITS: Final = 112
_REQUESTS_A_DRAW: Final = 64
ABORTED_STATUS: Final = 499  # as in nginx: the client left before an answer could be chosen


class SdkRecord(Struct, gc=False):
    """What the log and the metrics say of an SDK call. `sent`: not_sent, answered (verified) or unknown."""

    scene_label: str = "none"
    result_status: str = ""
    result_code: str = ""
    code_label: str = "other"
    source: str = "gateway"
    sent: str = "not_sent"
    request_time: str | None = None
    response_time: str | None = None
    key_version: str | None = None
    customer: str | None = None

    def note_failure(self, failure: Failure) -> None:
        """Keep a failure of the gateway as the result."""
        self.result_status, self.result_code, self.code_label = failure.result_status, failure.code, failure.code


class Exchange(Struct, gc=False):
    """The record of one request. Times are seconds; `started` is on the monotonic clock. `subject` is that of the client's certificate.

    `version` is that of HTTP; `scheme`, where it is known to be another than the listener's, is what the client used. `ids` are as many
    random digits as `Ids` gives, for the ids of what begins here: the request's own span is below the caller's `parent_id`, the calls to
    the auth service and to the upstream are below that. `failure` is the code of the gateway's own failure. `peer_status` and `peer_url`
    are those of Alipay+ or the upstream, `resends` how often the request was sent to an upstream again. `room` is how many bytes of a large
    answer there had to be room for, until it is written.
    """

    method: str
    client: str
    subject: str | None = None
    version: tuple[int, int] | tuple[()] = ()
    scheme: str = ""
    ids: str = ""
    request_id: str = ""
    trace_id: str = ""
    parent_id: str = ""
    tracestate: str = ""
    is_sampled: bool = False
    route: str = "none"
    path: str | None = None
    status: int = 0
    reason: str | None = None
    failure: str | None = None
    session_outcome: str = ""
    session_source: str = ""
    session_status: int | None = None
    endpoint: str | None = None
    peer_status: int | None = None
    peer_url: str | None = None
    resends: int = 0
    room: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    started: float = field(default_factory=monotonic)
    phases: Phases = field(default_factory=dict)
    sdk: SdkRecord | None = None

    @property
    def span_id(self) -> str:
        """The id of the request's own span."""
        return self.ids[64:80]

    @property
    def session_span_id(self) -> str:
        """The id of the span of the call to the auth service."""
        return self.ids[80:96]

    @property
    def upstream_span_id(self) -> str:
        """The id of the span of the call to the upstream."""
        return self.ids[96:]

    def session_traceparent(self) -> str:
        """Return the W3C trace context for the call to the auth service (Trace Context level 1)."""
        return f"00-{self.trace_id}-{self.session_span_id}-{'01' if self.is_sampled else '00'}"

    def note_session(self, began: float, ended: float, outcome: str, source: str, status: int | None) -> None:
        """Keep how the check of the login went; `status` is that of the auth service."""
        self.phases["session"] = (began, ended)
        self.session_outcome, self.session_source, self.session_status = outcome, source, status


class Ids:
    """Random hexadecimal digits for the ids of a request, drawn for many at once: each draw is a system call."""

    def __init__(self) -> None:
        self._digits = ""
        self._at = 0

    def draw(self) -> str:
        """Return 112 digits that were not given out before."""
        at = self._at
        if at == len(self._digits):
            self._digits, at = RAND_bytes(_REQUESTS_A_DRAW * _DIGITS // 2).hex(), 0
        self._at = at + _DIGITS
        return self._digits[at : self._at]


class Tracer(Protocol):
    """Makes spans of requests (`gateway.edge.tracing`)."""

    def samples(self, trace_id: str) -> bool:
        """Tell whether a trace that begins here is taken."""

    def take(self, exchange: Exchange, ended: float) -> None:
        """Take a request that has ended, at this monotonic time."""


BATCH: Final = 64
GATHER_SECONDS: Final = 0.05
"""How many requests that have ended are counted and logged together, and how long the first of them waits at most for the others.

Between two requests a signature and the kernel take the processor's caches; the second of two records costs a third of the first.
"""


class Recorder:
    """Makes the record of each request; counts, logs and traces it exactly once, when it has ended.

    Of API requests that succeeded, only the share `sample` is logged. `failures` are the last that failed. So many requests as `batch` says
    are counted and logged at once; whoever asks the metrics' registry gets all that have ended. With more than one, it belongs to the
    running loop.
    """

    def __init__(
        self,
        metrics: Metrics,
        logs: AccessLog,
        *,
        sample: float = 1.0,
        tracer: Tracer | None = None,
        batch: int = 1,
        draw: Callable[[], float] = random,
    ) -> None:
        self._metrics = metrics
        self._phases = {phase: metrics.phase_duration(phase) for phase in PHASES}
        self._logs = logs
        self._sample = sample
        self._tracer = tracer
        self._batch = batch
        self._draw = draw
        self._ids = Ids()
        self._ended: list[tuple[Exchange, float, float]] = []
        self._timer: asyncio.TimerHandle | None = None
        self.failures = LastFailures()
        metrics.before_collecting(self.flush)

    def begin(self, method: str, client: str, *, subject: str | None = None, version: tuple[int, int] | tuple[()] = ()) -> Exchange:
        """Return the record of a request that begins now."""
        ids = self._ids.draw()
        exchange = Exchange(method, client, subject, version, ids=ids, request_id=ids[:32], trace_id=ids[32:64])
        if self._tracer is not None:
            exchange.is_sampled = self._tracer.samples(exchange.trace_id)
        return exchange

    def record(self, *exchanges: Exchange) -> None:
        """Take requests that have ended: they are counted and logged soon, and their spans are given away if they are sampled."""
        ended, now = monotonic(), time()
        for exchange in exchanges:
            self._ended.append((exchange, ended, now))
            if exchange.is_sampled and self._tracer is not None:
                self._tracer.take(exchange, ended)
        if len(self._ended) >= self._batch:
            self.flush()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(GATHER_SECONDS, self.flush)

    def flush(self) -> None:
        """Count and log all that have ended."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        records, self._ended = self._ended, []
        lines: list[AccessLine] = []
        is_logged, has_all = self._logs.access_enabled, self._sample >= 1
        told, written = 0.0, ""
        for exchange, ended, now in records:
            duration = ended - exchange.started
            self._metrics.request_duration(exchange.route).mark(duration, exchange.trace_id, now)
            if exchange.phases:
                self._measure(exchange, now)
            if is_logged and (has_all or has_to_be_logged(exchange) or self._draw() < self._sample):
                if now != told:  # else they have ended together
                    told, written = now, written_time(now)
                lines.append(access_line(exchange, duration, written))
            if has_failed(exchange):
                self.failures.note(failed(exchange, now))
        self._count([exchange for exchange, _, _ in records])
        if lines:
            self._logs.access(lines)

    def _measure(self, exchange: Exchange, now: float) -> None:
        trace_id = exchange.trace_id
        for phase, (began, until) in exchange.phases.items():
            self._phases[phase].mark(until - began, trace_id, now)
        sdk, call = exchange.sdk, exchange.phases.get("alipayplus")
        if sdk is not None and call is not None and sdk.sent != "not_sent":
            sent_at = exchange.phases["sign"][1]  # the phase of the call has the time that connecting took, too
            self._metrics.call_duration(sdk.scene_label).mark(call[1] - sent_at, trace_id, now)

    def _count(self, exchanges: list[Exchange]) -> None:
        """Count those that have the same labels at once, as most of those that are refused have."""
        metrics = self._metrics
        for (route, method, status), count in Counter([(each.route, each.method, each.status) for each in exchanges]).items():
            metrics.requests(route, method_label(method), str(status)).inc(count)
        calls = [each.sdk for each in exchanges if each.sdk is not None]
        for labels, count in Counter([(sdk.scene_label, sdk.result_status, sdk.code_label, sdk.source) for sdk in calls]).items():
            metrics.results(*labels).inc(count)


def has_to_be_logged(exchange: Exchange) -> bool:
    """Whether a request is an SDK call, or failed: refused, broken off, or answered with an error, whosesoever it was."""
    ended_well = exchange.reason in (None, CLIENT_CLOSED, UPSTREAM_CLOSED)
    return exchange.sdk is not None or not ended_well or not 0 < exchange.status < HTTPStatus.BAD_REQUEST


def has_failed(exchange: Exchange) -> bool:
    """Whether this is a failure: any result but S on the SDK path, elsewhere what the gateway refused and every 5xx."""
    if exchange.sdk is not None:
        return exchange.sdk.result_status != "S"
    return exchange.failure is not None or exchange.status >= HTTPStatus.INTERNAL_SERVER_ERROR


def failed(exchange: Exchange, time: float) -> Failed:
    """Return what is kept of a request that has failed; `time` is in UNIX seconds."""
    sdk, failure = exchange.sdk, exchange.failure
    if sdk is not None:
        code, result_status, source = sdk.code_label, sdk.result_status, sdk.source
    elif failure is not None:
        code, result_status, source = failure, FAILURES[failure].result_status, "gateway"
    else:
        code, result_status, source = OWN_ANSWER, "", "upstream"
    return Failed(
        time, code, result_status, source, exchange.status, exchange.route, exchange.request_id, exchange.endpoint, exchange.reason
    )


class AccessLine(Struct, omit_defaults=True, gc=False):
    """One line of the access log (architecture, The operators' contract). What is not known, or not this kind of request's, is left out."""

    event: str
    time: str
    request_id: str
    trace_id: str
    route: str
    method: str
    status: int
    duration: float
    phases: dict[str, float]
    bytes_in: int
    bytes_out: int
    client: str
    client_subject: str | None = None
    path: str | None = None
    endpoint: str | None = None
    reason: str | None = None
    scene: str | None = None
    result_status: str | None = None
    result_code: str | None = None
    source: str | None = None
    sent: str | None = None
    request_time: str | None = None
    response_time: str | None = None
    key_version: str | None = None
    customer: str | None = None


def access_line(exchange: Exchange, duration: float, time: str) -> AccessLine:
    """Return the access line of a request that has ended, at this `written_time`; `duration` is in seconds, and so are its phases."""
    phases = {name: int((ended - began) * 1e6 + 0.5) / 1e6 for name, (began, ended) in exchange.phases.items()} if exchange.phases else {}
    line = AccessLine(
        "request",
        time,
        exchange.request_id,
        exchange.trace_id,
        exchange.route,
        method_label(exchange.method),
        exchange.status,
        int(duration * 1e6 + 0.5) / 1e6,
        phases,
        exchange.bytes_in,
        exchange.bytes_out,
        exchange.client,
        exchange.subject,
        exchange.path,
        exchange.endpoint,
        exchange.reason,
    )
    sdk = exchange.sdk
    if sdk is not None:
        line.scene, line.result_status, line.result_code, line.source = sdk.scene_label, sdk.result_status, sdk.result_code, sdk.source
        line.sent, line.request_time, line.response_time = sdk.sent, sdk.request_time, sdk.response_time
        line.key_version, line.customer = sdk.key_version, sdk.customer
    return line


def written_time(time: float) -> str:
    """Write a UNIX time in UTC by ISO 8601, with microseconds."""
    second = int(time)
    return f"{_written_second(second)}.{int((time - second) * 1e6):06d}+00:00"


@lru_cache(maxsize=2)
def _written_second(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).isoformat()[:19]
