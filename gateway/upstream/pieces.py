"""How much one read takes of what has come on a connection: less while memory is short, since each connection holds a piece."""

from collections.abc import Callable
from typing import Final

SMALL: Final = 4 * 1024
"""Bytes that one read takes at most while memory is short."""


class Pieces:
    """For all connections of a process; `is_short`, which is asked before each read, tells whether its memory is short."""

    def __init__(self) -> None:
        self.is_short: Callable[[], bool] = lambda: False

    def room(self, room: memoryview) -> memoryview:
        """Return the part of `room` that may be read into."""
        return room[:SMALL] if self.is_short() else room


PIECES: Final = Pieces()
