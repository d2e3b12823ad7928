"""The rules between keys: pure functions of a configuration, each giving the faults it finds by key path.

What one key may look like stands with it in `gateway.config.model`; what needs files or keys is given to the loader by its callers.
"""

import ipaddress
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from gateway.config.draft import readable
from gateway.config.faults import Fault, KeyPath
from gateway.config.listener import UNIX
from gateway.config.model import ApiRoute, Config, CustomerId, Forward, Introspection, Tls, Upstream
from gateway.config.values import Address, Duration

ALIPAYPLUS_EXPIRY: Final = Duration(10)  # protocol section 2: Alipay+ expires a call after 10 s
UNIX_PATH_LENGTH: Final = 107  # bytes; the 108 of sun_path less the one that ends it
_ANY_V4, _ANY_V6 = "0.0.0.0", "::"  # noqa: S104  # compared with, not listened on

_FORWARD: Final = ("session", "forward")
_INTROSPECTION: Final = ("session", "introspection")
_ALIPAYPLUS: Final = ("alipayplus",)

CLAIMS: Final = frozenset({"forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip"})
"""Headers by which proxies tell whom they speak for."""


@dataclass(frozen=True, slots=True)
class Step:
    """One deadline on the way of an SDK request, under its key."""

    key: str
    duration: Duration


def deadline_ladder(config: Config) -> tuple[Step, ...]:
    """Give the deadlines that one SDK request can use up, one after the other: session, queue, connect, timeout."""
    name = "forward" if config.session.forward is not None else "introspection"
    source = config.session.forward or config.session.introspection
    alipayplus = config.alipayplus
    first = (Step(f"session.{name}.timeout", source.timeout),) if source else ()
    return (
        *first,
        Step("alipayplus.queue_timeout", alipayplus.queue_timeout),
        Step("alipayplus.connect_timeout", alipayplus.connect_timeout),
        Step("alipayplus.timeout", alipayplus.timeout),
    )


def longest_request(config: Config) -> Duration:
    """Give the sum of the deadline ladder."""
    return Duration(sum(step.duration for step in deadline_ladder(config)))


def one_session_source(config: Config) -> Iterator[Fault]:
    """Demand exactly one of forward and introspection."""
    given = [source for source in (config.session.forward, config.session.introspection) if source is not None]
    if len(given) != 1:
        yield Fault(("session",), "write exactly one of forward and introspection")


def forward_customer_id(config: Config) -> Iterator[Fault]:
    """Demand exactly one of header and json."""
    if config.session.forward is not None:
        yield from _customer_id(config.session.forward.customer_id, _FORWARD)


def introspection_customer_id(config: Config) -> Iterator[Fault]:
    """Demand exactly one of header and json."""
    if config.session.introspection is not None:
        yield from _customer_id(config.session.introspection.customer_id, _INTROSPECTION)


def cookies_are_sent(config: Config) -> Iterator[Fault]:
    """Allow a choice of cookies only where the Cookie header is sent."""
    forward = config.session.forward
    if forward is not None and forward.cookies is not None and "cookie" not in _lower(forward.request_headers):
        yield Fault((*_FORWARD, "cookies"), "no cookie is ever sent: add Cookie to request_headers, or remove this key")


def identity_comes_once(config: Config) -> Iterator[Fault]:
    """Let the MPP's API get the identity header from the check alone."""
    forward = config.session.forward
    if forward is not None and config.session.identity_header.lower() in _lower(forward.forward_headers):
        message = f"the identity header {config.session.identity_header} is set already: leave it out"
        yield Fault((*_FORWARD, "forward_headers"), message)


def identity_is_not_claimed(config: Config) -> Iterator[Fault]:
    """Warn where the auth service would see a header in which a client can claim to be anybody, or anywhere."""
    forward = config.session.forward
    if forward is None:
        return
    path, sent = (*_FORWARD, "request_headers"), _lower(forward.request_headers)
    if config.session.identity_header.lower() in sent:
        yield Fault(path, "the auth service gets a customer id of the client's own making: remove the identity header", warning=True)
    tls = config.server.tls
    if tls is not None and tls.subject_header is not None and tls.subject_header.lower() in sent:
        yield Fault(path, "the auth service gets a subject of the client's own making: remove the subject header", warning=True)
    if not config.server.trusted_proxies and (claims := sorted(sent & CLAIMS)):
        message = f"the auth service gets what the client claims to come from: remove {', '.join(claims)}, or name trusted_proxies"
        yield Fault(path, message, warning=True)


