"""Ports for programs that cannot choose one themselves and say which."""

import os
import socket
from collections.abc import Iterator
from itertools import cycle
from typing import Final

_FIRST: Final = 10_000
_COUNT: Final = 22_000  # they end below those that the kernel gives to whoever asks for any
_APART: Final = 1009  # between the first ports of two processes


def _ports() -> Iterator[int]:
    begin = os.getpid() * _APART % _COUNT
    return cycle([*range(_FIRST + begin, _FIRST + _COUNT), *range(_FIRST, _FIRST + begin)])


_CANDIDATES: Final = _ports()


def free_port() -> int:
    """Return a port of 127.0.0.1 that nothing uses; none is returned twice within a process, and other processes begin elsewhere."""
    for port in _CANDIDATES:
        try:
            socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            continue
        return port
    raise AssertionError("cycle() does not end")
