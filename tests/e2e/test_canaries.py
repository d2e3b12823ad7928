"""Secrets in every field, over every path and every class of fault: they come out nowhere (faults G9).

Each secret is a word of its own. What a gateway writes, shows and answers by itself is searched for all of them.
"""

import asyncio
import json
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import aiohttp
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from gateway.errors import FAILURES
from gateway.simulator import Behaviour, Login, Simulator
from gateway.simulator.auth import Auth
from gateway.simulator.keys import write_private
from tests.e2e.conftest import Process
from tests.e2e.test_listeners import tls
from tests.ports import free_port
from tests.upstream.certificates import Authority

_WORDS: Final = ("token", "cookie", "customer", "header", "data", "query", "scene", "field", "body", "method")
CANARIES: Final = tuple(f"canary{word}7f3a" for word in (*_WORDS, "target", "hashkey", "peer", "password"))
TOKEN, COOKIE, CUSTOMER, HEADER, DATA, QUERY, SCENE, FIELD, BODY, METHOD, TARGET, HASH_KEY, PEER, PASSWORD = CANARIES

SECRETS: Final = (HASH_KEY, PASSWORD, Auth().client_secret)
"""Those that stand in the configuration."""

SDK: Final = "/alipayplus/v1/sdkProxy"
LOGIN: Final = f"Authorization: Bearer demo-token-{TOKEN}\r\nCookie: sid={COOKIE}; other={COOKIE}\r\n"
OTHERS: Final = (
    f"X-Other: {FIELD}\r\nX-Request-Id: {FIELD}\r\ntraceparent: {FIELD}\r\nX-Customer-Id: {CUSTOMER}\r\nX-Forwarded-For: {FIELD}\r\n"
    f"Referer: http://{FIELD}/\r\nUser-Agent: {FIELD}\r\n"
)
STRINGS: Final = {"scene": SCENE, "proxyRequestHeader": HEADER, "proxyRequestData": DATA}


def request(line: str, *fields: str, body: str = "", login: str = LOGIN) -> bytes:
    """Return a request whose every other field is a canary too, the last one on its connection."""
    length = f"Content-Length: {len(body)}\r\n" if body or line.startswith("POST") else ""
    own = "".join(f"{name}\r\n" for name in fields)
    return f"{line} HTTP/1.1\r\nHost: a\r\n{login}{OTHERS}{own}{length}Connection: close\r\n\r\n{body}".encode()


def call(
    body: str | None = None, *, media_type: str = "application/json", line: str = f"POST {SDK}?q={QUERY}", login: str = LOGIN
) -> bytes:
    return request(line, f"Content-Type: {media_type}", body=json.dumps(STRINGS) if body is None else body, login=login)


def api(line: str = f"POST /api/echo?q={QUERY}", *fields: str, body: str = BODY, login: str = LOGIN) -> bytes:
    return request(line, *fields, body=body, login=login)


UPGRADE: Final = ("Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==")

ALIPAYPLUS: Final[Mapping[str, dict[str, Any]]] = {
    "success": {"header": PEER, "data": PEER},
    "failed": {"code": "PROCESS_FAIL"},
    "unknown-code": {"code": "NEW_CODE", "status": "U"},  # a code is logged: it is verified, and what the partner is asked about
    "unsigned-failure": {"code": "INVALID_CLIENT", "signed": False},
    "tampered": {"tampered": True, "message": PEER},
    "other-version": {"key_version": PEER, "message": PEER},
    "other-client": {"client_id": PEER, "message": PEER},
    "no-signature": {"omit": ("signature",), "response_time": PEER},
    "junk-signature": {"signature_form": "junk", "message": PEER},
    "http-error": {"http_status": 500, "text": PEER},
    "redirect": {"http_status": 302, "headers": (("Location", f"http://{PEER}/"),)},
    "html": {"text": f"<html>{PEER}</html>", "signed": False},
    "not-json": {"content": "not_json", "text": PEER},
    "gzip": {"coding": "gzip", "headers": (("X-Peer", PEER),)},
    "reset": {"drop": "after_reading"},
    "reset-in-headers": {"drop": "in_headers", "headers": (("X-Peer", PEER),)},
    "reset-in-body": {"drop": "in_body", "message": PEER},
    "truncated": {"framing": "truncated", "message": PEER},
    "bad-chunk": {"framing": "bad_chunk", "message": PEER},
    "extra": {"extra": PEER},
}