def forward_tls(config: Config) -> Iterator[Fault]:
    """Demand TLS settings that are complete; warn of those that are not used."""
    if config.session.forward is not None:
        yield from _source_tls(config.session.forward, _FORWARD)


def introspection_tls(config: Config) -> Iterator[Fault]:
    """Demand TLS settings that are complete; warn of those that are not used."""
    if config.session.introspection is not None:
        yield from _source_tls(config.session.introspection, _INTROSPECTION)


def alipayplus_tls(config: Config) -> Iterator[Fault]:
    """Demand TLS settings that are complete."""
    yield from _pair(config.alipayplus.tls, (*_ALIPAYPLUS, "tls"))


def introspection_is_private(config: Config) -> Iterator[Fault]:
    """Warn where the client secret and the tokens travel in the clear."""
    source = config.session.introspection
    if source is not None and source.url.startswith("http://") and not _is_loopback(urlsplit(source.url).hostname or ""):
        yield Fault((*_INTROSPECTION, "url"), "the client secret and the tokens travel unencrypted: write https", warning=True)


def timeout_outlasts_alipayplus(config: Config) -> Iterator[Fault]:
    """Demand more patience than the 10 s after which Alipay+ expires a call: whoever gives up earlier does not know its outcome."""
    if config.alipayplus.timeout <= ALIPAYPLUS_EXPIRY:
        message = f"write more than {ALIPAYPLUS_EXPIRY}, such as 12s: Alipay+ itself answers for up to {ALIPAYPLUS_EXPIRY}"
        yield Fault((*_ALIPAYPLUS, "timeout"), message)


def signing_key_exists(config: Config) -> Iterator[Fault]:
    """Demand that the key version that signs names one of the private keys."""
    signing = config.alipayplus.signing
    if signing.key_version not in signing.private_keys:
        versions = ", ".join(f'"{version}"' for version in signing.private_keys)
        yield Fault((*_ALIPAYPLUS, "signing", "key_version"), f"no private key has this version: write one of {versions}")


def listeners_are_apart(config: Config) -> Iterator[Fault]:
    """Keep the operators' listener apart from the clients' addresses."""
    if any(listener.address is not None and _overlap(listener.address, config.admin.listen) for listener in config.server.listen):
        yield Fault(("admin", "listen"), "server.listen has this address already: write another port")


def addresses_are_apart(config: Config) -> Iterator[Fault]:
    """Demand clients' addresses that can be listened at together."""
    for index, listener in enumerate(config.server.listen):
        for former in config.server.listen[:index]:
            if listener != former and listener.address and former.address and _collide(listener.address, former.address):
                yield Fault(("server", "listen", index), f"{former} has this address already: keep one, or write another port")


def unix_paths_fit(config: Config) -> Iterator[Fault]:
    """Demand paths of unix sockets that the system can take (unix(7))."""
    for key, place in _places(config):
        if place.startswith(UNIX) and len(os.fsencode(place.removeprefix(UNIX))) > UNIX_PATH_LENGTH:
            yield Fault(key, f"longer than the {UNIX_PATH_LENGTH} bytes that a unix socket's path may have")


def proxies_are_named(config: Config) -> Iterator[Fault]:
    """Demand to know whose PROXY header counts."""
    if config.server.proxy_protocol and not config.server.trusted_proxies:
        message = "nobody may send a PROXY header: write in trusted_proxies whose counts, or remove this key"
        yield Fault(("server", "proxy_protocol"), message)


def subject_is_verified(config: Config) -> Iterator[Fault]:
    """Let the MPP's API get a client certificate's subject under a name of its own, and only where one is asked for."""
    tls = config.server.tls
    if tls is None or tls.subject_header is None:
        return
    path = ("server", "tls", "subject_header")
    if tls.client_ca is None:
        yield Fault(path, "never set, since no client is asked for a certificate: write client_ca too, or remove this key")
    forwarded = config.session.forward.forward_headers if config.session.forward is not None else ()
    if tls.subject_header.lower() in _lower((config.session.identity_header, *forwarded)):
        yield Fault(path, "says who the customer is already: write another name")


def drain_outlasts_requests(config: Config) -> Iterator[Fault]:
    """Warn where a drain cuts requests that are within their deadlines."""
    longest = longest_request(config)
    if config.server.drain_timeout < longest:
        message = f"a drain may cut SDK requests that are within their deadlines: write at least {longest} (see the deadline ladder)"
        yield Fault(("server", "drain_timeout"), message, warning=True)


