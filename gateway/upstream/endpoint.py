"""Where an upstream is reached: address, TLS, proxy. A value; connecting is done elsewhere."""

import re
import ssl
from dataclasses import dataclass, field
from ipaddress import IPv6Address
from typing import Literal, Self
from urllib.parse import urlsplit

from gateway.upstream.tls import client_context

_NAME = re.compile(r"[0-9A-Za-z._-]+")
_DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One place that speaks HTTP/1.1: `host` and `port`, or the `path` of a unix socket.

    `tls` is set if and only if the scheme is https; `server_name` is what its certificate must be for (and the SNI).
    `proxy` is the host and port of a proxy that is asked for a tunnel by CONNECT.
    `name` is its label in metrics and logs, `host:port` or `unix:PATH`; `authority` the value of Host: with the port where it is not
    the scheme's default (RFC 9110 section 7.2).
    """

    scheme: Literal["http", "https", "unix"]
    host: str
    port: int
    path: str | None = None
    tls: ssl.SSLContext | None = field(default=None, repr=False)
    server_name: str | None = None
    proxy: tuple[str, int] | None = None
    name: str = field(init=False, repr=False, compare=False)
    authority: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Write the texts that each request needs."""
        place = f"{_bracketed(self.host)}:{self.port}"
        object.__setattr__(self, "name", f"unix:{self.path}" if self.path is not None else place)
        is_usual = self.port in (0, _DEFAULT_PORTS.get(self.scheme))
        object.__setattr__(self, "authority", _bracketed(self.host) if is_usual else place)

    @classmethod
    def parse(cls, url: str, *, tls: ssl.SSLContext | None = None, server_name: str | None = None, proxy: str | None = None) -> Self:
        """Read `http://host[:port]`, `https://host[:port]` (path and query of a URL are the caller's and ignored) or `unix:PATH`.

        An https endpoint without `tls` trusts the system's certificate authorities. Raises ValueError with a text that may be printed.
        """
        if url.startswith("unix:"):
            return cls("unix", "localhost", 0, path=_path(url.removeprefix("unix:")))
        scheme, host, port = _origin(url, ("http", "https"))
        through = _origin(proxy, ("http",))[1:] if proxy is not None else None
        if scheme == "http":
            return cls("http", host, port, proxy=through)
        return cls("https", host, port, tls=tls or client_context(None), server_name=server_name or host, proxy=through)

    def url(self, path: str) -> str:
        """Return the URL of a path there, to be shown; a unix socket is `http://localhost`."""
        return f"{'http' if self.path is not None else self.scheme}://{self.authority}{path}"


def _origin(url: str, schemes: tuple[str, ...]) -> tuple[Literal["http", "https"], str, int]:
    parts = urlsplit(url)
    if parts.scheme not in schemes:
        raise ValueError(f"a URL with one of the schemes {', '.join(schemes)} is needed")
    if "@" in parts.netloc or parts.fragment:
        raise ValueError("a URL without user, password and fragment is needed")
    host = _host(parts.hostname)
    if parts.port == 0:
        raise ValueError("a URL with a port from 1 to 65535 is needed")
    scheme: Literal["http", "https"] = "https" if parts.scheme == "https" else "http"
    return scheme, host, _DEFAULT_PORTS[scheme] if parts.port is None else parts.port


def _host(name: str | None) -> str:
    if not name:
        raise ValueError("a URL with a host is needed")
    if ":" in name:
        return str(IPv6Address(name))
    try:
        ascii_name = name.encode("idna").decode("ascii")
    except UnicodeError:
        ascii_name = ""
    if not _NAME.fullmatch(ascii_name):
        raise ValueError("the host of the URL is neither a name nor an address")
    return ascii_name


def _path(text: str) -> str:
    if not text or "\0" in text:
        raise ValueError("unix: needs the path of a socket")
    return text


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
