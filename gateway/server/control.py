"""The channel between the supervisor and a worker: what they say to each other, and how that travels over a socket pair.

A message is a msgspec structure in MessagePack behind its length (4 bytes, big endian). The descriptors of the listening sockets go
ahead of the first message (`send_descriptors`), since asyncio's transports carry none. The end of the channel is a message too: to
a worker it says that the supervisor has died.
"""

import asyncio
import socket
from collections.abc import Callable, Sequence
from typing import Any, Final, cast

import msgspec
from msgspec import Struct

from gateway.upstream.addresses import Found

LENGTH: Final = 4
MESSAGE_MAX: Final = 64 << 20
DESCRIPTORS_MAX: Final = 253  # in one message; SCM_MAX_FD of the kernel


class Assignment(Struct, frozen=True, tag=True):
    """To a worker, first of all: what it serves.

    `config` is a pickled Config, `files` what stands in the files that it names, `names` what other workers have found for names.
    """

    generation: int
    slot: int
    config: bytes
    files: dict[str, bytes]
    names: tuple[Found, ...] = ()


class Ask(Struct, frozen=True, tag=True):
    """To a worker: tell your metrics now."""

    number: int


class Drain(Struct, frozen=True, tag=True):
    """To a worker: accept no more, finish what is in flight and end.

    `is_final`: the service ends. `last`: which of its sockets (by index) nobody else accepts from; what waits there is taken.
    """

    is_final: bool
    last: list[int]


class End(Struct, frozen=True, tag=True):
    """To a worker that drains: cut what is in flight, log it and end."""


class Ready(Struct, frozen=True, tag=True):
    """From a worker: it accepts connections."""


class Totals(Struct, frozen=True, tag=True):
    """From a worker, each second and when asked: how it is, which is its heartbeat too.

    `snapshot` is its metrics, as `snapshot.encode` gives them, `status` what `gateway.admin.status.worker_status` gives; `number` is
    that of the question, or 0 where none was asked. `names` are what it has found for names, if that has changed.
    """

    number: int
    snapshot: bytes
    status: bytes = b""
    names: tuple[Found, ...] = ()


class Closed(Struct, frozen=True, tag=True):
    """From a worker: it has stopped accepting, with so many requests in flight."""

    in_flight: int


Order = Assignment | Ask | Drain | End
Report = Ready | Totals | Closed
Message = Order | Report

_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder(Message)


class BadMessage(Exception):
    """The other side does not speak as this one: another version, perhaps."""


def encode(message: Message) -> bytes:
    """Return a message as it travels."""
    data = _encoder.encode(message)
    return len(data).to_bytes(LENGTH, "big") + data


def send_descriptors(channel: socket.socket, descriptors: Sequence[int]) -> None:
    """Send descriptors ahead of all messages, at most DESCRIPTORS_MAX."""
    socket.send_fds(channel, [bytes([len(descriptors)])], descriptors)


def receive_descriptors(channel: socket.socket) -> list[int] | None:
    """Wait for the descriptors; None when the other side has ended. The channel must be blocking."""
    data, descriptors, _, _ = socket.recv_fds(channel, 1, DESCRIPTORS_MAX)
    if not data:
        return None
    if len(descriptors) != data[0]:
        raise BadMessage("descriptors are missing: the limit of open files, perhaps")
    return descriptors


def receive(channel: socket.socket) -> Message | None:
    """Wait for one message; None when the other side has ended. The channel must be blocking."""
    length = _receive_exactly(channel, LENGTH)
    data = _receive_exactly(channel, _length(length)) if length else None
    return _decode(data) if data else None


class Channel(asyncio.Protocol):
    """One side of the channel, once it is served by an event loop. `on_lost` is called once, at its end."""

    def __init__(self, on_message: Callable[[Any], None], on_lost: Callable[[], None]) -> None:
        self._on_message = on_message
        self._on_lost = on_lost
        self._held = bytearray()
        self._transport: asyncio.Transport | None = None
        self._is_over = False

    @property
    def is_blocked(self) -> bool:
        """Whether the other side has not yet taken what was sent."""
        return self._transport is None or self._transport.get_write_buffer_size() > 0

    def send(self, message: Message) -> None:
        """Send a message; nothing happens when the other side has ended, or nothing more is to be sent."""
        if self._transport is not None and not self._is_over and not self._transport.is_closing():
            self._transport.write(encode(message))

    def finish(self) -> None:
        """Send no more, and let the other side close when it has heard all: where it cannot send, it reads no more either."""
        self._is_over = True
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write_eof()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Pass on each message that has come whole."""
        self._held += data
        while len(self._held) >= LENGTH and len(self._held) >= (end := LENGTH + _length(self._held[:LENGTH])):
            message = _decode(bytes(self._held[LENGTH:end]))
            del self._held[:end]
            self._on_message(message)

    def connection_lost(self, _: Exception | None) -> None:
        """Tell that the other side has ended."""
        self._on_lost()


def _length(header: bytes | bytearray) -> int:
    length = int.from_bytes(header, "big")
    if length > MESSAGE_MAX:
        raise BadMessage("a message is too long")
    return length


def _decode(data: bytes) -> Message:
    try:
        message: Message = _decoder.decode(data)
    except msgspec.MsgspecError as error:
        raise BadMessage("a message cannot be read") from error
    return message


def _receive_exactly(channel: socket.socket, count: int) -> bytes | None:
    data = bytearray()
    while len(data) < count:
        part = channel.recv(count - len(data))
        if not part:
            return None
        data += part
    return bytes(data)
