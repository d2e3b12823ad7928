"""What systemd is told about the service (sd_notify(3)): ready, reloading, stopping, a status line, and that it is alive.

Without NOTIFY_SOCKET in the environment nothing is sent. A message that cannot be delivered is dropped: nothing depends on it.
"""

import os
import socket
from collections.abc import Mapping
from contextlib import suppress
from time import CLOCK_MONOTONIC, clock_gettime_ns


class Notifier:
    """Sends the messages. `watchdog` is the longest time (seconds) between two signs of life, None where none are asked for."""

    def __init__(self, environ: Mapping[str, str] = os.environ, *, pid: int | None = None) -> None:
        address = environ.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self.watchdog = _watchdog(environ, pid or os.getpid()) if address else None

    def ready(self, status: str) -> None:
        """Tell that the service serves, after its start or after a reload."""
        self._send("READY=1", f"STATUS={status}")

    def reloading(self) -> None:
        """Tell that a reload has begun; `ready` is to follow in any case."""
        self._send("RELOADING=1", f"MONOTONIC_USEC={clock_gettime_ns(CLOCK_MONOTONIC) // 1000}", "STATUS=reloading")

    def stopping(self, status: str) -> None:
        """Tell that the service ends."""
        self._send("STOPPING=1", f"STATUS={status}")

    def alive(self) -> None:
        """Give a sign of life."""
        self._send("WATCHDOG=1")

    def _send(self, *lines: str) -> None:
        if not self._address:
            return
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
            sock.sendto("\n".join(lines).encode(), self._address)


def _watchdog(environ: Mapping[str, str], pid: int) -> float | None:
    microseconds = environ.get("WATCHDOG_USEC", "")
    is_ours = environ.get("WATCHDOG_PID", str(pid)) == str(pid)
    return int(microseconds) / 1e6 if microseconds.isdecimal() and int(microseconds) and is_ours else None
