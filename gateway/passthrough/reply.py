"""An upstream's answer on its way to the client: written straight to the client's transport, each piece at once.

Nothing is added to it but framing, what the route's rules say, and X-Request-Id where the upstream gives none.
"""

from gateway.edge.body import ClientLeft
from gateway.edge.request import Request
from gateway.edge.stall import reset
from gateway.passthrough.framing import Framing, answer_bytes, answer_framing, answer_framing_block
from gateway.passthrough.headers import HeaderRules, for_client
from gateway.upstream.message import SWITCHING_PROTOCOLS, Head


class Streamed:
    """One answer: interim heads, then `begin` and `write`. Afterwards it is what `gateway.edge.answer.Reply` asks for.

    `keeps_alive` says, when the answer begins, whether the connection may go on; `has_begun` that a final head was written, so that no
    other answer can be given any more.
    """

    __slots__ = ("_connection", "_framing", "_request", "close", "has_begun", "keep_alive", "sent", "size", "status")

    def __init__(self, request: Request) -> None:
        self._connection = request.connection
        self._request = request
        self._framing = Framing.NONE
        self.status = 0
        self.close = False
        self.keep_alive = False
        self.sent = True
        self.size = 0
        self.has_begun = False

    def interim(self, head: Head, rules: HeaderRules) -> None:
        """Pass a 1xx on, to clients that know of them (RFC 9110, 15.2)."""
        if self._request.version >= (1, 1):
            self._send(answer_bytes(head.status, head.reason, for_client(head, rules)))

    def begin(
        self,
        head: Head,
        rules: HeaderRules,
        request_id: str,
        body: bytes,
        *,
        is_whole: bool,
        keeps_alive: bool,
        upgrade: bytes | None = None,
    ) -> None:
        """Write the head, and what has come of the body, which may be all of it. Raises ClientLeft."""
        is_http_1_0 = self._request.version < (1, 1)
        framing = self._framing = answer_framing(head, is_http_1_0=is_http_1_0)
        self.close = not keeps_alive or framing is Framing.CLOSE
        goes_on = b"" if head.status == SWITCHING_PROTOCOLS else _connection_block(keeps_alive=not self.close, is_http_1_0=is_http_1_0)
        block = for_client(head, rules, request_id=request_id.encode(), upgrade=upgrade)
        written = answer_bytes(head.status, head.reason, block, answer_framing_block(head, framing), goes_on)
        self.status = head.status
        self.has_begun = True
        self.size = len(body)
        self._send(written if framing is Framing.NONE else b"".join((written, *framing.pack(body, is_last=is_whole))))

    def write(self, body: bytes, *, is_last: bool) -> None:
        """Write a piece of the body."""
        self.size += len(body)
        parts = self._framing.pack(body, is_last=is_last)
        transport = self._connection.transport
        if transport is None or transport.is_closing():
            raise ClientLeft
        if len(parts) == 1:
            transport.write(parts[0])
        elif parts:
            transport.writelines(parts)

    @property
    def is_held(self) -> bool:
        """Whether the client has not taken all of what was written."""
        return self._connection.writing_paused

    async def drain(self) -> None:
        """Wait until the client has taken all. Raises ClientLeft."""
        try:
            await self._connection.drain()
        except ConnectionError:
            raise ClientLeft from None
        if self._connection.transport is None:
            raise ClientLeft

    def cut(self) -> None:
        """Break the answer off, so that the client cannot take it for a whole one."""
        transport = self._connection.transport
        self.close = True
        if transport is None:
            return
        if self._framing is Framing.CLOSE:  # a plain end of the connection would be a clean end
            reset(transport)
        else:
            transport.abort()

    def _send(self, data: bytes) -> None:
        transport = self._connection.transport
        if transport is None or transport.is_closing():
            raise ClientLeft
        transport.write(data)

    def send(self, request: Request) -> None:
        """Take whether the connection goes on; all has been written."""
        self.keep_alive = request.keep_alive and not self.close


def _connection_block(*, keeps_alive: bool, is_http_1_0: bool) -> bytes:
    if not keeps_alive:
        return b"\r\nConnection: close"
    return b"\r\nConnection: keep-alive" if is_http_1_0 else b""
