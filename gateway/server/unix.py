"""Unix sockets to listen on: their file, its mode, and what may stand in its place."""

import errno
import os
import socket
import stat
from pathlib import Path

Inode = tuple[int, int]


def listen_unix(path: Path, *, mode: int, backlog: int) -> socket.socket:
    """Listen at a path. The file gets `mode` before anybody can connect.

    A file that a socket left behind is replaced; never one on which somebody listens, nor what is no socket. Raises OSError.
    """
    _remove_stale(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        os.fchmod(sock.fileno(), 0)  # the file begins with the mode of its socket (Linux)
        sock.bind(os.fspath(path))
        path.chmod(mode)
        sock.listen(backlog)
    except OSError:
        sock.close()
        raise
    return sock


def inode(path: Path) -> Inode | None:
    """Tell which file stands at a path; None if there is none, or none that may be looked at."""
    try:
        found = path.lstat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _remove_stale(path: Path) -> None:
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise FileExistsError(errno.EEXIST, "a file that is no socket stands there")
    if _is_live(path):
        raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
    path.unlink(missing_ok=True)


def _is_live(path: Path) -> bool:
    """Whether somebody listens on a socket. Raises OSError if that cannot be told."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(os.fspath(path))
        except ConnectionRefusedError:
            return False
        except BlockingIOError:  # somebody does, and has much to do
            return True
        return True
