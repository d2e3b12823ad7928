"""The header fields of what is passed on: which of the client's and of the upstream's are kept, and which of ours are set.

Fields are pairs of bytes as received; order and repetition are kept. Framing (Content-Length, Transfer-Encoding) is never copied: who
writes the message adds it. Names of requests, and those of rules, are compared as the laxest server behind might read them: without regard
to case, and with every character that is no letter or digit taken for `-` (so `X_Customer.Id` is X-Customer-Id). An answer's names are
compared without regard to case.
"""

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from string import ascii_letters, digits
from typing import Final

from gateway.upstream.errors import AnswerInvalid
from gateway.upstream.message import Field

_TOKEN: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_NOT_TOKEN: Final = re.compile(rb"[^!#$%&'*+\-.^_`|~0-9A-Za-z]")
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
_WRITTEN_ANEW: Final = frozenset(
    {
        b"host",
        b"traceparent",
        b"tracestate",
        b"x-forwarded-for",
        b"x-forwarded-host",
        b"x-forwarded-proto",
        b"x-real-ip",
        b"x-request-id",
    }
)
# What makes some servers take another method or path than the ones that were routed (faults G5), or another proxy (httpoxy).
_OVERRIDES: Final = frozenset(
    {b"proxy", b"x-http-method", b"x-http-method-override", b"x-method-override", b"x-original-url", b"x-rewrite-url"}
)
_NEVER_COPIED: Final = _HOP_BY_HOP | _FRAMING | _WRITTEN_ANEW | _OVERRIDES
_NEVER_ANSWERED: Final = _HOP_BY_HOP | _FRAMING
_UNRULED: Final = _NEVER_ANSWERED | {b"host"}


def spelling(name: bytes) -> bytes:
    """Return the one spelling that all spellings of a request field's name have in common: `x-customer-id` for `X_CUSTOMER-id`."""
    return name.translate(_SPELLING)


@dataclass(frozen=True, slots=True)
class HeaderRules:
    """What a route does to a header: fields that are taken away (by common spelling), and fields that are put at the end."""

    dropped: frozenset[bytes] = frozenset()
    appended: tuple[Field, ...] = ()

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
        return cls(dropped, tuple((name.encode(), value.encode()) for name, value in appended))

    def apply(self, fields: list[Field]) -> list[Field]:
        """Return the fields with the rules applied."""
        kept = [field for field in fields if spelling(field[0]) not in self.dropped] if self.dropped else fields
        return [*kept, *self.appended]


class RequestHeaders:
    """How the header of a request is made on one route.

    `identity_names` are all names under which the MPP's API is told who is calling (architecture, Sessions): what clients send under them
    is removed, in every spelling; `rules` are to be read with these names reserved.
    """

    def __init__(self, rules: HeaderRules, identity_names: Iterable[str]) -> None:
        self._rules = rules
        self._dropped = _NEVER_COPIED.union(spelling(name.encode()) for name in identity_names)

    def build(
        self,
        fields: Sequence[Field],
        *,
        host: bytes,
        context: Sequence[Field],
        identity: Sequence[Field] = (),
        is_trusted: bool = False,
        upgrade: bytes | None = None,
        keeps_expect: bool = False,
    ) -> list[Field]:
        """Return the fields for the upstream, without framing.

        `host` is the client's Host or the upstream's authority; `context` says who asked by which way (`gateway.edge.forwarded`), and the
        route's rules may change it; `identity` stands last and is beyond the rules. `is_trusted`: the peer is a trusted proxy, so what
        else it sent as X-Forwarded-* and Forwarded stays. `upgrade` is the protocol to ask the upstream for, if that is done;
        `keeps_expect` leaves Expect in. What Connection names is taken from the client's fields only (faults G3).
        """
        names = [spelling(name) for name, _ in fields]
        named = _named_by_connection(names, fields, spelling)
        dropped = self._dropped | named if named else self._dropped
        kept = [
            field
            for name, field in zip(names, fields, strict=True)
            if name not in dropped and (is_trusted or not _is_forwarding(name)) and (keeps_expect or name != b"expect")
        ]
        ruled = self._rules.apply([*kept, *context])
        return [(b"Host", host), *ruled, *identity, *_upgrade(upgrade)]


def host_value(setting: str, client_host: bytes, authority: bytes) -> bytes:
    """Return the Host for the upstream by `host_header`: client or upstream. A client without one (HTTP/1.0) gets the upstream's."""
    return client_host if setting == "client" and client_host else authority


def for_client(fields: Sequence[Field], rules: HeaderRules, *, ours: Sequence[Field] = (), upgrade: bytes | None = None) -> list[Field]:
    """Return the fields of an upstream's answer for the client, without framing; nothing is added but what `rules` and `ours` say.

    `ours` (X-Request-Id; a reserved name for the rules) take the place of the upstream's of the same name; `upgrade` is the protocol of a
    101 or 426. Raises AnswerInvalid for a name that is no token, and for control characters in a value (faults D3: no response splitting).
    """
    names = [name.lower() for name, _ in fields]
    if b"" in names or _NOT_TOKEN.search(b"".join(names)) or _CONTROL.search(b"".join([value for _, value in fields])):
        raise AnswerInvalid("not a header field")
    dropped = _NEVER_ANSWERED.union(_named_by_connection(names, fields, bytes.lower), [name.lower() for name, _ in ours])
    kept = [field for name, field in zip(names, fields, strict=True) if name not in dropped]
    return [*rules.apply(kept), *ours, *_upgrade(upgrade)]


def _named_by_connection(names: Sequence[bytes], fields: Sequence[Field], normal: Callable[[bytes], bytes]) -> frozenset[bytes]:
    if b"connection" not in names:
        return frozenset()
    values = [value for name, (_, value) in zip(names, fields, strict=True) if name == b"connection"]
    return frozenset(normal(option.strip(b" \t")) for value in values for option in value.split(b","))


def _is_forwarding(name: bytes) -> bool:
    return name.startswith(b"x-forwarded-") or name == b"forwarded"


def _upgrade(protocol: bytes | None) -> list[Field]:
    return [(b"Connection", b"Upgrade"), (b"Upgrade", protocol)] if protocol else []
