"""A client that sends what a test says, byte for byte."""

import asyncio
import re


class Client:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    def send(self, data: bytes) -> None:
        self._writer.write(data)

    async def ask(self, *pieces: bytes) -> bytes:
        """Send pieces one by one, a moment apart, and return the next answer."""
        for piece in pieces:
            self._writer.write(piece)
            await asyncio.sleep(0.02 if len(pieces) > 1 else 0)
        return await self.answer()

    async def answer(self) -> bytes:
        async with asyncio.timeout(20):
            head = await self._reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"Content-Length: (\d+)", head)
            assert length is not None
            return head + await self._reader.readexactly(int(length[1]))

    async def end(self) -> bytes:
        return await asyncio.wait_for(self._reader.read(), 20)

    def leave(self) -> None:
        self._writer.transport.abort()
