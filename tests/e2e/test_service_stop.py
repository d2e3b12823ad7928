"""How a running gateway stops, what it tells systemd, and the commands by which it is told."""

import asyncio
import os
import signal
import socket
from contextlib import AsyncExitStack
from typing import Any

import aiohttp
import pytest

from gateway.simulator import Behaviour, Simulator
from tests.e2e.conftest import Process
from tests.e2e.load import PATH, Load, echo
from tests.e2e.watching import metrics, probe, said, total, until_gone, until_said_times, workers

SOCKETS = 100


async def post(gateway: Process) -> int:
    body, login = {"proxyRequestHeader": "", "proxyRequestData": ""}, {"Authorization": "Bearer demo-token-anna"}
    async with aiohttp.ClientSession() as http, http.post(f"http://127.0.0.1:{gateway.port}{PATH}", json=body, headers=login) as answer:
        return answer.status


def with_api(sim: Simulator) -> dict[str, Any]:
    return {
        "api": {
            "upstreams": {"wallet": {"servers": [f"http://127.0.0.1:{sim.ports.mpp}"]}},
            "routes": [{"prefix": "/", "upstream": "wallet", "session": "none"}],
        }
    }


async def test_F1_SIGTERM_under_load_answers_every_request_that_was_accepted(start: Any) -> None:
    sim = await start.simulator()
    echo(sim)
    gateway = await start(sim, {"server": {"workers": 2, "accept_grace": "500ms"}})
    async with Load(gateway.port) as load:
        gateway.process.send_signal(signal.SIGTERM)
        await load.until(lambda: len(load.failures) > 0)
    assert [failure for failure in load.failures if "Connect call failed" not in failure] == []
    assert await gateway.ended() == 0
    assert sim.alipayplus.count == load.answered == len(gateway.lines())
    assert all(line["status"] == 200 for line in gateway.lines())


async def test_F1_within_the_grace_it_is_not_ready_but_serves_and_a_second_signal_ends_it_at_once(start: Any) -> None:
    sim = await start.simulator()
    gateway = await start(sim, {"server": {"accept_grace": "60s"}})
    pids = workers(gateway.process.pid)
    gateway.process.send_signal(signal.SIGTERM)
    await until_said_times(gateway, "stopping", 1)
    assert await probe(gateway, "/readyz") == (503, ["draining"])
    assert await probe(gateway, "/livez") == (200, [])
    assert await post(gateway) == 200
    gateway.process.send_signal(signal.SIGTERM)
    assert await gateway.ended() == 1
    await until_gone(pids)


async def test_F1_while_it_drains_the_status_is_shown(start: Any) -> None:
    sim = await start.simulator()
    gateway = await start(sim)
    sim.alipayplus.script(Behaviour(hold=True))
    asked = asyncio.create_task(post(gateway))
    await sim.alipayplus.until_received(1)
    gateway.process.send_signal(signal.SIGINT)
    await until_said_times(gateway, "draining", 1)
    async with aiohttp.ClientSession(f"http://127.0.0.1:{gateway.admin}") as http:
        async with http.get("/status.json") as answer:
            shown = await answer.json()
        async with http.get("/") as answer:
            assert (answer.status, "Not ready: draining" in await answer.text()) == (200, True)
    assert (shown["state"], shown["listen"], shown["workers"][0]["told"]["in_flight"]) == (
        "not ready",
        [f"127.0.0.1:{gateway.port}"],
        1,
    )
    sim.alipayplus.release()
    assert await asked == 200
    assert await gateway.ended() == 0


async def test_A12_a_call_whose_app_has_left_is_finished_while_it_drains(start: Any) -> None:
    sim = await start.simulator()
    gateway = await start(sim)
    sim.alipayplus.script(Behaviour(hold=True))
    asked = asyncio.create_task(post(gateway))
    await sim.alipayplus.until_received(1)
    asked.cancel()
    async with asyncio.timeout(60):
        while total(await metrics(gateway), "gateway_connections"):
            pass
    gateway.process.send_signal(signal.SIGTERM)
    await until_said_times(gateway, "draining", 1)
    sim.alipayplus.release()
    assert await gateway.ended() == 0
    [line] = gateway.lines()
    assert (line["sent"], line["result_code"], line["reason"]) == ("answered", "SUCCESS", "client_abort")


async def test_F1_SIGINT_stops_without_the_grace(start: Any) -> None:
    sim = await start.simulator()
    gateway = await start(sim, {"server": {"accept_grace": "60s"}})
    assert await gateway.stop(signal.SIGINT) == 0


async def test_F1_signals_that_go_to_all_processes_stop_it_as_one_to_the_supervisor_does(start: Any) -> None:
    sim = await start.simulator()
    gateway = await start(sim, {"server": {"workers": 2}})
    for pid in workers(gateway.process.pid):
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            os.kill(pid, number)
    assert await post(gateway) == 200
    assert await gateway.stop() == 0
    assert said(gateway, "a worker has ended") == []


