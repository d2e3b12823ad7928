"""Where log lines end: a file descriptor behind a bounded buffer, written by a thread of its own.

The event loop never waits for the reader of a pipe or for a disk (faults F5): a line that finds the buffer full is dropped and
counted, and an error of the descriptor drops what could not be written.
"""

import os
import select
import stat
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

BUFFER_BYTES: Final = 8 * 1024 * 1024
GATHER_SECONDS: Final = 0.05
"""How long lines wait for others. Each time that the thread works, it takes the interpreter from the event loop."""
ATOMIC: Final = 4096
"""Bytes that a pipe takes in one piece (PIPE_BUF of Linux); a longer line is a piece of its own."""
WHOLE: Final = 1024 * 1024
"""Bytes that are written to a file at once: there, each piece is one whatever its size."""


class Sink:
    """A log stream: `write` never blocks and never fails.

    `on_drop` is called with the number of lines that were lost, from any thread. The bound is on what was given and not written: a little
    more or less is held when several threads write.
    """

    def __init__(self, fd: int, *, on_drop: Callable[[int], None] = lambda _: None, limit: int = BUFFER_BYTES) -> None:
        self._fd = fd
        self._on_drop = on_drop
        self._limit = limit
        self._piece = WHOLE if _is_file(fd) else ATOMIC
        self._lines: deque[bytes] = deque()
        self._given = 0  # bytes; counted by those who write
        self._done = 0  # bytes written or lost; counted by the thread
        self._lines_given = self._lines_done = 0  # in the same way
        self._is_awake = False
        self._has_failed = False
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"log-{fd}", daemon=True)
        self._thread.start()

    def write(self, lines: Sequence[bytes]) -> None:
        """Take lines, their newlines included: all of them, or none."""
        given = self._given + sum(map(len, lines))
        if given - self._done > self._limit:
            self._on_drop(len(lines))
            return
        self._given = given
        self._lines_given += len(lines)
        self._lines.extend(lines)
        if not self._is_awake:
            self._is_awake = True
            self._wake.set()

    @property
    def unwritten(self) -> int:
        """How many lines are held."""
        return self._lines_given - self._lines_done

    def close(self, timeout: float = 2.0) -> None:
        """Write what is held, waiting at most `timeout` seconds for a reader that is stuck."""
        self._closing.set()
        self._wake.set()
        self._thread.join(timeout)

    def _run(self) -> None:
        while not (self._closing.is_set() and not self._lines):
            self._wake.wait()
            self._closing.wait(GATHER_SECONDS)
            self._wake.clear()
            self._is_awake = False  # whoever writes from now on wakes the thread again
            self._flush()

    def _flush(self) -> None:
        lines = self._lines
        taken = [lines.popleft() for _ in range(len(lines))]
        for piece in _pieces(taken, self._piece):
            self._write_piece(b"".join(piece))
            self._lines_done += len(piece)

    def _write_piece(self, piece: bytes) -> None:
        rest = memoryview(b"\n" + piece if self._has_failed else piece)  # a full disk may hold a part of a line, of another process even
        try:
            while rest:
                rest = rest[self._write_some(rest) :]
            self._has_failed = False
        except OSError:
            self._has_failed = True
            self._on_drop(bytes(rest[-len(piece) :]).count(b"\n"))
        self._done += len(piece)

    def _write_some(self, rest: memoryview) -> int:
        """Wait for the reader also where a process that has the same pipe or terminal has set it to be non-blocking."""
        while True:
            try:
                return os.write(self._fd, rest)
            except BlockingIOError:
                ready = select.poll()
                ready.register(self._fd, select.POLLOUT)
                ready.poll()


def _is_file(fd: int) -> bool:
    try:
        return stat.S_ISREG(os.fstat(fd).st_mode)
    except OSError:
        return False


def _pieces(lines: Iterable[bytes], most: int) -> Iterator[list[bytes]]:
    """Put lines together as far as they can be written at once: those of another process cannot come between them or into them."""
    piece: list[bytes] = []
    size = 0
    for line in lines:
        if piece and size + len(line) > most:
            yield piece
            piece, size = [], 0
        piece.append(line)
        size += len(line)
    if piece:
        yield piece
