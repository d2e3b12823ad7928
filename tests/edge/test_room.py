import pytest

from gateway.edge.room import COPIES, Room


class Memory:
    """So many bytes more may be used."""

    left = 1000

    def fits(self, size: int) -> bool:
        return size < self.left


@pytest.fixture
def memory() -> Memory:
    return Memory()


@pytest.fixture
def room(memory: Memory) -> Room:
    room = Room(memory.fits)
    room.turn(1000.0)
    return room


def test_a_body_has_room_for_all_forms_in_which_it_is_held(room: Room) -> None:
    assert [room.has_place(size) for size in (0, 1000 // COPIES - 1, 1000 // COPIES)] == [True, True, False]


def test_what_requests_take_is_reckoned_with_until_they_end(room: Room) -> None:
    room.take(100, 200)
    assert [room.has_place(size) for size in (59, 60)] == [True, False]
    room.take(0, 100)
    room.give_back(100, 200)
    assert [room.has_place(size) for size in (179, 180)] == [True, False]
    room.give_back(0, 100)
    assert room.has_place(199)


def test_what_comes_for_a_request_in_hand_has_room_until_it_is_given_back(room: Room) -> None:
    room.take(50, 0)
    assert room.grow(60)
    assert not room.grow(100), "of another, 5 times 210 bytes are no room below 1000"
    assert not room.has_place(100)
    assert room.grow(80)
    room.shrink(60)
    assert room.grow(60)
    room.shrink(80)
    room.shrink(60)
    room.give_back(50, 0)
    assert room.has_place(199)


def test_one_may_grow_though_there_is_no_room(room: Room, memory: Memory) -> None:
    memory.left = 0
    assert room.grow(1000)
    assert not room.grow(1)
    room.shrink(1000)
    assert not room.grow(1), "it is not written yet"
    room.written(1000)
    assert room.grow(1)
