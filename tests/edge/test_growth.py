from gateway.edge.growth import SEEN, Growth


def test_what_has_begun_counts_for_one_to_two_terms() -> None:
    growth = Growth()
    growth.turn(1000.2 * SEEN)
    growth.add(100)
    growth.turn(1000.9 * SEEN)
    growth.add(20)
    assert growth.expected(1000) == 120
    growth.turn(1001.1 * SEEN)
    growth.add(3)
    assert growth.expected(1000) == 123
    growth.turn(1002.1 * SEEN)
    assert growth.expected(1000) == 3
    growth.turn(1003.1 * SEEN)
    assert growth.expected(1000) == 0


def test_after_a_pause_nothing_counts_but_what_begins_then() -> None:
    growth = Growth()
    growth.turn(10.0)
    growth.add(100)
    growth.turn(10.0 + 2 * SEEN)
    assert growth.expected(1000) == 0
    growth.add(100)
    growth.turn(10.0 + 4 * SEEN)
    growth.add(30)
    growth.turn(10.0 + 5 * SEEN)
    assert growth.expected(1000) == 30


def test_no_more_counts_than_there_is_still() -> None:
    growth = Growth()
    growth.turn(10.0)
    for _ in range(5):
        growth.add(100)
    assert [growth.expected(there) for there in (0, 200, 900)] == [0, 200, 500]