async def test_websockets_live_through_a_reload_and_get_1001_when_it_stops(start: Any) -> None:
    sim = await start.simulator()
    gateway = await start(sim, with_api(sim))
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http, AsyncExitStack() as stack:
        url = f"http://127.0.0.1:{gateway.port}/api/socket"
        connected = [await stack.enter_async_context(http.ws_connect(url)) for _ in range(SOCKETS)]
        gateway.process.send_signal(signal.SIGHUP)
        await until_said_times(gateway, "reloaded", 1)
        for number, websocket in enumerate(connected):
            await websocket.send_str(str(number))
            assert await websocket.receive_str(timeout=20) == str(number)
        gateway.process.send_signal(signal.SIGTERM)
        for websocket in connected:
            message = await websocket.receive(timeout=20)
            assert (message.type, message.data) == (aiohttp.WSMsgType.CLOSE, 1001)
    assert await gateway.ended() == 0


async def test_a_websocket_gets_1001_at_once_when_it_stops(start: Any) -> None:
    sim = await start.simulator()
    gateway = await start(sim, with_api(sim))
    async with aiohttp.ClientSession() as http, http.ws_connect(f"http://127.0.0.1:{gateway.port}/api/socket") as websocket:
        gateway.process.send_signal(signal.SIGTERM)
        message = await websocket.receive(timeout=20)
        assert (message.type, message.data) == (aiohttp.WSMsgType.CLOSE, 1001)
    assert await gateway.ended() == 0


async def test_a_websocket_gets_1001_at_the_end_of_the_drain_after_a_reload(start: Any) -> None:
    sim = await start.simulator()
    gateway = await start(sim, {"server": {"drain_timeout": "1s"}, **with_api(sim)})
    async with aiohttp.ClientSession() as http, http.ws_connect(f"http://127.0.0.1:{gateway.port}/api/socket") as websocket:
        gateway.process.send_signal(signal.SIGHUP)
        message = await websocket.receive(timeout=20)
        assert (message.type, message.data) == (aiohttp.WSMsgType.CLOSE, 1001)
        await until_said_times(gateway, "a former generation has ended", 1)
    assert await gateway.stop() == 0


async def test_F1_a_connection_whose_answer_a_drain_finds_under_way_may_be_used_once_more(start: Any) -> None:
    """Its client has been told nothing of an end, so the next request may be on the way."""
    go_on, request = asyncio.Event(), b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(2):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nh")
            await go_on.wait()
            writer.write(b"i")
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as upstream:
        wallet = {"servers": [f"http://127.0.0.1:{upstream.sockets[0].getsockname()[1]}"]}
        api = {"upstreams": {"wallet": wallet}, "routes": [{"prefix": "/", "upstream": "wallet", "session": "none"}]}
        gateway = await start(await start.simulator(), {"server": {"accept_grace": "0s"}, "api": api})
        (idle, idle_writer), (reader, writer) = [await asyncio.open_connection("127.0.0.1", gateway.port) for _ in range(2)]
        writer.write(request)
        assert (await reader.readuntil(b"\r\n\r\nh")).startswith(b"HTTP/1.1 200 ")
        gateway.process.send_signal(signal.SIGTERM)
        assert await idle.read() == b""  # so the grace for those that were idle is over
        go_on.set()
        assert await reader.readexactly(1) == b"i"
        writer.write(request)
        assert (await reader.read()).endswith(b"\r\nConnection: close\r\n\r\nhi")
        assert await gateway.ended() == 0
        for each in (idle_writer, writer):
            each.close()