def routes_have_upstreams(config: Config) -> Iterator[Fault]:
    """Demand that each route names an upstream, and warn of one that no route uses."""
    if config.api is None:
        return
    for index, route in enumerate(config.api.routes):
        yield from readable(_has_upstream(index, route, config.api.upstreams))
    used = {route.upstream for route in config.api.routes}
    for name in config.api.upstreams:
        if name not in used:
            yield Fault(("api", "upstreams", name), "no route uses this upstream", warning=True)


def upstreams_are_sound(config: Config) -> Iterator[Fault]:
    """Demand servers that differ and are not all backups, and TLS settings that are complete; warn of those that are not used."""
    for name, upstream in config.api.upstreams.items() if config.api is not None else ():
        path = ("api", "upstreams", name)
        yield from readable(_servers(upstream, path))
        yield from readable(_upstream_tls(upstream, path))


RULES: Final[tuple[Callable[[Config], Iterable[Fault]], ...]] = (
    one_session_source,
    forward_customer_id,
    introspection_customer_id,
    cookies_are_sent,
    identity_comes_once,
    identity_is_not_claimed,
    forward_tls,
    introspection_tls,
    alipayplus_tls,
    introspection_is_private,
    timeout_outlasts_alipayplus,
    signing_key_exists,
    listeners_are_apart,
    addresses_are_apart,
    unix_paths_fit,
    proxies_are_named,
    subject_is_verified,
    drain_outlasts_requests,
    routes_have_upstreams,
    upstreams_are_sound,
)
"""Every rule. One that looks at a key which could not be read is left out for that file, so each looks at as few as it can."""


def _has_upstream(index: int, route: ApiRoute, upstreams: Mapping[str, Upstream]) -> Iterator[Fault]:
    if route.upstream not in upstreams:
        yield Fault(("api", "routes", index, "upstream"), f"no upstream has this name: write one of {', '.join(upstreams)}")


def _servers(upstream: Upstream, path: KeyPath) -> Iterator[Fault]:
    urls = [server.url for server in upstream.servers]
    for index, url in enumerate(urls):
        if any(url == former for former in urls[:index]):  # `in` would take two that could not be read for one
            yield Fault((*path, "servers", index), "stands twice in this list: keep one, with a weight")
    if all(server.backup for server in upstream.servers):
        yield Fault((*path, "servers"), "every one is a backup: leave backup out where a server is for every request")


def _upstream_tls(upstream: Upstream, path: KeyPath) -> Iterator[Fault]:
    yield from _pair(upstream.tls, (*path, "tls"))
    if upstream.tls is not None and not any(server.url.startswith("https:") for server in upstream.servers):
        message = "never used, since no server begins with https://: write https:// there, or remove this section"
        yield Fault((*path, "tls"), message, warning=True)


def _places(config: Config) -> Iterator[tuple[KeyPath, str]]:
    """Give where clients are listened for and where their requests go, as written."""
    for index, listener in enumerate(config.server.listen):
        yield ("server", "listen", index), str(listener)
    for name, upstream in config.api.upstreams.items() if config.api else ():
        for index, server in enumerate(upstream.servers):
            yield ("api", "upstreams", name, "servers", index, "url"), server.url


def _customer_id(customer_id: CustomerId, section: KeyPath) -> Iterator[Fault]:
    if (customer_id.header is None) == (customer_id.json is None):
        yield Fault((*section, "customer_id"), "write exactly one of header and json")


def _source_tls(source: Forward | Introspection, section: KeyPath) -> Iterator[Fault]:
    if source.tls is None:
        return
    yield from _pair(source.tls, (*section, "tls"))
    if source.url.startswith("http://"):
        message = "never used, since url begins with http://: write https:// there, or remove this section"
        yield Fault((*section, "tls"), message, warning=True)


def _pair(tls: Tls | None, path: KeyPath) -> Iterator[Fault]:
    if tls is not None and (tls.certificate is None) != (tls.private_key is None):
        missing = "certificate" if tls.certificate is None else "private_key"
        yield Fault(path, f"certificate and private_key belong together: write {missing} too")


def _overlap(one: Address, other: Address) -> bool:
    if one.port != other.port or one.port == 0:
        return False
    hosts = {one.host.lower(), other.host.lower()}
    if len(hosts) == 1 or _ANY_V6 in hosts:
        return True
    return _ANY_V4 in hosts and not any(":" in host for host in hosts)


def _collide(one: Address, other: Address) -> bool:
    """Whether the system does not let both be listened at: every IPv6 address is no IPv4 address here."""
    hosts = (one.host, other.host)
    return _overlap(one, other) and (_ANY_V6 not in hosts or all(":" in host for host in hosts))


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _lower(names: Iterable[str]) -> set[str]:
    return {name.lower() for name in names}
