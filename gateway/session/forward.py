"""The forward call-out: the MPP's own auth service is asked with the client's credentials, and its answer judged.

Pure: requests as bytes, answers as values. How the request gets there stands in `peer`.
"""

from collections.abc import Iterator
from typing import Final

from gateway.config.model import Forward
from gateway.session.check import FORBIDDEN, Verdict, denied, unavailable, valid
from gateway.session.credential import HeaderSelector, RawHeaders
from gateway.session.customer_id import Place, Unreadable, decode_body
from gateway.session.message import Message, request_line
from gateway.upstream import Answer

OK: Final = range(200, 300)
UNAUTHORIZED: Final = 401
FORBIDDEN_STATUS: Final = 403


class ForwardCheck:
    """Asks by forward call-out (architecture, Sessions).

    The request is built from an allow-list: the credential, and the gateway's own Host, Accept, X-Request-Id and traceparent.
    """

    challenge: tuple[str, ...] = ()

    def __init__(self, config: Forward, authority: str) -> None:
        self._selector = HeaderSelector(config.request_headers, config.cookies)
        self._place = Place.of(config.customer_id)
        self._forwarded = {name.lower(): name for name in config.forward_headers}
        accept = "application/json" if self._place.in_body else "*/*"
        length = "Content-Length: 0\r\n" if config.method == "POST" else ""
        self._opening = f"{request_line(config.method, config.url)}Host: {authority}\r\nAccept: {accept}\r\n{length}".encode("ascii")

    def credential(self, headers: RawHeaders) -> bytes | None:
        """Return the header lines to be sent, or None where the request has none of them. Raises GatewayError."""
        return self._selector.select(headers)

    def request(self, credential: bytes, *, request_id: str, traceparent: str) -> Message:
        """Return the request that asks about this credential."""
        own = f"X-Request-Id: {request_id}\r\ntraceparent: {traceparent}\r\n\r\n".encode("ascii")
        return Message(self._opening + credential + own)

    def judge(self, answer: Answer) -> Verdict:
        """Return what the answer means: 2xx with a customer id valid, 401 denied, 403 forbidden, all else unavailable."""
        status = answer.status
        if status in OK:
            return self._identify(answer)
        if status == UNAUTHORIZED:
            return denied(*answer.all("www-authenticate"))
        if status == FORBIDDEN_STATUS:
            return FORBIDDEN
        return unavailable(f"the auth service answered {status}")

    def _identify(self, answer: Answer) -> Verdict:
        try:
            customer_id = self._place.read(answer, decode_body(answer) if self._place.in_body else None)
        except Unreadable as error:
            return unavailable(f"the auth service gave {error.reason}")
        return valid(customer_id, tuple(self._further(answer)) if self._forwarded else ())

    def _further(self, answer: Answer) -> Iterator[tuple[str, str]]:
        """Yield what else of the answer is to be forwarded, in its order."""
        for name, value in answer.head.fields:
            configured = self._forwarded.get(name.decode("latin-1").lower())
            if configured is not None:
                yield configured, value.decode("latin-1")
