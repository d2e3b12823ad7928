"""A load of SDK requests on a gateway: each client sends one after the other and looks whether the answer is its own."""

import asyncio
import re
from collections.abc import Callable
from itertools import count
from types import TracebackType
from typing import Any, Self

from gateway.simulator import Behaviour, Simulator

PATH = "/alipayplus/v1/sdkProxy"
_LENGTH = re.compile(rb"\r\ncontent-length: *([0-9]+)\r\n", re.IGNORECASE)
_CLOSE = re.compile(rb"\r\nconnection: *close\r\n", re.IGNORECASE)


def echo(sim: Simulator, **fields: Any) -> None:
    """Let Alipay+ send back the strings that it gets, from now on."""
    sim.alipayplus.scripted.reset()
    sim.alipayplus.script(Behaviour(strings="echo", **fields), times=None)


class Load:
    """Clients on `port` while the context is open; every second one makes a new connection for each request.

    The simulated Alipay+ is to `echo`. `answered` counts answers that are 200 and belong to their request;
    `failures` says of each other request what happened.
    """

    def __init__(self, port: int, *, clients: int = 6, pause: float = 0.01) -> None:
        self.port = port
        self.answered = 0
        self.failures: list[str] = []
        self._clients = clients
        self._pause = pause
        self._numbers = count()
        self._is_ending = False
        self._tasks: list[asyncio.Task[None]] = []
        self._pulse = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._tasks = [asyncio.create_task(self._client(keeps=bool(index % 2))) for index in range(self._clients)]
        await self.until(lambda: self.answered >= self._clients)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.end()

    @property
    def sent(self) -> int:
        """How many requests have come to an end, in whatever way."""
        return self.answered + len(self.failures)

    async def end(self) -> None:
        """Let each client finish its request, and no more."""
        self._is_ending = True
        await asyncio.gather(*self._tasks)

    async def more(self, requests: int) -> None:
        """Wait for so many more answers."""
        wanted = self.answered + requests
        await self.until(lambda: self.answered >= wanted)

    async def until(self, is_so: Callable[[], bool]) -> None:
        async with asyncio.timeout(60):
            while not is_so():
                self._pulse.clear()
                await self._pulse.wait()

    async def _client(self, *, keeps: bool) -> None:
        streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        while not self._is_ending:
            try:
                streams = streams or await asyncio.open_connection("127.0.0.1", self.port)
                goes_on = await self._request(*streams, keeps=keeps)
            except (OSError, asyncio.IncompleteReadError, AssertionError) as error:
                self.failures.append(f"{type(error).__name__}: {error}")
                goes_on = False
            if streams is not None and not goes_on:
                streams[1].close()
                streams = None
            self._pulse.set()
            await asyncio.sleep(self._pause)
        if streams is not None:
            streams[1].close()

    async def _request(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, keeps: bool) -> bool:
        """Send one request and read its answer; return whether the connection goes on."""
        name = f"request-{next(self._numbers)}"
        body = f'{{"proxyRequestHeader":"{name}","proxyRequestData":""}}'.encode()
        writer.write(
            f"POST {PATH} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nAuthorization: Bearer demo-token-anna\r\n"
            f"{'' if keeps else 'Connection: close' + chr(13) + chr(10)}Content-Length: {len(body)}\r\n\r\n".encode()
            + body
        )
        head = await reader.readuntil(b"\r\n\r\n")
        length = _LENGTH.search(head)
        assert length is not None, head
        answer = await reader.readexactly(int(length[1]))
        assert head.startswith(b"HTTP/1.1 200 "), head + answer
        assert f'"proxyResponseHeader":"{name}"'.encode() in answer, answer
        self.answered += 1
        return keeps and not _CLOSE.search(head)
