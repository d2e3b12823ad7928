"""What a client or a peer says is in no log line, metric, admin page or error answer (faults G9), and is no label (G10)."""

import asyncio
import json
import random
from typing import Any

import aiohttp

from gateway.simulator import Behaviour, Login

CANARY = "canary7f3a"
PATH = "/alipayplus/v1/sdkProxy"
HEAD = f"POST {PATH} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
URL = "http://127.0.0.1:{}" + PATH
FAULTS: list[dict[str, Any]] = [
    {},
    {"message": CANARY},
    {"code": "PROCESS_FAIL", "message": CANARY},
    {"code": "INVALID_CLIENT", "signed": False, "message": CANARY},
    {"tampered": True, "message": CANARY},
    {"key_version": CANARY},
    {"client_id": CANARY},
    {"omit": ("signature",), "response_time": CANARY},
    {"http_status": 500, "text": CANARY},
    {"http_status": 302, "headers": (("Location", f"http://{CANARY}/"),)},
    {"text": f"<html>{CANARY}</html>", "signed": False},
    {"content": "not_json", "text": CANARY},
    {"drop": "in_body"},
    {"framing": "truncated"},
    {"header": CANARY, "data": CANARY},
]


def body(**extra: str) -> bytes:
    return json.dumps({"scene": CANARY, "proxyRequestHeader": CANARY, "proxyRequestData": CANARY, **extra}).encode()


async def post(http: aiohttp.ClientSession, port: int, data: bytes, **headers: str) -> bytes:
    sent = {
        "Content-Type": "application/json",
        "Authorization": f"Bearer demo-token-{CANARY}",
        "X-Other": CANARY,
        "Cookie": f"a={CANARY}",
        **headers,
    }
    async with http.post(URL.format(port) + f"?q={CANARY}", data=data, headers=sent) as answer:
        return await answer.read() if answer.status != 200 else b""


async def raw(port: int, data: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(data)
    try:
        return await asyncio.wait_for(reader.read(), 20)
    finally:
        writer.close()


async def test_G9_canaries_in_every_input_come_out_nowhere(start: Any, run_gateway: Any) -> None:
    sim = await start.simulator()
    changes = {"telemetry": {"log": {"level": "debug", "customer_hash_key": CANARY}}, "server": {"limits": {"header_timeout": "500ms"}}}
    gateway = await start(sim, changes)
    said: list[bytes] = []
    async with aiohttp.ClientSession() as http:
        for fault in FAULTS:
            sim.alipayplus.script(Behaviour(**fault))
            answer = await post(http, gateway.port, body())
            if "message" not in fault:  # a message that was signed, or may be unsigned, is passed on to the app
                said.append(answer)
        for login in (
            {"status": 401, "text": CANARY},
            {"status": 500, "text": CANARY},
            {"status": 200, "text": CANARY},
            {"customer_id": CANARY * 9},
        ):
            sim.auth.script(Login(**login))
            said.append(await post(http, gateway.port, body()))
        said.append(await post(http, gateway.port, body(customerId=CANARY)))
        said.append(await post(http, gateway.port, f"{{{CANARY}".encode()))
        said.append(await post(http, gateway.port, body(), **{"Content-Type": f"text/{CANARY}"}))
        said.append(await post(http, gateway.port, body(), **{"Content-Encoding": CANARY}))
        async with http.get(f"http://127.0.0.1:{gateway.admin}/metrics") as metrics:
            said.append(await metrics.read())
        async with http.get(f"http://127.0.0.1:{gateway.admin}/{CANARY}") as page:
            said.append((await page.read()).replace(CANARY.encode(), b"") if page.status == 404 else await page.read())
    said.append(await raw(gateway.port, f"GET / HTTP/1.1\r\nHost: a\r\nX: {CANARY}\x00\r\n\r\n".encode()))
    said.append(await raw(gateway.port, f"{CANARY} {PATH} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode()))
    said.append(await raw(gateway.port, f"{CANARY}\r\n\r\n".encode()))
    said.append(await raw(gateway.port, f"GET / HTTP/1.1\r\n{CANARY}: {CANARY}\r\n{CANARY} x\r\n\r\n".encode()))
    said.append(await raw(gateway.port, f"GET / HTTP/1.1\r\nHost: a\r\nX: {CANARY * 4000}\r\n\r\n".encode()))
    said.append(await raw(gateway.port, f"GET /{PATH} HTTP/1.1\r\nX: {CANARY}".encode()))
    code, out, err = await run_gateway("config", "-c", str(gateway.config))
    assert code == 0
    said += [out.encode(), err.encode()]
    assert await gateway.stop() == 0
    assert len(gateway.lines()) == len(FAULTS) + 8 + 6
    for text in (*said, bytes(gateway.out), bytes(gateway.err)):
        assert CANARY.encode() not in text
    assert b"Traceback" not in gateway.err


async def test_G10_nothing_of_a_client_is_a_label(start: Any) -> None:
    """100,000 requests with random paths, methods and scenes leave the number of series as it was."""
    sim = await start.simulator()
    gateway = await start(sim, {"telemetry": {"log": {"access": False}}})
    generator = random.Random(7)  # the same in each run
    methods = ["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "TRACE"]

    async def series() -> int:
        async with aiohttp.ClientSession() as http, http.get(f"http://127.0.0.1:{gateway.admin}/metrics") as answer:
            return sum(not line.startswith("#") for line in (await answer.text()).splitlines())

    async def requests(count: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        for _ in range(count // 500):
            paths = (generator.choice(["/", "/alipayplus/"]) + f"{generator.getrandbits(64):x}" for _ in range(500))
            writer.write("".join(f"{generator.choice(methods)} {path} HTTP/1.1\r\nHost: a\r\n\r\n" for path in paths).encode())
            answers = 0
            while answers < 500:
                answers += (await reader.read(1 << 20)).count(b"HTTP/1.1 ")
        writer.close()

    async def scenes(count: int) -> None:
        async with aiohttp.ClientSession() as http:
            for _ in range(count):
                scene = f"{generator.getrandbits(64):x}"
                await post(http, gateway.port, json.dumps({"scene": scene, "proxyRequestHeader": "", "proxyRequestData": ""}).encode())

    await requests(2_000)
    await scenes(5)
    before = await series()
    await requests(100_000)
    await scenes(200)
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
