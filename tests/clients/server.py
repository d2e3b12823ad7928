"""A server that is no gateway: it keeps every request that reaches it and answers what it was told, byte for byte, or nothing."""

import asyncio
import json
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from ssl import SSLContext
from typing import Any

KEPT = b"kept"
"""Stands before an answer after which the connection is kept."""


@dataclass(frozen=True)
class Request:
    """One request as it arrived, on the connection with this number."""

    connection: int
    line: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> dict[str, Any]:
        decoded: dict[str, Any] = json.loads(self.body)
        return decoded


@dataclass
class Server:
    """Answers its requests with `answers` in turn, the last of them for ever; None is silence. Then it closes, unless told otherwise."""

    answers: list[bytes | None]
    requests: list[Request] = field(default_factory=list)
    connections: int = 0
    left: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when a client has left that was answered with silence."""

    async def start(self, tls: SSLContext | None = None) -> str:
        """Listen; give the base URL."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=tls)
        self._tasks: set[asyncio.Task[None]] = set()
        return f"{'https' if tls else 'http'}://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def stop(self) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        number = self.connections
        try:
            with suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
                while await self._answer(await read(reader, number), reader, writer):
                    pass
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _answer(self, request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        answer = self.answers[min(len(self.requests), len(self.answers) - 1)]
        self.requests.append(request)
        if answer is None:
            await reader.read()
            self.left.set()
            return False
        writer.write(answer.removeprefix(KEPT))
        await writer.drain()
        return answer.startswith(KEPT)


async def read(reader: asyncio.StreamReader, connection: int) -> Request:
    """Read one request with a Content-Length."""
    line, *fields = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")[:-2]
    headers = {name.lower(): value.strip() for name, _, value in (entry.partition(":") for entry in fields)}
    return Request(connection, line, headers, await reader.readexactly(int(headers["content-length"])))


def http(status: int, body: object, *, headers: Iterable[str] = ()) -> bytes:
    """Write an HTTP answer; a body that is not bytes is written as JSON."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    head = [f"HTTP/1.1 {status} Status", "Content-Type: application/json", *headers, f"Content-Length: {len(data)}", "", ""]
    return "\r\n".join(head).encode() + data


def success(header: str = "h", data: str = "d") -> dict[str, Any]:
    """Give a success in the gateway's shape."""
    result = {"isSuccess": True, "resultCode": "SUCCESS", "resultStatus": "S", "resultMessage": "Success"}
    return {**result, "source": "alipayplus", "requestId": "r1", "proxyResponseHeader": header, "proxyResponseData": data}


def failure(code: str) -> dict[str, Any]:
    """Give a failure in the gateway's shape."""
    result = {"isSuccess": False, "resultCode": code, "resultStatus": "U", "resultMessage": "It failed"}
    return {**result, "source": "gateway", "requestId": "r2"}
