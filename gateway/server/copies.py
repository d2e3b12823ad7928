"""Copies in memory of the files that a configuration names: all workers of a generation use the same ones, whatever happens on disk.

A worker that is replaced reads what its predecessor read, also when a file has been changed or broken meanwhile (faults E5), and what
is checked is what is used.
"""

import os
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from stat import S_ISREG
from types import TracebackType
from typing import Final, Self

from gateway.config import Config
from gateway.config.faults import KeyPath
from gateway.config.files import with_files

FILE_MAX: Final = 1 << 20
"""Bytes. No key, certificate or bundle of CAs is larger; a device or a log file named by mistake is not read to its end."""

FOLDER: Final = Path("/proc/self/fd")
"""Where copies are opened."""

Contents = dict[str, bytes]
"""What stands in each file, by its path."""


def read_files(files: Iterable[Path]) -> Contents:
    """Read the files. One that is no regular file, cannot be read or is too large is left out: the checks say what is wrong with it."""
    read = {str(file): content(file) for file in files}
    return {file: data for file, data in read.items() if data is not None}


def content(file: Path) -> bytes | None:
    """Read one file; None where that cannot be done."""
    try:
        if not S_ISREG(file.stat().st_mode):  # a pipe could block for ever
            return None
        with file.open("rb") as stream:
            data = stream.read(FILE_MAX + 1)
    except (OSError, ValueError):
        return None
    return data if len(data) <= FILE_MAX else None


def can_be_opened() -> bool:
    """Whether copies can be used here: not where /proc is not mounted."""
    return FOLDER.is_dir()


class Copies:
    """The copies, while the context is open. `apply` points a configuration at them; a file without a copy is left as it is."""

    def __init__(self, contents: Contents) -> None:
        self._contents = contents
        self._places: dict[str, Path] = {}
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._places = {file: _place(data, stack) for file, data in self._contents.items()}
            self._stack = stack.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stack.close()

    def apply(self, config: Config) -> Config:
        """Return the configuration with the copies in place of the files."""
        return with_files(config, self._copy)

    def _copy(self, _: KeyPath, file: Path) -> Path:
        return self._places.get(str(file), file)


def _place(data: bytes, stack: ExitStack) -> Path:
    """Put a copy where only this process sees it, under a path that can be opened."""
    descriptor = os.memfd_create("gateway", os.MFD_CLOEXEC)
    stack.callback(os.close, descriptor)
    with os.fdopen(descriptor, "wb", closefd=False) as stream:
        stream.write(data)
    return FOLDER / str(descriptor)
