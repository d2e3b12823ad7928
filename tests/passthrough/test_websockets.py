"""WebSockets direct and through the gateway, by the `websockets` library on both sides: over a table of cases there is no difference."""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed, InvalidStatus, NegotiationError
from websockets.typing import Subprotocol

from tests.passthrough.rig import Client, StartRig
from tests.passthrough.test_frames import frame
from tests.passthrough.test_tunnel import ASK

LARGE = bytes(range(256)) * (8 << 12)  # 8 MiB
OPTIONS: dict[str, Any] = {"max_size": 16 << 20, "ping_interval": None}


@dataclass
class Seen:
    """What both sides saw, in order; compared between the two ways."""

    client: list[Any] = field(default_factory=list)
    server: list[Any] = field(default_factory=list)


async def serve_one(connection: ServerConnection, seen: Seen) -> None:
    """Do what the client asks: close, ping, send in fragments; echo everything else."""
    seen.server += [connection.subprotocol, str(connection.request.path if connection.request else "")]
    try:
        async for message in connection:
            seen.server.append(message if len(message) < 1000 else len(message))
            if isinstance(message, str) and message.startswith("close "):
                _, code, reason = message.split(" ", 2)
                await connection.close(int(code), reason)
            elif message == "ping":
                pong = await connection.ping(b"\x00ping payload\xff")
                seen.server.append(await pong >= 0)
            elif message == "fragments":
                await connection.send(["one ", "two ", "", "three"])
            elif message == "abort":
                connection.transport.abort()
            else:
                await connection.send(message)
    except ConnectionClosed:
        pass
    seen.server += [connection.close_code, connection.close_reason]


async def drain(connection: ClientConnection, seen: Seen) -> None:
    """Take whatever still comes, to the end."""
    try:
        async for message in connection:
            seen.client.append(message)
    except ConnectionClosed:
        pass
    seen.client += [connection.close_code, connection.close_reason]


async def echo(connection: ClientConnection, seen: Seen, message: str | bytes) -> None:
    await connection.send(message)
    seen.client.append(await connection.recv() == message)


async def texts(connection: ClientConnection, seen: Seen) -> None:
    for message in ("", "a", "gr\u00fc\u00dfe \u6c47", "x" * 125, "x" * 126, "x" * 65535, "x" * 65536):
        await echo(connection, seen, message)
    await connection.close()


async def binaries(connection: ClientConnection, seen: Seen) -> None:
    for message in (b"", b"\x00", bytes(range(256)), b"\xff" * 65536):
        await echo(connection, seen, message)
    await connection.close()


async def large(connection: ClientConnection, seen: Seen) -> None:
    await echo(connection, seen, LARGE)
    await connection.close()


async def incompressible(connection: ClientConnection, seen: Seen) -> None:
    await echo(connection, seen, os.urandom(8 << 20))
    await connection.close()


async def fragments_from_the_client(connection: ClientConnection, seen: Seen) -> None:
    await connection.send([b"one ", b"", b"two ", b"three"])
    seen.client.append(await connection.recv())
    await connection.close()


async def fragments_from_the_server(connection: ClientConnection, seen: Seen) -> None:
    await connection.send("fragments")
    seen.client.append([part async for part in connection.recv_streaming()])
    await connection.close()


async def a_ping_between_fragments(connection: ClientConnection, seen: Seen) -> None:
    async def parts() -> AsyncIterator[bytes]:
        yield b"one "
        await (await connection.ping(b"between"))
        yield b"two"

    await connection.send(parts())
    seen.client.append(await connection.recv())
    await connection.close()


async def pings(connection: ClientConnection, seen: Seen) -> None:
    for payload in (b"", b"\x00\xff" * 10, b"x" * 125):
        seen.client.append(await (await connection.ping(payload)) >= 0)
    await connection.pong(b"unasked")
    await connection.send("ping")
    await echo(connection, seen, "after")
    await connection.close()


async def many(connection: ClientConnection, seen: Seen) -> None:
    await asyncio.gather(*(connection.send(f"message {number}") for number in range(500)))
    seen.client.append([await connection.recv() for _ in range(500)])
    await connection.close()


async def the_client_aborts(connection: ClientConnection, seen: Seen) -> None:
    await echo(connection, seen, "hello")
    connection.transport.abort()


async def the_server_aborts(connection: ClientConnection, seen: Seen) -> None:
    await connection.send("abort")


async def too_large_for_the_server(connection: ClientConnection, seen: Seen) -> None:
    await connection.send(b"x" * ((16 << 20) + 1))


CODES = (1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999)


def the_client_closes(code: int) -> Callable[[ClientConnection, Seen], Awaitable[None]]:
    async def case(connection: ClientConnection, seen: Seen) -> None:
        await echo(connection, seen, "hello")
        await connection.close(code, f"reason \u00e9 {code}")

    return case


def the_server_closes(code: int) -> Callable[[ClientConnection, Seen], Awaitable[None]]:
    async def case(connection: ClientConnection, seen: Seen) -> None:
        await connection.send(f"close {code} reason \u00e9 {code}")

    return case


