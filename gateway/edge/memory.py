"""How much room is left in the memory that this process may use, as its cgroups tell. Beyond their limits the kernel kills."""

from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import Final

from msgspec import Struct

from gateway.telemetry.cgroup import ROOT, Cgroup, cgroups

NEARLY: Final = 0.9
"""The share of a limit that may be used."""
PERIOD: Final = 0.1
"""Seconds for which what was read holds."""

_FILES: Final = {
    1: ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    2: ("memory.max", "memory.current", "inactive_file"),
}
_NO_LIMIT: Final = 1 << 62  # version 1 writes the largest number of whole pages


class MemoryWatch:
    """Looks at each cgroup with a limit that this process was in when the watch was made."""

    def __init__(self, root: Path = ROOT, *, now: Callable[[], float] = monotonic) -> None:
        self._limited = tuple(limited for group in cgroups("memory", root) if (limited := _limited(group)) is not None)
        self._now = now
        self._read_at = -PERIOD
        self._room = 0.0

    def has_room(self, size: int = 0) -> bool:
        """Tell whether so many bytes more would leave some room below each limit. Files that the kernel can let go of do not count."""
        if not self._limited:
            return True
        now = self._now()
        if now - self._read_at >= PERIOD:
            self._read_at = now
            self._room = min(limited.room() for limited in self._limited)
        return size < self._room


class _Limited(Struct, frozen=True):
    group: Cgroup
    limit: int

    def room(self) -> float:
        _, usage, inactive = _FILES[self.group.version]
        return NEARLY * self.limit - _number(self.group.read(usage)) + _stat(self.group, inactive)


def _limited(group: Cgroup) -> _Limited | None:
    limit = _number(group.read(_FILES[group.version][0]))
    return _Limited(group, limit) if 0 < limit < _NO_LIMIT else None


def _stat(group: Cgroup, name: str) -> int:
    values = (line.partition(" ") for line in group.read("memory.stat").splitlines())
    return next((_number(value) for key, _, value in values if key == name), 0)


def _number(text: str) -> int:
    return int(text) if text.strip().isdecimal() else 0
