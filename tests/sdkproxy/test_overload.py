"""What a client and an operator see when new work is refused, and what is work in hand."""

import asyncio
from math import inf
from typing import Any

import aiohttp
import pytest

from gateway.edge.memory import MemoryWatch
from gateway.session import Check, RawHeaders, Sessions, Work
from gateway.simulator import Behaviour
from gateway.upstream.pieces import LOOK, PIECES
from tests.sdkproxy.client import Client
from tests.sdkproxy.conftest import JSON, LOGIN, StartGateway
from tests.sdkproxy.overload import api_request, call
from tests.upstream.peer import until

_SHED = "memory is nearly used up"


@pytest.fixture
def tight(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MemoryWatch, "fits", lambda _, size: size < 0)


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


async def test_a_worker_reads_small_pieces_while_its_memory_is_short(start: StartGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MemoryWatch, "is_short", lambda _: True)
    monkeypatch.setattr(PIECES, "is_short", PIECES.is_short)  # as it was, afterwards
    monkeypatch.setattr(PIECES, "are_small", False)
    await start()
    PIECES.count(LOOK)
    assert PIECES.are_small


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Have room for no large answer; tell for how much room was asked."""
    asked: list[int] = []

    def has_room(_watch: MemoryWatch, size: int) -> bool:
        asked.append(size)
        return size < 5 * 300_000

    monkeypatch.setattr(MemoryWatch, "fits", has_room)
    return asked


async def test_large_answers_are_taken_one_by_one_where_there_is_no_room_for_more(asked: list[int], gateway: Any) -> None:
    gateway.sim.alipayplus.script(Behaviour(size=300_000), times=4)
    assert [reply.status for reply in await asyncio.gather(*[gateway.post() for _ in range(4)])] == [200] * 4
    assert max(asked) >= 5 * 300_000, "one has waited for another"
    shedder = gateway.parts.front._shedder
    assert (shedder.room._promised, shedder.room._grown) == (0, 0)


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


async def test_a_call_is_nothing_to_do_while_it_waits_for_the_rest_of_its_body(gateway: Any, client: Client) -> None:
    shedder, request = gateway.parts.edge.shedder, call()
    gateway.sim.alipayplus.script(Behaviour(delay=0.5))
    client.send(request[:-10])
    await until(lambda: gateway.sim.auth.count == 1 and not shedder._in_hand)
    client.send(request[-10:])
    await until(lambda: shedder._in_hand > 0)
    assert (await client.answer()).startswith(b"HTTP/1.1 200 ")
    assert (shedder._in_hand, shedder.room._promised) == (0, 0)


async def test_of_a_client_that_leaves_before_its_body_is_whole_nothing_is_left_to_do(gateway: Any, client: Client) -> None:
    shedder = gateway.parts.edge.shedder
    client.send(call()[:-10])
    await until(lambda: gateway.sim.auth.count == 1 and not shedder._in_hand)
    client.leave()
    await until(lambda: gateway.count("gateway_requests_total", route="sdk", method="POST", status="499") == 1)
    assert shedder._in_hand == 0


_UPLOAD = api_request("Content-Length: 20", method="POST", body="x" * 10).replace(b"/api/balance", b"/api/echo")


async def test_an_api_request_is_nothing_to_do_while_its_body_comes(gateway: Any, client: Client) -> None:
    shedder = gateway.parts.edge.shedder
    client.send(_UPLOAD)
    await until(lambda: gateway.sim.auth.count == 1 and not shedder._in_hand)
    client.send(b"x" * 10)
    answer = await client.answer()
    assert (answer.startswith(b"HTTP/1.1 200 "), b'"POST"' in answer) == (True, True)
    assert shedder._in_hand == 0


async def test_of_an_upload_that_is_broken_off_nothing_is_left_to_do(gateway: Any, client: Client) -> None:
    shedder = gateway.parts.edge.shedder
    client.send(_UPLOAD)
    await until(lambda: gateway.sim.auth.count == 1 and not shedder._in_hand)
    client.leave()
    await until(lambda: gateway.count("gateway_requests_total", route="/api", method="POST", status="499") == 1)
    assert shedder._in_hand == 0


async def test_logins_that_are_kept_go_where_there_is_no_room_for_work(start: StartGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    gateway = await start({"session": {"cache": {"ttl": "60s"}}})
    asked = gateway.sim.auth.count
    for _ in range(2):
        assert (await gateway.post()).status == 200
    assert gateway.sim.auth.count == asked + 1
    monkeypatch.setattr(MemoryWatch, "_read", lambda _watch, _now: None)
    gateway.parts.memory._left = 0
    assert (await gateway.post()).status == 503
    gateway.parts.memory._left = inf
    assert (await gateway.post()).status == 200
    assert gateway.sim.auth.count == asked + 2
