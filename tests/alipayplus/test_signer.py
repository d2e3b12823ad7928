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


async def test_what_is_wanted_in_one_turn_is_signed_in_order_when_the_turn_is_over(ours: SigningKey) -> None:
    recording = Recording(ours)
    signer = Signer(recording)  # type: ignore[arg-type]
    told: list[str] = []

    async def want(name: bytes) -> bytes:
        signature = await signer.sign(name)
        told.append(name.decode())
        return signature

    wanting = [asyncio.create_task(want(name)) for name in (b"a", b"b", b"c")]
    asyncio.get_running_loop().call_soon(told.append, "somebody else")
    for signature, name in zip(await asyncio.gather(*wanting), (b"a", b"b", b"c"), strict=True):
        ours.public.verify(name, signature)
    assert recording.signed == [b"a", b"b", b"c"]
    assert told == ["somebody else", "a", "b", "c"]
    ours.public.verify(b"later", await signer.sign(b"later"))


async def test_for_whoever_has_left_nothing_is_signed(ours: SigningKey) -> None:
    recording = Recording(ours)
    signer = Signer(recording)  # type: ignore[arg-type]
    left, stays = signer.sign(b"left"), signer.sign(b"stays")
    left.cancel()
    ours.public.verify(b"stays", await stays)
    assert recording.signed == [b"stays"]


async def test_a_failure_is_that_of_one_signature(ours: SigningKey) -> None:
    signer = Signer(Recording(ours))  # type: ignore[arg-type]
    bad, good = signer.sign(b"bad"), signer.sign(b"good")
    with pytest.raises(ValueError, match="no signature"):
        await bad
    ours.public.verify(b"good", await good)
