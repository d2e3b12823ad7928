"""What happens in clusters, counted and logged (architecture, The operators' contract)."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import partial

from structlog.typing import FilteringBoundLogger

from gateway.telemetry.metrics import Metrics
from gateway.upstream.cluster import Cluster, Outcome, State
from gateway.upstream.member import Member


class Watch:
    """The observer of the clusters of one upstream."""

    def __init__(self, upstream: str, metrics: Metrics, log: FilteringBoundLogger) -> None:
        self._upstream = upstream
        self._requests = metrics.upstream_requests
        self._ejections = metrics.upstream_ejections(upstream)
        self._retries = metrics.upstream_retries(upstream)
        self._log = log

    def requested(self, endpoint: str, outcome: Outcome) -> None:
        """Count a request."""
        self._requests(self._upstream, endpoint, outcome).inc()

    def repeated(self) -> None:
        """Count a repeat."""
        self._retries.inc()

    def turned(self, endpoint: str, state: State, reason: str) -> None:
        """Log the change of an endpoint, and count it if it is an ejection."""
        if state == "ejected":
            self._ejections.inc()
        log = self._log.info if state == "healthy" else self._log.warning
        log(f"an endpoint is {state}", upstream=self._upstream, endpoint=endpoint, reason=reason)


def show_health(metrics: Metrics, clusters: Iterable[Cluster]) -> None:
    """Show of each endpoint whether it gets requests: healthy by its checks and not ejected, in every cluster of that upstream's name."""
    members: dict[tuple[str, str], list[tuple[Cluster, Member]]] = defaultdict(list)
    for cluster in clusters:
        for member in cluster.members:
            members[cluster.name, member.name].append((cluster, member))
    for labels, places in members.items():
        metrics.upstream_healthy(*labels).set_function(partial(_is_in, places))


def _is_in(places: Sequence[tuple[Cluster, Member]]) -> bool:
    return all(cluster.is_in(member) for cluster, member in places)
