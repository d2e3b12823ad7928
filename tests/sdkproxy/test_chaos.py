"""Apps, Alipay+ and the auth service that do anything at any time: no call is sent twice, and what the app is told is never too much."""

import asyncio
import gc
import json
import random
import re
from collections import Counter
from contextlib import suppress
from typing import Any

import pytest

from gateway.errors import FAILURES
from gateway.simulator import Behaviour, Login
from tests.sdkproxy.conftest import PATH, Gateway, StartGateway
from tests.upstream.peer import until

ALIPAYPLUS: tuple[dict[str, Any], ...] = (
    {},
    {},
    {"delay": 0.02},
    {"size": 100_000, "pieces": 7, "pause": 0.002},
    {"framing": "chunked", "size": 20_000},
    {"framing": "close"},
    {"close": "silent"},
    {"close": "announced"},
    {"code": "PROCESS_FAIL"},
    {"code": "UNKNOWN_EXCEPTION"},
    {"drop": "before_reading"},
    {"drop": "after_reading"},
    {"drop": "in_headers"},
    {"drop": "in_body"},
    {"framing": "truncated"},
    {"framing": "bad_chunk"},
    {"extra": "HTTP/1.1 200 OK\r\n\r\n"},
    {"content": "not_json"},
    {"content": "invalid_utf8"},
    {"result_form": "junk"},
    {"http_status": 500},
    {"http_status": 302},
    {"signed": False},
    {"key": "stranger"},
    {"tampered": True},
    {"signature_form": "junk"},
)
AUTH: tuple[dict[str, Any], ...] = (
    *({},) * 10,
    {"delay": 0.02},
    {"status": 401},
    {"status": 403},
    {"status": 500},
    {"status": 204},
    {"drop": "before_reading"},
    {"drop": "after_reading"},
    {"drop": "in_headers"},
    {"framing": "truncated"},
    {"extra": "x"},
    {"close": "silent"},
)
_HEAD = "POST {path} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nAuthorization: Bearer demo-token-anna\r\n"


class Apps:
    """Many apps. `told` is the result that each call was answered with, by the number which it carried."""

    def __init__(self, gateway: Gateway, choice: random.Random) -> None:
        self._gateway = gateway
        self._choice = choice
        self.told: dict[int, dict[str, Any]] = {}
        self.made = 0

    def _call(self) -> tuple[int, bytes]:
        self.made += 1
        padding = "x" * self._choice.choice((0, 0, 0, 3000, 150_000))
        body = json.dumps({"scene": "PROXY_SCENE_PAY", "proxyRequestHeader": "{}", "proxyRequestData": f"n={self.made}.{padding}"}).encode()
        head = _HEAD.format(path=PATH).encode()
        if self._choice.random() < 0.2:
            return self.made, head + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
        return self.made, head + b"Content-Length: %d\r\n\r\n" % len(body) + body

    async def use(self) -> None:
        """Be one app for one connection: a few calls, one after the other or at once, whole or not, and patient or not."""
        choice = self._choice
        reader, writer = await asyncio.open_connection("127.0.0.1", self._gateway.port)
        with suppress(ConnectionError, TimeoutError, RuntimeError, asyncio.IncompleteReadError):
            for _ in range(choice.randint(1, 3)):
                calls = [self._call() for _ in range(choice.choice((1, 1, 1, 2)))]
                data = b"".join(call for _, call in calls)
                cut = choice.randrange(len(data)) if choice.random() < 0.15 else len(data)
                writer.write(data[: cut // 2])
                await asyncio.sleep(choice.choice((0, 0.001)))
                writer.write(data[cut // 2 : cut])
                async with asyncio.timeout(choice.choice((0.001, 0.02, 1, 1, 1))):
                    for number, _ in calls:
                        head = await reader.readuntil(b"\r\n\r\n")
                        length = re.search(rb"Content-Length: (\d+)", head)
                        assert length is not None
                        self.told[number] = json.loads(await reader.readexactly(int(length[1])))
        if choice.random() < 0.5:
            writer.transport.abort()
        writer.close()


@pytest.mark.parametrize("seed", range(4))
async def test_no_call_is_sent_twice_and_none_that_was_sent_is_told_to_have_failed(start: StartGateway, seed: int) -> None:
    choice, bugs = random.Random(seed), list[dict[str, Any]]()
    asyncio.get_running_loop().set_exception_handler(lambda _, context: bugs.append(context))
    gateway = await start(keep=100_000)
    alipayplus, auth, apps = gateway.sim.alipayplus, gateway.sim.auth, Apps(gateway, choice)
    tasks = len(asyncio.all_tasks())
    for _ in range(4):
        alipayplus.scripted.reset()
        auth.scripted.reset()
        alipayplus.script(*[Behaviour(**choice.choice(ALIPAYPLUS)) for _ in range(100)])
        auth.script(*[Login(**choice.choice(AUTH)) for _ in range(100)])
        await asyncio.gather(*[apps.use() for _ in range(40)])
    await until(lambda: not gateway.parts.edge.connections and not gateway.count("gateway_in_flight_requests", route="sdk"))
    sent = Counter(int(match[1]) for call in alipayplus.received if (match := re.search(rb"n=(\d+)", call.body)))
    assert max(sent.values()) == 1
    assert len(apps.told) > 50
    for number, told in apps.told.items():
        if told["source"] == "gateway":
            assert FAILURES[told["resultCode"]].result_status == told["resultStatus"] != "S"
        if told["resultStatus"] == "F" and told["source"] == "gateway":
            assert number not in sent, told
        elif told["resultStatus"] == "S":
            assert sent[number] == 1
    await until(lambda: len(asyncio.all_tasks()) <= tasks + alipayplus.open_connections + auth.open_connections)
    gc.collect()
    assert bugs == []
    lines = gateway.lines()
    assert all(line["status"] != 500 for line in lines)
    assert all(line["result_status"] == "U" for line in lines if line.get("sent") == "unknown")
