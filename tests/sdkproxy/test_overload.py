"""What a client and an operator see when new work is refused."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateway.edge.connection import Connection
from gateway.edge.front import Front
from gateway.edge.memory import MemoryWatch
from gateway.edge.server import Refusal
from gateway.edge.shedding import LATE, Shedder
from gateway.session import Check, RawHeaders, Sessions, Work
from gateway.simulator import Behaviour
from tests.sdkproxy.conftest import BODY, JSON, LOGIN, PATH, StartGateway
from tests.upstream.peer import until

_SHED = "memory is nearly used up"
_HEAD = f"POST {PATH} HTTP/1.1\r\nHost: wallet\r\nAuthorization: Bearer demo-token-anna\r\n"


@pytest.fixture
def tight(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MemoryWatch, "has_room", lambda _, size: size < 0)


@pytest.mark.usefixtures("tight")
async def test_an_sdk_call_that_is_refused_is_an_F_that_may_be_repeated_and_nobody_is_asked(gateway: Any) -> None:
    asked, called = gateway.sim.auth.count, gateway.sim.alipayplus.count
    reply = await gateway.post()
    assert (reply.status, reply.json["resultCode"], reply.json["resultStatus"]) == (503, "OVERLOADED", "F")
    assert reply.headers["Retry-After"] == "1"
    assert (gateway.sim.auth.count, gateway.sim.alipayplus.count) == (asked, called)
    line = gateway.lines()[-1]
    assert (line["status"], line["reason"], line["sent"], line["result_code"]) == (503, _SHED, "not_sent", "OVERLOADED")
    assert gateway.results("OVERLOADED", "F", "gateway", scene="none") == 1


@pytest.mark.usefixtures("tight")
async def test_what_is_wrong_in_itself_is_told_so_even_then(gateway: Any) -> None:
    assert (await gateway.post(headers={**LOGIN, "Content-Type": "text/plain"})).status == 415
    assert (await gateway.post(path="/alipayplus/v1/other")).status == 404


@pytest.mark.usefixtures("tight")
async def test_a_request_for_the_api_is_refused_too(gateway: Any) -> None:
    async with gateway.http.get(f"http://127.0.0.1:{gateway.port}/api/balance", headers=LOGIN) as answer:
        body = await answer.json()
    assert (answer.status, body["resultCode"], body["resultStatus"], answer.headers["Retry-After"]) == (503, "OVERLOADED", "F", "1")


async def test_logins_are_checked_as_those_of_sdk_calls_or_of_the_api(gateway: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    works: list[Work] = []
    check = Sessions.check

    async def note(self: Sessions, headers: RawHeaders, work: Work, **others: Any) -> Check:
        works.append(work)
        return await check(self, headers, work, **others)

    monkeypatch.setattr(Sessions, "check", note)
    assert (await gateway.post()).status == 200
    async with gateway.http.get(f"http://127.0.0.1:{gateway.port}/api/balance", headers=LOGIN) as answer:
        assert answer.status == 200
    assert works == ["sdk", "api"]


@pytest.mark.usefixtures("tight")
async def test_the_connection_goes_on_after_a_refusal(gateway: Any) -> None:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=1)) as http:
        for _ in range(3):
            url = f"http://127.0.0.1:{gateway.port}/alipayplus/v1/sdkProxy"
            async with http.post(url, data=b"x" * 100_000, headers={**JSON, **LOGIN}) as answer:
                assert (answer.status, answer.headers.get("Connection")) == (503, None)
    assert gateway.count("gateway_connections") <= 2


@pytest.fixture
def late(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Let all SDK calls be refused because the loop is late. What is given holds whether each request was refused at once."""
    at_once: list[bool] = []
    refuse = Front.refuse

    def noted(*arguments: Any) -> Refusal | None:
        refusal = refuse(*arguments)
        at_once.append(refusal is not None)
        return refusal

    monkeypatch.setattr(Shedder, "is_shedding", property(lambda _: True, lambda *_: None), raising=False)
    monkeypatch.setattr(Shedder, "_switch", lambda *_: None)
    monkeypatch.setattr(Shedder, "_has_place", lambda *_: False)
    monkeypatch.setattr(Front, "refuse", noted)
    return at_once


