"""Connections for which there is no memory are refused, with both loops."""

import asyncio
import socket
import ssl
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.config import Server, ServerTls
from gateway.edge.answer import Answer
from gateway.edge.exchange import Exchange
from gateway.edge.request import Request
from gateway.edge.tls import server_context
from gateway.server.acceptor import TAKES, TAKES_TLS, acceptor
from gateway.upstream.pieces import PIECES
from tests.server.rig import PATH, REFUSAL, REQUEST, StartRig, tell
from tests.upstream.certificates import Authority, Pair


async def test_F3_without_memory_for_them_connections_are_refused(start_rig: StartRig) -> None:
    has_room = True
    rig = await start_rig(has_room=lambda _: has_room)
    first = await rig.connect()
    await first.ask()
    has_room = False
    for number in (1, 2):
        client = await rig.connect()
        client.writer.write(REQUEST)
        assert await client.rest() == REFUSAL
        assert rig.rejected("overload") == number
        client.close()
    assert [call.args[0] for call in rig.logged.calls] == ["memory is nearly used up: refusing new connections"] * 2
    await first.ask()
    has_room = True
    fresh = await rig.connect()
    await fresh.ask()
    for client in (first, fresh):
        client.close()


async def test_F3_without_memory_for_them_clients_with_tls_get_an_alert(
    start_rig: StartRig, server_pair: Pair, authority: Authority
) -> None:
    tls = server_context(ServerTls(certificate=server_pair.certificate, private_key=server_pair.private_key))
    rig = await start_rig(has_room=lambda _: False, tls=tls)
    with pytest.raises(ssl.SSLError, match="ALERT_INTERNAL_ERROR"):
        await rig.connect(tls=ssl.create_default_context(cafile=authority.ca))
    assert rig.rejected("overload") == 1


async def test_F3_without_memory_what_begins_a_request_over_tls_is_not_even_decrypted(
    start_rig: StartRig, monkeypatch: pytest.MonkeyPatch, server_pair: Pair, authority: Authority
) -> None:
    tls = server_context(ServerTls(certificate=server_pair.certificate, private_key=server_pair.private_key))
    begun = asyncio.Event()

    async def handle(request: Request, exchange: Exchange) -> Answer:
        begun.set()
        return await tell(request, exchange)

    rig = await start_rig(tls=tls, handler=handle)
    client, other, leaving = [await rig.connect(tls=ssl.create_default_context(cafile=authority.ca)) for _ in range(3)]
    await leaving.ask()
    client.writer.write(f"POST {PATH} HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\nabc".encode())
    await begun.wait()
    monkeypatch.setattr(rig.edge, "has_memory", lambda: False)
    assert (await other.ask())["length"] == 0, "little is held as long as pieces are not small"
    monkeypatch.setattr(PIECES, "are_small", True)
    leaving.close()
    await rig.until(lambda: rig.acceptor.open == 2)
    assert rig.rejected("overload") == 0, "the end of a connection is no request"
    client.writer.write(b"def")
    assert (await client.answer())["length"] == 6, "what has begun is finished"
    for number, each in enumerate((client, other), 1):
        each.writer.write(REQUEST)
        answer = await each.rest()
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b'"OVERLOADED"' in answer
        assert rig.rejected("overload") == number
        each.close()
    await rig.until(lambda: rig.acceptor.open == 0)
    assert [line["status"] for line in rig.lines.lines] == [200, 200, 200, 503, 503]


async def test_F3_without_memory_a_request_that_was_refused_is_not_answered_again_when_its_body_comes(
    start_rig: StartRig, monkeypatch: pytest.MonkeyPatch, server_pair: Pair, authority: Authority
) -> None:
    rig = await start_rig(tls=server_context(ServerTls(certificate=server_pair.certificate, private_key=server_pair.private_key)))
    client = await rig.connect(tls=ssl.create_default_context(cafile=authority.ca))
    await client.ask()
    (connection,) = rig.edge.connections
    connection._missing = 100
    monkeypatch.setattr(rig.edge, "has_memory", lambda: False)
    monkeypatch.setattr(PIECES, "are_small", True)
    client.writer.write(b"x" * 100)
    assert await client.rest() == b""
    assert rig.rejected("overload") == 0
    assert [line["status"] for line in rig.lines.lines] == [200]
    client.close()


@pytest.mark.parametrize("has_tls", [False, True])
async def test_a_worker_asks_its_memory_before_it_takes_a_connection(
    start_rig: StartRig, server_pair: Pair, authority: Authority, *, has_tls: bool
) -> None:
    rig = await start_rig()
    rig.acceptor.stop()
    tls = ServerTls(certificate=server_pair.certificate, private_key=server_pair.private_key) if has_tls else None
    memory = SimpleNamespace(fits=lambda _: False)
    parts: Any = SimpleNamespace(config=SimpleNamespace(server=Server(tls=tls)), edge=rig.edge, memory=memory)
    made = acceptor(parts, rig.sockets, rig.logged)
    made.start()
    if has_tls:
        with pytest.raises(ssl.SSLError, match="ALERT_INTERNAL_ERROR"):
            await rig.connect(tls=ssl.create_default_context(cafile=authority.ca))
    else:
        client = await rig.connect()
        answer = await client.rest()
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b'"OVERLOADED"' in answer
        client.close()
    made.close()


@pytest.mark.parametrize("has_tls", [False, True])
async def test_F3_memory_is_reckoned_for_connections_that_were_opened_lately(
    start_rig: StartRig, monkeypatch: pytest.MonkeyPatch, *, has_tls: bool
) -> None:
    monkeypatch.setattr("gateway.edge.growth.SEEN", 3600.0)
    asked: list[int] = []
    leaves = asyncio.Event()

    class Admits:
        """Keeps what it is given until it leaves."""

        def __init__(self) -> None:
            self.has_tls = has_tls

        def sends_header(self, _peer: str) -> bool:
            return False

        async def admit(self, sock: socket.socket, _peer: str, _first: bytes) -> bool:
            await leaves.wait()
            sock.close()
            return False

    def has_room(size: int) -> bool:
        asked.append(size)
        return True

    rig = await start_rig(has_room=has_room, admission=Admits())
    clients = []
    for number in range(1, 4):
        clients.append(await rig.connect())
        await rig.until(lambda: rig.acceptor.open == number)  # noqa: B023  which is now
    leaves.set()
    await rig.until(lambda: rig.acceptor.open == 0)
    clients.append(await rig.connect())
    await clients[-1].rest()
    takes = TAKES_TLS if has_tls else TAKES
    assert asked == [takes, 2 * takes, 3 * takes, takes], "those that have ended take nothing"
    for client in clients:
        client.close()
