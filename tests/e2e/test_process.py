"""The gateway as a process: started, asked with curl, stopped, and started wrongly."""

import asyncio
import json
import os
import re
import shutil
import signal
import socket
import sys
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateway.simulator import Behaviour
from tests.e2e.conftest import command

URL = "http://127.0.0.1:{}/alipayplus/v1/sdkProxy"
LOGIN = {"Authorization": "Bearer demo-token-anna"}
SAMPLES = Path(__file__).parents[1] / "contract"
SAMPLE = next(SAMPLES.rglob("app-request.json"))

needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="needs the package curl")


def string_texts(body: bytes, *names: str) -> list[bytes]:
    """Return the raw JSON text of these string members."""
    found = [re.search(rb'"%b"\s*:\s*("(?:[^"\\]|\\.)*")' % name.encode(), body) for name in names]
    return [match[1] for match in found if match]


async def post(port: int, body: bytes, **headers: str) -> tuple[int, dict[str, Any]]:
    sent = {"Content-Type": "application/json", **LOGIN, **headers}
    async with aiohttp.ClientSession() as http, http.post(URL.format(port), data=body, headers=sent) as answer:
        return answer.status, await answer.json()


async def get(port: int, path: str, **headers: str) -> tuple[int, str]:
    async with aiohttp.ClientSession() as http, http.get(f"http://127.0.0.1:{port}{path}", headers=headers) as answer:
        return answer.status, await answer.text()


@needs_curl
async def test_the_sample_of_the_specification_goes_through_byte_for_byte_by_curl(start: Any) -> None:
    sim = await start.simulator()
    gateway = await start(sim)
    curl = await asyncio.create_subprocess_exec(
        *("curl", "-sS", "--fail-with-body", "-H", "Content-Type: application/json", "-H", "Authorization: Bearer demo-token-anna"),
        *("--data-binary", f"@{SAMPLE}", URL.format(gateway.port)),
        stdout=asyncio.subprocess.PIPE,
    )
    answer, _ = await curl.communicate()
    assert curl.returncode == 0
    sent = string_texts(SAMPLE.read_bytes(), "proxyRequestHeader", "proxyRequestData")
    [received] = sim.alipayplus.received
    assert len(sent) == 2
    assert string_texts(received.body, "sdkRequestHeader", "sdkRequestData") == sent
    assert received.verified
    assert json.loads(answer)["isSuccess"] is True
    back = string_texts(answer, "proxyResponseHeader", "proxyResponseData")
    sample = (SAMPLE.parent / "alipayplus-response.json").read_bytes()
    assert back == string_texts(sample, "sdkResponseHeader", "sdkResponseData")
    assert await gateway.stop() == 0


async def test_probes_and_metrics_are_on_the_admin_listener_only(start: Any) -> None:
    sim = await start.simulator()
    gateway = await start(sim)
    await post(gateway.port, b'{"proxyRequestHeader":"","proxyRequestData":""}')
    for path in ("/livez", "/readyz", "/startupz"):
        assert await get(gateway.admin, path) == (200, '{"status":"ok","reasons":[]}')
        assert (await get(gateway.port, path))[0] == 404
    status, text = await get(gateway.admin, "/metrics")
    assert status == 200
    assert 'gateway_requests_total{method="POST",route="sdk",status="200"} 1.0' in text
    assert "# EOF" in (await get(gateway.admin, "/metrics", Accept="application/openmetrics-text"))[1]
    assert (await get(gateway.port, "/metrics"))[0] == 404
    async with aiohttp.ClientSession() as http, http.post(f"http://127.0.0.1:{gateway.admin}/metrics") as answer:
        assert answer.status == 405


