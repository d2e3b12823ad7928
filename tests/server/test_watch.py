import asyncio
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from gateway.server.watch import directories_of, look, until_changed

WITHOUT_THREADS: Final = """
import asyncio, os, resource, tempfile, watchfiles
from pathlib import Path
from gateway.server.watch import look, until_changed

async def watch(file):
    waiting = asyncio.create_task(until_changed(look([file])))
    await asyncio.sleep(0)
    file.write_text("one")
    await asyncio.wait_for(waiting, 30)

resource.setrlimit(resource.RLIMIT_NPROC, (1, 1))
if os.getuid() == 0:  # whom that limit does not hold for
    os.setuid(64999)
with tempfile.TemporaryDirectory() as folder:
    asyncio.run(watch(Path(folder) / "a"))
print("noticed")
"""


def write(folder: Path) -> None:
    (folder / "a").write_text("two!")


def replace(folder: Path) -> None:
    (folder / "new").write_text("two")
    (folder / "new").rename(folder / "a")


def remove(folder: Path) -> None:
    (folder / "a").unlink()


def swap(folder: Path) -> None:
    """What Kubernetes does: `..data` leads to another folder from now on."""
    (folder / "..new").symlink_to("v2")
    (folder / "..new").rename(folder / "..data")


def write_target(folder: Path) -> None:
    (folder / "v1" / "b").write_text("two!")


def create(folder: Path) -> None:
    (folder / "none").write_text("now")


@pytest.mark.parametrize("change", [write, replace, remove, swap, write_target, create])
async def test_E5_each_way_of_changing_a_file_is_noticed(tmp_path: Path, change: Callable[[Path], None]) -> None:
    (tmp_path / "a").write_text("one")
    for version in ("v1", "v2"):
        (tmp_path / version).mkdir()
        (tmp_path / version / "b").write_text(version)
    (tmp_path / "..data").symlink_to("v1")
    (tmp_path / "b").symlink_to("..data/b")
    seen = look([tmp_path / "a", tmp_path / "b", tmp_path / "none"])
    waiting = asyncio.create_task(until_changed(seen))
    await asyncio.sleep(0)
    change(tmp_path)
    await asyncio.wait_for(waiting, 30)


async def test_a_change_that_came_before_is_noticed_too(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("one")
    seen = look([tmp_path / "a"])
    (tmp_path / "a").write_text("two!")
    await asyncio.wait_for(until_changed(seen), 30)


def test_a_change_is_noticed_also_where_no_thread_can_be_started() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT_THREADS], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "noticed\n"), done.stderr


async def test_other_files_of_the_folder_do_not_matter(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("one")
    waiting = asyncio.create_task(until_changed(look([tmp_path / "a"])))
    for number in range(20):
        (tmp_path / "other").write_text(str(number))
        await asyncio.sleep(0.05)
    assert not waiting.done()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_a_folder_that_is_not_there_yet_is_no_fault(tmp_path: Path) -> None:
    file = tmp_path / "later" / "a"
    waiting = asyncio.create_task(until_changed(look([file])))
    await asyncio.sleep(0)
    file.parent.mkdir()
    file.write_text("one")
    await asyncio.wait_for(waiting, 30)


def test_the_folders_of_all_links_on_the_way_to_a_file_are_watched(tmp_path: Path) -> None:
    for name in ("mount", "real", "far"):
        (tmp_path / name).mkdir()
    (tmp_path / "far" / "file").write_text("x")
    (tmp_path / "real" / "file").symlink_to("../far/file")
    (tmp_path / "mount" / "data").symlink_to("../real")
    (tmp_path / "mount" / "file").symlink_to("data/file")
    found = directories_of([tmp_path / "mount" / "file"])
    assert found >= {tmp_path / "mount", tmp_path / "real", tmp_path / "far"}


def test_links_that_go_round_in_circles_end(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    assert directories_of([tmp_path / "a"]) == {tmp_path}
    assert look([tmp_path / "a"]) == {tmp_path / "a": None}


def test_a_relative_path_counts_from_the_working_directory() -> None:
    assert directories_of([Path("a")]) >= {Path(os.getcwd())}  # noqa: PTH109  the path as it is
