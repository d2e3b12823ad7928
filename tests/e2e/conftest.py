"""A gateway started as a user starts it, as a process of its own, in front of the simulator."""

import asyncio
import json
import signal
import socket
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from gateway.simulator import Simulator
from gateway.simulator.configuration import Ports
from gateway.simulator.keys import Keys


@dataclass
class Process:
    """A running `gateway run`, with what it has written so far."""

    process: asyncio.subprocess.Process
    config: Path
    port: int
    admin: int
    out: bytearray = field(default_factory=bytearray)
    err: bytearray = field(default_factory=bytearray)
    readers: list[asyncio.Task[None]] = field(default_factory=list)
    grown: asyncio.Event = field(default_factory=asyncio.Event)

    def follow(self) -> None:
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        self.readers = [
            asyncio.create_task(self._read(self.process.stdout, self.out)),
            asyncio.create_task(self._read(self.process.stderr, self.err)),
        ]

    async def _read(self, stream: asyncio.StreamReader, into: bytearray) -> None:
        while data := await stream.read(65536):
            into += data
            self.grown.set()
        self.grown.set()

    async def until_said(self, text: bytes) -> None:
        """Return when the process has written this on either stream. Fails when it ends first."""
        while text not in self.out + self.err:
            assert not all(reader.done() for reader in self.readers), f"ended without {text!r}: {self.err.decode()}"
            self.grown.clear()
            await asyncio.wait_for(self.grown.wait(), 30)

    async def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal, wait for the end, and return the exit code."""
        if self.process.returncode is None:
            self.process.send_signal(number)
        return await self.ended()

    async def ended(self) -> int:
        code = await asyncio.wait_for(self.process.wait(), 60)
        await asyncio.gather(*self.readers)
        return code

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.decode().splitlines()]


class StartProcess:
    """Starts simulators and gateways; all end with the test."""

    def __init__(self, directory: Path, keys: Keys, stack: AsyncExitStack) -> None:
        self.directory = directory
        self._keys = keys
        self._stack = stack

    async def simulator(self) -> Simulator:
        ports = Ports(free_port(), free_port(), 0, 0, 0)
        return await self._stack.enter_async_context(Simulator(self.directory, ports=ports, keys=self._keys))

    async def __call__(self, sim: Simulator, changes: Mapping[str, Any] | None = None) -> Process:
        running = await self.begin(sim, changes)
        await running.until_said(b'"serving"')
        return running

    async def begin(self, sim: Simulator, changes: Mapping[str, Any] | None = None) -> Process:
        config = sim.write_configuration(changes)
        process = await command("run", "-c", str(config))
        running = Process(process, config, sim.ports.gateway, sim.ports.admin)
        running.follow()
        self._stack.push_async_callback(self._end, running)
        return running

    async def _end(self, running: Process) -> None:
        if running.process.returncode is None:
            running.process.kill()
        await running.ended()


async def command(*arguments: str, stdin: int | None = None) -> asyncio.subprocess.Process:
    """Start `gateway` with these arguments."""
    pipe = asyncio.subprocess.PIPE
    return await asyncio.create_subprocess_exec(sys.executable, "-m", "gateway", *arguments, stdin=stdin, stdout=pipe, stderr=pipe)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port: int = sock.getsockname()[1]
        return port


@pytest.fixture
async def start(tmp_path: Path, keys: Keys) -> AsyncIterator[StartProcess]:
    async with AsyncExitStack() as stack:
        yield StartProcess(tmp_path, keys, stack)


@pytest.fixture
def run_gateway() -> Any:
    """Run a gateway command to its end: `code, out, err = await run_gateway("check", ...)`."""

    async def run(*arguments: str) -> tuple[int | None, str, str]:
        process = await command(*arguments)
        out, err = await asyncio.wait_for(process.communicate(), 60)
        return process.returncode, out.decode(), err.decode()

    return run