async def test_the_status_shows_routes_pools_and_workers(start: Any) -> None:
    sim = await start.simulator()
    api = {
        "upstreams": {"wallet": {"servers": [f"http://127.0.0.1:{sim.ports.mpp}"]}},
        "routes": [{"prefix": "/api", "upstream": "wallet", "session": "none", "methods": ["GET"]}],
    }
    gateway = await start(sim, {"api": api})
    status, text = await get(gateway.admin, "/status.json")
    shown = json.loads(text)
    assert (status, shown["ready"], shown["sdk_prefix"]) == (200, True, "/alipayplus")
    assert shown["in_force"]["routes"] == [
        {"prefix": "/api", "upstream": "wallet", "host": [], "methods": ["GET"], "session": "none", "strip_prefix": False}
    ]
    [worker] = shown["workers"]
    assert worker["serves"] is True
    assert worker["told"]["in_flight"] == 0
    assert [(pool["name"], [endpoint["name"] for endpoint in pool["endpoints"]]) for pool in shown["pools"]] == [
        ("alipayplus", [f"127.0.0.1:{sim.ports.alipayplus}"]),
        ("wallet", [f"127.0.0.1:{sim.ports.mpp}"]),
    ]
    assert (await get(gateway.port, "/status.json"))[0] == 404


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_F1_a_signal_ends_the_process_after_what_is_in_flight(start: Any, number: int) -> None:
    sim = await start.simulator()
    gateway = await start(sim)
    sim.alipayplus.script(Behaviour(hold=True))
    waiting = asyncio.create_task(post(gateway.port, b'{"proxyRequestHeader":"","proxyRequestData":""}'))
    await sim.alipayplus.until_received(1)
    gateway.process.send_signal(number)
    await gateway.until_said(b'"draining"')
    assert await get(gateway.admin, "/readyz") == (503, '{"status":"unavailable","reasons":["draining"]}')
    assert (await get(gateway.admin, "/livez"))[0] == 200
    with pytest.raises(OSError, match="Connect call failed"):
        await asyncio.open_connection("127.0.0.1", gateway.port)
    sim.alipayplus.release()
    status, body = await waiting
    assert (status, body["resultCode"]) == (200, "SUCCESS")
    assert await gateway.ended() == 0
    assert [line["result_code"] for line in gateway.lines()] == ["SUCCESS"]


async def test_F1_what_is_left_at_the_end_of_the_drain_is_logged_as_unknown(start: Any) -> None:
    sim = await start.simulator()
    gateway = await start(sim, {"server": {"drain_timeout": "1s"}})
    sim.alipayplus.script(Behaviour(hold=True))
    waiting = asyncio.create_task(post(gateway.port, b'{"proxyRequestHeader":"","proxyRequestData":""}'))
    await sim.alipayplus.until_received(1)
    assert await gateway.stop() == 0
    with pytest.raises(aiohttp.ClientError):
        await waiting
    [line] = gateway.lines()
    assert (line["sent"], line["result_status"], line["reason"]) == ("unknown", "U", "shutdown")


async def test_F1_a_second_signal_ends_it_at_once(start: Any) -> None:
    sim = await start.simulator()
    gateway = await start(sim)
    sim.alipayplus.script(Behaviour(hold=True))
    waiting = asyncio.create_task(post(gateway.port, b'{"proxyRequestHeader":"","proxyRequestData":""}'))
    await sim.alipayplus.until_received(1)
    gateway.process.send_signal(signal.SIGTERM)
    await gateway.until_said(b'"draining"')
    gateway.process.send_signal(signal.SIGTERM)
    assert await gateway.ended() != 0
    with pytest.raises(aiohttp.ClientError):
        await waiting
    assert [b'"ending at once: told to a second time"' in gateway.err, b'"requests are cut off"' in gateway.err] == [True, True]


async def test_a_kept_connection_that_is_idle_when_the_drain_begins_is_served_once_more(start: Any) -> None:
    sim = await start.simulator()
    gateway = await start(sim)
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    request = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    writer.write(request)
    await reader.readuntil(b'"}')
    gateway.process.send_signal(signal.SIGTERM)
    await gateway.until_said(b'"draining"')
    writer.write(request)
    assert b"Connection: close" in await reader.read()
    writer.close()
    assert await gateway.ended() == 0


async def test_E1_a_port_in_use_is_named_and_nothing_is_half_started(start: Any) -> None:
    sim = await start.simulator()
    with socket.create_server(("127.0.0.1", sim.ports.admin)):
        gateway = await start.begin(sim)
        assert await gateway.ended() == 1
    assert f"127.0.0.1:{sim.ports.admin}: in use already".encode() in gateway.err
    assert b'"serving"' not in gateway.err


async def test_E1_a_faulty_configuration_ends_with_3_and_all_its_faults(start: Any) -> None:
    sim = await start.simulator()
    gateway = await start.begin(sim, {"sdk_proxy": {"max_bdy": "1MiB"}, "alipayplus": {"timeout": "9s", "client_id": None}})
    assert await gateway.ended() == 3
    text = gateway.err.decode()
    assert "sdk_proxy.max_bdy" in text
    assert "max_body" in text
    assert "alipayplus.timeout" in text
    assert "alipayplus.client_id" in text
    assert "Traceback" not in text


async def test_E2_a_key_file_that_is_not_there_is_a_fault_of_the_configuration(start: Any) -> None:
    sim = await start.simulator()
    gateway = await start.begin(sim, {"alipayplus": {"signing": {"private_keys": {"1": "none.pem"}}}})
    assert await gateway.ended() == 3
    assert 'alipayplus.signing.private_keys."1"' in gateway.err.decode()


