"""Both adapters against a server that is no gateway: what they send, and that one call is one POST whatever happens to it."""

import asyncio
import socket
from contextlib import suppress
from typing import Any

import pytest

from gateway.simulator.certificates import Authority
from tests.clients.conftest import ANNA, OpenApp, StartServer
from tests.clients.driver import Response
from tests.clients.server import KEPT, failure, http, success

SUCCESS = http(200, success())
MIB = 1 << 20
NOT_OURS: dict[str, Any] = {
    "a-page-at-200": http(200, b"<html>Log in to this network</html>"),
    "nothing-at-200": http(200, b""),
    "an-array": http(200, [success()]),
    "a-failure-at-200": http(200, failure("PROCESS_FAIL")),
    "a-success-at-502": http(502, success()),
    "a-success-at-201": http(201, success()),
    "a-flag-that-is-a-word": http(200, success() | {"isSuccess": "true"}),
    "no-flag": http(200, {"resultCode": "SUCCESS", "resultStatus": "S"}),
    "no-result-code": http(200, {"isSuccess": True, "resultStatus": "S"}),
    "a-result-code-that-is-a-number": http(502, failure("X") | {"resultCode": 5}),
    "a-success-that-says-F": http(200, success() | {"resultStatus": "F"}),
    "a-failure-that-says-S": http(502, failure("X") | {"resultStatus": "S"}),
    "a-failure-without-a-status": http(502, {"isSuccess": False, "resultCode": "X"}),
    "another-api's-error": http(503, {"error": "unavailable"}),
    "a-page-at-504": http(504, b"<html>504 Gateway Time-out</html>"),
    "no-body-at-204": b"HTTP/1.1 204 No Content\r\n\r\n",
    "cut-in-the-body": http(200, success())[:-20],
    "cut-in-the-headers": b"HTTP/1.1 200 OK\r\nContent-Ty",
    "not-http": b"220 mail.example ESMTP\r\n",
    "closed-after-reading": b"",
}


async def test_a_request_is_a_post_of_the_contract_with_the_login(open_app: OpenApp, start_server: StartServer) -> None:
    server, base = await start_server(SUCCESS)
    app = await open_app(base + "/alipayplus")
    assert (await app.call("header", "data", scene="PAY")).response == Response(True, None, None, "h", "d")
    [request] = server.requests
    assert request.line == "POST /alipayplus/v1/sdkProxy HTTP/1.1"
    assert request.json == {"scene": "PROXY_SCENE_PAY", "proxyRequestHeader": "header", "proxyRequestData": "data"}
    assert request.headers["content-type"] == "application/json; charset=utf-8"
    assert request.headers["accept"] == "application/json"
    assert request.headers["authorization"] == ANNA
    assert not request.headers.keys() & {"transfer-encoding", "expect", "cookie"}


@pytest.mark.parametrize(("scene", "sent"), [("PAY", "PROXY_SCENE_PAY"), ("MINIPROGRAM", "PROXY_SCENE_MINIPROGRAM")])
async def test_scenes_have_androids_names(open_app: OpenApp, start_server: StartServer, scene: str, sent: str) -> None:
    server, base = await start_server(SUCCESS)
    await (await open_app(base)).call(scene=scene)
    assert server.requests[0].json["scene"] == sent


async def test_the_login_is_asked_for_every_call(open_app: OpenApp, start_server: StartServer) -> None:
    server, base = await start_server(SUCCESS, http(401, failure("SESSION_REQUIRED")), SUCCESS)
    app = await open_app(base, logins=["first", "second"])
    for _ in range(3):
        await app.call()
    assert [request.headers["authorization"] for request in server.requests] == ["first", "first", "second", "second"]


async def test_an_answer_is_read_whatever_else_it_holds(open_app: OpenApp, start_server: StartServer) -> None:
    _, base = await start_server(http(200, {"new": [{"deep": None}], **success("\u2028", "\U0001f4b3")}, headers=["Set-Cookie: sid=1"]))
    assert (await (await open_app(base)).call()).response == Response(True, None, None, "\u2028", "\U0001f4b3")


