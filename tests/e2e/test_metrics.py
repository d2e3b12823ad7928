"""Each row of the contract's table of metrics is made to move, and read from a running gateway's /metrics (architecture)."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from time import time
from typing import Any, Final

import aiohttp

from gateway.alipayplus.keys import VerificationKey, generate_private_key, private_pem, public_pem
from gateway.simulator import Behaviour, Login, Simulator
from gateway.simulator.keys import write_private
from tests.deploy.expressions import METRICS
from tests.e2e.conftest import Process
from tests.e2e.test_listeners import tls
from tests.e2e.watching import Series, metrics, until_said_times, workers
from tests.ports import free_port
from tests.upstream.certificates import Authority

SDK: Final = "/alipayplus/v1/sdkProxy"
HOLD: Final = Behaviour(hold=True)

Row = tuple[str, dict[str, str], float]
"""A series and by how much it is to grow."""


def value(series: Series, name: str, labels: dict[str, str]) -> float:
    """Return the sum of the series of this name that have these labels."""
    return sum(found for (other, given), found in series.items() if other == name and labels.items() <= dict(given).items())


async def moved(gateway: Process, provoke: Callable[[], Awaitable[object]], *rows: Row) -> None:
    """Provoke something and wait until each of the rows has grown by just so much."""
    before = await metrics(gateway)
    await provoke()
    async with asyncio.timeout(20):
        while True:
            after = await metrics(gateway)
            grown = [(name, labels, value(after, name, labels) - value(before, name, labels)) for name, labels, _ in rows]
            if all(growth >= wanted for (*_, growth), (*_, wanted) in zip(grown, rows, strict=True)):
                break
            await asyncio.sleep(0.02)
    assert grown == [*rows]


class App:
    """Clients of a gateway."""

    def __init__(self, gateway: Process, http: aiohttp.ClientSession) -> None:
        self.gateway = gateway
        self._http = http

    async def call(self, token: str | None = "demo-token-anna", *, scene: str | None = None, data: str = "") -> int:
        body = {"scene": scene, "proxyRequestHeader": "", "proxyRequestData": data}
        return await self.ask("POST", SDK, token, json={name: field for name, field in body.items() if field is not None})

    async def ask(self, method: str, path: str, token: str | None = "demo-token-anna", **options: Any) -> int:
        login = {"Authorization": f"Bearer {token}"} if token else {}
        async with self._http.request(method, f"http://127.0.0.1:{self.gateway.port}{path}", headers=login, **options) as answer:
            await answer.read()
            return answer.status

    async def raw(self, data: bytes) -> None:
        """Send bytes on a connection of their own, and wait until the gateway closes it."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.gateway.port)
        writer.write(data)
        with suppress(ConnectionError):
            await asyncio.wait_for(reader.read(), 20)
        writer.close()


@asynccontextmanager
async def app(gateway: Process) -> AsyncIterator[App]:
    async with aiohttp.ClientSession() as http:
        yield App(gateway, http)


def request_row(status: str, route: str = "sdk", method: str = "POST") -> Row:
    return "gateway_requests_total", {"route": route, "method": method, "status": status}, 1


def check_row(outcome: str, source: str, times: int = 1) -> Row:
    return "gateway_session_checks_total", {"outcome": outcome, "source": source}, times


def result_row(scene: str, status: str, code: str, source: str = "alipayplus") -> Row:
    labels = {"scene": scene, "result_status": status, "result_code": code, "source": source}
    return "gateway_alipayplus_results_total", labels, 1


def phase_row(phase: str, times: int = 1) -> Row:
    return "gateway_phase_duration_seconds_count", {"phase": phase}, times


def upstream_row(upstream: str, outcome: str, times: int = 1) -> Row:
    return "gateway_upstream_requests_total", {"upstream": upstream, "outcome": outcome}, times


