"""Signatures, made one behind the other at the end of a turn of the event loop.

A signature takes longer than all else that is done for a call. Those that are wanted in one turn are made in one go, when everybody else
has had their turn: nobody who could be served at once waits behind them, and what is done before and after a signature is done for several
calls with warm caches. (A thread of its own was measured, too: it takes a tenth more CPU for a call.)
"""

import asyncio
from collections import deque

from gateway.alipayplus.keys import SigningKey


class Signer:
    """Signs with one key, in the order in which it is asked. For the running event loop."""

    def __init__(self, key: SigningKey) -> None:
        self._key = key
        self._loop = asyncio.get_running_loop()
        self._wanted: deque[tuple[bytes, asyncio.Future[bytes]]] = deque()

    def sign(self, data: bytes) -> "asyncio.Future[bytes]":
        """Return the signature of `data`, to be awaited. Whoever cancels it gets none made."""
        signature: asyncio.Future[bytes] = self._loop.create_future()
        if not self._wanted:
            self._loop.call_soon(self._sign_all)
        self._wanted.append((data, signature))
        return signature

    def _sign_all(self) -> None:
        wanted, self._wanted = self._wanted, deque()
        for data, signature in wanted:
            if signature.done():
                continue
            try:
                signature.set_result(self._key.sign(data))
            except Exception as error:  # noqa: BLE001  raised in whoever waits
                signature.set_exception(error)
