"""What the kernel says: cores, and the CPU time and the memory of a process with its children."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_TICKS: Final = os.sysconf("SC_CLK_TCK")
_STEAL: Final = 7  # field of /proc/stat's first line, behind its name
_PARENT, _USER, _SYSTEM = 1, 11, 12  # fields of /proc/PID/stat behind the command's name


@dataclass(frozen=True, slots=True)
class Cores:
    """The core that the gateway has alone, and the one that everything else runs on; the same where there is only one."""

    gateway: int
    others: int

    @classmethod
    def choose(cls) -> "Cores":
        """Take the first two cores that this process may use."""
        allowed = sorted(os.sched_getaffinity(0))
        return cls(allowed[0], allowed[min(1, len(allowed) - 1)])

    def __str__(self) -> str:
        if self.gateway == self.others:
            return f"only one core: gateway, stubs and load share core {self.gateway}, so requests/s say little"
        return f"gateway on core {self.gateway}, stubs and load on core {self.others}"


@contextmanager
def on_core(core: int) -> Iterator[None]:
    """Keep this thread, and every process that it starts meanwhile, on one core."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def cpu_seconds(pid: int) -> float:
    """Return the user and system time of a process and its living children."""
    return sum(int(stat[_USER]) + int(stat[_SYSTEM]) for stat in _tree(pid).values()) / _TICKS


def resident_mib(pid: int) -> float:
    """Return the resident memory of a process and its living children; a page that several processes share is counted once in all (Pss)."""
    return sum(proportional_mib(member) for member in _tree(pid))


def proportional_mib(pid: int) -> float:
    """Return the resident memory of one process, its part of what it shares included (Pss); 0 when it has just ended."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


def descriptors(pid: int) -> int:
    """Return how many descriptors a process and its living children have open."""
    return sum(_descriptors(member) for member in _tree(pid))


class Steal:
    """What share of its cores others have taken from this virtual machine since this was made: a few percent make figures rough."""

    def __init__(self) -> None:
        self._before = _times()

    def share(self) -> float:
        """Return it, from 0 to 1."""
        passed = [now - before for now, before in zip(_times(), self._before, strict=True)]
        return passed[_STEAL] / max(1, sum(passed))


def _times() -> list[int]:
    return [int(ticks) for ticks in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]


def _tree(pid: int) -> dict[int, list[str]]:
    stats = {int(path.parent.name): stat for path in Path("/proc").glob("[0-9]*/stat") if (stat := _stat(path))}
    pids = {pid}
    while found := {child for child, stat in stats.items() if int(stat[_PARENT]) in pids} - pids:
        pids |= found
    return {member: stats[member] for member in pids if member in stats}


def _descriptors(pid: int) -> int:
    try:
        return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
    except OSError:  # it has just ended
        return 0


def _stat(path: Path) -> list[str]:
    try:
        return path.read_text().rpartition(")")[2].split()
    except OSError:  # it has just ended
        return []
