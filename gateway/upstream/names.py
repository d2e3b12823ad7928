"""What a function says of the names of header fields, remembered: a table that is looked up in C for each field of each message.

Who sends ever new names, or long ones, takes no memory with them; they only cost the time of asking the function.
"""

from collections.abc import Callable, Iterable
from typing import Final, TypeVar

from gateway.upstream.message import Field, first

T = TypeVar("T")

MOST: Final = 1024
LONGEST: Final = 64


class NameTable(dict[bytes, T]):
    """Holds what `say` says, of at most MOST names with at most LONGEST bytes each."""

    def __init__(self, say: Callable[[bytes], T]) -> None:
        super().__init__()
        self._say = say

    def __missing__(self, name: bytes) -> T:
        """Ask, and remember."""
        said = self._say(name)
        if len(name) <= LONGEST:
            if len(self) >= MOST:
                self.clear()
            self[name] = said
        return said

    def of(self, fields: Iterable[Field]) -> list[T]:
        """Return what is said of the name of each of the fields."""
        return list(map(self.__getitem__, map(first, fields)))
