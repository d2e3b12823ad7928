"""One SDK request on its way through: refused in the order of the contract, or sent to Alipay+ and answered.

The order of refusals: path, method, media type and coding, declared length, overload, credentials present, session, body, JSON.
"""

import asyncio
from collections.abc import Callable, Iterable
from time import monotonic

from gateway.alipayplus.client import Call, Client
from gateway.alipayplus.messages import Response
from gateway.edge import target
from gateway.edge.answer import Answer, result_body
from gateway.edge.body import BodyLimits, BodyTooLarge, ClientLeft, read_body
from gateway.edge.exchange import Exchange, SdkRecord
from gateway.edge.front import send_continue
from gateway.edge.request import Request
from gateway.edge.shedding import Share
from gateway.errors import FAILURES, GatewayError
from gateway.sdkproxy.contract import ENDPOINT, SCENES, decode_request, http_status, is_json_in_utf8
from gateway.session import Identity, Sessions, identity_or_refusal
from gateway.telemetry.metrics import Metrics


class SdkProxy:
    """Handles every request below the SDK's path prefix. `target` is that of the one resource there is.

    `share` refuses calls, with bodies of such a size, that may not begin now, and is told of those that wait for the rest of theirs.
    """

    def __init__(
        self,
        prefix: str,
        limits: BodyLimits,
        sessions: Sessions,
        client: Client,
        metrics: Metrics,
        *,
        scenes: Iterable[str],
        customer_hash: Callable[[str], str | None],
        on_clock_offset: Callable[[float], None],
        share: Share,
    ) -> None:
        self.target = prefix + ENDPOINT
        self._limits = limits
        self._sessions = sessions
        self._client = client
        self._metrics = metrics
        self._scenes = SCENES | frozenset(scenes)
        self._customer_hash = customer_hash
        self._on_clock_offset = on_clock_offset
        self._share = share

    async def handle(self, request: Request, exchange: Exchange) -> Answer:
        """Return the answer to the app. Raises GatewayError for every refusal and every failure."""
        sdk = exchange.sdk = SdkRecord()
        try:
            size = self.check_head(request)
            self._share.begin(size)
            try:
                return await self._execute(request, exchange, sdk)
            finally:
                self._share.end(size)
        except GatewayError as error:
            sdk.note_failure(error.failure)
            raise
        except ClientLeft:
            sdk.note_failure(FAILURES["REQUEST_MALFORMED"])  # an incomplete message (RFC 9112, 8), mostly; nothing was sent
            raise
        except asyncio.CancelledError:
            sdk.note_failure(FAILURES["ALIPAYPLUS_TIMEOUT" if sdk.sent == "unknown" else "OVERLOADED"])
            raise
        except Exception:
            sdk.note_failure(FAILURES["INTERNAL_ERROR"])
            raise

    def takes(self, content_type: str, size: int) -> bool:
        """Tell whether a call with such a body may be one; `content_type` is in lower case."""
        return is_json_in_utf8(content_type) and size <= self._limits.size

    def check_head(self, request: Request) -> int:
        """Return how large the body may be. Raises GatewayError for what can be told from the request's head alone."""
        if request.raw_path != self.target and _path(request) != self.target:
            raise GatewayError("NOT_FOUND", "no such SDK path")
        if request.method != "POST":
            raise _wrong_method()
        headers = request.headers
        types = headers.getall("Content-Type", ())
        if len(types) != 1 or not is_json_in_utf8(types[0]):
            raise GatewayError("UNSUPPORTED_MEDIA_TYPE", "media type")
        if "Content-Encoding" in headers and not all(map(_is_identity, headers.getall("Content-Encoding"))):
            raise GatewayError("UNSUPPORTED_MEDIA_TYPE", "content coding")
        size = request.content_length
        if size is None:
            return self._limits.size
        if size > self._limits.size:
            raise BodyTooLarge
        return size

    async def _execute(self, request: Request, exchange: Exchange, sdk: SdkRecord) -> Answer:
        identity = await self._check_session(request, exchange)
        sdk.customer = self._customer_hash(identity.customer_id)
        send_continue(request)
        message = decode_request(await self._read(request))
        sdk.scene_label = self._scene_label(message.scene)
        call = Call(exchange.phases)
        calling = self._client.call(message.header, message.data, identity.customer_id, message.scene, call)
        del message  # the whole body with it
        try:
            try:
                response = await calling
            finally:
                self._note_call(exchange, sdk, call)
            return self._answer(response, exchange, sdk)
        finally:
            if call.room:
                self._share.shrink(call.room)
                exchange.room = call.room

    async def _read(self, request: Request) -> bytes:
        if request.content.is_eof():
            return await read_body(request, self._limits)
        self._share.pause()
        try:
            return await read_body(request, self._limits)
        finally:
            self._share.resume()

    def unknown_method(self, path: str, exchange: Exchange) -> GatewayError:
        """Return the refusal of a method that the parser does not know, for the SDK path's own resource or another."""
        exchange.sdk = sdk = SdkRecord()
        error = _wrong_method() if path.partition("?")[0] == self.target else GatewayError("NOT_FOUND", "no such SDK path")
        sdk.note_failure(error.failure)
        return error

    async def _check_session(self, request: Request, exchange: Exchange) -> Identity:
        begun = monotonic()
        headers, traceparent = request.raw_headers, exchange.session_traceparent
        check = await self._sessions.check(headers, "sdk", request_id=exchange.request_id, traceparent=traceparent)
        exchange.note_session(begun, monotonic(), check.outcome, check.source, check.status)
        self._metrics.session_checks(check.outcome, check.source).inc()
        return identity_or_refusal(check)

    def _answer(self, response: Response, exchange: Exchange, sdk: SdkRecord) -> Answer:
        result = response.result
        sdk.result_status, sdk.result_code, sdk.source = result.status, result.code, "alipayplus"
        sdk.code_label = result.code if result.known else "other"  # a label must come from a closed set
        body = result_body(
            status=result.status,
            code=result.code,
            message=result.message,
            source="alipayplus",
            request_id=exchange.request_id,
            header=response.header,
            data=response.data,
        )
        return Answer(http_status(result), body, exchange.request_id)

    def _note_call(self, exchange: Exchange, sdk: SdkRecord, call: Call) -> None:
        exchange.endpoint, exchange.peer_status = call.endpoint, call.status
        sdk.sent, sdk.request_time, sdk.key_version = call.sent, call.request_time, call.key_version
        if call.sent == "answered":
            sdk.response_time = call.response_time
            if call.clock_offset is not None:
                self._on_clock_offset(call.clock_offset)

    def _scene_label(self, scene: str | None) -> str:
        if scene is None:
            return "none"
        return scene if scene in self._scenes else "other"


def _path(request: Request) -> str:
    """Return the path of a target that may be in absolute-form (RFC 9112, 3.2.2)."""
    return target.parse(request.raw_path, method=request.method, host=request.headers.get("Host", "")).path


def _is_identity(coding: str) -> bool:
    return coding.strip().lower() in ("", "identity")


def _wrong_method() -> GatewayError:
    return GatewayError("METHOD_NOT_ALLOWED", "method", headers=(("Allow", "POST"),))
