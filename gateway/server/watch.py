"""Notices that files of the configuration have changed, however that is done: written, renamed over, or a link that leads elsewhere.

Directories are watched, since files are replaced (Kubernetes swaps the link `..data`), and a look at the files themselves says whether
anything has happened that matters. That look is taken from time to time anyway, for file systems that tell nothing.
"""

import asyncio
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from pathlib import Path
from threading import Event
from typing import Final

LOOK: Final = 0.5
"""Seconds between two looks where nothing is told."""

SETTLE: Final = 1.0
"""Seconds from a first change to the report: changes that come meanwhile are one (faults E5)."""

_TOLD_WITHIN: Final = 50  # milliseconds
_SPARE_THREADS: Final = 4  # more than one, since the kernel counts those that were tried for a moment longer
_LINKS_MAX: Final = 40  # on the way to a file; as many as the kernel follows

Look = dict[Path, tuple[int, ...] | None]


async def until_changed(seen: Look) -> None:
    """Return when some of the files do not look any more as they were `seen`, and have had a second to settle."""
    try:
        await _until_told(seen)
    except (OSError, RuntimeError):  # no more watches or threads are to be had (limits of the system), or a directory has just gone
        while look(seen) == seen:  # noqa: ASYNC110  nobody tells
            await asyncio.sleep(LOOK)
    await asyncio.sleep(SETTLE)


def look(files: Iterable[Path]) -> Look:
    """Return what tells one state of the files from another without reading them."""
    return {file: _state(file) for file in files}


def directories_of(files: Iterable[Path]) -> set[Path]:
    """Return the directories in which something changes when one of the files does: its own, and those of all links on the way to it."""
    return {directory for file in files for directory in _directories(_absolute(file))}


async def _until_told(seen: Look) -> None:
    _check_room_for_threads()
    from watchfiles import awatch  # noqa: PLC0415  it takes long to import, and the service is to be ready before

    told = awatch(
        *sorted(directory for directory in directories_of(seen) if directory.is_dir()),
        watch_filter=None,
        debounce=_TOLD_WITHIN,
        step=_TOLD_WITHIN,
        rust_timeout=round(LOOK * 1000),
        yield_on_timeout=True,
        recursive=False,
        ignore_permission_denied=True,
    )
    if look(seen) != seen:
        return
    async with aclosing(told):
        async for _ in told:
            if look(seen) != seen:
                return


def _check_room_for_threads() -> None:
    """Raise RuntimeError where no thread can be started: there, watchfiles ends the whole process (it panics, and again cleaning up)."""
    tried = Event()
    with ThreadPoolExecutor(_SPARE_THREADS) as threads:
        try:
            for _ in range(_SPARE_THREADS):
                threads.submit(tried.wait)
        finally:
            tried.set()


def _directories(file: Path) -> set[Path]:
    found = {file.parent}
    for _ in range(_LINKS_MAX):
        link = next((place for place in (*reversed(file.parents), file) if place.is_symlink()), None)
        if link is None:
            break
        file = _absolute(link.parent / link.readlink() / file.relative_to(link))
        found |= {link.parent, file.parent}
    return found


def _absolute(file: Path) -> Path:
    return Path(os.path.abspath(file))  # noqa: PTH100  resolve() would follow the links


def _state(file: Path) -> tuple[int, ...] | None:
    try:
        found = file.stat()
    except (OSError, ValueError):
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
