"""The file with the id of the supervisor's process, by which `gateway reload` and `gateway stop` find it.

It stays locked as long as the process lives, so that a file that was left behind is told from a running service.
"""

import errno
import fcntl
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Final

_MODE: Final = 0o644
_LOOKED_AT: Final = 4096  # bytes; no process id is as long
_LOOKS: Final = 100  # so often it is tried while somebody looks
_LOOK: Final = 0.01  # seconds


class CannotHold(Exception):
    """The pid file cannot be written, or another process holds it; the text says which."""


class PidFile:
    """Holds a pid file until `release`. Raises CannotHold."""

    def __init__(self, file: Path) -> None:
        self.file = file
        try:
            self._descriptor = _locked(file)
        except BlockingIOError as error:
            raise CannotHold(f"server.pid_file: {file} is held by a running gateway") from error
        except OSError as error:
            hint = f"; make the folder {file.parent} first" if isinstance(error, FileNotFoundError) else ""
            raise CannotHold(f"server.pid_file: {file} cannot be written: {error.strerror}{hint}") from error

    def is_current(self) -> bool:
        """Whether the file is still there: it may have been removed."""
        return _is_at(self.file, self._descriptor)

    def release(self) -> None:
        """Remove the file, unless another one stands there by now."""
        with suppress(OSError):
            if self.is_current():
                self.file.unlink()
        os.close(self._descriptor)


def running(file: Path) -> int | None:
    """Return the id of the process that holds this pid file; None where there is none. Raises OSError where that cannot be told."""
    try:
        with file.open("rb") as stream:
            return _holder(stream)
    except FileNotFoundError:
        return None


def _holder(stream: BinaryIO) -> int | None:
    try:
        fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        text = stream.read().strip()
        return int(text) if text.isdigit() else None
    return None


def _locked(file: Path) -> int:
    """Open and lock a pid file, and write our id into it. Raises OSError, BlockingIOError where another process holds it."""
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _MODE)
    try:
        _lock(descriptor)
        if _is_at(file, descriptor):
            _demand_no_other_content(descriptor)
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
            return descriptor
    except OSError:
        os.close(descriptor)
        raise
    os.close(descriptor)
    return _locked(file)  # the one before has just removed what was opened


def _lock(descriptor: int) -> None:
    """Lock a pid file. Who looks at it with `running` has it for a moment, and is waited for.

    By the clock: to wait in the kernel would be to wait for a gateway, too, that gets it first and keeps it.
    Raises BlockingIOError where a process holds it.
    """
    for _ in range(_LOOKS):
        with suppress(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)  # which those who look have too, and none beside a holder
        time.sleep(_LOOK)
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _demand_no_other_content(descriptor: int) -> None:
    """Raise FileExistsError for what is no pid file: a key perhaps, whose path was written by mistake."""
    text = os.pread(descriptor, _LOOKED_AT, 0).strip()
    if text and not text.isdigit():
        raise FileExistsError(errno.EEXIST, "a file that holds no process id stands there")


def _is_at(file: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(file.stat(), os.fstat(descriptor))
    except OSError:
        return False
