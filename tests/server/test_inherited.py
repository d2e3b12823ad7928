"""Sockets handed over by systemd, asked for in a process of its own, where descriptors 3 and on are what the test says."""

import os
import socket
import subprocess
import sys

import pytest

from gateway.server.inherited import inherited_sockets

ASK = """
import json, os
from gateway.server.inherited import inherited_sockets
os.environ["LISTEN_PID"] = os.environ.pop("FOR", str(os.getpid()))
found = inherited_sockets()
left = [name for name in os.environ if name.startswith("LISTEN_")]
numbers = [number for several in found.values() for number in several]
print(json.dumps([found, left, [os.get_inheritable(number) for number in numbers]]))
"""


def ask(count: int, **environ: str) -> str:
    """Hand `count` sockets over as 3, 4, ... and return what the process says of them."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    # bash moves each socket to where systemd would put it
    moves = " ".join(f"{3 + index}<&{sock.fileno()}" for index, sock in enumerate(sockets))
    done = subprocess.run(
        ["bash", "-c", f'exec "$0" -c "$1" {moves}', sys.executable, ASK],
        env=os.environ | {"LISTEN_FDS": str(count)} | environ,
        pass_fds=[sock.fileno() for sock in sockets],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    for sock in sockets:
        sock.close()
    return done.stdout.strip()


def test_they_are_found_by_name_and_no_child_has_them() -> None:
    assert ask(3, LISTEN_FDNAMES="web:admin:web") == '[{"web": [3, 5], "admin": [4]}, [], [false, false, false]]'


def test_without_names_they_are_called_unknown() -> None:
    assert ask(2) == '[{"unknown": [3, 4]}, [], [false, false]]'
    assert ask(2, LISTEN_FDNAMES="web") == '[{"web": [3], "unknown": [4]}, [], [false, false]]'


def test_those_of_another_process_are_not_ours() -> None:
    assert ask(1, FOR="1", LISTEN_FDNAMES="web") == "[{}, [], []]"


@pytest.mark.parametrize("environ", [{}, {"LISTEN_FDS": "1"}, {"LISTEN_PID": "7", "LISTEN_FDS": "x"}, {"LISTEN_PID": "7"}])
def test_nothing_was_handed_over(environ: dict[str, str]) -> None:
    assert inherited_sockets(environ, pid=7) == {}
    assert environ == {}
