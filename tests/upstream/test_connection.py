import asyncio
import os

import pytest

from gateway.upstream import (
    Answer,
    AnswerInvalid,
    AnswerLate,
    ConnectionLost,
    Unreachable,
    UpstreamError,
    request_head,
)
from gateway.upstream.connection import BUFFER, SMALL
from tests.upstream.peer import Call, Connect, StartPeer, hold_up, until

HEAD = request_head("POST", b"/a?b", [(b"Host", b"peer"), (b"Content-Length", b"5")])
GET = request_head("GET", b"/a?b", [(b"Host", b"peer")])
OK = b"HTTP/1.1 200 OK\r\n"
HI = OK + b"Content-Length: 2\r\n\r\nhi"


async def test_a_request_goes_out_as_it_is_and_the_connection_is_used_again(start_peer: StartPeer, connect: Connect) -> None:
    async def script(call: Call) -> None:
        await call.read_request()
        call.write(OK + b"Content-Length: 3\r\nSet-Cookie: a\r\nSET-COOKIE: b\r\nX: \xe9 \r\n\r\nyes")
        await call.read_request()
        call.write(OK + b"Transfer-Encoding: chunked\r\n\r\n1\r\nn\r\n1;x\r\no\r\n0\r\nT: t\r\n\r\n")
        await call.read_to_end()

    peer = await start_peer(script)
    connection = await connect(peer)
    assert not connection.sent
    answer = await connection.exchange(HEAD, b"12345", limit=100)
    assert connection.sent
    assert (answer.status, answer.body) == (200, b"yes")
    assert answer.head.fields == ((b"Content-Length", b"3"), (b"Set-Cookie", b"a"), (b"SET-COOKIE", b"b"), (b"X", b"\xe9"))
    assert (answer.get("x"), answer.get("y"), answer.all("set-cookie")) == ("\xe9", None, ["a", "b"])
    assert connection.reusable
    assert (await connection.exchange(HEAD, b"67890", limit=100)).body == b"no"
    assert connection.reusable
    assert peer.calls[0].received == HEAD + b"12345" + HEAD + b"67890"


