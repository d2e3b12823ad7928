"""Refusals at once: what they are for, that they are the same as any other, and that the connection goes on or ends as it should."""

import asyncio
import json
import re
from itertools import pairwise
from typing import Any

import pytest

from gateway.edge.body import DISCARD_BYTES, DISCARD_SECONDS
from gateway.edge.connection import Connection
from gateway.edge.plain import FIELDS_KEPT
from gateway.edge.shedding import LATE, Shedder
from gateway.simulator import Behaviour
from tests.sdkproxy.client import Client
from tests.sdkproxy.conftest import BODY, StartGateway
from tests.sdkproxy.overload import api_request, call
from tests.upstream.peer import until

_TWICE = ("Connection: keep-alive",) * 2
"""What is not refused at once."""
_LAST_TWICE = ("Connection: close",) * 2
_VARYING = ("time", "request_id", "trace_id", "duration")
_CHANGING = re.compile(rb"[0-9a-f]{32}|Date: [^\r]+")


def _lasting(line: dict[str, Any]) -> dict[str, Any]:
    """Return what two access lines of the same refusal have in common."""
    return {name: line[name] for name in line if name not in _VARYING}


async def test_a_refusal_at_once_is_the_same_as_any_other(late: list[bool], gateway: Any, client: Client) -> None:
    at_once, usual = [await client.ask(request) for request in (call(), call(*_TWICE))]
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
        client = Client(*await asyncio.open_connection("127.0.0.1", gateway.port))
        answers.append(await client.ask(call(*fields).replace(b"HTTP/1.1", version, 1)))
        assert await client.end() == b""
        client.leave()
    assert late == [True, False]
    assert _CHANGING.sub(b"", answers[0]) == _CHANGING.sub(b"", answers[1])
    assert b"\r\nConnection: close\r\n" in answers[0]
    first, second = gateway.lines()
    assert _lasting(first) == _lasting(second)
    await until(lambda: gateway.count("gateway_connections") == 0)


async def test_what_comes_behind_the_last_request_is_thrown_away(late: list[bool], gateway: Any, client: Client) -> None:
    await client.ask(call())
    [connection] = gateway.parts.edge.connections
    connection.data_received(call("Connection: close"))
    connection.go_on()
    connection.data_received(call())
    assert b"\r\nConnection: close\r\n" in await client.answer()
    assert await client.end() == b""
    assert late == [True, True]


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        pytest.param(call(kind="Content-Type: text/plain"), 415, id="media type"),
        pytest.param(call("Content-Encoding: gzip"), 415, id="coding"),
        pytest.param(call().replace(b"POST", b"PUT", 1), 405, id="method"),
        pytest.param(call().replace(b"sdkProxy", b"other", 1), 404, id="path"),
        pytest.param(call().replace(b"Host: wallet", b"Host: wal/let", 1), 400, id="host"),
        pytest.param(call("Connection: keep-alive").replace(b"HTTP/1.1", b"HTTP/1.0", 1), 503, id="old"),
        pytest.param(call("Upgrade: websocket", "Connection: upgrade"), 503, id="upgrade"),
        pytest.param(call("Transfer-Encoding: chunked"), 400, id="two lengths"),
    ],
)
async def test_what_needs_a_closer_look_is_not_refused_at_once(late: list[bool], client: Client, request_: bytes, status: int) -> None:
    answer = await client.ask(request_)
    assert answer.startswith(f"HTTP/1.1 {status} ".encode())
    assert not any(late)


async def test_a_call_that_is_too_large_is_told_so_rather_than_to_come_again(late: list[bool], start: StartGateway) -> None:
    gateway = await start({"sdk_proxy": {"max_body": "1KiB"}})
    client = Client(*await asyncio.open_connection("127.0.0.1", gateway.port))
    answer = await client.ask(call(body=BODY + b" " * 1024))
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert late == [False]
    client.leave()


