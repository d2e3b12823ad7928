"""`gateway call`: one request as an app sends it, and every way in which it can fail."""

import asyncio
import json
import re
import signal
import socket
import struct
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from pathlib import Path
from ssl import SSLContext
from typing import Any

import pytest

from gateway.commands import call
from gateway.simulator.answers import sample
from gateway.simulator.certificates import Authority

Command = Callable[..., Any]
SUCCESS = b'{"isSuccess":true,"resultCode":"SUCCESS","resultStatus":"S","requestId":"abc"}'


@dataclass
class Gateway:
    """A server that gives fixed bytes for an answer and keeps what it got."""

    url: str
    heads: list[bytes] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)


def answer(body: bytes, status: str = "200 OK") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nX-Request-Id: abc\r\n\r\n".encode() + body


@asynccontextmanager
async def serving(content: bytes | None, tls: SSLContext | None = None) -> AsyncIterator[Gateway]:
    """Serve; without content, read and never answer."""
    gateway = Gateway("")
    ended = asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with closing(writer):
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
            gateway.heads.append(head)
            gateway.bodies.append(await reader.readexactly(length))
            if content is None:
                await ended.wait()
            else:
                writer.write(content)
                await writer.drain()

    server = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=tls)
    port = server.sockets[0].getsockname()[1]
    gateway.url = f"{'https' if tls else 'http'}://127.0.0.1:{port}"
    try:
        yield gateway
    finally:
        ended.set()
        server.close()
        await server.wait_closed()


@pytest.fixture
def call_(command: Command) -> Callable[..., Awaitable[Any]]:
    """Run the command beside the event loop in which the server runs."""

    async def run(*words: object) -> Any:
        return await asyncio.to_thread(command, "call", *words)

    return run


Call = Callable[..., Awaitable[Any]]


async def test_the_sample_is_sent_to_the_default_path_and_the_answer_shown(call_: Call) -> None:
    async with serving(answer(SUCCESS)) as gateway:
        done = await call_(gateway.url)
    assert (done.code, done.out) == (0, SUCCESS.decode() + "\n")
    assert done.err.startswith("HTTP 200 OK, ")
    assert done.err.endswith(" ms, request abc\n")
    assert gateway.heads[0].startswith(b"POST /alipayplus/v1/sdkProxy HTTP/1.1\r\n")
    assert b"Content-Type: application/json\r\n" in gateway.heads[0]
    assert gateway.bodies == [sample("app-request")]


async def test_a_path_of_its_own_and_headers_are_sent_as_they_are(call_: Call) -> None:
    headers = ("--header", "Authorization: Bearer a:b", "--header", "Cookie: sid=1", "--header", "X-A:1", "--header", "X-A:2")
    async with serving(answer(SUCCESS)) as gateway:
        done = await call_(f"{gateway.url}/wallet/v1/sdkProxy?x=%20", *headers)
    assert done.code == 0
    assert gateway.heads[0].startswith(b"POST /wallet/v1/sdkProxy?x=%20 HTTP/1.1\r\n")
    for line in (b"Authorization: Bearer a:b", b"Cookie: sid=1", b"X-A: 1", b"X-A: 2"):
        assert b"\r\n" + line + b"\r\n" in gateway.heads[0]


@pytest.mark.parametrize("header", ["content-type: text/plain", "host: wallet.example"])
async def test_a_header_of_the_users_replaces_the_default(call_: Call, header: str) -> None:
    async with serving(answer(SUCCESS)) as gateway:
        await call_(gateway.url, "--header", header)
    [given] = re.findall(rb"(?mi)^" + header.partition(":")[0].encode() + rb":.*(?=\r$)", gateway.heads[0])
    assert given == header.encode()


async def test_a_file_is_sent_byte_for_byte(call_: Call, tmp_path: Path) -> None:
    (tmp_path / "body").write_bytes(b'\xef\xbb\xbf{"a":\r\n \xff}\n')
    async with serving(answer(SUCCESS)) as gateway:
        await call_(gateway.url, tmp_path / "body")
    assert gateway.bodies == [b'\xef\xbb\xbf{"a":\r\n \xff}\n']


