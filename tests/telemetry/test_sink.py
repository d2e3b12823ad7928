import fcntl
import os
import subprocess
import sys
import threading
from pathlib import Path

from gateway.telemetry.sink import ATOMIC, Sink, _pieces


def test_lines_arrive_whole_and_in_order() -> None:
    read, write = os.pipe()
    sink = Sink(write)
    for number in range(100):
        sink.write([b"line %d\n" % number])
    sink.close()
    os.close(write)
    with os.fdopen(read, "rb") as stream:
        assert stream.read().splitlines() == [b"line %d" % number for number in range(100)]


def close_and_read(sink: Sink, read: int, write: int) -> list[bytes]:
    """Close a sink and its pipe while a thread takes all that comes; return the lines."""
    taken: list[bytes] = []

    def take() -> None:
        with os.fdopen(read, "rb") as stream:
            taken.extend(stream.read().splitlines())

    reader = threading.Thread(target=take)
    reader.start()
    sink.close(timeout=60)
    os.close(write)
    reader.join()
    return taken


def test_F5_a_reader_that_takes_nothing_costs_lines_and_never_time() -> None:
    read, write = os.pipe()
    dropped: list[int] = []
    sink = Sink(write, on_drop=dropped.append, limit=200_000)
    for _ in range(1000):
        sink.write([b"x" * 999 + b"\n"])
    assert 0 < sum(dropped) < 1000
    taken = close_and_read(sink, read, write)
    assert len(taken) + sum(dropped) == 1000


def test_F5_what_a_reader_that_takes_nothing_has_not_got_at_the_end_is_known() -> None:
    read, write = os.pipe()
    sink = Sink(write)
    sink.write([b"x" * 999 + b"\n"] * 1000)
    sink.close(timeout=0.5)
    unwritten = sink.unwritten
    written = len(os.read(read, fcntl.fcntl(read, fcntl.F_GETPIPE_SZ))) // 1000
    assert 0 < unwritten == 1000 - written
    assert len(close_and_read(sink, read, write)) == unwritten
    assert sink.unwritten == 0


def test_F5_a_pipe_that_another_process_has_set_to_be_non_blocking_loses_nothing() -> None:
    read, write = os.pipe()
    os.set_blocking(write, False)
    dropped: list[int] = []
    sink = Sink(write, on_drop=dropped.append)
    sink.write([b"%d %b\n" % (number, b"x" * 9000) for number in range(500)])
    taken = close_and_read(sink, read, write)
    assert dropped == []
    assert [line.partition(b" ")[0] for line in taken] == [b"%d" % number for number in range(500)]


def test_F5_a_dead_reader_is_counted_and_raises_nothing() -> None:
    read, write = os.pipe()
    os.close(read)
    dropped: list[int] = []
    sink = Sink(write, on_drop=dropped.append)
    sink.write([b"lost\n"])
    sink.close()
    os.close(write)
    assert sum(dropped) == 1


def test_what_is_written_at_once_holds_whole_lines_and_fits_into_a_pipe_in_one_piece() -> None:
    lines = [b"%d %b\n" % (number, b"x" * (number % 1500)) for number in range(1000)] + [b"y" * 5000 + b"\n", b"z\n"]
    pieces = [b"".join(piece) for piece in _pieces(lines, ATOMIC)]
    assert b"".join(pieces) == b"".join(lines)
    assert all(piece.endswith(b"\n") for piece in pieces)
    assert [len(piece) for piece in pieces if len(piece) > 4096] == [5001]


def test_a_file_is_written_in_few_large_pieces_and_holds_every_line(tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as file:
        sink = Sink(file.fileno())
        for number in range(20_000):
            sink.write([b"line %d\n" % number])
        sink.close()
    assert (tmp_path / "log").read_bytes().splitlines() == [b"line %d" % number for number in range(20_000)]


WRITES_TO_A_FULL_DISK = """
import queue, resource, sys
from gateway.telemetry.sink import Sink
ANY = resource.RLIM_INFINITY
resource.setrlimit(resource.RLIMIT_FSIZE, (250, ANY))  # beyond it, a file takes a part of what is written and then nothing
dropped = queue.Queue()
with open(sys.argv[1], "wb") as file:
    sink = Sink(file.fileno(), on_drop=dropped.put)
    sink.write([b"x" * 99 + b"\\n"] * 10)
    first = dropped.get()
    sink.write([b"lost\\n"])
    second = dropped.get()
    resource.setrlimit(resource.RLIMIT_FSIZE, (ANY, ANY))
    sink.write([b"after\\n"])
    sink.close()
print(first, second, dropped.qsize())
"""


def test_F5_a_full_disk_costs_what_it_does_not_take_whole_and_nothing_that_comes_after(tmp_path: Path) -> None:
    file = tmp_path / "log"
    said = subprocess.run([sys.executable, "-c", WRITES_TO_A_FULL_DISK, file], capture_output=True, check=True, timeout=60)
    assert said.stdout.split() == [b"8", b"1", b"0"]
    assert file.read_bytes().splitlines() == [b"x" * 99, b"x" * 99, b"x" * 50, b"after"]
