"""Signatures made several in a go, behind all else, or in the background."""

import asyncio
import gc
from collections.abc import Callable
from functools import partial
from hashlib import sha256
from typing import NoReturn
from weakref import ref

import pytest

from gateway.alipayplus.keys import SigningKey
from gateway.alipayplus.multibuffer import LANES, MultiBufferError
from gateway.alipayplus.signer import AHEAD, BATCH, GIVEN, PATIENCE, TURNS, Signer


class Recording:
    """Signs like a key, and keeps what it was given."""

    def __init__(self, key: SigningKey) -> None:
        self.key = key
        self.signed: list[bytes] = []
        self.time = 1000.0  # a signature takes a millisecond of it

    def sign(self, data: bytes) -> bytes:
        self.signed.append(data)
        self.time += 0.001
        if data == b"bad":
            raise ValueError("no signature")
        return self.key.sign(data)


def wanted(signer: Signer, *names: bytes) -> dict[bytes, asyncio.Future[bytes]]:
    """Want a signature of each name, to be waited for."""
    waiters: dict[bytes, asyncio.Future[bytes]] = {name: asyncio.get_running_loop().create_future() for name in names}
    for name, waiter in waiters.items():
        signer.sign(partial(bytes, name), waiter.set_result, waiter)
    return waiters


async def signed_in_each_turn(recording: Recording, turns: int) -> list[int]:
    """Let the loop turn so many times; return how many were signed in each."""
    counts: list[int] = []
    for _ in range(turns):
        before = len(recording.signed)
        await asyncio.sleep(0)
        counts.append(len(recording.signed) - before)
    return counts


async def test_what_is_wanted_within_a_few_turns_is_signed_in_order_behind_all_else(ours: SigningKey) -> None:
    recording, names = Recording(ours), [b"a", b"b", b"c"]
    signer = Signer(recording)  # type: ignore[arg-type]
    waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    for name in names:
        signer.sign(partial(bytes, name), lambda _: None, waiter)
        assert not recording.signed  # somebody else has a turn
        await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert recording.signed == names
    for name, signature in wanted(signer, b"later").items():
        ours.public.verify(name, await signature)


async def test_when_no_more_are_wanted_nothing_is_waited_for(ours: SigningKey) -> None:
    recording = Recording(ours)
    waiters = wanted(Signer(recording), b"1", b"2")  # type: ignore[arg-type]
    assert await signed_in_each_turn(recording, 3) == [0, 2, 0]
    assert all(waiter.done() for waiter in waiters.values())


async def test_so_many_are_signed_in_one_go_at_most(ours: SigningKey) -> None:
    recording = Recording(ours)
    names = [b"%02d" % number for number in range(2 * BATCH + 1)]
    waiters = wanted(Signer(recording), *names)  # type: ignore[arg-type]
    assert await signed_in_each_turn(recording, 4) == [BATCH, BATCH, 0, 1]
    assert recording.signed == names
    assert all(waiter.done() for waiter in waiters.values())


async def test_it_tells_for_how_long_the_next_signature_has_been_wanted(ours: SigningKey) -> None:
    recording = Recording(ours)
    signer = Signer(recording, has_others=lambda: True, now=lambda: recording.time)  # type: ignore[arg-type]
    assert signer.delay() == 0
    waiters = wanted(signer, b"1", b"2")
    await waiters[b"1"]
    assert signer.delay() == pytest.approx(0.001)
    recording.time += 1
    assert signer.delay() == pytest.approx(1.001)
    await waiters[b"2"]
    assert signer.delay() == 0


async def test_for_whoever_has_left_nothing_is_signed(ours: SigningKey) -> None:
    recording = Recording(ours)
    waiters = wanted(Signer(recording), b"left", b"stays")  # type: ignore[arg-type]
    waiters[b"left"].cancel()
    ours.public.verify(b"stays", await waiters[b"stays"])
    assert recording.signed == [b"stays"]


async def test_a_failure_is_that_of_one_signature(ours: SigningKey) -> None:
    waiters = wanted(Signer(Recording(ours)), b"bad", b"good")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no signature"):
        await waiters[b"bad"]
    ours.public.verify(b"good", await waiters[b"good"])


