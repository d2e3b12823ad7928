"""Requests that end in any way leave nothing behind that only the garbage collector would find: it seldom looks, and streams are large."""

import gc
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, NoReturn

import pytest

from gateway.config import Duration, Limits, Size
from gateway.edge.connection import Connection as ClientConnection
from gateway.errors import GatewayError
from gateway.passthrough.forward import Forward
from gateway.passthrough.reply import Streamed
from gateway.passthrough.tunnel import Tunnel
from gateway.passthrough.upload import Upload
from gateway.upstream import Connection, Lease, UpstreamError
from gateway.upstream.parser import AnswerParser
from tests.passthrough.rig import GET, Client, StartRig, answering
from tests.passthrough.test_tunnel import ASK, SWITCH
from tests.upstream.peer import Call, Script, StartPeer, until

LIMITS = Limits(header_size=Size(2048), body_idle_timeout=Duration(0.2))
TIMES = {"response_timeout": Duration(0.2), "idle_timeout": Duration(0.2)}
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
HINTS = b"HTTP/1.1 103 Early Hints\r\n\r\n"
STREAM = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n"
CHUNKED = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"

OF_A_REQUEST = (Forward, Streamed, Tunnel, Upload, ClientConnection, Connection, AnswerParser, Lease, GatewayError, UpstreamError)


async def leave(client: Client) -> None:
    await client.head()
    client.reset()


async def see_all(client: Client) -> None:
    await client.head()
    await client.rest()


async def too_much(client: Client) -> None:
    await client.head()
    client.send(b"40\r\n" + b"x" * 64 + b"\r\n")
    await client.rest()


async def see_and_close(client: Client) -> None:
    await client.head()
    client.close()


def found(garbage: list[Any]) -> set[type]:
    """Return what of requests and connections the collector finds."""
    gc.collect()
    return {type(one) for one in garbage if isinstance(one, OF_A_REQUEST)}


def then_silent(answer: bytes) -> Script:
    async def script(call: Call) -> None:
        await call.read_head()
        call.write(answer)
        await call.read_to_end()

    return script


async def endless(call: Call) -> None:
    await call.read_head()
    call.write(STREAM)
    while True:
        call.write(b"10000\r\n" + b"x" * 0x10000 + b"\r\n")
        await call.writer.drain()


@pytest.mark.parametrize(
    "case",
    [
        pytest.param((answering(OK.replace(b"\r\nC", b"\r\nConnection: close\r\nC", 1)), GET, see_and_close), id="connection_close"),
        pytest.param((then_silent(STREAM), GET, leave), id="client_leaves"),
        pytest.param((endless, GET, leave), id="client_leaves_much"),
        pytest.param((then_silent(HINTS), GET, leave), id="client_leaves_unanswered"),
        pytest.param((then_silent(HINTS), POST + b"x", leave), id="client_leaves_within_its_body"),
        pytest.param((then_silent(STREAM), GET, see_all), id="body_stops"),
        pytest.param((then_silent(b""), GET, see_and_close), id="no_answer_in_time"),
        pytest.param((answering(STREAM, keeps=False), GET, see_all), id="body_breaks_off"),
        pytest.param((answering(STREAM + b"zz\r\n"), GET, see_all), id="broken_chunks"),
        pytest.param((answering(b"", keeps=False), POST + b"x" * 10, see_and_close), id="lost"),
        pytest.param((answering(b"", keeps=False), GET, see_and_close), id="lost_twice"),
        pytest.param((answering(b"garbage\r\n"), GET, see_and_close), id="no_http"),
        pytest.param((answering(OK.replace(b"ok", b"ok too many")), GET, see_and_close), id="bytes_after_the_answer"),
        pytest.param((then_silent(OK), POST + b"x", see_and_close), id="answer_before_the_body"),
        pytest.param((then_silent(OK), POST + b"x", see_all), id="request_body_stops_behind_the_answer"),
        pytest.param((then_silent(OK), CHUNKED, too_much), id="request_body_too_large_behind_the_answer"),
        pytest.param((then_silent(STREAM), POST + b"x", see_all), id="body_stops_within_the_answer"),
        pytest.param((then_silent(b""), POST + b"x", see_and_close), id="request_body_stops"),
        pytest.param((then_silent(b""), CHUNKED + b"zz\r\n", see_and_close), id="request_body_malformed"),
        pytest.param((then_silent(b""), CHUNKED + b"40\r\n" + b"x" * 64 + b"\r\n", see_and_close), id="request_body_too_large"),
        pytest.param((then_silent(SWITCH), ASK, leave), id="client_leaves_a_websocket"),
        pytest.param((then_silent(SWITCH), ASK, see_all), id="websocket_idle"),
        pytest.param((answering(SWITCH, keeps=False), ASK, see_all), id="upstream_leaves_a_websocket"),
    ],
)
async def test_nothing_is_left_to_the_garbage_collector(
    start_rig: StartRig, start_peer: StartPeer, garbage: list[Any], case: tuple[Script, bytes, Callable[[Client], Awaitable[None]]]
) -> None:
    script, request, act = case
    peer = await start_peer(script)
    rig = await start_rig(peer.url, settings=TIMES, limits=LIMITS, max_body=Size(50))
    await act(await rig.connect(request))
    await rig.ended()
    for each in rig._clients:
        each.close()
    await until(lambda: not rig.edge.open)
    await rig.pools["wallet"].close()
    assert found(garbage) == set()


async def test_A9_a_client_that_leaves_while_it_takes_nothing_leaves_nothing_either(
    start_rig: StartRig, start_peer: StartPeer, garbage: list[Any]
) -> None:
    peer = await start_peer(endless)
    rig = await start_rig(peer.url)
    client = await rig.connect(GET)
    client.writer.transport.pause_reading()  # type: ignore[attr-defined]
    await until(lambda: any(connection.writing_paused for connection in rig.edge.connections))
    client.reset()
    await rig.ended()
    await until(lambda: not rig.edge.open)
    await rig.pools["wallet"].close()
    assert found(garbage) == set()


async def test_a_tunnel_whose_client_has_left_before_it_begins_is_let_go(garbage: list[Any]) -> None:
    class Left:
        def hand_over(self, _protocol: object) -> NoReturn:
            raise ConnectionResetError

    left: Any = Left()
    with suppress(ConnectionError):
        await Tunnel(left, left, idle_timeout=1).run()
    assert found(garbage) == set()


async def test_an_upstream_that_is_not_reached_leaves_nothing_either(start_rig: StartRig, garbage: list[Any]) -> None:
    rig = await start_rig("http://127.0.0.1:1")
    await see_and_close(await rig.connect(GET))
    await rig.ended()
    await until(lambda: not rig.edge.open)
    assert found(garbage) == set()