def _request(*fields: str, body: bytes = BODY, kind: str = "Content-Type: application/json") -> bytes:
    head = _HEAD + "".join(f"{field}\r\n" for field in (kind, f"Content-Length: {len(body)}", *fields))
    return f"{head}\r\n".encode() + body


_TWICE = ("Connection: keep-alive",) * 2
"""What is not refused at once."""
_LAST_TWICE = ("Connection: close",) * 2
_VARYING = ("time", "request_id", "trace_id", "duration")
_CHANGING = re.compile(rb"[0-9a-f]{32}|Date: [^\r]+")


def _lasting(line: dict[str, Any]) -> dict[str, Any]:
    """Return what two access lines of the same refusal have in common."""
    return {name: line[name] for name in line if name not in _VARYING}


class _Client:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    def send(self, data: bytes) -> None:
        self._writer.write(data)

    async def ask(self, *pieces: bytes) -> bytes:
        """Send pieces one by one, a moment apart, and return the next answer."""
        for piece in pieces:
            self._writer.write(piece)
            await asyncio.sleep(0.02 if len(pieces) > 1 else 0)
        return await self.answer()

    async def answer(self) -> bytes:
        async with asyncio.timeout(20):
            head = await self._reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"Content-Length: (\d+)", head)
            assert length is not None
            return head + await self._reader.readexactly(int(length[1]))

    async def end(self) -> bytes:
        return await asyncio.wait_for(self._reader.read(), 20)

    def leave(self) -> None:
        self._writer.transport.abort()


@pytest.fixture
async def client(gateway: Any) -> AsyncIterator[_Client]:
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    yield _Client(reader, writer)
    writer.transport.abort()


async def test_a_refusal_at_once_is_the_same_as_any_other(late: list[bool], gateway: Any, client: _Client) -> None:
    at_once, usual = [await client.ask(request) for request in (_request(), _request(*_TWICE))]
    assert late == [True, False]
    assert _CHANGING.sub(b"", at_once) == _CHANGING.sub(b"", usual)
    head, _, body = at_once.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
    assert b"\r\nRetry-After: 1" in head
    assert b"Connection" not in head
    request_id = json.loads(body)["requestId"]
    assert f"X-Request-Id: {request_id}\r\n".encode() in head
    assert (gateway.sim.auth.count, gateway.sim.alipayplus.count) == (0, 0)
    assert gateway.results("OVERLOADED", "F", "gateway", scene="none") == 2
    assert gateway.count("gateway_requests_total", route="sdk", method="POST", status="503") == 2
    assert gateway.parts.failures.all()[0].request_id == request_id
    first, second = gateway.lines()
    assert _lasting(first) == _lasting(second)
    assert (first["reason"], first["bytes_in"], first["bytes_out"], first["request_id"]) == (LATE, len(BODY), len(body), request_id)


@pytest.mark.parametrize("version", [b"HTTP/1.1", b"HTTP/1.0"])
async def test_the_last_request_of_a_connection_is_refused_at_once_too_and_ends_it(late: list[bool], gateway: Any, version: bytes) -> None:
    answers = []
    for fields in (_LAST_TWICE[:1], _LAST_TWICE):
        client = _Client(*await asyncio.open_connection("127.0.0.1", gateway.port))
        answers.append(await client.ask(_request(*fields).replace(b"HTTP/1.1", version, 1)))
        assert await client.end() == b""
        client.leave()
    assert late == [True, False]
    assert _CHANGING.sub(b"", answers[0]) == _CHANGING.sub(b"", answers[1])
    assert b"\r\nConnection: close\r\n" in answers[0]
    first, second = gateway.lines()
    assert _lasting(first) == _lasting(second)
    await until(lambda: gateway.count("gateway_connections") == 0)


