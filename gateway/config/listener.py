"""Where clients are listened for: an address, a unix socket, or a socket that was handed over; each with its form in the file."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final, Self

from gateway.config.values import Address

UNIX: Final = "unix:"
HANDED_OVER: Final = "fd:"


@dataclass(frozen=True, slots=True)
class Listener:
    """One place to listen at, exactly one of the three: `address`, the `path` of a unix socket, the `name` of a socket handed over.

    Such names are those of sd_listen_fds(3): printable ASCII without colon and space.
    """

    PATTERN: ClassVar[str] = rf"{Address.PATTERN}|unix:.+|fd:[!-9;-~]{{1,255}}"
    RIGHT: ClassVar[str] = "host:port or [v6]:port, unix:PATH, or fd:NAME for a socket that is handed over"

    address: Address | None = None
    path: Path | None = None
    name: str | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the written form; raises ValueError."""
        if text.startswith(UNIX) and len(text) > len(UNIX):
            return cls(path=Path(text.removeprefix(UNIX)))
        if text.startswith((UNIX, HANDED_OVER)):
            if not re.fullmatch(cls.PATTERN, text):
                raise ValueError(f"not a listener: write {cls.RIGHT}")
            return cls(name=text.removeprefix(HANDED_OVER))
        try:
            return cls(address=Address.parse(text))
        except ValueError as error:
            raise ValueError(str(error).replace(Address.RIGHT, cls.RIGHT)) from None

    def __str__(self) -> str:
        if self.path is not None:
            return f"{UNIX}{self.path}"
        return str(self.address) if self.address is not None else f"{HANDED_OVER}{self.name}"
