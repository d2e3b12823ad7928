"""What a configured value must look like beyond its type: rules that the model attaches to its keys.

A rule says what is wrong without repeating the value, which may have come from a secret. Rules between keys stand in
`gateway.config.checks`.
"""

import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from gateway.config.values import HOST, LABEL, PORT, Masked, is_host, is_port

_TOKEN: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # RFC 9110, section 5.6.2  # noqa: S105  # not a secret
_PATH: Final = r"[A-Za-z0-9._~!$&'()*+,;=:@%/-]*"
_QUERY: Final = r"[A-Za-z0-9._~!$&'()*+,;=:@%/?-]*"
_SEGMENT: Final = r"[A-Za-z0-9._~!$&'()*+,=:@-]+"
_METHOD: Final = "[A-Z]+(?:-[A-Z]+)*"

# RFC 9110 section 7.6.1 and RFC 9112 section 6: they belong to one connection and frame one message; sent on, they break the next one.
FRAMING_HEADERS: Final = frozenset(
    {
        "connection",
        "content-length",
        "expect",
        "host",
        "http2-settings",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
OWN_HEADERS: Final = frozenset({"accept", "traceparent", "x-request-id"})  # set by the gateway on the call to the auth service

WRITTEN_ANEW: Final = frozenset(  # by the gateway, on each request to the MPP's API
    {"traceparent", "tracestate", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip", "x-request-id"}
)

METHODS: Final = frozenset(  # that llhttp, which parses requests, takes
    {
        "ACL",
        "BIND",
        "CHECKOUT",
        "CONNECT",
        "COPY",
        "DELETE",
        "GET",
        "HEAD",
        "LINK",
        "LOCK",
        "M-SEARCH",
        "MERGE",
        "MKACTIVITY",
        "MKCALENDAR",
        "MKCOL",
        "MOVE",
        "NOTIFY",
        "OPTIONS",
        "PATCH",
        "POST",
        "PROPFIND",
        "PROPPATCH",
        "PURGE",
        "PUT",
        "QUERY",
        "REBIND",
        "REPORT",
        "SEARCH",
        "SOURCE",
        "SUBSCRIBE",
        "TRACE",
        "UNBIND",
        "UNLINK",
        "UNLOCK",
        "UNSUBSCRIBE",
    }
)


@dataclass(frozen=True, slots=True)
class Doc:
    """What a key means, for operators; it becomes the description in the JSON Schema."""

    text: str


@dataclass(frozen=True, slots=True)
class Bounds:
    """The least and the greatest value of a number, a duration (seconds) or a size (bytes), both allowed."""

    least: float
    most: float


@dataclass(frozen=True, slots=True)
class OneOrMany:
    """A list that may be written as its only element; never empty."""


@dataclass(frozen=True, slots=True)
class NotEmpty:
    """A list or mapping that holds at least one element."""


@dataclass(frozen=True, slots=True)
class Distinct:
    """A list in which nothing stands twice."""

    ignore_case: bool = True


@dataclass(frozen=True, slots=True)
class PathBehind:
    """A text that may be a path behind this opening; a relative one counts from the folder of the file."""

    opening: str


@dataclass(frozen=True, slots=True)
class MaskedIfSubstituted:
    """A text that is not shown, as far as `kind` masks it, where it came from the environment or another file: it may be a credential."""

    kind: type[Masked] = Masked


@dataclass(frozen=True, slots=True)
class Shorthand:
    """A section that may be written as the value of one of its keys."""

    key: str


@dataclass(frozen=True, slots=True)
class Keys:
    """The rule for the keys of a mapping; with `ignore_case`, two spellings of one are the same key."""

    rule: "Text"
    ignore_case: bool = False


@dataclass(frozen=True, slots=True)
class Text:
    """The form of a text: a regular expression (of those that ECMA 262 and Python share), what would be right, and a finer check."""

    pattern: str
    right: str
    finer: Callable[[str], str | None] = lambda _text: None

    def complaint(self, text: str) -> str | None:
        """Say what is wrong with this text, or None; the text itself is never repeated."""
        return self.finer(text) or (None if re.fullmatch(self.pattern, text) else f"not of the right form: write {self.right}")


def _no_framing(name: str) -> str | None:
    return "headers that frame a message or belong to one connection cannot stand here" if name.lower() in FRAMING_HEADERS else None


def _no_own(name: str, own: frozenset[str] = OWN_HEADERS) -> str | None:
    is_own = re.sub("[^a-z0-9]", "-", name.lower()) in own
    return _no_framing(name) or ("the gateway sets this header itself: leave it out" if is_own else None)


def _no_anew(name: str) -> str | None:
    return _no_own(name, OWN_HEADERS | WRITTEN_ANEW)


def _url(text: str) -> str | None:
    rest = text.partition("://")[2]
    if not rest:
        return None  # the pattern refuses it
    authority = re.split("[/?#]", rest, maxsplit=1)[0]
    if "@" in authority:
        return "a user and password cannot stand in a URL"
    if "#" in rest:
        return "a fragment (#...) cannot stand here"
    host, port = _split_authority(authority)
    if not is_host(host):
        return "a host is named without a dot at its end" if is_host(host.removesuffix(".")) else "not the name or the IP address of a host"
    return None if is_port(port) and port != "0" else "the port is not a number from 1 to 65535"


def _collector(text: str) -> str | None:
    return "leave /v1/traces out: it is added" if text.rstrip("/").endswith("/v1/traces") else _url(text)


def _split_authority(authority: str) -> tuple[str, str]:
    host, colon, port = authority.rpartition(":")
    return (host, port) if colon and not authority.endswith("]") else (authority, "80")


def _origin(text: str) -> str | None:
    if text.startswith("http://"):
        return "Alipay+ is called over https only: write https://host"
    return "a path cannot stand here: write https://host" if "/" in text.partition("://")[2] else _url(text)


def _server(text: str) -> str | None:
    if text.startswith("unix:"):
        return None
    return "a path cannot stand here: write http://host:port" if "/" in text.partition("://")[2] else _url(text)


def _network(text: str) -> str | None:
    try:
        network = ipaddress.ip_network(text)
    except ValueError as error:
        if "host bits" in str(error):
            return "an address within a network, not a network: write its first address"
        return "not a network: write an address or a network such as 10.0.0.0/8"
    is_mapped = isinstance(network, ipaddress.IPv6Network) and network.network_address.ipv4_mapped is not None
    return "IPv4 addresses in the form of IPv6, which no client has here: write them as IPv4" if is_mapped else None


def _path_prefix(text: str) -> str | None:
    if text == "/":
        return "a prefix of / would leave nothing for the rest: write a path such as /alipayplus"
    if any(segment in {".", ".."} for segment in text.split("/")):
        return "dot segments cannot stand here"
    return "write it without the slash at its end" if text.endswith("/") else None


def _no_own_peer(text: str) -> str | None:
    return "the metrics know Alipay+ and the auth service by this name: choose another" if text in {"alipayplus", "session"} else None


def _method(text: str) -> str | None:
    is_unknown = re.fullmatch(_METHOD, text) and text not in METHODS
    return "not known here: no route ever gets a request with this method" if is_unknown else None


def _server_name(text: str) -> str | None:
    return None if is_host(text) or is_host(f"[{text}]") else "write a host name or IP address, without brackets"


HEADER_NAME: Final = Text(_TOKEN, "the name of a header, such as X-Customer-Id", _no_framing)
REQUEST_HEADER_NAME: Final = Text(_TOKEN, "the name of a header, such as Authorization", _no_own)
IDENTITY_HEADER_NAME: Final = Text(_TOKEN, "the name of a header, such as X-Customer-Id", _no_anew)
COOKIE_NAME: Final = Text(_TOKEN, "the name of a cookie, such as sid")
URL: Final = Text(rf"https?://{HOST}(?::{PORT})?(?:/{_PATH})?(?:\?{_QUERY})?", "a URL such as http://127.0.0.1:8081/session", _url)
COLLECTOR: Final = Text(rf"https?://{HOST}(?::{PORT})?(?:/{_PATH})?", "a URL such as http://127.0.0.1:4318", _collector)
ORIGIN: Final = Text(rf"https://{HOST}(?::{PORT})?", "https://host or https://host:port", _origin)
SERVER: Final = Text(rf"https?://{HOST}(?::{PORT})?|unix:.+", "http://host:port, https://host:port or unix:PATH", _server)
NETWORK: Final = Text(r"[0-9A-Fa-f:.]+(?:/[0-9]{1,3})?", "an address or network such as 10.20.0.0/16", _network)
PROXY: Final = Text(rf"http://{HOST}:{PORT}", "http://host:port", _url)
SERVER_NAME: Final = Text(rf"{LABEL}(?:\.{LABEL})*|[0-9A-Fa-f:.]+", "a host name or IP address, without brackets", _server_name)
JSON_POINTER: Final = Text(r"(?:/(?:[^~/]|~[01])*)+", "a JSON Pointer (RFC 6901) such as /user/customerId")
PATH_PREFIX: Final = Text(rf"(?:/{_SEGMENT})+", "a path such as /alipayplus: letters, digits and -._~!$&'()*+,=:@ only", _path_prefix)
ROUTE_PREFIX: Final = Text(r"/.*", "a path such as /wallet, or / for all")
HOST_NAME: Final = Text(r"[a-z0-9_-]+(?:\.[a-z0-9_-]+)*|\[[0-9a-f:.]+\]", "a host name in lower case, without port")
METHOD: Final = Text(_METHOD, "a method in capitals, such as GET", _method)
UPSTREAM: Final = Text(r"(?!(?:alipayplus|session)$)[A-Za-z0-9._-]{1,64}", "a name of letters, digits and ._-", _no_own_peer)
REQUEST_PATH: Final = Text(rf"/{_PATH}(?:\?{_QUERY})?", "a path such as /healthz")
HEADER_VALUE: Final = Text(r"[!-~](?:[\t -~]*[!-~])?", "printable ASCII without spaces at its ends")
CLIENT_ID: Final = Text(r"[!-~]{1,128}", "1 to 128 printable ASCII characters without spaces")
KEY_VERSION: Final = Text(r"(?!\*$)[!-+\--<>-~]{1,64}", 'printable ASCII without space, "," and "="; not "*"')
KEY_VERSION_OR_ANY: Final = Text(r"[!-+\--<>-~]{1,64}", 'printable ASCII without space, "," and "=", or "*" for every version not listed')
SCENE: Final = Text(r"[ -~]{1,64}", "1 to 64 printable ASCII characters")
FILE: Final = Text(r".+", "the path of a file")
MODE: Final = Text(r"0[0-7]{3}", "an octal mode such as 0660")
