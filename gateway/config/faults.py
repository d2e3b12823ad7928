"""A fault in the configuration, and the error that carries all of them."""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

KeyPath = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong (or, as a warning, doubtful) at one key; `message` says what, and what would be right, and holds no secret.

    `path` is the key's path from the root of the file; checks leave `line` (from 1) and `file` to the loader.
    """

    path: KeyPath
    message: str
    warning: bool = False
    line: int | None = None
    file: Path | None = None

    def __str__(self) -> str:
        """Give the line that people read: `FILE:LINE: key.path: message`."""
        place = f"{self.file}:{self.line}" if self.line else str(self.file or "")
        kind = "warning: " if self.warning else ""
        return ": ".join(part for part in (place, dotted(self.path), kind + self.message) if part)


class ConfigError(Exception):
    """The configuration is not valid; `faults` lists everything that is wrong, and warnings too, in the order of the file."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join(map(str, self.faults)))


def dotted(path: KeyPath) -> str:
    """Write a key's path for people: `alipayplus.signing.private_keys."1".file`, `server.listen[0]`."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{_segment(part)}" for part in path)
    return text.removeprefix(".")


def _segment(name: str) -> str:
    return name if re.fullmatch("[A-Za-z_][A-Za-z0-9_-]*", name) else json.dumps(name)
