"""What new connections bring while work is refused, with both loops: refused before they are opened, or begun as it is otherwise."""

import asyncio
import json
import socket
import ssl
import struct
from functools import partial
from pathlib import Path

import pytest
from structlog.testing import CapturingLogger

from gateway.config import ServerTls
from gateway.edge.answer import Answer
from gateway.edge.connection import Connection, Sender
from gateway.edge.exchange import CLIENT_ABORT, Exchange
from gateway.edge.request import Request
from gateway.edge.room import Room
from gateway.edge.server import TOGETHER, EdgeServer, Refusal
from gateway.edge.shedding import AT_ONCE, FEW, LATE, Shedder, Work
from gateway.edge.tls import server_context
from gateway.errors import GatewayError
from gateway.server.early_refusals import EarlyRefusals
from tests.server.rig import PATH, Rig, StartRig, listening, tell
from tests.server.test_admission import HERE, V1_HEADER, V2_HEADER, V2_LOCAL
from tests.upstream.certificates import Authority, Pair

HEAD = f"POST {PATH} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 2\r\n"
KEPT = f"{HEAD}\r\n{{}}".encode()
LAST = f"{HEAD}Connection: close\r\n\r\n{{}}".encode()
OLD = LAST.replace(b"HTTP/1.1", b"HTTP/1.0").replace(b"Connection: close\r\n", b"")


