"""Clients that leave where nothing is read from them, or nothing of an upstream has begun: places go to others (faults D6, D7)."""

import asyncio
import socket
import struct

from gateway.config import Duration, Size
from tests.passthrough.rig import Client, Rig, StartRig
from tests.passthrough.test_tunnel import opened, switch
from tests.upstream.peer import Call, StartPeer, until

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
LONG = Duration(60)
SOON = 5.0  # seconds


def reset(client: Client) -> None:
    sock = client.writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.writer.transport.abort()


async def send_on(client: Client) -> None:
    while True:
        client.send(b"x" * 100_000)
        await client.writer.drain()


async def fill(client: Client) -> None:
    """Send until no more is taken."""
    sending = asyncio.create_task(send_on(client))
    await asyncio.wait([sending], timeout=1)
    sending.cancel()


async def ended_soon(rig: Rig) -> tuple[int, str]:
    (line,) = await asyncio.wait_for(rig.ended(), SOON)
    return line["status"], line["reason"]


async def test_D6_who_leaves_while_it_waits_for_a_place_waits_no_longer(start_rig: StartRig, start_peer: StartPeer) -> None:
    go = asyncio.Event()

    async def script(call: Call) -> None:
        await call.read_head()
        await go.wait()
        call.write(b"HTTP/1.1 204 No Content\r\n\r\n")

    rig = await start_rig((await start_peer(script)).url, settings={"connections": 1, "connect_timeout": LONG})
    first = await rig.connect(GET)
    await until(lambda: rig.front.in_flight == 1)
    others = [await rig.connect(GET) for _ in range(3)]
    await until(lambda: rig.clusters["wallet"].status().waiting == 3)
    for client in others:
        reset(client)
    lines = await asyncio.wait_for(rig.ended(3), SOON)
    assert [(line["status"], line["reason"]) for line in lines] == [(499, "client_abort")] * 3
    assert (rig.clusters["wallet"].status().waiting, rig.front.in_flight) == (0, 1)
    go.set()
    assert (await first.head()).startswith(b"HTTP/1.1 204 ")


async def test_D6_who_leaves_while_a_connection_is_made_is_done(start_rig: StartRig) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full, socket.create_connection(full.getsockname()):
        rig = await start_rig(f"http://127.0.0.1:{full.getsockname()[1]}", settings={"connect_timeout": LONG})
        client = await rig.connect(GET)
        await until(lambda: rig.front.in_flight == 1)
        reset(client)
        assert await ended_soon(rig) == (499, "client_abort")


async def test_D6_who_leaves_while_the_upstream_takes_nothing_of_its_body_is_noticed(start_rig: StartRig, start_peer: StartPeer) -> None:
    async def script(call: Call) -> None:
        await call.read_head()
        call.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await asyncio.Event().wait()  # until the test is over

    rig = await start_rig((await start_peer(script)).url, settings={"idle_timeout": LONG}, max_body=Size(1 << 30))
    client = await rig.connect(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000000\r\n\r\n")
    await fill(client)
    reset(client)
    assert await ended_soon(rig) == (499, "client_abort")


async def test_D7_so_is_who_leaves_while_the_upstream_takes_nothing_of_a_websocket(start_rig: StartRig, start_peer: StartPeer) -> None:
    async def script(call: Call) -> None:
        await switch(call)
        call.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await asyncio.Event().wait()  # until the test is over

    rig = await start_rig((await start_peer(script)).url, settings={"idle_timeout": LONG})
    client = await opened(rig)
    await fill(client)
    reset(client)
    (line,) = await asyncio.wait_for(rig.ended(), 2 * SOON)
    assert line["reason"] in {"client lost", "client closed"}
