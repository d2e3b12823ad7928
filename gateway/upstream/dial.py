"""Making a connection: addresses by name, the socket, a tunnel through a proxy, TLS. Whatever goes wrong here is Unreachable."""

import asyncio
import socket
import ssl
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

from gateway.upstream.connection import Connection
from gateway.upstream.endpoint import Endpoint
from gateway.upstream.errors import Unreachable

Address = tuple[socket.AddressFamily, tuple[str, int] | tuple[str, int, int, int]]

_STAGGER: Final = 0.25
_KEEPALIVE: Final = ((socket.TCP_KEEPIDLE, 30), (socket.TCP_KEEPINTVL, 10), (socket.TCP_KEEPCNT, 3))
_PROXY_HEAD: Final = 16 * 1024
# The first that fits counts.
_REASONS: Final[tuple[tuple[type[OSError], str], ...]] = (
    (ssl.SSLCertVerificationError, "certificate not accepted"),
    (ssl.SSLError, "TLS handshake failed"),
    (socket.gaierror, "name not found"),
    (TimeoutError, "connect timeout"),
    (ConnectionRefusedError, "connection refused"),
    (ConnectionError, "closed while connecting"),
    (OSError, "no connection"),
)


class Addresses:
    """The addresses of one host, kept for `ttl` seconds; when the name service is down, the old ones are used on."""

    def __init__(self, host: str, port: int, *, ttl: float = 30.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._host = host
        self._port = port
        self._ttl = ttl
        self._clock = clock
        self._known: Sequence[Address] = ()
        self._until = clock()

    async def get(self) -> Sequence[Address]:
        """Return the addresses in order of preference, at least one. Raises OSError when none was ever found."""
        if self._known and self._clock() < self._until:
            return self._known
        try:
            found = await asyncio.get_running_loop().getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
            self._known = tuple((socket.AddressFamily(family), address) for family, _, _, _, address in found)  # type: ignore[misc]
        except OSError:
            if not self._known:
                raise
        self._until = self._clock() + self._ttl
        return self._known


class Dialer:
    """Makes connections to one endpoint."""

    def __init__(self, endpoint: Endpoint, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._endpoint = endpoint
        host, port = endpoint.proxy or (endpoint.host, endpoint.port)
        self._addresses = Addresses(host, port, clock=clock)

    async def connect(self, timeout: float, on_lost: Callable[[Connection], None]) -> Connection:
        """Return a connection over which nothing has been sent yet, TLS done. Raises Unreachable; takes at most `timeout` seconds."""
        try:
            async with asyncio.timeout(timeout):
                return await self._connect(on_lost)
        except OSError as error:
            reason = next(text for kind, text in _REASONS if isinstance(error, kind))
            raise Unreachable(reason) from error

    async def _connect(self, on_lost: Callable[[Connection], None]) -> Connection:
        endpoint, loop = self._endpoint, asyncio.get_running_loop()
        if endpoint.path is not None:
            return (await loop.create_unix_connection(lambda: Connection(on_lost), endpoint.path))[1]
        sock = await _first_connected(await self._addresses.get())
        try:
            if endpoint.proxy is not None:
                await _ask_for_tunnel(sock, endpoint)
            _, connection = await loop.create_connection(
                lambda: Connection(on_lost), sock=sock, ssl=endpoint.tls, server_hostname=endpoint.server_name
            )
        except BaseException:
            sock.close()
            raise
        return connection


async def _first_connected(addresses: Sequence[Address]) -> socket.socket:
    """Connect to all addresses in turn, each a quarter of a second after the one before (RFC 8305), and take the first that answers."""
    if len(addresses) == 1:
        return await _connected(*addresses[0])
    attempts: set[asyncio.Task[socket.socket]] = set()
    failure: OSError = OSError()
    try:
        for position, address in enumerate(addresses):
            attempts.add(asyncio.create_task(_connected(*address)))
            last = position == len(addresses) - 1
            while attempts:
                done, attempts = await asyncio.wait(attempts, timeout=None if last else _STAGGER, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    if (error := task.exception()) is None:
                        return task.result()
                    failure = error if isinstance(error, OSError) else failure
                if not done or not last:
                    break
        raise failure
    finally:
        await _give_up(attempts)


async def _give_up(attempts: set[asyncio.Task[socket.socket]]) -> None:
    for task in attempts:
        task.cancel()
    for result in await asyncio.gather(*attempts, return_exceptions=True):
        if isinstance(result, socket.socket):
            result.close()


async def _connected(family: socket.AddressFamily, address: tuple[str, int] | tuple[str, int, int, int]) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in _KEEPALIVE:
            with suppress(OSError):
                sock.setsockopt(socket.IPPROTO_TCP, option, value)
        await asyncio.get_running_loop().sock_connect(sock, address)
    except BaseException:
        sock.close()
        raise
    return sock


async def _ask_for_tunnel(sock: socket.socket, endpoint: Endpoint) -> None:
    """Ask the proxy for a tunnel (RFC 9110 section 9.3.6). A refusal is Unreachable: nothing has reached the peer."""
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(sock, b"CONNECT %b HTTP/1.1\r\nHost: %b\r\n\r\n" % ((endpoint.name.encode(),) * 2))
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        received = await loop.sock_recv(sock, 1)
        head += received
        if not received or len(head) > _PROXY_HEAD:
            raise Unreachable("the proxy's answer is invalid")
    if head[:10] not in (b"HTTP/1.1 2", b"HTTP/1.0 2"):
        raise Unreachable("refused by the proxy")
