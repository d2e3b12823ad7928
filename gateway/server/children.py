"""Worker processes from outside: started by exec, killed, and reaped when SIGCHLD says that one has ended.

Nothing here knows what a worker does. It stands on the standard library alone, since the first worker is started before all else is
imported: so both processes load at the same time.
"""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from gateway.server.processor import USUAL_BITS, openssl_settings

MODULE: Final = "gateway.server.entry"
SUPERVISORS_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_OURS: Final = ("NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC", "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")  # of systemd, for us alone
_MALLOC: Final = {"MALLOC_TRIM_THRESHOLD_": str(4 << 20), "MALLOC_MMAP_THRESHOLD_": str(1 << 19)}
"""For glibc's malloc: room for pieces of bodies is kept, not taken from the kernel with each; whole large bodies go back to it at once."""
_PACKAGES: Final = Path(__file__).parents[2]


class Child:
    """A worker process and our side of the channel to it. `on_end` is called with its exit code (negative: the signal) by `poll`.

    `openssl` is what OpenSSL was told in it.
    """

    def __init__(self, process: "subprocess.Popen[bytes]", channel: socket.socket, openssl: Mapping[str, str]) -> None:
        self._process = process
        self.channel = channel
        self.openssl = openssl
        self.on_end: Callable[[int], None] = lambda _: None

    @property
    def pid(self) -> int:
        """The process."""
        return self._process.pid

    def kill(self) -> None:
        """End it at once; nothing happens when it has ended."""
        self._process.kill()

    def discard(self) -> None:
        """End one that has been given nothing to do."""
        self.channel.close()
        self._process.kill()

    def poll(self) -> bool:
        """Whether it has ended; `on_end` has then been called."""
        if self._process.poll() is None:
            return False
        self.on_end(self._process.returncode)
        return True


class Children:
    """All worker processes that have not ended."""

    def __init__(self, command: tuple[str, ...] | None = None, *, is_init: bool | None = None) -> None:
        """Take the command that starts a worker; it gets the number of its channel's descriptor behind it.

        `is_init` tells whether orphans come to this process: as a rule to the first one of a container.
        """
        self._command = command or worker_command()
        self._is_init = os.getpid() == 1 if is_init is None else is_init
        self._living: set[Child] = set()

    def __iter__(self) -> Iterator[Child]:
        return iter(tuple(self._living))

    def start(self, openssl: Mapping[str, str] | None = None) -> Child:
        """Start one. `openssl` is what OpenSSL is told in it; without it, what suits the usual key.

        Raises OSError where the machine has no room for it.
        """
        openssl = openssl_settings(USUAL_BITS) if openssl is None else openssl
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            with theirs, _blocked(SUPERVISORS_SIGNALS):
                process = subprocess.Popen(  # noqa: S603  our own interpreter and module
                    [*self._command, str(theirs.fileno())],
                    stdin=subprocess.DEVNULL,
                    pass_fds=[theirs.fileno()],
                    env=_MALLOC | dict(openssl) | {name: value for name, value in os.environ.items() if name not in _OURS},
                )
        except OSError:
            ours.close()
            raise
        child = Child(process, ours, openssl)
        self._living.add(child)
        return child

    def reap(self) -> None:
        """Look which ones have ended, and which processes of those that died before them, if such come to us."""
        self._living -= {child for child in self if child.poll()}
        if self._is_init:
            self._reap_orphans()

    def _reap_orphans(self) -> None:
        with suppress(ChildProcessError):
            while (ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)) is not None:
                if any(ended.si_pid == child.pid for child in self):
                    return  # since a moment: there is another signal for it
                os.waitpid(ended.si_pid, 0)

    def kill(self) -> None:
        """End all at once."""
        for child in self:
            child.kill()


def worker_command() -> tuple[str, ...]:
    """Return what starts a worker with this same interpreter and package, whatever lies in the working directory."""
    try:
        safe = () if _PACKAGES.samefile(".") else ("-P",)
    except OSError:  # it may not be looked into
        safe = ("-P",)
    return (sys.executable, *safe, "-m", MODULE)


@contextmanager
def _blocked(signals: tuple[signal.Signals, ...]) -> Iterator[None]:
    """Hold signals back: a process that is started meanwhile begins with them blocked, and can't be hit before it is ready for them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
