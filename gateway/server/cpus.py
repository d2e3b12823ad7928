"""How many CPUs this process may use: those that it is allowed to run on, and no more than its cgroups' quotas are worth."""

import math
import os
from collections.abc import Iterator
from pathlib import Path

ROOT = Path("/")


def usable_cpus(root: Path = ROOT) -> int:
    """Return the number of workers that can run at once, at least 1. A part of a CPU counts as one."""
    allowed = len(os.sched_getaffinity(0))
    quotas = (quota for quota in _quotas(root) if quota > 0)
    return max(1, math.ceil(min((allowed, *quotas))))


def _quotas(root: Path) -> Iterator[float]:
    """Give the quota, in CPUs, of each cgroup that this process belongs to, with those around it (cgroups(7), versions 1 and 2)."""
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, name = rest.partition(":")
        if not controllers:
            yield from (_version_2(folder) for folder in _around(root / "sys/fs/cgroup", name))
        elif "cpu" in controllers.split(","):
            yield from (_version_1(folder) for folder in _around(root / "sys/fs/cgroup" / controllers, name))
            yield from (_version_1(folder) for folder in _around(root / "sys/fs/cgroup/cpu", name))


def _around(mount: Path, name: str) -> Iterator[Path]:
    """Give the folder of a cgroup and of those around it; inside a container only the outermost may be there."""
    folder = mount / name.strip("/")
    yield folder
    yield from (parent for parent in folder.parents if parent.is_relative_to(mount))


def _version_2(folder: Path) -> float:
    quota, _, period = _read(folder / "cpu.max").partition(" ")
    return _share(quota, period)


def _version_1(folder: Path) -> float:
    return _share(_read(folder / "cpu.cfs_quota_us"), _read(folder / "cpu.cfs_period_us"))


def _share(quota: str, period: str) -> float:
    """Return the CPUs of a quota; 0 where there is none."""
    return int(quota) / int(period) if quota.strip().isdecimal() and period.strip().isdecimal() and int(period) else 0.0


def _read(file: Path) -> str:
    try:
        return file.read_text()
    except (OSError, ValueError):
        return ""