async def test_calls_logins_and_phases(start: Any) -> None:
    sim: Simulator = await start.simulator()
    cache = {"ttl": "60s", "negative_ttl": "0s"}
    gateway = await start(sim, {"session": {"cache": cache}, "alipayplus": {"max_in_flight": 1, "queue_timeout": "20s"}})
    async with app(gateway) as a:
        await moved(
            gateway,
            partial(a.call, scene="PROXY_SCENE_PAY"),
            request_row("200"),
            ("gateway_request_duration_seconds_count", {"route": "sdk"}, 1),
            *(phase_row(phase) for phase in ("session", "queue", "sign", "alipayplus", "verify")),
            check_row("valid", "call"),
            result_row("PROXY_SCENE_PAY", "S", "SUCCESS"),
            ("gateway_alipayplus_duration_seconds_count", {"scene": "PROXY_SCENE_PAY"}, 1),
            upstream_row("alipayplus", "ok"),
            upstream_row("session", "ok"),
        )
        sim.alipayplus.script(Behaviour(code="PROCESS_FAIL"))
        rows = request_row("422"), check_row("valid", "cache"), result_row("other", "F", "PROCESS_FAIL"), upstream_row("session", "ok", 0)
        await moved(gateway, partial(a.call, scene="what a client says"), *rows)
        sim.alipayplus.script(Behaviour(code="WHAT_ALIPAYPLUS_SAYS", status="U"))
        await moved(gateway, a.call, request_row("502"), result_row("none", "U", "other"))
        sim.alipayplus.script(Behaviour(drop="in_body"))
        lost = "ALIPAYPLUS_CONNECTION_LOST"
        await moved(gateway, a.call, request_row("502"), result_row("none", "U", lost, "gateway"), upstream_row("alipayplus", "error"))
        for status, outcome, code in ((403, "forbidden", "SESSION_FORBIDDEN"), (500, "unavailable", "SESSION_UNAVAILABLE")):
            sim.auth.script(Login(status=status))
            http_status = str(403 if status == 403 else 503)
            rows = request_row(http_status), check_row(outcome, "call"), result_row("none", "F", code, "gateway"), phase_row("sign", 0)
            await moved(gateway, partial(a.call, "demo-token-bert"), *rows)
        await moved(gateway, partial(a.call, "nobody"), request_row("401"), check_row("denied", "call"))
        await moved(gateway, partial(a.call, None), request_row("401"), check_row("missing", "none"))

        async def together() -> None:
            sim.auth.script(Login(hold=True))
            received = sim.auth.count
            async with asyncio.TaskGroup() as tasks:
                calls = [tasks.create_task(a.call("demo-token-carl")) for _ in range(3)]
                await sim.auth.until_received(received + 1)
                await grown_to(gateway, "gateway_in_flight_requests", {"route": "sdk"}, 3)
                sim.auth.release()
            assert [call.result() for call in calls] == [200] * 3

        await moved(gateway, together, check_row("valid", "call"), check_row("valid", "shared", 2))
        ahead = (datetime.now(UTC) + timedelta(hours=1)).isoformat(timespec="seconds")
        sim.alipayplus.script(Behaviour(response_time=ahead))
        await a.call()
        assert 3500 < value(await metrics(gateway), "gateway_alipayplus_clock_offset_seconds", {}) < 3700
    assert await gateway.stop() == 0


async def grown_to(gateway: Process, name: str, labels: dict[str, str], wanted: float) -> None:
    async with asyncio.timeout(20):
        while value(await metrics(gateway), name, labels) != wanted:  # noqa: ASYNC110  a metric has no event
            await asyncio.sleep(0.02)


async def test_what_is_under_way(start: Any) -> None:
    sim: Simulator = await start.simulator()
    gateway = await start(sim, {"alipayplus": {"max_in_flight": 2, "queue_timeout": "20s"}})
    assert value(await metrics(gateway), "gateway_alipayplus_max_in_flight", {}) == 2
    sim.alipayplus.script(HOLD, times=5)
    async with app(gateway) as a, asyncio.TaskGroup() as tasks:
        calls = [tasks.create_task(a.call()) for _ in range(5)]
        await grown_to(gateway, "gateway_in_flight_requests", {"route": "sdk"}, 5)
        await grown_to(gateway, "gateway_alipayplus_queue_length", {}, 3)
        await grown_to(gateway, "gateway_connections", {}, 5)
        while not all(call.done() for call in calls):
            sim.alipayplus.release()
            await asyncio.wait(calls, timeout=0.02)
    for name in ("gateway_in_flight_requests", "gateway_alipayplus_queue_length", "gateway_connections"):
        await grown_to(gateway, name, {}, 0)
    await moved(gateway, lambda: asyncio.sleep(0), ("gateway_event_loop_lag_seconds_count", {}, 1))
    assert await gateway.stop() == 0


