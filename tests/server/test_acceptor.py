"""The accept loop, with both loops: limits, descriptors that run out, sharing a burst, stopping."""

import asyncio
import gc
import os
import resource
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.config import Limits, Server
from gateway.edge.memory import MemoryWatch
from gateway.server.acceptor import BATCH, MOST, RETRY, Acceptor, acceptor
from gateway.server.standing import REFUSAL as REFUSED
from gateway.server.standing import StandingQueue
from tests.server.rig import LAST_REQUEST, REFUSAL, REQUEST, Client, Rig, StartRig, listening


async def test_connections_are_accepted_from_every_listener(start_rig: StartRig, tmp_path: Path) -> None:
    unix = socket.socket(socket.AF_UNIX)
    unix.setblocking(False)
    unix.bind(str(tmp_path / "gateway.sock"))
    unix.listen()
    rig = await start_rig(sockets=[listening(), listening(socket.AF_INET6, "::1"), unix])
    clients = [
        await asyncio.open_connection("127.0.0.1", rig.port),
        await asyncio.open_connection("::1", rig.sockets[1].getsockname()[1]),
        await asyncio.open_unix_connection(tmp_path / "gateway.sock"),
    ]
    assert [(await Client(*client).ask())["client"] for client in clients] == ["127.0.0.1", "::1", "unix"]
    assert rig.acceptor.open == 3
    assert [line["client"] for line in rig.lines.lines] == ["127.0.0.1", "::1", "unix"]
    for _, writer in clients:
        writer.close()
    await rig.until(lambda: rig.acceptor.open == 0)


async def test_it_listens_where_nobody_has_yet(start_rig: StartRig) -> None:
    bound = socket.socket()
    bound.setblocking(False)
    bound.bind(("127.0.0.1", 0))
    client = await (await start_rig(sockets=[bound])).connect()
    assert (await client.ask())["client"] == "127.0.0.1"
    client.close()


async def test_above_the_limit_connections_wait_until_one_ends(start_rig: StartRig) -> None:
    rig = await start_rig(connections=2)
    first, second = await rig.connect(), await rig.connect()
    await first.ask()
    await second.ask()
    third, fourth = await rig.connect(), await rig.connect()
    third.writer.write(REQUEST)
    fourth.writer.write(REQUEST)
    await rig.until(lambda: rig.rejected("connections") == 1)
    assert rig.acceptor.open == 2
    await first.ask()
    assert len(rig.lines.lines) == 3
    second.close()
    await third.answer()
    await rig.until(lambda: rig.rejected("connections") == 2)
    third.close()
    await fourth.answer()
    assert rig.acceptor.open == 2
    assert rig.rejected("connections") == 2
    first.close()
    fourth.close()


async def test_as_long_as_connections_wait_it_is_counted_again_and_again(start_rig: StartRig) -> None:
    rig = await start_rig(connections=1, again=0.01)
    first = await rig.connect()
    await first.ask()
    second = await rig.connect()
    second.writer.write(REQUEST)
    await rig.until(lambda: rig.rejected("connections") >= 3)
    assert rig.acceptor.open == 1
    first.close()
    await second.answer()
    second.close()
    await rig.until(lambda: rig.acceptor.open == 0)
    counted = rig.rejected("connections")
    third = await rig.connect()
    await third.ask()
    assert rig.rejected("connections") == counted
    third.close()


async def test_at_the_limit_nothing_is_counted_while_nobody_waits(start_rig: StartRig) -> None:
    rig = await start_rig(connections=1)
    for _ in range(3):
        client = await rig.connect()
        await client.ask(LAST_REQUEST)
        assert await client.rest() == b""
        client.close()
        await rig.until(lambda: rig.acceptor.open == 0)
    assert rig.rejected("connections") == 0


async def test_a_connection_counts_while_it_is_being_opened(start_rig: StartRig) -> None:
    go_on = asyncio.Event()

    class Slow:
        has_tls = False

        def sends_header(self, peer: str) -> bool:
            return False

        async def admit(self, sock: socket.socket, peer: str, first: bytes = b"") -> bool:
            await go_on.wait()
            sock.close()
            return False

    rig = await start_rig(connections=1, admission=Slow())
    first, second = await rig.connect(), await rig.connect()
    await rig.until(lambda: rig.rejected("connections") == 1)
    assert rig.acceptor.open == 1
    go_on.set()
    assert await first.rest() == b""
    assert await second.rest() == b""
    first.close()
    second.close()


