"""Where log lines end: a file descriptor behind a bounded buffer, written by a thread of its own.

The event loop never waits for the reader of a pipe or for a disk (faults F5): a line that finds the buffer full is dropped and
counted, and an error of the descriptor drops what could not be written.
"""

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Final

BUFFER_BYTES: Final = 8 * 1024 * 1024
GATHER_SECONDS: Final = 0.02
ATOMIC: Final = 4096  # bytes that a pipe takes in one piece (PIPE_BUF of Linux); a longer line is a piece of its own


class Sink:
    """A log stream: `write` never blocks and never fails.

    `on_drop` is called with the number of lines that were lost, from any thread.
    """

    def __init__(self, fd: int, *, on_drop: Callable[[int], None] = lambda _: None, limit: int = BUFFER_BYTES) -> None:
        self._fd = fd
        self._on_drop = on_drop
        self._limit = limit
        self._lines: deque[bytes] = deque()
        self._held = 0
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"log-{fd}", daemon=True)
        self._thread.start()

    def write(self, line: bytes) -> None:
        """Take one line, newline included."""
        with self._lock:
            if self._held + len(line) > self._limit:
                dropped = True
            else:
                dropped = False
                self._held += len(line)
                self._lines.append(line)
        if dropped:
            self._on_drop(1)
        elif not self._wake.is_set():
            self._wake.set()

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
            self._flush()

    def _flush(self) -> None:
        with self._lock:
            lines, self._lines = self._lines, deque()
        for piece in _pieces(lines):
            self._write_piece(piece)
        with self._lock:
            self._held -= sum(map(len, lines))

    def _write_piece(self, lines: list[bytes]) -> None:
        try:
            self._write_all(b"".join(lines))
        except OSError:
            self._on_drop(len(lines))

    def _write_all(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(self._fd, rest) :]


def _pieces(lines: Iterable[bytes]) -> Iterator[list[bytes]]:
    """Put lines together as far as they can be written at once: those of another process cannot come between them or into them."""
    piece: list[bytes] = []
    size = 0
    for line in lines:
        if piece and size + len(line) > ATOMIC:
            yield piece
            piece, size = [], 0
        piece.append(line)
        size += len(line)
    if piece:
        yield piece
