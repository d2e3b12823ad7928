"""Who is calling, and what the MPP's API is told of it: client address, scheme and host, the request's id and its trace.

Only what a trusted proxy says counts, and by default nobody is trusted (faults G1): X-Forwarded-For is read from the right, as far as the
addresses are trusted proxies'. What clients send under these names is dropped in `gateway.passthrough.headers`; what is sent instead comes
from here. Identifiers that begin here are arguments.
"""

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_network
from typing import Final

from msgspec import Struct

from gateway.edge.target import is_host

Fields = Sequence[tuple[bytes, bytes]]

_CLAIMS: Final = frozenset((b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host", b"x-request-id", b"traceparent", b"tracestate"))
_ADDRESSES: Final = 1024  # kept: those of the proxies, and of clients that come again
_LONGEST: Final = 64  # characters of an address with all that may stand around it
_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
_ADDRESS: Final = re.compile(r"\[([0-9A-Fa-f:.]+)\](?::[0-9]{1,5})?|([0-9.]+)(?::[0-9]{1,5})?|([0-9A-Fa-f:.]+)(?:%[A-Za-z0-9._-]+)?")
_TRACEPARENT: Final = re.compile(r"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_SAMPLED: Final = 1
_TRACESTATE_MEMBERS: Final = 32
_TRACESTATE_MEMBER: Final = re.compile(
    r"(?P<key>[a-z][a-z0-9_\-*/]{0,255}|[a-z0-9][a-z0-9_\-*/]{0,240}@[a-z][a-z0-9_\-*/]{0,13})=[ -+\--<>-~]{0,255}[!-+\--<>-~]"
)


class TrustedProxies:
    """The networks of `server.trusted_proxies`. Raises ValueError for what is no address or network."""

    def __init__(self, networks: Iterable[str] = ()) -> None:
        self._networks = tuple(ip_network(text) for text in networks)
        self._known = lru_cache(_ADDRESSES)(self._read)

    def __bool__(self) -> bool:
        """Whether anybody is trusted."""
        return bool(self._networks)

    def trusts(self, address: str) -> bool:
        """Whether an address is one of a trusted proxy."""
        known = self.read(address) if self._networks else None
        return known is not None and known[1]

    def read(self, text: str) -> tuple[str, bool] | None:
        """Read an address, also with a port or in brackets: as it is usually written, and whether it is one of a trusted proxy.

        None for what is no IP address (the peer on a unix socket).
        """
        return self._known(text) if len(text) <= _LONGEST else None

    def _read(self, text: str) -> tuple[str, bool] | None:
        address = _ip(text)
        return None if address is None else (str(address), any(address in network for network in self._networks))


class Caller(Struct, frozen=True, gc=False):
    """Who is calling.

    `address` is the client's (empty if unknown: a unix socket), `chain` the addresses that the request came by, the client's first and the
    peer's last. `is_trusted` says that the peer is a trusted proxy.
    """

    address: str
    chain: tuple[str, ...]
    proto: str
    host: str
    is_trusted: bool

    @property
    def block(self) -> bytes:
        """X-Forwarded-For, -Proto, -Host and X-Real-IP for the upstream, each as CRLF and a line; what is not known is left out."""
        address, host = self.address, self.host
        lines = f"\r\nX-Forwarded-For: {', '.join(self.chain)}" if self.chain else ""
        lines += f"\r\nX-Forwarded-Proto: {self.proto}\r\nX-Forwarded-Host: {host}" if host else f"\r\nX-Forwarded-Proto: {self.proto}"
        return (f"{lines}\r\nX-Real-IP: {address}" if address else lines).encode("ascii")


def unmapped(peer: str) -> str:
    """Return an IPv4 peer of a listener for both families as what it is."""
    return peer.removeprefix("::ffff:") if "." in peer else peer


def claims(headers: Fields) -> Fields:
    """Return the fields in which somebody says who is calling: all that is looked at here."""
    return [field for field in headers if field[0].lower() in _CLAIMS]


def caller(headers: Fields, trusted: TrustedProxies, *, peer: str | None, scheme: str, host: str) -> Caller:
    """Say who is calling. `peer` (`unmapped`), `scheme` and `host` are those of the connection and of its Host field.

    Of a trusted peer, X-Forwarded-For counts from the right up to the first address that is not trusted, which is the client; what stands
    left of it was claimed by nobody trusted and is dropped. Of X-Forwarded-Proto and -Host the last value counts, if it is valid.
    """
    address = peer or ""
    own_host = host if is_host(host) else ""
    if not trusted.trusts(address):
        return Caller(address, (address,) if address else (), scheme, own_host, is_trusted=False)
    chain = (*_forwarded_for(_values(headers, b"x-forwarded-for"), trusted), address)
    proto = _last(headers, b"x-forwarded-proto").lower()
    original = _last(headers, b"x-forwarded-host")
    return Caller(
        chain[0],
        chain,
        proto if proto in {"http", "https"} else scheme,
        original if is_host(original) else own_host,
        is_trusted=True,
    )


def request_id(headers: Fields, *, is_trusted: bool, fresh: str) -> str:
    """Return the id of a request: a trusted proxy's X-Request-Id if there is exactly one and it is `[A-Za-z0-9._-]{1,64}`, else `fresh`."""
    values = _values(headers, b"x-request-id") if is_trusted else []
    return values[0] if len(values) == 1 and _REQUEST_ID.fullmatch(values[0]) else fresh


class Trace(Struct, frozen=True, gc=False):
    """A place in a trace (W3C Trace Context, level 1): the span that is sent on, and the caller's (empty if the trace begins here)."""

    trace_id: str
    span_id: str
    parent_id: str = ""
    is_sampled: bool = False
    tracestate: str = ""

    @property
    def traceparent(self) -> str:
        """The value for what is sent on."""
        return f"00-{self.trace_id}-{self.span_id}-{'01' if self.is_sampled else '00'}"

    @property
    def block(self) -> bytes:
        """Traceparent, and tracestate if there is one, each as CRLF and a line."""
        line = f"\r\ntraceparent: {self.traceparent}"
        return (f"{line}\r\ntracestate: {self.tracestate}" if self.tracestate else line).encode("ascii")


def trace(headers: Fields, *, is_trusted: bool, trace_id: str, span_id: str, is_sampled: bool = False) -> Trace:
    """Continue a trusted caller's trace under the span `span_id`, or begin `trace_id`. Ids are 32 and 16 lower-case hexadecimal digits.

    `is_sampled` is for a trace that begins here; a continued one keeps its caller's decision. A traceparent that is not valid begins a new
    trace, a tracestate that is not valid is left out (level 1, 3.2 and 3.3).
    """
    parents = _values(headers, b"traceparent") if is_trusted else []
    parent = parse_traceparent(parents[0]) if len(parents) == 1 else None
    if parent is None:
        return Trace(trace_id, span_id, is_sampled=is_sampled)
    tracestate = parse_tracestate(_values(headers, b"tracestate"))
    return Trace(parent.trace_id, span_id, parent.span_id, parent.is_sampled, tracestate)


def parse_traceparent(value: str) -> Trace | None:
    """Read a traceparent as the span that sent it; None if it is not valid. Later versions are read as far as version 00 goes (3.2.4)."""
    match = _TRACEPARENT.fullmatch(value)
    if match is None or (match[1] == "00" and match[5]):
        return None
    return Trace(match[2], match[3], is_sampled=bool(int(match[4], 16) & _SAMPLED))


def parse_tracestate(values: Sequence[str]) -> str:
    """Join the tracestate fields of a request, members as they were; empty if any member is not valid, or one key stands twice."""
    members = [member for value in values for member in (part.strip(" \t") for part in value.split(",")) if member]
    matches = [_TRACESTATE_MEMBER.fullmatch(member) for member in members]
    keys = {match["key"] for match in matches if match}
    return ",".join(members) if len(keys) == len(members) <= _TRACESTATE_MEMBERS else ""


def _forwarded_for(values: Sequence[str], trusted: TrustedProxies) -> list[str]:
    """Return the addresses from the client's on; an entry that is no address ends the walk, since nobody can vouch for it."""
    chain: list[str] = []
    for entry in reversed([entry for value in values for entry in value.split(",")]):
        known = trusted.read(entry.strip(" \t"))
        if known is None:
            break
        address, is_trusted = known
        chain.append(address)
        if not is_trusted:
            break
    return chain[::-1]


def _ip(text: str) -> IPv4Address | IPv6Address | None:
    """Read an address, also with a port or in brackets; an IPv4 address written as IPv6 is the IPv4 address."""
    match = _ADDRESS.fullmatch(text)
    if match is None:
        return None
    written = match[match.lastindex or 0]
    try:
        if ":" not in written:
            return IPv4Address(written)
        address = IPv6Address(written)
    except ValueError:
        return None
    return address.ipv4_mapped or address


def _values(headers: Fields, name: bytes) -> list[str]:
    return [value.decode("latin-1").strip(" \t") for key, value in headers if key.lower() == name]


def _last(headers: Fields, name: bytes) -> str:
    values = _values(headers, name)
    return values[-1].rpartition(",")[2].strip(" \t") if values else ""
