from pathlib import Path

import pytest

from gateway.edge.memory import AT_LEAST, LIMITS_PERIOD, PERIOD, UNSEEN, MemoryWatch

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
        self._prefix, self._mapped = ("total_", "total_mapped_file") if version == 1 else ("", "file_mapped")
        self._limit = "memory.limit_in_bytes" if version == 1 else "memory.max"
        self.limit(limit)
        self.use(0)

    def limit(self, limit: str) -> None:
        (self.folder / self._limit).write_text(limit)

    def use(self, used: int, inactive: int = 0, active: int = 0, mapped: int = 0) -> None:
        (self.folder / self._used).write_text(f"{used}\n")
        files = f"{self._prefix}inactive_file {inactive}\n{self._prefix}active_file {active}\n{self._mapped} {mapped}\n"
        (self.folder / "memory.stat").write_text(f"anon 1\n{files}junk\n")

    def hide(self, name: str) -> None:
        (self.folder / (self._used if name == "usage" else self._limit if name == "limit" else name)).write_text("")


class Clock:
    time = 100.0

    def __call__(self) -> float:
        return self.time


def room(watch: MemoryWatch, clock: Clock) -> int:
    """Return how many bytes there is room for, by halving."""
    low, high = 0, 1 << 40
    while low < high:
        clock.time += 1.01 * PERIOD
        middle = (low + high) // 2
        low, high = (middle + 1, high) if watch.has_room(middle) else (low, middle)
    return low


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize(
    ("used", "files", "left"),
    [
        (0, {}, 90),
        (89, {}, 1),
        (90, {}, 0),
        (95, {"inactive": 6}, 1),
        (99, {"inactive": 5}, 0),
        (95, {"active": 6}, 1),
        (95, {"inactive": 2, "active": 6, "mapped": 2}, 1),
        (85, {"inactive": 2, "active": 6, "mapped": 9}, 7),
    ],
)
def test_there_is_room_up_to_nine_tenths_of_a_limit(tmp_path: Path, version: int, used: int, files: dict[str, int], left: int) -> None:
    group, clock = Cgroup(tmp_path, version, f"{100 * MIB}\n"), Clock()
    group.use(used * MIB, **{name: size * MIB for name, size in files.items()})
    assert room(MemoryWatch(tmp_path, now=clock), clock) == left * MIB


def test_workers_share_the_room(tmp_path: Path) -> None:
    Cgroup(tmp_path, 2, f"{100 * MIB}\n")
    clock = Clock()
    assert room(MemoryWatch(tmp_path, workers=3, now=clock), clock) == 30 * MIB


def test_the_narrowest_limit_counts(tmp_path: Path) -> None:
    group, clock = Cgroup(tmp_path, 2, "max\n"), Clock()
    group.use(20 * MIB)
    around = group.folder.parent
    (around / "memory.max").write_text(f"{50 * MIB}\n")
    (around / "memory.current").write_text(f"{30 * MIB}\n")
    (around / "memory.stat").write_text("anon 1\n")
    assert room(MemoryWatch(tmp_path, now=clock), clock) == 15 * MIB


@pytest.mark.parametrize(("version", "limit"), [(2, "max\n"), (1, "9223372036854771712\n"), (2, ""), (2, "junk"), (2, "0\n")])
def test_without_a_limit_there_is_always_room(tmp_path: Path, version: int, limit: str) -> None:
    Cgroup(tmp_path, version, limit).use(1 << 40)
    assert MemoryWatch(tmp_path).has_room(1 << 40)


def test_what_was_read_holds_for_a_while(tmp_path: Path) -> None:
    group, clock = Cgroup(tmp_path, 2, f"{100 * MIB}\n"), Clock()
    watch = MemoryWatch(tmp_path, now=clock)
    assert watch.has_room()
    group.use(99 * MIB)
    clock.time += 0.9 * PERIOD
    assert watch.has_room()
    clock.time += 0.11 * PERIOD
    assert not watch.has_room()
    group.use(1 * MIB)
    assert not watch.has_room()
    clock.time += 1.01 * AT_LEAST
    assert watch.has_room()


def test_what_has_begun_since_counts_until_it_can_be_seen(tmp_path: Path) -> None:
    group, clock = Cgroup(tmp_path, 2, f"{100 * MIB}\n"), Clock()
    watch = MemoryWatch(tmp_path, now=clock)
    begun = 0
    while watch.has_room():
        begun += 1
    assert begun == 90 * MIB // UNSEEN
    clock.time += 1.01 * AT_LEAST
    group.use(89 * MIB)
    assert [watch.has_room() for _ in range(10)] == [True] * 6 + [False] * 4


def test_limits_may_change_and_are_looked_at_now_and_then(tmp_path: Path) -> None:
    group, clock = Cgroup(tmp_path, 2, "max\n"), Clock()
    group.use(50 * MIB)
    watch = MemoryWatch(tmp_path, now=clock)
    had_room = watch.has_room()
    for limit, has_room in ((f"{50 * MIB}", False), (f"{100 * MIB}", True), ("max", True), (f"{40 * MIB}", False), ("max", True)):
        group.limit(f"{limit}\n")
        clock.time += 0.9 * LIMITS_PERIOD
        assert watch.has_room() is had_room
        clock.time += 0.11 * LIMITS_PERIOD
        assert watch.has_room() is has_room
        had_room = has_room


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("name", ["limit", "usage", "memory.stat"])
def test_F3_what_cannot_be_read_is_as_it_was(tmp_path: Path, version: int, name: str) -> None:
    group, clock = Cgroup(tmp_path, version, f"{100 * MIB}\n"), Clock()
    watch = MemoryWatch(tmp_path, now=clock)
    group.use(95 * MIB, inactive=6 * MIB)
    assert watch.has_room()
    group.hide(name)
    clock.time += LIMITS_PERIOD
    assert [watch.has_room(size * MIB) for size in (0, 1)] == [True, False]


def test_this_machine_can_be_asked() -> None:
    assert MemoryWatch().has_room()
