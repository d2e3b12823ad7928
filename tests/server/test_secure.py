"""TLS on accepted sockets, with both loops: what comes with the handshake, large bodies, flow control, and handshakes that fail."""

import asyncio
import os
import socket
import ssl
from contextlib import suppress
from typing import Any

import pytest

from gateway.config import ServerTls
from gateway.edge.server import ServerLimits
from gateway.edge.tls import server_context
from tests.server.rig import LAST_REQUEST, PATH, REQUEST, Rig, StartRig
from tests.upstream.certificates import Authority, Pair
from tests.upstream.peer import hold_up


@pytest.fixture
def tls(server_pair: Pair) -> ssl.SSLContext:
    return server_context(ServerTls(certificate=server_pair.certificate, private_key=server_pair.private_key))


@pytest.fixture
def asking(server_pair: Pair, authority: Authority) -> ssl.SSLContext:
    """As `tls`, and it asks for client certificates."""
    return server_context(ServerTls(certificate=server_pair.certificate, private_key=server_pair.private_key, client_ca=authority.ca))


@pytest.fixture
def trusting(authority: Authority) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=authority.ca)


async def test_requests_are_answered_over_tls(start_rig: StartRig, tls: ssl.SSLContext, trusting: ssl.SSLContext) -> None:
    rig = await start_rig(tls=tls)
    client = await rig.connect(tls=trusting)
    assert await client.ask() == {"client": "127.0.0.1", "secure": True, "subject": None, "length": 0}
    assert (await client.ask())["secure"] is True
    assert rig.acceptor.open == 1
    client.close()
    await rig.until(lambda: rig.acceptor.open == 0)
    assert rig.rejected("tls") == 0


