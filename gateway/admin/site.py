"""Where the operators' listener listens: one socket, which a reload may replace by another."""

import asyncio
import socket
from typing import Final

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

MOST: Final = 64
"""Connections that there are at once: those of a few browsers, scrapers and probes. For one more the oldest ends.

Idle clients and slow ones could take all descriptors otherwise, and without one no worker is replaced.
"""
_CLOSE_WITHIN: Final = 0.5  # seconds for answers under way when all ends


class Site:
    """Serves an application on one socket at a time, between `start` and `close`."""

    def __init__(self, app: web.Application) -> None:
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=_CLOSE_WITHIN)
        self._listening: asyncio.Server | None = None

    async def start(self) -> None:
        """Make ready to listen."""
        await self._runner.setup()

    async def listen(self, sock: socket.socket) -> None:
        """Accept from this listening socket, and no more from the one before, which is closed, whatever comes of this one."""
        self._stop()
        self._listening = await asyncio.get_running_loop().create_server(self._connect, sock=sock)

    async def close(self) -> None:
        """Close the socket and all connections."""
        self._stop()
        await self._runner.cleanup()

    def _stop(self) -> None:
        former, self._listening = self._listening, None
        if former is not None:
            former.close()

    def _connect(self) -> RequestHandler:
        """Return the protocol of a new connection."""
        asyncio.get_running_loop().call_soon(self._make_room)  # others that have been accepted in this turn are there then
        return self._connections()

    def _make_room(self) -> None:
        """End the oldest connections, so that there are no more than MOST with the one that comes."""
        others = [connection.transport for connection in self._connections.connections if connection.transport is not None]
        for transport in others[: 1 - MOST]:
            transport.abort()

    @property
    def _connections(self) -> web.Server:
        server = self._runner.server
        assert server is not None
        return server
