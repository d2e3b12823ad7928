"""What clients say is no label (faults G10), and no client gets the identity of another (G13)."""

import asyncio
import json
import random
from string import ascii_uppercase
from typing import Any

import aiohttp

from gateway.simulator import Behaviour

APP = {"Content-Type": "application/json", "Authorization": "Bearer demo-token-anna"}
PATH = "/alipayplus/v1/sdkProxy"
HEAD = f"POST {PATH} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
URL = "http://127.0.0.1:{}" + PATH


async def post(http: aiohttp.ClientSession, port: int, data: bytes) -> None:
    async with http.post(URL.format(port), data=data, headers=APP) as answer:
        await answer.read()


async def test_G10_nothing_of_a_client_is_a_label(start: Any) -> None:
    """100,000 requests with random paths and methods, and made-up scenes, codes and methods, leave the number of series as it was."""
    sim = await start.simulator()
    gateway = await start(sim, {"telemetry": {"log": {"access": False}}})
    generator = random.Random(7)  # the same in each run
    methods = ["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "TRACE"]
    start_line = b"HTTP/1.1 "

    async def series() -> int:
        async with aiohttp.ClientSession() as http, http.get(f"http://127.0.0.1:{gateway.admin}/metrics") as answer:
            return sum(not line.startswith("#") for line in (await answer.text()).splitlines())

    async def requests(count: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        for _ in range(count // 500):
            paths = (generator.choice(["/", "/alipayplus/", "/api/"]) + f"{generator.getrandbits(64):x}" for _ in range(500))
            writer.write("".join(f"{generator.choice(methods)} {path} HTTP/1.1\r\nHost: a\r\n\r\n" for path in paths).encode())
            answers, tail = 0, b""
            while answers < 500:
                data = await reader.read(1 << 20)
                assert data, f"the connection has ended after {answers} answers"
                data = tail + data
                answers += data.count(start_line)
                tail = data[1 - len(start_line) :]  # one read may end within the next one
        writer.close()

    async def names(count: int) -> None:
        """Make up scenes, codes of Alipay+ and methods."""
        async with aiohttp.ClientSession() as http:
            for number in range(count):
                name = "".join(generator.choices(ascii_uppercase, k=16))
                sim.alipayplus.script(Behaviour(code=name, status="SFU"[number % 3]))
                await post(http, gateway.port, json.dumps({"scene": name, "proxyRequestHeader": "", "proxyRequestData": ""}).encode())
                reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
                path = ("/", "/alipayplus/", "/api/", PATH)[number % 4] + name
                writer.write(f"{name} {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
                assert (await reader.read()).startswith(start_line)
                writer.close()

    await requests(2_000)
    await names(12)
    before = await series()
    await requests(100_000)
    await names(200)
    assert await series() == before
    assert await gateway.stop() == 0


async def test_G13_two_users_on_one_connection_are_never_mixed_up(start: Any) -> None:
    sim = await start.simulator()
    gateway = await start(sim, {"session": {"cache": {"ttl": "60s", "negative_ttl": "60s"}}})
    tokens = ["demo-token-a", "demo-token-A", "demo-token-a ", "demo-token-aa", " demo-token-a", "demo-token-b", "demo-token-a"]
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    for token in tokens:
        data = json.dumps({"proxyRequestHeader": token.strip(), "proxyRequestData": ""}).encode()
        head = f"{HEAD}Authorization: Bearer {token}\r\nContent-Length: {len(data)}\r\n\r\n"
        writer.write(head.encode() + data)
        length = int((await reader.readuntil(b"\r\n\r\n")).split(b"Content-Length: ")[1].split(b"\r\n")[0])
        await reader.readexactly(length)
    writer.close()
    for received in sim.alipayplus.received:
        sent = json.loads(received.body)
        assert sent["customerId"] == sent["sdkRequestHeader"].replace("demo-token-", "customer-")
    assert sim.alipayplus.count >= 5
