"""Waiting for whichever comes first."""

import asyncio
from collections.abc import Awaitable


async def first(*waits: Awaitable[object], timeout: float | None = None) -> None:
    """Wait until one has ended, at most `timeout` seconds; the others are cancelled. Raises what the ended one raised."""
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    try:
        done, _ = await asyncio.wait(tasks, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()