async def test_a_connection_that_cannot_be_opened_harms_no_other(start_rig: StartRig) -> None:
    class Broken:
        has_tls = False

        def sends_header(self, peer: str) -> bool:
            return False

        async def admit(self, sock: socket.socket, peer: str, first: bytes = b"") -> bool:
            sock.close()
            raise KeyError("secret-of-the-client")

    rig = await start_rig(connections=1, admission=Broken())
    for _ in range(2):
        client = await rig.connect()
        assert await client.rest() == b""
        client.close()
    await rig.until(lambda: len(rig.logged.calls) == 2)
    assert {call.method_name for call in rig.logged.calls} == {"error"}
    assert rig.acceptor.open == 0


class Admits:
    """Opens nothing: keeps connections, or ends them at once."""

    def __init__(self, *, keeps: bool, has_tls: bool) -> None:
        self.has_tls = has_tls
        self._keeps = keeps
        self.admitted: list[socket.socket] = []

    def sends_header(self, peer: str) -> bool:
        return False

    async def admit(self, sock: socket.socket, peer: str, first: bytes = b"") -> bool:
        assert (peer, first) == ("127.0.0.1", b"")
        self.admitted.append(sock)
        if not self._keeps:
            sock.close()
        return self._keeps


@pytest.mark.parametrize(("keeps", "has_tls", "is_quick"), [(True, False, False), (False, True, False), (False, False, True)])
async def test_clients_that_connect_for_each_request_are_taken_as_fast_as_they_leave(
    start_rig: StartRig, monkeypatch: pytest.MonkeyPatch, *, keeps: bool, has_tls: bool, is_quick: bool
) -> None:
    admits = Admits(keeps=keeps, has_tls=has_tls)
    rig = await start_rig(connections=1000, admission=admits)
    rig.acceptor.stop()
    clients = [socket.create_connection(("127.0.0.1", rig.port)) for _ in range(300)]
    turns: list[int] = []
    accept = Acceptor._accept

    def noted(self: Acceptor, sock: socket.socket) -> None:
        before = self.open
        accept(self, sock)
        turns.append(self.open - before)

    monkeypatch.setattr(Acceptor, "_accept", noted)
    rig.acceptor.start()
    await rig.until(lambda: len(admits.admitted) == 300)
    assert turns[0] == BATCH
    assert (10 * BATCH < max(turns) <= MOST) is is_quick
    assert (max(turns) == BATCH) is not is_quick
    for sock in clients:
        sock.close()
    if keeps:
        for sock in admits.admitted:
            sock.close()
            rig.acceptor._give_back()


class Script(StandingQueue):
    """Refuses connections by turns, beginning with the first ones."""

    def __init__(self, *refused: int) -> None:
        self._script = [number % 2 == 0 for number, count in enumerate(refused) for _ in range(count)]
        self.waited: list[float] = []

    def refuses(self, waited: float) -> bool:
        self.waited.append(waited)
        return bool(self._script) and self._script.pop(0)