async def test_what_comes_behind_the_last_request_is_thrown_away(late: list[bool], gateway: Any, client: _Client) -> None:
    await client.ask(_request())
    [connection] = gateway.parts.edge.connections
    connection.data_received(_request("Connection: close"))
    connection.go_on()
    connection.data_received(_request())
    assert b"\r\nConnection: close\r\n" in await client.answer()
    assert await client.end() == b""
    assert late == [True, True]


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        pytest.param(_request(kind="Content-Type: text/plain"), 415, id="media type"),
        pytest.param(_request("Content-Encoding: gzip"), 415, id="coding"),
        pytest.param(_request().replace(b"POST", b"PUT", 1), 405, id="method"),
        pytest.param(_request().replace(b"sdkProxy", b"other", 1), 404, id="path"),
        pytest.param(_request().replace(b"Host: wallet", b"Host: wal/let", 1), 400, id="host"),
        pytest.param(_request("Connection: keep-alive").replace(b"HTTP/1.1", b"HTTP/1.0", 1), 503, id="old"),
        pytest.param(_request("Upgrade: websocket", "Connection: upgrade"), 503, id="upgrade"),
        pytest.param(_request("Transfer-Encoding: chunked"), 400, id="two lengths"),
    ],
)
async def test_what_needs_a_closer_look_is_not_refused_at_once(late: list[bool], client: _Client, request_: bytes, status: int) -> None:
    answer = await client.ask(request_)
    assert answer.startswith(f"HTTP/1.1 {status} ".encode())
    assert not any(late)


def _api(*fields: str, method: str = "GET", body: str = "") -> bytes:
    head = (f"{method} /api/balance?of=anna HTTP/1.1", "Host: wallet", "Authorization: Bearer demo-token-anna", *fields)
    return ("\r\n".join(head) + "\r\n\r\n" + body).encode()


async def test_a_request_for_the_api_is_refused_at_once_as_on_the_usual_way(late: list[bool], gateway: Any, client: _Client) -> None:
    at_once, usual = [await client.ask(request) for request in (_api(), _api(*_TWICE))]
    assert late == [True, False]
    assert at_once.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
    assert _CHANGING.sub(b"", at_once) == _CHANGING.sub(b"", usual)
    assert gateway.count("gateway_requests_total", route="/api", method="GET", status="503") == 2
    first, second = gateway.lines()
    assert _lasting(first) == _lasting(second)
    assert (first["reason"], first["route"], first["path"]) == (LATE, "/api", "/api/balance")


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        pytest.param(_api("Content-Length: 2", method="POST", body="{}"), 503, id="body"),
        pytest.param(_api("Transfer-Encoding: chunked", method="POST", body="0\r\n\r\n"), 503, id="chunks"),
        pytest.param(_api("Connection: upgrade", "Upgrade: websocket"), 400, id="upgrade"),
        pytest.param(_api().replace(b"/api", b"/nowhere"), 404, id="no route"),
        pytest.param(_api().replace(b"/api", b"/alipayplus"), 404, id="below the prefix"),
        pytest.param(_api().replace(b"balance", b"%2e%2e/x"), 400, id="target"),
        pytest.param(_api("Transfer-Encoding: gzip, chunked", body="0\r\n\r\n"), 400, id="framing"),
    ],
)
async def test_of_the_api_only_the_plain_is_refused_at_once(late: list[bool], client: _Client, request_: bytes, status: int) -> None:
    assert (await client.ask(request_)).startswith(f"HTTP/1.1 {status} ".encode())
    assert not any(late)


