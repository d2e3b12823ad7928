"""Which connections have waited too long for their handshake: by a clock of the test's own, and as the system tells it."""

import asyncio
import socket
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
from structlog.testing import CapturingLogger

from gateway.server.standing import CROWD, LONG, REFUSAL, SHORT, TERM, StandingQueue, has_crowd, refuse, waited
from tests.server.rig import listening


class Queue:
    """A standing queue with a clock and a crowd of the test's own."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.is_crowd = True
        self.log = CapturingLogger()
        self._queue = StandingQueue(lambda: self.is_crowd, self.log, now=lambda: self.now)

    def take(self, waited: float, after: float = 0.0) -> bool:
        """Take a connection, so many seconds after the one before, that has waited so long; return whether it is refused."""
        self.now += after
        return self._queue.refuses(waited)

    def overload(self) -> None:
        """Twice what can be opened, for two terms: who comes later has waited longer."""
        taken = [self.take(LONG + 0.01 + step * 0.05, after=0.1) for step in range(int(2 * TERM / 0.05) + 2)]
        assert taken[-1]


@pytest.fixture
def queue() -> Queue:
    return Queue()


def test_a_queue_that_stands_is_refused_as_far_as_it_has_waited_too_long(queue: Queue) -> None:
    assert not queue.take(LONG)
    queue.overload()
    assert queue.take(SHORT + 0.001)
    assert not queue.take(SHORT)
    assert [call.args[0] for call in queue.log.calls] == ["overloaded: refusing new connections, which wait for their TLS handshakes"]
    assert queue.log.calls[0].kwargs["waited_seconds"] > TERM / 2


def test_it_begins_when_all_of_a_term_have_waited_too_long(queue: Queue) -> None:
    assert [queue.take(LONG + 0.001, after=TERM / 4) for _ in range(6)] == [False] * 4 + [True] * 2


@pytest.mark.parametrize("wait", [LONG, 0.0])
def test_one_that_came_in_time_begins_the_term_anew(queue: Queue, wait: float) -> None:
    assert not any(queue.take(LONG * 2, after=TERM / 4) for _ in range(4))
    assert not queue.take(wait)
    assert not any(queue.take(LONG * 2, after=TERM / 4) for _ in range(4))


def test_a_burst_is_served_however_long_it_takes(queue: Queue) -> None:
    assert not any(queue.take(step * 0.01, after=0.01) for step in range(int(5 * TERM / 0.01)))


def test_what_came_in_a_pause_of_the_process_is_served(queue: Queue) -> None:
    assert not any(queue.take(9 * TERM - step * 0.05, after=0.001) for step in range(160))


def test_few_are_never_refused(queue: Queue) -> None:
    queue.is_crowd = False
    assert not any(queue.take(LONG * 2, after=TERM / 4) for _ in range(20))
    assert queue.log.calls == []


def test_a_term_after_the_last_refusal_it_is_over(queue: Queue) -> None:
    queue.overload()
    refused = queue.log.calls[0].kwargs
    assert queue.take(LONG, after=TERM * 0.99)
    assert not queue.take(LONG, after=TERM)
    assert [call.args[0] for call in queue.log.calls[1:]] == ["taking all connections again"]
    assert queue.log.calls[1].kwargs["refused"] >= 2
    assert refused.keys() == {"waited_seconds"}
    assert not queue.take(LONG + 0.001)  # and for another one a whole term is needed
    assert not queue.take(LONG + 0.001, after=TERM * 0.99)
    assert queue.take(LONG + 0.001, after=TERM * 0.01)


def test_when_it_is_over_the_next_one_that_has_waited_too_long_is_no_overload_yet(queue: Queue) -> None:
    queue.overload()
    assert not queue.take(LONG * 2, after=TERM)
    assert not queue.take(LONG * 2, after=TERM * 0.99)
    assert queue.take(LONG * 2, after=TERM * 0.01)


@pytest.fixture
def server() -> socket.socket:
    return listening()


def connect(server: socket.socket) -> tuple[socket.socket, socket.socket]:
    client = socket.create_connection(server.getsockname())
    return client, server.accept()[0]


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not is_so():  # noqa: ASYNC110  the system tells nobody
            await asyncio.sleep(0.005)


async def test_the_system_tells_how_long_a_connection_has_waited(server: socket.socket) -> None:
    client, taken = connect(server)
    await until(lambda: waited(taken) >= 0.1)
    before = waited(taken)
    client.send(b"hello")
    await until(lambda: waited(taken) < before)
    for sock in (client, taken, server):
        sock.close()


async def test_the_system_tells_how_many_wait(server: socket.socket) -> None:
    clients = [socket.create_connection(server.getsockname()) for _ in range(CROWD - 1)]
    assert not has_crowd(server)
    clients.append(socket.create_connection(server.getsockname()))
    await until(lambda: has_crowd(server))
    server.accept()[0].close()
    assert not has_crowd(server)
    for sock in (*clients, server):
        sock.close()


def test_of_unix_sockets_it_tells_neither(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        server.bind(str(tmp_path / "gateway.sock"))
        server.listen()
        client.connect(str(tmp_path / "gateway.sock"))
        taken, _ = server.accept()
        assert (waited(taken), has_crowd(server)) == (0.0, False)
        taken.close()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_who_is_refused_is_told_so(server: socket.socket, version: ssl.TLSVersion) -> None:
    client, taken = connect(server)
    context = ssl.create_default_context()
    context.minimum_version = context.maximum_version = version
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    session = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        session.do_handshake()
    client.send(outgoing.read())
    refuse(taken, REFUSAL)
    answer = b"".join(iter(lambda: client.recv(100), b""))  # ends in order, not by a reset
    incoming.write(answer)
    with pytest.raises(ssl.SSLError, match="alert internal error"):
        session.do_handshake()
    client.close()
    server.close()


def test_who_has_left_is_refused_as_well(server: socket.socket) -> None:
    client, taken = connect(server)
    client.close()
    refuse(taken, REFUSAL)
    assert taken.fileno() == -1
    server.close()