async def test_upstreams(start: Any) -> None:
    sim: Simulator = await start.simulator()
    answers = {"error": b"HTTP/1.1 200 OK\r\nContent-Le", "invalid": b"no HTTP\r\n\r\n", "timeout": None}
    async with answering(answers) as ports:
        ports["unreachable"] = free_port()
        upstreams = {
            name: {"servers": f"http://127.0.0.1:{port}", "response_timeout": "300ms", "ejection": {"failures": 1, "max_share": 1.0}}
            for name, port in ports.items()
        }
        routes = [{"prefix": f"/{name}", "upstream": name, "session": "none"} for name in upstreams]
        gateway = await start(sim, {"api": {"upstreams": upstreams, "routes": routes}})
        async with app(gateway) as a:
            for name, status in (("error", "502"), ("invalid", "502"), ("timeout", "504"), ("unreachable", "502")):
                endpoint = {"upstream": name, "endpoint": f"127.0.0.1:{ports[name]}"}
                assert value(await metrics(gateway), "gateway_upstream_healthy", endpoint) == 1
                await moved(
                    gateway,
                    partial(a.ask, "POST", f"/{name}", data=b"x"),
                    request_row(status, f"/{name}"),
                    upstream_row(name, name),
                    ("gateway_upstream_ejections_total", {"upstream": name}, 1),
                )
                assert value(await metrics(gateway), "gateway_upstream_healthy", endpoint) == 0
        assert await gateway.stop() == 0


async def test_repeats(start: Any) -> None:
    sim: Simulator = await start.simulator()
    servers = [f"http://127.0.0.1:{free_port()}", f"http://127.0.0.1:{sim.ports.mpp}"]
    budget = {"retries": {"budget": 1.0}, "ejection": {"failures": 100}, "balance": "round_robin"}
    gateway = await start(sim, {"api": {"upstreams": {"wallet": {"servers": servers, **budget}}}})
    async with app(gateway) as a:

        async def twice() -> None:
            assert [await a.ask("GET", "/api/balance") for _ in range(2)] == [200, 200]

        rows = (
            ("gateway_upstream_retries_total", {"upstream": "wallet"}, 1),
            upstream_row("wallet", "unreachable"),
            phase_row("upstream", 2),
        )
        await moved(gateway, twice, *rows)
    assert await gateway.stop() == 0


@asynccontextmanager
async def answering(answers: dict[str, bytes | None]) -> AsyncIterator[dict[str, int]]:
    """Servers that answer any request with these bytes and close, or never (None); give their ports."""

    def server(answer: bytes | None) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            if answer is None:
                await reader.read()
            else:
                writer.write(answer)
            writer.close()

        return serve

    servers = {name: await asyncio.start_server(server(answer), "127.0.0.1", 0) for name, answer in answers.items()}
    try:
        yield {name: server.sockets[0].getsockname()[1] for name, server in servers.items()}
    finally:
        for each in servers.values():
            each.close()


def rejected_row(reason: str) -> Row:
    return "gateway_rejected_total", {"reason": reason}, 1


async def test_what_is_refused_before_it_is_routed(start: Any) -> None:
    sim: Simulator = await start.simulator()
    limits = {"header_timeout": "300ms", "body_idle_timeout": "300ms", "write_idle_timeout": "300ms", "connections": 3}
    gateway = await start(sim, {"server": {"limits": limits}, "sdk_proxy": {"max_body": "100B"}})
    head = f"POST {SDK} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nAuthorization: Bearer demo-token-anna\r\n"
    async with app(gateway) as a:
        for reason, sent, status, route in (
            ("bad_request", "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "400", "none"),
            ("bad_target", "GET /a/%2e%2e/b HTTP/1.1\r\nHost: a\r\n\r\n", "400", "none"),
            ("headers_too_large", f"GET / HTTP/1.1\r\nHost: a\r\nX: {'x' * 20_000}\r\n\r\n", "431", "none"),
            ("header_timeout", "GET / HTTP/1.1\r\nHost", "408", "none"),
            ("body_too_large", f"{head}Content-Length: 101\r\nConnection: close\r\n\r\n", "413", "sdk"),
            ("body_timeout", f"{head}Content-Length: 10\r\n\r\n{{", "408", "sdk"),
        ):
            asked = {"route": route, "status": status}
            await moved(gateway, partial(a.raw, sent.encode()), rejected_row(reason), ("gateway_requests_total", asked, 1))

        async def read_nothing() -> None:
            reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port, limit=1024)
            writer.write(b"GET /api/download?size=50000000 HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer demo-token-anna\r\n\r\n")
            await reader.readuntil(b"\r\n")
            await grown_to(gateway, "gateway_rejected_total", {"reason": "slow_reader"}, 1)
            writer.transport.abort()

        await moved(gateway, read_nothing, rejected_row("slow_reader"))
        await grown_to(gateway, "gateway_connections", {}, 0)

        async def one_too_many() -> None:
            streams = [await asyncio.open_connection("127.0.0.1", gateway.port) for _ in range(4)]
            await grown_to(gateway, "gateway_rejected_total", {"reason": "connections"}, 1)
            for _, writer in streams:
                writer.close()

        await moved(gateway, one_too_many, rejected_row("connections"))
    assert await gateway.stop() == 0