async def test_what_fails_after_the_signature_fails_whoever_waits(ours: SigningKey) -> None:
    def then(_signature: bytes) -> None:
        raise ValueError("not sent")

    waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    Signer(ours).sign(lambda: b"a", then, waiter)
    with pytest.raises(ValueError, match="not sent"):
        await waiter


async def test_while_others_are_to_be_served_one_is_signed_in_a_few_turns(ours: SigningKey) -> None:
    recording, others = Recording(ours), [True]
    signer = Signer(recording, has_others=lambda: others[0], now=lambda: recording.time)  # type: ignore[arg-type]
    names = [b"1", b"2", b"3", b"4", b"5"]
    waiters = wanted(signer, *names)
    one = [0] * TURNS + [1]
    assert await signed_in_each_turn(recording, 2 * len(one)) == one + one
    others[0] = False
    assert await signed_in_each_turn(recording, 2) == [0, 3]
    assert recording.signed == names
    assert all(waiter.done() for waiter in waiters.values())


async def test_signatures_take_as_long_as_others_had_before_them(ours: SigningKey) -> None:
    recording = Recording(ours)
    signer = Signer(recording, has_others=lambda: True, now=lambda: recording.time)  # type: ignore[arg-type]
    waiters = wanted(signer, b"1", b"2", b"3", b"4", b"5", b"6")
    recording.time += 0.0025  # a long turn: others have had enough, no more turns are waited for
    assert await signed_in_each_turn(recording, 1) == [3]
    recording.time += GIVEN / 2
    assert await signed_in_each_turn(recording, TURNS + 1) == [0] * TURNS + [1]
    await asyncio.wait(waiters.values())


class Several:
    """Signs eight at a time with a key, from three on, and keeps what it was given; `is_well` as long as it does not fail."""

    fewest = 3

    def __init__(self, recording: Recording) -> None:
        self.recording = recording
        self.signed: list[list[bytes]] = []
        self.is_well = True

    def sign(self, texts: list[bytes]) -> list[bytes]:
        if not self.is_well:
            raise MultiBufferError("not done")
        assert self.fewest <= len(texts) <= LANES
        self.signed.append(texts)
        self.recording.time += 3 * GIVEN
        return [self.recording.key.sign(text) for text in texts]


def numbered(count: int) -> list[bytes]:
    return [b"%02d" % number for number in range(count)]


async def test_where_several_can_be_signed_at_a_time_as_many_are_as_are_wanted(ours: SigningKey) -> None:
    several = Several(recording := Recording(ours))
    signer = Signer(recording, several=several)  # type: ignore[arg-type]
    for rest, alone in ((3, 0), (2, 2)):
        names = numbered(LANES + rest)
        for name, waiter in wanted(signer, *names).items():
            ours.public.verify(name, await waiter)
        expected = [names[:LANES], names[LANES:]] if not alone else [names[:LANES]]
        assert several.signed == expected
        assert recording.signed == names[LANES + rest - alone :]
        several.signed.clear()


async def test_what_is_left_of_eight_is_signed_in_the_next_go_with_what_has_come_meanwhile(ours: SigningKey) -> None:
    several = Several(recording := Recording(ours))
    signer = Signer(recording, several=several)  # type: ignore[arg-type]
    names = numbered(2 * LANES + 5)
    first = wanted(signer, *names[: 2 * LANES + 3])
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert several.signed == [names[:LANES], names[LANES : 2 * LANES]]
    for waiters in (first, wanted(signer, *names[2 * LANES + 3 :])):
        await asyncio.wait(waiters.values())
    assert several.signed[2:] == [names[2 * LANES :]]
    assert not recording.signed


async def test_under_pressure_eight_are_waited_for_but_not_for_long(ours: SigningKey) -> None:
    several = Several(recording := Recording(ours))
    looked: list[bool] = []

    def is_pressed() -> bool:
        looked.append(True)
        return True

    signer = Signer(recording, is_pressed=is_pressed, several=several)  # type: ignore[arg-type]
    names = numbered(LANES)
    waiters = wanted(signer, *names[:3])
    for _ in range(2 * TURNS):
        await asyncio.sleep(0)
    wanted(signer, *names[3:])
    assert not several.signed
    for _ in range(2):
        await asyncio.sleep(0)
    assert several.signed.pop() == names
    for _ in range(2):
        looked.clear()
        waiters = wanted(signer, *names[:3])
        await asyncio.wait(waiters.values())
        assert several.signed.pop() == names[:3]
        assert len(looked) == 1, "it turns the loop all the time"


