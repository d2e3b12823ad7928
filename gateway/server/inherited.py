"""Sockets that systemd hands over (socket activation, sd_listen_fds(3)), by their names."""

import os
import socket
from collections.abc import Mapping, MutableMapping
from typing import Final

FIRST: Final = 3
NAMELESS: Final = "unknown"  # as sd_listen_fds_with_names(3) calls them

Inherited = Mapping[str, tuple[int, ...]]


def inherited_sockets(environ: MutableMapping[str, str] = os.environ, *, pid: int | None = None) -> Inherited:
    """Return the descriptors that were handed over to the process `pid` (this one by default), by name; one name may have several.

    Removes what says so from `environ`, and lets no child have the descriptors unasked: they are meant for this process alone.
    """
    mine = environ.pop("LISTEN_PID", None) == str(pid or os.getpid())
    count = environ.pop("LISTEN_FDS", "")
    names = environ.pop("LISTEN_FDNAMES", "").split(":")
    found: dict[str, tuple[int, ...]] = {}
    for index in range(int(count) if mine and count.isdecimal() else 0):
        name = names[index] if index < len(names) and names[index] else NAMELESS
        os.set_inheritable(FIRST + index, False)
        found[name] = (*found.get(name, ()), FIRST + index)
    return found


def take_over(descriptors: tuple[int, ...]) -> tuple[socket.socket, ...]:
    """Return listening sockets of their own for these descriptors, which stay open. Raises ValueError if one is none."""
    taken: list[socket.socket] = []
    try:
        for descriptor in descriptors:
            taken.append(socket.socket(fileno=os.dup(descriptor)))
            _check(taken[-1])
    except (OSError, ValueError):
        for sock in taken:
            sock.close()
        raise ValueError("what was handed over is no listening stream socket") from None
    return tuple(taken)


def _check(sock: socket.socket) -> None:
    families = (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX)
    if sock.type != socket.SOCK_STREAM or sock.family not in families:
        raise ValueError
    if not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        raise ValueError
    sock.setblocking(False)
