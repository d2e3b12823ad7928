"""The header fields of what is passed on: which of the client's and of the upstream's are kept, and which of ours are set.

A request's fields are pairs of bytes as received; a block is bytes, each field in it a CRLF and a line. Order and repetition are kept.
Framing (Content-Length, Transfer-Encoding) is never copied: who writes the message adds it. Names of requests, and those of rules, are
compared as the laxest server behind might read them: without regard to case, and with every character that is no letter or digit taken
for `-` (so `X_Customer.Id` is X-Customer-Id). An answer's names are compared without regard to case.

All that is done for each field is done in C: by far most requests and answers have nothing but fields that are kept or dropped.
"""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import compress
from operator import not_
from string import ascii_letters, digits
from typing import Final

from gateway.config.rules import WRITTEN_ANEW
from gateway.upstream.message import Field, Head
from gateway.upstream.names import NameTable

_TOKEN: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_CONTROL: Final = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_KEPT: Final = (ascii_letters + digits).encode()
_SPELLING: Final = bytes(byte if byte in _KEPT else ord("-") for byte in range(256)).lower()

# RFC 9110, 7.6.1, and those that RFC 2616, 13.5.1 names; Proxy-Connection is a mistake that some clients make.
_HOP_BY_HOP: Final = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authentication-info",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"upgrade",
    }
)
_FRAMING: Final = frozenset({b"content-length", b"transfer-encoding"})
_WRITTEN_ANEW: Final = frozenset({b"host", *(name.encode() for name in WRITTEN_ANEW)})
# What makes some servers take another method or path than the ones that were routed (faults G5), or another proxy (httpoxy): gunicorn cuts
# SCRIPT_NAME off the path, Daphne Daphne-Root-Path, mod_wsgi X-Script-Name.
_OVERRIDES: Final = frozenset(
    {
        b"daphne-root-path",
        b"proxy",
        b"script-name",
        b"x-http-method",
        b"x-http-method-override",
        b"x-method-override",
        b"x-original-url",
        b"x-rewrite-url",
        b"x-script-name",
    }
)
_NEVER_COPIED: Final = _HOP_BY_HOP | _FRAMING | _WRITTEN_ANEW | _OVERRIDES
_NEVER_ANSWERED: Final = _HOP_BY_HOP | _FRAMING
_UNRULED: Final = _NEVER_ANSWERED | {b"host"}

_STAYS: Final = 1
_GOES: Final = 0
_PONDERED: Final = 2
_DECIDING: Final = frozenset({b"connection", b"expect"})
_NO_FIELDS: Final = frozenset({b"keep-alive", b"close"})  # options of Connection that are fields at most in name
_REQUEST_ID: Final = b"x-request-id"

_line: Final = b": ".join


def spelling(name: bytes) -> bytes:
    """Return the one spelling that all spellings of a request field's name have in common: `x-customer-id` for `X_CUSTOMER-id`."""
    return name.translate(_SPELLING)


def block_of(fields: Iterable[Field]) -> bytes:
    """Return fields as a block. Raises ValueError for a line break within one: each was checked where it came from, or should have been."""
    lines = list(map(_line, fields))
    block = b"".join([b"\r\n" + line for line in lines])
    if block.count(b"\n") != len(lines) or block.count(b"\r") != len(lines):
        raise ValueError("a line break within a field")
    return block


@dataclass(frozen=True, slots=True)
class HeaderRules:
    """What a route does to a header: fields that are taken away (by common spelling), and a block that is put at the end."""

    dropped: frozenset[bytes] = frozenset()
    appended: bytes = b""

    @classmethod
    def read(
        cls, *, replace: Mapping[str, str], add: Mapping[str, str], remove: Collection[str], reserved: Iterable[str] = ()
    ) -> "HeaderRules":
        """Read `set` (here `replace`), `add` and `remove` of the configuration: first fields are removed, then set, then added.

        Raises ValueError, naming all that is wrong: names and values that cannot be sent, framing and hop-by-hop fields, Host
        (`host_header` decides), and the `reserved` names: those that say who is calling.
        """
        appended = [*replace.items(), *add.items()]
        unruled = _UNRULED | {spelling(name.encode()) for name in reserved}
        wrong = [f"{name!r} is not a field name" for name in [*remove, *dict(appended)] if not _TOKEN.fullmatch(name)]
        wrong += [f"{name} is the gateway's own" for name in [*remove, *dict(appended)] if spelling(name.encode()) in unruled]
        wrong += [f"{name} has a control character" for name, value in appended if _CONTROL.search(value.encode())]
        if wrong:
            raise ValueError("; ".join(wrong))
        dropped = frozenset(spelling(name.encode()) for name in [*remove, *replace])
        return cls(dropped, block_of((name.encode(), value.encode()) for name, value in appended))

    def apply(self, block: bytes) -> bytes:
        """Return a block with the rules applied."""
        if self.dropped:
            lines = block.split(b"\r\n")
            block = b"\r\n".join([line for line in lines if spelling(line.partition(b":")[0]) not in self.dropped])
        return block + self.appended