async def test_with_tls_who_has_waited_too_long_is_refused_beside_the_few_that_are_taken(
    start_rig: StartRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    admits = Admits(keeps=False, has_tls=True)
    rig = await start_rig(admission=admits)
    rig.acceptor.stop()
    rig.acceptor._queues = {rig.sockets[0]: (queue := Script(20, 3, 7))}
    clients = [await rig.connect() for _ in range(40)]
    turns: list[tuple[int, float]] = []
    accept = Acceptor._accept

    def noted(self: Acceptor, sock: socket.socket) -> None:
        accept(self, sock)
        turns.append((self.open, rig.rejected("overload")))

    monkeypatch.setattr(Acceptor, "_accept", noted)
    rig.acceptor.start()
    told = [await client.rest() for client in clients]
    assert told == [REFUSED] * 20 + [b""] * 3 + [REFUSED] * 7 + [b""] * 10
    assert turns[0] == (BATCH, 27)
    assert 0 <= min(queue.waited) <= max(queue.waited) < 10
    assert len(admits.admitted) == 13
    assert rig.rejected("overload") == 27
    for client in clients:
        client.close()


async def test_who_waited_because_there_were_too_many_has_not_waited_for_a_handshake(start_rig: StartRig) -> None:
    admits = Admits(keeps=True, has_tls=True)
    rig = await start_rig(connections=1, again=0.2, admission=admits)
    rig.acceptor._queues = {rig.sockets[0]: (queue := Script())}
    first = await rig.connect()
    await rig.until(lambda: rig.acceptor.open == 1)
    second = await rig.connect()
    await rig.until(lambda: rig.rejected("connections") == 2)
    rig.acceptor._give_back()
    await rig.until(lambda: len(queue.waited) == 2)
    rig.acceptor._give_back()
    first.close()
    second.close()
    for sock in admits.admitted:
        sock.close()
    assert queue.waited[1] < 0.2


async def test_without_tls_nobody_is_asked_how_long_it_has_waited(start_rig: StartRig) -> None:
    rig = await start_rig()
    rig.acceptor._queues = {rig.sockets[0]: Script(1)}
    client = await rig.connect()
    await client.ask()
    client.close()


@contextmanager
def descriptors_left(count: int) -> Iterator[None]:
    """Leave this process only so many more descriptors."""
    gc.collect()  # what other tests have left behind gives no descriptor back in the middle of this one
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = [os.open(os.devnull, os.O_RDONLY) for _ in range(count)]
    listed = [int(file.name) for file in Path("/proc/self/fd").iterdir()]  # the listing's own, which is closed by now, among them
    highest = max(number for number in listed if Path(f"/proc/self/fd/{number}").is_symlink())
    holes = []  # numbers below the highest that are free
    while (hole := os.open(os.devnull, os.O_RDONLY)) < highest:
        holes.append(hole)
    os.close(hole)
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1, before[1]))
    for descriptor in free:
        os.close(descriptor)
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
        for hole in holes:
            os.close(hole)


async def test_F3_without_descriptors_one_is_told_and_the_others_wait(start_rig: StartRig) -> None:
    rig = await start_rig()
    loop = asyncio.get_running_loop()
    rig.acceptor.stop()
    clients = [socket.create_connection(("127.0.0.1", rig.port)) for _ in range(3)]
    for client in clients:
        client.setblocking(False)
        client.send(LAST_REQUEST)
    with descriptors_left(0):
        begun = loop.time()
        rig.acceptor.start()
        first = await read_all(clients[0])
        assert first.startswith(b"HTTP/1.1 503 ")
        await rig.until(lambda: len(rig.logged.calls) >= 3)
        assert loop.time() - begun >= 2 * RETRY * 0.9  # no busy loop: it is tried again in a moment
        assert {call.kwargs["why"] for call in rig.logged.calls} == {"Too many open files"}
        assert rig.rejected("connections") == len(rig.logged.calls)
        refused = len(rig.logged.calls)
    answers = [await read_all(client) for client in clients[1:]]
    assert sum(answer.startswith(b"HTTP/1.1 503 ") for answer in [first, *answers]) == min(refused, 3)
    fresh = await rig.connect()
    await fresh.ask()
    fresh.close()
    for client in clients:
        client.close()


@pytest.mark.parametrize(("configured", "taken", "is_short"), [(80, 75, True), (75, 75, False), (10, 10, False)])
async def test_F3_a_quarter_of_the_descriptors_is_kept_for_peers(
    start_rig: StartRig, monkeypatch: pytest.MonkeyPatch, configured: int, taken: int, *, is_short: bool
) -> None:
    monkeypatch.setattr("gateway.server.acceptor.descriptor_limit", lambda: 100)
    rig = await start_rig()
    server = Server(limits=Limits(connections=configured))
    parts: Any = SimpleNamespace(config=SimpleNamespace(server=server), edge=rig.edge, memory=MemoryWatch())
    made = acceptor(parts, rig.sockets, rig.logged)
    assert (made._limit, made._is_short) == (taken, is_short)
    assert [call.kwargs["taken"] for call in rig.logged.calls] == [taken] * is_short
    made.close()


