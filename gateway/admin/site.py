"""Where the operators' listener listens: one socket, which a reload may replace by another."""

import socket
from typing import Final

from aiohttp import web

_CLOSE_WITHIN: Final = 0.5  # seconds for answers under way when all ends


class Site:
    """Serves an application on one socket at a time, between `start` and `close`."""

    def __init__(self, app: web.Application) -> None:
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=_CLOSE_WITHIN)
        self._listening: web.SockSite | None = None

    async def start(self) -> None:
        """Make ready to listen."""
        await self._runner.setup()

    async def listen(self, sock: socket.socket) -> None:
        """Accept from this listening socket, and no more from the one before, which is closed, whatever comes of this one."""
        former, self._listening = self._listening, web.SockSite(self._runner, sock)
        try:
            await self._listening.start()
        finally:
            if former is not None:
                await former.stop()

    async def close(self) -> None:
        """Close the socket and all connections."""
        await self._runner.cleanup()
