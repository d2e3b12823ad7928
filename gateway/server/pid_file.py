"""The file with the id of the supervisor's process, by which `gateway reload` and `gateway stop` find it.

It stays locked as long as the process lives, so that a file that was left behind is told from a running service.
"""

import fcntl
import os
from contextlib import suppress
from pathlib import Path
from typing import Final

_MODE: Final = 0o644


class CannotHold(Exception):
    """The pid file cannot be written, or another process holds it; the text says which."""


class PidFile:
    """Holds a pid file until `release`. Raises CannotHold."""

    def __init__(self, file: Path) -> None:
        self.file = file
        try:
            self._descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _MODE)
        except OSError as error:
            raise CannotHold(f"server.pid_file: {file} cannot be written: {error.strerror}") from error
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, f"{os.getpid()}\n".encode(), 0)
        except OSError as error:
            os.close(self._descriptor)
            is_held = isinstance(error, BlockingIOError)
            raise CannotHold(
                f"server.pid_file: {file} {'is held by a running gateway' if is_held else f'cannot be written: {error.strerror}'}"
            ) from error

    def release(self) -> None:
        """Remove the file."""
        with suppress(OSError):
            self.file.unlink()
        os.close(self._descriptor)


def running(file: Path) -> int | None:
    """Return the id of the process that holds this pid file; None where there is none."""
    try:
        with file.open("rb") as stream:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        text = file.read_bytes().strip()
        return int(text) if text.isdigit() else None
    except OSError:
        return None
    return None