@pytest.mark.parametrize(
    ("method", "answer", "reusable"),
    [
        pytest.param("GET", HI, True, id="length"),
        pytest.param("HEAD", OK + b"Content-Length: 2\r\n\r\n", True, id="D5-head"),
        pytest.param("GET", b"HTTP/1.1 204 No\r\n\r\n", True, id="D5-204"),
        pytest.param("GET", b"HTTP/1.1 304 No\r\nContent-Length: 5\r\n\r\n", True, id="D5-304"),
        pytest.param("GET", b"HTTP/1.1 103 Early\r\nLink: x\r\n\r\n" + HI, True, id="D5-103"),
        pytest.param("GET", OK + b"Connection: close\r\nContent-Length: 2\r\n\r\nhi", False, id="close"),
        pytest.param("GET", b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi", False, id="1.0"),
    ],
)
async def test_a_connection_is_reusable_if_the_answer_says_so(
    start_peer: StartPeer,
    connect: Connect,
    method: str,
    answer: bytes,
    reusable: bool,  # noqa: FBT001
) -> None:
    async def script(call: Call) -> None:
        while True:
            await call.read_request()
            call.write(answer)

    connection = await connect(await start_peer(script))
    for _ in range(3 if reusable else 1):
        result = await connection.exchange(GET, limit=10, method=method)
        assert result.body == (b"hi" if answer.endswith(b"hi") else b"")
        assert connection.reusable is reusable


async def test_an_answer_without_framing_ends_with_the_connection(start_peer: StartPeer, connect: Connect) -> None:
    async def script(call: Call) -> None:
        await call.read_request()
        call.write(OK + b"\r\nall of it")

    connection = await connect(await start_peer(script))
    assert (await connection.exchange(GET, limit=10, method="GET")).body == b"all of it"
    assert not connection.reusable


FAULTS: list[object] = [
    pytest.param(b"", "close", ConnectionLost, id="C3-closed-after-sending"),
    pytest.param(b"", "reset", ConnectionLost, id="C3-reset-after-sending"),
    pytest.param(OK + b"Content-", "close", ConnectionLost, id="C3-closed-in-the-headers"),
    pytest.param(OK + b"Content-", "reset", ConnectionLost, id="C3-reset-in-the-headers"),
    pytest.param(OK + b"Content-Length: 5\r\n\r\nhi", "close", ConnectionLost, id="C3-truncated"),
    pytest.param(OK + b"Content-Length: 5\r\n\r\nhi", "reset", ConnectionLost, id="C3-reset-in-the-body"),
    pytest.param(OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n", "close", ConnectionLost, id="C3-chunks-truncated"),
    pytest.param(OK + b"Transfer-Encoding: chunked\r\n\r\nxx\r\nhi\r\n", "keep", ConnectionLost, id="C3-bad-chunk"),
    pytest.param(OK + b"\r\nhi", "reset", ConnectionLost, id="reset-in-a-body-until-close"),
    pytest.param(b"HTTP/1.1 103 Early\r\n\r\n", "close", ConnectionLost, id="closed-after-interim"),
    pytest.param(OK + b"Content-Length: 101\r\n\r\n", "keep", AnswerInvalid, id="C5-declared"),
    pytest.param(OK + b"\r\n" + b"x" * 101, "keep", AnswerInvalid, id="C5-endless"),
    pytest.param(OK + b"Transfer-Encoding: chunked\r\n\r\n65\r\n" + b"x" * 101, "keep", AnswerInvalid, id="C5-chunked"),
    pytest.param(OK + b"A: " + b"x" * 70_000, "keep", AnswerInvalid, id="endless-headers"),
    pytest.param(b"<html>Bad gateway</html>", "keep", AnswerInvalid, id="C11-not-http"),
    pytest.param(HI + b"x", "keep", AnswerInvalid, id="C11-bytes-after"),
    pytest.param(HI + HI, "keep", AnswerInvalid, id="C11-two-answers"),
    pytest.param(b"HTTP/1.1 000 Zero\r\n\r\n", "keep", AnswerInvalid, id="C11-status-000"),
    pytest.param(b"HTTP/1.1 101 S\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", "keep", AnswerInvalid, id="C11-101"),
    pytest.param(OK + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\nhi", "keep", AnswerInvalid, id="D3-two-lengths"),
    pytest.param(OK + b"A: \x01\r\n\r\n", "keep", AnswerInvalid, id="D3-control-characters"),
]


@pytest.mark.parametrize(("answer", "end", "error"), FAULTS)
async def test_a_faulty_answer_is_an_error_and_closes_the_connection(
    start_peer: StartPeer, connect: Connect, answer: bytes, end: str, error: type[UpstreamError]
) -> None:
    async def script(call: Call) -> None:
        await call.read_request()
        call.write(answer)
        await call.writer.drain()
        if end == "reset":
            # The answer is on its way: wait until the client has it, for a reset overtakes what was not yet read.
            await until(lambda: not answer or connection._parser._quiet > 0 or bool(connection._parser.heads))
            call.reset()
        if end == "keep":
            await call.read_to_end()

    peer = await start_peer(script)
    connection = await connect(peer)
    with pytest.raises(error) as caught:
        await connection.exchange(HEAD, b"12345", limit=100)
    assert type(caught.value) is error
    assert connection.sent
    assert not connection.reusable
    await until(connection.transport.is_closing)
    assert peer.calls[0].received == HEAD + b"12345"
    with pytest.raises(Unreachable):
        await connection.exchange(HEAD, b"12345", limit=100)
    assert not connection.sent


async def test_C2_an_exchange_that_takes_too_long_closes_the_connection(start_peer: StartPeer, connect: Connect) -> None:
    ended = asyncio.Event()

    async def script(call: Call) -> None:
        await call.read_request()
        call.write(OK + b"Content-Length: 5\r\n\r\nhi")
        await call.read_to_end()
        ended.set()

    connection = await connect(await start_peer(script))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await connection.exchange(HEAD, b"12345", limit=100)
    assert not connection.reusable
    await ended.wait()


async def test_C2_an_answer_that_is_late_is_an_error_of_its_own_and_closes_the_connection(start_peer: StartPeer, connect: Connect) -> None:
    ended = asyncio.Event()

    async def script(call: Call) -> None:
        await call.read_request()
        call.write(OK + b"Content-Length: 5\r\n\r\nhi")
        await call.read_to_end()
        ended.set()

    connection = await connect(await start_peer(script))
    outcome: asyncio.Future[Answer | UpstreamError] = asyncio.get_running_loop().create_future()
    connection.begin(HEAD, b"12345", limit=100, timeout=0.05, done=outcome.set_result)
    assert isinstance(await outcome, AnswerLate)
    assert not connection.reusable
    await ended.wait()


async def test_C2_an_answer_that_came_in_time_is_taken_though_the_loop_is_late(start_peer: StartPeer, connect: Connect) -> None:
    async def script(call: Call) -> None:
        await call.read_to_end()

    peer = await start_peer(script)
    connection = await connect(peer)
    await until(lambda: bool(peer.calls))
    theirs = peer.calls[0].writer.get_extra_info("socket").fileno()
    outcome: asyncio.Future[Answer | UpstreamError] = asyncio.get_running_loop().create_future()
    connection.begin(HEAD, b"12345", limit=10, timeout=0.2, done=outcome.set_result)
    await hold_up(0.2, lambda: os.write(theirs, HI))
    answer = await outcome
    assert isinstance(answer, Answer)
    assert answer.body == b"hi"
    assert connection.reusable


@pytest.mark.parametrize("framing", ["length", "chunks", "end"])
async def test_no_more_of_a_large_answer_is_taken_than_there_is_room_for(start_peer: StartPeer, connect: Connect, framing: str) -> None:
    size = 3_000_000

    async def script(call: Call) -> None:
        await call.read_request()
        head, body = {
            "length": (b"Content-Length: %d\r\n" % size, bytes(size)),
            "chunks": (b"Transfer-Encoding: chunked\r\n", b"%x\r\n%b\r\n0\r\n\r\n" % (size, bytes(size))),
            "end": (b"", bytes(size)),
        }[framing]
        call.write(OK + head + b"\r\n" + body)
        if framing != "end":
            await call.read_to_end()

    asked: list[int] = []
    has_room = False

    def room(more: int) -> bool:
        asked.append(more)
        return has_room

    connection = await connect(await start_peer(script))
    outcome: asyncio.Future[Answer | UpstreamError] = asyncio.get_running_loop().create_future()
    connection.begin(HEAD, b"12345", limit=size, done=outcome.set_result, has_room=room)
    await until(lambda: len(asked) > 2)
    assert set(asked) == {size - SMALL}
    assert sum(map(len, connection._parser.chunks)) <= SMALL + BUFFER
    assert not outcome.done()
    has_room = True
    answer = await outcome
    assert isinstance(answer, Answer)
    assert len(answer.body) == size
    assert set(asked) == {size - SMALL}, "all of it, or as much as it may have"


@pytest.mark.parametrize("cut", [12, 17, 30])
async def test_an_answer_whose_head_comes_in_pieces_is_not_taken_for_the_one_before(
    start_peer: StartPeer, connect: Connect, cut: int
) -> None:
    size = 300_000
    go_on = asyncio.Event()

    async def script(call: Call) -> None:
        await call.read_request()
        call.write(HI[:cut])
        await go_on.wait()
        call.write(HI[cut:])
        await call.read_request()
        call.write(OK + b"Content-Length: %d\r\n\r\n" % size + bytes(size))
        await call.read_request()
        call.write(HI[:cut])
        go_on.clear()
        await go_on.wait()
        call.write(HI[cut:])
        await call.read_request()
        call.write(OK + b"Content-Length: %d\r\n\r\n" % size + bytes(size))
        await call.read_to_end()

    connection = await connect(await start_peer(script))
    asked: list[int] = []

    def room(more: int) -> bool:
        asked.append(more)
        return True

    for length in (2, size, 2, size):
        outcome: asyncio.Future[Answer | UpstreamError] = asyncio.get_running_loop().create_future()
        connection.begin(HEAD, b"12345", limit=size, done=outcome.set_result, has_room=room)
        if length == 2:
            await until(lambda: bool(connection._parser._held or connection._parser._pieces))
            go_on.set()
        answer = await outcome
        assert isinstance(answer, Answer)
        assert len(answer.body) == length
    assert asked == [size - SMALL] * 2, "of each large one, and of no small one"


async def test_an_answer_that_waits_for_room_has_its_time_and_leaves_nothing(start_peer: StartPeer, connect: Connect) -> None:
    async def script(call: Call) -> None:
        await call.read_request()
        call.write(OK + b"Content-Length: 300000\r\n\r\n" + bytes(300_000))
        await call.read_to_end()

    connection = await connect(await start_peer(script))
    asked: list[int] = []

    def no_room(more: int) -> bool:
        asked.append(more)
        return False

    outcome: asyncio.Future[Answer | UpstreamError] = asyncio.get_running_loop().create_future()
    connection.begin(HEAD, b"12345", limit=300_000, timeout=0.2, done=outcome.set_result, has_room=no_room)
    assert isinstance(await outcome, AnswerLate)
    before = len(asked)
    await asyncio.sleep(0.05)
    assert len(asked) == before > 0


async def test_for_a_small_answer_nobody_is_asked_for_room(start_peer: StartPeer, connect: Connect) -> None:
    half = asyncio.Event()

    async def script(call: Call) -> None:
        await call.read_request()
        call.write(OK + b"Content-Length: %d\r\n\r\n" % SMALL + bytes(1000))
        await half.wait()
        call.write(bytes(SMALL - 1000))
        await call.read_to_end()

    connection = await connect(await start_peer(script))
    outcome: asyncio.Future[Answer | UpstreamError] = asyncio.get_running_loop().create_future()
    connection.begin(HEAD, b"12345", limit=SMALL, done=outcome.set_result, has_room=lambda _: pytest.fail("asked"))
    await until(lambda: connection._parser.received == 1000)
    half.set()
    answer = await outcome
    assert isinstance(answer, Answer)
    assert len(answer.body) == SMALL


async def test_a_cancelled_exchange_closes_the_connection(start_peer: StartPeer, connect: Connect) -> None:
    asked, ended = asyncio.Event(), asyncio.Event()

    async def script(call: Call) -> None:
        await call.read_request()
        asked.set()
        await call.read_to_end()
        ended.set()

    connection = await connect(await start_peer(script))
    task = asyncio.create_task(connection.exchange(HEAD, b"12345", limit=100))
    await asked.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not connection.reusable
    await ended.wait()


async def test_C4_a_connection_that_the_peer_closes_while_it_is_idle_is_not_reusable(start_peer: StartPeer, connect: Connect) -> None:
    async def script(call: Call) -> None:
        await call.read_request()
        call.write(HI)

    connection = await connect(await start_peer(script))
    await connection.exchange(HEAD, b"12345", limit=10)
    await until(lambda: not connection.reusable)
    with pytest.raises(Unreachable):
        await connection.exchange(HEAD, b"12345", limit=10)
    assert not connection.sent


@pytest.mark.parametrize("late", [b"\r\n", b"x", HI])
async def test_C11_bytes_that_nobody_asked_for_spoil_an_idle_connection(start_peer: StartPeer, connect: Connect, late: bytes) -> None:
    more = asyncio.Event()

    async def script(call: Call) -> None:
        await call.read_request()
        call.write(HI)
        await more.wait()
        call.write(late)
        await call.read_to_end()

    connection = await connect(await start_peer(script))
    assert (await connection.exchange(HEAD, b"12345", limit=10)).body == b"hi"
    assert connection.reusable
    more.set()
    await until(lambda: not connection.reusable)
    assert connection.transport.is_closing()


async def test_an_error_says_nothing_of_what_the_peer_sent(start_peer: StartPeer, connect: Connect) -> None:
    async def script(call: Call) -> None:
        await call.read_request()
        call.write(b"HTTP/1.1 200 canary\r\ncanary canary\r\n\r\n")
        await call.read_to_end()

    connection = await connect(await start_peer(script))
    with pytest.raises(AnswerInvalid) as caught:
        await connection.exchange(HEAD, b"12345", limit=100)
    assert "canary" not in f"{caught.value} {caught.value.reason} {caught.value!r} {caught.value.__cause__!r}"
