"""Every metric of the gateway, declared in one place (architecture, The operators' contract).

Labels come only from the configuration or from closed sets: whoever observes passes a value from such a set, and `method_label`
folds what a client chose. Children are kept, since looking one up in prometheus-client costs more than the observation.
"""

import platform
from collections.abc import Callable, Iterable
from functools import partial
from typing import Final

import aiohttp
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric, disable_created_metrics
from prometheus_client.registry import Collector

from gateway import __version__
from gateway.telemetry.measures import Count, Family, Level, Timing

METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
PHASES: Final = ("session", "queue", "sign", "alipayplus", "verify", "upstream")
REJECT_REASONS: Final = (
    "bad_request",
    "bad_target",
    "headers_too_large",
    "body_too_large",
    "header_timeout",
    "body_timeout",
    "slow_reader",
    "connections",
    "overload",
    "tls",
    "proxy_protocol",
)

LINES_DROPPED: Final = "gateway_log_lines_dropped"
LINES_DROPPED_TEXT: Final = "Log lines that nobody took in time"

# Alipay+ expires a call after 10 s and the gateway gives up at 12 s by default: the buckets tell both from what is merely slow.
CALL_BUCKETS: Final = (0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 2, 3, 5, 7.5, 9, 9.5, 10, 10.5, 11, 12, 13, 15, 20)
REQUEST_BUCKETS: Final = (0.001, 0.0025, 0.005, *CALL_BUCKETS, 30, 60)
PHASE_BUCKETS: Final = (0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 3, 5, 9, 10, 11, 12, 15)
LAG_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)


def method_label(method: str) -> str:
    """Return `method` if it is one of the field's, else `other`."""
    return method if method in METHODS else "other"


class _Before(Collector):
    """Stands first in a registry. It has no metrics; it calls those who have something to add to the others."""

    def __init__(self) -> None:
        self.calls: list[Callable[[], None]] = []

    def collect(self) -> Iterable[Metric]:
        for call in self.calls:
            call()
        return ()


class ServiceMetrics:
    """The metrics of the supervisor, in a registry of their own; it adds those of its workers to them."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # one more series for each counter, which nobody reads
        self.registry = CollectorRegistry()
        plain = partial(Gauge, registry=self.registry)
        self.workers = plain("gateway_workers", "Worker processes that serve")
        self.worker_restarts = Counter(
            "gateway_worker_restarts", "Workers that ended or hung and were replaced, or broke off at their end", registry=self.registry
        )
        self.reload_successful = plain("gateway_config_last_reload_successful", "1 when the newest configuration is the one in use")
        self.reload_time = plain("gateway_config_last_reload_success_timestamp_seconds", "When the configuration in use was taken up")
        self.log_lines_dropped = Counter(LINES_DROPPED, LINES_DROPPED_TEXT, registry=self.registry)
        self.certificate_expiry = Gauge(
            "gateway_certificate_expiry_timestamp_seconds", "When a certificate in use ends", ["file"], registry=self.registry
        )


class Metrics:
    """The metrics of one worker, in a registry of their own."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # one more series for each counter, which nobody reads
        self.registry = CollectorRegistry()
        self._before = _Before()
        self.registry.register(self._before)
        self.requests = self._counter("gateway_requests", "Requests that were answered or broken off", "route", "method", "status")
        self.request_duration = self._histogram(
            "gateway_request_duration_seconds", "From the request's head to the end of its answer", REQUEST_BUCKETS, "route"
        )
        self.in_flight = self._gauge("gateway_in_flight_requests", "Requests being handled", "route")
        self.phase_duration = self._histogram(
            "gateway_phase_duration_seconds", "What a request spent its time on, by phase", PHASE_BUCKETS, "phase"
        )
        self.session_checks = self._counter("gateway_session_checks", "Logins checked", "outcome", "source")
        self.results = self._counter(
            "gateway_alipayplus_results", "Outcomes of SDK calls", "scene", "result_status", "result_code", "source"
        )
        self.call_duration = self._histogram(
            "gateway_alipayplus_duration_seconds",
            "From the first byte sent to Alipay+ to the last byte of its answer",
            CALL_BUCKETS,
            "scene",
        )
        self.max_in_flight = self._plain_gauge("gateway_alipayplus_max_in_flight", "How many calls to Alipay+ may be in flight")
        self.queue_length = self._plain_gauge("gateway_alipayplus_queue_length", "Calls that wait for a place among those in flight")
        self.clock_offset = self._plain_gauge("gateway_alipayplus_clock_offset_seconds", "The clock of Alipay+ less ours")
        self.upstream_requests = self._counter(
            "gateway_upstream_requests", "Requests to peers, by what came of them", "upstream", "endpoint", "outcome"
        )
        self.upstream_healthy = self._gauge(
            "gateway_upstream_healthy", "Share of workers that use an endpoint: healthy by its checks, not ejected", "upstream", "endpoint"
        )
        self.upstream_ejections = self._counter("gateway_upstream_ejections", "Endpoints left alone after failures", "upstream")
        self.upstream_retries = self._counter("gateway_upstream_retries", "Requests tried once more", "upstream")
        self.connections = self._plain_gauge("gateway_connections", "Connections of clients")
        self.loop_lag = Histogram(
            "gateway_event_loop_lag_seconds", "How late a timer of the event loop came", buckets=LAG_BUCKETS, registry=self.registry
        )
        self.rejected = self._counter("gateway_rejected", "What was refused before it was routed", "reason")
        self.log_lines_dropped = Counter(LINES_DROPPED, LINES_DROPPED_TEXT, registry=self.registry)
        self.key_info = self._gauge("gateway_key_info", "The keys in use", "use", "key_version", "fingerprint")
        self.build_info = self._gauge("gateway_build_info", "The build that runs", "version", "python", "aiohttp")
        self._begin()

    def before_collecting(self, call: Callable[[], None]) -> None:
        """Have something done each time before the registry gives its metrics."""
        self._before.calls.append(call)

    def _begin(self) -> None:
        self.build_info(__version__, platform.python_version(), aiohttp.__version__).set(1)
        for reason in REJECT_REASONS:
            self.rejected(reason)
        for phase in PHASES:
            self.phase_duration(phase)

    def _counter(self, name: str, text: str, *labels: str) -> Family[Count]:
        return Family(Count(name, text, labels, registry=None), labels, self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Family[Level]:
        return Family(Level(name, text, labels, registry=None), labels, self.registry)

    def _plain_gauge(self, name: str, text: str) -> Gauge:
        return Gauge(name, text, registry=self.registry)

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Family[Timing]:
        return Family(Timing(name, text, labels, buckets=buckets, registry=None), labels, self.registry)
