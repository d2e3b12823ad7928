"""Making a connection: the socket, a tunnel through a proxy, TLS. Whatever goes wrong here is Unreachable."""

import asyncio
import errno
import os
import socket
import ssl
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from gateway.upstream.addresses import Address, Addresses, Resolve, system_resolve
from gateway.upstream.connection import BUFFER, Connection
from gateway.upstream.endpoint import Endpoint
from gateway.upstream.errors import Unreachable, UpstreamError
from gateway.upstream.message import FIRST_FINAL, request_head
from gateway.upstream.parser import AnswerParser
from gateway.upstream.wire import Early, Wire, feed

_STAGGER: Final = 0.25
_QUEUE_FULL: Final = 0.02  # seconds until a unix socket is asked again
_OPTIONS: Final = (
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
)
_PROXY_READ: Final = 4096
_FIRST_REDIRECTION: Final = 300
# The first that fits counts.
_REASONS: Final[tuple[tuple[type[OSError], str], ...]] = (
    (ssl.SSLCertVerificationError, "certificate not accepted"),
    (ssl.SSLError, "TLS handshake failed"),
    (socket.gaierror, "name not found"),
    (TimeoutError, "connect timeout"),
    (ConnectionRefusedError, "connection refused"),
    (ConnectionError, "closed while connecting"),
)
_SYSTEM_REASONS: Final = {
    errno.ENOENT: "there is no such socket",
    errno.EACCES: "permission denied",
    errno.EPERM: "permission denied",  # by a firewall
    errno.EHOSTUNREACH: "no route",
    errno.ENETUNREACH: "no route",
    errno.EMFILE: "no descriptors left",
    errno.ENFILE: "no descriptors left",
    errno.EADDRNOTAVAIL: "no local port left",
}
_UNTRUSTED: Final = "no trusted authority has issued it"
_CERTIFICATE_FAULTS: Final = {  # OpenSSL's X509_V_ERR_*
    9: "not yet valid",
    10: "expired",
    18: _UNTRUSTED,  # it is its own issuer
    19: _UNTRUSTED,  # and so is the authority that came with it
    20: _UNTRUSTED,
    21: _UNTRUSTED,
    62: "for another name",
    64: "for another name",  # an address
}


class Dialer:
    """Makes connections to one endpoint."""

    def __init__(self, endpoint: Endpoint, *, resolve: Resolve = system_resolve, clock: Callable[[], float] = time.monotonic) -> None:
        self._endpoint = endpoint
        self._buffer = memoryview(bytearray(BUFFER))
        host, port = endpoint.proxy or (endpoint.host, endpoint.port)
        self._addresses = Addresses(host, port, resolve=resolve, clock=clock)

    def close(self) -> None:
        """Give up what goes on beside connections that are being made."""
        self._addresses.close()

    def renew(self, done: Callable[[Sequence[Address]], None]) -> None:
        """Look up again where connections are made to; `done` is told. Not for a unix socket."""
        self._addresses.renew(done)

    async def connect(self, timeout: float, on_lost: Callable[[Connection], None]) -> Connection:
        """Return a connection over which nothing has been sent yet, TLS done. Raises Unreachable; takes at most `timeout` seconds."""
        try:
            async with asyncio.timeout(timeout):
                return await self._connect(on_lost)
        except OSError as error:
            raise Unreachable(_reason(error)) from error

    async def _connect(self, on_lost: Callable[[Connection], None]) -> Connection:
        endpoint, loop = self._endpoint, asyncio.get_running_loop()
        sock = await self._open()

        def make() -> Connection:
            return Connection(sock, on_lost, self._buffer)

        try:
            if endpoint.path is not None:
                return (await loop.create_unix_connection(make, sock=sock))[1]
            if endpoint.proxy is not None:
                await _ask_for_tunnel(sock, endpoint)
            if endpoint.tls is not None:
                return await _secured(sock, endpoint.tls, endpoint.server_name, make)
            return (await loop.create_connection(make, sock=sock))[1]
        except BaseException:
            sock.close()
            raise

    async def _open(self) -> socket.socket:
        if self._endpoint.path is not None:
            return await _connected(socket.AF_UNIX, self._endpoint.path)
        try:
            return await _first_connected(await self._addresses.get())
        except OSError as error:
            if self._endpoint.proxy is None:
                raise
            raise Unreachable(f"the proxy: {_reason(error)}") from error


