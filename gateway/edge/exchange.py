"""One request's record: what happened to it, kept while it is handled, then counted and logged once.

It leaves deciding to those who handle the request: they fill in what they know.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from os import urandom
from time import monotonic
from typing import Final

from msgspec import Struct

from gateway.telemetry.log import AccessLog
from gateway.telemetry.metrics import Metrics, method_label

CLIENT_ABORT: Final = "client_abort"
ABORTED_STATUS: Final = 499  # as in nginx: the client left before an answer could be chosen


@dataclass(slots=True)
class SdkRecord:
    """What the log and the metrics say of an SDK call. `sent`: not_sent, answered (verified) or unknown."""

    scene: str | None = None
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


@dataclass(slots=True)
class Exchange:
    """The record of one request. Times are seconds; `started` is on the monotonic clock. `subject` is that of the client's certificate."""

    method: str
    client: str
    subject: str | None = None
    request_id: str = ""
    trace_id: str = ""
    span_id: str = ""
    is_sampled: bool = False
    route: str = "none"
    path: str | None = None
    status: int = 0
    reason: str | None = None
    endpoint: str | None = None
    bytes_in: int = 0
    bytes_out: int = 0
    started: float = field(default_factory=monotonic)
    phases: dict[str, float] = field(default_factory=dict)
    sdk: SdkRecord | None = None

    def __post_init__(self) -> None:
        """Give the request its ids, all of one draw: each draw is a system call."""
        ids = urandom(40).hex()
        self.request_id, self.trace_id, self.span_id = ids[:32], ids[32:64], ids[64:]

    @property
    def traceparent(self) -> str:
        """The W3C trace context for what this request causes (Trace Context level 1)."""
        return f"00-{self.trace_id}-{self.span_id}-{'01' if self.is_sampled else '00'}"


class Recorder:
    """Counts and logs each request exactly once, when it has ended."""

    def __init__(
        self,
        metrics: Metrics,
        logs: AccessLog,
        *,
        now: Callable[[], float] = monotonic,
        wall_clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._metrics = metrics
        self._logs = logs
        self._now = now
        self._wall_clock = wall_clock

    def record(self, exchange: Exchange) -> None:
        """Count the request and write its access line."""
        duration = self._now() - exchange.started
        metrics = self._metrics
        metrics.requests(exchange.route, method_label(exchange.method), str(exchange.status)).inc()
        metrics.request_duration(exchange.route).observe(duration)
        metrics.observe_phases(exchange.phases.items())
        if exchange.sdk is not None:
            self._count_result(exchange.sdk, exchange.phases)
        if self._logs.access_enabled:
            self._logs.access(access_line(exchange, duration, self._wall_clock()))

    def _count_result(self, sdk: SdkRecord, phases: dict[str, float]) -> None:
        self._metrics.results(sdk.scene_label, sdk.result_status, sdk.code_label, sdk.source).inc()
        if "alipayplus" in phases and sdk.sent != "not_sent":
            self._metrics.call_duration(sdk.scene_label).observe(phases["alipayplus"])


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


def access_line(exchange: Exchange, duration: float, time: datetime) -> AccessLine:
    """Return the access line of a request that has ended; `duration` is in seconds, and so are its phases."""
    line = AccessLine(
        "request",
        time.isoformat(),
        exchange.request_id,
        exchange.trace_id,
        exchange.route,
        method_label(exchange.method),
        exchange.status,
        round(duration, 6),
        {name: round(seconds, 6) for name, seconds in exchange.phases.items()},
        exchange.bytes_in,
        exchange.bytes_out,
        exchange.client,
        exchange.subject,
        exchange.path,
        exchange.endpoint,
        exchange.reason,
    )
    if exchange.sdk is not None:
        _add_sdk(line, exchange.sdk)
    return line


def _add_sdk(line: AccessLine, sdk: SdkRecord) -> None:
    line.scene, line.result_status, line.result_code = sdk.scene_label, sdk.result_status, sdk.result_code
    line.source, line.sent = sdk.source, sdk.sent
    line.request_time, line.response_time, line.key_version = sdk.request_time, sdk.response_time, sdk.key_version
    line.customer = sdk.customer