@pytest.mark.parametrize("request_id", ["from-the-proxy", "f" * 32, "e" * 64])
@pytest.mark.parametrize(("route", "method"), [("sdk", "POST"), ("/api", "GET")])
async def test_behind_a_trusted_proxy_a_refusal_is_at_once_and_has_the_ids_that_it_gave(
    late: list[bool], start: StartGateway, route: str, method: str, request_id: str
) -> None:
    gateway = await start({"server": {"trusted_proxies": ["127.0.0.0/8"]}})
    client = _Client(*await asyncio.open_connection("127.0.0.1", gateway.port))
    fields = (f"X-Request-Id: {request_id}", "X-Forwarded-For: 203.0.113.9", f"traceparent: 00-{'a' * 32}-{'b' * 16}-01")
    ask_for = _request if route == "sdk" else _api
    at_once, usual = [await client.ask(ask_for(*fields, *end)) for end in ((), _TWICE)]
    assert late == [True, False]
    assert _CHANGING.sub(b"", at_once) == _CHANGING.sub(b"", usual)
    head, _, body = at_once.partition(b"\r\n\r\n")
    assert json.loads(body)["requestId"] == request_id
    assert f"X-Request-Id: {request_id}\r\n".encode() in head
    assert gateway.count("gateway_requests_total", route=route, method=method, status="503") == 2
    first, second = gateway.lines()
    assert _lasting(first) == _lasting(second)
    assert (first["client"], first["request_id"], first["trace_id"]) == ("203.0.113.9", request_id, "a" * 32)
    client.leave()


async def test_a_request_that_has_not_come_whole_is_refused_on_the_usual_way(late: list[bool], client: _Client) -> None:
    whole = _request()
    assert (await client.ask(whole[:40], whole[40:-9], whole[-9:])).startswith(b"HTTP/1.1 503 ")
    assert not any(late)
    assert (await client.ask(whole)).startswith(b"HTTP/1.1 503 ")
    assert late[-1:] == [True]


@pytest.mark.parametrize(("size", "at_once"), [(8 * 1024, 3), (15 * 1024, 3), (20 * 1024, 3), (100 * 1024, 0)])
async def test_a_large_body_of_a_refused_request_does_not_hold_up_the_next(
    late: list[bool], client: _Client, size: int, at_once: int
) -> None:
    for _ in range(3):
        assert (await client.ask(_request(body=b"x" * size))).startswith(b"HTTP/1.1 503 ")
    assert late.count(True) == at_once


async def test_what_comes_while_another_is_in_hand_is_answered_behind_it(
    late: list[bool], monkeypatch: pytest.MonkeyPatch, gateway: Any, client: _Client
) -> None:
    gateway.sim.alipayplus.script(Behaviour(delay=0.3))
    monkeypatch.setattr(Shedder, "_has_place", lambda *_: True)
    client.send(_request())
    await until(lambda: gateway.sim.auth.count == 1)
    monkeypatch.setattr(Shedder, "_has_place", lambda *_: False)
    client.send(_request())
    assert [(await client.answer())[:13] for _ in range(2)] == [b"HTTP/1.1 200 ", b"HTTP/1.1 503 "]
    assert late == [False]


async def test_what_comes_with_the_connection_is_refused_at_once(late: list[bool], monkeypatch: pytest.MonkeyPatch, gateway: Any) -> None:
    made = Connection.connection_made

    def with_a_request(self: Connection, transport: asyncio.BaseTransport) -> None:
        made(self, transport)
        self.data_received(_request())

    monkeypatch.setattr(Connection, "connection_made", with_a_request)
    client = _Client(*await asyncio.open_connection("127.0.0.1", gateway.port))
    assert (await client.answer()).startswith(b"HTTP/1.1 503 ")
    assert late == [True]
    client.leave()


async def test_requests_that_come_together_get_their_answers_in_turn(late: list[bool], gateway: Any, client: _Client) -> None:
    for count in (1, 3, 1, 40):
        answers = [await client.ask(_request() * count), *[await client.answer() for _ in range(count - 1)]]
        assert all(answer.startswith(b"HTTP/1.1 503 ") for answer in answers)
    assert late == [True, False, True, False], "only what comes alone"
    assert gateway.count("gateway_requests_total", route="sdk", method="POST", status="503") == 45


