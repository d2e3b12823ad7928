"""WebSockets: the handshake and the bytes behind it, either side's end, backpressure, idleness."""

import asyncio
import os
import socket
from collections.abc import Callable
from contextlib import suppress

import pytest

from gateway.config import Duration
from gateway.upstream.pieces import PIECE, PIECES
from tests.passthrough.rig import IMPATIENT, Client, Rig, StartRig, reset_when_asked
from tests.passthrough.test_frames import frame
from tests.upstream.peer import Call, StartPeer, hold_up, until

KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
ASK = (
    b"GET /chat?room=1 HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: " + KEY + b"\r\nSec-WebSocket-Protocol: chat, superchat\r\nSec-WebSocket-Extensions: permessage-deflate\r\n"
    b"Origin: http://a\r\n\r\n"
)
SWITCH = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: chat\r\n\r\n"
)


async def switch(call: Call) -> bytes:
    head = await call.read_head()
    call.write(SWITCH)
    return head


async def echo(call: Call) -> None:
    """Answer the handshake and send back whatever comes."""
    await switch(call)
    while data := await call.reader.read(65536):
        call.received += data
        call.write(data)
        await call.writer.drain()


async def opened(rig: Rig) -> Client:
    client = await rig.connect(ASK)
    assert (await client.head()).startswith(b"HTTP/1.1 101 ")
    return client


async def test_the_handshake_and_its_answer_are_passed_on(start_rig: StartRig, start_peer: StartPeer) -> None:
    peer = await start_peer(echo)
    rig = await start_rig(peer.url)
    client = await rig.connect(ASK)
    head = await client.head()
    for line in SWITCH.split(b"\r\n"):
        assert line in head
    assert b"Content-Length" not in head
    assert b"Transfer-Encoding" not in head
    received = peer.calls[0].received.split(b"\r\n")
    assert received[0] == b"GET /chat?room=1 HTTP/1.1"
    assert [line for line in received if line.lower().startswith((b"connection", b"upgrade"))] == [
        b"Connection: Upgrade",
        b"Upgrade: websocket",
    ]
    for line in ASK.split(b"\r\n"):
        assert line in received or line.lower().startswith((b"connection", b"upgrade"))


async def test_a_key_with_odd_last_bits_is_a_key(start_rig: StartRig, start_peer: StartPeer) -> None:
    """Some clients draw 22 random characters. Those bits count for nothing, and servers take them (RFC 4648, 3.5)."""
    odd = b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZR==\r\n"
    peer = await start_peer(echo)
    rig = await start_rig(peer.url)
    client = await rig.connect(ASK.replace(b"Sec-WebSocket-Key: " + KEY + b"\r\n", odd))
    assert (await client.head()).startswith(b"HTTP/1.1 101 ")
    assert odd in peer.calls[0].received


async def test_the_bytes_of_both_sides_are_untouched(start_rig: StartRig, start_peer: StartPeer) -> None:
    rig = await start_rig((await start_peer(echo)).url)
    client = await opened(rig)
    for payload in (b"", b"\x00\xff" * 40, b"x" * 200_000):
        data = frame(payload, masked=True)
        client.send(data)
        assert await client.read(len(data)) == data
    client.close()
    (line,) = await rig.ended()
    assert (line["status"], line["reason"]) == (101, "client closed")
    assert line["bytes_in"] == line["bytes_out"] > 200_000
    assert line["endpoint"]


async def test_while_memory_is_short_little_is_read_at_once(
    start_rig: StartRig, start_peer: StartPeer, monkeypatch: pytest.MonkeyPatch
) -> None:
    came: list[int] = []
    count = PIECES.count

    def note(size: int) -> None:
        came.append(size)
        count(size)

    rig = await start_rig((await start_peer(echo)).url)
    client = await opened(rig)
    monkeypatch.setattr(PIECES, "are_small", False)
    monkeypatch.setattr(PIECES, "is_short", lambda: True)
    monkeypatch.setattr(PIECES, "count", note)
    data = frame(bytes(1 << 20), masked=True)
    client.send(data)
    assert await client.read(len(data)) == data
    assert sum(came) > 1 << 20, "of both sides"
    assert set(came[-20:]) == {PIECE}
    client.close()
    await rig.ended()