AUTH: Final[Mapping[str, dict[str, Any]]] = {
    "denied": {"status": 401, "text": PEER, "headers": (("X-Peer", PEER),)},
    "forbidden": {"status": 403, "text": PEER},
    "redirect": {"status": 302, "headers": (("Location", f"http://{PEER}/"),)},
    "error": {"status": 500, "text": PEER},
    "unreadable": {"status": 200, "text": f"<html>{PEER}"},
    "junk": {"status": 200, "text": f'{{"active": "{PEER}"}}'},
    "long-id": {"customer_id": CUSTOMER * 9},
    "broken-id": {"customer_id": f"{CUSTOMER} \x7f"},
    "reset": {"drop": "after_reading"},
    "truncated": {"framing": "truncated", "headers": (("X-Peer", PEER),)},
}

CLIENT: Final[Mapping[str, bytes]] = {
    "sdk-customer-id": call(json.dumps({**STRINGS, "customerId": CUSTOMER})),
    "sdk-not-json": call(f"{{{BODY}"),
    "sdk-wrong-types": call(json.dumps({"scene": [BODY], "proxyRequestHeader": {BODY: BODY}, "proxyRequestData": 1})),
    "sdk-media-type": call(media_type=f"text/{FIELD}"),
    "sdk-too-large": call(json.dumps({**STRINGS, "x": BODY * 1000})),
    "sdk-no-login": call(login=""),
    "sdk-large-login": call(login=f"Authorization: Bearer {TOKEN * 600}\r\n"),
    "sdk-other-path": call(line=f"POST /alipayplus/v1/other?q={QUERY}"),
    "sdk-other-method": call(line=f"PUT {SDK}?q={QUERY}"),
    "sdk-unknown-method": call(line=f"{METHOD.upper()} {SDK}?q={QUERY}"),
    "api": api(),
    "api-no-login": api(login=""),
    "api-wrong-login": api(login=f"Authorization: Bearer {TOKEN}\r\n"),
    "api-too-large": api(body=BODY * 1000),
    "api-websocket": api(f"GET /api/socket?q={QUERY}", *UPGRADE, body=""),
    "api-refused-websocket": api(f"GET /api/echo?q={QUERY}", *UPGRADE, body=""),
    "api-not-found": api(f"GET /api/none?q={QUERY}", body=""),
    "no-route": api(f"GET /none?q={QUERY}", body=""),
    "unknown-method": api(f"{METHOD.upper()} /api/echo?q={QUERY}", body=""),
    "dot-segments": api(f"GET /api/%2e%2e/{TARGET}?q={QUERY}", body=""),
    "bad-escape": api(f"GET /api/%zz{TARGET}", body=""),
    "other-authority": api(f"GET http://{TARGET}/api/echo", body=""),
    "userinfo": api(f"GET http://u:{TARGET}@a/api/echo", body=""),
    "no-http": f"{METHOD}\r\n{TARGET}\r\n\r\n".encode(),
    "control-character": api("GET /api/echo", f"X-Bad: {FIELD}\x00", body=""),
    "header-with-space": api("GET /api/echo", f"{FIELD} x: {FIELD}", body=""),
    "two-hosts": api("GET /api/echo", f"Host: {FIELD}", body=""),
    "bad-host": request("GET /api/echo", f"Host: {FIELD}!").replace(b"Host: a\r\n", b""),
    "two-lengths": api("POST /api/echo", f"Content-Length: {FIELD}"),
    "bad-coding": api("POST /api/echo", f"Transfer-Encoding: {FIELD}", body=""),
    "large-head": api("GET /api/echo", *(f"X-Large: {FIELD * 50}" for _ in range(30)), body=""),
    "many-fields": api("GET /api/echo", *(f"X-Many: {FIELD}" for _ in range(120)), body=""),
    "half-a-head": f"GET /api/{TARGET} HTTP/1.1\r\nX: {FIELD}".encode(),
    "half-a-body": call().removesuffix(b'"}'),
}

