"""The contract's metrics with their labels, and what PromQL expressions use of them.

A reader of expressions, not a parser: whether one is PromQL at all is for promtool and Prometheus to say.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from prometheus_client.utils import floatToGoString

from gateway.alipayplus.results import DOCUMENTED
from gateway.errors import FAILURES
from gateway.telemetry.metrics import CALL_BUCKETS, LAG_BUCKETS, METHODS, PHASE_BUCKETS, PHASES, REJECT_REASONS, REQUEST_BUCKETS

Labels = Mapping[str, frozenset[str] | None]
"""The labels of a metric, each with its values where they are a closed set."""

ANY: Final = None
TARGET: Final[Labels] = {"job": ANY, "namespace": ANY, "instance": ANY}
_UPSTREAM: Final[Labels] = {"upstream": ANY, "endpoint": ANY}


def _closed(*values: str) -> frozenset[str]:
    return frozenset(values)


def _histogram(name: str, buckets: tuple[float, ...], labels: Labels) -> dict[str, Labels]:
    le = frozenset(map(floatToGoString, (*buckets, float("inf"))))
    return {f"{name}_bucket": {**labels, "le": le}, f"{name}_sum": labels, f"{name}_count": labels}


METRICS: Final[Mapping[str, Labels]] = {
    "gateway_requests_total": {"route": ANY, "method": METHODS | {"other"}, "status": ANY},
    **_histogram("gateway_request_duration_seconds", REQUEST_BUCKETS, {"route": ANY}),
    "gateway_in_flight_requests": {"route": ANY},
    **_histogram("gateway_phase_duration_seconds", PHASE_BUCKETS, {"phase": frozenset(PHASES)}),
    "gateway_session_checks_total": {
        "outcome": _closed("valid", "denied", "forbidden", "unavailable", "missing"),
        "source": _closed("call", "cache", "shared", "none"),
    },
    "gateway_alipayplus_results_total": {
        "scene": ANY,
        "result_status": _closed("S", "F", "U"),
        "result_code": frozenset(DOCUMENTED) | frozenset(FAILURES) | {"other"},
        "source": _closed("alipayplus", "gateway"),
    },
    **_histogram("gateway_alipayplus_duration_seconds", CALL_BUCKETS, {"scene": ANY}),
    "gateway_alipayplus_max_in_flight": {},
    "gateway_alipayplus_queue_length": {},
    "gateway_alipayplus_clock_offset_seconds": {},
    "gateway_upstream_requests_total": {**_UPSTREAM, "outcome": _closed("ok", "error", "timeout", "unreachable", "invalid")},
    "gateway_upstream_healthy": _UPSTREAM,
    "gateway_upstream_ejections_total": {"upstream": ANY},
    "gateway_upstream_retries_total": {"upstream": ANY},
    "gateway_connections": {},
    **_histogram("gateway_event_loop_lag_seconds", LAG_BUCKETS, {}),
    "gateway_rejected_total": {"reason": frozenset(REJECT_REASONS)},
    "gateway_log_lines_dropped_total": {},
    "gateway_config_last_reload_successful": {},
    "gateway_config_last_reload_success_timestamp_seconds": {},
    "gateway_certificate_expiry_timestamp_seconds": {"file": ANY},
    "gateway_key_info": {"use": _closed("signing", "verification"), "key_version": ANY, "fingerprint": ANY},
    "gateway_build_info": {"version": ANY, "python": ANY, "aiohttp": ANY},
    "gateway_workers": {},
    "gateway_worker_restarts_total": {},
}
"""The table of the architecture, The operators' contract; histograms as the series that they are made of."""

PROMETHEUS_OWN: Final[Mapping[str, Labels]] = {
    "up": {},
    "ALERTS": {"alertname": ANY, "alertstate": _closed("pending", "firing"), "severity": _closed("page", "ticket")},
}

_OPERATORS: Final = frozenset({"and", "or", "unless", "on", "ignoring", "by", "without", "group_left", "group_right"})
_AGGREGATIONS: Final = frozenset({"sum", "min", "max", "count", "group"})
_FUNCTIONS: Final = frozenset({"rate", "increase", "histogram_quantile", "absent", "time", "vector", "min_over_time", "last_over_time"})
_NAME: Final = re.compile(r"[A-Za-z_:][\w:]*")
_SELECTOR: Final = re.compile(r'([A-Za-z_:][\w:]*)\s*\{((?:[^{}"]|"(?:[^"\\]|\\.)*")*)\}')
_MATCHER: Final = re.compile(r'(\w+)\s*(=~|!~|!=|=)\s*"((?:[^"\\]|\\.)*)"')
_GROUPING: Final = re.compile(r"\b(by|without|on|ignoring|group_left|group_right)\s*\(([^()]*)\)")
_TIMES: Final = re.compile(r"\[[^\]]*\]|\boffset\s+\w+")


@dataclass(frozen=True)
class Matcher:
    """One label matcher of a selector."""

    metric: str
    label: str
    operator: str
    value: str


@dataclass(frozen=True)
class Expression:
    """What an expression refers to. `labels` are those that it groups or joins by, `by` those that its results keep."""

    metrics: frozenset[str]
    matchers: tuple[Matcher, ...]
    labels: frozenset[str]
    by: frozenset[str]


def read(text: str) -> Expression:
    """Read an expression."""
    matchers = tuple(Matcher(selector[1], *found) for selector in _SELECTOR.finditer(text) for found in _MATCHER.findall(selector[2]))
    groupings = [(found[1], frozenset(_NAME.findall(found[2]))) for found in _GROUPING.finditer(text)]
    bare = _TIMES.sub(" ", _GROUPING.sub(" ", _SELECTOR.sub(r"\1", text)))
    return Expression(
        metrics=frozenset(_NAME.findall(bare)) - _OPERATORS - _AGGREGATIONS - _FUNCTIONS,
        matchers=matchers,
        labels=frozenset().union(*(labels for _, labels in groupings)),
        by=frozenset().union(*(labels for word, labels in groupings if word == "by")),
    )


def faults(text: str, known: Mapping[str, Labels]) -> Iterator[str]:
    """Say what an expression uses that is not in `known`: metrics, labels, values of closed sets."""
    expression = read(text)
    yield from (f"no metric {name}" for name in sorted(expression.metrics - known.keys()))
    labels = {**TARGET}.keys() | {label for name in expression.metrics for label in known.get(name, {})}
    yield from (f"no label {label} on any of {sorted(expression.metrics)}" for label in sorted(expression.labels - labels))
    for matcher in expression.matchers:
        of_metric = {**known.get(matcher.metric, {}), **TARGET}
        if matcher.label not in of_metric:
            yield f"no label {matcher.label} on {matcher.metric}"
        elif (values := of_metric[matcher.label]) is not None:
            yield from (f"no {matcher.label}={value} on {matcher.metric}" for value in _wanted(matcher) if not _exists(value, values))


def _wanted(matcher: Matcher) -> list[str]:
    return matcher.value.split("|") if matcher.operator in {"=~", "!~"} else [matcher.value]


def _exists(pattern: str, values: frozenset[str]) -> bool:
    return pattern in values or any(re.fullmatch(pattern, value) for value in values)


def recorded(rules: list[dict[str, Any]]) -> dict[str, Labels]:
    """Return the metrics that recording rules make, with the labels that their expressions keep."""
    return {rule["record"]: dict.fromkeys(read(rule["expr"]).by, ANY) for rule in rules if "record" in rule}
