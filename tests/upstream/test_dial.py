import asyncio
import contextlib
import errno
import gc
import socket
import ssl
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from gateway.config.model import Tls
from gateway.upstream import Answer, Connection, ConnectionLost, Endpoint, Unreachable, request_head
from gateway.upstream.addresses import Address
from gateway.upstream.dial import Dialer
from gateway.upstream.parser import AnswerParser
from gateway.upstream.tls import client_context
from tests.upstream.certificates import Authority, Pair
from tests.upstream.peer import Call, StartPeer, cancel_connecting, taken_slowly, until

GET = request_head("GET", b"/", [(b"Host", b"peer")])
HI = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"


async def answer_hi(call: Call) -> None:
    await call.read_request()
    call.write(HI)
    await call.read_to_end()


async def get(endpoint: Endpoint, *, timeout: float = 10) -> Answer:
    """Connect, ask once, close."""
    lost = asyncio.Event()
    dialer = Dialer(endpoint)
    connection = await dialer.connect(timeout, lambda _: lost.set())
    try:
        return await connection.exchange(GET, limit=1000, method="GET")
    finally:
        connection.abort()
        await lost.wait()
        dialer.close()


@pytest.fixture
def refused_port() -> Iterator[int]:
    """A port on which nobody listens, held so that nobody will."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock.getsockname()[1]


@pytest.fixture
def silent_address() -> Iterator[Address]:
    """An address that answers no attempt to connect: its queue is full."""
    with socket.socket() as sock, socket.socket() as one, socket.socket() as two:
        sock.bind(("127.0.0.1", 0))
        sock.listen(0)
        for filler in (one, two):
            filler.setblocking(False)
            filler.connect_ex(sock.getsockname())
        yield socket.AF_INET, sock.getsockname()


async def test_connections_are_kept_alive_and_send_at_once(start_peer: StartPeer) -> None:
    peer = await start_peer(answer_hi)
    lost = asyncio.Event()
    connection = await Dialer(Endpoint.parse(peer.url)).connect(10, lambda _: lost.set())
    sock = connection.transport.get_extra_info("socket")
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    connection.abort()
    await lost.wait()


async def test_C1_refused(refused_port: int) -> None:
    with pytest.raises(Unreachable, match="connection refused"):
        await get(Endpoint.parse(f"http://127.0.0.1:{refused_port}"))


async def test_C1_connect_timeout(silent_address: Address) -> None:
    with pytest.raises(Unreachable, match="connect timeout"):
        await get(Endpoint.parse(f"http://127.0.0.1:{silent_address[1][1]}"), timeout=0.05)


async def test_C1_dns() -> None:
    async def resolve(host: str, port: int) -> Sequence[Address]:
        raise socket.gaierror(socket.EAI_NONAME, "canary")

    dialer = Dialer(Endpoint.parse("http://peer.invalid"), resolve=resolve)
    with pytest.raises(Unreachable, match="name not found") as caught:
        await dialer.connect(10, lambda _: None)
    assert "canary" not in str(caught.value)


async def test_C1_a_proxy_whose_name_is_not_found() -> None:
    async def resolve(host: str, port: int) -> Sequence[Address]:
        assert host == "proxy.invalid"
        raise socket.gaierror(socket.EAI_NONAME, "canary")

    dialer = Dialer(Endpoint.parse("http://peer.example", proxy="http://proxy.invalid:3128"), resolve=resolve)
    with pytest.raises(Unreachable) as caught:
        await dialer.connect(10, lambda _: None)
    assert str(caught.value) == "the proxy: name not found"


async def test_a_unix_socket(start_peer: StartPeer, tmp_path: Path) -> None:
    await start_peer(answer_hi, path=tmp_path / "peer.sock")
    assert (await get(Endpoint.parse(f"unix:{tmp_path}/peer.sock"))).body == b"hi"
    with pytest.raises(Unreachable, match="there is no such socket"):
        await get(Endpoint.parse(f"unix:{tmp_path}/nobody.sock"))


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        pytest.param(errno.EACCES, "permission denied", id="another-users-socket"),
        pytest.param(errno.EPERM, "permission denied", id="firewall"),
        pytest.param(errno.EHOSTUNREACH, "no route", id="host"),
        pytest.param(errno.ENETUNREACH, "no route", id="network"),
        pytest.param(errno.EMFILE, "no descriptors left", id="process"),
        pytest.param(errno.ENFILE, "no descriptors left", id="system"),
        pytest.param(errno.EADDRNOTAVAIL, "no local port left", id="port"),
        pytest.param(errno.EIO, "no connection", id="whatever"),
    ],
)
async def test_C1_what_the_system_refuses_is_told_apart(number: int, reason: str) -> None:
    async def resolve(host: str, port: int) -> Sequence[Address]:
        raise OSError(number, "canary")

    with pytest.raises(Unreachable) as caught:
        await Dialer(Endpoint.parse("http://peer.invalid"), resolve=resolve).connect(10, lambda _: None)
    assert str(caught.value) == reason


async def test_C1_a_unix_socket_whose_queue_is_full_is_waited_for(tmp_path: Path) -> None:
    path = str(tmp_path / "peer.sock")
    endpoint = Endpoint.parse(f"unix:{path}")
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as filler:
        listener.bind(path)
        listener.listen(0)
        filler.connect(path)
        with pytest.raises(Unreachable, match="connect timeout"):
            await get(endpoint, timeout=0.05)
        waiting = asyncio.create_task(get(endpoint))
        await asyncio.sleep(0)
        listener.accept()[0].close()
        listener.setblocking(False)
        sock, _ = await asyncio.get_running_loop().sock_accept(listener)
        with sock:
            assert await asyncio.get_running_loop().sock_recv(sock, 1000) == GET
            await asyncio.get_running_loop().sock_sendall(sock, HI)
            assert (await waiting).body == b"hi"


async def test_the_next_address_is_tried_when_one_refuses_or_is_silent(
    start_peer: StartPeer, refused_port: int, silent_address: Address
) -> None:
    peer = await start_peer(answer_hi)
    refused: Address = (socket.AF_INET, ("127.0.0.1", refused_port))
    good: Address = (socket.AF_INET, ("127.0.0.1", peer.port))

    async def connect(*addresses: Address, timeout: float = 5) -> None:
        async def resolve(host: str, port: int) -> Sequence[Address]:
            return addresses

        lost = asyncio.Event()
        dialer = Dialer(Endpoint.parse("http://peer"), resolve=resolve)
        connection = await dialer.connect(timeout, lambda _: lost.set())
        assert (await connection.exchange(GET, limit=10, method="GET")).body == b"hi"
        connection.abort()
        await lost.wait()

    await connect(refused, good)
    await connect(silent_address, good)
    await connect(silent_address, refused, good, silent_address)
    await connect(good, good, good)
    with pytest.raises(Unreachable, match="connection refused"):
        await connect(refused, refused)
    with pytest.raises(Unreachable, match="connect timeout"):
        await connect(silent_address, refused, timeout=0.5)


async def test_cancelling_leaves_no_socket_behind(silent_address: Address) -> None:
    async def resolve(host: str, port: int) -> Sequence[Address]:
        return [silent_address, silent_address]

    # A socket that is left open would be a ResourceWarning, and so an error.
    with pytest.raises(Unreachable, match="connect timeout"):
        await Dialer(Endpoint.parse("http://peer"), resolve=resolve).connect(0.3, lambda _: None)


async def test_cancelling_at_any_turn_leaves_no_socket_behind(start_peer: StartPeer, refused_port: int) -> None:
    peer = await start_peer(answer_hi)

    async def resolve(host: str, port: int) -> Sequence[Address]:
        return [(socket.AF_INET, ("127.0.0.1", refused_port)), (socket.AF_INET, ("127.0.0.1", peer.port))]

    for turns in range(50):
        await cancel_connecting(Dialer(Endpoint.parse("http://peer"), resolve=resolve), turns)
    gc.collect()  # a socket that is left open is a ResourceWarning now, and so an error


class TestTls:
    @pytest.fixture
    def trusting(self, authority: Authority) -> ssl.SSLContext:
        return client_context(Tls(ca=authority.ca))

    async def test_a_trusted_peer(self, start_peer: StartPeer, server_pair: Pair, trusting: ssl.SSLContext) -> None:
        peer = await start_peer(answer_hi, tls=server_pair.server_context())
        for host in ("localhost", "127.0.0.1"):
            assert (await get(Endpoint.parse(f"https://{host}:{peer.port}", tls=trusting))).body == b"hi"

    async def test_many_exchanges_over_one_connection(self, start_peer: StartPeer, server_pair: Pair, trusting: ssl.SSLContext) -> None:
        body = bytes(range(256)) * 2000

        async def script(call: Call) -> None:
            while True:
                await call.read_request()
                call.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)

        peer = await start_peer(script, tls=server_pair.server_context())
        lost = asyncio.Event()
        connection = await Dialer(Endpoint.parse(f"https://localhost:{peer.port}", tls=trusting)).connect(10, lambda _: lost.set())
        for _ in range(5):
            assert (await connection.exchange(GET, limit=1_000_000, method="GET")).body == body
            assert connection.reusable
        assert connection.transport.get_extra_info("ssl_object").version() == "TLSv1.3"
        connection.abort()
        await lost.wait()

    async def test_D4_a_slow_reader_stops_the_peer_and_loses_nothing(
        self, start_peer: StartPeer, server_pair: Pair, trusting: ssl.SSLContext
    ) -> None:
        body = bytes(range(256)) * 4096 * 8

        async def script(call: Call) -> None:
            await call.read_request()
            call.write(b"HTTP/1.1 200 OK\r\n\r\n")
            call.write(body)

        peer = await start_peer(script, tls=server_pair.server_context())
        lost = asyncio.Event()
        connection = await Dialer(Endpoint.parse(f"https://localhost:{peer.port}", tls=trusting)).connect(10, lambda _: lost.set())
        assert await taken_slowly(connection) == body
        connection.abort()
        await lost.wait()

    @pytest.mark.parametrize(
        ("certificate", "why"),
        [
            pytest.param(("localhost", 90, -1), "expired", id="C1-expired"),
            pytest.param(("localhost", -1, 90), "not yet valid", id="C1-not-yet-valid"),
            pytest.param(("elsewhere.example", 90, 30), "for another name", id="C1-other-name"),
            pytest.param(("127.0.0.2", 90, 30), "for another name", id="C1-other-address"),
        ],
    )
    async def test_a_certificate_that_is_not_good(
        self, start_peer: StartPeer, authority: Authority, trusting: ssl.SSLContext, certificate: tuple[str, int, int], why: str
    ) -> None:
        host, since, days = certificate
        peer = await start_peer(answer_hi, tls=authority.issue("not-good", host, days=days, since=since).server_context())
        called = "127.0.0.1" if host == "127.0.0.2" else "localhost"
        with pytest.raises(Unreachable) as caught:
            await get(Endpoint.parse(f"https://{called}:{peer.port}", tls=trusting))
        assert caught.value.reason == f"certificate not accepted: {why}"
        assert all(call.received == b"" for call in peer.calls)

    async def test_C1_a_certificate_of_another_authority(
        self, start_peer: StartPeer, other_authority: Authority, trusting: ssl.SSLContext
    ) -> None:
        peer = await start_peer(answer_hi, tls=other_authority.issue("localhost").server_context())
        for context in (trusting, client_context(None)):
            with pytest.raises(Unreachable, match="certificate not accepted: no trusted authority has issued it"):
                await get(Endpoint.parse(f"https://localhost:{peer.port}", tls=context))

    async def test_the_name_of_the_certificate_can_be_given(
        self, start_peer: StartPeer, authority: Authority, trusting: ssl.SSLContext
    ) -> None:
        names: list[str | None] = []
        context = authority.issue("auth.internal").server_context()
        context.sni_callback = lambda _sock, name, _context: names.append(name)
        peer = await start_peer(answer_hi, tls=context)
        assert (await get(Endpoint.parse(f"https://127.0.0.1:{peer.port}", tls=trusting, server_name="auth.internal"))).body == b"hi"
        assert names == ["auth.internal"]

    async def test_C1_garbage_instead_of_tls(self, start_peer: StartPeer, trusting: ssl.SSLContext) -> None:
        async def script(call: Call) -> None:
            call.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            await call.read_to_end()

        peer = await start_peer(script)
        with pytest.raises(Unreachable, match="TLS handshake failed"):
            await get(Endpoint.parse(f"https://localhost:{peer.port}", tls=trusting))

    @pytest.mark.parametrize(
        ("version", "reason"),
        [
            pytest.param(ssl.TLSVersion.TLSv1_2, "TLS handshake failed: SSLV3_ALERT_HANDSHAKE_FAILURE", id="in-the-handshake"),
            pytest.param(ssl.TLSVersion.TLSv1_3, "TLS: TLSV13_ALERT_CERTIFICATE_REQUIRED", id="behind-it"),
        ],
    )
    async def test_C1_what_a_peer_says_by_its_alert_is_kept(
        self, start_peer: StartPeer, authority: Authority, trusting: ssl.SSLContext, *, version: ssl.TLSVersion, reason: str
    ) -> None:
        context = authority.issue("localhost").server_context()
        context.maximum_version = version
        context.load_verify_locations(authority.ca)
        context.verify_mode = ssl.CERT_REQUIRED

        async def script(call: Call) -> None:  # the event loops would throw the alert away
            incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            tls = context.wrap_bio(incoming, outgoing, server_side=True)
            while True:
                try:
                    tls.do_handshake()
                except ssl.SSLWantReadError:
                    call.write(outgoing.read())
                    incoming.write(await call.reader.read(4096))
                except ssl.SSLError:
                    break
            call.write(outgoing.read())
            await call.read_to_end()

        peer = await start_peer(script)
        with pytest.raises((Unreachable, ConnectionLost)) as caught:
            await get(Endpoint.parse(f"https://localhost:{peer.port}", tls=trusting))
        assert str(caught.value).endswith(reason)  # it may come before the request is sent

    @pytest.mark.usefixtures("garbage")
    async def test_C1_a_handshake_that_fails_leaves_no_parser_to_the_garbage_collector(
        self, start_peer: StartPeer, trusting: ssl.SSLContext
    ) -> None:
        async def script(call: Call) -> None:
            call.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            await call.read_to_end()

        peer = await start_peer(script)
        with contextlib.suppress(Unreachable):
            await get(Endpoint.parse(f"https://localhost:{peer.port}", tls=trusting))
        await until(lambda: not any(isinstance(one, AnswerParser) for one in gc.get_objects()))

    @pytest.mark.parametrize("end", ["close", "reset"])
    async def test_C1_closed_in_the_handshake(self, start_peer: StartPeer, trusting: ssl.SSLContext, end: str) -> None:
        async def script(call: Call) -> None:
            await call.read(1)
            if end == "reset":
                call.reset()

        peer = await start_peer(script)
        with pytest.raises(Unreachable, match=r"closed while connecting|TLS handshake failed"):
            await get(Endpoint.parse(f"https://localhost:{peer.port}", tls=trusting))

    async def test_C1_a_handshake_that_stalls(self, start_peer: StartPeer, trusting: ssl.SSLContext) -> None:
        ended = asyncio.Event()

        async def script(call: Call) -> None:
            await call.read_to_end()
            ended.set()

        peer = await start_peer(script)
        with pytest.raises(Unreachable, match="connect timeout"):
            await get(Endpoint.parse(f"https://127.0.0.1:{peer.port}", tls=trusting), timeout=0.05)  # to look a name up may take longer
        await asyncio.wait_for(ended.wait(), 10)

    async def test_a_client_certificate(
        self, start_peer: StartPeer, authority: Authority, server_pair: Pair, trusting: ssl.SSLContext
    ) -> None:
        context = server_pair.server_context()
        context.load_verify_locations(authority.ca)
        context.verify_mode = ssl.CERT_REQUIRED
        peer = await start_peer(answer_hi, tls=context)
        pair = authority.issue("gateway")
        ours = client_context(Tls(ca=authority.ca, certificate=pair.certificate, private_key=pair.private_key))
        assert (await get(Endpoint.parse(f"https://localhost:{peer.port}", tls=ours))).body == b"hi"
        # In TLS 1.3 the peer refuses a client only after the client may have sent its request: so this is not Unreachable.
        with pytest.raises(ConnectionLost):
            await get(Endpoint.parse(f"https://localhost:{peer.port}", tls=trusting))

    async def test_D2_a_body_until_close_that_tls_does_not_end_is_not_whole(
        self, start_peer: StartPeer, server_pair: Pair, trusting: ssl.SSLContext
    ) -> None:
        async def script(call: Call) -> None:
            await call.read_request()
            call.write(b"HTTP/1.1 200 OK\r\n\r\nall of it")
            await call.writer.drain()
            if cut:
                call.cut()
                await call.read_to_end()

        peer = await start_peer(script, tls=server_pair.server_context())
        endpoint = Endpoint.parse(f"https://localhost:{peer.port}", tls=trusting)
        cut = False
        assert (await get(endpoint)).body == b"all of it"
        cut = True
        with pytest.raises(ConnectionLost):
            await get(endpoint)


class TestProxy:
    async def test_a_tunnel_is_asked_for_and_tls_is_spoken_inside(
        self, start_peer: StartPeer, server_pair: Pair, authority: Authority
    ) -> None:
        peer = await start_peer(answer_hi, tls=server_pair.server_context())

        async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while data := await reader.read(65536):
                writer.write(data)
            writer.close()

        async def script(call: Call) -> None:
            await call.read_head()
            reader, writer = await asyncio.open_connection("127.0.0.1", peer.port)
            call.write(b"HTTP/1.0 200 Connection established\r\nProxy-Agent: x\r\n\r\n")
            try:
                await asyncio.gather(relay(call.reader, writer), relay(reader, call.writer))
            finally:
                writer.transport.abort()

        proxy = await start_peer(script)
        tls = client_context(Tls(ca=authority.ca))
        endpoint = Endpoint.parse("https://localhost:1234", tls=tls, proxy=proxy.url)
        assert (await get(endpoint)).body == b"hi"
        assert proxy.calls[0].received == b"CONNECT localhost:1234 HTTP/1.1\r\nHost: localhost:1234\r\n\r\n"
        assert peer.calls[0].received == GET

    @pytest.mark.parametrize(
        ("answer", "reason"),
        [
            pytest.param(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 6\r\n\r\ncanary", "refused by the proxy: status 403", id="refused"),
            pytest.param(b"HTTP/1.1 407 Who\r\nProxy-Authenticate: Basic\r\n\r\n", "refused by the proxy: status 407", id="not-authorised"),
            pytest.param(b"HTTP/1.1 302 Found\r\nLocation: http://x\r\n\r\n", "refused by the proxy: status 302", id="redirected"),
            pytest.param(b"SSH-2.0-canary\r\n\r\n", "answer of the proxy invalid", id="not-http"),
            pytest.param(b"HTTP/1.1 200 OK\nX: y\n\n", "answer of the proxy", id="bare-lf"),
            pytest.param(b"HTTP/1.1 200 OK\r\n\r\ncanary", "answer of the proxy invalid", id="bytes-after"),
            pytest.param(b"HTTP/1.1 200 O", "answer of the proxy invalid", id="closed-within"),
            pytest.param(b"", "answer of the proxy invalid", id="closed"),
            pytest.param(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000, "answer of the proxy invalid", id="endless"),
        ],
    )
    async def test_C1_a_proxy_that_does_not_give_a_tunnel(self, start_peer: StartPeer, answer: bytes, reason: str) -> None:
        async def script(call: Call) -> None:
            await call.read_head()
            call.write(answer)

        proxy = await start_peer(script)
        with pytest.raises(Unreachable, match=reason) as caught:
            await get(Endpoint.parse("http://peer.example", proxy=proxy.url))
        assert "canary" not in str(caught.value)
        assert proxy.calls[0].received == b"CONNECT peer.example:80 HTTP/1.1\r\nHost: peer.example:80\r\n\r\n"

    async def test_C1_a_proxy_that_is_silent_or_refuses(self, start_peer: StartPeer, refused_port: int) -> None:
        async def script(call: Call) -> None:
            await call.read_to_end()

        proxy = await start_peer(script)
        with pytest.raises(Unreachable, match="connect timeout"):
            await get(Endpoint.parse("http://peer.example", proxy=proxy.url), timeout=0.05)
        with pytest.raises(Unreachable, match="the proxy: connection refused"):
            await get(Endpoint.parse("http://peer.example", proxy=f"http://127.0.0.1:{refused_port}"))


async def test_a_connection_that_was_never_used_closes_without_a_word(start_peer: StartPeer) -> None:
    peer = await start_peer(answer_hi)
    lost: list[Connection] = []
    gone = asyncio.Event()

    def forget(connection: Connection) -> None:
        lost.append(connection)
        gone.set()

    connection = await Dialer(Endpoint.parse(peer.url)).connect(10, forget)
    assert connection.reusable
    connection.abort()
    await gone.wait()
    assert lost == [connection]
