"""Which route a request takes, and what goes upstream by it.

The SDK prefix comes first. Of the routes, the longest prefix wins, on segment borders, case-sensitively and without normalisation, among
those whose hosts and methods fit; with one prefix the route narrowed by host comes before the one that is not, then the one narrowed by
methods, then the order of the configuration. Two rules keep a request from getting by a route (architecture, Request targets; faults G4):

- Every reading of the path (`gateway.edge.target`), and of what a route with `strip_prefix` sends, must take the very same route, else
  REQUEST_MALFORMED.
- A method that the longer prefix does not have may take a shorter one, but never one with a weaker session rule: METHOD_NOT_ALLOWED.

What is wrong with a set of routes is found by `gateway.edge.routes`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from msgspec import Struct

from gateway.edge.routes import SESSION_RULES, Route, normal_prefix, route_faults
from gateway.edge.target import Target, host_name, parse, readings
from gateway.errors import GatewayError

KEPT: Final = 1024
"""So many targets are remembered, with where they lead."""
LONGEST_KEPT: Final = 256
"""Characters of such a target and its host."""
COMMON_METHODS: Final = ("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT")


class Match(Struct, frozen=True, eq=False):
    """What a request is: SDK traffic (`sdk`), a request for an API route (`route` is given), or neither. `label` is the metrics' route."""

    label: str
    route: Route | None = None

    @property
    def is_sdk(self) -> bool:
        """Whether the request lies below the SDK prefix."""
        return self is SDK


SDK: Final = Match("sdk")
NONE: Final = Match("none")
_REFUSED: Final = Match("none")  # there are routes, but for other methods


class RouteTable:
    """All routes, ready to be asked. Raises ValueError for routes that `route_faults` finds fault with."""

    def __init__(self, routes: Sequence[Route], sdk_prefix: str) -> None:
        for fault in route_faults(dict(enumerate(routes)), sdk_prefix):
            if not fault.warning:
                raise ValueError(f"route {fault.path[2]}: {fault.message}")
        self._sdk = normal_prefix(sdk_prefix)
        self._below_sdk = f"{self._sdk}/"
        self._by_prefix = _by_prefix(routes)
        self._longest = max(map(len, self._by_prefix), default=0)
        self._by_host = any(route.hosts for route in routes)
        self._known = lru_cache(KEPT)(self._locate)

    def match(self, target: Target, method: str, host: str) -> Match:
        """Decide what a request is; `host` is the value of its Host field.

        Raises GatewayError: REQUEST_MALFORMED if some reading of the path leads elsewhere (or the host is none, where a route asks for
        hosts), METHOD_NOT_ALLOWED with Allow if only other methods are routed here. Methods are case-sensitive (RFC 9110, 9.1).
        """
        match = self._find(target, method, host)
        self.demand(match, target, host)
        return match

    def locate(self, raw: str, method: str, host: str) -> tuple[Target, Match]:
        """Read a request target and decide what the request is, as `parse` and `match` do, but return also what no route is for.

        The last few are remembered, since apps ask for the same things again and again; but none with a query, which may tell a secret.
        Raises GatewayError REQUEST_MALFORMED.
        """
        is_kept = len(raw) + len(host) <= LONGEST_KEPT and "?" not in raw
        return (self._known if is_kept else self._locate)(raw, method, host)

    def demand(self, match: Match, target: Target, host: str) -> None:
        """Raise GatewayError METHOD_NOT_ALLOWED for what `locate` has found, if only other methods are routed there."""
        if match is _REFUSED:
            allowed = self._allowed(target.path, host_name(host) if self._by_host else "")
            raise GatewayError("METHOD_NOT_ALLOWED", "no route for the method", headers=(("Allow", allowed),))

    def _locate(self, raw: str, method: str, host: str) -> tuple[Target, Match]:
        target = parse(raw, method=method, host=host)
        return target, self._find(target, method, host)

    def _find(self, target: Target, method: str, host: str) -> Match:
        name = host_name(host) if self._by_host else ""
        match = self._decide(target.path, method, name)
        for reading in target.readings | _readings_without_prefix(match.route, target):
            if self._decide(reading, method, name) is not match:
                raise GatewayError("REQUEST_MALFORMED", "request target: another reading takes another route")
        return match

    def _decide(self, path: str, method: str, name: str) -> Match:
        if path == self._sdk or path.startswith(self._below_sdk):
            return SDK
        needed = -1
        refused = NONE
        end = len(path)
        if end > self._longest:
            end = path.rfind("/", 0, self._longest + 1)
        while end >= 0:
            here = self._by_prefix.get(path[:end])
            if here is not None:
                match, strictest = _among(here, method, name)
                if match is not None:
                    assert match.route is not None
                    return match if SESSION_RULES[match.route.session] >= needed else _REFUSED
                if strictest >= 0:
                    refused = _REFUSED
                    needed = max(needed, strictest)
            end = path.rfind("/", 0, end) if end else -1
        return refused

    def _allowed(self, path: str, name: str) -> str:
        named = {method for matches in self._by_prefix.values() for match in matches if match.route for method in match.route.methods}
        return ", ".join(method for method in sorted(named.union(COMMON_METHODS)) if self._decide(path, method, name).route)


