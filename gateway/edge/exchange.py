"""One request's record: what happened to it, kept while it is handled, then counted and logged once.

It leaves deciding to those who handle the request: they fill in what they know.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from os import urandom
from time import monotonic
from typing import Any, Final

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
    """The record of one request. Times are seconds; `started` is on the monotonic clock."""

    method: str
    client: str
    request_id: str = field(default_factory=lambda: urandom(16).hex())
    trace_id: str = field(default_factory=lambda: urandom(16).hex())
    span_id: str = field(default_factory=lambda: urandom(8).hex())
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

    @property
    def traceparent(self) -> str:
        """The W3C trace context for what this request causes (Trace Context level 1)."""
        return f"00-{self.trace_id}-{self.span_id}-{'01' if self.is_sampled else '00'}"


class Recorder:
    """Counts and logs each request exactly once, when it has ended."""

    def __init__(self, metrics: Metrics, logs: AccessLog, *, now: Callable[[], float] = monotonic) -> None:
        self._metrics = metrics
        self._logs = logs
        self._now = now

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
            self._logs.access(access_fields(exchange, duration))

    def _count_result(self, sdk: SdkRecord, phases: dict[str, float]) -> None:
        self._metrics.results(sdk.scene_label, sdk.result_status, sdk.code_label, sdk.source).inc()
        if "alipayplus" in phases and sdk.sent != "not_sent":
            self._metrics.call_duration(sdk.scene_label).observe(phases["alipayplus"])


def access_fields(exchange: Exchange, duration: float) -> dict[str, Any]:
    """Return the fields of the access line (architecture, The operators' contract); what is not known is left out."""
    fields: dict[str, Any] = {
        "request_id": exchange.request_id,
        "trace_id": exchange.trace_id,
        "route": exchange.route,
        "method": method_label(exchange.method),
        "status": exchange.status,
        "duration": round(duration, 6),
        "phases": {name: round(seconds, 6) for name, seconds in exchange.phases.items()},
        "bytes_in": exchange.bytes_in,
        "bytes_out": exchange.bytes_out,
        "client": exchange.client,
    }
    optional = (("path", exchange.path), ("endpoint", exchange.endpoint), ("reason", exchange.reason))
    fields.update({name: value for name, value in optional if value is not None})
    if exchange.sdk is not None:
        fields.update(_sdk_fields(exchange.sdk))
    return fields


def _sdk_fields(sdk: SdkRecord) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "scene": sdk.scene_label,
        "result_status": sdk.result_status,
        "result_code": sdk.result_code,
        "source": sdk.source,
        "sent": sdk.sent,
    }
    optional = ((name, getattr(sdk, name)) for name in ("request_time", "response_time", "key_version", "customer"))
    fields.update({name: value for name, value in optional if value is not None})
    return fields
