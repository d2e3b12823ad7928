"""What fails on the way to the upstream and back, and what is sent again."""

import asyncio
import os
import re
import select
from collections.abc import Callable
from contextlib import suppress

import pytest

from gateway.config import Duration, Size
from tests.passthrough.rig import GET, IMPATIENT, Client, StartRig, answering, reading_all
from tests.upstream.peer import Call, StartPeer, hold_up, until


async def test_D2_an_upstream_that_dies_in_the_request_is_502(start_rig: StartRig, start_peer: StartPeer) -> None:
    async def script(call: Call) -> None:
        if (await call.read_head()).startswith(b"POST "):
            await call.read(1000)
        call.reset()

    rig = await start_rig((await start_peer(script)).url)
    client = await rig.connect(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9000\r\n\r\n" + b"x" * 1000)
    raw = await client.until(b"}")
    assert failure(raw) == (502, b"UPSTREAM_CONNECTION_LOST")
    client.send(b"x" * 8000 + GET)
    assert failure(await client.until(b"}")) == (502, b"UPSTREAM_CONNECTION_LOST"), "the rest is read away and the connection kept"


async def test_an_upstream_that_takes_no_request_body_is_504(start_rig: StartRig, start_peer: StartPeer) -> None:
    async def script(call: Call) -> None:
        call.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await asyncio.Event().wait()

    rig = await start_rig((await start_peer(script)).url, settings={"idle_timeout": Duration(0.3)}, max_body=Size(1 << 30))
    client = await rig.connect(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 500000000\r\n\r\n")
    sending = asyncio.create_task(fill(client))
    raw = await client.until(b"}")
    assert failure(raw) == (504, b"UPSTREAM_TIMEOUT")
    sending.cancel()
    (line,) = await rig.ended()
    assert line["reason"] == "upstream: takes no request body"


async def fill(client: Client) -> None:
    with suppress(ConnectionError):
        while True:
            client.send(b"x" * 100_000)
            await client.writer.drain()


def failure(raw: bytes) -> tuple[int, bytes]:
    code = re.search(rb'"resultCode":"([A-Z_]+)"', raw)
    assert code
    assert b"Cache-Control: no-store\r\n" in raw
    return int(raw.split(b" ")[1]), code[1]


async def test_D1_a_refused_connection_is_502_and_nothing_was_sent(start_rig: StartRig) -> None:
    rig = await start_rig("http://127.0.0.1:1")
    client = await rig.connect(GET)
    raw = await client.until(b"}")
    assert failure(raw) == (502, b"UPSTREAM_UNREACHABLE")
    assert b'"resultStatus":"F"' in raw
    client.send(GET)
    assert failure(await client.until(b"}")) == (502, b"UPSTREAM_UNREACHABLE")
    assert rig.count("gateway_upstream_requests_total", upstream="wallet", endpoint=rig.server, outcome="unreachable") == 2


async def test_D1_no_headers_in_time_is_504_and_the_upstream_is_released(start_rig: StartRig, start_peer: StartPeer) -> None:
    ended = asyncio.Event()

    async def script(call: Call) -> None:
        await call.read_request()
        call.write(b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\n")
        await call.read_to_end()
        ended.set()

    rig = await start_rig((await start_peer(script)).url, settings={"response_timeout": Duration(0.2)})
    client = await rig.connect(GET)
    assert await client.head() == b"HTTP/1.1 103 Early Hints\r\n\r\n"
    raw = await client.until(b"}")
    assert failure(raw) == (504, b"UPSTREAM_TIMEOUT")
    assert b'"resultStatus":"U"' in raw
    await asyncio.wait_for(ended.wait(), 5)
    assert rig.count("gateway_upstream_requests_total", upstream="wallet", endpoint=rig.server, outcome="timeout") == 1


async def test_D1_no_headers_in_time_behind_a_body_that_came_slowly_is_504(start_rig: StartRig, start_peer: StartPeer) -> None:
    has_begun = asyncio.Event()

    async def script(call: Call) -> None:
        await call.read_head()
        has_begun.set()
        await call.read_to_end()

    rig = await start_rig((await start_peer(script)).url, settings={"response_timeout": Duration(0.2)})
    client = await rig.connect(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n")
    await has_begun.wait()
    client.send(b"abcd")
    assert failure(await client.until(b"}")) == (504, b"UPSTREAM_TIMEOUT")


async def test_D1_the_time_for_headers_begins_when_the_request_is_sent(start_rig: StartRig, start_peer: StartPeer) -> None:
    rig = await start_rig((await start_peer(reading_all)).url, settings={"response_timeout": Duration(0.3)})
    client = await rig.connect(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n")
    for byte in (b"a", b"b", b"c", b"d"):
        await asyncio.sleep(0.15)
        client.send(byte)
    assert b" 204 " in await client.head()


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        pytest.param(b"", b"UPSTREAM_CONNECTION_LOST", id="D2-no-answer"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Le", b"UPSTREAM_CONNECTION_LOST", id="D2-within-the-head"),
        pytest.param(b"HTTP/1.1 200 OK\nContent-Length: 0\n\n", b"UPSTREAM_RESPONSE_INVALID", id="D3-bare-LF"),
        pytest.param(b"HTTP/1.1 200 OK\r\nX: a\x00b\r\nContent-Length: 0\r\n\r\n", b"UPSTREAM_RESPONSE_INVALID", id="D3-NUL"),
        pytest.param(b"HTTP/1.1 200 OK\r\nX: a\x0bb\r\nContent-Length: 0\r\n\r\n", b"UPSTREAM_RESPONSE_INVALID", id="D3-control-character"),
        pytest.param(b"HTTP/1.1 200 OK\r\nX: a\rSet-Cookie: b\r\n\r\n", b"UPSTREAM_RESPONSE_INVALID", id="D3-bare-CR"),
        pytest.param(b"HTTP/1.1 200 O\x01K\r\nContent-Length: 0\r\n\r\n", b"UPSTREAM_RESPONSE_INVALID", id="D3-reason"),
        pytest.param(b"HTTP/1.1 200 OK\r\nX Y: a\r\nContent-Length: 0\r\n\r\n", b"UPSTREAM_RESPONSE_INVALID", id="D3-name-with-space"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\na", b"UPSTREAM_RESPONSE_INVALID", id="D3-two-lengths"
        ),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            b"UPSTREAM_RESPONSE_INVALID",
            id="D3-length-and-chunked",
        ),
        pytest.param(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", b"UPSTREAM_RESPONSE_INVALID", id="D3-coding"),
        pytest.param(b"HTTP/2 200 OK\r\n\r\n", b"UPSTREAM_RESPONSE_INVALID", id="D3-version"),
        pytest.param(
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
            b"UPSTREAM_RESPONSE_INVALID",
            id="D3-101-that-nobody-asked-for",
        ),
        pytest.param(b"HTTP/1.1 200 OK\r\nX: " + b"a" * 70000 + b"\r\n\r\n", b"UPSTREAM_RESPONSE_INVALID", id="D3-large-head"),
        pytest.param(b"<html>", b"UPSTREAM_RESPONSE_INVALID", id="D3-no-HTTP"),
    ],
)
async def test_what_is_no_answer_is_502(start_rig: StartRig, start_peer: StartPeer, answer: bytes, code: bytes) -> None:
    peer = await start_peer(answering(answer, keeps=False))
    rig = await start_rig(peer.url)
    client = await rig.connect(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
    raw = await client.until(b"}")
    assert failure(raw) == (502, code)
    assert b'"resultStatus":"U"' in raw
    assert len(peer.calls) == 1, "a POST is sent once"


@pytest.mark.parametrize(
    ("answer", "request_line"),
    [
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello", b"GET / HTTP/1.1", id="D2-length"),
        pytest.param(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", b"GET / HTTP/1.1", id="D2-chunked"),
        pytest.param(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nxyz\r\n", b"GET / HTTP/1.1", id="D2-bad-chunk"),
        pytest.param(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", b"GET / HTTP/1.0", id="D2-until-the-end"),
    ],
)
async def test_D2_an_answer_that_breaks_off_is_cut_off(
    start_rig: StartRig, start_peer: StartPeer, answer: bytes, request_line: bytes
) -> None:
    go = asyncio.Event()

    async def script(call: Call) -> None:
        await call.read_request()
        head, _, body = answer.partition(b"\r\n\r\n")
        call.write(head + b"\r\n\r\n" + body[:8])
        await go.wait()
        call.write(body[8:])

    rig = await start_rig((await start_peer(script)).url)
    client = await rig.connect(request_line + b"\r\nHost: a\r\n\r\n")
    await client.head()
    go.set()
    try:
        rest = await client.rest()
    except ConnectionResetError:
        rest = b""
    else:
        assert request_line.endswith(b"1.1"), "an end would look like the end of the body"
    assert not rest.endswith(b"0\r\n\r\n")
    (line,) = await rig.ended()
    assert line["status"] == 200
    assert line["reason"].startswith("upstream: ")
    assert rig.count("gateway_upstream_requests_total", upstream="wallet", endpoint=rig.server, outcome="ok") == 0


async def test_D6_a_body_that_stops_is_cut_off_at_the_idle_timeout(start_rig: StartRig, start_peer: StartPeer) -> None:
    async def script(call: Call) -> None:
        await call.read_request()
        call.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n")
        for _ in range(3):
            await asyncio.sleep(0.15)
            call.write(b"x")
        await call.read_to_end()

    rig = await start_rig((await start_peer(script)).url, settings={"idle_timeout": Duration(0.3)})
    client = await rig.connect(GET)
    await client.head()
    assert await client.rest() == b"xxx"
    (line,) = await rig.ended()
    assert line["reason"] == "upstream: body stopped"
    assert line["bytes_out"] == 3


async def test_D6_the_time_that_a_client_takes_is_not_the_upstreams(start_rig: StartRig, start_peer: StartPeer) -> None:
    size = 20_000_000

    async def script(call: Call) -> None:
        is_whole = b"/whole" in await call.read_request()
        call.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + bytes(size if is_whole else 3))
        await call.read_to_end()

    rig = await start_rig((await start_peer(script)).url, settings={"idle_timeout": Duration(0.3)})
    slow = await rig.connect(b"GET /whole HTTP/1.1\r\nHost: a\r\n\r\n")
    await slow.head()
    slow.writer.transport.pause_reading()  # type: ignore[attr-defined]
    [upstream] = rig.pools["wallet"]._open
    await until(lambda: not upstream.transport.is_reading())
    assert b" 200 " in await rig.raw(GET), "which is cut off at the idle timeout"
    slow.writer.transport.resume_reading()  # type: ignore[attr-defined]
    assert len(await slow.read(size)) == size


def leave(client: Client) -> None:
    client.close()


def reset(client: Client) -> None:
    client.reset()


@pytest.mark.parametrize("how", [leave, reset])
@pytest.mark.parametrize("when", ["before-the-answer", "in-the-answer", "in-the-request"])
async def test_D6_a_client_that_leaves_releases_the_upstream(
    start_rig: StartRig, start_peer: StartPeer, how: Callable[[Client], object], when: str
) -> None:
    released, asked = asyncio.Event(), asyncio.Event()

    async def script(call: Call) -> None:
        await call.read_head()
        if when == "in-the-answer":
            call.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
        asked.set()
        await call.read_to_end()
        released.set()

    rig = await start_rig((await start_peer(script)).url)
    body = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc"
    client = await rig.connect(body if when == "in-the-request" else GET)
    await asked.wait()
    if when == "in-the-answer":
        await client.head()
    how(client)
    await asyncio.wait_for(released.wait(), 1)
    (line,) = await rig.ended()
    assert line["reason"] == "client_abort"
    assert line["status"] == (200 if when == "in-the-answer" else 499)
    assert sum(rig.count("gateway_upstream_requests_total", upstream="wallet", endpoint=rig.server, outcome=o) for o in OUTCOMES) == 0


async def test_A11_what_a_client_asked_for_that_has_left_while_its_login_was_checked_is_not_sent(
    start_rig: StartRig, start_peer: StartPeer
) -> None:
    async def script(call: Call) -> None:
        await call.read_to_end()

    peer = await start_peer(script)
    rig = await start_rig(peer.url, session="required")
    rig.sessions.block = asyncio.Event()
    client = await rig.connect(GET.replace(b"\r\n\r\n", b"\r\nAuthorization: good\r\n\r\n"))
    await until(lambda: bool(rig.sessions.checked))
    client.reset()
    await until(lambda: not rig.edge.open)
    rig.sessions.block.set()
    (line,) = await rig.ended()
    assert (line["status"], line["reason"]) == (499, "client_abort")
    assert all(call.received == b"" for call in peer.calls)


async def test_F1_an_answer_that_a_shutdown_cuts_keeps_its_status_and_size(start_rig: StartRig, start_peer: StartPeer) -> None:
    async def script(call: Call) -> None:
        await call.read_request()
        call.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")
        await call.read_to_end()

    rig = await start_rig((await start_peer(script)).url)
    client = await rig.connect(GET)
    await client.head()
    assert await client.read(3) == b"abc"
    await rig.edge.shutdown(0)
    (line,) = await rig.ended()
    assert (line["status"], line["reason"], line["bytes_out"]) == (200, "shutdown", 3)


OUTCOMES = ("ok", "error", "timeout", "unreachable", "invalid")


@pytest.mark.parametrize("limit", [3, 4])
@pytest.mark.parametrize("framing", [b"Content-Length: 4", b"Transfer-Encoding: chunked"])
async def test_A6_a_body_over_the_routes_limit_is_413(start_rig: StartRig, start_peer: StartPeer, limit: int, framing: bytes) -> None:
    rig = await start_rig((await start_peer(reading_all)).url, max_body=limit, session="required")
    client = await rig.connect(b"POST / HTTP/1.1\r\nHost: a\r\nAuthorization: good\r\n" + framing + b"\r\n\r\n")
    await asyncio.sleep(0.05)
    client.send(b"abcd" if framing.startswith(b"C") else b"2\r\nab\r\n2\r\ncd\r\n0\r\n\r\n")
    head = await client.head()
    assert head.startswith(b"HTTP/1.1 413 " if limit < 4 else b"HTTP/1.1 204 ")
    assert len(rig.sessions.checked) == int(limit == 4 or framing.startswith(b"T"))
    if limit < 4:
        assert b"Connection: close" in head
        assert rig.count("gateway_rejected_total", reason="body_too_large") == 1


async def test_A6_a_chunked_body_over_the_routes_limit_that_came_with_its_head_is_413(start_rig: StartRig, start_peer: StartPeer) -> None:
    rig = await start_rig((await start_peer(reading_all)).url, max_body=3, session="required")
    head = b"POST / HTTP/1.1\r\nHost: a\r\nAuthorization: good\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert failure(await rig.raw(head + b"2\r\nab\r\n2\r\ncd\r\n0\r\n\r\n")) == (413, b"REQUEST_TOO_LARGE")
    assert rig.sessions.checked == []


@pytest.mark.parametrize(("rest", "reason"), [(b"2\r\nbc\r\n", "body_too_large"), (b"", "body_timeout")])
async def test_a_body_that_is_refused_behind_the_begin_of_its_answer_is_counted_like_any_other(
    start_rig: StartRig, start_peer: StartPeer, rest: bytes, reason: str
) -> None:
    async def script(call: Call) -> None:
        await call.read_head()
        call.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        await call.read_to_end()

    rig = await start_rig((await start_peer(script)).url, limits=IMPATIENT, max_body=2)
    client = await rig.connect(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n")
    await client.head()
    client.send(rest)
    assert await client.rest() == b"", "cut"
    await rig.ended()
    assert rig.count("gateway_rejected_total", reason=reason) == 1


@pytest.mark.parametrize("begin", [b"ab", b""])
async def test_A8_a_body_that_stops_is_408(start_rig: StartRig, start_peer: StartPeer, begin: bytes) -> None:
    rig = await start_rig((await start_peer(reading_all)).url, limits=IMPATIENT)
    raw = await rig.raw(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n" + begin)
    assert failure(raw) == (408, b"REQUEST_TIMEOUT")
    assert rig.count("gateway_rejected_total", reason="body_timeout") == 1
    (line,) = await rig.ended()
    assert 0.3 <= line["duration"] < 1.0


async def test_A8_a_body_has_not_stopped_though_the_loop_is_late(start_rig: StartRig, start_peer: StartPeer) -> None:
    peer = await start_peer(reading_all)
    rig = await start_rig(peer.url, limits=IMPATIENT)
    client = await rig.connect(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
    for piece in (b"1\r\na\r\n", b"1\r\nb\r\n"):
        client.send(piece)
        await until(lambda: bool(peer.calls) and peer.calls[0].received.endswith(piece))  # noqa: B023  called in this turn only
    await hold_up(0.3, lambda: os.write(client.writer.get_extra_info("socket").fileno(), b"0\r\n\r\n"))
    assert (await client.head()).startswith(b"HTTP/1.1 204 ")


async def test_an_upstream_that_took_a_body_while_the_loop_was_late_has_taken_it(start_rig: StartRig, start_peer: StartPeer) -> None:
    size, taken, go_on = 20_000_000, list[bytes](), asyncio.Event()

    async def script(call: Call) -> None:
        await call.read_head()
        call.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await go_on.wait()
        call.writer.transport.resume_reading()  # type: ignore[attr-defined]
        await call.read(size - sum(map(len, taken)))
        call.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        await call.read_to_end()

    def take() -> None:
        sock = peer.calls[0].writer.get_extra_info("socket")
        while select.select([sock], [], [], 0.1)[0]:
            taken.append(os.read(sock.fileno(), size))
        go_on.set()

    peer = await start_peer(script)
    rig = await start_rig(peer.url, settings={"idle_timeout": Duration(0.3)}, max_body=Size(size))
    client = await rig.connect(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size + b"x" * size)
    await until(lambda: any(connection._writing_paused for connection in rig.pools["wallet"]._open))
    await hold_up(0.3, take)
    assert (await client.head()).startswith(b"HTTP/1.1 204 ")


# Sent again.


async def test_a_get_on_a_connection_that_has_just_ended_is_sent_again(start_rig: StartRig, start_peer: StartPeer) -> None:
    async def script(call: Call) -> None:
        await call.read_request()
        call.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        await call.read_request()  # and is gone

    peer = await start_peer(script)
    rig = await start_rig(peer.url)
    client = await rig.connect(GET)
    await client.head()
    client.send(GET)
    assert (await client.head()).startswith(b"HTTP/1.1 200 ")
    assert [call.received.count(b"GET /") for call in peer.calls] == [2, 1]
    assert rig.count("gateway_upstream_requests_total", upstream="wallet", endpoint=rig.server, outcome="error") == 1


@pytest.mark.parametrize(
    "request_bytes",
    [
        pytest.param(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", id="method"),
        pytest.param(b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx", id="body"),
    ],
)
async def test_what_might_be_executed_twice_is_sent_once(start_rig: StartRig, start_peer: StartPeer, request_bytes: bytes) -> None:
    async def script(call: Call) -> None:
        await call.read_request()
        call.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        await call.read_request()

    peer = await start_peer(script)
    rig = await start_rig(peer.url)
    client = await rig.connect(GET)
    await client.head()
    client.send(request_bytes)
    assert (await client.head()).startswith(b"HTTP/1.1 502 ")
    assert len(peer.calls) == 1


async def test_a_get_is_not_sent_for_ever(start_rig: StartRig, start_peer: StartPeer) -> None:
    peer = await start_peer(answering(b"", keeps=False))
    rig = await start_rig(peer.url)
    client = await rig.connect(GET)
    assert failure(await client.until(b"}")) == (502, b"UPSTREAM_CONNECTION_LOST")
    assert len(peer.calls) == 2
    assert rig.count("gateway_upstream_requests_total", upstream="wallet", endpoint=rig.server, outcome="error") == 2


@pytest.mark.parametrize(
    "begun",
    [
        pytest.param(b"HTTP/1.1 103 Early Hints\r\n\r\n", id="D2-interim"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello", id="D2-body"),
    ],
)
async def test_a_get_is_not_sent_again_when_the_client_has_seen_some_of_an_answer(
    start_rig: StartRig, start_peer: StartPeer, begun: bytes
) -> None:
    peer = await start_peer(answering(begun, keeps=False))
    rig = await start_rig(peer.url)
    client = await rig.connect(GET)
    assert (await client.head()).startswith(begun[:13])
    await rig.ended()
    assert len(peer.calls) == 1
