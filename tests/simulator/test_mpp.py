import hashlib

import aiohttp
import pytest
from yarl import URL

from gateway.simulator import Simulator


@pytest.fixture
def base(simulator: Simulator) -> str:
    return f"http://127.0.0.1:{simulator.mpp.port}"


async def test_it_is_healthy(http: aiohttp.ClientSession, base: str) -> None:
    async with http.get(f"{base}/healthz") as response:
        assert (response.status, await response.json()) == (200, {"status": "ok"})


async def test_the_balance_is_of_the_customer_whom_the_gateway_names(http: aiohttp.ClientSession, base: str) -> None:
    async with http.get(f"{base}/api/balance", headers={"X-Customer-Id": "customer-alice"}) as response:
        assert (await response.json())["customerId"] == "customer-alice"


async def test_an_echo_says_what_came_as_it_came(http: aiohttp.ClientSession, base: str) -> None:
    url = URL(f"{base}/api/echo/a%2fb//c?x=%20&y", encoded=True)
    async with http.request("PATCH", url, data=b"body", headers={"X-Odd": "1"}) as response:
        came = await response.json()
    assert (came["method"], came["target"], came["length"]) == ("PATCH", "/api/echo/a%2fb//c?x=%20&y", 4)
    assert came["sha256"] == hashlib.sha256(b"body").hexdigest()
    assert ["X-Odd", "1"] in came["headers"]


async def test_events_come_one_by_one(http: aiohttp.ClientSession, base: str) -> None:
    async with http.get(f"{base}/api/events?count=2") as response:
        assert response.headers["Content-Type"] == "text/event-stream"
        assert await response.text() == "id: 0\ndata: event 0\n\nid: 1\ndata: event 1\n\n"


async def test_a_download_has_the_size_that_was_asked_for(http: aiohttp.ClientSession, base: str) -> None:
    async with http.get(f"{base}/api/download?size=200000") as response:
        assert len(await response.read()) == 200_000


async def test_a_websocket_sends_back_what_it_gets(http: aiohttp.ClientSession, base: str) -> None:
    async with http.ws_connect(f"{base}/api/socket") as websocket:
        await websocket.send_str("text")
        await websocket.send_bytes(b"\0")
        assert await websocket.receive_str() == "text"
        assert await websocket.receive_bytes() == b"\0"
