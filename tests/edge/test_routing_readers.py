"""What servers behind the gateway make of what it forwards: readers in the manner of common servers, nginx, and aiohttp."""

import asyncio
import random
import re
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import unquote_to_bytes, urlsplit

import pytest
from aiohttp import web
from hypothesis import example, given, settings
from hypothesis import strategies as st
from yarl import URL

from gateway.edge.routes import Route
from gateway.edge.routing import RouteTable, upstream_target
from gateway.edge.target import parse
from gateway.errors import GatewayError

SDK_PREFIX = "/alipayplus"
ROOT = Route("/", "wallet")
AUTH = Route("/auth", "login", session="none")
ADMIN = Route("/auth/admin", "wallet", session="required")

# The readers are written apart from the code under test.


def resolved(path: bytes) -> bytes:
    """RFC 3986, 5.2.4, and what lies above the root is the root."""
    kept: list[bytes] = []
    for segment in path.split(b"/")[1:]:
        if segment == b"..":
            del kept[-1:]
        elif segment != b".":
            kept.append(segment)
    return b"/" + b"/".join(kept)


def merged(path: bytes) -> bytes:
    return re.sub(b"/+", b"/", path)


def cut(path: bytes) -> bytes:
    return re.sub(b";[^/]*", b"", path)


def lenient(path: bytes) -> bytes:
    """Overlong forms of ASCII as an old decoder reads them."""
    return re.sub(rb"[\xc0\xc1](.)", lambda match: bytes([match[1][0] & 0x3F | 0x40 * (match[0][0] & 1)]), path)


def decoded(path: bytes) -> bytes:
    return unquote_to_bytes(path)


def unreserved_only(path: bytes) -> bytes:
    return re.sub(b"%([46][1-9a-fA-F]|[57][0-9aA]|3[0-9]|2[dDeE]|5[fF]|7[eE])", lambda match: unquote_to_bytes(match[0]), path)


READERS: dict[str, Callable[[bytes], bytes]] = {
    "as it is": lambda path: path,
    "nginx": lambda path: resolved(merged(decoded(path))),
    "nginx, merge_slashes off": lambda path: resolved(decoded(path)),
    "Tomcat": lambda path: resolved(merged(decoded(cut(path)))),
    "Jetty": lambda path: resolved(cut(decoded(path))),
    "Shiro": lambda path: resolved(merged(decoded(path).partition(b";")[0])),
    "decoded twice": lambda path: resolved(merged(decoded(decoded(path)))),
    "decoded twice, cut between": lambda path: resolved(merged(decoded(cut(decoded(path))))),
    "decoded twice, cut at last": lambda path: resolved(merged(cut(decoded(decoded(path))))),
    "decoded behind a resolving proxy": lambda path: resolved(decoded(resolved(decoded(path)))),
    "IIS": lambda path: resolved(merged(lenient(decoded(path)).replace(b"\\", b"/"))),
    "IIS, decoded twice": lambda path: resolved(merged(lenient(decoded(lenient(decoded(path)))).replace(b"\\", b"/"))),
    "RFC 3986, 6.2.2": lambda path: resolved(unreserved_only(path)),
    "%2f only": lambda path: resolved(re.sub(b"%2[fF]", b"/", path)),
    "a C string": lambda path: resolved(merged(decoded(path).partition(b"\0")[0])),
    "a C string, decoded twice": lambda path: resolved(merged(decoded(decoded(path)).partition(b"\0")[0])),
    "split at ? once decoded": lambda path: resolved(merged(decoded(path).partition(b"?")[0])),
    "split at # once decoded": lambda path: resolved(merged(decoded(path).partition(b"#")[0])),
    "a URI reference": lambda path: resolved(decoded(urlsplit(path).path or b"/")) if b"[" not in path and b"]" not in path else path,
    "a URL of browsers and node": lambda path: resolved(decoded(re.sub(b"^//+[^/]*", b"", path) or b"/")),
    "that behind a decoding proxy": lambda path: resolved(re.sub(b"^//+[^/]*", b"", decoded(path)) or b"/"),
    "that behind a proxy that cuts": lambda path: resolved(re.sub(b"^//+[^/]*", b"", cut(path)) or b"/"),
    "yarl": lambda path: URL.build(path=path.decode("latin-1"), encoded=True).path.encode(),
}

