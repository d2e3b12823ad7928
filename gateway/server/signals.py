"""What the supervisor is told by signals: SIGTERM and SIGINT to stop, once more to stop at once, SIGHUP to reload."""

import asyncio
import signal
from collections.abc import Callable

from gateway.server.children import SUPERVISORS_SIGNALS


class Signals:
    """`stop` is set by the first signal to stop, `end` by the second; `has_grace` is False when the first was SIGINT.

    `reload` is set by SIGHUP, and cleared by who reloads.
    """

    def __init__(self) -> None:
        self.stop = asyncio.Event()
        self.end = asyncio.Event()
        self.reload = asyncio.Event()
        self.has_grace = True

    def watch(self, *, on_child: Callable[[], None]) -> None:
        """Begin to listen, also to what has come since the process began; `on_child` is called when a child has ended."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._told, True)
        loop.add_signal_handler(signal.SIGINT, self._told, False)
        loop.add_signal_handler(signal.SIGHUP, self.reload.set)
        loop.add_signal_handler(signal.SIGCHLD, on_child)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SUPERVISORS_SIGNALS)
        on_child()

    def ignore(self) -> None:
        """Heed none any more, to the end of the process: it is ending, and says itself with which exit code."""
        loop = asyncio.get_running_loop()
        for number in SUPERVISORS_SIGNALS:
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_IGN)

    def _told(self, has_grace: bool) -> None:  # noqa: FBT001  the loop calls it
        if self.stop.is_set():
            self.end.set()
        else:
            self.has_grace = has_grace
            self.stop.set()
