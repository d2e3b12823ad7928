"""Token introspection (RFC 7662): the authorization server is asked about the Bearer token of the request, and its answer judged.

Pure: requests as bytes, answers as values. How the request gets there stands in `peer`.
"""

import base64
from typing import Final
from urllib.parse import quote_plus

from gateway.config.model import Introspection
from gateway.session.check import Verdict, denied, unavailable, valid
from gateway.session.credential import RawHeaders, bearer_token
from gateway.session.customer_id import Place, Unreadable, decode_body
from gateway.session.message import Message, request_line
from gateway.upstream import Answer

OK: Final = 200
LATEST: Final = 1 << 53  # integers beyond it may be too large for a float


class IntrospectionCheck:
    """Asks by introspection, authenticated by HTTP Basic with the form-encoded client id and secret (RFC 6749 section 2.3.1).

    `challenge` and that of a denied login are those of RFC 6750 section 3.
    """

    challenge: tuple[str, ...] = ("Bearer",)

    def __init__(self, config: Introspection, authority: str) -> None:
        self._place = Place.of(config.customer_id)
        pair = f"{quote_plus(config.client_id)}:{quote_plus(config.client_secret.reveal())}"
        self._opening = (
            f"{request_line('POST', config.url)}Host: {authority}\r\nAccept: application/json\r\n"
            f"Authorization: Basic {base64.b64encode(pair.encode('ascii')).decode('ascii')}\r\n"
            "Content-Type: application/x-www-form-urlencoded\r\n"
        )

    def credential(self, headers: RawHeaders) -> bytes | None:
        """Return the Bearer token, or None where there is none, or no single one. Raises GatewayError."""
        return bearer_token(headers)

    def request(self, credential: bytes, *, request_id: str, traceparent: str) -> Message:
        """Return the request that asks about this token (RFC 7662 section 2.1)."""
        body = b"token=%b&token_type_hint=access_token" % quote_plus(credential).encode("ascii")
        own = f"Content-Length: {len(body)}\r\nX-Request-Id: {request_id}\r\ntraceparent: {traceparent}\r\n\r\n"
        return Message((self._opening + own).encode("ascii"), body)

    def judge(self, answer: Answer) -> Verdict:
        """Return what the answer means: 200 with `active` true and a customer id valid, with `active` false denied, all else unavailable.

        401 and 403 are unavailable too: they speak of our own client credentials.
        """
        if answer.status != OK:
            return unavailable(f"the introspection endpoint answered {answer.status}")
        try:
            return self._judge_document(answer, decode_body(answer))
        except Unreadable as error:
            return unavailable(f"the introspection endpoint gave {error.reason}")

    def _judge_document(self, answer: Answer, document: object) -> Verdict:
        active = document.get("active") if isinstance(document, dict) else None
        if active is False:
            return denied('Bearer error="invalid_token"')
        if active is not True or not isinstance(document, dict):
            raise Unreadable('an answer without "active"')
        return valid(self._place.read(answer, document), expires_at=_expiry(document.get("exp")))


def _expiry(exp: object) -> float | None:
    """Return the wall-clock time until which the verdict may be kept; one that cannot be read allows none."""
    if exp is None:
        return None
    return float(min(max(exp, 0), LATEST)) if isinstance(exp, int | float) and not isinstance(exp, bool) else 0.0