async def test_the_scene_is_put_into_the_body_and_the_strings_stay_as_written(call_: Call, tmp_path: Path) -> None:
    (tmp_path / "body").write_bytes(b'{"scene":"OLD","proxyRequestHeader":"\\u0041\\/","proxyRequestData":"x"}')
    async with serving(answer(SUCCESS)) as gateway:
        done = await call_(gateway.url, "--scene", 'PAY"', tmp_path / "body")
    assert done.code == 0
    assert b'"proxyRequestHeader":"\\u0041\\/"' in gateway.bodies[0]
    assert json.loads(gateway.bodies[0]) == {"scene": 'PAY"', "proxyRequestHeader": "A/", "proxyRequestData": "x"}


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(answer(b'{"isSuccess":false,"resultCode":"PROCESS_FAIL"}', "422 Unprocessable"), id="a-failure"),
        pytest.param(answer(SUCCESS, "502 Bad Gateway"), id="another-status"),
        pytest.param(answer(b'{"isSuccess":"true"}'), id="not-a-boolean"),
        pytest.param(answer(b"[true]"), id="a-list"),
        pytest.param(answer(b"<html>"), id="not-json"),
        pytest.param(answer(b"[" * 100_000), id="deep-nesting"),
        pytest.param(answer(b"\xff"), id="not-utf-8"),
    ],
)
async def test_all_but_a_success_is_1_and_the_answer_is_shown(call_: Call, content: bytes) -> None:
    async with serving(content) as gateway:
        done = await call_(gateway.url)
    assert done.code == 1
    assert done.out == content.partition(b"\r\n\r\n")[2].decode(errors="replace") + "\n"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        pytest.param(b"SSH-2.0-OpenSSH\r\n", "BadStatusLine", id="not-http"),
        pytest.param(answer(SUCCESS)[:-5], "IncompleteRead", id="cut-off"),
        pytest.param(b"", "RemoteDisconnected", id="no-answer"),
    ],
)
async def test_an_answer_that_is_not_http_is_one_clear_line(call_: Call, content: bytes, says: str) -> None:
    async with serving(content) as gateway:
        done = await call_(gateway.url)
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("gateway: 127.0.0.1:")
    assert says in done.err
    assert done.err.count("\n") == 1


async def test_a_connection_that_is_lost_after_sending_is_one_clear_line(call_: Call) -> None:
    async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(sample("app-request"))
        linger = struct.pack("ii", 1, 0)  # close at once, by a reset
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        writer.close()

    async with await asyncio.start_server(reset, "127.0.0.1", 0) as server:
        place = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        done = await call_(f"http://{place}")
    assert (done.code, done.out) == (1, "")
    assert done.err == f"gateway: the connection to {place} was lost (Connection reset by peer): the request may have been executed\n"


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_an_answer_that_comes_before_the_body_was_sent_is_shown(call_: Call, tmp_path: Path, scheme: str) -> None:
    refusal = answer(b'{"isSuccess":false,"resultCode":"REQUEST_TOO_LARGE"}', "413 Too Large")

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(refusal)
        await writer.drain()
        writer.close()

    authority = Authority.generate()
    authority.write(tmp_path / "ca.pem")
    (tmp_path / "body").write_bytes(b"x" * 16 * 1024 * 1024)  # more than sockets hold
    async with await asyncio.start_server(refuse, "127.0.0.1", 0, ssl=authority.server_context() if scheme == "https" else None) as server:
        url = f"{scheme}://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        done = await call_(url, tmp_path / "body", "--ca", tmp_path / "ca.pem")
    assert done.code == 1
    assert done.out == refusal.partition(b"\r\n\r\n")[2].decode() + "\n"
    assert done.err.startswith("HTTP 413 Too Large, ")


async def test_no_answer_in_time_is_one_clear_line(call_: Call) -> None:
    async with serving(None) as gateway:
        done = await call_(gateway.url, "--timeout", "0.2")
    assert (done.code, done.out) == (1, "")
    assert done.err == f"gateway: {gateway.url.removeprefix('http://')} did not answer within 0.2 s\n"


