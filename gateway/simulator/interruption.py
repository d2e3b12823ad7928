"""Ending what runs in the foreground: the first SIGINT, SIGTERM or SIGHUP cancels it, and all that it opened is closed."""

import asyncio
import signal
from collections.abc import Coroutine
from typing import Any, Final

import uvloop

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def run(work: Coroutine[Any, Any, int]) -> int:
    """Run until it returns its exit code, or until a signal ends it: then 0."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_until_signal(work))


async def _until_signal(work: Coroutine[Any, Any, int]) -> int:
    loop = asyncio.get_running_loop()
    task = loop.create_task(work)
    interrupted = asyncio.Event()

    def on_signal() -> None:
        if not interrupted.is_set():  # closing is not to be interrupted again
            interrupted.set()
            task.cancel()

    for number in SIGNALS:
        loop.add_signal_handler(number, on_signal)
    try:
        return await task
    except asyncio.CancelledError:
        if interrupted.is_set():
            return 0
        raise
