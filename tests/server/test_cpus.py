import os
from pathlib import Path

import pytest

from gateway.server.cpus import usable_cpus

ALL = len(os.sched_getaffinity(0))


def write(tmp_path: Path, cgroup: str, files: dict[str, str]) -> Path:
    for name, text in {"proc/self/cgroup": cgroup, **{f"sys/fs/cgroup/{name}": text for name, text in files.items()}}.items():
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return tmp_path


@pytest.mark.parametrize(
    ("cgroup", "files", "cpus"),
    [
        pytest.param("", {}, ALL, id="no-cgroups"),
        pytest.param("0::/\n", {"cpu.max": "max 100000\n"}, ALL, id="v2-unlimited"),
        pytest.param("0::/\n", {"cpu.max": "100000 100000\n"}, 1, id="v2-one-in-a-container"),
        pytest.param("0::/a/b\n", {"a/b/cpu.max": "max 100000\n", "a/cpu.max": "50000 100000\n"}, 1, id="v2-half-around"),
        pytest.param("0::/a\n", {"cpu.max": "100000 100000\n"}, 1, id="v2-outermost-only"),
        pytest.param("0::/\n", {"cpu.max": "9900000 100000\n"}, ALL, id="v2-more-than-there-are"),
        pytest.param(
            "4:cpu,cpuacct:/a\n", {"cpu,cpuacct/a/cpu.cfs_quota_us": "10000\n", "cpu,cpuacct/a/cpu.cfs_period_us": "100000\n"}, 1, id="v1"
        ),
        pytest.param("1:cpu:/\n", {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, ALL, id="v1-unlimited"),
        pytest.param("junk\n0::/\n", {"cpu.max": "junk"}, ALL, id="junk"),
    ],
)
def test_cgroups_and_affinity_limit_what_may_be_used(tmp_path: Path, cgroup: str, files: dict[str, str], cpus: int) -> None:
    assert usable_cpus(write(tmp_path, cgroup, files)) == cpus


@pytest.mark.skipif(ALL < 2, reason="needs two CPUs")
def test_a_part_of_a_CPU_counts_as_one(tmp_path: Path) -> None:
    assert usable_cpus(write(tmp_path, "0::/\n", {"cpu.max": "110000 100000\n"})) == 2


def test_this_machine_has_some() -> None:
    assert 1 <= usable_cpus() <= ALL
