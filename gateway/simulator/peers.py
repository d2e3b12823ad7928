"""The three simulated peers, running: Alipay+ over TLS, the auth service and the MPP API over plain HTTP.

What they know (keys, names, paths) and where they listen is given; files are written and read by `gateway.simulator.simulator` and
`gateway.simulator.playing`.
"""

import asyncio
import socket
import ssl
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Self

from gateway.config.values import Address
from gateway.simulator.alipayplus import SUCCESS, Alipayplus
from gateway.simulator.answers import Signer, compose
from gateway.simulator.arrival import URI, Partner
from gateway.simulator.auth import AS_IS, Auth, Login
from gateway.simulator.behaviour import Behaviour
from gateway.simulator.delivery import Answer, steps
from gateway.simulator.fast import Fast, Prepared
from gateway.simulator.mpp import Mpp
from gateway.simulator.peer import KEEP, Peer
from gateway.simulator.wire import Request

BENCH_CUSTOMER = "customer-bench"


@dataclass(frozen=True, slots=True)
class Places:
    """Where the peers listen; Alipay+ may have several addresses."""

    alipayplus: tuple[Address, ...]
    auth: Address | None
    mpp: Address | None


@dataclass(frozen=True, slots=True)
class Setup:
    """All that the peers know. With `fast` they verify, script and keep nothing."""

    places: Places
    partner: Partner
    signer: Signer
    tls: ssl.SSLContext
    auth: Auth = field(default_factory=Auth)
    keep: int = KEEP
    fast: bool = False


class CannotListen(Exception):
    """An address can't be listened on; the text names it and says why."""

    def __init__(self, address: Address, reason: str) -> None:
        super().__init__(f"cannot listen on {address}: {reason}")
        self.address = address


class Peers:
    """The running peers; an async context manager."""

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._stack = AsyncExitStack()
        responder = Alipayplus(setup.partner, setup.signer, lambda: datetime.now(UTC))
        self.alipayplus: Peer[Behaviour] = Peer(responder, SUCCESS, keep=setup.keep)
        self.auth: Peer[Login] = Peer(setup.auth, AS_IS, keep=setup.keep)
        self.mpp = Mpp()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            await self._start(stack)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def _start(self, stack: AsyncExitStack) -> None:
        places = self._setup.places
        for peer in (self.alipayplus, self.auth, self.mpp):
            stack.push_async_callback(peer.close)
        for address in places.alipayplus:
            await self._open(self.alipayplus, address, self._setup.tls, stack)
        if places.auth:
            await self._open(self.auth, places.auth, None, stack)
        if places.mpp:
            await self.mpp.start(listen(places.mpp))

    async def _open(self, peer: Peer[Behaviour] | Peer[Login], address: Address, tls: ssl.SSLContext | None, stack: AsyncExitStack) -> None:
        sock = listen(address)
        if not self._setup.fast:
            await peer.start(sock, tls)
            return
        peer.port = sock.getsockname()[1]
        make = self._alipayplus_answer if tls else self._auth_answer
        prepared = Prepared(lambda: b"".join(step for step in steps(make()) if isinstance(step, bytes)))
        server = await asyncio.get_running_loop().create_server(lambda: Fast(prepared), sock=sock, ssl=tls, backlog=1024)
        stack.callback(server.close)

    def _alipayplus_answer(self) -> Answer:
        now = datetime.now(UTC).isoformat(timespec="seconds")
        return compose(SUCCESS, Request("POST", URI, ()), self._setup.signer, now)

    def _auth_answer(self) -> Answer:
        return self._setup.auth.granted(BENCH_CUSTOMER)


def listen(address: Address) -> socket.socket:
    """Bind a TCP socket. Raises CannotListen."""
    try:
        family, _, _, _, place = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except OSError as error:
        raise CannotListen(address, error.strerror or "no such host") from error
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(place)
        sock.listen(1024)
    except OSError as error:
        sock.close()
        raise CannotListen(address, (error.strerror or "not possible").lower()) from error
    return sock
