import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from gateway.config import Address
from gateway.simulator.delivery import Answer, Delivery
from gateway.simulator.peers import listen
from gateway.simulator.wire import MAX_BODY, MAX_HEAD, Malformed, Request, Server, body_length, parse_head


class Mirror:
    """Answers with the body that came, delivered as the header `how` says."""

    def refuses(self, request: Request) -> bool:
        return request.path == "/refused"

    def answer(self, request: Request) -> Answer:
        match request.path:
            case "/held":
                return Answer(200, delivery=Delivery(hold=True))
            case "/impossible":
                return Answer(200, (("name", "\u2028"),))
            case "/chunked":
                return Answer(200, delivery=Delivery(framing="chunked"))
            case "/endless":
                return Answer(200, delivery=Delivery(framing="endless"))
        return Answer(200, body=request.body)


class Started:
    """A running `Server` and the event that a connection came or went."""

    def __init__(self) -> None:
        self.changed = asyncio.Event()
        self.server = Server(Mirror(), self.changed.set)
        self.port = 0

    async def until_open(self, count: int) -> None:
        while self.server.open != count:
            self.changed.clear()
            await self.changed.wait()


@asynccontextmanager
async def started() -> AsyncIterator[Started]:
    running = Started()
    sock = listen(Address("127.0.0.1", 0))
    running.port = sock.getsockname()[1]
    listener = await running.server.start(sock, None)
    yield running
    listener.close()
    await running.server.close()
    await listener.wait_closed()


async def exchange(port: int, data: bytes, size: int = 1 << 16) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(data)
    answer = await reader.read(size)
    writer.transport.abort()
    return answer


def test_a_head_is_read_as_it_came() -> None:
    request = parse_head(b"POST /a%2fb?q=1 HTTP/1.1\r\nX-One: \xe9 \r\nx-one:two\r\nEmpty:")
    assert (request.method, request.target, request.path) == ("POST", "/a%2fb?q=1", "/a%2fb")
    assert request.headers == (("X-One", "\xe9"), ("x-one", "two"), ("Empty", ""))
    assert request.all("x-one") == ["\xe9", "two"]
    assert request.get("x-one") is None
    assert request.get("empty") == ""


@pytest.mark.parametrize(
    "head", [b"", b"GET /", b"GET  HTTP/1.1", b"GET / HTTP/2", b"GET / HTTP/1.1\r\nno colon", b"GET / HTTP/1.1\r\n a: b"]
)
def test_what_is_no_head_is_malformed(head: bytes) -> None:
    with pytest.raises(Malformed):
        parse_head(head)


@pytest.mark.parametrize("fields", [(("Transfer-Encoding", "chunked"),), (("Content-Length", "1"),) * 2, (("Content-Length", "-1"),)])
def test_a_body_of_unknown_length_is_malformed(fields: tuple[tuple[str, str], ...]) -> None:
    with pytest.raises(Malformed):
        body_length(Request("POST", "/", fields))


@pytest.mark.parametrize("length", [str(MAX_BODY + 1), "9" * 5000])
def test_a_body_beyond_all_reason_is_malformed(length: str) -> None:
    with pytest.raises(Malformed):
        body_length(Request("POST", "/", (("Content-Length", length),)))


async def test_requests_are_answered_one_after_the_other() -> None:
    async with started() as running:
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
        writer.write(b"POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\nokPOST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nyes")
        assert await reader.readuntil(b"ok") == b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
        assert await reader.readuntil(b"yes") == b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nyes"
        writer.transport.abort()


async def test_a_head_is_answered_with_the_head_alone() -> None:
    async with started() as running:
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
        writer.write(
            b"HEAD / HTTP/1.1\r\nContent-Length: 2\r\n\r\nokHEAD /chunked HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\nConnection: close\r\n\r\n"
        )
        assert await reader.read() == (
            b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n"
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
            b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
        )
        writer.transport.abort()


async def test_a_connection_is_closed_when_the_client_asks_for_it() -> None:
    async with started() as running:
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
        writer.write(b"POST / HTTP/1.1\r\nConnection: Close\r\nContent-Length: 2\r\n\r\nok")
        assert await reader.read() == b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
        writer.transport.abort()


async def test_a_request_in_single_bytes_is_read_whole() -> None:
    async with started() as running:
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
        for byte in b"POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\nok":
            writer.write(bytes([byte]))
            await asyncio.sleep(0)
        assert await reader.readuntil(b"ok") == b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
        writer.transport.abort()


async def test_100_continue_is_sent_when_asked_for() -> None:
    async with started() as running:
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
        writer.write(b"POST / HTTP/1.1\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"ok")
        assert (await reader.readuntil(b"ok")).startswith(b"HTTP/1.1 200")
        writer.transport.abort()


@pytest.mark.parametrize("data", [b"nonsense\r\n\r\n", b"x" * (MAX_HEAD + 2)], ids=["no request", "too long"])
async def test_what_can_not_be_read_is_400(data: bytes) -> None:
    async with started() as running:
        assert (await exchange(running.port, data)).startswith(b"HTTP/1.1 400 ")


async def test_a_refused_request_is_reset() -> None:
    async with started() as running:
        with pytest.raises(ConnectionResetError):
            await exchange(running.port, b"POST /refused HTTP/1.1\r\nContent-Length: 1000\r\n\r\n")


async def test_an_answer_that_can_not_be_written_is_reset() -> None:
    reported: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(str(context["exception"])))
    async with started() as running:
        with pytest.raises(ConnectionResetError):
            await exchange(running.port, b"GET /impossible HTTP/1.1\r\n\r\n")


async def test_held_answers_go_when_they_are_released() -> None:
    async with started() as running:
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
        writer.write(b"GET /held HTTP/1.1\r\n\r\n")
        first = asyncio.ensure_future(reader.readuntil(b"\r\n\r\n"))
        await exchange(running.port, b"GET / HTTP/1.1\r\n\r\n")  # the other one has been read by then
        assert not first.done()
        running.server.release()
        assert (await first).startswith(b"HTTP/1.1 200")
        writer.transport.abort()


@pytest.mark.parametrize("target", [b"/held", b"/endless"])
async def test_a_client_that_leaves_ends_what_was_done_for_it(target: bytes) -> None:
    async with started() as running:
        _, writer = await asyncio.open_connection("127.0.0.1", running.port)
        writer.write(b"GET %b HTTP/1.1\r\n\r\n" % target)
        await running.until_open(1)
        writer.transport.abort()
        await running.until_open(0)
        assert running.server.accepted == 1


async def test_closing_breaks_what_is_open() -> None:
    async with started() as running:
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
        writer.write(b"GET /held HTTP/1.1\r\n\r\n")
        await running.until_open(1)
        await running.server.close()
        with pytest.raises(ConnectionResetError):
            await reader.read()
        assert running.server.open == 0
        writer.transport.abort()