async def test_while_it_drains_the_connection_ends_with_the_refusal(late: list[bool], gateway: Any, client: _Client) -> None:
    gateway.parts.front.draining = True
    assert b"Connection: close\r\n" in await client.ask(_request())
    assert await client.end() == b""
    assert late == [False]


async def test_a_connection_on_which_all_is_refused_does_not_idle(late: list[bool], gateway: Any, client: _Client) -> None:
    for _ in range(2):
        assert (await client.ask(_request())).startswith(b"HTTP/1.1 503 ")
    [connection] = gateway.parts.edge.connections
    connection._idle_since -= 3600  # as if no request had been read for so long
    connection._look_idle()
    assert (await client.ask(_request())).startswith(b"HTTP/1.1 503 ")
    assert late == [True] * 3
    connection.heard_at -= 3600
    connection._look_idle()
    assert await client.end() == b""


async def test_a_client_that_has_left_gets_no_answer_and_is_counted(late: list[bool], gateway: Any, client: _Client) -> None:
    await client.ask(_request())
    [connection] = gateway.parts.edge.connections
    gateway.parts.edge.write_soon(connection.transport, gateway.parts.edge.refuse(connection, _request()))
    connection.force_close()
    assert await client.end() == b""
    assert late == [True, True]
    assert gateway.count("gateway_requests_total", route="sdk", method="POST", status="503") == 2


async def test_a_connection_that_is_closed_for_idling_sends_its_refusal_first(late: list[bool], gateway: Any, client: _Client) -> None:
    await client.ask(_request())
    [connection] = gateway.parts.edge.connections
    connection.data_received(_request())
    gateway.parts.edge.close_idle()
    assert (await client.answer()).startswith(b"HTTP/1.1 503 ")
    assert await client.end() == b""
    assert late == [True, True]


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> float:
    """Let each client that is refused not be heard for so many seconds."""
    monkeypatch.setattr(Shedder, "hold", lambda *_: 1.0)
    return 1.0


@pytest.fixture
async def other(gateway: Any) -> AsyncIterator[_Client]:
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    yield _Client(reader, writer)
    writer.transport.abort()


@pytest.fixture
def put_off(monkeypatch: pytest.MonkeyPatch) -> float:
    """Let what begins a request be put off for so many seconds while work is refused."""
    monkeypatch.setattr("gateway.edge.server.TOGETHER", 0.3)
    return 0.3


async def test_what_comes_within_a_moment_is_refused_together(
    late: list[bool], monkeypatch: pytest.MonkeyPatch, gateway: Any, client: _Client, other: _Client
) -> None:
    edge = gateway.parts.edge
    await until(lambda: len(edge.connections) == 2)
    for connection, seconds in zip(edge.connections, (0.1, 3600), strict=True):  # so the second one goes on with the first
        monkeypatch.setattr("gateway.edge.server.TOGETHER", seconds)
        connection.data_received(_request())
    assert late == []
    answers = [await client.answer(), await other.answer()]
    assert [answer[:13] for answer in answers] == [b"HTTP/1.1 503 "] * 2
    assert late == [True, True]
    assert all(line["duration"] > 0.09 for line in gateway.lines())


async def test_what_was_put_off_and_then_has_its_turn_says_how_long_that_took(
    late: list[bool], put_off: float, monkeypatch: pytest.MonkeyPatch, gateway: Any, client: _Client
) -> None:
    monkeypatch.setattr(Shedder, "_has_place", lambda *_: True)
    for _ in range(2):
        assert (await client.ask(_request())).startswith(b"HTTP/1.1 200 ")
    assert late == [False, False]
    assert all(line["duration"] > put_off * 0.9 for line in gateway.lines())


@pytest.mark.parametrize("cut", [10, 60, -9])
async def test_a_request_of_which_more_comes_is_put_off_no_longer(
    late: list[bool], monkeypatch: pytest.MonkeyPatch, client: _Client, cut: int
) -> None:
    monkeypatch.setattr("gateway.edge.server.TOGETHER", 3600)
    for _ in range(3):
        assert (await client.ask(_request()[:cut], _request()[cut:])).startswith(b"HTTP/1.1 503 ")
    assert late == [True] * 3