PIECES = [
    *["/", "/", "/", "//", "%2f", "%2F", "%252f", "%252F", ";", "%3b", "%253b", ";x=1", "%3f", "%23", "%253f", "?", "#"],
    *[".", "..", "/../", "%2e", "%2E%2e", "%252e", "..;", ".;/", "..%2f", "\\", "%5c", "%255c", "%00", "%2500", "%0a", "%7f"],
    *["%c0%ae", "%c0%af", "%25c0%25af", "%e0%80%af", "%", "%2", "%zz", "%25", "%2525", "%252525", "\u00e9", "%C3%A9", "%ff"],
    *[
        "auth",
        "auth",
        "admin",
        "admin",
        "public",
        "alipayplus",
        "alipayplus",
        "%61uth",
        "%2561dmin",
        "a",
        "x",
        "Auth",
        "authx",
        "[",
        "@",
        ":",
    ],
]
TARGETS = st.lists(st.sampled_from(PIECES), max_size=9).map(lambda pieces: "/" + "".join(pieces))


def owner(routes: list[Route], path: bytes) -> Route | None:
    """The route of a path as a table that knows prefixes only would have it."""
    below = [route for route in routes if f"{path.decode('latin-1')}/".startswith(f"{route.prefix.rstrip('/')}/")]
    return max(below, key=lambda route: len(route.prefix), default=None)


ROUTES = st.lists(
    st.builds(
        Route,
        prefix=st.sampled_from(["/", "/auth", "/auth/admin", "/admin", "/public", "/public/auth", "/x", "/a/x"]),
        upstream=st.sampled_from(["wallet", "login"]),
        session=st.sampled_from(["required", "optional", "none"]),
    ),
    unique_by=lambda route: route.prefix,
    max_size=5,
)


@settings(max_examples=1500)
@given(ROUTES, TARGETS)
@example([AUTH, ADMIN], "/auth/..%2fadmin")
@example([AUTH, ADMIN], "/auth/x;%2fadmin")
@example([ROOT, AUTH], "//x/auth")
@example([ROOT, AUTH], "///x/auth")
@example([ROOT, AUTH], "////x%2fy/auth")
@example([ROOT, AUTH], "/%2fx/auth")
@example([ROOT, AUTH], "/;/x/auth")
@example([ROOT, AUTH], "/auth%3fx")
@example([ROOT, AUTH], "/auth%2500x")
@example([ROOT, AUTH], "/x%255cauth")
@example([ROOT, AUTH], "/x%25c0%25afauth")
def test_G4_no_reading_of_what_is_forwarded_is_another_route_s_or_the_sdk_s(routes: list[Route], raw: str) -> None:
    table = RouteTable(routes, SDK_PREFIX)
    try:
        target = parse(raw)
        route = table.match(target, "GET", "api.example").route
    except GatewayError:
        return
    if route is None:
        return
    sent = upstream_target(route, target)
    assert sent == raw
    for reader, read in READERS.items():
        path = read(sent.partition("?")[0].encode())
        assert not f"{path.decode('latin-1')}/".startswith(f"{SDK_PREFIX}/"), reader
        place = owner(routes, path)
        assert place is not None, reader
        assert (place.session, place.upstream) == (route.session, route.upstream), reader


@settings(max_examples=1000)
@given(TARGETS)
@example("//x/admin")
@example("/%2fx/admin")
def test_G4_no_reading_of_what_is_sent_without_its_prefix_is_another_route_s_below_it(raw: str) -> None:
    stripped = Route("/auth", "wallet", session="none", strip_prefix=True)
    try:
        target = parse(f"/auth{raw}")
        route = RouteTable([stripped, ADMIN], SDK_PREFIX).match(target, "GET", "api.example").route
    except GatewayError:
        return
    if route is not stripped:
        return
    sent = upstream_target(route, target).partition("?")[0].encode()
    for reader, read in READERS.items():
        assert owner([stripped, ADMIN], b"/auth" + read(sent)) is stripped, reader