async def test_one_by_one_nothing_is_waited_for_under_pressure(ours: SigningKey) -> None:
    recording = Recording(ours)
    wanted(Signer(recording, is_pressed=lambda: True), b"1", b"2")  # type: ignore[arg-type]
    assert await signed_in_each_turn(recording, 2) == [0, 2]


async def test_for_whoever_has_left_nothing_is_signed_with_others(ours: SigningKey) -> None:
    several = Several(recording := Recording(ours))
    waiters = wanted(Signer(recording, several=several), b"1", b"2", b"3", b"4")  # type: ignore[arg-type]
    waiters[b"2"].cancel()
    await waiters[b"4"]
    assert several.signed == [[b"1", b"3", b"4"]]
    waiters = wanted(Signer(recording, several=several), b"5", b"6", b"7")  # type: ignore[arg-type]
    waiters[b"5"].cancel()
    await waiters[b"7"]
    assert recording.signed == [b"6", b"7"]


async def test_a_failure_is_that_of_one_among_several(ours: SigningKey) -> None:
    def fail() -> NoReturn:
        raise ValueError("no text")

    several = Several(recording := Recording(ours))
    signer, bad = Signer(recording, several=several), asyncio.get_running_loop().create_future()  # type: ignore[arg-type]
    first = wanted(signer, b"1", b"2")
    signer.sign(fail, bad.set_result, bad)
    with pytest.raises(ValueError, match="no text"):
        await bad
    for name, waiter in first.items():
        ours.public.verify(name, waiter.result())
    await asyncio.wait(wanted(signer, b"3", b"4", b"5").values())
    assert several.signed == [[b"3", b"4", b"5"]]


async def test_what_failed_is_let_go(ours: SigningKey) -> None:
    async def fail() -> ref[Callable[[bytes], NoReturn]]:
        def break_off(_: bytes) -> NoReturn:
            raise ValueError("the connection has gone")

        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        Signer(ours).sign(bytes, break_off, waiter)
        with pytest.raises(ValueError, match="gone"):
            await waiter
        return ref(break_off)

    then = await fail()
    await asyncio.sleep(0)
    gc.collect()
    assert then() is None


async def test_when_it_fails_once_all_are_signed_one_by_one_and_that_is_told(ours: SigningKey) -> None:
    several, warnings = Several(recording := Recording(ours)), list[str]()
    several.is_well = False
    signer = Signer(recording, several=several, warn=warnings.append)  # type: ignore[arg-type]
    for name, waiter in wanted(signer, b"1", b"2", b"3").items():
        ours.public.verify(name, await waiter)
    several.is_well = True
    await asyncio.wait(wanted(signer, b"4", b"5", b"6").values())
    assert recording.signed == [b"1", b"2", b"3", b"4", b"5", b"6"]
    assert warnings == ["signatures are made one by one from now on: not done"]