@pytest.mark.usefixtures("late", "put_off")
async def test_who_leaves_while_its_request_is_put_off_is_counted(gateway: Any, client: _Client, other: _Client) -> None:
    client.send(_request())
    other.send(_request()[:-9])
    await until(lambda: all(connection._come for connection in gateway.parts.edge.connections))
    client.leave()
    other.leave()
    await until(lambda: gateway.count("gateway_connections") == 0)
    ended = partial(gateway.count, "gateway_requests_total", route="sdk", method="POST")
    await until(lambda: (ended(status="499"), ended(status="503")) == (1, 1))


@pytest.mark.usefixtures("late")
async def test_what_was_put_off_is_answered_before_the_end(monkeypatch: pytest.MonkeyPatch, gateway: Any, client: _Client) -> None:
    monkeypatch.setattr("gateway.edge.server.TOGETHER", 3600)
    client.send(_request())
    await until(lambda: any(connection._come for connection in gateway.parts.edge.connections))
    gateway.parts.front.draining = True
    gateway.parts.edge.close_idle()
    assert b"\r\nConnection: close" in await client.answer()
    assert await client.end() == b""


@pytest.mark.usefixtures("late", "put_off")
async def test_a_failure_of_our_own_with_one_that_was_put_off_is_nothing_to_the_others(
    monkeypatch: pytest.MonkeyPatch, gateway: Any, client: _Client, other: _Client
) -> None:
    refuse, failures = gateway.parts.edge.refuse, []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context["exception"]))

    def failing(*arguments: Any) -> Any:
        if not failures:
            failures.append(None)
            raise KeyError("ours")
        return refuse(*arguments)

    monkeypatch.setattr(gateway.parts.edge, "refuse", failing)
    client.send(_request())
    await until(lambda: any(connection._come for connection in gateway.parts.edge.connections))
    assert (await other.ask(_request())).startswith(b"HTTP/1.1 503 ")
    assert await client.end() == b""
    assert [type(failure) for failure in failures[1:]] == [KeyError]


async def test_who_asks_again_at_once_waits_and_others_do_not(
    late: list[bool], monkeypatch: pytest.MonkeyPatch, gateway: Any, client: _Client, other: _Client
) -> None:
    monkeypatch.setattr(Shedder, "hold", lambda *_: 3600.0)
    assert (await client.ask(_request())).startswith(b"HTTP/1.1 503 ")
    client.send(_request())
    [(_, refused)] = gateway.parts.edge._held
    monkeypatch.setattr(Shedder, "_has_place", lambda *_: True)
    assert (await other.ask(_request())).startswith(b"HTTP/1.1 200 ")
    assert late == [True, False]
    refused.hear()
    assert (await client.answer()).startswith(b"HTTP/1.1 200 ")
    assert late == [True, False, False]


@pytest.mark.parametrize(
    ("trusted", "is_unix", "is_heard"), [("127.0.0.0/8", False, True), ("192.0.2.1", False, False), ("192.0.2.1", True, True)]
)
async def test_what_a_proxy_sends_for_others_is_always_heard(
    late: list[bool], monkeypatch: pytest.MonkeyPatch, start: StartGateway, tmp_path: Path, trusted: str, *, is_unix: bool, is_heard: bool
) -> None:
    monkeypatch.setattr(Shedder, "hold", lambda *_: 3600.0)
    gateway = await start({"server": {"trusted_proxies": [trusted]}})
    async with await asyncio.get_running_loop().create_unix_server(gateway.parts.edge, tmp_path / "socket"):
        opening = asyncio.open_unix_connection(tmp_path / "socket") if is_unix else asyncio.open_connection("127.0.0.1", gateway.port)
        client = _Client(*await opening)
        assert (await client.ask(_request())).startswith(b"HTTP/1.1 503 ")
        client.send(_request())
        await until(lambda: len(late) == 2 or bool(gateway.parts.edge._held))
        assert (late, bool(gateway.parts.edge._held)) == ([True, True], False) if is_heard else ([True], True)
        client.leave()


