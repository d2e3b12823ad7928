"""The process that signs when nobody else wants the processor."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any, NoReturn

import pytest

from gateway.alipayplus.background import Background
from gateway.alipayplus.keys import SigningKey

PATIENCE = 20.0


@asynccontextmanager
async def running(key: SigningKey) -> AsyncIterator[tuple[Background, int, list[str]]]:
    """Give one whose process is ready, the process, and the warnings."""
    before, warnings = children(), list[str]()
    process = Background(key, is_wanted=lambda: True, warn=warnings.append)
    try:
        await until(process.serves)
        (pid,) = children() - before
        yield process, pid, warnings
    finally:
        await process.close()
    assert pid not in children()


async def until(condition: Callable[[], object]) -> None:
    """Wait for a state that nothing tells of."""
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110  the kernel and another process do not set events
            await asyncio.sleep(0.002)


def children(pid: int | str = "self") -> set[int]:
    return {int(child) for file in Path(f"/proc/{pid}/task").glob("*/children") for child in file.read_text().split()}


def is_running(pid: int) -> bool:
    """Tell whether a process is there and has not ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def signed(process: Background, *texts: bytes) -> list[bytes]:
    """Return the signatures of these texts, in the order in which they come."""
    signatures: list[bytes] = []
    process.on_signature = signatures.append
    for text in texts:
        process.sign(sha256(text).digest())
    await until(lambda: len(signatures) == len(texts))
    return signatures


async def test_it_signs_in_the_order_in_which_it_is_asked(ours: SigningKey) -> None:
    async with running(ours) as (process, _, warnings):
        for text, signature in zip((b"a", b"b", b"c"), await signed(process, b"a", b"b", b"c"), strict=True):
            assert signature == ours.sign(text)
    assert warnings == []


async def test_it_stands_back_and_signals_mean_nothing_to_it(ours: SigningKey) -> None:
    async with running(ours) as (process, pid, _):
        assert os.sched_getscheduler(pid) == os.SCHED_IDLE
        assert os.sched_getscheduler(0) == os.SCHED_OTHER
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            os.kill(pid, number)
        ours.public.verify(b"still", (await signed(process, b"still"))[0])
    assert not process.serves()


async def test_it_is_started_once_it_is_wanted_and_serves_while_it_is(ours: SigningKey) -> None:
    before, wanted = children(), [False]
    process = Background(ours, is_wanted=lambda: wanted[0], warn=print)
    assert not process.serves()
    assert children() == before
    wanted[0] = True
    await until(process.serves)
    wanted[0] = False
    assert not process.serves()
    assert len(children() - before) == 1
    await process.close()
    assert children() == before


async def test_when_it_ends_by_itself_that_is_told_and_it_serves_no_more(ours: SigningKey) -> None:
    async with running(ours) as (process, pid, warnings):
        ended = asyncio.Event()
        process.on_end = ended.set
        os.kill(pid, signal.SIGKILL)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)  # noqa: ASYNC222  the loop is not to hear of it
        process.sign(bytes(32))  # whoever has not heard of it yet
        async with asyncio.timeout(PATIENCE):
            await ended.wait()
        assert not process.serves()
        assert warnings == ["the process for signatures beside API requests has ended"]


async def test_it_ends_also_where_no_thread_can_be_had_to_wait_for_that(ours: SigningKey) -> None:
    class NoThreads(ThreadPoolExecutor):
        def submit(self, *_: Any, **__: Any) -> NoReturn:
            raise RuntimeError("can't start new thread")

    process = Background(ours, is_wanted=lambda: True, warn=print)
    await until(process.serves)
    asyncio.get_running_loop().set_default_executor(NoThreads())
    await process.close()
    assert process._process is not None
    assert process._process.wait(PATIENCE) == -signal.SIGKILL


async def test_what_the_system_does_not_let_it_take_is_raised(ours: SigningKey) -> None:
    async with running(ours) as (process, pid, warnings):
        os.kill(pid, signal.SIGSTOP)

        def sign_many() -> None:
            for _ in range(1 << 16):
                process.sign(bytes(32))

        with pytest.raises(BlockingIOError):
            sign_many()
    assert warnings == []


async def test_some_time_after_the_end_of_one_another_is_started(ours: SigningKey, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.alipayplus.background.PAUSE", 0.05)
    before = children()
    async with running(ours) as (process, pid, _):
        os.kill(pid, signal.SIGKILL)
        await until(lambda: not process.serves())
        await until(process.serves)
        ours.public.verify(b"again", (await signed(process, b"again"))[0])
        assert len(children() - before - {pid}) == 1
    assert children() == before


async def test_some_time_after_there_was_no_room_one_is_started(ours: SigningKey, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> NoReturn:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr("gateway.alipayplus.background.PAUSE", 0.05)
    process = Background(ours, is_wanted=lambda: True, warn=lambda _: None)
    with monkeypatch.context() as patched:
        patched.setattr(subprocess, "Popen", fail)
        assert not process.serves()
    await until(process.serves)
    await process.close()


@pytest.mark.parametrize(
    ("place", "name", "error"),
    [
        (socket, "socketpair", OSError(24, "Too many open files")),
        (subprocess, "Popen", BlockingIOError(11, "Resource temporarily unavailable")),
        (os, "sched_setscheduler", PermissionError(1, "Operation not permitted")),
    ],
)
async def test_where_there_is_none_that_is_told_once(
    ours: SigningKey, monkeypatch: pytest.MonkeyPatch, place: Any, name: str, error: OSError
) -> None:
    def fail(*_: object, **__: object) -> NoReturn:
        raise error

    monkeypatch.setattr(place, name, fail)
    before, warnings = children(), list[str]()
    process = Background(ours, is_wanted=lambda: True, warn=warnings.append)
    assert not process.serves()
    assert not process.serves()
    assert warnings == [f"no process for signatures beside API requests: {error.strerror}"]
    await until(lambda: not any(map(is_running, children() - before)))
    await process.close()
    assert children() == before


HOLDER = """
import asyncio, sys
from gateway.alipayplus.background import Background
from gateway.alipayplus.keys import SigningKey, generate_private_key

async def hold():
    process = Background(SigningKey.of(generate_private_key(), "1"), is_wanted=lambda: True, warn=print)
    while not process.serves():
        await asyncio.sleep(0.01)
    print("running", flush=True)
    await asyncio.Event().wait()

asyncio.run(hold())
"""


async def test_it_ends_with_whoever_has_started_it() -> None:
    with subprocess.Popen([sys.executable, "-c", HOLDER], stdout=subprocess.PIPE) as holder:  # noqa: ASYNC220  takes a moment
        assert holder.stdout is not None
        assert await asyncio.to_thread(holder.stdout.readline) == b"running\n"
        (pid,) = children(holder.pid)
        holder.kill()
    await until(lambda: not is_running(pid))
