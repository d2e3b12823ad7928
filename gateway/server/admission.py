"""What stands before HTTP on a connection that has been accepted: the PROXY header, then TLS. Afterwards it is the edge server's."""

import asyncio
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from structlog.typing import FilteringBoundLogger

from gateway.edge.forwarded import TrustedProxies
from gateway.edge.receiver import Receiver
from gateway.edge.server import EdgeServer
from gateway.server.proxy_protocol import BROKEN, V2_MAX, HeaderInvalid, parse
from gateway.server.secure import HANDSHAKE_TIMEOUT, secure


class Admission:
    """Brings connections to the edge server, with TLS if it `has_tls`. `proxies` must send a PROXY header; None: nobody may."""

    def __init__(
        self,
        edge: EdgeServer,
        log: FilteringBoundLogger,
        *,
        tls: ssl.SSLContext | None,
        proxies: TrustedProxies | None,
        timeout: float = HANDSHAKE_TIMEOUT,
    ) -> None:
        self._edge = edge
        self._log = log
        self._tls = tls
        self.has_tls = tls is not None
        self._proxies = proxies
        self._timeout = timeout

    def sends_header(self, peer: str) -> bool:
        """Whether a PROXY header stands before all else on the connections of a peer."""
        return self._proxies is not None and self._proxies.trusts(peer)

    async def admit(self, sock: socket.socket, peer: str, first: bytes) -> bool:
        """Give a non-blocking connection to the edge server, or close it and return False. `peer` is its address, empty on a unix socket.

        PROXY header and TLS handshake have `timeout` seconds each. `first` is what has been read already, nothing where there is TLS.
        """
        try:
            client, first = await self._client(sock, peer, first)
        except OSError:  # the client has left, or was refused
            sock.close()
            return False
        except BaseException:
            sock.close()
            raise
        return await self._open(sock, partial(self._edge.receiver, client, first), client or peer)

    async def _client(self, sock: socket.socket, peer: str, first: bytes) -> tuple[str | None, bytes]:
        """Return the client's address by the PROXY header, and what has been read behind that.

        The address is None if there is no header, and where it is the peer itself.
        """
        if not self.sends_header(peer):
            return None, first
        try:
            return await client_behind(sock, first, self._timeout)
        except (HeaderInvalid, TimeoutError) as error:
            self._refuse("proxy_protocol", str(error) if isinstance(error, HeaderInvalid) else "no PROXY header in time", peer)
            raise ConnectionRefusedError from error

    async def _open(self, sock: socket.socket, make: Callable[[], Receiver], client: str) -> bool:
        try:
            if self._tls is None:
                await asyncio.get_running_loop().connect_accepted_socket(make, sock)
            else:
                await secure(sock, self._tls, make, timeout=self._timeout)
        except ssl.SSLError as error:
            self._refuse("tls", error.reason or "handshake failed", client)
        except TimeoutError:
            self._refuse("tls", "no handshake in time", client)
        except OSError:
            return False  # the client has left
        else:
            return True
        return False

    def _refuse(self, reason: str, why: str, client: str) -> None:
        self._edge.metrics.rejected(reason).inc()
        self._log.info("connection refused", reason=reason, why=why, client=client)


async def client_behind(sock: socket.socket, first: bytes, timeout: float) -> tuple[str | None, bytes]:
    """Read a PROXY header from a non-blocking socket of which `first` has been read; nothing of what follows the header is read.

    Return the client's address if it names one, and what of `first` stands behind it. Raises HeaderInvalid, TimeoutError when it is not
    whole after so many seconds, and ConnectionResetError for a connection that ends before its first byte, as those of health checks do.
    """
    deadline = asyncio.get_running_loop().time() + timeout
    data = first
    header = parse(data)
    while header is None:
        came = await _peek(sock, deadline)
        if not came and not data:
            raise ConnectionResetError
        if not came:
            raise HeaderInvalid(BROKEN)
        header = parse(data + came)
        sock.recv(len(came) if header is None else header.size - len(data))
        data += came
    return header.client, first[header.size :]


async def _peek(sock: socket.socket, deadline: float) -> bytes:
    """Return what can be read from a socket, and leave it there. Raises TimeoutError when nothing has come by then."""
    with suppress(BlockingIOError):
        return sock.recv(V2_MAX, socket.MSG_PEEK)
    with suppress(TimeoutError):  # of a loop that is late: what has come is read all the same
        async with asyncio.timeout_at(deadline):
            await _readable(sock)
    try:
        return sock.recv(V2_MAX, socket.MSG_PEEK)
    except BlockingIOError:
        raise TimeoutError from None


async def _readable(sock: socket.socket) -> None:
    loop, readable = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(sock, readable.set)
    try:
        await readable.wait()
    finally:
        loop.remove_reader(sock)