@pytest.mark.usefixtures("interruptible")
async def test_an_interrupt_ends_it_without_a_word() -> None:
    sent, ended = asyncio.Event(), asyncio.Event()

    async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(sample("app-request"))
        sent.set()
        await ended.wait()
        writer.close()

    async with await asyncio.start_server(hold, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        calling = await asyncio.create_subprocess_exec(sys.executable, "-m", "gateway", "call", url, stdout=PIPE, stderr=PIPE)
        await sent.wait()
        calling.send_signal(signal.SIGINT)
        assert await calling.communicate() == (b"", b"")
        ended.set()
    assert calling.returncode == -signal.SIGINT


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port that is bound, so that nobody else gets it, and refuses connections."""
    with closing(socket.socket()) as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


def test_no_connection_is_one_clear_line(command: Command, closed_port: int) -> None:
    done = command("call", f"http://127.0.0.1:{closed_port}")
    assert (done.code, done.out) == (1, "")
    assert done.err == f"gateway: no connection to 127.0.0.1:{closed_port}: Connection refused\n"


def test_an_unknown_host_is_one_clear_line(command: Command) -> None:
    done = command("call http://gateway.invalid")
    assert done.code == 1
    assert done.err.startswith("gateway: no connection to gateway.invalid: ")


async def test_https_where_http_is_served_is_one_clear_line(call_: Call) -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with closing(writer):
            await reader.read(1)
            writer.write(answer(b"", "400 Bad Request"))
            await writer.drain()

    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as server:
        place = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        done = await call_(f"https://{place}", "--timeout", 10)
    assert (done.code, done.out) == (1, "")
    assert re.fullmatch(rf"gateway: no TLS with {place} \([A-Z_]+\): is it http://\?\n", done.err)


async def test_tls_is_verified(call_: Call, tmp_path: Path) -> None:
    authority = Authority.generate()
    authority.write(tmp_path / "ca.pem")
    async with serving(answer(SUCCESS), authority.server_context()) as gateway:
        trusted = await call_(gateway.url, "--ca", tmp_path / "ca.pem")
        refused = await call_(gateway.url)
    assert trusted.code == 0
    assert refused.code == 1
    assert refused.err.startswith("gateway: the certificate of 127.0.0.1:")
    assert "is not trusted" in refused.err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["ftp://host"], "write the URL as"),
        (["127.0.0.1:8080"], "write the URL as"),
        (["http://"], "write the URL as"),
        (["http://host:99999"], "write the URL as"),
        (["http://user:canary@host"], "write the URL as"),
        (["http://host/\u20ac"], "write the URL as"),
        (["http://host/a b"], "write the URL as"),
        (["http://a..b/"], "write the URL as"),
        ([f"http://{'a' * 64}"], "write the URL as"),
        (["http://host", "--header", "canary"], "write a header as 'Name: value'"),
        (["http://host", "--header", "A B: canary"], "write a header as 'Name: value'"),
        (["http://host", "--header", "A: canary\r\nB: c"], "the value of A holds characters"),
        (["http://host", "--header", "A: canary\u20ac"], "the value of A holds characters"),
        (["http://host", "/nonexistent/file"], "/nonexistent/file: No such file or directory"),
        (["http://host", "--ca", "/nonexistent/ca"], "/nonexistent/ca: No such file or directory"),
        (["http://host", "--ca", __file__], "test_call.py: no certificates in PEM"),
        (["http://host", "--scene", "S\udcff"], "--scene is not UTF-8"),
        (["http://host", "--scene", "S", __file__], "--scene needs a body that is a JSON object"),
    ],
)
def test_input_that_cannot_be_used_is_one_clear_line(command: Command, words: list[str], says: str) -> None:
    done = command("call", *words)
    assert (done.code, done.out) == (2, "")
    assert says in done.err
    assert done.err.count("\n") == 1
    assert "canary" not in done.err


def test_wrong_usage_is_2(command: Command) -> None:
    assert command("call").code == 2
    assert command("call http://host one two").code == 2
    assert command("call http://host one --scene S two").code == 2
    assert command("call http://host --unknown").code == 2


@pytest.mark.parametrize("timeout", ["soon", "-1", "0", "nan", "inf", "1e20", "3601"])
def test_a_timeout_that_cannot_be_is_2(command: Command, closed_port: int, timeout: str) -> None:
    done = command(f"call http://127.0.0.1:{closed_port} --timeout={timeout}")
    assert done.code == 2
    assert "argument --timeout: a number of seconds, more than 0 and at most 3600" in done.err


def test_the_default_path_is_where_the_gateway_takes_requests() -> None:
    assert call.PATH == "/alipayplus/v1/sdkProxy"