async def test_usage_errors_end_with_2(run_gateway: Any) -> None:
    for arguments in ([], ["run"], ["nonsense"], ["run", "-c"]):
        code, _, err = await run_gateway(*arguments)
        assert code == 2
        assert "usage: gateway" in err


async def test_the_version_is_told(run_gateway: Any) -> None:
    code, out, _ = await run_gateway("--version")
    assert code == 0
    assert re.fullmatch(r"gateway \d+\.\d+\.\d+\S*\n", out)


@pytest.mark.parametrize("words", ["schema", "--version"])
@pytest.mark.parametrize(
    ("redirection", "reason"), [(">/dev/full", "No space left on device"), (">&-", "Bad file descriptor"), ("", "Broken pipe")]
)
async def test_F5_output_that_nobody_takes_is_one_clear_line(words: str, redirection: str, reason: str) -> None:
    read, write = os.pipe()
    os.close(read)
    process = await command(*words.split(), stdin=asyncio.subprocess.DEVNULL, out=write, shell=f'exec "$@" {redirection}')
    os.close(write)
    _, err = await asyncio.wait_for(process.communicate(), 60)
    assert (process.returncode, err.decode()) == (1, f"gateway: standard output: {reason}\n")


async def test_check_config_and_schema_as_commands(start: Any, run_gateway: Any) -> None:
    sim = await start.simulator()
    path = str(sim.write_configuration({"telemetry": {"log": {"customer_hash_key": "canary-secret"}}}))
    code, out, _ = await run_gateway("check", "-c", path)
    assert code == 0
    assert "12s" in out
    code, out, _ = await run_gateway("config", "-c", path)
    assert code == 0
    assert "***" in out
    assert "canary-secret" not in out
    code, out, _ = await run_gateway("schema")
    assert (code, json.loads(out)["type"]) == (0, "object")
    code, _, err = await run_gateway("check", "-c", str(start.directory / "none.yaml"))
    assert code == 3
    assert "none.yaml" in err


async def test_gateway_call_sends_a_request_as_the_app_would(start: Any, run_gateway: Any) -> None:
    sim = await start.simulator()
    gateway = await start(sim)
    code, out, _ = await run_gateway(
        "call", f"http://127.0.0.1:{gateway.port}", "--header", "Authorization: Bearer demo-token-anna", str(SAMPLE)
    )
    assert code == 0
    assert '"isSuccess":true' in out.replace(" ", "")
    code, out, _ = await run_gateway("call", f"http://127.0.0.1:{gateway.port}", str(SAMPLE))
    assert code == 1
    assert "SESSION_REQUIRED" in out


async def test_check_connect_tries_each_peer_and_sends_nothing_signed(start: Any, run_gateway: Any) -> None:
    sim = await start.simulator()
    config = str(sim.write_configuration())
    code, out, _ = await run_gateway("check", "--connect", "-c", config)
    assert code == 0
    assert re.search(r"session.forward.url .*: reached, ", out)
    assert re.search(r"alipayplus.host .*: reached by TLS, ", out)
    assert [received.method for received in (*sim.alipayplus.received, *sim.auth.received)] == ["HEAD", "HEAD"]
    assert sim.alipayplus.received[0].get("signature") is None
    config = str(sim.write_configuration({"alipayplus": {"tls": None}}))
    code, out, _ = await run_gateway("check", "--connect", "-c", config)
    assert code == 1
    assert "certificate not accepted" in out


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("add", ["interrupted", "lambda commands: commands.add_parser('run').set_defaults(func=interrupted)"])
async def test_a_ctrl_c_that_a_command_does_not_see_to_ends_it_without_a_traceback(add: str) -> None:
    script = f"import signal; from gateway import cli; cli.COMMANDS['run'] = {add}; cli.main(['run'])"
    script = script.replace("interrupted", "lambda _: signal.raise_signal(signal.SIGINT)")
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", script, stderr=asyncio.subprocess.PIPE)
    _, err = await process.communicate()
    assert (process.returncode, err) == (-signal.SIGINT, b"")


@pytest.mark.parametrize(
    ("before", "within"), [("default_int_handler", signal.SIG_DFL), ("SIG_IGN", signal.SIG_IGN)], ids=["foreground", "background"]
)
async def test_a_ctrl_c_while_a_command_is_imported_cannot_be_lost(before: str, within: signal.Handlers) -> None:
    script = (
        f"import signal; signal.signal(signal.SIGINT, signal.{before}); "
        "from gateway import cli; cli.COMMANDS['run'] = lambda _: print(signal.getsignal(signal.SIGINT)); cli.main(['run'])"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    out, _ = await process.communicate()
    assert out.decode().strip() == str(within)
