from pathlib import Path

import pytest

from gateway.edge.memory import AT_LEAST, GROWS, LIMITS_PERIOD, NEARLY, PERIOD, RELEASED, SHORT, MemoryWatch, give_back

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
        low, high = (middle + 1, high) if watch.fits(middle) else (low, middle)
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


def limit_around(group: Cgroup, limit: int, used: int) -> None:
    """Give the cgroup around this one a limit, too."""
    around = group.folder.parent
    (around / "memory.max").write_text(f"{limit}\n")
    (around / "memory.current").write_text(f"{used}\n")
    (around / "memory.stat").write_text("anon 1\n")


def test_the_narrowest_limit_counts(tmp_path: Path) -> None:
    group, clock = Cgroup(tmp_path, 2, "max\n"), Clock()
    group.use(20 * MIB)
    limit_around(group, 50 * MIB, used=30 * MIB)
    assert room(MemoryWatch(tmp_path, now=clock), clock) == 15 * MIB


@pytest.mark.parametrize(("version", "limit"), [(2, "max\n"), (1, "9223372036854771712\n"), (2, ""), (2, "junk"), (2, "0\n")])
def test_without_a_limit_there_is_always_room(tmp_path: Path, version: int, limit: str) -> None:
    Cgroup(tmp_path, version, limit).use(1 << 40)
    assert MemoryWatch(tmp_path).fits(1 << 40)


def test_what_was_read_holds_for_a_while(tmp_path: Path) -> None:
    group, clock = Cgroup(tmp_path, 2, f"{1000 * MIB}\n"), Clock()
    watch = MemoryWatch(tmp_path, now=clock)
    assert watch.fits(0)
    group.use(999 * MIB)
    clock.time += 0.9 * PERIOD
    assert watch.fits(0)
    clock.time += 0.11 * PERIOD
    assert not watch.fits(0)
    group.use(1 * MIB)
    assert not watch.fits(0)
    clock.time += 1.01 * AT_LEAST
    assert watch.fits(0)


def test_it_is_read_again_before_the_room_can_be_used_up(tmp_path: Path) -> None:
    group, clock = Cgroup(tmp_path, 2, f"{100 * MIB}\n"), Clock()
    watch = MemoryWatch(tmp_path, now=clock)
    assert watch.fits(0)
    group.use(91 * MIB)
    left = 90 * MIB / GROWS
    clock.time += 0.9 * left
    assert watch.fits(0)
    clock.time += 0.11 * left
    assert not watch.fits(0)


def test_it_is_read_again_soon_for_one_that_takes_much_of_the_room(tmp_path: Path) -> None:
    group, clock = Cgroup(tmp_path, 2, f"{100 * MIB}\n"), Clock()
    watch = MemoryWatch(tmp_path, now=clock)
    assert watch.fits(0)
    group.use(60 * MIB)
    clock.time += 1.01 * AT_LEAST
    assert watch.fits(20 * MIB), "as it was read: 90 MiB are left"
    assert not watch.fits(40 * MIB)
    assert watch.fits(29 * MIB)


@pytest.mark.parametrize("workers", [1, 4])
def test_memory_is_short_below_a_tenth_of_a_limit(tmp_path: Path, workers: int) -> None:
    group, clock = Cgroup(tmp_path, 2, f"{100 * MIB}\n"), Clock()
    watch = MemoryWatch(tmp_path, now=clock, workers=workers)
    told = []
    for used in (0, round(100 * (NEARLY - SHORT)), 81, 89, 99, 80, 0):
        group.use(used * MIB)
        clock.time += PERIOD
        told.append(watch.is_short())
    assert told == [False, False, True, True, True, False, False]


def test_without_a_limit_memory_is_never_short(tmp_path: Path) -> None:
    Cgroup(tmp_path, 2, "max\n").use(1 << 40)
    assert not MemoryWatch(tmp_path).is_short()


def test_unused_memory_is_given_back_where_there_is_no_room(tmp_path: Path) -> None:
    group, clock = Cgroup(tmp_path, 2, f"{100 * MIB}\n"), Clock()
    given_back: list[float] = []

    def release() -> None:
        given_back.append(clock.time)
        group.use(70 * MIB)

    watch = MemoryWatch(tmp_path, now=clock, release=release)
    group.use(89 * MIB)
    assert watch.fits(0)
    assert not given_back
    group.use(95 * MIB)
    clock.time += 1.01 * AT_LEAST
    assert watch.fits(19 * MIB), "what was given back is there"
    assert given_back == [clock.time]
    group.use(95 * MIB)
    clock.time += 0.5 * RELEASED
    assert not watch.fits(0)
    clock.time += 0.51 * RELEASED
    assert watch.fits(0)
    assert len(given_back) == 2


def test_unused_memory_is_given_back_where_there_is_no_room_for_what_is_asked_for(tmp_path: Path) -> None:
    group, clock = Cgroup(tmp_path, 2, f"{100 * MIB}\n"), Clock()
    watch = MemoryWatch(tmp_path, now=clock, release=lambda: group.use(70 * MIB))
    group.use(85 * MIB)
    assert watch.fits(4 * MIB)
    clock.time += 1.01 * PERIOD
    assert watch.fits(10 * MIB)


def test_the_kernel_is_given_back_what_malloc_keeps() -> None:
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

    kept = [bytes(40_000) for _ in range(1000)]
    before = resident()
    del kept[::2]  # holes, which malloc keeps
    give_back()
    assert before - resident() > 10 * MIB


def test_limits_may_change_and_are_looked_at_now_and_then(tmp_path: Path) -> None:
    group, clock = Cgroup(tmp_path, 2, "max\n"), Clock()
    group.use(50 * MIB)
    watch = MemoryWatch(tmp_path, now=clock)
    had_room = watch.fits(0)
    for limit, has_room in ((f"{50 * MIB}", False), (f"{100 * MIB}", True), ("max", True), (f"{40 * MIB}", False), ("max", True)):
        group.limit(f"{limit}\n")
        clock.time += 0.9 * LIMITS_PERIOD
        assert watch.fits(0) is had_room
        clock.time += 0.11 * LIMITS_PERIOD
        assert watch.fits(0) is has_room
        had_room = has_room


def test_one_of_several_limits_may_come_and_go(tmp_path: Path) -> None:
    group, clock = Cgroup(tmp_path, 2, "max\n"), Clock()
    group.use(900 * MIB)
    limit_around(group, 9000 * MIB, used=900 * MIB)
    watch = MemoryWatch(tmp_path, now=clock)
    assert not watch.is_short()
    for limit, is_short in ((f"{1000 * MIB}", True), ("max", False)):
        clock.time += 0.99 * LIMITS_PERIOD
        assert watch.is_short() is not is_short
        group.limit(f"{limit}\n")
        clock.time += 0.02 * LIMITS_PERIOD
        assert watch.is_short() is is_short


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("name", ["limit", "usage", "memory.stat"])
def test_F3_what_cannot_be_read_is_as_it_was(tmp_path: Path, version: int, name: str) -> None:
    group, clock = Cgroup(tmp_path, version, f"{100 * MIB}\n"), Clock()
    watch = MemoryWatch(tmp_path, now=clock)
    group.use(95 * MIB, inactive=6 * MIB)
    assert watch.fits(0)
    group.hide(name)
    clock.time += LIMITS_PERIOD
    assert [watch.fits(size * MIB) for size in (0, 1)] == [True, False]


def test_this_machine_can_be_asked() -> None:
    assert MemoryWatch().fits(0)
