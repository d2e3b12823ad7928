"""A process that signs when nobody else wants the processor (SCHED_IDLE): whatever else comes interrupts it.

A thread would do for that, but for Python's lock: one that holds it and does not get the processor holds up the event loop. Where the
processor is never free, nothing is signed here: whoever asks must not rely on it.
"""

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from math import inf
from typing import Final

from gateway.alipayplus import background_process
from gateway.alipayplus.background_process import READY
from gateway.alipayplus.keys import SigningKey

PAUSE: Final = 60.0
"""Seconds after which another process is started, when one has ended or there was no room for it."""
_SIGNATURE_MAX: Final = 1 << 12  # bytes
_PATIENCE: Final = 2.0  # seconds until a process that has been killed gets the processor to end


class Background:
    """Such a process with one key, started when it is wanted for the first time. For the running event loop.

    `on_signature` is called with the signature of each digest, in their order; `on_end` when the process has ended by itself and owes what
    it was given. `warn` is told of that, and where the system has no room for it or does not let it stand back.
    """

    def __init__(self, key: SigningKey, *, is_wanted: Callable[[], bool], warn: Callable[[str], object]) -> None:
        self._key = key
        self._is_wanted = is_wanted
        self._warn = warn
        self._loop = asyncio.get_running_loop()
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: socket.socket | None = None
        self._start_at = 0.0  # of the loop's time
        self._is_ready = False
        self.on_signature: Callable[[bytes], None] = lambda _: None
        self.on_end: Callable[[], None] = lambda: None

    def serves(self) -> bool:
        """Tell whether signatures are wanted from it now, and it is there."""
        if not self._is_wanted():
            return False
        if self._start_at <= self._loop.time():
            self._start()
        return self._is_ready

    def sign(self, digest: bytes) -> None:
        """Let the process sign a SHA-256 digest. A few at a time: there is room for them. Raises OSError if it was not given it."""
        assert self._channel is not None
        with suppress(ConnectionError):  # it has ended, which is heard next
            self._channel.send(digest)

    async def close(self) -> None:
        """End it."""
        self._start_at = inf
        self._hang_up()
        if self._process is not None:
            with suppress(subprocess.TimeoutExpired, RuntimeError):  # where no thread can be had, nobody waits for its end
                await asyncio.to_thread(self._process.wait, _PATIENCE)

    def _start(self) -> None:
        self._start_at = self._loop.time() + PAUSE
        if self._process is not None and self._process.poll() is None:
            return  # the last one has been killed, but does not get the processor to end
        try:
            self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            self._channel.setblocking(False)
            self._loop.add_reader(self._channel, self._read)
            with theirs:
                self._process = subprocess.Popen(  # noqa: S603  our own interpreter and file
                    [sys.executable, "-P", background_process.__file__, str(theirs.fileno())],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    pass_fds=[theirs.fileno()],
                    process_group=0,  # a terminal's signals are not for it
                )
            os.sched_setscheduler(self._process.pid, os.SCHED_IDLE, os.sched_param(0))
            self._channel.send(self._key.der())
            self._start_at = inf
        except OSError as error:
            if isinstance(error, PermissionError):
                self._start_at = inf  # nor will it later
            self._hang_up()
            self._warn(f"no process for signatures beside API requests: {error.strerror}")

    def _read(self) -> None:
        assert self._channel is not None
        try:
            message = self._channel.recv(_SIGNATURE_MAX)
        except BlockingIOError:
            return
        except OSError:
            message = b""
        if not message:
            self._hang_up()
            self._start_at = self._loop.time() + PAUSE
            self._warn("the process for signatures beside API requests has ended")
            self.on_end()
        elif self._is_ready:
            self.on_signature(message)
        else:
            self._is_ready = message == READY

    def _hang_up(self) -> None:
        """Hear nothing more, and let the process end."""
        self._is_ready = False
        if self._channel is not None and self._channel.fileno() >= 0:
            self._loop.remove_reader(self._channel)
            self._channel.close()
        if self._process is not None:
            self._process.kill()
