"""A gateway as a child process, started just as a user starts it; its access lines are read, its errors are shown."""

import asyncio
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import aiohttp
import msgspec

ENDS_WITHIN: Final = 15.0
POLL: Final = 0.02
"""Seconds."""

_LINE_LIMIT: Final = 1 << 20
_QUIET: Final = frozenset({"debug", "info"})


class Child:
    """The running gateway. `lines` are its access lines, decoded; `ended` is set when the process has ended."""

    def __init__(self, process: Process, say: Callable[[str], None]) -> None:
        self.lines: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.ended = asyncio.Event()
        self._process = process
        self._say = say

    async def follow(self) -> None:
        """Read what the process writes until it ends."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._read_access())
            group.create_task(self._read_errors())
        await self._process.wait()
        self.ended.set()

    async def until_ready(self, url: str) -> bool:
        """Return True when the gateway says that it is ready, False when it has ended."""
        async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as client:
            while not self.ended.is_set():
                if await _is_ready(client, url):
                    return True
                await asyncio.sleep(POLL)
        return False

    async def stop(self) -> None:
        """Tell it to drain; if it has not ended in time, kill it."""
        if self._process.returncode is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(ENDS_WITHIN):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()

    async def _read_access(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            document = _decoded(line)
            if document is not None:
                self.lines.put_nowait(document)

    async def _read_errors(self) -> None:
        assert self._process.stderr is not None
        async for line in self._process.stderr:
            document = _decoded(line)
            if document is None or document.get("level") not in _QUIET:
                self._say(line.decode(errors="replace").rstrip())


@asynccontextmanager
async def gateway(configuration: Path, say: Callable[[str], None]) -> AsyncIterator[Child]:
    """Run `gateway run -c CONFIGURATION` until the block is left; `say` gets each warning and error that it writes.

    It has a process group of its own, so that a Ctrl-C reaches it once, through us.
    """
    arguments = (sys.executable, "-m", "gateway", "run", "-c", str(configuration))
    process = await asyncio.create_subprocess_exec(*arguments, stdout=PIPE, stderr=PIPE, limit=_LINE_LIMIT, start_new_session=True)
    child = Child(process, say)
    following = asyncio.create_task(child.follow())
    try:
        yield child
    finally:
        await child.stop()
        await following


async def _is_ready(client: aiohttp.ClientSession, url: str) -> bool:
    try:
        async with client.get(url) as response:
            return response.status == 200  # noqa: PLR2004  OK
    except aiohttp.ClientError:
        return False


def _decoded(line: bytes) -> dict[str, Any] | None:
    try:
        document = msgspec.json.decode(line)
    except msgspec.DecodeError:
        return None
    return document if isinstance(document, dict) else None
