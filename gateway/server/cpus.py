"""How many CPUs this process may use: those that it is allowed to run on, and no more than its cgroups' quotas are worth."""

import math
import os
from pathlib import Path

from gateway.telemetry.cgroup import ROOT, Cgroup, cgroups


def usable_cpus(root: Path = ROOT) -> int:
    """Return the number of workers that can run at once, at least 1. A part of a CPU counts as one."""
    allowed = len(os.sched_getaffinity(0))
    quotas = (quota for group in cgroups("cpu", root) if (quota := _quota(group)) > 0)
    return max(1, math.ceil(min((allowed, *quotas))))


def worker_count(configured: int) -> int:
    """Return how many workers there are; 0 was configured for as many as can run at once."""
    return configured or usable_cpus()


def _quota(group: Cgroup) -> float:
    """Return the CPUs of a cgroup's quota; 0 where there is none."""
    if group.version == 1:
        quota, period = group.read("cpu.cfs_quota_us"), group.read("cpu.cfs_period_us")
    else:
        quota, _, period = group.read("cpu.max").partition(" ")
    return int(quota) / int(period) if quota.strip().isdecimal() and period.strip().isdecimal() and int(period) else 0.0
