"""A worker process, started by the supervisor (`gateway.server.entry`), which talks to it over a channel.

It serves one configuration from beginning to end (architecture, decision 4). Signals mean nothing to it: those of a terminal or of
systemd go to all processes, and the supervisor alone says what they mean. When the supervisor dies, the worker drains and ends.
"""

import asyncio
import pickle
import signal
import socket
import sys
from typing import Final

import uvloop

from gateway import runtime
from gateway.admin.status import worker_status
from gateway.config import Config
from gateway.runtime import Runtime
from gateway.server.acceptor import Acceptor, acceptor
from gateway.server.children import SUPERVISORS_SIGNALS
from gateway.server.control import (
    Ask,
    Assignment,
    BadMessage,
    Channel,
    Closed,
    Drain,
    End,
    Message,
    Ready,
    Totals,
    receive,
    receive_descriptors,
)
from gateway.server.copies import Copies
from gateway.server.cpus import worker_count
from gateway.server.drain import Draining
from gateway.server.loading import loaded
from gateway.server.race import first
from gateway.telemetry import snapshot
from gateway.telemetry.log import Logs
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.stray import strays_logged
from gateway.telemetry.tracing import Exporter, exporter
from gateway.upstream.addresses import NAMES, Found

BEAT: Final = 1.0
"""Seconds between two reports of the metrics, which are the heartbeat too."""

OK, FAILED = 0, 1
_FAREWELL: Final = 1.0  # seconds for the supervisor to take the last report


def main(descriptor: int) -> int:
    """Serve what is assigned over the channel of this descriptor, to the end.

    Returns the exit code: 0 after a drain, 1 when it could not run.
    """
    for number in SUPERVISORS_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SUPERVISORS_SIGNALS)  # they were blocked when the supervisor started us
    channel = socket.socket(fileno=descriptor)
    try:
        descriptors = receive_descriptors(channel)
        assignment = receive(channel) if descriptors is not None else None
    except BadMessage as error:
        sys.stderr.write(f"gateway worker: {error}\n")
        return FAILED
    if descriptors is None or not isinstance(assignment, Assignment):
        return OK  # nothing to serve: the configuration was faulty, or the supervisor has ended
    channel.setblocking(False)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_work(assignment, channel, [socket.socket(fileno=number) for number in descriptors]))


async def _work(assignment: Assignment, channel: socket.socket, sockets: list[socket.socket]) -> int:
    config: Config = pickle.loads(assignment.config)  # noqa: S301  from our own supervisor, over a socket that nobody else has
    metrics = Metrics()
    logs = Logs(config.telemetry.log, on_drop=metrics.log_lines_dropped.inc)
    logs.bind(worker=assignment.slot)
    worker = Worker(metrics, logs, sockets, assignment.names)
    spans: Exporter | None = None
    try:
        spans = exporter(config.telemetry.tracing, logs.log)
        await asyncio.get_running_loop().create_unix_connection(lambda: worker.channel, sock=channel)
        for found in assignment.names:
            NAMES.take(found)
        with strays_logged(logs.log), Copies(assignment.files) as copies:
            workers, export = worker_count(config.server.workers), spans.export if spans else None
            async with runtime.running(copies.apply(config), metrics, logs, export, workers=workers) as parts:
                await worker.serve(parts, acceptor(parts, sockets, logs.log))
    except Exception:
        logs.log.exception("a worker failed")
        return FAILED
    finally:
        if spans is not None:
            worker.report()  # whoever is told to end at once is not waited for
            await spans.close()
        logs.close()
        logs.count_lost()
        await worker.take_leave()
    return OK


class Worker:
    """Serves until the supervisor says otherwise or dies."""

    def __init__(self, metrics: Metrics, logs: Logs, sockets: list[socket.socket], names: tuple[Found, ...]) -> None:
        self.channel = Channel(self._heed, self._lost)
        self._metrics = metrics
        self._logs = logs
        self._sockets = sockets
        self._orders: asyncio.Queue[Drain | End] = asyncio.Queue()
        self._orphaned = asyncio.Event()
        self._parts: Runtime | None = None
        self._tasks = 0
        self._names = names  # as the supervisor knows them

    async def serve(self, parts: Runtime, acceptor: Acceptor) -> None:
        """Accept, report each second, and drain when told to; return when nothing is left, or at once when told to end."""
        self._parts = parts
        loaded()
        acceptor.start()
        self.report()
        self.channel.send(Ready())
        beating = asyncio.create_task(self._beat())
        try:
            order = await self._orders.get()
            self._close(acceptor, order)
            draining = Draining(parts, acceptor)
            draining.begin(is_final=isinstance(order, End) or order.is_final)
            self.channel.send(Closed(parts.front.in_flight))
            await first(draining.end(), self._told_to_end(draining))
            if parts.front.in_flight:
                self._logs.log.warning("requests are cut off", in_flight=parts.front.in_flight)
        finally:
            acceptor.close()
            beating.cancel()

    async def take_leave(self) -> None:
        """Report for the last time, and wait until the supervisor has taken it."""
        self.report()
        self.channel.finish()
        await first(self._orphaned.wait(), timeout=_FAREWELL)

    def _close(self, acceptor: Acceptor, order: Drain | End) -> None:
        """Accept no more. What waits is left to the other workers that have these sockets, and taken where there are none."""
        acceptor.stop()
        for index, sock in enumerate(self._sockets):
            if isinstance(order, Drain) and index in order.last:
                acceptor.take_waiting(sock)
            sock.close()

    def _heed(self, order: Message) -> None:
        if isinstance(order, Ask):
            self.report(order.number)
        elif isinstance(order, Drain | End):
            self._orders.put_nowait(order)

    def _lost(self) -> None:
        self._orphaned.set()
        self._orders.put_nowait(Drain(is_final=True, last=[*range(len(self._sockets))]))

    async def _told_to_end(self, draining: Draining) -> None:
        while isinstance(order := await self._orders.get(), Drain):
            if order.is_final:
                draining.say_goodbye()

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(BEAT)
            self._logs.tell_held_back()
            if not self.channel.is_blocked:
                self.report()

    def report(self, number: int = 0) -> None:
        """Tell the supervisor the metrics and the state; `number` is that of its question."""
        if number:  # only when asked: with 10,000 connections it takes milliseconds
            self._tasks = len(asyncio.all_tasks())
        totals = snapshot.encode(snapshot.take(self._metrics.registry))  # before the status: it completes the last failures too
        status = worker_status(self._parts, self._tasks) if self._parts is not None else b""
        names = tuple(found for found in NAMES.found if found not in self._names)
        self._names = NAMES.found
        self.channel.send(Totals(number, totals, status, names))
