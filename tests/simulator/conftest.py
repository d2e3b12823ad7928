"""What the simulator's tests share: keys made once, a running simulator, a partner who signs, and a client that reads raw bytes."""

import asyncio
import os
import secrets
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path

import aiohttp
import pytest

from gateway.alipayplus.keys import KeyRing, SigningKey, VerificationKey
from gateway.simulator import Keys, Ports, Simulator, demo

URI = "/aps/api/v1/mobile/sdkProxy"
CLIENT_ID = "T_000000000000000001"
TIME = "2019-05-28T12:12:12+08:00"
BODY = rb'{"sdkRequestHeader":"a\u2028\"\/","sdkRequestData":"b%5B+&\ud83d\ude00","customerId":"customer-alice"}'

Sign = Callable[..., bytes]
"""Gives a right request as bytes, in which what is given is different."""

Send = Callable[[bytes], Awaitable[bytes]]
"""Sends bytes and gives what comes back; raises ConnectionResetError with what came before the reset."""


@pytest.fixture(scope="session")
def keys() -> Keys:
    return Keys.generate()


@pytest.fixture
async def simulator(tmp_path: Path, keys: Keys) -> AsyncIterator[Simulator]:
    async with Simulator(tmp_path, keys=keys) as running:
        yield running


@pytest.fixture(scope="session")
def ring(keys: Keys) -> KeyRing:
    return KeyRing(CLIENT_ID, SigningKey.of(keys.mpp, "1"), {"1": VerificationKey.of(keys.alipayplus.public_key())})


@pytest.fixture(scope="session")
def sign(ring: KeyRing) -> Sign:
    """`headers` with None are left out; the signature is made over the given `signed` body, else over `body`."""

    def request(
        *,
        method: str = "POST",
        target: str = URI,
        body: bytes = BODY,
        signed: bytes | None = None,
        headers: Mapping[str, str | None] | None = None,
    ) -> bytes:
        time = (headers or {}).get("Request-Time") or TIME
        fields: dict[str, str | None] = {
            "Host": "localhost",
            "Content-Type": "application/json; charset=UTF-8",
            "Client-Id": CLIENT_ID,
            "Request-Time": TIME,
            "Signature": ring.sign(URI, time, body if signed is None else signed),
            "Content-Length": str(len(body)),
            **(headers or {}),
        }
        lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items() if value is not None)
        return f"{method} {target} HTTP/1.1\r\n{lines}\r\n".encode("latin-1") + body

    return request


@pytest.fixture
def tls(simulator: Simulator) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(simulator.ca))


@pytest.fixture
async def http(tls: ssl.SSLContext) -> AsyncIterator[aiohttp.ClientSession]:
    connector = aiohttp.TCPConnector(ssl=tls)
    async with aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False) as client:
        yield client


@pytest.fixture
def send(simulator: Simulator, tls: ssl.SSLContext) -> Send:
    """To Alipay+; ends when the other side closes, or when an answer with a Content-Length has come."""

    async def exchange(data: bytes) -> bytes:
        loop = asyncio.get_running_loop()
        transport, came = await loop.create_connection(Collector, "localhost", simulator.alipayplus.port, ssl=tls)
        transport.write(data)
        try:
            return await came.whole
        finally:
            transport.abort()

    return exchange


class Collector(asyncio.Protocol):
    """Keeps what comes (a StreamReader forgets it when the connection is reset)."""

    def __init__(self) -> None:
        self.data = b""
        self.whole: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def data_received(self, data: bytes) -> None:
        self.data += data
        if _is_complete(self.data) and not self.whole.done():
            self.whole.set_result(self.data)

    def connection_lost(self, error: Exception | None) -> None:
        if self.whole.done():
            return
        if error is None:
            self.whole.set_result(self.data)
        else:
            self.whole.set_exception(ConnectionResetError(self.data))


def _is_complete(data: bytes) -> bool:
    head, separator, body = data.partition(b"\r\n\r\n")
    lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length: ")]
    return bool(separator and lengths and len(body) >= int(lengths[0].removeprefix(b"content-length: ")))


@pytest.fixture
def port_base() -> int:
    """Five ports in a row that are free, below those that the system gives out, and other ones in each test process."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    for _ in range(100):
        base = 20_000 + 500 * (worker % 20) + 5 * secrets.randbelow(100)
        try:
            demo.check_free(Ports.from_base(base))
        except demo.DemoFailed:
            continue
        return base
    raise AssertionError("no five free ports in a row")
