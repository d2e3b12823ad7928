import fcntl
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from threading import Timer

import pytest

from gateway.server.pid_file import CannotHold, PidFile, running


def test_it_holds_the_id_as_long_as_it_is_held(tmp_path: Path) -> None:
    file = tmp_path / "gateway.pid"
    held = PidFile(file)
    assert (file.read_text(), running(file)) == (f"{os.getpid()}\n", os.getpid())
    held.release()
    assert not file.exists()
    assert running(file) is None


def test_a_file_that_was_left_behind_is_nobodys_and_is_taken_over(tmp_path: Path) -> None:
    file = tmp_path / "gateway.pid"
    file.write_text("1234567890\n")
    assert running(file) is None
    held = PidFile(file)
    assert file.read_text() == f"{os.getpid()}\n"
    held.release()


def test_a_second_holder_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    file = tmp_path / "gateway.pid"
    held = PidFile(file)
    with pytest.raises(CannotHold, match="is held by a running gateway"):
        PidFile(file)
    assert running(file) == os.getpid()
    held.release()


def test_who_looks_whether_it_is_held_keeps_nobody_from_holding_it(tmp_path: Path) -> None:
    """`gateway stop` and `gateway reload` beside a start: they have it for a moment."""
    file = tmp_path / "gateway.pid"
    file.touch()
    looking = file.open("rb")
    fcntl.flock(looking, fcntl.LOCK_SH)
    ends = Timer(0.05, looking.close)
    ends.start()
    held = PidFile(file)
    assert running(file) == os.getpid()
    held.release()
    ends.join()


def test_a_holder_that_was_killed_holds_nothing(tmp_path: Path) -> None:
    file = tmp_path / "gateway.pid"
    code = "import os, pathlib, sys; from gateway.server.pid_file import PidFile; PidFile(pathlib.Path(sys.argv[1])); os.abort()"
    subprocess.run([sys.executable, "-c", code, str(file)], check=False)
    assert file.exists()
    assert running(file) is None


def before_it_locks(monkeypatch: pytest.MonkeyPatch, happens: Callable[[], None]) -> None:
    """Let this happen between opening a pid file and locking it, once."""
    flock, left = fcntl.flock, [happens]

    def late(descriptor: int, operation: int) -> None:
        if left:
            left.pop()()
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", late)


def test_what_its_holder_removes_while_another_waits_is_not_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "gateway.pid"
    before_it_locks(monkeypatch, PidFile(file).release)
    held = PidFile(file)
    assert (file.read_text(), running(file)) == (f"{os.getpid()}\n", os.getpid())
    held.release()
    assert not file.exists()


def test_the_holder_is_told_also_when_the_file_has_just_been_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "gateway.pid"
    held = PidFile(file)
    before_it_locks(monkeypatch, file.unlink)
    assert running(file) == os.getpid()
    held.release()


def test_the_file_of_another_holder_stays(tmp_path: Path) -> None:
    file = tmp_path / "gateway.pid"
    former = PidFile(file)
    file.unlink()
    held = PidFile(file)
    former.release()
    assert running(file) == os.getpid()
    held.release()


def test_a_file_that_cannot_be_read_is_not_taken_for_nobodys(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        running(tmp_path / "file" / "gateway.pid")


@pytest.mark.parametrize("text", ["-----BEGIN PRIVATE KEY-----\n", "12 13\n", "\0", f"{'7' * 64}x", "7\nx"])
def test_a_file_that_is_no_pid_file_stays_as_it_is(tmp_path: Path, text: str) -> None:
    file = tmp_path / "key.pem"
    file.write_text(text)
    with pytest.raises(CannotHold, match=r"key\.pem cannot be written: a file that holds no process id stands there"):
        PidFile(file)
    assert file.read_text() == text
    assert running(file) is None


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(CannotHold, match=r"server\.pid_file: .*cannot be written: No such file or directory"):
        PidFile(tmp_path / "none" / "gateway.pid")


@pytest.mark.parametrize("text", ["", "junk\n", "-1\n"])
def test_a_held_file_without_an_id_tells_none(tmp_path: Path, text: str) -> None:
    file = tmp_path / "gateway.pid"
    held = PidFile(file)
    file.write_text(text)
    assert running(file) is None
    held.release()
