"""Upstreams that take a body, or a WebSocket, slowly but steadily: the kernel, which holds megabytes, takes nothing more meanwhile."""

import asyncio
import socket
from collections.abc import Iterator
from contextlib import closing

import pytest

from gateway.config import Duration, Size
from tests.passthrough.rig import Client, StartRig
from tests.passthrough.test_leaving import send_on
from tests.passthrough.test_tunnel import ASK, SWITCH
from tests.upstream.peer import until

IDLE = 0.8  # seconds
A_STEP = 0.05


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """A listener whose connections hold little."""
    with closing(socket.socket()) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        sock.setblocking(False)
        yield sock


@pytest.mark.parametrize(("request_", "answer"), [(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\n", b""), (ASK, SWITCH)])
async def test_who_takes_a_little_all_the_time_is_not_given_up(
    start_rig: StartRig, listener: socket.socket, request_: bytes, answer: bytes
) -> None:
    loop = asyncio.get_running_loop()
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    rig = await start_rig(url, settings={"idle_timeout": Duration(IDLE)}, max_body=Size(1 << 30))
    client: Client = await rig.connect(request_)
    upstream, _ = await loop.sock_accept(listener)
    with upstream:
        head = await loop.sock_recv(upstream, 4096)
        assert head.endswith(b"\r\n\r\n")
        await loop.sock_sendall(upstream, answer)
        sending = asyncio.create_task(send_on(client))
        taken = 0  # bytes
        for _ in range(int(4 * IDLE / A_STEP)):
            await asyncio.sleep(A_STEP)
            taken += len(await loop.sock_recv(upstream, 15_000))
        assert rig.lines.lines == []
        assert taken > 500_000
        await until(lambda: bool(rig.lines.lines))  # it takes nothing any more
    sending.cancel()
