import asyncio
import json
import re
import socket
import struct
from typing import Any

import pytest
from aiohttp import http_parser

from gateway.config.rules import METHODS
from gateway.edge.answer import Answer
from gateway.edge.body import BodyLimits, read_body
from gateway.edge.exchange import Exchange
from gateway.edge.request import Request
from gateway.edge.server import ParserMissing, require_c_parser
from gateway.errors import GatewayError
from tests.upstream.peer import until

PATH = b"/alipayplus/v1/sdkProxy"


def failure(raw: bytes) -> tuple[int, dict[str, str], dict[str, Any]]:
    head, _, body = raw.partition(b"\r\n\r\n")
    status, *fields = head.decode().split("\r\n")
    headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in fields)}
    return int(status.split(" ")[1]), headers, json.loads(body)


async def test_a_request_is_answered_counted_and_logged_once(start_edge: Any) -> None:
    edge = await start_edge()
    raw = await edge.raw(b"POST %b HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc" % PATH)
    status, headers, body = failure(raw)
    assert (status, body) == (200, {"length": 3})
    assert "server" not in headers
    assert headers["x-request-id"] == edge.lines.lines[0]["request_id"]
    assert len(edge.lines.lines) == 1
    assert edge.count("gateway_requests_total", route="sdk", method="POST", status="200") == 1
    assert edge.count("gateway_in_flight_requests", route="sdk") == 0


async def test_pipelined_requests_are_answered_in_order(start_edge: Any) -> None:
    edge = await start_edge()
    one = b"POST %b HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n"
    raw = await edge.raw(
        b"".join(one % (PATH, n) + b"x" * n for n in range(50)) + b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    )
    lengths = [json.loads(part.partition(b"\r\n\r\n")[2].partition(b"HTTP/1.1")[0])["length"] for part in raw.split(b"HTTP/1.1 200")[1:]]
    assert lengths == list(range(50))