async def another(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer as some other program would."""
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\n<html>")
    writer.close()


async def test_the_commands_reload_healthcheck_and_stop(start: Any, run_gateway: Any) -> None:
    sim = await start.simulator()
    gateway = await start(sim, {"server": {"pid_file": "gateway.pid", "accept_grace": "0s"}})
    file, path = start.directory / "gateway.pid", str(gateway.config)
    assert file.read_text() == f"{gateway.process.pid}\n"
    assert await run_gateway("healthcheck", "-c", path) == (0, "", "")
    assert await run_gateway("reload", "-c", path) == (0, "", "")
    await until_said_times(gateway, "reloaded", 1)
    apart = {"server": {"pid_file": "gateway.pid", "listen": "127.0.0.1:0"}, "admin": {"listen": "127.0.0.1:0"}}
    code, _, err = await run_gateway("run", "-c", str(sim.write_configuration(apart, name="second.yaml")))
    assert code == 1
    assert "is held by a running gateway" in err
    assert file.read_text() == f"{gateway.process.pid}\n"
    assert await run_gateway("stop", "-c", path) == (0, "", "")
    assert await gateway.ended() == 0
    assert not file.exists()
    async with await asyncio.start_server(another, "127.0.0.1", sim.ports.admin):
        code, _, err = await run_gateway("healthcheck", "-c", path)
        assert (code, err) == (1, f"gateway: 127.0.0.1:{sim.ports.admin} is not the operators' listener of a gateway: HTTP status 200\n")
    for name, text in (("reload", "no gateway is running"), ("stop", "no gateway is running"), ("healthcheck", "does not answer")):
        code, _, err = await run_gateway(name, "-c", path)
        assert code == 1
        assert text in err


async def test_the_commands_on_a_broken_file(start: Any, run_gateway: Any) -> None:
    sim = await start.simulator()
    gateway = await start(sim, {"server": {"pid_file": "gateway.pid", "accept_grace": "0s"}})
    path = str(gateway.config)
    gateway.config.write_text(gateway.config.read_text().replace("client_id", "clint_id"))
    code, _, err = await run_gateway("reload", "-c", path)
    assert (code, "clint_id" in err) == (3, True)
    assert await run_gateway("healthcheck", "-c", path) == (0, "", "")
    assert await run_gateway("stop", "-c", path) == (0, "", "")
    assert await gateway.ended() == 0
    gateway.config.write_text("server: [")
    assert (await run_gateway("stop", "-c", path))[0] == 3
    gateway.config.write_text("server: {}")
    code, _, err = await run_gateway("stop", "-c", path)
    assert (code, err) == (
        3,
        "gateway: server.pid_file does not say where the running gateway keeps its process id: set it, or signal the process yourself\n",
    )


@pytest.fixture
def systemd(tmp_path: Any) -> Any:
    """What systemd listens on; `await systemd(text)` gives messages until one has the text."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    sock.bind(str(tmp_path / "notify"))
    sock.setblocking(False)

    async def until(text: str) -> list[str]:
        loop, came = asyncio.get_running_loop(), [""]
        while text not in came[-1]:
            came.append((await asyncio.wait_for(loop.sock_recv(sock, 4096), 30)).decode())
        return came[1:]

    yield until
    sock.close()


async def test_systemd_is_told_how_the_service_is(start: Any, systemd: Any) -> None:
    sim = await start.simulator()
    environ = {"NOTIFY_SOCKET": str(start.directory / "notify"), "WATCHDOG_USEC": "2000000"}
    gateway = await start(sim, environ=environ)
    assert await systemd("READY=1") == ["READY=1\nSTATUS=serving with 1 workers, generation 1"]
    assert await systemd("WATCHDOG=1") == ["WATCHDOG=1"]
    gateway.process.send_signal(signal.SIGHUP)
    [reloading] = [message for message in await systemd("RELOADING=1") if "WATCHDOG" not in message]
    [microseconds] = [line for line in reloading.splitlines() if line.startswith("MONOTONIC_USEC=")]
    assert int(microseconds.partition("=")[2]) > 0
    assert "STATUS=serving with 1 workers, generation 2" in (await systemd("READY=1"))[-1]
    gateway.process.send_signal(signal.SIGTERM)
    assert "STOPPING=1" in (await systemd("STOPPING=1"))[-1]
    assert await gateway.ended() == 0


@pytest.mark.parametrize("closed", ["2>&-", "<&- >&- 2>&-"], ids=["F5-standard-error", "F5-all"])
async def test_F5_it_serves_where_standard_streams_are_closed(start: Any, systemd: Any, closed: str) -> None:
    sim = await start.simulator()
    echo(sim)
    environ = {"NOTIFY_SOCKET": str(start.directory / "notify")}
    gateway = await start.begin(sim, {"server": {"workers": 2}}, environ=environ, shell=f'exec "$@" {closed}')
    assert await systemd("READY=1") == ["READY=1\nSTATUS=serving with 2 workers, generation 1"]
    async with Load(gateway.port, clients=2) as load:
        await load.more(20)
    assert load.failures == []
    assert total(await metrics(gateway), "gateway_worker_restarts_total") == 0
    assert await gateway.stop() == 0


async def test_systemds_watchdog_is_fed_during_a_drain(start: Any, systemd: Any) -> None:
    sim = await start.simulator()
    environ = {"NOTIFY_SOCKET": str(start.directory / "notify"), "WATCHDOG_USEC": "1000000"}
    gateway = await start(sim, environ=environ)
    sim.alipayplus.script(Behaviour(hold=True))
    waiting = asyncio.create_task(post(gateway))
    await sim.alipayplus.until_received(1)
    gateway.process.send_signal(signal.SIGTERM)
    await gateway.until_said(b'"draining"')
    await systemd("STOPPING=1")
    for _ in range(3):
        assert await systemd("WATCHDOG=1") == ["WATCHDOG=1"]
    sim.alipayplus.release()
    assert await waiting == 200
    assert await gateway.ended() == 0