async def _secured(sock: socket.socket, context: ssl.SSLContext, server_name: str | None, make: Callable[[], Connection]) -> Connection:
    """Do the handshake on a connected socket, which is closed if that fails."""
    loop = asyncio.get_running_loop()
    raw, hello = await loop.create_connection(Early, sock=sock)
    if raw.is_closing():  # uvloop would say that an exception was in a callback
        raise ConnectionResetError
    try:
        wire, rest = Wire(raw), Early()
        loop.call_soon(wire.begin, hello.data)
        inner = await loop.start_tls(raw, rest, context, server_hostname=server_name)
    except BaseException:
        raw.abort()
        raise
    if inner is None or inner.is_closing():
        raw.abort()
        raise ConnectionResetError
    connection = make()
    inner.set_protocol(connection)
    connection.connection_made(inner)
    feed(connection, rest.data)
    return connection


def _reason(error: OSError) -> str:
    reason = next((text for kind, text in _REASONS if isinstance(error, kind)), None)
    if reason is None:
        return _SYSTEM_REASONS.get(error.errno or 0, "no connection")
    detail: str | None = None
    if isinstance(error, ssl.SSLCertVerificationError):
        detail = _CERTIFICATE_FAULTS.get(error.verify_code)
    elif isinstance(error, ssl.SSLError):
        detail = error.reason  # OpenSSL's name for it, or for the peer's alert
    return f"{reason}: {detail}" if detail else reason


async def _first_connected(addresses: Sequence[Address]) -> socket.socket:
    """Connect to the addresses in turn, each when the one before has failed or was silent for a quarter of a second (RFC 8305)."""
    if len(addresses) == 1:
        return await _connected(*addresses[0])
    waiting = deque(addresses)
    attempts: list[asyncio.Task[socket.socket]] = []
    try:
        while waiting or not all(attempt.done() for attempt in attempts):
            if waiting:
                attempts.append(asyncio.create_task(_connected(*waiting.popleft())))
            running = [attempt for attempt in attempts if not attempt.done()]
            await asyncio.wait(running, timeout=_STAGGER if waiting else None, return_when=asyncio.FIRST_COMPLETED)
            for attempt in attempts:
                if attempt.done() and attempt.exception() is None:
                    attempts.remove(attempt)
                    return attempt.result()
        return attempts[0].result()
    finally:
        for attempt in attempts:  # not waited for: who is cancelled meanwhile would lose the socket that is returned
            attempt.cancel()
            attempt.add_done_callback(_close)


def _close(attempt: asyncio.Task[socket.socket]) -> None:
    if not attempt.cancelled() and attempt.exception() is None:
        attempt.result().close()


async def _connected(family: socket.AddressFamily, address: str | tuple[str, int] | tuple[str, int, int, int]) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        if isinstance(address, str):
            await _connect_to_path(sock, address)
        else:
            for level, option, value in _OPTIONS:
                sock.setsockopt(level, option, value)
            await _connect_to_address(sock, address)
    except BaseException:
        sock.close()
        raise
    return sock


async def _connect_to_address(sock: socket.socket, address: tuple[str, int] | tuple[str, int, int, int]) -> None:
    """Connect. uvloop looks up what is an address already, and waits for its threads."""
    try:
        sock.connect(address)
    except BlockingIOError:
        loop = asyncio.get_running_loop()
        writable = loop.create_future()
        loop.add_writer(sock, _wake, writable)
        try:
            await writable
        finally:
            loop.remove_writer(sock)
        if error := sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            raise OSError(error, os.strerror(error)) from None


def _wake(waiting: asyncio.Future[None]) -> None:
    if not waiting.done():
        waiting.set_result(None)


async def _connect_to_path(sock: socket.socket, path: str) -> None:
    """Connect to a unix socket as soon as its queue has room. Nothing tells when that is, and the event loops take a full one for made."""
    while True:
        try:
            sock.connect(path)
        except BlockingIOError:
            await asyncio.sleep(_QUEUE_FULL)
        else:
            return


async def _ask_for_tunnel(sock: socket.socket, endpoint: Endpoint) -> None:
    """Ask the proxy for a tunnel (RFC 9110 section 9.3.6). A refusal is Unreachable: nothing has reached the peer."""
    loop, target = asyncio.get_running_loop(), endpoint.name.encode()
    await loop.sock_sendall(sock, request_head("CONNECT", target, [(b"Host", target)]))
    # Like the answer to a HEAD, a 2xx ends with its head.
    answer = AnswerParser()
    answer.start("HEAD")
    try:
        while not answer.complete:
            received = await loop.sock_recv(sock, _PROXY_READ)
            answer.feed(received) if received else answer.eof()
    except UpstreamError as error:
        raise Unreachable("answer of the proxy invalid") from error
    finally:
        answer.close()
    status = answer.heads[-1].status
    if not FIRST_FINAL <= status < _FIRST_REDIRECTION:
        raise Unreachable(f"refused by the proxy: status {status}")
    if answer.extra:
        raise Unreachable("answer of the proxy invalid")
