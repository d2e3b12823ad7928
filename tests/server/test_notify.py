import socket
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from gateway.server.notify import Notifier


@pytest.fixture(params=["path", "abstract"])
def systemd(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[socket.socket, str]]:
    name = str(tmp_path / "notify") if request.param == "path" else f"@{uuid4()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(name.replace("@", "\0") if name.startswith("@") else name)
        sock.settimeout(10)
        yield sock, name


def test_each_state_is_told_with_a_status_line(systemd: tuple[socket.socket, str]) -> None:
    sock, name = systemd
    notifier = Notifier({"NOTIFY_SOCKET": name})
    notifier.ready("serving")
    notifier.reloading()
    notifier.alive()
    notifier.stopping("stopping")
    messages = [sock.recv(4096).decode() for _ in range(4)]
    assert [messages[0], messages[2], messages[3]] == ["READY=1\nSTATUS=serving", "WATCHDOG=1", "STOPPING=1\nSTATUS=stopping"]
    state, microseconds, status = messages[1].splitlines()
    assert (state, status) == ("RELOADING=1", "STATUS=reloading")
    assert int(microseconds.removeprefix("MONOTONIC_USEC=")) > 0


def test_nobody_who_listens_is_no_fault(tmp_path: Path) -> None:
    for environ in ({}, {"NOTIFY_SOCKET": str(tmp_path / "none")}):
        Notifier(environ).ready("serving")


@pytest.mark.parametrize(
    ("environ", "seconds"),
    [
        ({"WATCHDOG_USEC": "3000000"}, 3.0),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "7"}, 3.0),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "8"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "junk"}, None),
        ({}, None),
    ],
)
def test_the_watchdog_is_fed_as_often_as_systemd_says(environ: dict[str, str], seconds: float | None) -> None:
    assert Notifier({"NOTIFY_SOCKET": "/none", **environ}, pid=7).watchdog == seconds
    assert Notifier(environ, pid=7).watchdog is None
