"""`gateway reload` and `gateway stop` where the gateway cannot be told; what they do with a running one is in tests/e2e."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.server.pid_file import PidFile
from gateway.simulator import Ports
from gateway.simulator.configuration import render
from tests.commands.conftest import Command


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A configuration with a pid file."""
    path = tmp_path / "gateway.yaml"
    path.write_text(render(Ports(), {"server": {"pid_file": "run/gateway.pid"}}))
    return path


@pytest.fixture
def gone(config: Path) -> Iterator[int]:
    """Let the pid file be held with the id of a process that is not there, as one of another container would be."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    file = config.parent / "run" / "gateway.pid"
    file.parent.mkdir()
    held = PidFile(file)
    file.write_text(f"{process.pid}\n")
    yield process.pid
    held.release()


@pytest.mark.parametrize(("name", "signal"), [("reload", "SIGHUP"), ("stop", "SIGTERM")])
def test_a_process_that_takes_no_signal_from_us_is_said(command: Command, config: Path, gone: int, name: str, signal: str) -> None:
    done = command(f"{name} -c {config}")
    assert (done.code, done.err) == (1, f"gateway: process {gone} cannot be sent {signal}: No such process\n")


@pytest.mark.parametrize("name", ["reload", "stop"])
def test_a_pid_file_that_cannot_be_read_is_said(command: Command, config: Path, name: str) -> None:
    (config.parent / "run").touch()
    done = command(f"{name} -c {config}")
    file = config.parent / "run" / "gateway.pid"
    assert (done.code, done.err) == (1, f"gateway: server.pid_file: {file} cannot be read: Not a directory\n")
