"""Memory for requests in hand: what is promised for their bodies, and what they are going to take besides.

How much there is, is told by others (`gateway.edge.memory`).
"""

from collections.abc import Callable
from typing import Final

from gateway.edge.growth import Growth

COPIES: Final = 5
"""So many times the size of a body is held at most while it is checked, signed and sent, or verified and passed on: once and a half in each
form, and what the kernel takes."""
TAKES: Final = 32 * 1024
TAKES_TLS: Final = 96 * 1024
"""Bytes that a request may take beside its body: what is held of bodies while their readers are slow, and a connection to a peer."""


class Room:
    """Promises memory; `fits` tells whether so many bytes more may be used. `turn` is called as that of `Growth` is."""

    def __init__(self, fits: Callable[[int], bool]) -> None:
        self._fits = fits
        self._growth = Growth()
        self._taking = 0  # bytes, of requests in hand
        self._promised = 0  # bytes
        self._grown = 0  # bytes that have come for requests in hand
        self.turn = self._growth.turn

    def has_place(self, size: int) -> bool:
        """Tell whether a request may begin, with a body of so many bytes that is to be held."""
        return self._fits(self._promised + size * COPIES + self._growth.expected(self._taking))

    def take(self, size: int, besides: int) -> None:
        """Take that such a request begins, which may take so many bytes `besides`: others are promised only what is left."""
        self._promised += size * COPIES
        self._taking += besides
        self._growth.add(besides)

    def give_back(self, size: int, besides: int) -> None:
        """Take that it has ended."""
        self._promised -= size * COPIES
        self._taking -= besides

    def grow(self, size: int) -> bool:
        """Promise room for so many bytes more that come for a request in hand, until `shrink`. Tell whether there is that.

        One may always grow while no other has that is not `written` yet: else it could wait for ever, where there never is as much room.
        """
        held = size * COPIES
        if self._grown and not self._fits(self._promised + held):
            return False
        self._promised += held
        self._grown += size
        return True

    def shrink(self, size: int) -> None:
        """Take that what came for one request, so many bytes, is held in its answer only, as can be seen in the memory that is in use."""
        self._promised -= size * COPIES

    def written(self, size: int) -> None:
        """Take that nothing is held any more of what came for one request."""
        self._grown -= size