async def test_what_is_sent_right_behind_the_handshake_is_not_lost(start_rig: StartRig, start_peer: StartPeer) -> None:
    async def script(call: Call) -> None:
        await call.read_head()
        call.write(SWITCH + b"at once")
        assert await call.read(5) == b"early"
        call.write(b"got it")
        await call.read_to_end()

    rig = await start_rig((await start_peer(script)).url)
    client = await rig.connect(ASK + b"early")
    await client.head()
    assert await client.read(13) == b"at oncegot it"


async def test_what_is_sent_before_the_answer_waits_for_it(start_rig: StartRig, start_peer: StartPeer) -> None:
    go = asyncio.Event()

    async def script(call: Call) -> None:
        await call.read_head()
        await go.wait()
        assert call.received.endswith(b"\r\n\r\n")
        call.write(SWITCH)
        assert await call.read(100_000) == b"x" * 100_000
        call.write(b"ok")
        await call.read_to_end()

    peer = await start_peer(script)
    rig = await start_rig(peer.url)
    client = await rig.connect(ASK)
    client.send(b"x" * 50_000)
    await until(lambda: bool(peer.calls and peer.calls[0].received))
    client.send(b"x" * 50_000)
    go.set()
    await client.head()
    assert await client.read(2) == b"ok"


async def test_D7_a_client_that_closes_closes_the_upstream(start_rig: StartRig, start_peer: StartPeer) -> None:
    ended = asyncio.Event()

    async def script(call: Call) -> None:
        await switch(call)
        assert await call.read_to_end() == b"bye"
        ended.set()

    rig = await start_rig((await start_peer(script)).url)
    client = await opened(rig)
    client.send(b"bye")
    client.close()
    await asyncio.wait_for(ended.wait(), 5)
    (line,) = await rig.ended()
    assert line["reason"] == "client closed"
    assert rig.count("gateway_upstream_requests_total", upstream="wallet", endpoint=rig.server, outcome="ok") == 1


async def test_D7_an_upstream_that_closes_closes_the_client(start_rig: StartRig, start_peer: StartPeer) -> None:
    async def script(call: Call) -> None:
        await switch(call)
        call.write(b"bye")

    rig = await start_rig((await start_peer(script)).url)
    client = await opened(rig)
    assert await client.rest() == b"bye"
    client.close()
    (line,) = await rig.ended()
    assert line["reason"] == "upstream closed"


def client_resets(client: Client, _call: Call) -> None:
    client.reset()


def upstream_resets(_client: Client, call: Call) -> None:
    call.reset()


@pytest.mark.parametrize("who", [client_resets, upstream_resets])
async def test_D7_a_side_that_dies_ends_the_other(start_rig: StartRig, start_peer: StartPeer, who: Callable[[Client, Call], None]) -> None:
    ended = asyncio.Event()

    async def script(call: Call) -> None:
        await switch(call)
        await call.read_to_end()
        ended.set()

    peer = await start_peer(script)
    rig = await start_rig(peer.url)
    client = await opened(rig)
    who(client, peer.calls[0])
    async with asyncio.timeout(5):
        if who is upstream_resets:
            with suppress(ConnectionResetError):
                assert await client.rest() == b""
        await ended.wait()
        await rig.ended()


async def test_D7_an_upstream_that_is_gone_before_the_tunnel_begins_ends_it(start_rig: StartRig, monkeypatch: pytest.MonkeyPatch) -> None:
    client = await reset_when_asked(start_rig, monkeypatch, SWITCH)
    client.send(ASK)
    assert b" 101 " in await client.head()
    assert await client.rest() == b""


async def test_D7_what_one_side_still_sends_reaches_a_side_that_sends_no_more(start_rig: StartRig, start_peer: StartPeer) -> None:
    async def script(call: Call) -> None:
        await switch(call)
        assert await call.reader.read() == b"done"
        call.write(b"x" * 300_000)

    rig = await start_rig((await start_peer(script)).url)
    client = await opened(rig)
    client.send(b"done")
    client.writer.write_eof()
    assert len(await client.rest()) == 300_000


