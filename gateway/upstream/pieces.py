"""How much one read takes of what has come on a connection: less while memory is short, since each connection holds a piece."""

from collections.abc import Callable
from typing import Final

READ: Final = 32 * 1024
"""Bytes that one read takes at most of a client, and of whatever has TLS."""
PIECE: Final = 4 * 1024
"""Bytes that one read takes at most while memory is short."""
LOOK: Final = 256 * 1024
"""When so many bytes have come, it is looked whether memory is short."""


class Pieces:
    """For all connections of a process. `is_short` tells whether its memory is short. While pieces `are_small`, no more is to be read.

    What comes in less than PIECE bytes does not count, and costs nothing.
    """

    def __init__(self) -> None:
        self.is_short: Callable[[], bool] = lambda: False
        self.are_small = False
        self._came = 0  # bytes

    def count(self, size: int) -> None:
        """Take that so many bytes have come at once."""
        self._came += size
        if self._came >= LOOK:
            self._came = 0
            self.are_small = self.is_short()


PIECES: Final = Pieces()
