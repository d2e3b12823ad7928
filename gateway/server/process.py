"""`gateway run`: one process that serves until it is told to stop.

SIGTERM and SIGINT drain: not ready, no new connections, what is in flight is finished, then the process ends with 0. A second
signal ends it at once.
"""

import asyncio
import errno
import os
import signal
import socket
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

import uvloop
from aiohttp import web

from gateway import __version__, runtime
from gateway.admin import admin_app
from gateway.config import Address, Config, ConfigError
from gateway.edge.server import ParserMissing, require_c_parser
from gateway.runtime import Runtime
from gateway.telemetry.log import Logs
from gateway.telemetry.metrics import Metrics

OK, FAILED, INVALID = 0, 1, 3
BACKLOG: Final = 4096
IDLE_GRACE: Final = 1.0  # seconds for which a kept connection that is idle stays open during a drain
_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)


class CannotListen(Exception):
    """A listener could not be opened; the text names it."""


def run(path: Path) -> int:
    """Load the configuration and serve. Returns the exit code: 0 after a drain, 1 when it could not run, 3 for a faulty configuration."""
    try:
        require_c_parser()
        loaded = runtime.load(path)
    except ConfigError as error:
        for fault in error.faults:
            print(fault, file=sys.stderr)
        return INVALID
    except ParserMissing as error:
        print(f"gateway: {error}", file=sys.stderr)
        return FAILED
    metrics = Metrics()
    logs = Logs(loaded.config.telemetry.log, on_drop=metrics.log_lines_dropped.inc)
    try:
        for warning in loaded.warnings:
            logs.log.warning("configuration", fault=str(warning))
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(_serve(loaded.config, metrics, logs))
    except CannotListen as error:
        logs.log.error("cannot listen", reason=str(error))  # noqa: TRY400  the text says all
        return FAILED
    finally:
        logs.close()


async def _serve(config: Config, metrics: Metrics, logs: Logs) -> int:
    async with AsyncExitStack() as stack:
        sockets = [_listen(listener.address, stack) for listener in config.server.listen if listener.address is not None]
        admin_socket = _listen(config.admin.listen, stack)
        parts = await stack.enter_async_context(runtime.running(config, metrics, logs))
        stop = _watch_signals()
        await _open_admin(parts, admin_socket, stack)
        servers = [await asyncio.get_running_loop().create_server(parts.edge, sock=sock, backlog=BACKLOG) for sock in sockets]
        parts.health.started = True
        logs.log.info(
            "serving",
            version=__version__,
            listen=[_name(sock) for sock in sockets],
            admin=_name(admin_socket),
            pid=os.getpid(),
        )
        await stop.wait()
        parts.health.draining = parts.front.draining = True
        logs.log.info("draining", in_flight=parts.front.in_flight)
        for server in servers:
            server.close()
        await _drain(parts)
        logs.log.info("stopped")
    return OK


def _listen(address: Address, stack: AsyncExitStack) -> socket.socket:
    """Bind a TCP listener. Raises CannotListen."""
    try:
        family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
        sock = socket.create_server((address.host, address.port), family=family, backlog=BACKLOG)
    except OSError as error:
        reason = "in use by another process" if error.errno == errno.EADDRINUSE else os.strerror(error.errno or 0)
        raise CannotListen(f"{address}: {reason}") from error
    sock.setblocking(False)
    stack.callback(sock.close)
    return sock


def _name(sock: socket.socket) -> str:
    host, port = sock.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


async def _open_admin(parts: Runtime, sock: socket.socket, stack: AsyncExitStack) -> None:
    runner = web.AppRunner(admin_app(parts.metrics, parts.health), access_log=None, handle_signals=False, shutdown_timeout=0.5)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    await web.SockSite(runner, sock).start()


def _watch_signals() -> asyncio.Event:
    """Return the event that the first signal sets; the second ends the process at once."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def on_signal() -> None:
        if stop.is_set():
            os._exit(FAILED)
        stop.set()

    for number in _SIGNALS:
        loop.add_signal_handler(number, on_signal)
    return stop


async def _drain(parts: Runtime) -> None:
    """Wait until nothing is in flight and idle connections had their grace, at most `drain_timeout`."""
    loop = asyncio.get_running_loop()
    grace_ends = loop.time() + IDLE_GRACE
    try:
        async with asyncio.timeout(parts.config.server.drain_timeout):
            while parts.front.in_flight or (parts.edge.connections and loop.time() < grace_ends):
                await _until_idle(parts, grace_ends - loop.time())
    except TimeoutError:
        return


async def _until_idle(parts: Runtime, grace: float) -> None:
    if parts.front.in_flight:
        await parts.front.idle.wait()
    else:
        await asyncio.sleep(min(grace, 0.05))