async def test_clients_are_heard_again_in_turn(late: list[bool], held: float, client: _Client, other: _Client) -> None:
    loop = asyncio.get_running_loop()
    begun = loop.time()
    for _ in range(3):
        both = [await each.ask(_request()) for each in (client, other)]
        assert [answer[:13] for answer in both] == [b"HTTP/1.1 503 "] * 2
    assert loop.time() - begun >= 2 * held * 0.9
    assert late == [True] * 6


async def test_a_client_may_leave_while_it_is_not_heard(
    late: list[bool], held: float, gateway: Any, client: _Client, other: _Client
) -> None:
    assert (await client.ask(_request())).startswith(b"HTTP/1.1 503 ")
    client.leave()
    assert (await other.ask(_request())).startswith(b"HTTP/1.1 503 ")
    await asyncio.sleep(held)
    assert (await other.ask(_request())).startswith(b"HTTP/1.1 503 ")
    await until(lambda: gateway.count("gateway_connections") == 1)
    assert all(late)


@pytest.mark.usefixtures("late", "held")
async def test_what_a_client_sent_while_it_was_not_heard_is_answered_before_the_end(gateway: Any, client: _Client) -> None:
    assert (await client.ask(_request())).startswith(b"HTTP/1.1 503 ")
    client.send(_request())
    await asyncio.sleep(0.02)
    gateway.parts.front.draining = True
    gateway.parts.edge.close_idle()
    answer = await client.answer()
    assert (answer.startswith(b"HTTP/1.1 503 "), b"\r\nConnection: close" in answer) == (True, True)
    assert await client.end() == b""


async def test_a_call_is_nothing_to_do_while_it_waits_for_the_rest_of_its_body(gateway: Any, client: _Client) -> None:
    shedder, request = gateway.parts.edge.shedder, _request()
    gateway.sim.alipayplus.script(Behaviour(delay=0.5))
    client.send(request[:-10])
    await until(lambda: gateway.sim.auth.count == 1 and not shedder._in_hand)
    client.send(request[-10:])
    await until(lambda: shedder._in_hand > 0)
    assert (await client.answer()).startswith(b"HTTP/1.1 200 ")
    assert (shedder._in_hand, shedder._promised) == (0, 0)


async def test_of_a_client_that_leaves_before_its_body_is_whole_nothing_is_left_to_do(gateway: Any, client: _Client) -> None:
    shedder = gateway.parts.edge.shedder
    client.send(_request()[:-10])
    await until(lambda: gateway.sim.auth.count == 1 and not shedder._in_hand)
    client.leave()
    await until(lambda: gateway.count("gateway_requests_total", route="sdk", method="POST", status="499") == 1)
    assert shedder._in_hand == 0


_UPLOAD = _api("Content-Length: 20", method="POST", body="x" * 10).replace(b"/api/balance", b"/api/echo")


async def test_an_api_request_is_nothing_to_do_while_its_body_comes(gateway: Any, client: _Client) -> None:
    shedder = gateway.parts.edge.shedder
    client.send(_UPLOAD)
    await until(lambda: gateway.sim.auth.count == 1 and not shedder._in_hand)
    client.send(b"x" * 10)
    answer = await client.answer()
    assert (answer.startswith(b"HTTP/1.1 200 "), b'"POST"' in answer) == (True, True)
    assert shedder._in_hand == 0


async def test_of_an_upload_that_is_broken_off_nothing_is_left_to_do(gateway: Any, client: _Client) -> None:
    shedder = gateway.parts.edge.shedder
    client.send(_UPLOAD)
    await until(lambda: gateway.sim.auth.count == 1 and not shedder._in_hand)
    client.leave()
    await until(lambda: gateway.count("gateway_requests_total", route="/api", method="POST", status="499") == 1)
    assert shedder._in_hand == 0
