import tracemalloc

from hypothesis import given
from hypothesis import strategies as st

from gateway.session.cache import Cache
from gateway.session.check import denied, valid


def key(number: int) -> bytes:
    return number.to_bytes(16, "big")


def test_an_entry_is_there_until_its_time() -> None:
    cache = Cache(10)
    cache.put(key(1), valid("user-1"), until=100.0)
    assert cache.get(key(1), 99.9) == valid("user-1")
    assert cache.get(key(2), 99.9) is None
    assert cache.get(key(1), 100.0) is None
    assert len(cache) == 0


def test_a_newer_verdict_takes_the_place_of_the_older() -> None:
    cache = Cache(10)
    cache.put(key(1), valid("user-1"), until=100.0)
    cache.put(key(1), denied(), until=50.0)
    assert cache.get(key(1), 40.0) == denied()
    assert len(cache) == 1


def test_B9_entries_are_bounded_and_the_least_recently_used_go() -> None:
    cache = Cache(3)
    for number in range(3):
        cache.put(key(number), valid(f"user-{number}"), until=100.0)
    assert cache.get(key(0), 1.0) is not None
    cache.put(key(3), valid("user-3"), until=100.0)
    assert [number for number in range(4) if cache.get(key(number), 1.0) is not None] == [0, 2, 3]


@given(st.lists(st.tuples(st.integers(0, 20), st.booleans())))
def test_B9_it_holds_what_a_plain_list_by_recency_holds(steps: list[tuple[int, bool]]) -> None:
    cache, recent = Cache(5), list[int]()
    for number, is_put in steps:
        if is_put:
            cache.put(key(number), valid(str(number)), until=1.0)
        else:
            assert (cache.get(key(number), 0.0) is not None) == (number in recent)
        if is_put or number in recent:
            recent = [*(other for other in recent if other != number), number][-5:]
        assert len(cache) == len(recent)


def test_B9_100000_entries_take_less_than_60_MiB() -> None:
    tracemalloc.start()
    cache = Cache(100_000)
    for number in range(100_500):
        cache.put(key(number), valid(f"customer-{number:024}"), until=number + 0.5)
    used = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert len(cache) == 100_000
    assert used < 60 << 20


def test_half_of_the_entries_go_where_memory_is_short() -> None:
    cache = Cache(10)
    for number in range(5):
        cache.put(key(number), valid(f"user-{number}"), until=100.0)
    assert cache.get(key(0), 1.0) is not None
    cache.forget_half()
    assert [number for number in range(5) if cache.get(key(number), 1.0) is not None] == [0, 4]
    for _ in range(3):
        cache.forget_half()
    assert len(cache) == 0
