"""Listening sockets: opened once by the process that holds them, and kept over reloads as long as their address stays.

For host:port there is one SO_REUSEPORT socket for each worker slot, so that the kernel spreads connections (architecture, decision 5);
unix and handed-over sockets are shared by all slots. Accepting is left to `gateway.server.acceptor`, and so is listening where others of
ours do already: the kernel gives a further socket connections from then on, and its worker may never get ready.
"""

import errno
import socket
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from gateway.config import Address, Listener
from gateway.server.control import DESCRIPTORS_MAX
from gateway.server.inherited import Inherited, take_over
from gateway.server.unix import Inode, inode, listen_unix

BACKLOG: Final = 4096
_REASONS: Final = {
    errno.EADDRINUSE: "in use already",
    errno.EADDRNOTAVAIL: "this machine has no such address",
}


class CannotListen(Exception):
    """A listener could not be opened; the text names it and says why."""


@dataclass(frozen=True, slots=True)
class _Opened:
    """The sockets of one listener. `file` is that of a unix socket."""

    listener: Listener
    sockets: tuple[socket.socket, ...]
    file: Inode | None = None

    def slot(self, index: int, slots: int) -> tuple[socket.socket, ...]:
        return self.sockets[index::slots] if self.listener.address is not None else self.sockets

    def is_current(self) -> bool:
        """Whether new connections still find it: the file of a unix socket may have been removed."""
        return self.listener.path is None or inode(self.listener.path) == self.file

    def ports(self) -> set[int]:
        return {sock.getsockname()[1] for sock in self.sockets} if self.listener.address is not None else set()

    def name(self) -> str:
        address = self.listener.address
        return str(Address(address.host, *self.ports())) if address is not None else str(self.listener)

    def close(self, kept: Collection[socket.socket]) -> None:
        gone = [sock for sock in self.sockets if sock not in kept]
        if self.listener.path is not None and gone and self.is_current():
            with suppress(OSError):  # one that is left behind is replaced at the next start
                self.listener.path.unlink()
        _close(gone)


class Listeners:
    """Open listeners. `slots` has a tuple of sockets for each worker slot; they stay this object's, which closes them.

    `names` are the listeners as people write them, with the port that the system chose in place of 0, also when they have been closed.
    """

    def __init__(self, opened: Iterable[_Opened] = (), slots: int = 1) -> None:
        self._opened = tuple(opened)
        self.names = tuple(each.name() for each in self._opened)
        self.slots: tuple[tuple[socket.socket, ...], ...] = tuple(
            tuple(sock for each in self._opened for sock in each.slot(index, slots)) for index in range(slots)
        )

    def reopen(self, listeners: Iterable[Listener], *, slots: int, unix_mode: int, inherited: Inherited) -> "Listeners":
        """Open what another configuration asks for; what did not change stays the same sockets. Raises CannotListen, and then all stays.

        The files of unix sockets that stay keep their mode until `set_mode`.
        With fewer slots than before, the sockets of those that are gone are dealt out to the others, so that nothing that waits is lost.
        Afterwards both have these sockets: close this one with `but` the new one. No slot has more than a worker can be sent.
        """
        kept = {each.listener: each for each in self._opened if each.is_current()}
        ports = {port for each in self._opened for port in each.ports()}
        opening = _Opening(slots, unix_mode, inherited, kept, ports)
        opened: list[_Opened] = []
        try:
            for listener in listeners:
                opened.append(opening.open(listener))  # noqa: PERF401  what is open is closed when the next one fails
            reopened = Listeners(opened, slots)
            _check_room(reopened)
        except CannotListen:
            Listeners(opened).close(but=self)
            raise
        return reopened

    def set_mode(self, unix_mode: int) -> None:
        """Give this mode to the files of all unix sockets, also of those that were open before. Raises CannotListen."""
        for each in self._opened:
            if each.listener.path is not None and each.is_current():
                try:
                    each.listener.path.chmod(unix_mode)
                except OSError as error:
                    raise CannotListen(f"{each.listener}: {_reason(error)}") from error

    def close(self, *, but: "Listeners | None" = None) -> None:
        """Close every socket that `but` does not have too, and remove the files of unix sockets that are closed."""
        kept = {sock for slot in (but.slots if but is not None else ()) for sock in slot}
        for each in self._opened:
            each.close(kept)


