"""TLS on an accepted socket, with the flow control of the socket itself.

The loops' own TLS transports hide the socket's: they say that all has been written while it is full, and read ahead of whoever has paused.
Here the limits of writing, what is held and pauses are those of the socket, as they are without TLS; so slow clients are noticed alike.
"""

import asyncio
import socket
import ssl
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from typing import Any, Final

from gateway.edge.receiver import Receiver
from gateway.edge.tls import HandshakeFailed
from gateway.upstream.deadline import Deadline
from gateway.upstream.wire import Early, Wire, feed

HANDSHAKE_TIMEOUT: Final = 10.0
"""Seconds from the first byte that may come to the end of the handshake (faults A17)."""
SHUTDOWN_TIMEOUT: Final = 5.0
"""Seconds for the client to say that it has heard the end."""
_NEVER: Final = 1 << 30  # bytes, and seconds


async def secure(sock: socket.socket, context: ssl.SSLContext, make: Callable[[], Receiver], *, timeout: float) -> None:
    """Do the handshake on a connected, non-blocking socket, and give the connection to the protocol that `make` returns.

    The socket is the loop's from now on. Raises ssl.SSLError when the handshake fails, TimeoutError when it takes more than `timeout`
    seconds, another OSError when the client leaves.
    """
    loop = asyncio.get_running_loop()
    raw, hello = await loop.connect_accepted_socket(Early, sock)
    try:
        wire, rest = Wire(raw, partial(_alert, sock)), Early()
        inner = await _handshake(wire, hello, rest, context, timeout)
    except BaseException:
        raw.abort()
        raise
    protocol = make()
    wire.turns_away = protocol.turns_away
    secured = TlsTransport(inner, raw, wire)
    secured.set_protocol(protocol)
    protocol.connection_made(secured)
    feed(protocol, rest.data)


async def _handshake(wire: Wire, hello: Early, rest: Early, context: ssl.SSLContext, timeout: float) -> asyncio.Transport:
    """Return the loop's TLS transport. `hello` has what came before the handshake, `rest` takes what comes behind it."""
    raw = wire.raw
    if raw.is_closing():
        raise ConnectionResetError
    loop = asyncio.get_running_loop()
    raw.pause_reading()
    loop.call_soon(wire.begin, hello.data)  # when start_tls has set its protocol, and before that gets anything
    deadline = Deadline()  # the loop's own would not wait for what has come in time
    start = loop.start_tls(raw, rest, context, server_side=True, ssl_handshake_timeout=_NEVER, ssl_shutdown_timeout=SHUTDOWN_TIMEOUT)
    try:
        async with asyncio.timeout(None) as limit:
            deadline.set(timeout, lambda: limit.reschedule(loop.time()))
            inner = await start
    finally:
        deadline.end()
    if inner is None or inner.is_closing():
        raise ConnectionResetError
    return inner


def _alert(sock: socket.socket, error: Exception | None) -> None:
    """Tell the client why its handshake failed: the transport writes nothing more, and closes the socket next."""
    if isinstance(error, HandshakeFailed):
        with suppress(OSError):
            sock.send(error.alert)


class TlsTransport(asyncio.Transport):
    """The transport that the application sees."""

    def __init__(self, inner: asyncio.Transport, raw: asyncio.Transport, wire: Wire) -> None:
        super().__init__()
        inner.set_write_buffer_limits(high=_NEVER)
        self._inner = inner
        self._raw = raw
        self._wire = wire

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return what the loop's transports know."""
        return self._inner.get_extra_info(name, default)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Let `protocol` have what comes from now on."""
        self._wire.application = protocol
        self._inner.set_protocol(protocol)

    def get_protocol(self) -> asyncio.BaseProtocol:
        """Return the protocol that has what comes."""
        return self._inner.get_protocol()

    def is_reading(self) -> bool:
        """Whether what comes is read."""
        return self._inner.is_reading()

    def pause_reading(self) -> None:
        """Read nothing more, not from the socket either."""
        self._inner.pause_reading()
        self._raw.pause_reading()

    def resume_reading(self) -> None:
        """Read again."""
        self._raw.resume_reading()
        self._inner.resume_reading()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Encrypt and write."""
        self._inner.write(data)

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        """Encrypt and write all of them."""
        self._inner.writelines(list_of_data)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Set the limits of what the socket has not taken."""
        self._raw.set_write_buffer_limits(high, low)

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """Return these limits, low and high."""
        return self._raw.get_write_buffer_limits()

    def get_write_buffer_size(self) -> int:
        """Return how many bytes the socket has not taken."""
        return self._inner.get_write_buffer_size() + self._raw.get_write_buffer_size()

    def can_write_eof(self) -> bool:
        """Return False: one direction cannot be ended alone."""
        return False

    def write_eof(self) -> None:
        """Do what cannot be done."""
        raise NotImplementedError

    def is_closing(self) -> bool:
        """Whether it has been closed."""
        return self._inner.is_closing()

    def close(self) -> None:
        """Close when all has been written and the client has heard the end, or has had its time for that."""
        self._inner.close()

    def abort(self) -> None:
        """Close at once."""
        self._inner.abort()
