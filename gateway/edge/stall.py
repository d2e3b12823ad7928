"""Who takes nothing of what is sent, as a client of its answer (faults A9), and who leaves while nothing is read from it."""

import asyncio
import select
import socket
import struct
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from fcntl import ioctl
from termios import TIOCOUTQ
from typing import Final

from gateway.upstream.deadline import Deadline, within

HOLD_NOTHING: Final = 1
"""The high-water mark of a transport that is to pause its writer when it could not send all. With 0, those of TLS pause when empty."""
LOOKS: Final = 8
"""So often it is looked within the timeout whether anything was taken; the reset comes by such a part of it too late at most."""
LOOK_SECONDS: Final = 1.0
"""Seconds between two looks at most, for whether the other side has left."""
_NO_LINGER: Final = struct.pack("ii", 1, 0)


class StallWatch:
    """Calls `on_stall` when the peer of a transport that holds bytes for it has taken nothing for `timeout` seconds, and resets it.

    `begin` when the transport has more than it could send, `end` when it has sent it all or is closed.
    """

    __slots__ = ("_deadline", "_held", "_looks", "_on_stall", "_timeout", "_transport")

    def __init__(self, timeout: float, on_stall: Callable[[], None]) -> None:
        self._timeout = timeout
        self._on_stall = on_stall
        self._deadline = Deadline()
        self._transport: asyncio.WriteTransport | None = None
        self._held = 0
        self._looks = 0  # since the peer has taken something

    def begin(self, transport: asyncio.WriteTransport) -> None:
        """Watch from now on."""
        self._transport = transport
        self._wait(transport)

    def end(self) -> None:
        """Watch no longer."""
        self._deadline.clear()

    def close(self) -> None:
        """Watch no longer, and let go of the transport and of whom to tell: no cycle is left for the garbage collector."""
        self._deadline.end()
        self._on_stall = _nobody
        self._transport = None

    def _wait(self, transport: asyncio.WriteTransport) -> None:
        self._held, self._looks = untaken(transport), 0
        self._deadline.set(self._timeout / LOOKS, self._look)

    def _look(self) -> None:
        transport = self._transport
        assert transport is not None
        if untaken(transport) < self._held:
            self._wait(transport)
            return
        self._looks += 1
        if self._looks < LOOKS:
            self._deadline.set(self._timeout / LOOKS, self._look)
        else:
            self._on_stall()
            reset(transport)


def untaken(transport: asyncio.WriteTransport) -> int:
    """Return how many bytes the peer has not taken: what the transport holds for it, and what the kernel holds.

    The transport alone does not tell: the kernel takes no more before a third of what it holds, up to 4 MiB, is gone.
    """
    size = transport.get_write_buffer_size()
    sock = transport.get_extra_info("socket")
    with suppress(OSError, AttributeError, ValueError):
        size += int.from_bytes(ioctl(sock.fileno(), TIOCOUTQ, bytes(4)), sys.byteorder)
    return size


async def until_taken(
    transport: asyncio.WriteTransport, drain: Callable[[], Awaitable[None]], timeout: float, look: Callable[[], None]
) -> None:
    """Wait until `drain` returns. Raises TimeoutError when the peer has taken nothing for `timeout` seconds, and what `look` raises.

    That is called again and again meanwhile: of who is not read from, nothing else tells that it has left.
    """
    part, quiet, held = min(timeout / LOOKS, LOOK_SECONDS), 0.0, untaken(transport)
    while True:
        with suppress(TimeoutError):
            await within(part, drain)
            return
        look()
        left = untaken(transport)
        quiet = 0.0 if left < held else quiet + part
        held = left
        if quiet >= timeout:
            raise TimeoutError


def has_left(transport: asyncio.BaseTransport) -> bool:
    """Tell whether the peer has reset the connection, of which a transport that does not read learns nothing."""
    sock = transport.get_extra_info("socket")
    if sock is None or sock.fileno() < 0:
        return False
    poll = select.poll()
    poll.register(sock.fileno(), 0)  # whatever is asked for, errors are told
    return bool(poll.poll(0))


def reset(transport: asyncio.WriteTransport) -> None:
    """Close at once, so that the peer sees a reset and no end, and the kernel keeps nothing for it: otherwise up to 4 MiB, for minutes."""
    sock = transport.get_extra_info("socket")
    with suppress(OSError, AttributeError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
    transport.abort()


def _nobody() -> None:
    """Be told of nothing."""