async def test_D7_a_side_that_does_not_end_is_cut_off(start_rig: StartRig, start_peer: StartPeer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.passthrough.tunnel.END_SECONDS", 0.2)

    async def script(call: Call) -> None:
        await switch(call)
        await call.reader.read()  # to the client's end, and then nothing
        await asyncio.Event().wait()

    rig = await start_rig((await start_peer(script)).url)
    client = await opened(rig)
    client.writer.write_eof()
    assert await client.rest() == b""
    await rig.ended()


async def test_D7_a_half_open_tunnel_ends_at_the_idle_timeout(start_rig: StartRig, start_peer: StartPeer) -> None:
    async def script(call: Call) -> None:
        await switch(call)
        await call.read_to_end()

    rig = await start_rig((await start_peer(script)).url, settings={"idle_timeout": Duration(0.2)})
    client = await opened(rig)
    assert await client.rest() == b""
    (line,) = await rig.ended()
    assert line["reason"] == "idle"


async def test_a_tunnel_is_not_idle_though_the_loop_is_late(start_rig: StartRig, start_peer: StartPeer) -> None:
    rig = await start_rig((await start_peer(echo)).url, settings={"idle_timeout": Duration(0.3)})
    client = await opened(rig)
    await hold_up(0.3, lambda: os.write(client.writer.get_extra_info("socket").fileno(), b"hi"))
    assert await client.read(2) == b"hi"


@pytest.mark.parametrize("talks", ["client", "upstream"])
async def test_a_tunnel_is_not_idle_while_either_side_sends(start_rig: StartRig, start_peer: StartPeer, talks: str) -> None:
    async def script(call: Call) -> None:
        await switch(call)
        for _ in range(4 if talks == "upstream" else 0):
            await asyncio.sleep(0.12)
            call.write(b"x")
        await call.read_to_end()

    rig = await start_rig((await start_peer(script)).url, settings={"idle_timeout": Duration(0.3)})
    client = await opened(rig)
    for _ in range(4):
        await asyncio.sleep(0.12)
        if talks == "client":
            client.send(b"x")
    assert not rig.lines.lines
    await client.rest()
    (line,) = await rig.ended()
    assert line["bytes_in" if talks == "client" else "bytes_out"] == 4


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        pytest.param(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno", 403, id="D8-403"),
        pytest.param(
            b"HTTP/1.1 426 Upgrade Required\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            b"Content-Length: 2\r\n\r\nno",
            426,
            id="D8-426",
        ),
        pytest.param(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n", 200, id="D8-200"),
    ],
)
async def test_D8_a_refusal_of_the_upgrade_is_passed_on(start_rig: StartRig, start_peer: StartPeer, answer: bytes, status: int) -> None:
    async def script(call: Call) -> None:
        await call.read_head()
        call.write(answer)
        assert await call.read_to_end() == b""

    rig = await start_rig((await start_peer(script)).url)
    raw = await rig.raw(ASK + b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n")
    assert raw.startswith(b"HTTP/1.1 %d " % status)
    assert b"no" in raw.partition(b"\r\n\r\n")[2]
    assert b"\r\nConnection: close\r\n" in raw
    assert (b"\r\nUpgrade: websocket\r\n" in raw) == (status == 426)
    assert raw.count(b"HTTP/1.1 ") == 1, "A15: no second request runs"
    assert len(await rig.ended()) == 1


async def test_a_dead_upstream_is_502_and_not_101(start_rig: StartRig) -> None:
    rig = await start_rig("http://127.0.0.1:1")
    raw = await rig.raw(ASK)
    assert raw.startswith(b"HTTP/1.1 502 ")
    assert b"UPSTREAM_UNREACHABLE" in raw


@pytest.mark.parametrize(("right", "wrong"), [(b"websocket", b"h2c"), (b"Connection: Upgrade\r\n", b""), (b"Upgrade: websocket\r\n", b"")])
async def test_a_101_that_is_no_websocket_is_502(start_rig: StartRig, start_peer: StartPeer, right: bytes, wrong: bytes) -> None:
    async def script(call: Call) -> None:
        await call.read_head()
        call.write(SWITCH.replace(right, wrong))
        await call.read_to_end()

    rig = await start_rig((await start_peer(script)).url)
    assert (await rig.raw(ASK)).startswith(b"HTTP/1.1 502 ")


async def test_a_websocket_needs_the_login_of_its_route(start_rig: StartRig, start_peer: StartPeer) -> None:
    peer = await start_peer(echo)
    rig = await start_rig(peer.url, session="required")
    assert (await rig.raw(ASK)).startswith(b"HTTP/1.1 401 ")
    assert not peer.calls
    client = await rig.connect(ASK.replace(b"Origin", b"Authorization: good\r\nOrigin"))
    assert (await client.head()).startswith(b"HTTP/1.1 101 ")
    assert b"X-Customer-Id: customer-7\r\n" in peer.calls[0].received


async def test_D6_a_tunnel_is_not_idle_while_its_client_has_not_taken_what_it_was_sent(start_rig: StartRig, start_peer: StartPeer) -> None:
    """How long it may take nothing says `write_idle_timeout`."""
    size = 8 << 20

    async def script(call: Call) -> None:
        await switch(call)
        call.write(bytes(size))
        await call.read_to_end()

    rig = await start_rig((await start_peer(script)).url, settings={"idle_timeout": Duration(0.2)})
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)
        sock.connect(("127.0.0.1", rig.port))
        client = Client(*await asyncio.open_connection(sock=sock, limit=1024))
        client.send(ASK)
        await client.head()
        (tunnel,) = rig.tunnels
        await until(lambda: tunnel._client.is_full)
        await asyncio.sleep(0.5)
        assert await client.read(size) == bytes(size)
        assert await client.rest() == b""
        client.close()
    await rig.ended()


@pytest.mark.parametrize("slow", ["client", "upstream"])
async def test_a_slow_side_holds_up_the_other(start_rig: StartRig, start_peer: StartPeer, slow: str) -> None:
    """Far more is sent than the sockets hold: no byte is lost, and what the gateway holds meanwhile is bounded."""
    size, go = 8 << 20, asyncio.Event()
    data = bytes(range(256)) * (size // 256)

    async def script(call: Call) -> None:
        await switch(call)
        if slow == "client":
            call.write(data)
            await call.writer.drain()
            await call.read_to_end()
        else:
            await go.wait()
            assert await call.reader.readexactly(size) == data
            call.write(b"all")

    rig = await start_rig((await start_peer(script)).url)
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)
    sock.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(sock, ("127.0.0.1", rig.port))
    await loop.sock_sendall(sock, ASK)
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        byte = await loop.sock_recv(sock, 1)
        assert byte
        head += byte
    (tunnel,) = rig.tunnels
    if slow == "client":
        await until(lambda: tunnel._client.is_full)
        assert tunnel._client.transport.get_write_buffer_size() <= 65536
        received = b""
        while len(received) < size and (piece := await loop.sock_recv(sock, 1 << 20)):
            received += piece
        assert received == data
    else:
        sending = asyncio.create_task(loop.sock_sendall(sock, data))
        await until(lambda: tunnel._upstream.is_full)
        assert tunnel._upstream.transport.get_write_buffer_size() <= 65536
        go.set()
        await sending
        assert await loop.sock_recv(sock, 3) == b"all"
    sock.close()
    await rig.ended()


async def test_A9_a_client_that_takes_nothing_is_cut_off(start_rig: StartRig, start_peer: StartPeer) -> None:
    async def script(call: Call) -> None:
        await switch(call)
        for _ in range(1000):
            call.write(b"x" * 100_000)
            await call.writer.drain()

    rig = await start_rig((await start_peer(script)).url, limits=IMPATIENT)
    client = await opened(rig)
    client.writer.transport.pause_reading()  # type: ignore[attr-defined]
    (line,) = await rig.ended()
    assert line["reason"] == "slow_reader"
    assert rig.count("gateway_rejected_total", reason="slow_reader") == 1


async def test_a_tunnel_can_be_told_that_the_gateway_goes_away(start_rig: StartRig, start_peer: StartPeer) -> None:
    async def script(call: Call) -> None:
        await switch(call)
        call.write(frame(b"x" * 100)[:50])
        await call.read(1)
        call.write(frame(b"x" * 100)[50:] + frame(b"never seen"))
        assert await call.read(4) == b"\x88\x82--"  # the client's reply
        await call.close()

    rig = await start_rig((await start_peer(script)).url)
    client = await opened(rig)
    half = await client.read(50)
    (tunnel,) = rig.tunnels
    tunnel.go_away()
    client.send(b"!")
    assert half + await client.read(56) == frame(b"x" * 100) + b"\x88\x02\x03\xe9"
    client.send(b"\x88\x82--")
    assert await client.rest() == b""
    client.close()
    (line,) = await rig.ended()
    assert line["reason"] == "going away"


async def test_a_tunnel_that_goes_away_passes_on_all_pieces_of_the_frame_under_way(start_rig: StartRig, start_peer: StartPeer) -> None:
    whole = frame(b"x" * 100)
    goes_on = [asyncio.Event(), asyncio.Event()]

    async def script(call: Call) -> None:
        await switch(call)
        call.write(whole[:40])
        for event, piece in zip(goes_on, (whole[40:70], whole[70:]), strict=True):
            await event.wait()
            call.write(piece)
        await call.read_to_end()

    rig = await start_rig((await start_peer(script)).url)
    client = await opened(rig)
    came = await client.read(40)
    (tunnel,) = rig.tunnels
    tunnel.go_away()
    goes_on[0].set()
    came += await client.read(30)
    goes_on[1].set()
    assert came + await client.read(len(whole) - 70 + 4) == whole + b"\x88\x02\x03\xe9"
    client.close()
    await rig.ended()


async def test_a_tunnel_between_two_frames_goes_away_at_once(start_rig: StartRig, start_peer: StartPeer) -> None:
    rig = await start_rig((await start_peer(echo)).url)
    client = await opened(rig)
    (tunnel,) = rig.tunnels
    tunnel.go_away()
    assert await client.read(4) == b"\x88\x02\x03\xe9"
    client.close()
    await rig.ended()


async def test_a_tunnel_that_ends_already_is_told_nothing_of_going_away(start_rig: StartRig, start_peer: StartPeer) -> None:
    """Its client has been sent the end, behind which nothing can be sent: the goodbye to the others would fail with it."""
    rig = await start_rig((await start_peer(switch)).url)
    client = await opened(rig)
    assert await client.rest() == b""
    (tunnel,) = rig.tunnels
    tunnel.go_away()
    client.close()
    (line,) = await rig.ended()
    assert line["reason"] == "upstream closed"


async def test_a_stop_ends_tunnels(start_rig: StartRig, start_peer: StartPeer) -> None:
    rig = await start_rig((await start_peer(echo)).url)
    client = await opened(rig)
    client.send(b"ping")
    assert await client.read(4) == b"ping"
    await rig.edge.shutdown(0.01)
    with suppress(ConnectionResetError):
        assert await client.rest() == b""
    (line,) = await rig.ended()
    assert (line["status"], line["bytes_in"], line["bytes_out"]) == (101, 4, 4)


async def test_hundreds_of_tunnels_are_open_at_once_and_nothing_is_left(start_rig: StartRig, start_peer: StartPeer) -> None:
    rig = await start_rig((await start_peer(echo)).url)
    clients = [await opened(rig) for _ in range(100)]
    assert len(rig.tunnels) == 100
    for client in clients:
        client.send(b"ping")
    for client in clients:
        assert await client.read(4) == b"ping"
        client.close()
    await rig.ended(100)
    await until(lambda: not rig.edge.connections)
    assert rig.count("gateway_connections") == 0
