"""Signatures made at the end of a turn of the loop."""

import asyncio

import pytest

from gateway.alipayplus.keys import SigningKey
from gateway.alipayplus.signer import Signer


class Recording:
    """Signs like a key, and keeps what it was given."""

    def __init__(self, key: SigningKey) -> None:
        self.key = key
        self.signed: list[bytes] = []

    def sign(self, data: bytes) -> bytes:
        self.signed.append(data)
        if data == b"bad":
            raise ValueError("no signature")
        return self.key.sign(data)


def wanted(signer: Signer, *names: bytes) -> dict[bytes, asyncio.Future[bytes]]:
    """Want a signature of each name, to be waited for."""
    waiters: dict[bytes, asyncio.Future[bytes]] = {name: asyncio.get_running_loop().create_future() for name in names}
    for name, waiter in waiters.items():
        signer.sign(name, waiter.set_result, waiter)
    return waiters


async def test_what_is_wanted_in_one_turn_is_signed_in_order_when_the_turn_is_over(ours: SigningKey) -> None:
    recording, loop, told = Recording(ours), asyncio.get_running_loop(), asyncio.Queue[str]()
    signer = Signer(recording)  # type: ignore[arg-type]
    waiter = loop.create_future()

    def first() -> None:
        signer.sign(b"a", lambda _: told.put_nowait("a"), waiter)
        signer.sign(b"b", lambda _: told.put_nowait("b"), waiter)

    for step in (first, lambda: signer.sign(b"c", lambda _: told.put_nowait("c"), waiter), lambda: told.put_nowait("somebody else")):
        loop.call_soon(step)
    assert [await told.get() for _ in range(4)] == ["somebody else", "a", "b", "c"]
    assert recording.signed == [b"a", b"b", b"c"]
    for name, signature in wanted(signer, b"later").items():
        ours.public.verify(name, await signature)


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
    Signer(ours).sign(b"a", then, waiter)
    with pytest.raises(ValueError, match="not sent"):
        await waiter


async def test_while_others_are_to_be_served_one_is_signed_in_a_turn(ours: SigningKey) -> None:
    recording, loop, others = Recording(ours), asyncio.get_running_loop(), [True]
    signer = Signer(recording, has_others=lambda: others[0])  # type: ignore[arg-type]
    waiter: asyncio.Future[None] = loop.create_future()
    for name in (b"1", b"2", b"3", b"4", b"5", b"6", b"7"):
        signer.sign(name, lambda _: None, waiter)
    signed: list[int] = []
    for has_others in (True, True, False):
        others[0] = has_others
        await asyncio.sleep(0)
        signed.append(len(recording.signed))
    assert signed == [1, 2, 7]
    assert recording.signed == sorted(recording.signed)
