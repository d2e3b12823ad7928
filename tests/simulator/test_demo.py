"""`gateway demo` as users run it."""

import asyncio
import os
import re
import signal
import socket
import sys
from asyncio.subprocess import PIPE, Process
from pathlib import Path

import aiohttp
import pytest

from gateway.simulator.configuration import Ports
from gateway.simulator.demo import DemoFailed, check_free


async def demo(port_base: int, temporary: Path, *arguments: str) -> Process:
    command = (sys.executable, "-m", "gateway", "demo", "--port-base", str(port_base), *arguments)
    return await asyncio.create_subprocess_exec(*command, stdout=PIPE, stderr=PIPE, env=os.environ | {"TMPDIR": str(temporary)})


def is_empty(directory: Path) -> bool:
    return not list(directory.iterdir())


async def line_with(process: Process, text: str) -> str:
    assert process.stdout is not None
    async for line in process.stdout:
        if text in line.decode():
            return line.decode()
    raise AssertionError(f"never said: {text}")


async def test_the_sample_goes_through_byte_for_byte_and_each_step_is_shown(tmp_path: Path, port_base: int) -> None:
    process = await demo(port_base, tmp_path, "--once")
    out, errors = await process.communicate()
    shown = out.decode()
    assert (process.returncode, errors) == (0, b""), shown
    for step in ("session", "sign", "Alipay\\+", "verify", "in all"):
        assert re.search(rf"^  {step} +[0-9.]+ ms   ", shown, re.MULTILINE), step
    assert shown.count("byte for byte the same") == 4
    assert "HTTP 200, SUCCESS (S)" in shown
    assert "Client-Id T_000000000000000001, Request-Time 20" in shown
    assert "RSA256, key version 1, signature " in shown
    assert "\x1b" not in shown
    assert is_empty(tmp_path)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_it_serves_until_a_signal_ends_it_cleanly(tmp_path: Path, port_base: int, number: signal.Signals) -> None:
    process = await demo(port_base, tmp_path)
    await line_with(process, "Ctrl-C ends it.")
    url = f"http://127.0.0.1:{port_base}/alipayplus/v1/sdkProxy"
    body = {"proxyRequestHeader": "any", "proxyRequestData": "text"}
    async with aiohttp.ClientSession() as client:
        async with client.post(url, json=body, headers={"Authorization": "Bearer demo-token-bob"}) as response:
            assert response.status == 200
        assert "POST 200 SUCCESS" in await line_with(process, "POST")
        async with client.get(f"http://127.0.0.1:{port_base + 1}/readyz") as response:
            assert response.status == 200
    process.send_signal(number)
    _, errors = await process.communicate()
    assert (process.returncode, errors) == (0, b"")
    check_free(Ports.from_base(port_base))
    assert is_empty(tmp_path)


async def test_a_taken_port_is_named_with_the_way_out(tmp_path: Path, port_base: int) -> None:
    with socket.create_server(("127.0.0.1", port_base + 1)):
        process = await demo(port_base, tmp_path)
        _, errors = await process.communicate()
    assert process.returncode == 1
    assert errors.decode().splitlines() == [
        f"gateway: cannot listen on 127.0.0.1:{port_base + 1}: address already in use",
        "--port-base N takes the ports from N to N+4 instead",
    ]


def test_every_taken_port_is_named(port_base: int) -> None:
    with socket.create_server(("127.0.0.1", port_base)), socket.create_server(("127.0.0.1", port_base + 4)):
        with pytest.raises(DemoFailed) as raised:
            check_free(Ports.from_base(port_base))
        assert all(f":{port}:" in str(raised.value) for port in (port_base, port_base + 4))
