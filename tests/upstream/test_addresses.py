import asyncio
import socket
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from gateway.upstream.addresses import Address, Addresses, NameBook, system_resolve

OLD: Address = (socket.AF_INET, ("192.0.2.1", 80))
NEW: Address = (socket.AF_INET, ("192.0.2.2", 80))


class Names:
    """A name service and a clock, both in the test's hands."""

    def __init__(self) -> None:
        self.answer: Sequence[Address] | OSError = [OLD]
        self.asked = 0
        self.now = 100.0
        self.up = asyncio.Event()
        self.up.set()

    async def resolve(self, host: str, port: int) -> Sequence[Address]:
        self.asked += 1
        await self.up.wait()
        if isinstance(self.answer, OSError):
            raise self.answer
        return self.answer

    def addresses(self) -> Addresses:
        return Addresses("peer", 80, ttl=30, resolve=self.resolve, clock=lambda: self.now, names=NameBook())


async def test_F7_addresses_are_kept_for_their_time_and_then_looked_up_again() -> None:
    names = Names()
    addresses = names.addresses()
    assert await addresses.get() == [OLD]
    names.answer = [NEW]
    names.now += 29
    assert await addresses.get() == [OLD]
    names.now += 1
    assert await addresses.get() == [NEW]
    assert names.asked == 2


async def test_F7_the_old_address_serves_while_the_name_service_is_down() -> None:
    names = Names()
    addresses = names.addresses()
    await addresses.get()
    names.answer = socket.gaierror()
    names.now += 30
    assert [await addresses.get() for _ in range(3)] == [[OLD]] * 3
    assert names.asked == 2, "not with each connection that is made"
    names.answer = [NEW]
    names.now += 30
    assert await addresses.get() == [NEW]


async def test_F7_the_old_address_serves_while_the_name_service_is_slow() -> None:
    names = Names()
    addresses = names.addresses()
    await addresses.get()
    names.answer = [NEW]
    names.up.clear()
    names.now += 30
    assert await addresses.get() == [OLD]
    names.up.set()
    assert await addresses.get() == [NEW]
    assert names.asked == 2


async def test_F7_what_others_have_found_serves_while_the_name_service_is_down_from_the_beginning() -> None:
    before, after = NameBook(), NameBook()
    six: Address = (socket.AF_INET6, ("fe80::1", 80, 0, 3))
    names = Names()
    names.answer = [OLD, six]
    await Addresses("peer", 80, resolve=names.resolve, names=before).get()
    for found in before.found:
        after.take(found)
    names.answer = socket.gaierror()
    assert await Addresses("peer", 80, resolve=names.resolve, names=after).get() == [OLD, six]
    for host, port in (("peer", 81), ("other", 80)):
        with pytest.raises(socket.gaierror):
            await Addresses(host, port, resolve=names.resolve, names=after).get()
    names.answer = [NEW]
    assert await Addresses("peer", 80, resolve=names.resolve, names=after).get() == [NEW]
    assert [found.addresses for found in after.found] == [((socket.AF_INET, "192.0.2.2", 0),)]


async def test_what_is_an_address_already_is_told_to_nobody() -> None:
    book = NameBook()
    await Addresses("127.0.0.1", 80, names=book).get()
    await Addresses("::1", 80, names=book).get()
    assert book.found == ()


async def test_a_name_that_was_never_found_is_asked_for_again_at_once() -> None:
    names = Names()
    addresses = names.addresses()
    names.answer = socket.gaierror()
    with pytest.raises(socket.gaierror):
        await addresses.get()
    names.answer = [NEW]
    assert await addresses.get() == [NEW]


async def test_many_share_one_lookup_and_one_who_leaves_does_not_end_it() -> None:
    names = Names()
    addresses = names.addresses()
    names.up.clear()
    tasks = [asyncio.create_task(addresses.get()) for _ in range(10)]
    await asyncio.sleep(0)
    tasks[0].cancel()
    names.up.set()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert results[1:] == [[OLD]] * 9
    assert names.asked == 1


async def test_a_lookup_for_which_nobody_waits_any_more_fails_silently() -> None:
    names = Names()
    addresses = names.addresses()
    names.answer = socket.gaierror()
    names.up.clear()
    task = asyncio.create_task(addresses.get())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    names.up.set()
    with pytest.raises(socket.gaierror):
        await addresses.get()


async def test_closing_ends_a_lookup() -> None:
    names = Names()
    addresses = names.addresses()
    names.up.clear()
    task = asyncio.create_task(addresses.get())
    await asyncio.sleep(0)
    addresses.close()
    with pytest.raises(OSError, match="given up"):
        await task


async def test_the_system_knows_this_host() -> None:
    assert (socket.AF_INET, ("127.0.0.1", 80)) in await system_resolve("127.0.0.1", 80)
    assert (socket.AF_INET6, ("::1", 80, 0, 0)) in await system_resolve("::1", 80)
    assert (socket.AF_INET, ("127.0.0.1", 80)) in await system_resolve("localhost", 80)


@pytest.fixture
def hanging(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Let lookups of names that begin with `hangs` wait for this event."""
    answered, ask = threading.Event(), socket.getaddrinfo

    def lookup(host: str, *arguments: Any, **options: Any) -> Any:
        if host.startswith("hangs") and not options.get("flags"):
            assert answered.wait(30)
            host = "127.0.0.1"
        return ask(host, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    yield answered
    answered.set()


async def test_F7_lookups_that_hang_keep_no_others_waiting(hanging: threading.Event) -> None:
    waiting = [asyncio.create_task(system_resolve(f"hangs{number}.example", 80)) for number in range(100)]
    async with asyncio.timeout(10):
        assert (socket.AF_INET, ("127.0.0.1", 80)) in await system_resolve("localhost", 80)
    assert not any(task.done() for task in waiting)
    hanging.set()
    assert [[address[0] for _, address in await task] for task in waiting] == [["127.0.0.1"]] * 100


async def test_F7_a_lookup_that_nobody_waits_for_any_more_is_nothing_to_the_loop(hanging: threading.Event) -> None:
    loop = asyncio.get_running_loop()
    failures: list[Any] = []
    loop.set_exception_handler(lambda _, context: failures.append(context))
    left = asyncio.create_task(system_resolve("hangs.example", 80))
    await asyncio.sleep(0)
    left.cancel()
    with pytest.raises(asyncio.CancelledError):
        await left
    hanging.set()
    assert (socket.AF_INET, ("127.0.0.1", 80)) in await system_resolve("localhost", 80)
    for thread in threading.enumerate():
        if thread.name == "lookup":
            await loop.run_in_executor(None, thread.join)
    await asyncio.sleep(0)
    assert failures == []


async def test_where_no_thread_can_be_had_no_name_is_known_and_addresses_are(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_thread(_self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", no_thread)
    assert (socket.AF_INET, ("127.0.0.1", 80)) in await system_resolve("127.0.0.1", 80)
    with pytest.raises(OSError, match="no thread"):
        await system_resolve("localhost", 80)