def _by_prefix(routes: Iterable[Route]) -> dict[str, tuple[Match, ...]]:
    narrowest_first = sorted(routes, key=lambda route: (not route.hosts, not route.methods))
    table: dict[str, tuple[Match, ...]] = {}
    for route in narrowest_first:
        prefix = normal_prefix(route.prefix)
        table[prefix] = (*table.get(prefix, ()), Match(route.prefix, route))
    return table


def _among(matches: tuple[Match, ...], method: str, name: str) -> tuple[Match | None, int]:
    """Return the first match that takes host and method, else the strictest session rule (or -1) of those that take the host only."""
    strictest = -1
    for match in matches:
        route = match.route
        assert route is not None
        if route.hosts and name not in route.hosts:
            continue
        if route.takes(method):
            return match, strictest
        strictest = max(strictest, SESSION_RULES[route.session])
    return None, strictest


def _readings_without_prefix(route: Route | None, target: Target) -> frozenset[str]:
    """Return the readings of what a route with `strip_prefix` sends, each behind the prefix again; none for other routes.

    They are more than those of the whole path: of `/prefix//x/y`, `//x/y` is sent, whose `x` may be an authority.
    """
    if route is None or not route.strip_prefix or not target.readings:
        return frozenset()
    prefix = normal_prefix(route.prefix)
    return frozenset(prefix + reading for reading in readings(target.path.removeprefix(prefix)))


def upstream_target(route: Route, target: Target) -> str:
    """Return the target for the upstream: the client's byte for byte; with `strip_prefix` without the prefix, and at least `/`."""
    if not route.strip_prefix:
        return target.raw
    rest = target.raw[len(normal_prefix(route.prefix)) :]
    return rest if rest.startswith("/") else f"/{rest}"


@dataclass(frozen=True, slots=True)
class Explanation:
    """What becomes of a request, for people. `outcome` is `route`, `sdk`, or the code of the refusal; what is not known is empty."""

    outcome: str
    reason: str = ""
    prefix: str = ""
    upstream: str = ""
    session: str = ""
    sent: str = ""
    route: Route | None = None
    path: str = ""

    def __str__(self) -> str:
        fields = (("outcome", self.outcome), ("reason", self.reason), ("route", self.prefix), ("upstream", self.upstream))
        more = (("session", self.session), ("sent", self.sent))
        return "\n".join(f"{name}: {value}" for name, value in fields + more if value)


def explain(table: RouteTable, method: str, url: str) -> Explanation:
    """Explain what becomes of a request for an absolute URL, or for a target that begins with `/` (then without a host)."""
    host = "" if url.startswith("/") else url.partition("://")[2].partition("/")[0].partition("?")[0]
    try:
        target = parse(url, method=method, host=host)
        match = table.match(target, method, host)
    except GatewayError as error:
        return Explanation(error.failure.code, error.reason)
    if match.is_sdk:
        return Explanation("sdk", "below the SDK prefix", session="required", path=target.path)
    route = match.route
    if route is None:
        return Explanation("NOT_FOUND", "no route")
    sent = f"{method} {upstream_target(route, target)}"
    return Explanation("route", "", route.prefix, route.upstream, route.session, sent, route)