def open_listeners(listeners: Iterable[Listener], *, slots: int, unix_mode: int, inherited: Inherited) -> Listeners:
    """Open all of `listeners` for so many worker slots. Raises CannotListen, and then none is open.

    `unix_mode` is the mode of unix sockets, `inherited` what `gateway.server.inherited.inherited_sockets` returned.
    """
    return Listeners().reopen(listeners, slots=slots, unix_mode=unix_mode, inherited=inherited)


def open_address(address: Address, *, is_first: bool = True, listens: bool = True) -> socket.socket:
    """Listen at one address, with SO_REUSEPORT set. Raises CannotListen.

    `is_first`: fail where anybody listens there already; else join those of this user that do. Without `listens`, that is left to others.
    """
    try:
        family, place = _resolve(address)
        sock = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        raise CannotListen(f"{address}: {_reason(error)}") from error
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, not is_first)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(place)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)  # with it before bind, two gateways would share a port unnoticed
        if listens:
            sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        raise CannotListen(f"{address}: {_reason(error)}") from error
    return sock


@dataclass(frozen=True, slots=True)
class _Opening:
    """What opening goes by: `kept` are the listeners that are open, `ports` those on which we listen already."""

    slots: int
    unix_mode: int
    inherited: Inherited
    kept: Mapping[Listener, _Opened]
    ports: Collection[int]

    def open(self, listener: Listener) -> _Opened:
        kept = self.kept.get(listener)
        if listener.address is not None:
            return self._open_address(listener, listener.address, kept)
        if listener.path is not None:
            return self._open_unix(listener, listener.path, kept)
        return kept or self._take_over(listener)

    def _open_address(self, listener: Listener, address: Address, kept: _Opened | None) -> _Opened:
        before = kept.sockets if kept is not None else ()
        sockets = list(before)
        try:
            while len(sockets) < self.slots:
                port = sockets[0].getsockname()[1] if sockets else address.port
                is_new = port not in self.ports
                sockets.append(open_address(Address(address.host, port), is_first=is_new and not sockets, listens=is_new))
        except CannotListen:
            _close(sockets[len(before) :])
            raise
        return _Opened(listener, tuple(sockets))

    def _open_unix(self, listener: Listener, path: Path, kept: _Opened | None) -> _Opened:
        if kept is not None:
            return kept
        try:
            return _Opened(listener, (listen_unix(path, mode=self.unix_mode, backlog=BACKLOG),), inode(path))
        except OSError as error:
            raise CannotListen(f"{listener}: {_reason(error)}") from error

    def _take_over(self, listener: Listener) -> _Opened:
        descriptors = self.inherited.get(listener.name or "", ())
        if not descriptors:
            raise CannotListen(f"{listener}: no socket of this name was handed over")
        try:
            return _Opened(listener, take_over(descriptors))
        except ValueError as error:
            raise CannotListen(f"{listener}: {error}") from error


def _check_room(listeners: Listeners) -> None:
    """Raise CannotListen where a slot has more sockets than can be sent to a worker."""
    most = max(map(len, listeners.slots))
    if most > DESCRIPTORS_MAX:
        raise CannotListen(
            f"one worker would get {most} sockets, {DESCRIPTORS_MAX} at most can be sent: write fewer listeners, or no fewer workers"
            " (those of workers that are gone are dealt out to the others until the gateway is started anew)"
        )


def _resolve(address: Address) -> tuple[socket.AddressFamily, Any]:
    """Look a host up; of several addresses an IPv4 one is taken."""
    found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, _, _, _, place = min(found, key=lambda each: each[0] != socket.AF_INET)
    return family, place


def _reason(error: OSError) -> str:
    return _REASONS.get(error.errno or 0) or error.strerror or type(error).__name__


def _close(sockets: Iterable[socket.socket]) -> None:
    for sock in sockets:
        sock.close()
