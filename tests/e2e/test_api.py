"""The MPP's own API through a gateway started as a user starts it, by clients that are not ours."""

import asyncio
import hashlib
import os
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from gateway.simulator import Behaviour
from tests.upstream.certificates import Authority
from tests.upstream.peer import Call, Peer

LOGIN = {"Authorization": "Bearer demo-token-anna"}


def client(process: Any, **settings: Any) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=f"http://127.0.0.1:{process.port}", timeout=20, **settings)


async def metrics(process: Any) -> str:
    async with httpx.AsyncClient() as http:
        return (await http.get(f"http://127.0.0.1:{process.admin}/metrics")).text


async def test_the_api_knows_who_is_calling_and_the_sdk_path_is_not_its(start: Any) -> None:
    process = await start(await start.simulator())
    async with client(process) as http:
        balance = await http.get("/api/balance", headers=LOGIN)
        assert balance.json()["customerId"] == "customer-anna"
        refused = await http.get("/api/balance", headers={"X-Customer-Id": "customer-anna"})
        assert (refused.status_code, refused.json()["resultCode"]) == (401, "SESSION_REQUIRED")
        wrong = await http.get("/api/balance", headers={"Authorization": "Bearer wrong"})
        assert (wrong.status_code, wrong.headers["WWW-Authenticate"]) == (401, 'Bearer realm="wallet"')
        assert (await http.get("/healthz")).json() == {"status": "ok"}
        assert (await http.get("/elsewhere")).status_code == 404
        sdk = await http.post("/alipayplus/v1/other", headers=LOGIN)
        assert (sdk.status_code, sdk.json()["resultCode"]) == (404, "NOT_FOUND")
    assert await process.stop() == 0
    lines = [line for line in process.lines() if line["event"] == "request"]
    assert [(line["route"], line.get("path"), line["status"]) for line in lines] == [
        ("/api", "/api/balance", 200),
        ("/api", "/api/balance", 401),
        ("/api", "/api/balance", 401),
        ("/healthz", "/healthz", 200),
        ("none", "/elsewhere", 404),
        ("sdk", None, 404),
    ]
    assert set(lines[0]["phases"]) == {"session", "upstream"}