class Conversation:
    """A TLS client over a plain socket, whose records leave when the test says so."""

    def __init__(self, context: ssl.SSLContext, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.session = context.wrap_bio(self._incoming, self._outgoing, server_hostname="localhost")
        self._reader, self.writer = reader, writer

    async def hello(self) -> None:
        """Say hello and hear the answer; what is to be said then waits for `flush`."""
        with pytest.raises(ssl.SSLWantReadError):
            self.session.do_handshake()
        await self.flush()
        await self.receive()
        with suppress(ssl.SSLWantReadError):
            self.session.do_handshake()

    async def handshake(self) -> None:
        """Do the handshake but for its last flight, which waits for `flush`."""
        while True:
            try:
                self.session.do_handshake()
            except ssl.SSLWantReadError:
                await self.flush()
                await self.receive()
            else:
                return

    def outgoing(self) -> bytes:
        return self._outgoing.read()

    async def flush(self) -> None:
        self.writer.write(self.outgoing())
        await self.writer.drain()

    async def receive(self) -> None:
        self._incoming.write(await asyncio.wait_for(self._reader.read(65536), 10))

    async def read(self) -> bytes:
        while True:
            try:
                return self.session.read(65536)
            except ssl.SSLWantReadError:
                await self.receive()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_a_request_that_comes_with_the_last_flight_of_the_handshake_is_not_lost(
    start_rig: StartRig, tls: ssl.SSLContext, trusting: ssl.SSLContext, version: ssl.TLSVersion
) -> None:
    trusting.maximum_version = version
    rig = await start_rig(tls=tls)
    plain = await rig.connect()
    talk = Conversation(trusting, plain.reader, plain.writer)
    await talk.handshake()
    talk.session.write(REQUEST)
    await talk.flush()
    assert (await talk.read()).startswith(b"HTTP/1.1 200 ")
    plain.close()


async def test_a_hello_that_was_there_before_the_connection_is_accepted_is_not_lost(
    start_rig: StartRig, tls: ssl.SSLContext, trusting: ssl.SSLContext
) -> None:
    rig = await start_rig(tls=tls)
    rig.acceptor.stop()
    plain = await rig.connect()
    talk = Conversation(trusting, plain.reader, plain.writer)
    with pytest.raises(ssl.SSLWantReadError):
        talk.session.do_handshake()
    await talk.flush()
    rig.acceptor.start()
    await talk.receive()
    await talk.handshake()
    talk.session.write(REQUEST)
    await talk.flush()
    assert (await talk.read()).startswith(b"HTTP/1.1 200 ")
    plain.close()


async def test_a_drain_looks_at_a_connection_whose_end_the_edge_server_is_just_being_told(
    start_rig: StartRig, tls: ssl.SSLContext, trusting: ssl.SSLContext
) -> None:
    rig = await start_rig(tls=tls)
    client = await rig.connect(tls=trusting)
    await client.ask()
    client.writer.transport.abort()
    async with asyncio.timeout(10):
        while rig.edge.open:
            rig.edge.close_idle(60)
            await asyncio.sleep(0)
    assert rig.acceptor.open == 0


@pytest.mark.parametrize("size", [100_000, 5_000_000])
async def test_large_bodies_go_both_ways(start_rig: StartRig, tls: ssl.SSLContext, trusting: ssl.SSLContext, size: int) -> None:
    rig = await start_rig(tls=tls)
    client = await rig.connect(tls=trusting)
    for _ in range(2):
        head = f"POST {PATH} HTTP/1.1\r\nHost: a\r\nX-More: {size}\r\nContent-Length: {size}\r\n\r\n"
        told = await client.ask(head.encode() + b"y" * size)
        assert told["length"] == size
        assert told["more"] == "x" * size
    client.close()


async def test_an_answer_is_whole_when_the_connection_closes(start_rig: StartRig, tls: ssl.SSLContext, trusting: ssl.SSLContext) -> None:
    rig = await start_rig(tls=tls)
    client = await rig.connect(tls=trusting)
    told = await client.ask(LAST_REQUEST.replace(b"Host: a", b"Host: a\r\nX-More: 3000000"))
    assert len(told["more"]) == 3_000_000
    assert await client.rest() == b""  # an end of TLS, not only of the connection: else this would raise
    client.close()


async def test_a_large_answer_is_encrypted_as_the_client_takes_it(
    start_rig: StartRig, tls: ssl.SSLContext, trusting: ssl.SSLContext
) -> None:
    """OpenSSL keeps the memory of what it was given at once until the connection ends."""
    rig = await start_rig(tls=tls)
    plain = await rig.connect()
    talk = Conversation(trusting, plain.reader, plain.writer)
    await talk.handshake()
    talk.session.write(LAST_REQUEST.replace(b"Host: a", b"Host: a\r\nX-More: 6000000"))
    await talk.flush()
    await rig.until(lambda: len(rig.edge.connections) == 1)
    [connection] = rig.edge.connections
    await rig.until(lambda: connection.writing_paused)
    assert connection.transport is not None
    assert connection.transport.get_write_buffer_size() < 80_000
    answer = b""
    while not answer.endswith(b"}"):
        answer += await talk.read()
    assert answer.count(b"x" * 6_000_000) == 1
    plain.close()


async def test_A9_a_client_that_takes_nothing_is_noticed_over_tls_too(
    start_rig: StartRig, tls: ssl.SSLContext, trusting: ssl.SSLContext
) -> None:
    rig = await start_rig(tls=tls, limits=ServerLimits(16384, 5, 30, 0.3))
    plain = await rig.connect()
    talk = Conversation(trusting, plain.reader, plain.writer)
    await talk.handshake()
    talk.session.write(LAST_REQUEST.replace(b"Host: a", b"Host: a\r\nX-More: 16000000"))
    await talk.flush()
    await rig.until(lambda: rig.rejected("slow_reader") == 1)
    await rig.until(lambda: rig.acceptor.open == 0)
    await rig.until(lambda: not rig.front.in_flight)
    assert [line["reason"] for line in rig.lines.lines] == ["slow_reader"]
    with pytest.raises(ConnectionResetError):
        await asyncio.wait_for(plain.reader.read(), 10)
    plain.close()


async def test_reading_pauses_at_the_socket(start_rig: StartRig, tls: ssl.SSLContext, trusting: ssl.SSLContext) -> None:
    """A body that nobody reads stays with the client: what the gateway holds is bounded (faults D4)."""
    go_on = asyncio.Event()

    async def wait(request: Any, exchange: Any) -> Any:
        await go_on.wait()
        raise AssertionError

    rig = await start_rig(tls=tls, handler=wait)
    client = await rig.connect(tls=trusting)
    client.writer.transport.set_write_buffer_limits(high=0)
    client.writer.write(f"POST {PATH} HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\n".encode())
    assert not await taken(client.writer, 100_000_000)
    [connection] = rig.edge.connections
    held = connection._request.content.total_bytes  # type: ignore[union-attr]
    assert held <= 64 * 1024
    client.writer.transport.abort()
    go_on.set()


async def taken(writer: asyncio.StreamWriter, size: int) -> bool:
    """Write so much; return whether all of it was taken, or nothing more for half a second."""
    for _ in range(size // 65536):
        writer.write(b"y" * 65536)
        try:
            await asyncio.wait_for(writer.drain(), 0.5)
        except TimeoutError:
            return False
    return True


class TestA17:
    """Handshakes that fail."""

    async def refused(self, rig: Rig, why: str) -> None:
        await rig.until(lambda: rig.rejected("tls") == 1)
        await rig.until(lambda: rig.acceptor.open == 0)
        [call] = rig.logged.calls
        assert (call.method_name, call.kwargs["reason"], call.kwargs["client"]) == ("info", "tls", "127.0.0.1")
        assert why in call.kwargs["why"]

    async def test_A17_an_old_version_is_refused(self, start_rig: StartRig, tls: ssl.SSLContext) -> None:
        rig = await start_rig(tls=tls)
        old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
        old.set_ciphers("ALL:@SECLEVEL=0")
        with pytest.warns(DeprecationWarning, match="TLSv1_1"):
            old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
        with pytest.raises(ssl.SSLError, match="TLSV1_ALERT_PROTOCOL_VERSION"):
            await rig.connect(tls=old)
        await self.refused(rig, "UNSUPPORTED_PROTOCOL")

    @pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
    async def test_A17_a_client_certificate_of_somebody_else_is_refused(
        self, start_rig: StartRig, asking: ssl.SSLContext, trusting: ssl.SSLContext, other_authority: Authority, version: ssl.TLSVersion
    ) -> None:
        rig = await start_rig(tls=asking)
        mallory = other_authority.issue("mallory")
        trusting.load_cert_chain(mallory.certificate, mallory.private_key)
        trusting.maximum_version = version
        with pytest.raises(ssl.SSLError, match="TLSV1_ALERT_UNKNOWN_CA"):  # with 1.3 only what follows the handshake
            await (await rig.connect(tls=trusting)).ask()
        await self.refused(rig, "CERTIFICATE_VERIFY_FAILED")

    async def test_a_good_client_certificate_tells_its_subject(
        self, start_rig: StartRig, asking: ssl.SSLContext, trusting: ssl.SSLContext, authority: Authority
    ) -> None:
        rig = await start_rig(tls=asking)
        anna = authority.issue("anna")
        trusting.load_cert_chain(anna.certificate, anna.private_key)
        client = await rig.connect(tls=trusting)
        assert (await client.ask())["subject"] == "CN=anna"
        assert rig.lines.lines[0]["client_subject"] == "CN=anna"
        client.close()

    async def test_A17_a_stalled_handshake_is_closed_at_its_deadline(self, start_rig: StartRig, tls: ssl.SSLContext) -> None:
        rig = await start_rig(tls=tls, timeout=0.2)
        client = await rig.connect()
        client.writer.write(b"\x16\x03\x01\x02\x00\x01")
        assert await client.rest() == b""
        await self.refused(rig, "no handshake in time")
        client.close()

    @pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
    async def test_A17_a_handshake_that_has_come_in_time_counts_though_the_loop_is_late(
        self, start_rig: StartRig, tls: ssl.SSLContext, trusting: ssl.SSLContext, version: ssl.TLSVersion
    ) -> None:
        trusting.maximum_version = version
        rig = await start_rig(tls=tls, timeout=0.3)
        plain = await rig.connect()
        talk = Conversation(trusting, plain.reader, plain.writer)
        await talk.hello()
        await hold_up(0.3, lambda: os.write(plain.writer.get_extra_info("socket").fileno(), talk.outgoing()))
        await talk.handshake()
        talk.session.write(REQUEST)
        await talk.flush()
        assert (await talk.read()).startswith(b"HTTP/1.1 200 ")
        plain.close()

    async def test_A17_a_client_that_says_nothing_is_closed_at_the_deadline(self, start_rig: StartRig, tls: ssl.SSLContext) -> None:
        rig = await start_rig(tls=tls, timeout=0.2)
        client = await rig.connect()
        assert await client.rest() == b""
        await self.refused(rig, "no handshake in time")
        client.close()

    async def test_A17_what_is_no_tls_is_refused(self, start_rig: StartRig, tls: ssl.SSLContext) -> None:
        rig = await start_rig(tls=tls)
        client = await rig.connect()
        client.writer.write(REQUEST)
        await client.rest()
        await self.refused(rig, "HTTP_REQUEST")
        client.close()

    async def test_a_client_that_leaves_is_not_counted(self, start_rig: StartRig, tls: ssl.SSLContext) -> None:
        rig = await start_rig(tls=tls)
        client = await rig.connect()
        client.close()
        await rig.until(lambda: rig.acceptor.open == 0)
        assert rig.rejected("tls") == 0
        assert rig.logged.calls == []

    async def test_a_client_that_resets_is_not_counted(self, start_rig: StartRig, tls: ssl.SSLContext) -> None:
        rig = await start_rig(tls=tls)
        client = await rig.connect()
        client.writer.write(b"\x16\x03\x01\x02\x00\x01")
        sock = client.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        client.close()
        await rig.until(lambda: rig.acceptor.open == 0)
        assert rig.rejected("tls") == 0

    async def test_the_end_gives_up_handshakes_under_way(self, start_rig: StartRig, tls: ssl.SSLContext) -> None:
        rig = await start_rig(tls=tls)
        client = await rig.connect()
        client.writer.write(b"\x16\x03\x01\x02\x00\x01")
        await rig.until(lambda: rig.acceptor.open == 1)
        rig.acceptor.close()
        assert await client.rest() == b""
        client.close()
