"""Commands of the image, run on this machine: its folders are below one of the test's, its names and ports are this machine's."""

import asyncio
import re
import shutil
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from tests.ports import free_port

ETC: Final = "/etc/gateway"
STATE: Final = "/var/lib/gateway"
SERVING: Final = b'"serving"'
SIMULATING: Final = b"Ctrl-C"
_ADDRESS: Final = re.compile(r"(simulator|gateway|127\.0\.0\.1|0\.0\.0\.0):(\d+)")


class Here:
    """Runs what a container would run; `configuration` is the folder that it would find as /etc/gateway."""

    def __init__(self, folder: Path, configuration: Path) -> None:
        self.etc, self.state = folder / "etc", folder / "state"
        self.ports = {port: free_port() for port in (8080, 8081, 8082, 8443, 9090)}
        shutil.copytree(configuration, self.etc)
        config = self.etc / "gateway.yaml"
        config.write_text(self.mapped(config.read_text()))

    def mapped(self, text: str) -> str:
        """Put what stands for the image's folders, for the network's names and for its ports in their place."""
        text = text.replace(ETC, str(self.etc)).replace(STATE, str(self.state))
        return _ADDRESS.sub(lambda found: f"127.0.0.1:{self.ports[int(found[2])]}", text)

    def command(self, *words: str) -> list[str]:
        """Return a command of the image as it is typed here."""
        programs = {"gateway": [sys.executable, "-m", "gateway"], "python": [sys.executable]}
        return [*programs[words[0]], *map(self.mapped, words[1:])]

    async def run(self, *words: str) -> tuple[int | None, str]:
        """Run a command to its end; return its exit code and what it said."""
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(*self.command(*words), stdout=pipe, stderr=asyncio.subprocess.STDOUT)
        said, _ = await process.communicate()
        return process.returncode, said.decode()

    @asynccontextmanager
    async def running(self, ready: bytes, *words: str) -> AsyncIterator[None]:
        """Run a command from when it says that it is ready to the end of the block; SIGTERM ends it with 0."""
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(*self.command(*words), stdout=pipe, stderr=asyncio.subprocess.STDOUT)
        assert process.stdout is not None
        said = b""
        try:
            while ready not in said:
                line = await process.stdout.readline()
                assert line, said.decode()
                said += line
            yield
        finally:
            if process.returncode is None:
                process.terminate()
            rest, _ = await process.communicate()
        assert process.returncode == 0, (said + rest).decode()