async def test_an_answer_that_is_too_large_is_cut_off(open_app: OpenApp, start_server: StartServer) -> None:
    endless = KEPT + http(200, success(data="x" * 6 * MIB))[:-MIB]  # whoever waits for its end is told of a time-out
    server, base = await start_server(http(200, success(data="x" * 4 * MIB)), endless)
    app = await open_app(base)
    assert (await app.call()).response == Response(True, None, None, "h", "x" * 4 * MIB)
    reason = {"android": "IOException", "ios": "NSURLErrorDomain -999"}[app.platform]
    assert (await app.call()).told == [("NO_ANSWER", "U", reason, None)]
    assert len(server.requests) == 2


async def test_a_bug_of_the_gateway_reaches_listener_and_sdk(open_app: OpenApp, start_server: StartServer) -> None:
    server, base = await start_server(http(500, failure("INTERNAL_ERROR")))
    assert await (await open_app(base)).fail("INTERNAL_ERROR") == "r2"
    assert len(server.requests) == 1


@pytest.mark.parametrize("body", [b"", b"<html>401 Authorization Required</html>"], ids=["empty", "a-page"])
async def test_a_401_is_a_refused_login_whoever_answers_it(open_app: OpenApp, start_server: StartServer, body: bytes) -> None:
    server, base = await start_server(http(401, body))
    assert (await (await open_app(base)).call()).told == [("SESSION_REQUIRED", "F", "HTTP 401", None)]
    assert len(server.requests) == 1


@pytest.mark.parametrize("answer", NOT_OURS.values(), ids=NOT_OURS.keys())
async def test_what_is_no_answer_of_the_gateway_is_null_and_one_post(open_app: OpenApp, start_server: StartServer, answer: bytes) -> None:
    server, base = await start_server(answer)
    await (await open_app(base)).fail("NO_ANSWER")
    assert len(server.requests) == 1


async def test_a_kept_connection_that_is_closed_after_reading_sees_one_post_a_call(open_app: OpenApp, start_server: StartServer) -> None:
    server, base = await start_server(KEPT + SUCCESS, b"")
    app = await open_app(base)
    assert (await app.call()).response is not None
    await app.fail("NO_ANSWER")
    assert len(server.requests) == 2


async def test_silence_ends_at_the_time_out_and_was_one_post(open_app: OpenApp, start_server: StartServer) -> None:
    server, base = await start_server(None)
    app = await open_app(base, timeout=300)
    assert await app.fail("NO_ANSWER") is None
    await server.left.wait()
    assert len(server.requests) == 1


@pytest.mark.parametrize("begin", [b"HTTP/1.1 200 OK\r\nX-Drip: ", b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"])
async def test_an_answer_that_drips_ends_at_the_time_out(open_app: OpenApp, begin: bytes) -> None:
    over, ended = asyncio.Event(), asyncio.Event()

    async def drip(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(begin)
        with suppress(ConnectionError):
            while not over.is_set():
                writer.write(b"x")
                await writer.drain()
                await asyncio.sleep(0.05)
        writer.close()
        ended.set()

    async with await asyncio.start_server(drip, "127.0.0.1", 0) as server:
        app = await open_app(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", timeout=500)
        async with asyncio.timeout(10):
            assert await app.fail("NO_ANSWER") is None
            over.set()  # a JDK reads on for a while, in the hope of a connection that it can use again
            await ended.wait()


async def test_a_base_url_may_end_with_a_slash(open_app: OpenApp, start_server: StartServer) -> None:
    server, base = await start_server(SUCCESS)
    await (await open_app(f"{base}/alipayplus/")).call()
    assert server.requests[0].line == "POST /alipayplus/v1/sdkProxy HTTP/1.1"


async def test_no_network_is_not_sent(open_app: OpenApp) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        app = await open_app(f"http://127.0.0.1:{closed.getsockname()[1]}")
        assert await app.fail("NOT_SENT") is None


async def test_to_a_server_whose_certificate_is_not_trusted_nothing_is_sent(open_app: OpenApp, start_server: StartServer) -> None:
    server, base = await start_server(SUCCESS, tls=Authority.generate().server_context())
    assert await (await open_app(base)).fail("NOT_SENT") is None
    assert server.requests == []


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_not_followed(open_app: OpenApp, start_server: StartServer, status: int) -> None:
    elsewhere, there = await start_server(SUCCESS)
    server, base = await start_server(http(status, b"", headers=[f"Location: {there}/v1/sdkProxy"]))
    assert (await (await open_app(base)).call()).told == [("NO_ANSWER", "U", f"HTTP {status}", None)]
    assert len(server.requests) == 1
    assert elsewhere.requests == []
