"""One request on its way to an upstream, and the answer on its way back, both streamed.

At most one piece of a body is held in each direction while the other side is slow. Whatever ends early ends the rest: a client that
leaves and a request body that fails abort the exchange with the upstream, an upstream that breaks off cuts the answer to the client.
"""

import asyncio
from time import monotonic
from typing import Any, Final

from gateway.edge.body import BodyTimeout, ClientLeft
from gateway.edge.exchange import Exchange
from gateway.edge.front import Arrival, expects_continue, loggable_path
from gateway.edge.request import Request
from gateway.edge.routing import upstream_target
from gateway.edge.shedding import Share
from gateway.errors import GatewayError
from gateway.passthrough.failure import failure_of
from gateway.passthrough.framing import Framing, request_bytes, request_framing_block
from gateway.passthrough.handshake import WEBSOCKET
from gateway.passthrough.headers import host_value
from gateway.passthrough.reply import Streamed
from gateway.passthrough.tunnel import Tunnel
from gateway.passthrough.upload import Body, Upload
from gateway.passthrough.ways import Way
from gateway.upstream import AnswerInvalid, Connection, ConnectionLost, Head, Lease, Outcome, Unreachable, UpstreamError
from gateway.upstream.message import SWITCHING_PROTOCOLS
from gateway.upstream.retry import may_repeat

OWN_CONTINUE: Final = 1.0  # seconds; as long as clients wait themselves (RFC 9110, 10.1.1)
_CONTINUE: Final = 100
_FIRST_ERROR: Final = 400
_UPGRADE_REQUIRED: Final = 426


