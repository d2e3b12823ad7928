import asyncio
import ssl
from pathlib import Path

import pytest

from gateway.alipayplus.keys import KeyRing
from gateway.simulator import Keys, Simulator
from gateway.simulator.fast import MAX_AGE, Prepared, complete


@pytest.mark.parametrize(
    ("buffer", "size"),
    [
        (b"", None),
        (b"GET / HTTP/1.1\r\n", None),
        (b"GET / HTTP/1.1\r\n\r\n", 18),
        (b"GET / HTTP/1.1\r\n\r\nGET", 18),
        (b"POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\n", None),
        (b"POST / HTTP/1.1\r\ncontent-length:2\r\n\r\nab", 39),
        (b"POST / HTTP/1.1\r\nContent-Length: 2\r\nA: b\r\n\r\nabc", 46),
    ],
)
def test_a_request_is_complete_with_its_last_byte(buffer: bytes, size: int | None) -> None:
    assert complete(buffer) == size


def test_an_answer_is_made_anew_when_it_is_old() -> None:
    times = iter([0.0, MAX_AGE, MAX_AGE + 0.1, MAX_AGE + 0.1, MAX_AGE + 0.2])
    answers = iter([b"first", b"second"])
    prepared = Prepared(lambda: next(answers), now=lambda: next(times))
    assert [prepared.get(), prepared.get(), prepared.get()] == [b"first", b"second", b"second"]


async def test_every_request_gets_a_rightly_signed_success_and_nothing_is_kept(tmp_path: Path, keys: Keys, ring: KeyRing) -> None:
    async with Simulator(tmp_path, keys=keys, fast=True) as simulator:
        tls = ssl.create_default_context(cafile=str(simulator.ca))
        reader, writer = await asyncio.open_connection("localhost", simulator.alipayplus.port, ssl=tls)
        writer.write(b"POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}" * 3)
        for _ in range(3):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            headers = dict(line.split(": ", 1) for line in head.split("\r\n")[1:-2])
            body = await reader.readexactly(int(headers["content-length"]))
            ring.verify("/aps/api/v1/mobile/sdkProxy", headers["response-time"], body, headers["signature"])
        writer.transport.abort()
        assert simulator.alipayplus.count == 0


async def test_every_login_is_valid(tmp_path: Path, keys: Keys) -> None:
    async with Simulator(tmp_path, keys=keys, fast=True) as simulator:
        reader, writer = await asyncio.open_connection("localhost", simulator.auth.port)
        writer.write(b"GET / HTTP/1.1\r\n\r\n")
        assert b"X-Customer-Id: customer-bench\r\n" in await reader.readuntil(b"\r\n\r\n")
        writer.transport.abort()
