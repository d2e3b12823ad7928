"""`gateway reload`, `gateway stop` and `gateway healthcheck`: a running gateway, found by its configuration, is told or asked something.

The configuration is read as far as it can be, so that a gateway whose file is broken can be stopped. Exit codes: 0 fine; 1 not running,
not ready, or not stopped in time; 3 the configuration does not say where to find it or, for `reload`, is not valid.
"""

import argparse
import os
import signal
import sys
import time
from collections.abc import Callable
from functools import partial
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Final

from gateway.config.draft import Unreadable
from gateway.config.faults import ConfigError
from gateway.config.loader import load, read_partly
from gateway.config.model import Config
from gateway.config.values import Address, Duration
from gateway.server.pid_file import running

OK, FAILED, INVALID = 0, 1, 3
OVERTIME: Final = 15.0
"""Seconds beyond accept_grace and drain_timeout for which `stop` waits."""

ANSWER_WITHIN: Final = 5.0  # seconds
_LOOK: Final = 0.05  # seconds
_BODY_MAX: Final = 4096
_EVERYWHERE: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  who listens everywhere is asked here
_READY: Final = 200
_PROBE: Final = '{"status":'

Command = Callable[[Path], None]


class CannotTell(Exception):
    """The gateway cannot be told or asked; the text says why."""

    def __init__(self, text: str, code: int = FAILED) -> None:
        super().__init__(text)
        self.code = code


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `reload`, `stop` and `healthcheck`."""
    commands: tuple[tuple[str, str, Command], ...] = (
        ("reload", "let the running gateway reload its configuration", reload),
        ("stop", "stop the running gateway and wait until it has drained", stop),
        ("healthcheck", "ask the running gateway whether it is ready", healthcheck),
    )
    for name, text, command in commands:
        parser = subparsers.add_parser(name, help=text, description=f"{text.capitalize()}.")
        parser.add_argument("-c", "--config", metavar="FILE", type=Path, required=True, help="its configuration file")
        parser.set_defaults(func=partial(_run, command))


def reload(path: Path) -> None:
    """Send SIGHUP, unless the configuration has faults that show without its key files. Raises CannotTell, ConfigError."""
    config = load(path).config
    _tell(_process(_pid_file(config)), signal.SIGHUP)


def stop(path: Path) -> None:
    """Send SIGTERM and wait for the end of the process. Raises CannotTell, and ConfigError where the file is no YAML."""
    config = read_partly(path)
    file = _pid_file(config)
    pid, seconds = _process(file), _drain_seconds(config)
    _tell(pid, signal.SIGTERM)
    deadline = time.monotonic() + seconds
    while _holder(file) == pid:
        if time.monotonic() > deadline:
            raise CannotTell(f"process {pid} has not ended within {seconds:.0f} s")
        time.sleep(_LOOK)


def healthcheck(path: Path) -> None:
    """Ask the operators' listener whether the gateway is ready. Raises CannotTell, and ConfigError where the file is no YAML."""
    address = _admin(read_partly(path))
    connection = HTTPConnection(_EVERYWHERE.get(address.host, address.host), address.port, timeout=ANSWER_WITHIN)
    try:
        connection.request("GET", "/readyz")
        answer = connection.getresponse()
        body = answer.read(_BODY_MAX).decode(errors="replace")
    except (OSError, HTTPException) as error:
        raise CannotTell(f"{address} does not answer: {getattr(error, 'strerror', None) or type(error).__name__}") from error
    finally:
        connection.close()
    if not body.startswith(_PROBE):
        raise CannotTell(f"{address} is not the operators' listener of a gateway: HTTP status {answer.status}")
    if answer.status != _READY:
        raise CannotTell(f"not ready: {body}")


def _run(command: Command, options: argparse.Namespace) -> int:
    try:
        command(options.config)
    except ConfigError as error:
        sys.stderr.writelines(f"{fault}\n" for fault in error.faults)
        return INVALID
    except CannotTell as error:
        sys.stderr.write(f"gateway: {error}\n")
        return error.code
    return OK


def _process(file: Path) -> int:
    pid = _holder(file)
    if pid is None:
        raise CannotTell(f"no gateway is running with the pid file {file}")
    return pid


def _holder(file: Path) -> int | None:
    try:
        return running(file)
    except OSError as error:
        raise CannotTell(f"server.pid_file: {file} cannot be read: {error.strerror}") from error


def _tell(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except OSError as error:
        raise CannotTell(f"process {pid} cannot be sent {number.name}: {error.strerror}") from error


def _pid_file(config: Config) -> Path:
    try:
        file = config.server.pid_file
    except Unreadable:
        file = None
    if not isinstance(file, Path):
        raise CannotTell(
            "server.pid_file does not say where the running gateway keeps its process id: set it, or signal the process yourself", INVALID
        )
    return file


def _admin(config: Config) -> Address:
    try:
        address = config.admin.listen
    except Unreadable:
        address = None
    if not isinstance(address, Address) or not address.port:
        raise CannotTell("admin.listen: write the address that the running gateway is asked at, with its port", INVALID)
    return address


def _drain_seconds(config: Config) -> float:
    times = (config.server.accept_grace, config.server.drain_timeout)
    return sum((seconds for seconds in times if isinstance(seconds, Duration)), OVERTIME)