@given(
    st.lists(st.sampled_from(["auth", "admin", "public", "x", "alipayplusx", "a.b", "..."]), min_size=1), st.text("az=&/?.%;", max_size=8)
)
def test_targets_without_oddities_take_the_route_of_their_prefix(segments: list[str], query: str) -> None:
    raw = f"/{'/'.join(segments)}?{query}"
    target = parse(raw)
    route = RouteTable([ROOT, AUTH, ADMIN], SDK_PREFIX).match(target, "GET", "").route
    assert route is not None
    assert route is owner([ROOT, AUTH, ADMIN], target.path.encode())
    assert upstream_target(route, target) == raw


# Real servers: which of two places do they choose for what is forwarded under a route?

GUARDED = Route("/auth", "wallet", session="required")
OPEN = Route("/", "wallet", session="none")
PLACES = {"auth": GUARDED, "root": OPEN}
TWO = RouteTable([OPEN, GUARDED], SDK_PREFIX)


def taken(raw: str) -> Route | None:
    return TWO.match(parse(raw), "GET", "gateway.test").route


def forwarded(count: int) -> list[str]:
    """Targets that the table forwards, made of whatever might be read in two ways."""
    choose = random.Random(3)
    found: dict[str, None] = {}
    while len(found) < count:
        raw = choose.choice(["/", "/auth/"]) + "".join(choose.choices(PIECES, k=choose.randint(1, 6)))
        try:
            if taken(raw):
                found[raw] = None
        except GatewayError:
            pass
    return list(found)


NGINX = """
daemon off;
master_process off;
pid {folder}/pid;
error_log stderr notice;
events {{ worker_connections 64; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    keepalive_requests 1000000;
    merge_slashes {merge_slashes};
    server {{
        listen unix:{folder}/s;
        location / {{ return 200 root; }}
        location = /auth {{ return 200 auth; }}
        location /auth/ {{ return 200 auth; }}
        location = /alipayplus {{ return 200 sdk; }}
        location /alipayplus/ {{ return 200 sdk; }}
    }}
}}
"""


@pytest.fixture(params=["on", "off"])
def nginx(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A real nginx on a unix socket; the path of the socket."""
    program = shutil.which("nginx")
    if program is None:
        pytest.skip("needs nginx (Debian: nginx-light)")
    (tmp_path / "conf").write_text(NGINX.format(folder=tmp_path, merge_slashes=request.param))
    with subprocess.Popen([program, "-p", str(tmp_path), "-e", "stderr", "-c", "conf"], stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            assert any("using the" in line for line in process.stderr)  # it listens, and takes connections up
            yield tmp_path / "s"
        finally:
            process.terminate()


def answers(path: Path, targets: list[str]) -> list[tuple[int, str]]:
    """Ask for all targets, written as they are, on one connection."""
    found: list[tuple[int, str]] = []
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(path))
        reader = connection.makefile("rb")
        for target in targets:
            connection.sendall(f"GET {target} HTTP/1.1\r\nHost: gateway.test\r\n\r\n".encode())
            status = int(reader.readline().split(b" ")[1])
            fields = dict(line.rstrip(b"\r\n").split(b": ", 1) for line in iter(reader.readline, b"\r\n"))
            found.append((status, reader.read(int(fields[b"Content-Length"])).decode()))
    return found


def test_G4_nginx_reads_what_is_forwarded_as_the_gateway_does(nginx: Path) -> None:
    targets = forwarded(4000)
    for target, (status, place) in zip(targets, answers(nginx, targets), strict=True):
        assert status == 200, target
        assert PLACES[place] is taken(target), target


async def test_G4_aiohttp_reads_what_is_forwarded_as_the_gateway_does(tmp_path: Path) -> None:
    async def place(request: web.BaseRequest) -> web.Response:
        below = f"{request.path}/".startswith
        return web.Response(text="sdk" if below("/alipayplus/") else "auth" if below("/auth/") else "root")

    runner = web.ServerRunner(web.Server(place))
    await runner.setup()
    await web.UnixSite(runner, str(tmp_path / "s")).start()
    targets = forwarded(2000)
    for target, (status, name) in zip(targets, await asyncio.to_thread(answers, tmp_path / "s", targets), strict=True):
        assert status == 200, target
        assert PLACES[name] is taken(target), target
    await runner.cleanup()
