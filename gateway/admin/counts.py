"""What the status page counts, out of the metrics of the whole service: a few series of a snapshot, flat, so that two can be compared.

Nothing is counted twice for it: these are the counters that Prometheus reads too.
"""

from collections.abc import Callable, Mapping
from math import inf
from typing import Final

from gateway.telemetry.snapshot import Snapshot, series

Key = tuple[str, ...]
Counts = Mapping[Key, float]
"""How often it was seen, by what: the first of a key says of which kind it is.

`result` status code source; `answer` status, of the API; `took` sdk|api bound (cumulative, as Prometheus' buckets); `peer` upstream
endpoint outcome; `login` outcome; `full`, of connections; `restart`; `dropped`. The routes of the API are one, so that many of them take no
more room.
"""

_SDK: Final = "sdk"
_NOWHERE: Final = "none"  # answered at once: what that takes says nothing


def _answer(of: Mapping[str, str]) -> Key | None:
    return ("answer", of["status"]) if of["route"] != _SDK else None


def _took(of: Mapping[str, str]) -> Key | None:
    return ("took", _SDK if of["route"] == _SDK else "api", of["le"]) if of["route"] != _NOWHERE else None


_KINDS: Final[dict[str, Callable[[Mapping[str, str]], Key | None]]] = {
    "gateway_alipayplus_results_total": lambda of: ("result", of["result_status"], of["result_code"], of["source"]),
    "gateway_requests_total": _answer,
    "gateway_request_duration_seconds_bucket": _took,
    "gateway_upstream_requests_total": lambda of: ("peer", of["upstream"], of["endpoint"], of["outcome"]),
    "gateway_session_checks_total": lambda of: ("login", of["outcome"]),
    "gateway_rejected_total": lambda of: ("full",) if of["reason"] == "connections" else None,
    "gateway_worker_restarts_total": lambda _: ("restart",),
    "gateway_log_lines_dropped_total": lambda _: ("dropped",),
}


def counts(snapshot: Snapshot) -> Counts:
    """Return what the snapshot counts of the kinds above."""
    found: dict[Key, float] = {}
    for name, kind in _KINDS.items():
        for labels, value in series(snapshot, name):
            if (key := kind(labels)) is not None:
                found[key] = found.get(key, 0.0) + value
    return found


def gauge(snapshot: Snapshot, name: str) -> float | None:
    """Return a gauge without labels, or None where nobody has told it."""
    return next((value for _, value in series(snapshot, name)), None)


def since(earlier: Counts, later: Counts) -> Counts:
    """Return what has come between two moments. What a killed worker had not told counts as nothing.

    What has not come is told of buckets only: `quantile` needs those that are empty, too.
    """
    grown = ((key, value - earlier.get(key, 0.0)) for key, value in later.items())
    return {key: value for key, value in grown if value > 0 or (not value and key[0] == "took")}


def total(found: Counts, *begin: str) -> float:
    """Return the sum of all keys that begin so."""
    return sum(value for key, value in found.items() if key[: len(begin)] == begin)


def quantile(share: float, buckets: Mapping[float, float]) -> float | None:
    """Return the value below which this share of the observations lies, or None where there are none.

    `buckets` are cumulative counts by upper bound, infinity among them. Within a bucket they are taken as evenly spread, as in
    Prometheus; of those beyond the last finite bound, that bound is all that is known.
    """
    bounds = sorted(buckets)
    rank = share * (buckets[bounds[-1]] if bounds else 0.0)
    if not rank:
        return None
    low, below = 0.0, 0.0
    for bound in bounds:
        if buckets[bound] >= rank:
            return low if bound == inf else low + (bound - low) * (rank - below) / (buckets[bound] - below)
        low, below = bound, buckets[bound]
    return low


def buckets(found: Counts, *, sdk: bool) -> Mapping[float, float]:
    """Return the cumulative buckets of what requests took (seconds): those of the SDK, or those of the API."""
    of = ("took", _SDK if sdk else "api")
    return {float(key[2]): value for key, value in found.items() if key[:2] == of}
