"""File descriptors: as many as the system gives, and what to do when there are none left (faults F3)."""

import os
import resource
import socket
from contextlib import suppress
from typing import Final

_READ_AWAY: Final = 64 * 1024


def raise_descriptor_limit() -> int:
    """Raise the limit of this process's descriptors to the hard limit, and return it."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return most


def descriptor_limit() -> int:
    """Return how many descriptors this process may have."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


class Reserve:
    """One descriptor kept back, so that a client can be told that there are none left."""

    def __init__(self) -> None:
        self._descriptor: int | None = None
        self._refused: socket.socket | None = None
        self.restore()

    def refuse(self, listening: socket.socket, answer: bytes) -> bool:
        """Accept one connection, give it `answer`, and say whether that could be done. Afterwards there is no reserve until `restore`."""
        if self._descriptor is None:
            return False
        os.close(self._descriptor)
        self._descriptor = None
        try:
            connection, _ = listening.accept()
        except OSError:
            return False
        connection.setblocking(False)
        with suppress(OSError):
            connection.send(answer)
            connection.shutdown(socket.SHUT_WR)
        self._refused = connection
        return True

    def restore(self) -> None:
        """Close what was refused, and keep a descriptor back again if there is one."""
        self._close_refused()
        if self._descriptor is None:
            with suppress(OSError):
                self._descriptor = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)

    def close(self) -> None:
        """Give the descriptor back."""
        self._close_refused()
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _close_refused(self) -> None:
        if self._refused is not None:
            with suppress(OSError):
                self._refused.recv(_READ_AWAY)  # closing with unread bytes would be a reset, and the answer would be lost
            self._refused.close()
            self._refused = None