@pytest.mark.parametrize(("method", "body"), [("GET", ""), ("POST", '{"amount": 1}'), ("DELETE", "x" * 20_000)])
async def test_a_request_for_the_api_is_refused_at_once_as_on_the_usual_way(
    late: list[bool], gateway: Any, client: Client, method: str, body: str
) -> None:
    fields = [f"Content-Length: {len(body)}"] if body else []
    at_once, usual = [await client.ask(api_request(*fields, *more, method=method, body=body)) for more in ((), _TWICE)]
    assert late == [True, False]
    assert at_once.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
    assert _CHANGING.sub(b"", at_once) == _CHANGING.sub(b"", usual)
    assert gateway.count("gateway_requests_total", route="/api", method=method, status="503") == 2
    first, second = gateway.lines()
    assert _lasting(first) == _lasting(second)
    assert (first["reason"], first["route"], first["path"], first["bytes_in"]) == (LATE, "/api", "/api/balance", len(body))


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        pytest.param(api_request("Transfer-Encoding: chunked", method="POST", body="0\r\n\r\n"), 503, id="chunks"),
        pytest.param(api_request("Connection: upgrade", "Upgrade: websocket"), 400, id="upgrade"),
        pytest.param(api_request().replace(b"/api", b"/nowhere"), 404, id="no route"),
        pytest.param(api_request().replace(b"/api", b"/alipayplus"), 404, id="below the prefix"),
        pytest.param(api_request().replace(b"balance", b"%2e%2e/x"), 400, id="target"),
        pytest.param(api_request("Transfer-Encoding: gzip, chunked", body="0\r\n\r\n"), 400, id="framing"),
    ],
)
async def test_of_the_api_only_the_plain_is_refused_at_once(late: list[bool], client: Client, request_: bytes, status: int) -> None:
    assert (await client.ask(request_)).startswith(f"HTTP/1.1 {status} ".encode())
    assert not any(late)


@pytest.mark.parametrize("request_id", ["from-the-proxy", "f" * 32, "e" * 64])
@pytest.mark.parametrize(("route", "method"), [("sdk", "POST"), ("/api", "GET")])
async def test_behind_a_trusted_proxy_a_refusal_is_at_once_and_has_the_ids_that_it_gave(
    late: list[bool], start: StartGateway, route: str, method: str, request_id: str
) -> None:
    gateway = await start({"server": {"trusted_proxies": ["127.0.0.0/8"]}})
    client = Client(*await asyncio.open_connection("127.0.0.1", gateway.port))
    fields = (f"X-Request-Id: {request_id}", "X-Forwarded-For: 203.0.113.9", f"traceparent: 00-{'a' * 32}-{'b' * 16}-01")
    ask_for = call if route == "sdk" else api_request
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


async def test_what_a_client_repeats_is_refused_as_the_first_time_and_what_it_changes_is_seen(
    late: list[bool], gateway: Any, client: Client
) -> None:
    asked = [call(), call(), call("X-New: 1"), call(body=b"{}"), api_request(), api_request(method="POST")]
    asked.append(call(kind="Content-Type: text/plain"))
    answers = [await client.ask(request) for request in asked]
    assert [answer[9:12] for answer in answers] == [b"503"] * 6 + [b"415"]
    assert late == [True] * 6 + [False]
    lines = gateway.lines()
    assert [line["bytes_in"] for line in lines[:4]] == [len(BODY)] * 3 + [2]
    assert [(line["route"], line["method"]) for line in lines[3:6]] == [("sdk", "POST"), ("/api", "GET"), ("/api", "POST")]