class Forward:
    """One request. `run` once. `share` is told when the head of the answer has come, or when it has failed before."""

    def __init__(
        self,
        request: Request,
        exchange: Exchange,
        arrival: Arrival,
        way: Way,
        *,
        body: Body,
        identity: bytes,
        is_upgrade: bool,
        share: Share,
    ) -> None:
        self._way = way
        self._request = request
        self._exchange = exchange
        self._arrival = arrival
        self._body = body
        self._identity = identity
        self._is_upgrade = is_upgrade
        self._share = share
        self._client = request.connection
        self._reply = Streamed(request)
        self._loop = asyncio.get_running_loop()
        self._upload: asyncio.Task[None] | None = None
        self._waits_for_continue = body.whole is None and expects_continue(request)
        self._upstream: Connection | None = None
        self._acquiring: asyncio.Task[Any] | None = None  # it waits for a connection
        self._begun = 0.0
        self._failure: BaseException | None = None
        self._unknown: GatewayError | None = None  # the failure of an attempt that may have been executed
        self._unknown_at: str | None = None  # its endpoint
        self._outcome: Outcome = "ok"
        self._heard = False  # of an answer; the request is not repeated then
        self._is_paused = False
        self._sends_rest = False  # of the body, though the answer has come whole

    async def run(self) -> Streamed:
        """Send the request and pass the answer on; it has been written when this returns.

        Raises GatewayError and ClientLeft as long as nothing of an answer was written.
        """
        self._begun = monotonic()
        self._client.on_lost = self._client_left
        try:
            lease = await self._acquire(None)
            while not await self._attempt(lease):
                self._exchange.resends += 1
                lease = await self._acquire(lease)
            await self._finish()
        except BaseException:  # who is cancelled sends nothing any more: the record has what was written
            self._exchange.status, self._exchange.bytes_out = self._reply.status, self._reply.size
            raise
        finally:
            self._client.on_lost = None
            self._note_answered()
            self._failure = self._unknown = None  # they refer to this by their tracebacks
        return self._reply

    async def _attempt(self, lease: Lease) -> bool:
        """Do all of it; False when it is to be done again."""
        self._outcome = "ok"
        connection = lease.connection
        try:
            await self._exchange_with(lease, connection)
        except UpstreamError as error:
            if self._failure is None:
                self._judge(error, connection)
                if self._may_repeat(error, connection) and self._way.upstream.may_repeat(lease):
                    self._failure = None
                    return False
            self._break_off(error)
        except BaseException as error:  # noqa: BLE001  raised again, but for ClientLeft
            self._failure, self._outcome = error, "abandoned"
            self._break_off(error)
        finally:
            self._upstream = None
            self._way.upstream.release(lease, self._outcome)
        return True

    async def _acquire(self, after: Lease | None) -> Lease:
        """Return a connection. Raises GatewayError, and ClientLeft: who has left keeps no place from others."""
        task = self._acquiring = asyncio.current_task()
        try:
            lease = await self._way.upstream.acquire(after=after)
        except asyncio.CancelledError:
            if isinstance(self._failure, ClientLeft) and task is not None and not task.uncancel():
                raise ClientLeft from None
            raise
        except Unreachable as error:
            self._exchange.endpoint = error.endpoint or self._exchange.endpoint
            raise self._verdict(failure_of(error)[0]) from error
        finally:
            self._acquiring = None
        self._exchange.endpoint = lease.endpoint.name
        self._upstream = lease.connection
        return lease

    async def _exchange_with(self, lease: Lease, connection: Connection) -> None:
        if self._client.transport is None:
            raise ClientLeft
        connection.start(self._request.method, upgrade=self._is_upgrade)
        head, body = self._head(lease), self._body
        if body.whole is None:
            await self._send_and_answer(connection, head)
            return
        connection.send(head if body.framing is Framing.NONE else b"".join((head, *body.framing.pack(body.whole, is_last=True))))
        connection.finish()
        connection.deadline.set(self._way.timeouts.response, self._expired)
        await self._answer(connection)

    def _head(self, lease: Lease) -> bytes:
        request, arrival, way = self._request, self._arrival, self._way
        route = arrival.match.route
        assert route is not None
        caller = arrival.caller
        block = way.request_headers.build(
            request.raw_headers,
            host=host_value(way.host_header, request.headers.get("Host", "").encode("ascii"), lease.endpoint.authority.encode()),
            context=b"".join((caller.block, b"\r\nX-Request-Id: ", self._exchange.request_id.encode(), arrival.trace.block)),
            identity=self._identity,
            is_trusted=caller.is_trusted,
            upgrade=WEBSOCKET if self._is_upgrade else None,
            keeps_expect=self._waits_for_continue,
        )
        target = upstream_target(route, arrival.target)
        if self._exchange.is_sampled:
            self._exchange.peer_url = lease.endpoint.url(loggable_path(target.partition("?")[0]))
        return request_bytes(request.method, target, block, request_framing_block(self._body.framing, self._body.length))

    # The request body while it comes.

    async def _send_and_answer(self, connection: Connection, head: bytes) -> None:
        connection.send(head)
        own_continue = self._loop.call_later(OWN_CONTINUE, self._continue) if self._waits_for_continue else None
        self._upload = asyncio.create_task(self._send_body(connection))
        try:
            await self._answer(connection)
            if self._sends_rest:
                await asyncio.wait((self._upload,))
                if self._failure is not None:
                    raise ConnectionLost("given up")
        finally:
            if own_continue is not None:
                own_continue.cancel()
            self._upload.cancel()
            await asyncio.wait((self._upload,))
            self._upload = None

    async def _send_body(self, connection: Connection) -> None:
        timeouts = self._way.timeouts
        upload = Upload(
            self._request,
            self._body.framing,
            max_body=self._way.max_body,
            idle_timeout=timeouts.body_idle,
            write_timeout=timeouts.idle,
        )
        self._pause()
        try:
            await upload.run(connection)
        except ConnectionLost:
            return  # whoever reads the answer learns why
        except TimeoutError:
            self._give_up(GatewayError("UPSTREAM_TIMEOUT", "upstream: takes no request body"), "timeout")
        except BodyTimeout as error:
            if not (self._reply.has_begun and self._is_unasked):
                self._give_up(error, "abandoned")
        except Exception as error:  # noqa: BLE001  raised by whoever reads the answer
            self._give_up(error, "abandoned")
        else:
            if not self._reply.has_begun:
                connection.deadline.set(timeouts.response, self._expired)
        finally:
            self._resume()

    def _pause(self) -> None:
        """Take that the client is waited for, until its body has come or the answer begins."""
        self._is_paused = True
        self._share.pause()

    def _resume(self) -> None:
        if self._is_paused:
            self._is_paused = False
            self._share.resume()

    @property
    def _is_uploading(self) -> bool:
        return self._upload is not None and not self._upload.done()

    @property
    def _is_unasked(self) -> bool:
        """Whether the client waits for a 100: its body need not follow where the answer comes instead (RFC 9110, 10.1.1)."""
        return not self._client.is_asked and expects_continue(self._request)

    def _continue(self) -> None:
        """Ask for the body, once, unless the answer has been given."""
        if self._waits_for_continue:
            self._waits_for_continue = False
            self._client.ask_for_body()

    # The answer.

    async def _answer(self, connection: Connection) -> None:
        head = await connection.read_head()
        while head.interim:
            self._pass_interim(head)
            head = await connection.read_head()
        connection.deadline.clear()
        self._heard = True
        self._waits_for_continue = False
        self._note_answered()
        self._exchange.peer_status = head.status
        if head.status == SWITCHING_PROTOCOLS:
            await self._tunnel(connection, head)
            return
        if self._upload is not None and head.status >= _FIRST_ERROR:
            self._upload.cancel()  # it is not going to be read (RFC 9112, 9.5)
        self._begin(connection, head)
        if not connection.complete:
            await self._relay(connection)

    def _pass_interim(self, head: Head) -> None:
        if head.status == _CONTINUE:
            self._continue()
        else:
            self._heard = True
            self._reply.interim(head, self._way.response_rules)

    def _begin(self, connection: Connection, head: Head) -> None:
        """Pass on the head, and what has come of the body.

        An upstream that keeps its connection reads what is still to come of the request (RFC 9112, 9.3), and may count on it.
        """
        is_uploading = self._is_uploading
        self._sends_rest = is_uploading and head.status < _FIRST_ERROR and connection.keeps_alive and not self._is_unasked
        is_last = is_uploading and (not self._sends_rest or self._request.chunked)  # behind such chunks nothing more is read
        keeps_alive = not (is_last or self._client.is_last or self._arrival.is_draining()) and self._request.keep_alive
        self._reply.begin(
            head,
            self._way.response_rules,
            self._exchange.request_id,
            connection.take_body(),
            is_whole=connection.complete,
            keeps_alive=keeps_alive,
            upgrade=_upgrade(head) if head.status == _UPGRADE_REQUIRED else None,
        )

    async def _relay(self, connection: Connection) -> None:
        """Pass on the rest of the body as it comes."""
        reply, idle = self._reply, self._way.timeouts.idle
        while not connection.complete:
            if reply.is_held:
                await self._wait_for_client(connection)
            connection.deadline.set(idle, self._expired)
            body = await connection.read_body()
            connection.deadline.clear()
            reply.write(body, is_last=connection.complete)

    async def _wait_for_client(self, connection: Connection) -> None:
        connection.pause()
        try:
            await self._reply.drain()
        finally:
            connection.resume()

    async def _tunnel(self, connection: Connection, head: Head) -> None:
        if _upgrade(head).lower() != WEBSOCKET:
            raise AnswerInvalid("101 for another protocol")
        reply, exchange = self._reply, self._exchange
        reply.begin(head, self._way.response_rules, exchange.request_id, b"", is_whole=True, keeps_alive=False, upgrade=WEBSOCKET)
        await reply.drain()
        self._client.on_lost = None
        tunnel = Tunnel(self._client, connection, idle_timeout=self._way.timeouts.idle)
        self._way.tunnels.add(tunnel)
        try:
            exchange.reason = await tunnel.run()
        except ConnectionError:
            raise ClientLeft from None
        finally:
            self._way.tunnels.remove(tunnel)
            exchange.bytes_in, reply.size = tunnel.bytes_in, tunnel.bytes_out

    async def _finish(self) -> None:
        """Wait until the client has taken the rest."""
        if self._reply.is_held and self._failure is None:
            try:
                await self._reply.drain()
            except ClientLeft:
                self._reply.sent = False

    # What ends it early.

    def _client_left(self) -> None:
        self._give_up(ClientLeft(), "abandoned")
        if self._acquiring is not None:
            self._acquiring.cancel()

    def _expired(self) -> None:
        reason = "upstream: body stopped" if self._reply.has_begun else "upstream: no answer in time"
        self._give_up(GatewayError("UPSTREAM_TIMEOUT", reason), "timeout")

    def _give_up(self, failure: Exception, outcome: Outcome) -> None:
        """End the exchange with the upstream; whoever reads from it raises."""
        if self._failure is None:
            self._failure, self._outcome = failure, outcome
        if self._upstream is not None:
            self._upstream.abort()

    def _break_off(self, error: BaseException) -> None:
        """Raise why it failed, or cut the answer that has begun."""
        failure, reply = self._failure, self._reply
        assert failure is not None
        if reply.has_begun:
            reply.cut()
        if reply.has_begun and isinstance(failure, ClientLeft):
            reply.sent = False
        elif reply.has_begun and isinstance(failure, GatewayError):
            self._exchange.reason, self._exchange.failure = failure.reason, failure.failure.code
        else:
            try:
                raise failure  # whose context is `error`
            finally:
                del failure, error  # what is raised refers to them by its traceback

    def _note_answered(self) -> None:
        """Take, once, that the head of the answer has come, or that none will."""
        if "upstream" not in self._exchange.phases:
            self._exchange.phases["upstream"] = self._begun, monotonic()
            self._resume()
            self._share.end(0)

    def _judge(self, error: UpstreamError, connection: Connection) -> None:
        """Keep what an attempt failed by."""
        failure, self._outcome = failure_of(error)
        if connection.sent:
            self._unknown, self._unknown_at = failure, self._exchange.endpoint
        self._failure = self._verdict(failure)

    def _verdict(self, failure: GatewayError) -> GatewayError:
        """Return what the request has failed by: that another attempt was not even sent does not undo one that was."""
        if self._unknown is None:
            return failure
        self._exchange.endpoint = self._unknown_at
        return self._unknown

    def _may_repeat(self, error: UpstreamError, connection: Connection) -> bool:
        """Whether the request may be sent again: surely nothing was sent, or it changes nothing to send it twice."""
        if not isinstance(error, (Unreachable, ConnectionLost)):
            return False
        has_body = self._body.framing is not Framing.NONE
        return may_repeat(self._request.method, has_body=has_body, sent=connection.sent, response_begun=self._heard)


def _upgrade(head: Head) -> bytes:
    return b", ".join(head.all(b"upgrade"))
