"""The peers of the service as all its workers see them: each judges for itself, and the page shows one row for each endpoint.

Pure: what the workers have told in, values out.
"""

from collections.abc import Iterable, Sequence
from typing import Final, Literal

from msgspec import Struct

from gateway.admin.counts import Counts
from gateway.upstream.cluster import ClusterStatus
from gateway.upstream.member import EndpointStatus

State = Literal["in use", "failing", "unhealthy", "ejected"]
"""`failing`: it gets requests, but at least half of those of the last minute failed. The last two are of the worker that sees it worst."""

SESSION: Final = "session"
"""The pool of the auth service."""


class EndpointShown(Struct, frozen=True):
    """An endpoint. It is out in `out` of `workers`; `ok` and `failed` count its requests of the last minute."""

    name: str
    state: State
    out: int
    workers: int
    ejected_for: float
    in_flight: int
    idle: int
    weight: int
    backup: bool
    ok: int
    failed: int
    last_failure: str | None


class PoolShown(Struct, frozen=True):
    """A pool. `waiting` requests wait for a place; `is_down`: no worker has an endpoint left."""

    name: str
    waiting: int
    is_down: bool
    endpoints: tuple[EndpointShown, ...]


def pools(told: Iterable[Sequence[ClusterStatus]], minute: Counts, ever: Counts) -> tuple[PoolShown, ...]:
    """Return the pools of the workers, and that of the auth service, which is known by its requests only, once there `ever` was one."""
    named: dict[str, list[list[ClusterStatus]]] = {}
    for clusters in told:
        of_worker: dict[str, list[ClusterStatus]] = {}
        for cluster in clusters:
            of_worker.setdefault(cluster.name, []).append(cluster)
        for name, same in of_worker.items():
            named.setdefault(name, []).append(same)
    return (*_session(minute, ever), *(_pool(name, workers, minute) for name, workers in named.items()))


def _pool(name: str, workers: list[list[ClusterStatus]], minute: Counts) -> PoolShown:
    """Put together what each worker tells of its clusters of one name: scenes of Alipay+ with hosts of their own share it."""
    clusters = [cluster for worker in workers for cluster in worker]
    names = dict.fromkeys(endpoint.name for cluster in clusters for endpoint in cluster.endpoints)
    endpoints = tuple(_endpoint(name, one, workers, minute) for one in names)
    is_down = all(_is_out(endpoint) for cluster in clusters for endpoint in cluster.endpoints)
    return PoolShown(name, sum(cluster.waiting for cluster in clusters), is_down, endpoints)


def _endpoint(pool: str, name: str, workers: list[list[ClusterStatus]], minute: Counts) -> EndpointShown:
    by_worker = [[one for cluster in worker for one in cluster.endpoints if one.name == name] for worker in workers]
    views = [one for worker in by_worker for one in worker]
    ok, failed = _requests(pool, name, minute)
    return EndpointShown(
        name,
        _state(views, ok, failed),
        sum(any(map(_is_out, worker)) for worker in by_worker),
        sum(bool(worker) for worker in by_worker),
        max(one.ejected_for for one in views),
        sum(one.in_flight for one in views),
        sum(one.idle for one in views),
        views[0].weight,
        views[0].backup,
        ok,
        failed,
        next((one.last_failure for one in views if one.last_failure), None),
    )


def _state(views: Sequence[EndpointStatus], ok: int, failed: int) -> State:
    if any(not one.healthy for one in views):
        return "unhealthy"
    if any(one.ejected_for for one in views):
        return "ejected"
    return "failing" if failed and failed >= ok else "in use"


def _session(minute: Counts, ever: Counts) -> tuple[PoolShown, ...]:
    names = sorted({key[2] for key in ever if key[:2] == ("peer", SESSION)})
    if not names:
        return ()
    return (PoolShown(SESSION, 0, False, tuple(_unwatched(name, *_requests(SESSION, name, minute)) for name in names)),)


def _unwatched(name: str, ok: int, failed: int) -> EndpointShown:
    return EndpointShown(name, _state((), ok, failed), 0, 0, 0.0, 0, 0, 1, False, ok, failed, None)


def _is_out(endpoint: EndpointStatus) -> bool:
    return not endpoint.healthy or endpoint.ejected_for > 0


def _requests(pool: str, endpoint: str, minute: Counts) -> tuple[int, int]:
    """Return how many requests of the last minute were answered, and how many were not."""
    of = {key[3]: value for key, value in minute.items() if key[:3] == ("peer", pool, endpoint)}
    ok = of.pop("ok", 0.0)
    return round(ok), round(sum(of.values()))