async def test_what_is_sent_arrives_as_it_was_sent(start: Any) -> None:
    process = await start(await start.simulator())
    content = os.urandom(3 << 20)

    async def pieces() -> Any:
        for begin in range(0, len(content), 100_000):
            yield content[begin : begin + 100_000]

    async with client(process) as http:
        for body in (content, pieces()):
            seen = (await http.put("/api/echo/a%2Fb;c?x=%41&&y", headers={**LOGIN, "X-Repeated": "1"}, content=body)).json()
            assert (seen["method"], seen["target"]) == ("PUT", "/api/echo/a%2Fb;c?x=%41&&y")
            assert (seen["length"], seen["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())
            names = [name.lower() for name, _ in seen["headers"]]
            assert names.count("x-customer-id") == names.count("x-request-id") == names.count("traceparent") == 1
        download = await http.get("/api/download?size=3000000", headers=LOGIN)
        assert len(download.content) == 3_000_000


async def test_events_arrive_as_they_are_sent(start: Any) -> None:
    process = await start(await start.simulator())
    async with client(process) as http:
        for count, pause in ((4, 0), (2, 3600)):  # of the last ones the second would come in an hour
            async with http.stream("GET", f"/api/events?count={count}&pause={pause}", headers=LOGIN) as stream:
                lines = (line async for line in stream.aiter_lines() if line.startswith("data: "))
                arrived = [await anext(lines) for _ in range(1 if pause else count)]
            assert arrived == [f"data: event {number}" for number in range(len(arrived))]


async def test_a_websocket_goes_through_and_needs_the_login(start: Any) -> None:
    process = await start(await start.simulator())
    url = f"ws://127.0.0.1:{process.port}/api/socket"
    async with connect(url, additional_headers=LOGIN) as websocket:
        for message in ("text", b"binary", "x" * 500_000):
            await websocket.send(message)
            assert await websocket.recv() == message
    with pytest.raises(InvalidStatus) as caught:
        await connect(url)
    assert caught.value.response.status_code == 401
    assert await process.stop() == 0
    line = next(line for line in process.lines() if line.get("path") == "/api/socket")
    assert (line["status"], line["reason"]) in ((101, "client closed"), (101, "upstream closed"))


async def test_G11_the_admin_listener_is_not_reached_through_the_public_one(start: Any) -> None:
    process = await start(await start.simulator())
    async with client(process) as http:
        for path in ("/metrics", "/livez", "/readyz", "/status.json", "/"):
            assert (await http.get(path)).status_code == 404


async def test_C13_while_alipayplus_stands_still_the_api_is_served(start: Any) -> None:
    sim = await start.simulator()
    process = await start(sim, {"alipayplus": {"max_in_flight": 20, "queue_timeout": "200ms"}})
    sim.alipayplus.script(Behaviour(hold=True), times=None)
    body = {"proxyRequestHeader": "", "proxyRequestData": ""}
    async with client(process, limits=httpx.Limits(max_connections=None)) as http:

        async def call() -> httpx.Response:
            return await http.post("/alipayplus/v1/sdkProxy", json=body, headers=LOGIN)

        held = [asyncio.create_task(call()) for _ in range(20)]
        await sim.alipayplus.until_received(20)
        for _ in range(2):
            late = [asyncio.create_task(call()) for _ in range(20)]
            served = await asyncio.gather(*(http.get("/api/balance", headers=LOGIN) for _ in range(20)))
            assert {answer.status_code for answer in served} == {200}
            refused = await asyncio.gather(*late)
            assert {(answer.status_code, answer.json()["resultCode"], answer.headers["Retry-After"]) for answer in refused} == {
                (503, "OVERLOADED", "1")
            }
        assert not any(task.done() for task in held)
        sim.alipayplus.release()
        assert {answer.status_code for answer in await asyncio.gather(*held)} == {200}
    assert sim.alipayplus.count == 20
    assert await process.stop() == 0


async def test_metrics_tell_of_routes_and_upstreams(start: Any) -> None:
    process = await start(await start.simulator())
    async with client(process) as http:
        for _ in range(3):
            await http.get("/api/balance", headers=LOGIN)
        await http.get("/healthz")
        await http.get("/api/../x%2e%2e/..")
        await http.request("GET", "/a%5cb")
    text = await metrics(process)
    assert 'gateway_requests_total{method="GET",route="/api",status="200"} 3.0' in text
    assert 'gateway_requests_total{method="GET",route="/healthz",status="200"} 1.0' in text
    assert 'gateway_rejected_total{reason="bad_target"} 1.0' in text
    assert 'outcome="ok",upstream="wallet"} 4.0' in text
    assert 'gateway_phase_duration_seconds_count{phase="upstream"} 4.0' in text


async def test_upstreams_over_TLS_and_by_a_unix_socket(start: Any, tmp_path: Path) -> None:
    async def script(call: Call) -> None:
        while True:
            await call.read_request()
            call.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    authority = Authority(tmp_path, "wallet")
    pair = authority.issue("wallet.internal", "wallet.internal")
    secure, local = Peer(script), Peer(script)
    await secure.start(tls=pair.server_context())
    await local.start(path=tmp_path / "wallet.sock")
    servers = {
        "secure": {"servers": f"https://127.0.0.1:{secure.port}", "tls": {"ca": str(authority.ca), "server_name": "wallet.internal"}},
        "stranger": {"servers": f"https://127.0.0.1:{secure.port}", "tls": {"ca": str(authority.ca)}},
        "local": {"servers": "unix:wallet.sock", "host_header": "upstream"},
    }
    routes = [{"prefix": f"/{name}", "upstream": name, "session": "none"} for name in servers]
    process = await start(await start.simulator(), {"api": {"upstreams": {"wallet": None, **servers}, "routes": routes}})
    async with client(process) as http:
        assert (await http.get("/secure")).text == "ok"
        assert (await http.get("/local")).text == "ok"
        stranger = await http.get("/stranger")
        assert (stranger.status_code, stranger.json()["resultCode"]) == (502, "UPSTREAM_UNREACHABLE")
    assert b"\r\nHost: localhost\r\n" in local.calls[0].received
    await secure.stop()
    await local.stop()


async def test_the_routes_command_agrees_with_what_happens(start: Any, run_gateway: Any) -> None:
    path = str((await start.simulator()).write_configuration())
    code, out, _ = await run_gateway("routes", "-c", path, "GET", "http://wallet.example/api/balance?x=1")
    assert code == 0
    assert {"route: /api", "upstream: wallet", "session: required", "sent: GET /api/balance?x=1"} <= set(out.splitlines())
    code, out, _ = await run_gateway("routes", "-c", path, "GET", "/nothing")
    assert (code, out.splitlines()[0]) == (0, "outcome: NOT_FOUND")
