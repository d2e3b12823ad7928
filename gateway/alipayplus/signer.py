"""Signatures, made one behind the other at the end of a turn of the event loop.

A signature takes longer than all else that is done for a call. Those that are wanted in one turn are made in one go, when everybody else
has had their turn: nobody who could be served at once waits behind them, and what is done before and after a signature is done for several
calls with warm caches. (A thread of its own was measured, too: it takes a tenth more CPU for a call.)
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

from gateway.alipayplus.keys import SigningKey


class Signer:
    """Signs with one key, in the order in which it is asked. For the running event loop."""

    def __init__(self, key: SigningKey) -> None:
        self._key = key
        self._loop = asyncio.get_running_loop()
        self._wanted: deque[tuple[bytes, Callable[[bytes], None], asyncio.Future[Any]]] = deque()

    def sign(self, data: bytes, then: Callable[[bytes], None], waiter: "asyncio.Future[Any]") -> None:
        """Sign `data`, and call `then` with the signature: what is done next needs no turn of its own.

        `waiter` is that of whoever waits for what comes of it. Where it is done, nothing is signed; a failure is raised in it.
        """
        if not self._wanted:
            self._loop.call_soon(self._sign_all)
        self._wanted.append((data, then, waiter))

    def _sign_all(self) -> None:
        wanted, self._wanted = self._wanted, deque()
        for data, then, waiter in wanted:
            if waiter.done():
                continue
            try:
                then(self._key.sign(data))
            except Exception as error:  # noqa: BLE001  raised in whoever waits
                if not waiter.done():
                    waiter.set_exception(error)