async def test_the_fields_that_a_client_sent_are_forgotten_with_its_next_request_in_hand(
    late: list[bool], monkeypatch: pytest.MonkeyPatch, gateway: Any, client: Client
) -> None:
    await client.ask(call(f"Cookie: {'x' * FIELDS_KEPT}"))
    [connection] = gateway.parts.edge.connections
    assert not connection.last_fields, "not so many"
    await client.ask(call())
    assert b"demo-token-anna" in connection.last_fields.text
    monkeypatch.setattr(Shedder, "_has_place", lambda *_: True)
    assert (await client.ask(call())).startswith(b"HTTP/1.1 200 ")
    await until(lambda: connection.last_fields is None)
    assert late == [True, True, False]


async def test_a_request_whose_head_comes_in_pieces_is_refused_on_the_usual_way(late: list[bool], client: Client) -> None:
    whole = call()
    assert (await client.ask(whole[:40], whole[40:-9], whole[-9:])).startswith(b"HTTP/1.1 503 ")
    assert not any(late)
    assert (await client.ask(whole)).startswith(b"HTTP/1.1 503 ")
    assert late[-1:] == [True]


@pytest.mark.parametrize("come", [0, 1, len(BODY) - 1])
async def test_what_is_missing_of_a_body_may_come_behind_the_refusal(
    late: list[bool], monkeypatch: pytest.MonkeyPatch, gateway: Any, client: Client, come: int
) -> None:
    whole = call()
    begun = len(whole) - len(BODY) + come
    for _ in range(2):
        assert (await client.ask(whole[:begun])).startswith(b"HTTP/1.1 503 ")
        for place in range(begun, len(whole) - 2):
            client.send(whole[place : place + 1])
            await asyncio.sleep(0)
        assert (await client.ask(whole[max(begun, len(whole) - 2) :] + whole)).startswith(b"HTTP/1.1 503 ")
    assert late == [True] * 4
    monkeypatch.setattr(Shedder, "_has_place", lambda *_: True)
    assert (await client.ask(whole)).startswith(b"HTTP/1.1 200 ")
    assert [line["bytes_in"] for line in gateway.lines()] == [come, len(BODY)] * 2 + [len(BODY)]


async def test_where_the_connection_ends_what_is_missing_of_a_body_is_waited_for(late: list[bool], client: Client) -> None:
    whole = call("Connection: close")
    assert (await client.ask(whole[:-9])).startswith(b"HTTP/1.1 503 ")
    client.send(whole[-9:])
    assert await client.end() == b"", "in order, not by a reset"
    assert late == [False]


async def test_where_much_is_missing_of_a_body_the_connection_ends(late: list[bool], client: Client) -> None:
    whole = call(body=b"x" * (DISCARD_BYTES + 1))
    assert (await client.ask(whole[: -DISCARD_BYTES - 1])).startswith(b"HTTP/1.1 503 ")
    assert late == [False]


async def test_a_connection_on_which_a_body_is_missing_is_idle_when_nothing_of_it_comes(
    late: list[bool], gateway: Any, client: Client
) -> None:
    assert (await client.ask(call()[:-9])).startswith(b"HTTP/1.1 503 ")
    [connection] = gateway.parts.edge.connections
    assert not connection.is_idle
    gateway.parts.edge.close_idle()
    assert len(gateway.parts.edge.connections) == 1
    connection.heard_at -= DISCARD_SECONDS
    assert connection.is_idle
    gateway.parts.edge.close_idle()
    assert await client.end() == b""
    assert late == [True]


@pytest.mark.parametrize("size", [8 * 1024, 20 * 1024, 100 * 1024])
async def test_a_large_body_of_a_refused_request_does_not_hold_up_the_next(late: list[bool], client: Client, size: int) -> None:
    for _ in range(3):
        assert (await client.ask(call(body=b"x" * size))).startswith(b"HTTP/1.1 503 ")
    assert late == [True] * 3


