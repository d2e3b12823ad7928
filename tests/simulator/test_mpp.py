import asyncio
import hashlib
import logging

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


@pytest.mark.parametrize("query", ["download?size=x", "download?size=-1", "events?count=x", "events?pause=nan", "events?pause=1e400"])
async def test_what_is_no_number_is_400(http: aiohttp.ClientSession, base: str, query: str) -> None:
    async with http.get(f"{base}/api/{query}") as response:
        assert response.status == 400
        assert "is a number from 0 to" in await response.text()


@pytest.mark.parametrize(
    ("line", "begins"),
    [
        pytest.param("POST /api/echo", b"HTTP/1.1 100", id="in its body"),
        pytest.param("GET /api/events?count=1000000", b"HTTP/1.1 200", id="in an answer"),
    ],
)
async def test_a_client_that_leaves_is_nothing_to_report(
    simulator: Simulator, caplog: pytest.LogCaptureFixture, line: str, begins: bytes
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", simulator.mpp.port)
    length = "Content-Length: 100\r\nExpect: 100-continue\r\n" if line.startswith("POST") else ""
    writer.write(f"{line} HTTP/1.1\r\nHost: x\r\n{length}\r\n".encode())
    assert (await reader.readuntil(b"\r\n")).startswith(begins)
    writer.transport.abort()
    await simulator.mpp.close()  # when all that is done for clients has ended
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_a_websocket_sends_back_what_it_gets(http: aiohttp.ClientSession, base: str) -> None:
    async with http.ws_connect(f"{base}/api/socket") as websocket:
        await websocket.send_str("text")
        await websocket.send_bytes(b"\0")
        assert await websocket.receive_str() == "text"
        assert await websocket.receive_bytes() == b"\0"
