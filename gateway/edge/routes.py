"""A route of the MPP's own API, and what may be wrong with a set of routes.

How a request finds its route stands in `gateway.edge.routing`; what is done to its headers in `gateway.passthrough`.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Final, Literal

from gateway.config.draft import is_whole, readable
from gateway.config.faults import Fault

Session = Literal["required", "optional", "none"]
SESSION_RULES: Final[dict[str, int]] = {"none": 0, "optional": 1, "required": 2}  # the stricter, the higher
UNROUTABLE: Final = "CONNECT"  # its answer is a tunnel, not a message (RFC 9110, 9.3.6)

# A prefix has one reading only, so that no reading of a target can be below it by accident.
_PREFIX: Final = re.compile(r"(?:/(?!\.\.?(?:/|$))[A-Za-z0-9\-._~!$&'()*+,=:@]+)*/?")
_TOKEN: Final = re.compile(r"[A-Za-z0-9!#$%&'*+\-.^_`|~]+")
_HOST: Final = re.compile(r"[a-z0-9_-]+(?:\.[a-z0-9_-]+)*|\[[0-9a-f:.]+\]")


@dataclass(frozen=True, slots=True, eq=False)
class Route:
    """One row of `api.routes`. Routes are told apart by identity: two rows are two routes, however alike.

    `hosts` (as in a Host field, without port, lower case) and `methods` narrow the route; empty means all, but never CONNECT.
    `/auth` and `/auth/` are the same prefix: `/auth` itself and all below it.
    """

    prefix: str
    upstream: str
    hosts: frozenset[str] = frozenset()
    methods: frozenset[str] = frozenset()
    session: Session = "required"
    strip_prefix: bool = False

    def takes(self, method: str) -> bool:
        """Whether the route takes a method."""
        return method in self.methods if self.methods else method != UNROUTABLE


def normal_prefix(prefix: str) -> str:
    """Return a prefix as paths are compared with it: without a slash at its end, so empty for `/`."""
    return prefix.removesuffix("/")


def route_faults(routes: Mapping[int, Route], sdk_prefix: str) -> Iterator[Fault]:
    """Find what is wrong with routes, by their places in `api.routes`; warnings are what is surely possible and probably not meant."""
    for index, route in routes.items():
        yield from readable(_prefix_faults(route, index, sdk_prefix))
        yield from readable(_host_faults(route, index))
        yield from readable(_method_faults(route, index))
    whole = {index: route for index, route in routes.items() if is_whole(route)}
    yield from _repeated(whole)
    yield from _exposed(whole)


def _prefix_faults(route: Route, index: int, sdk_prefix: str) -> Iterator[Fault]:
    if not route.prefix.startswith("/") or not _PREFIX.fullmatch(route.prefix):
        yield _fault(index, "prefix", "write a path such as /wallet: no escapes, dot segments, empty segments, `;`, query or non-ASCII")
    elif _is_below(route.prefix, sdk_prefix):
        yield _fault(index, "prefix", f"never reached: all below {sdk_prefix} is SDK traffic")
    elif "*" in route.prefix:
        yield _fault(index, "prefix", "a * stands for itself here: a prefix takes all below it, without one", warning=True)


def _host_faults(route: Route, index: int) -> Iterator[Fault]:
    if any(not _HOST.fullmatch(host) for host in route.hosts):
        yield _fault(index, "host", "write host names in lower case, without port, such as api.wallet.example")


def _method_faults(route: Route, index: int) -> Iterator[Fault]:
    if any(not _TOKEN.fullmatch(method) for method in route.methods):
        yield _fault(index, "methods", "write methods such as GET")
    if UNROUTABLE in route.methods:
        yield _fault(index, "methods", f"{UNROUTABLE} cannot be routed")


def _repeated(routes: Mapping[int, Route]) -> Iterator[Fault]:
    """Find routes that take what one before them, narrowed alike, takes too: which of them is meant cannot be seen."""
    seen: dict[tuple[str, str, str], int] = {}
    for index, route in routes.items():
        keys = list(product((normal_prefix(route.prefix),), route.hosts or ("",), route.methods or ("",)))
        earlier = [seen[key] for key in keys if key in seen]
        if earlier:
            yield _fault(index, "prefix", f"takes the same requests as route {min(earlier)}: give them other hosts or methods")
        seen.update((key, index) for key in keys if key not in seen)


def _exposed(routes: Mapping[int, Route]) -> Iterator[Fault]:
    """Find stripped prefixes: they open all of their upstream, also what another route to the same upstream guards better."""
    guards: dict[str, Route] = {}
    for route in routes.values():
        guard = guards.setdefault(route.upstream, route)
        if SESSION_RULES[route.session] > SESSION_RULES[guard.session]:
            guards[route.upstream] = route
    for index, route in routes.items():
        guard = guards[route.upstream]
        if route.strip_prefix and normal_prefix(route.prefix) and SESSION_RULES[guard.session] > SESSION_RULES[route.session]:
            text = f"this also opens what the route {guard.prefix} guards with session {guard.session} on {route.upstream}"
            yield _fault(index, "strip_prefix", text, warning=True)


def _is_below(prefix: str, above: str) -> bool:
    return f"{normal_prefix(prefix)}/".startswith(f"{normal_prefix(above)}/")


def _fault(index: int, key: str, message: str, *, warning: bool = False) -> Fault:
    return Fault(("api", "routes", index, key), message, warning=warning)