class RequestHeaders:
    """How the header of a request is made on one route.

    `identity_names` are all names under which the MPP's API is told who is calling (architecture, Sessions): what clients send under them
    is removed, in every spelling; `rules` are to be read with these names reserved.
    """

    def __init__(self, rules: HeaderRules, identity_names: Iterable[str]) -> None:
        self._rules = rules
        self._dropped = _NEVER_COPIED.union(spelling(name.encode()) for name in identity_names)
        self._fates = {is_trusted: NameTable(partial(self._judge, is_trusted=is_trusted)) for is_trusted in (False, True)}

    def build(
        self,
        fields: Sequence[Field],
        *,
        host: bytes,
        context: bytes,
        identity: bytes = b"",
        is_trusted: bool = False,
        upgrade: bytes | None = None,
        keeps_expect: bool = False,
    ) -> bytes:
        """Return the block for the upstream, without framing.

        `host` is the client's Host or the upstream's authority; `context` says who asked by which way (`gateway.edge.forwarded`), and the
        route's rules may change it; `identity` stands last and is beyond the rules. `is_trusted`: the peer is a trusted proxy, so what
        else it sent as X-Forwarded-* and Forwarded stays. `upgrade` is the protocol to ask the upstream for, if that is done;
        `keeps_expect` leaves Expect in. What Connection names is taken from the client's fields only (faults G3).
        """
        fates = self._fates[is_trusted].of(fields)
        kept: Iterable[Field] = compress(fields, fates)
        if _PONDERED in fates and not _is_settled(fields, fates):
            kept = self._ponder(fields, is_trusted=is_trusted, keeps_expect=keeps_expect)
        block = self._rules.apply(b"\r\n".join([b"", *map(_line, kept)]) + context)
        return b"".join((b"\r\nHost: ", host, block, identity, _upgrade(upgrade)))

    def _judge(self, name: bytes, *, is_trusted: bool) -> int:
        """Tell what becomes of a field of this name; of some it has to be pondered, or they have others dropped."""
        spelled = spelling(name)
        if spelled in _DECIDING:
            return _PONDERED
        return _STAYS if spelled not in self._dropped and (is_trusted or not _is_forwarding(spelled)) else _GOES

    def _ponder(self, fields: Sequence[Field], *, is_trusted: bool, keeps_expect: bool) -> list[Field]:
        names = [spelling(name) for name, _ in fields]
        connections = [value for name, (_, value) in zip(names, fields, strict=True) if name == b"connection"]
        dropped = self._dropped.union(spelling(option) for value in connections for option in _options(value))
        return [
            field
            for name, field in zip(names, fields, strict=True)
            if name not in dropped and (is_trusted or not _is_forwarding(name)) and (keeps_expect or name != b"expect")
        ]


def _is_settled(fields: Sequence[Field], fates: list[int]) -> bool:
    """Drop the Connection that most clients send, which names no field; tell whether that leaves nothing to ponder."""
    place = fates.index(_PONDERED)
    name, value = fields[place]
    if name.lower() != b"connection" or value.lower() not in _NO_FIELDS:
        return False
    fates[place] = _GOES
    return _PONDERED not in fates


def host_value(setting: str, client_host: bytes, authority: bytes) -> bytes:
    """Return the Host for the upstream by `host_header`: client or upstream. A client without one (HTTP/1.0) gets the upstream's."""
    return client_host if setting == "client" and client_host else authority


def for_client(head: Head, rules: HeaderRules, *, request_id: bytes | None = None, upgrade: bytes | None = None) -> bytes:
    """Return the block of an upstream's answer for the client, without framing; nothing is added but what `rules` say, and what follows.

    `request_id` is that of an answer which has none (X-Request-Id, a reserved name for the rules); `upgrade` the protocol of a 101 or 426.
    """
    names, dropped = head.names, _NEVER_ANSWERED
    if b"connection" in names:
        named = [option.lower() for value in head.all(b"connection") for option in _options(value)]
        dropped = dropped if _NO_FIELDS.issuperset(named) else dropped.union(named)
    kept = compress(head.lines, map(not_, map(dropped.__contains__, names)))
    block = rules.apply(b"\r\n".join([b"", *kept]))
    has_id = _REQUEST_ID in names and _REQUEST_ID not in dropped
    return b"".join((block, b"" if request_id is None or has_id else b"\r\nX-Request-Id: " + request_id, _upgrade(upgrade)))


def _options(value: bytes) -> list[bytes]:
    return [option for part in value.split(b",") if (option := part.strip(b" \t"))]


def _is_forwarding(name: bytes) -> bool:
    return name.startswith(b"x-forwarded-") or name == b"forwarded"


def _upgrade(protocol: bytes | None) -> bytes:
    return b"\r\nConnection: Upgrade\r\nUpgrade: " + protocol if protocol else b""