SILENCE: Final = b"never"
UPSTREAM: Final[Mapping[str, bytes]] = {
    "ok": f"HTTP/1.1 200 OK\r\nX-Peer: {PEER}\r\nContent-Length: 4\r\n\r\nbody".encode(),
    "error": f"HTTP/1.1 500 {PEER}\r\nContent-Length: 4\r\n\r\nbody".encode(),
    "no-http": f"{PEER}\r\n\r\n".encode(),
    "bad-status": f"HTTP/1.1 {PEER}\r\n\r\n".encode(),
    "bad-field": f"HTTP/1.1 200 OK\r\n{PEER} x: {PEER}\r\n\r\n".encode(),
    "two-lengths": f"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nContent-Length: 5\r\nX: {PEER}\r\n\r\nbody".encode(),
    "half-a-head": f"HTTP/1.1 200 OK\r\nX-Peer: {PEER}".encode(),
    "half-a-body": f"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{PEER}".encode(),
    "bad-chunk": f"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{PEER}\r\n".encode(),
    "switch": f"HTTP/1.1 101 {PEER}\r\nUpgrade: {PEER}\r\nConnection: upgrade\r\n\r\n".encode(),
    "nothing": b"",
    "silent": SILENCE,
}


@dataclass
class Heard:
    """What a gateway has written, shown and answered by itself, under the name of what it was asked."""

    texts: list[tuple[str, bytes]] = field(default_factory=list)
    requests: int = 0
    codes: set[str] = field(default_factory=set)

    async def ask(self, name: str, gateway: Process, data: bytes) -> None:
        """Send one request and keep its answer, if it is the gateway's own."""
        self.requests += 1
        answer = await exchange(gateway.port, data)
        if b'"source":"gateway"' in answer:
            self.texts.append((name, answer))
            self.codes.add(json.loads(answer.partition(b"\r\n\r\n")[2])["resultCode"])

    def leaks(self, words: tuple[str, ...]) -> list[tuple[str, str, str]]:
        return [
            (name, word, line.decode(errors="replace"))
            for name, text in self.texts
            for line in text.splitlines()
            for word in words
            if word.encode().lower() in line.lower()
        ]


