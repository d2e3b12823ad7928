"""How much room is left in the memory that this process may use, as its cgroups tell. Beyond their limits the kernel kills."""

import ctypes
from collections.abc import Callable
from math import inf
from pathlib import Path
from time import monotonic
from typing import Final

from msgspec import Struct

from gateway.telemetry.cgroup import ROOT, Cgroup, cgroups

NEARLY: Final = 0.9
"""The share of a limit that may be used."""
PERIOD: Final = 0.1
"""Seconds after which the memory in use is read again."""
SHORT: Final = 0.1
"""The share of a limit that is little."""
CLOSE: Final = 0.25
"""A share of the room. When so much may be taken, it is read again sooner."""
AT_LEAST: Final = 0.005
"""Seconds between two readings in any case."""
GROWS: Final = 2e9
"""Bytes that may be taken in a second: it is read again before the room can be used up."""
RELEASED: Final = 5.0
"""Seconds after which unused memory is given back again to the kernel at the soonest, where there is no room: that takes milliseconds."""
LIMITS_PERIOD: Final = 1.0
"""Seconds for which the limits hold: whoever runs the process may change them."""
_LIBC: Final = ctypes.CDLL(None)
_NO_LIMIT: Final = 1 << 62  # version 1 writes the largest number of whole pages


class _Names(Struct, frozen=True):
    """What a version calls its files, and in `memory.stat` the pages of files: not used lately, used lately, and mapped by a process."""

    limit: str
    usage: str
    files: tuple[str, str]
    mapped: str


_NAMES: Final = {
    1: _Names("memory.limit_in_bytes", "memory.usage_in_bytes", ("total_inactive_file", "total_active_file"), "total_mapped_file"),
    2: _Names("memory.max", "memory.current", ("inactive_file", "active_file"), "file_mapped"),
}


def give_back() -> None:
    """Give the kernel the memory that malloc keeps unused, where that is glibc's."""
    trim = getattr(_LIBC, "malloc_trim", None)
    if trim is not None:
        trim(0)


class MemoryWatch:
    """Looks at each cgroup that this process was in when the watch was made.

    It is one of so many `workers` that share their room, and may all ask for as much at the same time.
    """

    def __init__(
        self, root: Path = ROOT, *, workers: int = 1, now: Callable[[], float] = monotonic, release: Callable[[], object] = give_back
    ) -> None:
        self._groups = tuple(cgroups("memory", root))
        self._workers = workers
        self._now = now
        self._release = release
        self._released_at = -inf
        self._limits: dict[Cgroup, int] = {}
        self._limits_read_at = self._read_at = self._due = -inf  # when it is to be read again in any case
        self._room: dict[Cgroup, float] = {}
        self._left = inf  # bytes, below the narrowest limit
        self._is_short = False

    def fits(self, size: int) -> bool:
        """Tell whether so many bytes more leave some room below each limit.

        Files that the kernel can let go of do not count. What cannot be read just now, is as it was.
        """
        now, wanted = self._now(), self._workers * size
        if now >= self._due or (now >= self._read_at + AT_LEAST and wanted >= CLOSE * self._left):
            self._read(now)
        if wanted >= self._left and now >= self._released_at + RELEASED:
            self._released_at = now
            self._release()
            self._read(now)
        return wanted < self._left

    def is_short(self) -> bool:
        """Tell whether little is left below a limit."""
        now = self._now()
        if now >= self._due:
            self._read(now)
        return self._is_short

    def _read(self, now: float) -> None:
        self._read_at, self._due = now, now + LIMITS_PERIOD
        if now >= self._limits_read_at + LIMITS_PERIOD:
            self._limits_read_at = now
            self._read_limits()
        self._room = {group: self._room_in(group, limit) for group, limit in self._limits.items()}
        self._left = min(self._room.values(), default=inf)
        self._is_short = any(room < SHORT * self._limits[group] for group, room in self._room.items())
        if self._limits:
            lasts = max(AT_LEAST, min(PERIOD, self._left / GROWS))
            self._due = min(now + lasts, self._limits_read_at + LIMITS_PERIOD)

    def _read_limits(self) -> None:
        for group in self._groups:
            limit = group.read(_NAMES[group.version].limit).strip()
            if limit.isdecimal() and 0 < int(limit) < _NO_LIMIT:
                self._limits[group] = int(limit)
            elif limit:
                self._limits.pop(group, None)

    def _room_in(self, group: Cgroup, limit: int) -> float:
        names = _NAMES[group.version]
        usage = group.read(names.usage).strip()
        stat = dict(line.split(" ", 1) for line in group.read("memory.stat").splitlines() if " " in line)
        if not usage.isdecimal() or not stat:
            return self._room.get(group, inf)
        inactive, active, mapped = (int(stat.get(name, "0")) for name in (*names.files, names.mapped))
        return NEARLY * limit - int(usage) + inactive + max(0, active - mapped)
