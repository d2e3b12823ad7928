"""The request target: what of it is refused before anything is decided, and as which paths a server behind the gateway may read it.

Nothing is normalised: what passes goes upstream byte for byte (architecture, Request targets; faults A4 and G4). Which route a target
takes, and whether its readings agree on that, is decided in `gateway.edge.routing`.

The rules on escapes, dot segments and backslashes concern the path, since only the path leads anywhere. The query is data: it must be
visible ASCII without `#` (RFC 3986, 3.4; RFC 9112, 3.2), and is otherwise passed as it is, `%00`, `%5c` and `%zz` included.
"""

import re
from typing import Final
from urllib.parse import unquote_to_bytes

from msgspec import Struct

from gateway.errors import GatewayError

_SEGMENT: Final = r"A-Za-z0-9\-_~!$&'()*+,=:@|^`{}\[\]\"<>"
# Segments that begin with no dot and are not empty, without escapes, `;` and backslash: such a path has one reading only.
# (No possessive groups: those of Python before 3.11.5 lose their place.)
_PLAIN: Final = re.compile(rf"(?:/[{_SEGMENT}][{_SEGMENT}.]*+)*/?(?:\?[!\"$-~]*+)?")
_VISIBLE: Final = re.compile(r"[!\"$-~]*+")  # without `#`
_ABSOLUTE: Final = re.compile(r"(https?)://([^/?#]*)(.*)", re.IGNORECASE)
_HOST: Final = re.compile(r"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::([0-9]{0,5}))?")
_DEFAULT_PORTS: Final = {"http": "80", "https": "443"}

_BAD_ESCAPE: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
# What lenient decoders take for a shorter character (RFC 3629, 10): never UTF-8, and never meant.
_OVERLONG: Final = re.compile(r"[\xc0\xc1]|\xe0[\x80-\x9f]|\xf0[\x80-\x8f]|[\xf8\xfc][\x80-\x87]")
_DOT_SEGMENT: Final = re.compile(r"/\.\.?(?![^/])")
_PARAMETERS: Final = re.compile(r"[;?#][^/]*+")
_SLASHES: Final = re.compile(r"//++")


class Target(Struct, frozen=True, gc=False):
    """A request target in origin-form that may be routed.

    `raw` is what stood in the request line (of an absolute-form its origin-form), `path` what stands before the first `?`, `query` what
    stands behind it. `readings` are the other paths as which some server may read `path`: none for nearly all targets.
    """

    raw: str
    path: str
    query: str
    readings: frozenset[str] = frozenset()


def parse(text: str, *, method: str = "GET", host: str = "") -> Target:
    """Read the request target of a request line; `host` is the value of the request's own Host field.

    Raises GatewayError REQUEST_MALFORMED for whatever is never routed (architecture, Request targets).
    """
    if not text.startswith("/"):
        text = _origin_form(text, method, host)
    path, _, query = text.partition("?")
    if _PLAIN.fullmatch(text):
        return Target(text, path, query)
    _check(text, path)
    others = readings(path) - {path}
    if any(map(_DOT_SEGMENT.search, (path, *others))):
        raise _malformed("dot segment")
    return Target(text, path, query, others)


def readings(path: str) -> frozenset[str]:
    """Return all paths as which some common server may read a raw path, itself included.

    Escapes decoded (once, and twice), segments cut at `;` (and at a decoded `?` or `#`) before or after each decoding, slashes merged, a
    leading `//name` taken for an authority (RFC 3986, 4.2), behind more slashes too (the URL standard of browsers, and of node), in every
    combination. Bytes above 127 are given as Latin-1: no prefix has them. Dot segments are not resolved and backslashes not turned: `parse`
    refuses them in every reading.
    """
    found = _cut({path})
    for _ in range(2):
        found |= _cut({_decode(reading) for reading in found if "%" in reading})
    return frozenset(found | {_SLASHES.sub("/", reading) for reading in found if "//" in reading})


def host_name(host: str) -> str:
    """Return the name in the value of a Host field: lower case, without port and final dot; empty for an empty one (RFC 9112, 3.2).

    Raises GatewayError REQUEST_MALFORMED for what is not a name or address with an optional port.
    """
    return _authority(host)[0] if host else ""


def is_host(text: str) -> bool:
    """Whether a text may stand in a Host field: a name or an address (IPv6 in brackets), and a port or none."""
    return _HOST.fullmatch(text) is not None


def _origin_form(text: str, method: str, host: str) -> str:
    absolute = _ABSOLUTE.fullmatch(text)
    if absolute is None:
        raise _malformed("neither origin-form nor absolute-form")
    scheme, authority, rest = absolute.groups()
    default = _DEFAULT_PORTS[scheme.lower()]
    if not host or _authority(authority, default) != _authority(host, default):
        raise _malformed("absolute-form with another authority")
    if not rest and method == "OPTIONS":
        raise _malformed("asterisk-form")  # what RFC 9112, 3.2.4 makes of it
    return rest if rest.startswith("/") else f"/{rest}"


def _authority(text: str, default_port: str = "") -> tuple[str, str]:
    match = _HOST.fullmatch(text)
    if match is None:
        raise _malformed("host")
    return match[1].lower().removesuffix("."), match[2] or default_port


def _check(text: str, path: str) -> None:
    if not _VISIBLE.fullmatch(text):
        raise _malformed("character that may not stand in a target")
    if _BAD_ESCAPE.search(path):
        raise _malformed("percent escape")
    once = _decode(path)
    twice = _decode(once)
    if _CONTROL.search(once) or "\0" in twice:
        raise _malformed("control character")
    if "\\" in twice or "\\" in once:
        raise _malformed("backslash")
    if not _is_utf8(once) or _OVERLONG.search(twice):
        raise _malformed("not UTF-8")


def _decode(path: str) -> str:
    """Decode the escapes once, leaving bad ones as they are; bytes above 127 as Latin-1."""
    return unquote_to_bytes(path.encode("latin-1")).decode("latin-1")


def _is_utf8(text: str) -> bool:
    try:
        text.encode("latin-1").decode()
    except UnicodeDecodeError:
        return False
    return True


def _cut(paths: set[str]) -> set[str]:
    """Return paths, and what they are without authority, without parameters, and without both, whichever is cut first."""
    cut = set(map(_without_parameters, paths | set(map(_without_authority, paths))))
    return paths | cut | set(map(_without_authority, paths | cut))


def _without_parameters(path: str) -> str:
    return _PARAMETERS.sub("", path)


def _without_authority(path: str) -> str:
    if not path.startswith("//"):
        return path
    _, slash, rest = path.lstrip("/").partition("/")
    return slash + rest if slash else "/"


def _malformed(reason: str) -> GatewayError:
    return GatewayError("REQUEST_MALFORMED", f"request target: {reason}")
