"""What `/status.json` says: the state of the service as values, for the person at night and for scripts.

It names what the configuration names, and counts; nothing of a client and nothing secret is in it.
"""

import msgspec
from msgspec import Struct

from gateway.config import ApiRoute, Config
from gateway.runtime import Runtime
from gateway.upstream.cluster import ClusterStatus


class WorkerStatus(Struct, frozen=True):
    """What a worker tells of itself. `pools` are Alipay+'s hosts first, then the API's upstreams, each with its endpoints."""

    in_flight: int
    tunnels: int
    pools: tuple[ClusterStatus, ...]


class WorkerShown(Struct, frozen=True):
    """A worker as the supervisor sees it; `told` is what the worker told last, None before it has told anything."""

    slot: int
    pid: int
    generation: int
    serves: bool
    told: msgspec.Raw | None


class RouteShown(Struct, frozen=True):
    """A route of the MPP's API. No host or no method means any."""

    prefix: str
    upstream: str
    host: tuple[str, ...]
    methods: tuple[str, ...]
    session: str
    strip_prefix: bool


class ServiceStatus(Struct, frozen=True):
    """The whole. `reasons` say why the service is not ready."""

    version: str
    ready: bool
    reasons: tuple[str, ...]
    generation: int
    workers: tuple[WorkerShown, ...]
    sdk_prefix: str
    routes: tuple[RouteShown, ...]


def worker_status(parts: Runtime) -> bytes:
    """Return, as JSON, how a worker is now."""
    status = WorkerStatus(parts.front.in_flight, len(parts.tunnels), tuple(cluster.status() for cluster in parts.clusters))
    return msgspec.json.encode(status)


def routes_shown(config: Config) -> tuple[RouteShown, ...]:
    """Return the configured routes in their order."""
    return tuple(_route(route) for route in config.api.routes) if config.api is not None else ()


def _route(route: ApiRoute) -> RouteShown:
    hosts, methods = tuple(route.host or ()), tuple(route.methods or ())
    return RouteShown(route.prefix, route.upstream, hosts, methods, route.session, route.strip_prefix)