async def test_F3_where_descriptors_are_short_some_are_kept_for_peers(start_rig: StartRig) -> None:
    rig = await start_rig(connections=2, is_short=True)
    first, second = await rig.connect(), await rig.connect()
    await first.ask()
    await second.ask()
    third, *others = [await rig.connect() for _ in range(3)]
    for number, client in enumerate((third, *others), 1):
        assert await client.rest() == REFUSAL
        assert rig.rejected("connections") == number
        client.close()
    assert [call.kwargs["why"] for call in rig.logged.calls] == ["Too many open files"] * 3
    second.close()
    await rig.until(lambda: rig.acceptor.open == 1)
    fourth = await rig.connect()
    await fourth.ask()
    for client in (first, fourth):
        client.close()


async def test_F3_accepting_goes_on_when_descriptors_are_there_again(start_rig: StartRig) -> None:
    rig = await start_rig(sockets=[listening()])
    rig.acceptor.stop()
    waiting = [socket.create_connection(("127.0.0.1", rig.port)) for _ in range(8)]
    for client in waiting:
        client.setblocking(False)
        client.send(LAST_REQUEST)
    with descriptors_left(2):
        rig.acceptor.start()
        await rig.until(lambda: rig.rejected("connections") >= 1)
        answers = [await read_all(client) for client in waiting]
    served = [answer for answer in answers if answer.startswith(b"HTTP/1.1 200 ")]
    assert len(served) >= 2
    assert len(served) + int(rig.rejected("connections")) >= 8
    for client in waiting:
        client.close()


async def read_all(sock: socket.socket) -> bytes:
    """Read to the end of the connection without needing another descriptor."""
    data = b""
    async with asyncio.timeout(10):
        while True:
            try:
                came = sock.recv(65536)
            except BlockingIOError:
                await asyncio.sleep(0.005)
                continue
            if not came:
                return data
            data += came


async def test_stopping_leaves_what_waits_and_what_is_open(start_rig: StartRig) -> None:
    rig = await start_rig()
    client = await rig.connect()
    await client.ask()
    rig.acceptor.stop()
    waiting = await rig.connect()
    waiting.writer.write(REQUEST)
    await client.ask()
    assert rig.acceptor.open == 1
    successor = await start_rig(sockets=[sock.dup() for sock in rig.sockets])
    await waiting.answer()
    assert successor.acceptor.open == 1
    waiting.close()
    client.close()


async def test_what_waits_can_be_taken_at_the_end(start_rig: StartRig) -> None:
    rig = await start_rig(connections=2)
    rig.acceptor.stop()
    clients = [await rig.connect() for _ in range(20)]
    for client in clients:
        client.writer.write(REQUEST)
    rig.acceptor.take_waiting(rig.sockets[0])
    rig.sockets[0].close()
    for client in clients:
        await client.answer()
        client.close()


async def test_a_full_acceptor_that_was_stopped_does_not_go_on(start_rig: StartRig) -> None:
    rig = await start_rig(connections=1)
    first, second = await rig.connect(), await rig.connect()
    await first.ask()
    await rig.until(lambda: rig.rejected("connections") == 1)
    rig.acceptor.stop()
    first.close()
    await rig.until(lambda: rig.acceptor.open == 0)
    second.writer.write(REQUEST)
    rig.acceptor.start()
    await second.answer()
    second.close()


@pytest.mark.parametrize("kind", ["unix", "shared-port"])
async def test_a_burst_at_a_shared_socket_is_shared(start_rig: StartRig, tmp_path: Path, kind: str) -> None:
    """Two acceptors of one loop take turns; two processes are tried in tests/e2e."""
    if kind == "unix":
        sock = socket.socket(socket.AF_UNIX)
        sock.bind(str(tmp_path / "gateway.sock"))
        sock.listen(512)
        sock.setblocking(False)
    else:
        sock = listening()
    rigs: list[Rig] = [await start_rig(sockets=[shared]) for shared in (sock, sock.dup())]
    for rig in rigs:
        rig.acceptor.stop()
    clients = [await rigs[0].connect() for _ in range(64)]
    for rig in rigs:
        rig.acceptor.start()
    await rigs[0].until(lambda: sum(rig.acceptor.open for rig in rigs) == 64)
    assert max(rig.acceptor.open for rig in rigs) <= 45
    for client in clients:
        client.close()
