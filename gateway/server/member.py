"""One worker as the supervisor sees it: what it is told, what it has said, whether it is alive."""

import asyncio
import signal
import socket
from collections.abc import Callable, Sequence
from time import time
from typing import Final

from gateway.server.children import Child
from gateway.server.control import Ask, Assignment, Channel, Closed, Drain, End, Message, Ready, Totals, send_descriptors
from gateway.telemetry.snapshot import Snapshot, decode
from gateway.upstream.addresses import Found

SILENT_TICKS: Final = 12
"""A worker that has said nothing during so many ticks of the watchdog hangs. Ticks are counted, not seconds: when this process itself has
been stopped for a while, its workers are not to blame."""


class Member:
    """One worker process, from its assignment to its end. `ready` and `closed` (it accepts no more) are set when it says so.

    `on_end` is called when it has ended and all that it has said has been heard, `on_name` with each that it has found for a name. `status`
    is its own word on how it is, as JSON, `since` when it was started (UNIX seconds).
    """

    def __init__(self, child: Child, slot: int, *, on_end: "Callable[[Member], None]", on_name: Callable[[Found], None]) -> None:
        self.slot = slot
        self.pid = child.pid
        self.since = time()
        self.ready = asyncio.Event()
        self.closed = asyncio.Event()
        self.ended = asyncio.Event()
        self.in_flight = 0
        self.is_hung = False
        self._is_killed = False
        self._child = child
        self._on_end = on_end
        self._on_name = on_name
        self._channel = Channel(self._heed, self._lost)
        self._is_lost = False
        self._code: int | None = None
        self._totals: bytes | None = None
        self.status = b""
        self._asked = 0
        self._questions: dict[int, asyncio.Future[None]] = {}
        self._silent = 0
        child.on_end = self._reaped

    async def assign(self, assignment: Assignment, sockets: Sequence[socket.socket]) -> None:
        """Give the worker its sockets and what it serves; it says when it is `ready`. When that raises anything, it has ended."""
        channel = self._child.channel
        channel.setblocking(False)
        try:
            send_descriptors(channel, [sock.fileno() for sock in sockets])
            await asyncio.get_running_loop().create_unix_connection(lambda: self._channel, sock=channel)
            self._channel.send(assignment)
        except Exception as error:
            channel.close()
            self._lost()
            if isinstance(error, OSError):  # it has ended already, or does so now
                return
            self.kill()
            await self.ended.wait()
            raise

    @property
    def serves(self) -> bool:
        """Whether it accepts connections, as far as is known."""
        return self.ready.is_set() and not (self.closed.is_set() or self.ended.is_set())

    @property
    def snapshot(self) -> Snapshot:
        """The metrics as it told them last."""
        return decode(self._totals) if self._totals else []

    @property
    def end(self) -> str:
        """How it ended, in words."""
        if self.is_hung:
            return "it hung"
        code = self._code or 0
        return f"killed by {_signal_name(-code)}" if code < 0 else f"exit code {code}"

    @property
    def was_killed(self) -> bool:
        """Whether somebody else has killed it: the kernel for want of memory, or an operator."""
        return self._code == -signal.SIGKILL and not self.is_hung

    @property
    def broke_off(self) -> bool:
        """Whether it has served, and has not come to its end by itself, nor by us but where it hung: what it had in flight is lost."""
        return self.ready.is_set() and self._code != 0 and not self._is_killed

    def drain(self, *, is_final: bool, last: list[int]) -> None:
        """Tell it to finish and end; one that is not ready has nothing to finish. `last` is as in `Drain`."""
        if self.ready.is_set():
            self._channel.send(Drain(is_final, last))
        else:
            self.kill()

    def cut(self) -> None:
        """Tell it to cut what is in flight and end."""
        self._channel.send(End())

    def kill(self) -> None:
        """End it at once."""
        self._is_killed = True
        self._child.kill()

    def tick(self) -> bool:
        """Count one tick of the watchdog; return whether the worker has just been found to hang. It then is killed."""
        if not self.ready.is_set() or self.ended.is_set() or self.is_hung:
            return False
        self._silent += 1
        self.is_hung = self._silent > SILENT_TICKS
        if self.is_hung:
            self._child.kill()
        return self.is_hung

    def ask(self) -> asyncio.Future[None]:
        """Ask for its metrics; the future ends when `snapshot` has the answer, or the worker has ended."""
        self._asked += 1
        answered: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._questions[self._asked] = answered
        answered.add_done_callback(lambda _, number=self._asked: self._questions.pop(number, None))  # type: ignore[misc]
        self._channel.send(Ask(self._asked))
        return answered

    def _heed(self, report: Message) -> None:
        self._silent = 0
        if isinstance(report, Totals):
            self._totals, self.status = report.snapshot, report.status
            for found in report.names:
                self._on_name(found)
            self._answer(report.number)
        elif isinstance(report, Ready):
            self.ready.set()
        elif isinstance(report, Closed):
            self.in_flight = report.in_flight
            self.closed.set()

    def _answer(self, number: int) -> None:
        answered = self._questions.get(number)
        if answered is not None and not answered.done():
            answered.set_result(None)

    def _lost(self) -> None:
        self._is_lost = True
        self._look_ended()

    def _reaped(self, code: int) -> None:
        self._code = code
        self._look_ended()

    def _look_ended(self) -> None:
        if self._is_lost and self._code is not None and not self.ended.is_set():
            self.ended.set()
            self.closed.set()
            for number in tuple(self._questions):
                self._answer(number)
            self._on_end(self)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # most real-time signals have no name
        return f"signal {number}"
