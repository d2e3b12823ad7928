"""What a client and an operator see when new work is refused."""

from typing import Any

import aiohttp
import pytest

from gateway.edge.memory import MemoryWatch
from tests.sdkproxy.conftest import JSON, LOGIN

_SHED = "memory is nearly used up"


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


@pytest.mark.usefixtures("tight")
async def test_the_connection_goes_on_after_a_refusal(gateway: Any) -> None:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=1)) as http:
        for _ in range(3):
            url = f"http://127.0.0.1:{gateway.port}/alipayplus/v1/sdkProxy"
            async with http.post(url, data=b"x" * 100_000, headers={**JSON, **LOGIN}) as answer:
                assert (answer.status, answer.headers.get("Connection")) == (503, None)
    assert gateway.count("gateway_connections") <= 2