async def exchange(port: int, data: bytes) -> bytes:
    """Send bytes, which may end in the middle, and return what comes until the end."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answer = b""
    with suppress(ConnectionError):
        writer.write(data)
        if b"Upgrade: websocket" in data:
            answer = await reader.readuntil(b"\r\n\r\n")
            writer.write(b"\x81\x8b" + bytes(4) + BODY[:11].encode())
            writer.write(b"\x88\x80" + bytes(4))
        answer += await asyncio.wait_for(reader.read(), 20)
    writer.close()
    return answer


@asynccontextmanager
async def upstreams() -> AsyncIterator[dict[str, int]]:
    """Servers that answer as UPSTREAM says; give their ports."""

    async def serve(answer: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            await reader.readuntil(BODY.encode())
            await (reader.read() if answer == SILENCE else asyncio.sleep(0))
            writer.write(answer)
            await writer.drain()
        writer.close()

    servers = {
        name: await asyncio.start_server(lambda r, w, answer=answer: serve(answer, r, w), "127.0.0.1", 0)  # type: ignore[misc]
        for name, answer in UPSTREAM.items()
    }
    try:
        yield {name: server.sockets[0].getsockname()[1] for name, server in servers.items()}
    finally:
        for server in servers.values():
            server.close()


FORWARD: Final = {"forward": {"forward_headers": ["X-Customer-Tier"]}}
INTROSPECTION: Final = {
    "forward": None,
    "introspection": {
        "url": "http://127.0.0.1:AUTH/introspect",
        "client_id": Auth().client_id,
        "client_secret": Auth().client_secret,
    },
}


def changes(sim: Simulator, session: Mapping[str, Any], log_format: str, ports: Mapping[str, int]) -> dict[str, Any]:
    servers: dict[str, Any] = {
        name: {"servers": f"http://127.0.0.1:{port}", "ejection": {"failures": 1000}, "response_timeout": "500ms"}
        for name, port in ports.items()
    }
    servers["refused"] = {"servers": f"http://127.0.0.1:{free_port()}", "ejection": {"failures": 1, "max_share": 1.0}}
    routes = [{"prefix": "/api", "upstream": "wallet", "max_body": "4KiB"}, *({"prefix": f"/{n}", "upstream": n} for n in servers)]
    login: dict[str, Any] = json.loads(json.dumps(session).replace("AUTH", str(sim.ports.auth)))
    return {
        "server": {"limits": {"header_timeout": "500ms", "body_idle_timeout": "500ms"}},
        "session": login,
        "alipayplus": {
            "max_in_flight": 1,
            "queue_timeout": "300ms",
            "timeout": "10001ms",
            "signing": {"private_keys": {"1": {"file": "keys/encrypted.pem", "password": PASSWORD}}},
        },
        "sdk_proxy": {"max_body": "4KiB"},
        "api": {"upstreams": servers, "routes": routes},
        "telemetry": {"log": {"level": "debug", "format": log_format, "customer_hash_key": HASH_KEY}},
    }


async def ask_everything(heard: Heard, sim: Simulator, gateway: Process) -> None:
    for name, data in CLIENT.items():
        await heard.ask(name, gateway, data)
    for name, behaviour in ALIPAYPLUS.items():
        sim.alipayplus.script(Behaviour(**behaviour))
        await heard.ask(f"alipayplus-{name}", gateway, call())
        sim.alipayplus.scripted.reset()
    for name, login in AUTH.items():
        for path, data in (("sdk", call()), ("api", api())):
            sim.auth.script(Login(**login), times=2)  # a call-out is repeated when a kept connection is lost
            await heard.ask(f"auth-{name}-{path}", gateway, data)
            sim.auth.scripted.reset()
    for name in UPSTREAM.keys() - {"silent"}:
        await heard.ask(f"upstream-{name}", gateway, api(f"POST /{name}?q={QUERY}"))
    for name in ("refused", "out", "silent"):
        await heard.ask(f"upstream-{name}", gateway, api(f"POST /{'silent' if name == 'silent' else 'refused'}?q={QUERY}"))
    sim.alipayplus.script(Behaviour(hold=True))
    received = sim.alipayplus.count
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(heard.ask("alipayplus-late", gateway, call()))
        await sim.alipayplus.until_received(received + 1)
        await heard.ask("no-place", gateway, call())
    await sim.alipayplus.close()
    await heard.ask("alipayplus-refused", gateway, call())


async def look_everywhere(heard: Heard, gateway: Process, run_gateway: Any) -> None:
    async with aiohttp.ClientSession() as http:
        for path in ("/", "/status.json", "/metrics", "/livez", "/readyz", "/startupz", "/none"):
            for accept in ("*/*", "application/openmetrics-text"):
                secret = {"Accept": accept, "X-Other": FIELD, "Authorization": f"Bearer {TOKEN}"}
                async with http.get(f"http://127.0.0.1:{gateway.admin}{path}?q={QUERY}", headers=secret) as answer:
                    heard.texts.append((path, await answer.read()))
    await exchange(gateway.admin, f"{METHOD}\r\n{TARGET}\r\n\r\n".encode())
    for command in (("config",), ("check",), ("keys", "show")):
        _, out, err = await run_gateway(*command, "-c", str(gateway.config))
        heard.texts.append((" ".join(command), f"{out}{err}".encode()))


def with_secrets_of_the_wrong_form(text: str) -> str:
    for secret in SECRETS:
        text = text.replace(f": {secret}", f": [{secret}, 1]")
    return text


def write_encrypted(folder: Path, key: rsa.RSAPrivateKey) -> None:
    """Write our key under a password."""
    encryption = serialization.BestAvailableEncryption(PASSWORD.encode())
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
    write_private(folder / "keys" / "encrypted.pem", pem)


def pem_lines(folder: Path) -> tuple[str, ...]:
    """Return the lines of all private keys, but for their first and last ones, which look alike in public ones."""
    files = [file for file in folder.rglob("*.pem") if b"PRIVATE KEY" in file.read_bytes()]
    assert files
    return tuple(line for file in files for line in file.read_text().splitlines()[2:-2])


@pytest.mark.parametrize(
    ("session", "log_format"),
    [pytest.param(FORWARD, "json", id="G9-forward"), pytest.param(INTROSPECTION, "console", id="G9-introspection-console")],
)
async def test_G9_secrets_come_out_nowhere(
    start: Any, run_gateway: Any, tmp_path: Path, session: Mapping[str, Any], log_format: str
) -> None:
    sim: Simulator = await start.simulator()
    heard = Heard()
    write_encrypted(tmp_path, sim.keys.mpp)
    async with upstreams() as ports:
        gateway: Process = await start.begin(sim, changes(sim, session, log_format, ports))
        await gateway.until_said(b"serving")
        await ask_everything(heard, sim, gateway)
        await look_everywhere(heard, gateway, run_gateway)
        gateway.config.write_text(with_secrets_of_the_wrong_form(gateway.config.read_text()))
        gateway.process.send_signal(signal.SIGHUP)
        await gateway.until_said(b"could not be reloaded")
        assert await gateway.stop() == 0
    heard.texts += [("standard output", bytes(gateway.out)), ("standard error", bytes(gateway.err))]
    assert heard.leaks((*CANARIES, *SECRETS, *pem_lines(tmp_path))) == []
    assert b"Traceback" not in gateway.err
    unseen = {"INTERNAL_ERROR"} if session is FORWARD else {"INTERNAL_ERROR", "SESSION_FORBIDDEN"}
    assert heard.codes == FAILURES.keys() - unseen
    if log_format == "json":
        assert len(gateway.lines()) == heard.requests
        assert all(json.loads(line) for line in gateway.err.splitlines())


async def test_G9_secrets_of_handshakes_and_proxies_come_out_nowhere(start: Any, tmp_path: Path) -> None:
    sim: Simulator = await start.simulator()
    pair = Authority(tmp_path, "authority").issue("localhost", "localhost", "127.0.0.1")
    heard = Heard()
    for settings in (tls(pair), {"proxy_protocol": True, "trusted_proxies": ["127.0.0.1/32"]}):
        gateway = await start(sim, {"server": settings, "telemetry": {"log": {"level": "debug"}}})
        for data in (call(), f"PROXY TCP4 {FIELD} {FIELD} 1 2\r\n".encode() + call(), b"\x16\x03\x01\x02" + FIELD.encode() * 99):
            heard.texts.append(("answer", await exchange(gateway.port, data)))
        assert await gateway.stop() == 0
        heard.texts += [("standard output", bytes(gateway.out)), ("standard error", bytes(gateway.err))]
        assert b"Traceback" not in gateway.err
    assert heard.leaks(CANARIES) == []