async def test_what_is_refused_before_HTTP(start: Any, tmp_path: Path) -> None:
    sim: Simulator = await start.simulator()
    pair = Authority(tmp_path, "authority").issue("localhost", "localhost", "127.0.0.1")
    for reason, settings in (("tls", tls(pair)), ("proxy_protocol", {"proxy_protocol": True, "trusted_proxies": ["127.0.0.1/32"]})):
        gateway = await start(sim, {"server": settings})
        async with app(gateway) as a:
            await moved(gateway, partial(a.raw, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"), rejected_row(reason))
        assert await gateway.stop() == 0


async def test_the_service_itself(start: Any, tmp_path: Path) -> None:
    sim: Simulator = await start.simulator()
    dead, write = os.pipe()
    os.close(dead)
    next_key, theirs = generate_private_key(), generate_private_key()
    write_private(tmp_path / "keys" / "mpp-2.pem", private_pem(next_key))
    (tmp_path / "keys" / "alipayplus-2.pem").write_bytes(public_pem(theirs))
    two = {"signing": {"private_keys": {"2": "keys/mpp-2.pem"}}, "verification": {"public_keys": {"2": "keys/alipayplus-2.pem"}}}
    began = time()
    gateway = await start(sim, {"server": {"workers": 2}, "alipayplus": two}, out=write)
    os.close(write)
    series = await metrics(gateway)
    assert value(series, "gateway_workers", {}) == 2
    assert value(series, "gateway_config_last_reload_successful", {}) == 1
    assert began <= value(series, "gateway_config_last_reload_success_timestamp_seconds", {}) <= time()
    assert value(series, "gateway_certificate_expiry_timestamp_seconds", {"file": str(sim.ca)}) > time()
    assert keys(series) == {
        ("signing", "1"): fingerprint(sim.keys.mpp),
        ("verification", "1"): fingerprint(sim.keys.alipayplus),
        ("verification", "2"): fingerprint(theirs),
    }
    [build] = [dict(labels) for (name, labels), found in series.items() if (name, found) == ("gateway_build_info", 1)]
    assert build.keys() == {"version", "python", "aiohttp"}
    async with app(gateway) as a:
        await moved(gateway, a.call, ("gateway_log_lines_dropped_total", {}, 1))

    async def kill() -> None:
        os.kill(workers(gateway.process.pid)[0], signal.SIGKILL)

    await moved(gateway, kill, ("gateway_worker_restarts_total", {}, 1), ("gateway_workers", {}, 0))
    await switch_key(gateway)
    series = await metrics(gateway)
    assert value(series, "gateway_config_last_reload_success_timestamp_seconds", {}) > began
    assert [version for use, version in keys(series) if use == "signing"] == ["2"]
    gateway.config.write_text("no configuration")
    gateway.process.send_signal(signal.SIGHUP)
    await grown_to(gateway, "gateway_config_last_reload_successful", {}, 0)
    assert await gateway.stop() == 0


async def switch_key(gateway: Process) -> None:
    """Sign with key version 2 from now on, and wait until no worker signs with another."""
    document = gateway.config.read_text()
    assert "key_version: '1'" in document
    gateway.config.write_text(document.replace("key_version: '1'", "key_version: '2'"))
    await until_said_times(gateway, "a former generation has ended", 1)


def keys(series: Series) -> dict[tuple[str, str], str]:
    told = [dict(labels) for (name, labels), found in series.items() if (name, found) == ("gateway_key_info", 1)]
    return {(labels["use"], labels["key_version"]): labels["fingerprint"] for labels in told}


def fingerprint(key: Any) -> str:
    return VerificationKey.of(key.public_key()).fingerprint


def test_no_row_of_the_table_is_left_out() -> None:
    here = Path(__file__).read_text()
    assert [name for name in METRICS if name.removesuffix("_bucket").removesuffix("_sum") not in here] == []
