"""A gateway started as a user starts it, as a process of its own, in front of the simulator."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from gateway.simulator import Simulator
from gateway.simulator.configuration import Ports
from gateway.simulator.keys import Keys
from tests.ports import free_port


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
        streams = ((self.process.stdout, self.out), (self.process.stderr, self.err))
        self.readers = [asyncio.create_task(self._read(stream, into)) for stream, into in streams if stream is not None]

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
        self.keys = keys
        self._stack = stack

    async def simulator(self, **options: Any) -> Simulator:
        ports = Ports(free_port(), free_port(), 0, 0, 0)
        return await self._stack.enter_async_context(Simulator(self.directory, ports=ports, keys=self.keys, **options))

    async def __call__(self, sim: Simulator, changes: Mapping[str, Any] | None = None, **options: Any) -> Process:
        return await self.serve(sim.write_configuration(changes), sim, **options)

    async def serve(self, config: Path, sim: Simulator, **options: Any) -> Process:
        """Start a gateway with this configuration, which has the ports of `sim`, and wait until it serves.

        The options are those of `command`: `environ`, `out` in place of a pipe that is read, and `shell`.
        """
        running = await self._start(config, sim, **options)
        await running.until_said(b'"serving"')
        return running

    async def begin(self, sim: Simulator, changes: Mapping[str, Any] | None = None, **options: Any) -> Process:
        return await self._start(sim.write_configuration(changes), sim, **options)

    async def _start(self, config: Path, sim: Simulator, **options: Any) -> Process:
        process = await command("run", "-c", str(config), **options)
        running = Process(process, config, sim.ports.gateway, sim.ports.admin)
        running.follow()
        self._stack.push_async_callback(self._end, running)
        return running

    async def _end(self, running: Process) -> None:
        if running.process.returncode is None:
            _kill_with_children(running.process.pid)
        await running.ended()


def _kill_with_children(pid: int) -> None:
    """Kill workers too: one that has been stopped would stay for ever."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    for process in (pid, *map(int, children)):
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)


async def command(
    *arguments: str,
    stdin: int | None = None,
    out: int = asyncio.subprocess.PIPE,
    environ: Mapping[str, str] | None = None,
    shell: str = 'exec "$@"',
) -> asyncio.subprocess.Process:
    """Start `gateway` with these arguments, by this command of the shell, and with `environ` added to the environment."""
    return await asyncio.create_subprocess_exec(
        *("sh", "-c", shell, "sh", sys.executable, "-m", "gateway", *arguments),
        stdin=stdin,
        stdout=out,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, **(environ or {})},
    )


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
