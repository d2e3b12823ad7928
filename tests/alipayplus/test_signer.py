"""Signatures made several in a go, behind all else."""

import asyncio
from functools import partial

import pytest

from gateway.alipayplus.keys import SigningKey
from gateway.alipayplus.signer import BATCH, GIVEN, TURNS, Signer


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
    assert [count for count in await signed_in_each_turn(recording, 4 * TURNS) if count] == [BATCH, BATCH, 1]
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
