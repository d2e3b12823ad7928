import asyncio
import os
import socket

import pytest

from gateway.server.control import (
    DESCRIPTORS_MAX,
    Ask,
    Assignment,
    BadMessage,
    Channel,
    Drain,
    Message,
    Totals,
    encode,
    receive,
    receive_descriptors,
    send_descriptors,
)

ASSIGNMENT = Assignment(3, 1, b"config", {"/a.pem": b"\x00pem"})


def pair() -> tuple[socket.socket, socket.socket]:
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)


def test_an_assignment_arrives_with_its_descriptors() -> None:
    ours, theirs = pair()
    read, write = os.pipe()
    with ours, theirs:
        send_descriptors(ours, [read, write])
        ours.sendall(encode(ASSIGNMENT))
        received = receive_descriptors(theirs)
        assert received is not None
        os.write(received[1], b"x")
        assert os.read(read, 1) == b"x"
        assert receive(theirs) == ASSIGNMENT
        for descriptor in (read, write, *received):
            os.close(descriptor)


def test_a_worker_without_sockets_gets_none() -> None:
    ours, theirs = pair()
    with ours, theirs:
        send_descriptors(ours, [])
        assert receive_descriptors(theirs) == []


def test_as_many_descriptors_as_the_kernel_sends_at_once_arrive() -> None:
    ours, theirs = pair()
    with ours, theirs:
        send_descriptors(ours, [ours.fileno()] * DESCRIPTORS_MAX)
        received = receive_descriptors(theirs) or []
        assert len(received) == DESCRIPTORS_MAX
        for descriptor in received:
            os.close(descriptor)
        with pytest.raises(OSError, match="Invalid argument"):
            send_descriptors(ours, [ours.fileno()] * (DESCRIPTORS_MAX + 1))


def test_the_end_of_the_other_side_is_no_message() -> None:
    ours, theirs = pair()
    with theirs:
        ours.close()
        assert receive_descriptors(theirs) is None
        assert receive(theirs) is None


def test_a_message_that_ends_in_the_middle_is_none() -> None:
    ours, theirs = pair()
    with theirs:
        ours.sendall(encode(ASSIGNMENT)[:-1])
        ours.close()
        assert receive(theirs) is None


@pytest.mark.parametrize("data", [b"\x00\x00\x00\x01\xc1", b"\xff\xff\xff\xff", b"\x00\x00\x00\x03\x93abc"])
def test_what_cannot_be_read_is_said_without_its_content(data: bytes) -> None:
    ours, theirs = pair()
    with ours, theirs:
        ours.sendall(data)
        with pytest.raises(BadMessage):
            receive(theirs)


async def test_messages_of_any_size_arrive_in_order_over_the_loop() -> None:
    ours, theirs = pair()
    loop, came, ended = asyncio.get_running_loop(), list[Message](), asyncio.Event()
    messages: list[Message] = [Totals(0, b"x" * 1_000_000), Ask(1), Drain(is_final=True, last=[0, 2]), Totals(1, b"")]
    one, other = Channel(lambda _: None, lambda: None), Channel(came.append, ended.set)
    for channel, sock in ((one, ours), (other, theirs)):
        sock.setblocking(False)
        await loop.create_unix_connection(lambda channel=channel: channel, sock=sock)  # type: ignore[misc]
    for message in messages:
        one.send(message)
    assert one.is_blocked
    one.finish()
    await asyncio.wait_for(ended.wait(), 10)
    assert came == messages
    one.send(Ask(2))  # nobody is there: nothing happens
    other.send(Ask(2))


async def test_who_has_said_all_may_still_be_asked_until_the_other_side_has_heard_it() -> None:
    ours, theirs = pair()
    came, ended = list[Message](), asyncio.Event()
    ours.setblocking(False)
    channel = Channel(came.append, ended.set)
    await asyncio.get_running_loop().create_unix_connection(lambda: channel, sock=ours)
    channel.send(Totals(0, b"the last"))
    channel.finish()
    await asyncio.sleep(0.01)
    theirs.sendall(encode(Ask(1)))  # would fail if the channel were closed, and with it what has not been read yet
    assert receive(theirs) == Totals(0, b"the last")
    assert receive(theirs) is None
    assert not ended.is_set()
    theirs.close()
    async with asyncio.timeout(10):
        await ended.wait()
    assert came == [Ask(1)]
    channel.send(Totals(1, b"too late"))  # nothing happens


async def test_a_message_in_pieces_is_put_together() -> None:
    ours, theirs = pair()
    came = asyncio.Queue[Message]()
    theirs.setblocking(False)
    await asyncio.get_running_loop().create_unix_connection(lambda: Channel(came.put_nowait, lambda: None), sock=theirs)
    for byte in encode(ASSIGNMENT) + encode(Ask(7)):
        ours.send(bytes([byte]))
        await asyncio.sleep(0)
    assert [await came.get(), await came.get()] == [ASSIGNMENT, Ask(7)]
    ours.close()