async def test_beside_others_so_many_at_a_time_count_as_one(ours: SigningKey) -> None:
    several = Several(recording := Recording(ours))
    signer = Signer(recording, has_others=lambda: True, several=several, now=lambda: recording.time)  # type: ignore[arg-type]
    names = numbered(2 * LANES)
    waiters = wanted(signer, *names)
    for count in (LANES, 2 * LANES):
        recording.time += 2 * GIVEN
        await asyncio.sleep(0)
        assert several.signed == [names[:LANES], names[LANES:]][: count // LANES]
        assert sum(waiter.done() for waiter in waiters.values()) == count


class Played:
    """What is in the background of a signer, as a test plays it: it signs when it is told to."""

    def __init__(self, key: SigningKey) -> None:
        self.key = key
        self.is_there = True
        self.given: list[bytes] = []
        self.on_signature: Callable[[bytes], None] = lambda _: None
        self.on_end: Callable[[], None] = lambda: None

    def serves(self) -> bool:
        return self.is_there

    def sign(self, digest: bytes) -> None:
        self.given.append(digest)

    def answer(self, text: bytes) -> None:
        """Answer the next digest, which is to be that of this text."""
        assert self.given.pop(0) == sha256(text).digest()
        self.on_signature(self.key.sign(text))


def signer_beside_others(recording: Recording, played: Played) -> Signer:
    return Signer(recording, has_others=lambda: True, background=played)  # type: ignore[arg-type]


def digests(*names: bytes) -> list[bytes]:
    return [sha256(name).digest() for name in names]


async def test_beside_others_the_background_signs_what_it_has_room_for(ours: SigningKey) -> None:
    recording, played = Recording(ours), Played(ours)
    signer = signer_beside_others(recording, played)
    waiters = wanted(signer, b"1", b"2", b"3", b"4")
    assert played.given == digests(b"1", b"2")
    assert len(played.given) == AHEAD
    waiters[b"3"].cancel()
    played.answer(b"1")
    assert played.given == digests(b"2", b"4")
    assert signer.delay() == 0
    played.answer(b"2")
    played.answer(b"4")
    for name in (b"1", b"2", b"4"):
        ours.public.verify(name, waiters[name].result())
    assert recording.signed == []


async def test_while_the_background_does_not_serve_the_loop_signs(ours: SigningKey) -> None:
    recording, played = Recording(ours), Played(ours)
    signer = signer_beside_others(recording, played)
    waiters = wanted(signer, b"1", b"2", b"3")
    played.is_there = False
    waiters |= wanted(signer, b"4")
    await asyncio.wait([waiters[b"3"], waiters[b"4"]])
    assert recording.signed == [b"3", b"4"]
    played.answer(b"1")
    played.answer(b"2")
    assert all(waiter.done() for waiter in waiters.values())


async def test_what_the_background_does_not_get_to_in_time_is_signed_on_the_loop_once(ours: SigningKey) -> None:
    recording, played, done = Recording(ours), Played(ours), list[bytes]()
    signer, loop = signer_beside_others(recording, played), asyncio.get_running_loop()
    begun = loop.time()
    unanswered: asyncio.Future[None] = loop.create_future()  # what is sent with a signature is answered later
    signer.sign(lambda: b"0", done.append, unanswered)
    waiters = wanted(signer, b"1", b"2")
    await asyncio.gather(*waiters.values())
    assert loop.time() - begun >= PATIENCE
    assert recording.signed == [b"0", b"1", b"2"]
    while played.given:
        played.on_signature(b"late")
        played.given.pop()
    for name, waiter in waiters.items():
        ours.public.verify(name, waiter.result())
    assert done == [ours.sign(b"0")]


@pytest.mark.parametrize("late", [lambda played: played.on_signature(b"late"), lambda played: played.on_end()], ids=["signature", "end"])
async def test_what_is_done_with_a_signature_is_done_once_though_the_background_comes_to_it_later(
    ours: SigningKey, late: Callable[[Played], None]
) -> None:
    played, done, is_done = Played(ours), list[bytes](), asyncio.Event()
    signer = signer_beside_others(Recording(ours), played)

    def take(signature: bytes) -> None:
        done.append(signature)
        is_done.set()

    signer.sign(lambda: b"1", take, asyncio.get_running_loop().create_future())  # what comes of it is still waited for
    await is_done.wait()
    played.is_there = False
    late(played)
    await wanted(signer, b"2")[b"2"]
    assert done == [ours.sign(b"1")]


async def test_when_the_background_ends_the_loop_signs_what_it_had_and_all_that_comes(ours: SigningKey) -> None:
    recording, played = Recording(ours), Played(ours)
    signer = signer_beside_others(recording, played)
    waiters = wanted(signer, b"1", b"2", b"3")
    played.is_there = False
    played.on_end()
    await asyncio.wait(waiters.values())
    await wanted(signer, b"4")[b"4"]
    assert recording.signed == [b"1", b"2", b"3", b"4"]


async def test_failures_before_and_after_the_background_are_those_of_one_signature(ours: SigningKey) -> None:
    def fail(*_: object) -> NoReturn:
        raise ValueError("not done")

    played = Played(ours)
    signer, loop = signer_beside_others(Recording(ours), played), asyncio.get_running_loop()
    waiters: list[asyncio.Future[None]] = [loop.create_future(), loop.create_future()]
    signer.sign(fail, lambda _: None, waiters[0])
    signer.sign(lambda: b"text", fail, waiters[1])
    good = wanted(signer, b"good")[b"good"]
    for name in (b"text", b"good"):
        played.answer(name)
    for waiter in waiters:
        with pytest.raises(ValueError, match="not done"):
            await waiter
    ours.public.verify(b"good", await good)