class Shedding(Shedder):
    """Refuses work as long as it has no `places`. Nobody is to be kept waiting, but for `held` seconds."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        super().__init__(
            CapturingLogger(),
            loop,
            room=Room(lambda _: True),
            clients=lambda _: 0,
            queued=lambda: 0.0,
            waiting=lambda: (0, 0.0),
            few=FEW,
            takes={"sdk": 0, "api": 0},
        )
        self.is_shedding = True
        self.places = 0
        self.held = 0.0
        self.told: list[bool] = []
        self.taken = 0

    def passes(self, work: Work, *, is_new: bool = False) -> bool:
        assert work in {"sdk", "api"}
        self.told.append(is_new)
        if not self.places:
            return False
        self.places -= 1
        self.taken += 1
        return True

    def begin(self, work: Work, size: int = 0) -> None:
        assert (work, size) == ("sdk", 0)
        if not self.taken and not self.passes(work):
            raise GatewayError("OVERLOADED", LATE)
        self.taken -= 1

    def hold(self, work: Work, cost: float = AT_ONCE) -> float:
        assert (work, cost) == ("sdk", AT_ONCE)
        return self.held


@pytest.fixture
async def shedder() -> Shedding:
    return Shedding()


@pytest.fixture
def begin(start_rig: StartRig, shedder: Shedding) -> StartRig:
    """Start a rig that has what it takes begin, if it may."""

    async def taking(request: Request, exchange: Exchange) -> Answer:
        shedder.begin("sdk")
        return await tell(request, exchange)

    return partial(start_rig, shedder=shedder, handler=taking)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[Connection]:
    """Tell of the connections that have been opened."""
    connections: list[Connection] = []
    note = EdgeServer.opened

    def noted(self: EdgeServer, connection: Connection) -> None:
        connections.append(connection)
        note(self, connection)

    monkeypatch.setattr(EdgeServer, "opened", noted)
    return connections


async def send(rig: Rig, *requests: bytes) -> list[socket.socket]:
    """Connect and send while nobody accepts, so that all has come when somebody does."""
    rig.acceptor.stop()
    socks = []
    for request in requests:
        place = rig.sockets[0].getsockname()
        sock = socket.socket(rig.sockets[0].family)
        sock.connect(place)
        sock.setblocking(False)
        sock.send(request)
        socks.append(sock)
    rig.acceptor.start()
    return socks


async def whole_of(sock: socket.socket) -> bytes:
    """Return what comes until the end. Raises ConnectionResetError where the end is no orderly one."""
    data = b""
    async with asyncio.timeout(10):
        while came := await asyncio.get_running_loop().sock_recv(sock, 65536):
            data += came
    sock.close()
    return data


async def answer_of(sock: socket.socket, size: int = 1) -> bytes:
    """Return what has come when that is as much at least."""
    data = b""
    async with asyncio.timeout(10):
        while len(data) < size:
            data += await asyncio.get_running_loop().sock_recv(sock, 65536)
    return data


@pytest.mark.parametrize("kind", ["tcp", "unix"])
@pytest.mark.parametrize("request_", [KEPT, LAST, OLD], ids=["keep-alive", "close", "old"])
async def test_who_asks_once_is_refused_without_a_connection(
    begin: StartRig, shedder: Shedding, opened: list[Connection], tmp_path: Path, *, kind: str, request_: bytes
) -> None:
    rig = await begin(sockets=[] if kind == "tcp" else [unix(tmp_path / "gateway.sock")])
    for sock in await send(rig, *[request_] * 20):
        answer = await whole_of(sock)
        head, _, body = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
        assert b"\r\nConnection: close" in head
        assert b"\r\nRetry-After: 1" in head
        assert f"\r\nContent-Length: {len(body)}\r\n".encode() in head
        assert json.loads(body)["resultCode"] == "OVERLOADED"
    assert opened == []
    assert shedder.told == [True] * 20
    assert rig.acceptor.open == 0
    [line] = {tuple((name, line[name]) for name in ("status", "client", "route", "bytes_in", "reason")) for line in rig.lines.lines}
    assert dict(line) == {
        "status": 503, "client": "unix" if kind == "unix" else "127.0.0.1", "route": "sdk", "bytes_in": 2, "reason": LATE
    }  # fmt: skip
    assert len(rig.lines.lines) == 20


def unix(path: Path) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(str(path))
    sock.listen(100)
    sock.setblocking(False)
    return sock


async def test_where_clients_stay_they_are_refused_on_connections_that_go_on(
    begin: StartRig, shedder: Shedding, opened: list[Connection]
) -> None:
    rig = await begin()
    shedder.places = 2
    crowd = await send(rig, KEPT, KEPT)
    for sock in crowd:
        assert (await answer_of(sock)).startswith(b"HTTP/1.1 200 ")
    [sock] = await send(rig, KEPT)
    for _ in range(3):
        refusal = await answer_of(sock)
        assert refusal.startswith(b"HTTP/1.1 503 ")
        assert b"Connection" not in refusal
        sock.send(KEPT)
    assert (await answer_of(sock)).startswith(b"HTTP/1.1 503 ")
    assert len(opened) == 3
    assert shedder.told.count(True) == 2
    for each in (sock, *crowd):
        each.close()


async def test_that_clients_leave_is_remembered_for_a_while(begin: StartRig, shedder: Shedding, opened: list[Connection]) -> None:
    rig = await begin()
    shedder.places = 1
    for status in (b"200", b"503", b"503", b"503"):
        [sock] = await send(rig, LAST)
        assert (await whole_of(sock)).startswith(b"HTTP/1.1 " + status)
        await rig.until(lambda: rig.acceptor.open == 0)
    assert len(opened) == 1
    assert shedder.told == [True] * 4


@pytest.mark.parametrize("requests", [1, 2])
async def test_clients_that_stayed_and_leave_all_at_once_are_no_such_clients(
    begin: StartRig, shedder: Shedding, opened: list[Connection], requests: int
) -> None:
    rig = await begin()
    shedder.is_shedding, shedder.places = False, 20 * requests
    crowd = await send(rig, *[KEPT] * 20)
    for sock in crowd:
        await answer_of(sock)
        for _ in range(requests - 1):
            sock.send(KEPT)
            await answer_of(sock)
        sock.close()
    await rig.until(lambda: rig.acceptor.open == 0)
    shedder.is_shedding = True
    [sock] = await send(rig, KEPT)
    refusal = await answer_of(sock)
    assert (b"\r\nConnection: close\r\n" in refusal) is (requests == 1)
    assert len(opened) == (20 if requests == 1 else 21)
    sock.close()


async def silent_ones(rig: Rig, count: int = 1) -> list[socket.socket]:
    """Connect while work is refused, and send nothing."""
    *silent, behind = await send(rig, *[b""] * count, LAST)
    assert (await whole_of(behind)).startswith(b"HTTP/1.1 503 ")
    assert rig.acceptor.open == count
    return silent


@pytest.mark.parametrize("kind", ["tcp", "unix"])
async def test_who_says_nothing_yet_is_refused_without_a_connection_when_it_does(
    begin: StartRig, opened: list[Connection], tmp_path: Path, kind: str
) -> None:
    rig = await begin(sockets=[] if kind == "tcp" else [unix(tmp_path / "gateway.sock")])
    silent = await silent_ones(rig, 3)
    for number, sock in enumerate(silent, 1):
        sock.send(KEPT)
        assert b"\r\nConnection: close\r\n" in await whole_of(sock)
        await rig.until(lambda: rig.acceptor.open == len(silent) - number)  # noqa: B023  called in this turn only
    assert opened == []


@pytest.mark.parametrize("is_over", [True, False])
async def test_who_says_nothing_yet_begins_when_it_does_and_may(begin: StartRig, shedder: Shedding, *, is_over: bool) -> None:
    rig = await begin()
    silent, left = await silent_ones(rig, 2)
    if is_over:
        shedder.is_shedding = False
    shedder.places = 1
    left.close()
    silent.send(KEPT)
    assert (await answer_of(silent)).startswith(b"HTTP/1.1 200 ")
    silent.close()
    await rig.until(lambda: rig.acceptor.open == 0)


async def test_who_says_nothing_for_long_is_opened(
    begin: StartRig, opened: list[Connection], shedder: Shedding, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.server.early_refusals.SILENT", 0.1)
    rig = await begin()
    first, second = await silent_ones(rig, 2)
    first.send(LAST)
    assert (await whole_of(first)).startswith(b"HTTP/1.1 503 ")
    third = socket.create_connection(rig.sockets[0].getsockname())
    third.setblocking(False)
    await rig.until(lambda: len(opened) == 2)
    assert rig.acceptor.open == 2
    shedder.places = 2
    for sock in (second, third):
        sock.send(KEPT)
        assert (await answer_of(sock)).startswith(b"HTTP/1.1 200 ")
        sock.close()
    await rig.until(lambda: rig.acceptor.open == 0)


async def test_F1_who_says_nothing_yet_when_it_stops_is_served_once_more(begin: StartRig, shedder: Shedding) -> None:
    rig = await begin()
    silent = await silent_ones(rig, 5)
    rig.acceptor.stop()
    for sock in rig.sockets:
        sock.close()
    shedder.is_shedding, shedder.places = False, 5
    rig.front.draining = True
    for sock in silent:
        sock.send(KEPT)
        answer = await whole_of(sock)
        assert (answer.startswith(b"HTTP/1.1 200 "), b"\r\nConnection: close\r\n" in answer) == (True, True)
    await rig.until(lambda: rig.acceptor.open == 0)


async def test_who_says_nothing_yet_is_opened_when_accepting_stops(begin: StartRig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.server.early_refusals.SILENT", 60.0)  # it is not opened for that
    rig = await begin()
    [sock] = await silent_ones(rig)
    rig.acceptor.stop()
    await rig.until(lambda: rig.edge.open == 1)
    sock.close()


async def test_at_the_limit_the_next_has_its_turn_when_a_silent_one_has_been_refused(begin: StartRig) -> None:
    rig = await begin(connections=1)
    first, second = await send(rig, b"", LAST)
    await rig.until(lambda: rig.rejected("connections") == 1)
    first.send(LAST)
    for sock in (first, second):
        assert (await asyncio.wait_for(whole_of(sock), 5)).startswith(b"HTTP/1.1 503 ")


async def test_who_says_nothing_yet_counts_as_open(begin: StartRig) -> None:
    rig = await begin(connections=2)
    first, second, third = await send(rig, b"", b"", LAST)
    await rig.until(lambda: rig.rejected("connections") == 1)
    assert rig.acceptor.open == 2
    first.send(LAST)
    for sock in (first, third):
        assert (await whole_of(sock)).startswith(b"HTTP/1.1 503 ")
    second.close()
    await rig.until(lambda: rig.acceptor.open == 0)


@pytest.mark.parametrize("request_", [KEPT, LAST, OLD], ids=["keep-alive", "close", "old"])
async def test_what_may_begin_begins_with_what_was_read_and_is_not_asked_for_twice(
    begin: StartRig, shedder: Shedding, request_: bytes
) -> None:
    rig = await begin()
    shedder.places = 1
    first, second = await send(rig, request_, LAST)
    answer = await answer_of(first)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b'"length": 2' in answer
    assert (await whole_of(second)).startswith(b"HTTP/1.1 503 ")
    assert shedder.told == [True, True]
    first.close()


async def test_what_has_not_come_whole_or_cannot_be_read_so_is_read_as_otherwise(begin: StartRig, shedder: Shedding) -> None:
    rig = await begin()
    shedder.places = 3
    parts = (LAST[:-1], KEPT[:-1], b"", LAST[:30] + LAST, b"nonsense\r\n\r\n", LAST[:20])
    part, other, nothing, several, nonsense, gone = await send(rig, *parts)
    gone.close()
    assert (await whole_of(several)).startswith(b"HTTP/1.1 400 ")
    assert (await whole_of(nonsense)).startswith(b"HTTP/1.1 400 ")
    part.send(LAST[-1:])
    assert (await whole_of(part)).startswith(b"HTTP/1.1 200 ")
    other.send(KEPT[-1:])
    assert (await answer_of(other)).startswith(b"HTTP/1.1 200 ")
    other.close()
    nothing.send(LAST)
    assert (await whole_of(nothing)).startswith(b"HTTP/1.1 503 ")
    await rig.until(lambda: rig.acceptor.open == 0)


async def test_who_has_left_is_counted_all_the_same(begin: StartRig, shedder: Shedding) -> None:
    rig = await begin()
    rig.acceptor.stop()
    for request in (LAST, KEPT):
        [sock] = await send(rig, request)
        rig.acceptor.stop()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.close()
        [other] = await send(rig, LAST)
        assert (await whole_of(other)).startswith(b"HTTP/1.1 503 ")
        await rig.until(lambda: rig.acceptor.open == 0)


async def test_who_leaves_before_the_refusal_is_sent_has_not_got_it(begin: StartRig) -> None:
    rig = await begin()
    early = EarlyRefusals(rig.edge, lambda *_: None, lambda _: False, lambda: None)
    ours, theirs = socket.socketpair()
    theirs.send(LAST)
    early.ask(ours, "192.0.2.1", 0.0)
    theirs.close()
    early.send()
    assert [(line["status"], line["reason"], line["bytes_out"]) for line in rig.lines.lines] == [(503, CLIENT_ABORT, 0)]


async def test_a_failure_of_our_own_with_one_is_nothing_to_the_others(
    begin: StartRig, shedder: Shedding, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = await begin()
    failures: list[BaseException] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context["exception"]))
    refuse = rig.edge.refuse

    def failing(sender: Sender, data: bytes) -> Refusal | None:
        if not failures:
            raise KeyError("ours")
        return refuse(sender, data)

    monkeypatch.setattr(rig.edge, "refuse", failing)
    first, second = await send(rig, LAST, LAST)
    assert (await whole_of(second)).startswith(b"HTTP/1.1 503 ")
    assert await whole_of(first) == b""
    assert [type(failure) for failure in failures] == [KeyError]
    assert rig.acceptor.open == 0


@pytest.mark.parametrize("kind", ["tcp", "unix"])
async def test_when_too_much_time_goes_into_refusals_new_clients_wait_for_a_moment(
    begin: StartRig, shedder: Shedding, tmp_path: Path, kind: str
) -> None:
    rig = await begin(sockets=[] if kind == "tcp" else [unix(tmp_path / "gateway.sock")])
    shedder.held = 0.05
    begun = asyncio.get_running_loop().time()
    for sock in await send(rig, *[LAST] * 10):
        assert (await whole_of(sock)).startswith(b"HTTP/1.1 503 ")
    assert asyncio.get_running_loop().time() - begun >= 9 * TOGETHER * 0.9


async def test_what_may_begin_need_not_wait_for_that(begin: StartRig, shedder: Shedding, monkeypatch: pytest.MonkeyPatch) -> None:
    rig = await begin()
    shedder.held, shedder.places = 0.05, 10
    monkeypatch.setattr("gateway.server.acceptor.TOGETHER", 3600)
    *socks, waiting = await send(rig, *[LAST] * 12)
    for sock in socks:
        await whole_of(sock)
    assert [line["status"] for line in rig.lines.lines].count(200) == 10
    assert len(rig.lines.lines) == 11
    waiting.close()


async def test_every_listener_has_its_turn(begin: StartRig, shedder: Shedding) -> None:
    rig = await begin(sockets=[listening(), listening()])
    shedder.held = 0.05
    crowd = await send(rig, *[LAST] * 50)
    other = socket.create_connection(rig.sockets[1].getsockname())
    other.setblocking(False)
    other.send(LAST)
    assert (await whole_of(other)).startswith(b"HTTP/1.1 503 ")
    assert len(rig.lines.lines) < 40
    for sock in crowd:
        await whole_of(sock)


async def test_no_more_is_opened_than_may_be(begin: StartRig, shedder: Shedding) -> None:
    rig = await begin(connections=2)
    shedder.places = 3
    first, second, third = await send(rig, KEPT, KEPT, KEPT)
    for sock in (first, second):
        assert (await answer_of(sock)).startswith(b"HTTP/1.1 200 ")
    await rig.until(lambda: rig.rejected("connections") == 1)
    assert rig.acceptor.open == 2
    first.close()
    assert (await answer_of(third)).startswith(b"HTTP/1.1 200 ")
    second.close()
    third.close()


async def test_nothing_is_read_before_tls(
    begin: StartRig, shedder: Shedding, server_pair: Pair, authority: Authority, opened: list[Connection]
) -> None:
    context = server_context(ServerTls(certificate=server_pair.certificate, private_key=server_pair.private_key))
    for settings, header in ({}, b""), ({"proxies": HERE}, V1_HEADER):
        rig = await begin(tls=context, **settings)
        client = await rig.connect()
        client.writer.write(header)
        await client.writer.start_tls(ssl.create_default_context(cafile=authority.ca), server_hostname="localhost")
        client.writer.write(LAST)
        assert (await client.rest()).startswith(b"HTTP/1.1 503 ")
        client.close()
    assert not any(shedder.told)
    assert len(opened) == 2


@pytest.mark.parametrize(
    ("header", "client"),
    [(V1_HEADER, "192.0.2.7"), (V2_HEADER, "192.0.2.7"), (V2_LOCAL, "127.0.0.1"), (b"PROXY UNKNOWN\r\n", "127.0.0.1")],
    ids=["v1", "v2", "local", "unknown"],
)
async def test_behind_a_proxy_header_the_client_is_refused_that_it_names(
    begin: StartRig, shedder: Shedding, opened: list[Connection], header: bytes, client: str
) -> None:
    rig = await begin(proxies=HERE)
    for sock in await send(rig, *[header + LAST] * 20):
        assert (await whole_of(sock)).startswith(b"HTTP/1.1 503 ")
    assert (shedder.told, opened) == ([True] * 20, [])
    assert [line["client"] for line in rig.lines.lines] == [client] * 20
    unnamed = await begin(proxies=["192.0.2.1"])
    [sock] = await send(unnamed, LAST)
    assert (await whole_of(sock)).startswith(b"HTTP/1.1 503 ")
    assert (shedder.told, opened) == ([True] * 21, [])


async def test_what_may_begin_behind_a_proxy_header_does(begin: StartRig, shedder: Shedding) -> None:
    rig = await begin(proxies=HERE)
    shedder.places = 2
    for sock in await send(rig, V1_HEADER + LAST, V2_HEADER + LAST):
        assert json.loads((await whole_of(sock)).partition(b"\r\n\r\n")[2])["client"] == "192.0.2.7"


@pytest.mark.parametrize("places", [0, 1])
@pytest.mark.parametrize("size", [1, 20, len(V1_HEADER) - 1, len(V1_HEADER)])
async def test_who_says_nothing_yet_behind_a_proxy_header_is_known_by_it(
    begin: StartRig, shedder: Shedding, opened: list[Connection], places: int, size: int
) -> None:
    rig = await begin(proxies=HERE)
    silent, behind = await send(rig, V1_HEADER[:size], V2_HEADER + LAST)
    assert (await whole_of(behind)).startswith(b"HTTP/1.1 503 ")
    assert rig.acceptor.open == 1
    shedder.places = places
    silent.send(V1_HEADER[size:] + LAST)
    assert (await whole_of(silent)).startswith(b"HTTP/1.1 200 " if places else b"HTTP/1.1 503 ")
    assert [line["client"] for line in rig.lines.lines] == ["192.0.2.7"] * 2
    assert (opened == []) is (places == 0 and size == len(V1_HEADER))


async def test_behind_a_proxy_header_who_says_nothing_for_long_is_opened(
    begin: StartRig, shedder: Shedding, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.server.early_refusals.SILENT", 0.1)
    rig = await begin(proxies=HERE)
    silent, behind = await send(rig, V2_HEADER, V1_HEADER + LAST)
    assert (await whole_of(behind)).startswith(b"HTTP/1.1 503 ")
    await rig.until(lambda: rig.edge.open == 1)
    shedder.places = 1
    silent.send(LAST)
    assert json.loads((await whole_of(silent)).partition(b"\r\n\r\n")[2])["client"] == "192.0.2.7"


@pytest.mark.parametrize("data", [LAST, b"PROXY TCP4 192.0.2.7\r\n" + LAST, b""], ids=["none", "broken", "gone"])
async def test_who_must_send_a_proxy_header_and_does_not_is_closed(begin: StartRig, shedder: Shedding, data: bytes) -> None:
    rig = await begin(proxies=HERE)
    sock, behind = await send(rig, data, V1_HEADER + LAST)
    if not data:
        sock.close()
    else:
        assert await whole_of(sock) == b""
    assert (await whole_of(behind)).startswith(b"HTTP/1.1 503 ")
    await rig.until(lambda: rig.acceptor.open == 0)
    assert rig.rejected("proxy_protocol") == bool(data)
    assert len(rig.lines.lines) == 1


async def test_stopping_leaves_what_waits_for_a_moment(begin: StartRig, shedder: Shedding, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.server.acceptor.TOGETHER", 0)
    rig = await begin()
    shedder.held = 0.05
    socks = await send(rig, *[LAST] * 50)
    await answer_of(socks[0])
    rig.acceptor.stop()
    refused = len(rig.lines.lines)
    successor = await begin(sockets=[sock.dup() for sock in rig.sockets])
    for sock in socks[1:]:
        assert (await whole_of(sock)).startswith(b"HTTP/1.1 503 ")
    assert (len(rig.lines.lines), len(successor.lines.lines)) == (refused, 50 - refused)
    assert refused < 50
    socks[0].close()