@pytest.mark.parametrize(
    "request_bytes",
    [
        pytest.param(b"GET / HTTP/1.1\r\nHost : a\r\n\r\n", id="A1-space-before-colon"),
        pytest.param(b"nonsense\r\n\r\n", id="A1-no-request-line"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: a\r\nX: a\x00b\r\n\r\n", id="A1-NUL"),
        pytest.param(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", id="A2-two-lengths"),
        pytest.param(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\na", id="A2-signed-length"),
        pytest.param(
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 018446744073709551615\r\n\r\nab", id="A2-a-length-that-the-parser-forgets"
        ),
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", id="TLS-on-a-plain-port"),
    ],
)
async def test_what_the_parser_refuses_is_a_400_in_the_one_shape(start_edge: Any, request_bytes: bytes) -> None:
    edge = await start_edge()
    status, headers, body = failure(await edge.raw(request_bytes))
    assert (status, headers["connection"], headers["cache-control"]) == (400, "close", "no-store")
    assert body == {
        "isSuccess": False,
        "resultCode": "REQUEST_MALFORMED",
        "resultStatus": "F",
        "resultMessage": "The request is not what the contract asks for",
        "source": "gateway",
        "requestId": headers["x-request-id"],
    }
    assert [line["status"] for line in edge.lines.lines] == [400]
    assert edge.count("gateway_rejected_total", reason="bad_request") == 1


@pytest.mark.parametrize(
    "request_bytes",
    [
        pytest.param(b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 2100 + b"\r\n\r\n", id="one-field"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: a\r\n" + b"".join(b"X-%d: %b\r\n" % (n, b"a" * 40) for n in range(60)) + b"\r\n", id="many"),
        pytest.param(b"GET /" + b"a" * 3000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", id="request-line"),
        pytest.param(b"GET / HTTP/1.1\r\n" + b"a:b\r\n" * 101 + b"\r\n", id="101-fields"),
        pytest.param(b"GET / HTTP/1.1\r\nX: " + b"a" * 5000, id="never-ending"),
    ],
)
async def test_A5_a_head_over_its_limits_is_431(start_edge: Any, request_bytes: bytes) -> None:
    edge = await start_edge()
    status, headers, body = failure(await edge.raw(request_bytes))
    assert (status, headers["connection"], body["resultCode"]) == (431, "close", "HEADERS_TOO_LARGE")
    assert b"aaaa" not in json.dumps(body).encode()
    assert edge.count("gateway_rejected_total", reason="headers_too_large") == 1


BEFORE = {"no-body": b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n", "body": b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"}


@pytest.mark.parametrize("before", BEFORE.values(), ids=BEFORE)
@pytest.mark.parametrize("size", [2048, 2049])
async def test_A5_a_head_behind_another_request_is_bounded_as_well(start_edge: Any, before: bytes, size: int) -> None:
    edge = await start_edge()
    line = b"GET /b HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
    field = b"X: %b\r\n\r\n" % (b"a" * (size - len(line) - 7))
    raw = await edge.raw(before + line + field)
    assert re.findall(rb"HTTP/1\.1 ([0-9]+) ", raw) == [b"404", b"404" if size <= 2048 else b"431"]
    reader, writer = await asyncio.open_connection("127.0.0.1", edge.port)
    writer.write(before + line)
    await reader.readuntil(b"}")
    writer.write(field)
    assert re.findall(rb"HTTP/1\.1 ([0-9]+) ", await reader.read()) == [b"404" if size <= 2048 else b"431"]
    writer.close()


@pytest.mark.parametrize("before", BEFORE.values(), ids=BEFORE)
async def test_A7_a_head_that_begins_behind_another_request_has_its_deadline(start_edge: Any, before: bytes) -> None:
    edge = await start_edge(header_timeout=0.2)
    assert re.findall(rb"HTTP/1\.1 ([0-9]+) ", await edge.raw(before + b"GET /b HT")) == [b"404", b"408"]


@pytest.mark.parametrize(
    ("broken", "status"),
    [(b"\x00\r\n", b"400"), (b"GET /b HTTP/1.1 \r\nHost: a\r\n\r\n", b"400"), (b"FOO /alipayplus/b HTTP/1.1\r\nHost: a\r\n\r\n", b"405")],
)
async def test_requests_before_a_broken_one_are_answered(start_edge: Any, broken: bytes, status: bytes) -> None:
    edge = await start_edge()
    raw = await edge.raw(b"POST %b HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc" % PATH + BEFORE["no-body"] * 2 + broken)
    assert re.findall(rb"HTTP/1\.1 ([0-9]+) ", raw) == [b"200", b"404", b"404", status]
    assert [line["status"] for line in edge.lines.lines] == [200, 404, 404, int(status)]


async def test_what_follows_a_body_that_is_not_read_yet_waits_for_it(start_edge: Any) -> None:
    go_on = asyncio.Event()

    async def wait(request: Request, exchange: Exchange) -> Answer:
        await go_on.wait()
        return await echo(request, exchange)

    async def echo(request: Request, exchange: Exchange) -> Answer:
        body = await read_body(request, BodyLimits(1 << 20, 5, 5))
        return Answer(200, b'{"length":%d}' % len(body), exchange.request_id)

    edge = await start_edge(wait)
    one = b"POST %b HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n"
    task = asyncio.create_task(edge.raw((one % (PATH, 100_000) + b"x" * 100_000) * 3 + b"GET / HTTP/9\r\n\r\n"))
    await asyncio.wait([task], timeout=0.05)
    go_on.set()
    assert re.findall(rb"HTTP/1\.1 ([0-9]+) |(length.:[0-9]+)", await task) == [(b"200", b""), (b"", b'length":100000')] * 3 + [
        (b"400", b"")
    ]


async def test_a_large_body_does_not_count_as_head(start_edge: Any) -> None:
    edge = await start_edge()
    raw = await edge.raw(b"POST %b HTTP/1.1\r\nHost: a\r\nContent-Length: 4000\r\nConnection: close\r\n\r\n" % PATH + b"x" * 4000)
    assert failure(raw)[0] == 200


@pytest.mark.parametrize("idle_timeout", [5.0, 0.1])
async def test_A7_a_dripping_head_is_closed_at_its_deadline(start_edge: Any, idle_timeout: float) -> None:
    edge = await start_edge(header_timeout=0.2, idle_timeout=idle_timeout)
    status, headers, body = failure(await edge.raw(b"POST / HTTP/1.1\r\nHost"))
    assert (status, headers["connection"], body["resultCode"]) == (408, "close", "REQUEST_TIMEOUT")
    assert edge.count("gateway_rejected_total", reason="header_timeout") == 1
    assert edge.lines.lines[0]["duration"] >= 0.2, "since it began"


async def test_A7_a_connection_that_never_speaks_is_closed_without_an_answer(start_edge: Any) -> None:
    edge = await start_edge(idle_timeout=0.2)
    assert await edge.raw(b"") == b""
    assert edge.lines.lines == []


@pytest.mark.parametrize("pieces", [1, 2])
async def test_a_request_in_hand_has_neither_of_these_deadlines(start_edge: Any, pieces: int) -> None:
    async def slow(request: Request, exchange: Exchange) -> Answer:
        await asyncio.sleep(0.4)
        return Answer(200, b"{}", exchange.request_id)

    edge = await start_edge(slow, header_timeout=0.2, idle_timeout=0.2)
    reader, writer = await asyncio.open_connection("127.0.0.1", edge.port)
    request = b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n" % PATH
    for piece in (request[:9], request[9:]) if pieces > 1 else (request,):
        await asyncio.sleep(0.05)
        writer.write(piece)
    raw = await reader.read()
    assert re.findall(rb"HTTP/1\.1 ([0-9]+) ", raw) == [b"200"]
    writer.close()


async def test_A7_what_drips_does_not_move_the_deadline_of_a_head(start_edge: Any) -> None:
    edge = await start_edge(header_timeout=0.3)
    reader, writer = await asyncio.open_connection("127.0.0.1", edge.port)
    answered = asyncio.ensure_future(reader.read())
    writer.write(b"GET / HTTP/1.1\r\nX-Drip: ")
    sent = 0
    while not answered.done():
        writer.write(b"x")
        sent += 1
        await asyncio.sleep(0.05)
        assert sent < 40
    assert answered.result().startswith(b"HTTP/1.1 408 ")
    writer.close()


async def test_A7_a_head_behind_one_that_dripped_has_its_own_deadline(start_edge: Any) -> None:
    edge = await start_edge(header_timeout=0.3)
    reader, writer = await asyncio.open_connection("127.0.0.1", edge.port)
    request = b"GET /elsewhere HTTP/1.1\r\nHost: a\r\n\r\n"
    writer.write(request[:20])
    await asyncio.sleep(0.1)
    writer.write(request[20:] + request[:20])
    assert re.findall(rb"HTTP/1\.1 ([0-9]+) ", await reader.read()) == [b"404", b"408"]
    writer.close()


async def test_a_kept_connection_is_closed_without_an_answer_when_it_has_been_idle_too_long(start_edge: Any) -> None:
    edge = await start_edge(header_timeout=0.1, idle_timeout=0.4)
    raw = await edge.raw(b"POST %b HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc" % PATH)
    assert raw.count(b"HTTP/1.1") == 1
    assert [line["status"] for line in edge.lines.lines] == [200]


async def test_A6_an_oversize_chunked_body_is_413_and_closed(start_edge: Any) -> None:
    edge = await start_edge()
    chunk = b"400\r\n" + b"x" * 1024 + b"\r\n"
    head = b"POST %b HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" % PATH
    status, headers, body = failure(await edge.raw(head + chunk * 8 + b"0\r\n\r\n"))
    assert (status, headers["connection"], body["resultCode"]) == (413, "close", "REQUEST_TOO_LARGE")


@pytest.mark.parametrize("drip", [pytest.param(False, id="A8-stops"), pytest.param(True, id="A8-drips")])
async def test_A8_a_body_that_stops_or_drips_is_408_and_closed(start_edge: Any, *, drip: bool) -> None:
    edge = await start_edge()
    reader, writer = await asyncio.open_connection("127.0.0.1", edge.port)
    writer.write(b"POST %b HTTP/1.1\r\nHost: a\r\nContent-Length: 900\r\n\r\nabc" % PATH)
    answer = asyncio.create_task(reader.read())
    while drip and not answer.done():
        writer.write(b"x")
        await asyncio.wait([answer], timeout=0.05)
    status, headers, body = failure(await answer)
    assert edge.server.open == 1, "a client that still sends has seen the end, and no reset"
    writer.close()
    assert (status, headers["connection"], body["resultCode"]) == (408, "close", "REQUEST_TIMEOUT")


async def test_A11_a_client_that_leaves_in_its_body_is_logged_as_such(start_edge: Any) -> None:
    entered = asyncio.Event()

    async def enter(request: Request, exchange: Exchange) -> Answer:
        entered.set()
        await read_body(request, BodyLimits(4096, 5, 5))
        return Answer(200, b"{}", exchange.request_id)

    edge = await start_edge(enter)
    _, writer = await asyncio.open_connection("127.0.0.1", edge.port)
    writer.write(b"POST %b HTTP/1.1\r\nHost: a\r\nContent-Length: 900\r\n\r\nabc" % PATH)
    await writer.drain()
    await entered.wait()
    writer.close()
    await until(lambda: not edge.front.in_flight)
    assert [(line["status"], line["reason"]) for line in edge.lines.lines] == [(499, "client_abort")]


async def test_A16_the_handler_asks_for_the_body_only_when_it_wants_it(start_edge: Any) -> None:
    edge = await start_edge()
    reader, writer = await asyncio.open_connection("127.0.0.1", edge.port)
    writer.write(b"POST %b HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n" % PATH)
    assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    writer.write(b"abc")
    assert failure(await reader.read())[2] == {"length": 3}
    writer.close()


async def test_A16_a_refusal_comes_without_100_and_closes(start_edge: Any) -> None:
    edge = await start_edge()
    raw = await edge.raw(b"POST /elsewhere HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n")
    status, headers, body = failure(raw)
    assert (status, headers["connection"], body["resultCode"]) == (404, "close", "NOT_FOUND")


@pytest.mark.parametrize(
    ("refused", "status"),
    [
        pytest.param(b"GET / HTTP/1.1\r\nX: " + b"x" * 200_000, b" 431 ", id="too_large"),
        pytest.param(b"POST / HTTP/1.1\r\nHost: a\r\nNo field\r\n\r\n" + b"x" * 200_000, b" 400 ", id="malformed"),
    ],
)
async def test_what_comes_behind_a_head_that_is_refused_is_read_away(start_edge: Any, refused: bytes, status: bytes) -> None:
    edge = await start_edge()
    reader, writer = await asyncio.open_connection("127.0.0.1", edge.port)
    writer.write(refused[:100_000])
    assert status in await reader.readuntil(b"}")
    writer.write(refused[100_000:])
    await writer.drain()
    assert await reader.read() == b""
    writer.close()
    await until(lambda: not edge.server.open)


@pytest.mark.parametrize(
    ("behind", "seconds"), [pytest.param(b"x" * 300_000, 60.0, id="256 KiB"), pytest.param(b"x", 0.05, id="2 s, shortened")]
)
async def test_no_more_than_that_is_read_away(start_edge: Any, monkeypatch: pytest.MonkeyPatch, behind: bytes, seconds: float) -> None:
    monkeypatch.setattr("gateway.edge.connection.DISCARD_SECONDS", seconds)
    edge = await start_edge()
    reader, writer = await asyncio.open_connection("127.0.0.1", edge.port)
    writer.write(b"GET / HTTP/1.1\r\nNo field\r\n\r\n")
    assert b" 400 " in await reader.readuntil(b"}")
    writer.write(behind)
    await asyncio.wait_for(until(lambda: not edge.server.open), 10)
    writer.close()


@pytest.mark.parametrize("method", ["FOO", "TRACE", "CONNECT", "M-SEARCH", "PLAY", "PRI"])
async def test_A18_other_methods_keep_their_request_and_have_one_label(start_edge: Any, method: str) -> None:
    async def refuse(request: Request, exchange: Exchange) -> Answer:
        raise GatewayError("METHOD_NOT_ALLOWED", "method", headers=(("Allow", "POST"),))

    edge = await start_edge(refuse)
    status, headers, body = failure(await edge.raw(b"%b %b HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" % (method.encode(), PATH)))
    assert (status, headers["allow"], body["resultCode"]) == (405, "POST", "METHOD_NOT_ALLOWED")
    assert edge.count("gateway_requests_total", route="sdk", method="other", status="405") == 1


async def test_A18_methods_that_a_route_may_name_are_those_that_come_to_it(start_edge: Any) -> None:
    come = set()

    async def refuse(request: Request, exchange: Exchange) -> Answer:
        come.add(request.method)
        raise GatewayError("METHOD_NOT_ALLOWED", "method")

    edge = await start_edge(refuse)
    for method in METHODS | {"BREW", "PLAY", "PRI", "get"}:
        await edge.raw(b"%b %b HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" % (method.encode(), PATH))
    assert come == METHODS


async def test_a_bug_is_answered_without_a_word_about_it(start_edge: Any) -> None:
    async def broken(request: Request, exchange: Exchange) -> Answer:
        raise KeyError("secret-of-the-client")

    edge = await start_edge(broken)
    raw = await edge.raw(b"POST %b HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n" % PATH)
    status, _, body = failure(raw)
    assert (status, body["resultCode"], body["resultStatus"]) == (500, "INTERNAL_ERROR", "U")
    assert b"secret" not in raw
    assert edge.lines.lines[0]["reason"] == "internal error"


async def test_a_head_request_gets_no_body(start_edge: Any) -> None:
    edge = await start_edge()
    raw = await edge.raw(b"HEAD / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    assert raw.endswith(b"\r\n\r\n")
    assert b"Content-Length: 1" in raw


async def test_http_1_0_is_closed_unless_it_asks_to_be_kept(start_edge: Any) -> None:
    edge = await start_edge()
    assert b"Connection: close" in await edge.raw(b"GET / HTTP/1.0\r\n\r\n")
    raw = await edge.raw(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\nGET / HTTP/1.0\r\n\r\n")
    assert raw.count(b"HTTP/1.1 404") == 2
    assert b"Connection: keep-alive" in raw


async def test_while_draining_answers_close(start_edge: Any) -> None:
    edge = await start_edge()
    edge.front.draining = True
    assert b"Connection: close" in await edge.raw(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")


def test_E8_the_parser_in_python_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    require_c_parser()
    monkeypatch.setattr(http_parser, "HttpRequestParser", http_parser.HttpRequestParserPy)
    with pytest.raises(ParserMissing, match="C parser"):
        require_c_parser()


async def test_clients_that_have_sent_something_lately_are_counted(start_edge: Any) -> None:
    edge = await start_edge()
    connections = [await asyncio.open_connection("127.0.0.1", edge.port) for _ in range(3)]
    for reader, writer in connections[:2]:
        writer.write(b"GET /alipayplus/v1/sdkProxy HTTP/1.1\r\nHost: a\r\n\r\n")
        await reader.readuntil(b"}")
    assert (edge.server.open, edge.server.active(60.0), edge.server.active(-1.0)) == (3, 2, 0)
    for _, writer in connections:
        writer.close()


async def test_a_v4_peer_of_a_listener_for_both_families_is_named_as_what_it_is(start_edge: Any) -> None:
    edge = await start_edge()
    both = socket.create_server(("::ffff:127.0.0.1", 0), family=socket.AF_INET6, dualstack_ipv6=True)
    server = await asyncio.get_running_loop().create_server(edge.server.receiver, sock=both)
    reader, writer = await asyncio.open_connection("127.0.0.1", both.getsockname()[1])
    writer.write(b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n" % PATH)
    await reader.readuntil(b"}")
    assert [connection.client for connection in edge.server.connections] == ["127.0.0.1"]
    writer.close()
    server.close()


async def test_only_idle_connections_are_closed_when_a_drain_has_waited_for_them(start_edge: Any) -> None:
    """Looks into aiohttp, which may change: a connection with a request under way must never count as idle."""
    go_on, entered = asyncio.Event(), asyncio.Event()

    async def wait(request: Request, exchange: Exchange) -> Answer:
        entered.set()
        await go_on.wait()
        return Answer(200, b"{}", exchange.request_id)

    edge = await start_edge(wait)
    fresh, kept, begun, busy, coming = [await asyncio.open_connection("127.0.0.1", edge.port) for _ in range(5)]
    kept[1].write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    await kept[0].readuntil(b"}")
    begun[1].write(b"GET / HT")
    busy[1].write(b"POST %b HTTP/1.1\r\nHost: a\r\n\r\n" % PATH)
    await entered.wait()
    coming[1].write(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")  # in the system's hands, not yet in ours
    edge.server.close_idle(60)  # none has been for so long
    assert edge.server.open == 5
    edge.server.close_idle()
    assert await fresh[0].read() == await kept[0].read() == b""
    assert b" 404 " in await coming[0].read()
    go_on.set()
    assert b" 200 " in await busy[0].readuntil(b"}")
    begun[1].write(b"TP/1.1\r\nHost: a\r\n\r\n")
    assert b" 404 " in await begun[0].readuntil(b"}")
    edge.server.close_idle()
    assert await begun[0].read() == b""
    for _, writer in (fresh, kept, begun, busy, coming):
        writer.close()


async def test_a_client_that_has_just_reset_its_connection_cannot_be_told_that_no_more_is_written(start_edge: Any) -> None:
    edge = await start_edge()
    client = socket.create_connection(("127.0.0.1", edge.port))
    await until(lambda: edge.server.open == 1)
    (connection,) = edge.server.connections
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()
    connection.end_writing()
    await until(lambda: edge.server.open == 0)
