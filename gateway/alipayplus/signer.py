"""Signatures, made one behind the other at the end of a turn of the event loop.

A signature takes longer than all else that is done for a call. Those that are wanted in one turn are made in one go, when everybody else
has had their turn: what is done before and after a signature is done for several calls with warm caches. Where others are to be served
besides, one is made in a turn: calls lose nothing measurable, and others need not wait for all of them. (A thread of its own was measured,
too: it takes a tenth more CPU for a call, and others wait no less.)
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

from gateway.alipayplus.keys import SigningKey


class Signer:
    """Signs with one key, in the order in which it is asked. For the running event loop.

    `has_others` tells whether there are others to be served.
    """

    def __init__(self, key: SigningKey, *, has_others: Callable[[], bool] = lambda: False) -> None:
        self._key = key
        self._has_others = has_others
        self._loop = asyncio.get_running_loop()
        self._wanted: deque[tuple[bytes, Callable[[bytes], None], asyncio.Future[Any]]] = deque()

    def sign(self, data: bytes, then: Callable[[bytes], None], waiter: "asyncio.Future[Any]") -> None:
        """Sign `data`, and call `then` with the signature: what is done next needs no turn of its own.

        `waiter` is that of whoever waits for what comes of it. Where it is done, nothing is signed; a failure is raised in it.
        """
        if not self._wanted:
            self._loop.call_soon(self._sign_some)
        self._wanted.append((data, then, waiter))

    def _sign_some(self) -> None:
        wanted = self._wanted
        for _ in range(1 if self._has_others() else len(wanted)):
            data, then, waiter = wanted.popleft()
            if waiter.done():
                continue
            try:
                then(self._key.sign(data))
            except Exception as error:  # noqa: BLE001  raised in whoever waits
                if not waiter.done():
                    waiter.set_exception(error)
        if wanted:
            self._loop.call_soon(self._sign_some)
