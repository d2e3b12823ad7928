from pathlib import Path

import pytest

from gateway.telemetry.cgroup import cgroups


def folders(root: Path, text: str, controller: str = "memory") -> list[str]:
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(text)
    mount = root / "sys/fs/cgroup"
    return [f"{group.version}:{group.folder.relative_to(mount)}" for group in cgroups(controller, root)]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("0::/\n", ["2:."]),
        ("0::/a/b\n", ["2:a/b", "2:a", "2:."]),
        ("4:memory:/a\n1:cpu:/c\n", ["1:memory/a", "1:memory"]),
        ("4:cpu,memory:/a\n", ["1:cpu,memory/a", "1:cpu,memory", "1:memory/a", "1:memory"]),
        ("1:name=systemd:/x\n", []),
        ("junk\n", []),
        ("", []),
    ],
)
def test_each_cgroup_comes_before_those_around_it(tmp_path: Path, text: str, found: list[str]) -> None:
    assert folders(tmp_path, text) == found


def test_what_is_not_there_reads_as_nothing(tmp_path: Path) -> None:
    assert folders(tmp_path, "0::/\n") == ["2:."]
    [group] = cgroups("memory", tmp_path)
    assert group.read("memory.max") == ""


def test_no_proc_is_no_cgroup(tmp_path: Path) -> None:
    assert list(cgroups("memory", tmp_path)) == []
