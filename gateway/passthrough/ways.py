"""The configured routes of the MPP's API, made ready: what a route takes, what it does with a request, and what is wrong with them."""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Final, Literal

from msgspec import Struct

from gateway.config import ApiRoute, Config, Fault, HeaderChanges
from gateway.config.draft import INVALID, Unreadable, readable
from gateway.edge.routes import Route, route_faults
from gateway.passthrough.headers import HeaderRules, RequestHeaders
from gateway.passthrough.tunnel import Tunnel
from gateway.upstream import Cluster

Direction = Literal["request_headers", "response_headers"]
_DIRECTIONS: Final[tuple[Direction, Direction]] = ("request_headers", "response_headers")


class Timeouts(Struct, frozen=True):
    """Seconds: from the request's end to the answer's head; between two reads of the answer (or a tunnel), and of the request body."""

    response: float
    idle: float
    body_idle: float


class Way(Struct, frozen=True, eq=False):
    """What a route does with its requests. `tunnels` holds those that are open."""

    upstream: Cluster
    host_header: str
    request_headers: RequestHeaders
    response_rules: HeaderRules
    max_body: int
    timeouts: Timeouts
    tunnels: set[Tunnel]


def api_routes(config: Config) -> tuple[Route, ...]:
    """Return the routes in the order of the configuration; none where there is no API."""
    return tuple(_route(route) for route in config.api.routes) if config.api is not None else ()


def api_ways(config: Config, routes: tuple[Route, ...], upstreams: Mapping[str, Cluster], tunnels: set[Tunnel]) -> dict[Route, Way]:
    """Return what each of the routes (those of `api_routes`) does with a request. `upstreams` has every configured one."""
    if config.api is None:
        return {}
    return {route: _way(config, settings, upstreams, tunnels) for route, settings in zip(routes, config.api.routes, strict=True)}


def check_api(config: Config) -> Iterator[Fault]:
    """Find what is wrong with the routes: prefixes that are ambiguous or stand twice, and header rules that cannot be followed."""
    yield from readable(_route_faults(config))
    for index, route in enumerate(config.api.routes if config.api is not None else ()):
        for direction in _DIRECTIONS:
            yield from readable(_rule_faults(config, index, route, direction))


def _route_faults(config: Config) -> Iterator[Fault]:
    found = {}
    for index, route in enumerate(config.api.routes if config.api is not None else ()):
        with suppress(Unreadable):
            found[index] = _route(route)
    yield from route_faults(found, config.sdk_proxy.path_prefix)


def _rule_faults(config: Config, index: int, route: ApiRoute, direction: Direction) -> Iterator[Fault]:
    try:
        _rules(config, route, direction)
    except ValueError as error:
        yield Fault(("api", "routes", index, direction), str(error))


def identity_names(config: Config) -> frozenset[str]:
    """Return all names under which the MPP's API is told who is calling (architecture, Sessions)."""
    session = config.session
    names = {session.identity_header}
    for source in (session.forward, session.introspection):
        if source is not None and source.customer_id.header is not None:
            names.add(source.customer_id.header)
    if config.server.tls is not None and config.server.tls.subject_header is not None:
        names.add(config.server.tls.subject_header)
    return frozenset(names.union(session.forward.forward_headers if session.forward is not None else ()))


def _route(route: ApiRoute) -> Route:
    return Route(
        route.prefix,
        route.upstream,
        _names(route.host),
        _names(route.methods),
        route.session,
        route.strip_prefix,
    )


def _names(names: tuple[str, ...] | None) -> frozenset[str]:
    try:
        return frozenset(names or ())
    except Unreadable:
        return INVALID  # type: ignore[no-any-return]


def _way(config: Config, route: ApiRoute, upstreams: Mapping[str, Cluster], tunnels: set[Tunnel]) -> Way:
    assert config.api is not None
    upstream = config.api.upstreams[route.upstream]
    return Way(
        upstream=upstreams[route.upstream],
        host_header=upstream.host_header,
        request_headers=RequestHeaders(_rules(config, route, "request_headers"), identity_names(config)),
        response_rules=_rules(config, route, "response_headers"),
        max_body=route.max_body,
        timeouts=Timeouts(upstream.response_timeout, upstream.idle_timeout, config.server.limits.body_idle_timeout),
        tunnels=tunnels,
    )


def _rules(config: Config, route: ApiRoute, direction: Direction) -> HeaderRules:
    changes: HeaderChanges = getattr(route, direction)
    reserved = identity_names(config) if direction == "request_headers" else {"X-Request-Id"}
    return HeaderRules.read(replace=changes.set, add=changes.add, remove=changes.remove, reserved=reserved)