CASES: dict[str, tuple[Callable[[ClientConnection, Seen], Awaitable[None]], dict[str, Any]]] = {
    "texts": (texts, {}),
    "binaries": (binaries, {}),
    "8-MiB": (large, {}),
    "8-MiB-uncompressed": (large, {"compression": None}),
    "8-MiB-random": (incompressible, {}),
    "fragments-from-the-client": (fragments_from_the_client, {}),
    "fragments-from-the-server": (fragments_from_the_server, {}),
    "a-ping-between-fragments": (a_ping_between_fragments, {}),
    "pings-with-payload": (pings, {}),
    "500-messages-at-once": (many, {}),
    "permessage-deflate": (texts, {"compression": "deflate"}),
    "no-compression": (texts, {"compression": None}),
    "subprotocol": (texts, {"subprotocols": [Subprotocol("chat"), Subprotocol("superchat")]}),
    "subprotocol-second": (texts, {"subprotocols": [Subprotocol("none"), Subprotocol("superchat")]}),
    "D7-the-client-aborts": (the_client_aborts, {}),
    "D7-the-server-aborts": (the_server_aborts, {}),
    "too-large-for-the-server": (too_large_for_the_server, {}),
    **{f"the-client-closes-{code}": (the_client_closes(code), {}) for code in CODES},
    **{f"the-server-closes-{code}": (the_server_closes(code), {}) for code in CODES},
}


class Both:
    """A WebSocket server, reached directly and through the gateway."""

    def __init__(self, server: Server, direct: int, through: int) -> None:
        self.server = server
        self.ports = {"direct": direct, "through": through}
        self.seen = Seen()
        self.ended = asyncio.Event()

    async def handle(self, connection: ServerConnection) -> None:
        try:
            await serve_one(connection, self.seen)
        finally:
            self.ended.set()

    async def run(self, way: str, case: Callable[[ClientConnection, Seen], Awaitable[None]], options: dict[str, Any]) -> Seen:
        self.seen, self.ended = Seen(), asyncio.Event()
        connection = await connect(f"ws://127.0.0.1:{self.ports[way]}/chat?x=%2F", **{**OPTIONS, **options})
        self.seen.client += [connection.subprotocol, sorted(_answer(connection))]
        await case(connection, self.seen)
        await asyncio.wait_for(drain(connection, self.seen), 10)
        await asyncio.wait_for(self.ended.wait(), 10)
        return self.seen


def _answer(connection: ClientConnection) -> list[tuple[str, str]]:
    assert connection.response is not None
    changing = {"date", "sec-websocket-accept", "x-request-id"}
    return [(name, value) for name, value in connection.response.headers.raw_items() if name.lower() not in changing]


def choose(_connection: ServerConnection, offered: Sequence[Subprotocol]) -> Subprotocol | None:
    """Prefer superchat to chat; refuse those who offer neither."""
    for protocol in (Subprotocol("superchat"), Subprotocol("chat")):
        if protocol in offered:
            return protocol
    if offered:
        raise NegotiationError("none of ours")
    return None


@pytest.fixture
async def both(start_rig: StartRig) -> AsyncIterator[Both]:
    holder: list[Both] = []

    async def handle(connection: ServerConnection) -> None:
        await holder[0].handle(connection)

    server = await serve(handle, "127.0.0.1", 0, select_subprotocol=choose, **OPTIONS)
    port: int = next(iter(server.sockets)).getsockname()[1]
    rig = await start_rig(f"http://127.0.0.1:{port}")
    holder.append(Both(server, port, rig.port))
    yield holder[0]
    server.close()
    await server.wait_closed()


@pytest.mark.parametrize(("case", "options"), CASES.values(), ids=CASES)
async def test_there_is_no_difference(
    both: Both, case: Callable[[ClientConnection, Seen], Awaitable[None]], options: dict[str, Any]
) -> None:
    direct = await both.run("direct", case, options)
    through = await both.run("through", case, options)
    assert through == direct
    assert len(direct.client) >= 3


RAW = {
    "unmasked": frame(b"hello"),
    "reserved-bit": frame(b"hello", opcode=0x42, masked=True),
    "reserved-opcode": frame(b"hello", opcode=3, masked=True),
    "reserved-control-opcode": frame(b"", opcode=11, masked=True),
    "continuation-of-nothing": frame(b"hello", opcode=0, masked=True),
    "fragmented-ping": frame(b"hello", opcode=9, fin=False, masked=True),
    "ping-over-125": frame(b"x" * 126, opcode=9, masked=True),
    "close-with-one-byte": frame(b"x", opcode=8, masked=True),
    "close-without-a-code": frame(b"", opcode=8, masked=True),
    "close-with-a-reserved-code": frame(bytes(a ^ b for a, b in zip(b"\x03\xed", b"ma", strict=True)), opcode=8, masked=True),
    "text-that-is-no-UTF-8": frame(bytes(a ^ b for a, b in zip(b"\xff\xfe", b"ma", strict=True)), opcode=1, masked=True),
    "half-a-frame": frame(b"hello", masked=True)[:4],
    "no-frame": b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
}


@pytest.mark.parametrize("data", RAW.values(), ids=RAW)
async def test_there_is_no_difference_in_what_is_wrong_either(both: Both, data: bytes) -> None:
    ask = b"\r\n".join(line for line in ASK.split(b"\r\n") if not line.startswith(b"Sec-WebSocket-E"))
    answers = []
    for way in ("direct", "through"):
        client = Client(*await asyncio.open_connection("127.0.0.1", both.ports[way]))
        client.send(ask)
        assert (await client.head()).startswith(b"HTTP/1.1 101 ")
        client.send(data)
        client.writer.write_eof()
        answers.append(await client.rest())
        client.close()
    assert answers[0] == answers[1]


async def test_D8_a_refused_handshake_is_the_servers_refusal(both: Both) -> None:
    statuses = []
    for way in ("direct", "through"):
        with pytest.raises(InvalidStatus) as caught:
            await connect(f"ws://127.0.0.1:{both.ports[way]}/", subprotocols=[Subprotocol("unknown")])
        statuses.append((caught.value.response.status_code, caught.value.response.body))
    assert statuses[0] == statuses[1]
