from pathlib import Path

import pytest

from gateway.edge.memory import MemoryWatch

MIB = 1 << 20


class Cgroup:
    """The files of a cgroup of version 1 or 2 under a root of its own."""

    def __init__(self, root: Path, version: int, limit: str) -> None:
        self.root = root
        self.folder = root / "sys/fs/cgroup" / ("memory/a" if version == 1 else "a")
        self.folder.mkdir(parents=True)
        (root / "proc/self").mkdir(parents=True)
        (root / "proc/self/cgroup").write_text("4:memory:/a\n" if version == 1 else "0::/a\n")
        self._used = "memory.usage_in_bytes" if version == 1 else "memory.current"
        self._inactive = "total_inactive_file" if version == 1 else "inactive_file"
        (self.folder / ("memory.limit_in_bytes" if version == 1 else "memory.max")).write_text(limit)
        self.use(0)

    def use(self, used: int, files: int = 0) -> None:
        (self.folder / self._used).write_text(f"{used}\n")
        (self.folder / "memory.stat").write_text(f"anon 1\n{self._inactive} {files}\nactive_file 7\n")


class Clock:
    time = 100.0

    def __call__(self) -> float:
        return self.time


@pytest.mark.parametrize("version", [1, 2])
def test_there_is_room_up_to_nine_tenths_of_a_limit(tmp_path: Path, version: int) -> None:
    group = Cgroup(tmp_path, version, f"{100 * MIB}\n")
    for used, files, room in ((89 * MIB, 0, MIB), (90 * MIB, 0, 0), (95 * MIB, 6 * MIB, MIB), (99 * MIB, 5 * MIB, -1), (0, 0, 90 * MIB)):
        group.use(used, files)
        watch = MemoryWatch(tmp_path)
        assert watch.has_room() is (room > 0)
        assert watch.has_room(max(room, 1) - 1) is (room > 0)
        assert not watch.has_room(max(room, 0))


@pytest.mark.parametrize(("version", "limit"), [(2, "max\n"), (1, "9223372036854771712\n"), (2, ""), (2, "junk"), (2, "0\n")])
def test_without_a_limit_there_is_always_room(tmp_path: Path, version: int, limit: str) -> None:
    Cgroup(tmp_path, version, limit).use(1 << 40)
    assert MemoryWatch(tmp_path).has_room(1 << 40)


def test_what_was_read_holds_for_a_while(tmp_path: Path) -> None:
    group, clock = Cgroup(tmp_path, 2, f"{100 * MIB}\n"), Clock()
    watch = MemoryWatch(tmp_path, now=clock)
    assert watch.has_room()
    group.use(99 * MIB)
    assert watch.has_room()
    clock.time += 0.11
    assert not watch.has_room()
    group.use(1 * MIB)
    clock.time += 0.11
    assert watch.has_room()


def test_this_machine_can_be_asked() -> None:
    assert MemoryWatch().has_room()