async def test_what_comes_while_another_is_in_hand_is_answered_behind_it(
    late: list[bool], monkeypatch: pytest.MonkeyPatch, gateway: Any, client: Client
) -> None:
    gateway.sim.alipayplus.script(Behaviour(delay=0.3))
    monkeypatch.setattr(Shedder, "_has_place", lambda *_: True)
    client.send(call())
    await until(lambda: gateway.sim.auth.count == 1)
    monkeypatch.setattr(Shedder, "_has_place", lambda *_: False)
    client.send(call())
    assert [(await client.answer())[:13] for _ in range(2)] == [b"HTTP/1.1 200 ", b"HTTP/1.1 503 "]
    assert late == [False]


@pytest.mark.parametrize("cut", [(), (9000,)], ids=["once", "twice"])
@pytest.mark.parametrize("fields", [(), _LAST_TWICE[:1]], ids=["goes-on", "ends"])
async def test_what_comes_with_the_connection_is_refused(
    late: list[bool], monkeypatch: pytest.MonkeyPatch, gateway: Any, fields: tuple[str, ...], cut: tuple[int, ...]
) -> None:
    """Where it is read in two pieces before the connection is ready, that is not done at once."""
    made = Connection.connection_made
    request = call(*fields, body=b"x" * 20_000)

    def with_a_request(self: Connection, transport: asyncio.BaseTransport) -> None:
        made(self, transport)
        for begin, end in pairwise((0, *cut, len(request))):
            self.data_received(request[begin:end])

    monkeypatch.setattr(Connection, "connection_made", with_a_request)
    client = Client(*await asyncio.open_connection("127.0.0.1", gateway.port))
    answer = await client.answer() if not fields else await client.end()
    client.leave()
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert late == ([] if cut else [True])
    await until(lambda: len(gateway.lines()) == 1)
    assert gateway.lines()[0]["reason"] == LATE


async def test_requests_that_come_together_get_their_answers_in_turn(late: list[bool], gateway: Any, client: Client) -> None:
    for count in (1, 3, 1, 40):
        answers = [await client.ask(call() * count), *[await client.answer() for _ in range(count - 1)]]
        assert all(answer.startswith(b"HTTP/1.1 503 ") for answer in answers)
    assert late == [True, False, True, False], "only what comes alone"
    assert gateway.count("gateway_requests_total", route="sdk", method="POST", status="503") == 45


async def test_while_it_drains_the_connection_ends_with_the_refusal(late: list[bool], gateway: Any, client: Client) -> None:
    gateway.parts.front.draining = True
    assert b"Connection: close\r\n" in await client.ask(call())
    assert await client.end() == b""
    assert late == [False]


async def test_a_connection_on_which_all_is_refused_does_not_idle(late: list[bool], gateway: Any, client: Client) -> None:
    for _ in range(2):
        assert (await client.ask(call())).startswith(b"HTTP/1.1 503 ")
    [connection] = gateway.parts.edge.connections
    connection._idle_too_long()  # as if no request had been read for so long
    assert (await client.ask(call())).startswith(b"HTTP/1.1 503 ")
    assert late == [True] * 3
    connection.heard_at -= 3600
    connection._idle_too_long()
    assert await client.end() == b""


async def test_a_client_that_has_left_gets_no_answer_and_is_counted(late: list[bool], gateway: Any, client: Client) -> None:
    await client.ask(call())
    [connection] = gateway.parts.edge.connections
    gateway.parts.edge.write_soon(connection.transport, gateway.parts.edge.refuse(connection, call()))
    connection.force_close()
    assert await client.end() == b""
    assert late == [True, True]
    assert gateway.count("gateway_requests_total", route="sdk", method="POST", status="503") == 2


async def test_a_connection_that_is_closed_for_idling_sends_its_refusal_first(late: list[bool], gateway: Any, client: Client) -> None:
    await client.ask(call())
    [connection] = gateway.parts.edge.connections
    connection.data_received(call())
    gateway.parts.edge.close_idle()
    assert (await client.answer()).startswith(b"HTTP/1.1 503 ")
    assert await client.end() == b""
    assert late == [True, True]
