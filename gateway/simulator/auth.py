"""The simulated auth service of the wallet: a session check, and token introspection (RFC 7662) at another path.

A credential of the form `demo-token-NAME`, as Bearer of Authorization or as cookie `sid`, is the login of the customer
`customer-NAME`; any other is none. Who asks for an introspection has the client id `gateway` and the secret `demo-secret`, or those of the
configuration whose peers are played.
"""

import re
import time
from base64 import b64decode
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import parse_qs, unquote_plus

import msgspec

from gateway.simulator.delivery import Answer, Delivery, Headers, Line, Status
from gateway.simulator.peer import Outcome
from gateway.simulator.wire import Request

CHALLENGE: Final = ("WWW-Authenticate", 'Bearer realm="wallet"')
TIER_HEADER: Final = "X-Customer-Tier"
TIER: Final = "gold"
TOKEN_LIFETIME: Final = 3600
"""Seconds."""

_TOKEN: Final = re.compile(r"demo-token-([\x21-\x7e]{1,100})")
_SID: Final = re.compile(r"(?:^|;)[ \t]*sid=([^; \t]*)")
_JSON: Final = ("Content-Type", "application/json")


class Login(Delivery, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One answer of the auth service; without any field, what the credential is worth.

    With a `status` the answer is exactly that status, `headers` and `text`, whatever the credential. Otherwise `customer_id`
    replaces the id of the credential, `headers` are added, and `expires_in` seconds is when an introspected token ends.
    """

    status: Status | None = None
    headers: Headers = ()
    text: str = ""
    customer_id: Line | None = None
    expires_in: int = TOKEN_LIFETIME


AS_IS: Final = Login()


@dataclass(frozen=True, slots=True)
class Auth:
    """Where and how it answers; the instance is the `respond` of a `gateway.simulator.peer.Peer`.

    The customer id is given in `id_header` and at `id_pointer` (a JSON Pointer, RFC 6901) of the body, and at /sub of an
    introspection's too. Introspection asks for HTTP Basic with `client_id` and `client_secret`.
    """

    session_path: str = "/session"
    introspection_path: str = "/introspect"
    id_header: str = "X-Customer-Id"
    id_pointer: str = "/user/customerId"
    client_id: str = "gateway"
    client_secret: str = field(default="demo-secret", repr=False)
    now: Callable[[], float] = time.time

    def __call__(self, request: Request, take: Callable[[], Login]) -> Outcome:
        """Give the answer to one request, and what was wrong with it."""
        login = take()
        if login.status is not None:
            return Outcome(Answer(login.status, login.headers, login.text.encode(), login))
        if request.path == self.session_path:
            return self._session(request, login)
        if request.path == self.introspection_path:
            return self._introspection(request, login)
        return Outcome(Answer(404, login.headers, delivery=login), "another path")

    def _session(self, request: Request, login: Login) -> Outcome:
        customer_id = _customer(login, credential(request))
        if customer_id is None:
            return Outcome(Answer(401, (CHALLENGE, *login.headers), delivery=login), "no credential, or an unknown one")
        return Outcome(self.granted(customer_id, login))

    def granted(self, customer_id: str, login: Login = AS_IS) -> Answer:
        """Give the answer of a session check for a customer who is logged in."""
        headers = ((self.id_header, customer_id), (TIER_HEADER, TIER), _JSON, *login.headers)
        return Answer(200, headers, msgspec.json.encode(at_pointer(self.id_pointer, customer_id)), login)

    def _introspection(self, request: Request, login: Login) -> Outcome:
        if request.method != "POST":
            return Outcome(Answer(405, (("Allow", "POST"),), delivery=login), "another method than POST")
        if _basic(request) != (self.client_id, self.client_secret):
            return Outcome(Answer(401, (("WWW-Authenticate", "Basic"),), delivery=login), "wrong client credentials")
        tokens = parse_qs(request.body.decode("latin-1"), keep_blank_values=True).get("token", [])
        if len(tokens) != 1:
            return Outcome(Answer(400, (_JSON,), b'{"error":"invalid_request"}', login), "no token, or several")
        customer_id = _customer(login, tokens[0])
        if customer_id is None:
            return Outcome(Answer(200, (_JSON, *login.headers), b'{"active":false}', login), "an unknown token")
        document = msgspec.json.encode(self._active(customer_id, login))
        return Outcome(Answer(200, ((self.id_header, customer_id), _JSON, *login.headers), document, login))

    def _active(self, customer_id: str, login: Login) -> dict[str, Any]:
        expires = int(self.now()) + login.expires_in
        return at_pointer(self.id_pointer, customer_id) | {"active": True, "sub": customer_id, "exp": expires, "token_type": "Bearer"}


def credential(request: Request) -> str | None:
    """Give the Bearer token of a request, or else its cookie `sid`."""
    authorization = request.get("authorization") or ""
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() == "bearer":
        return token.strip(" ")
    cookies = _SID.findall("; ".join(request.all("cookie")))
    return cookies[0] if len(cookies) == 1 else None


def customer_of(token: str | None) -> str | None:
    """Give the customer id that a token stands for; None for an unknown one."""
    match = _TOKEN.fullmatch(token or "")
    return f"customer-{match[1]}" if match else None


def _customer(login: Login, token: str | None) -> str | None:
    return customer_of(token) if login.customer_id is None else login.customer_id


def at_pointer(pointer: str, value: str) -> dict[str, Any]:
    """Make a JSON object that has a value at a JSON Pointer (RFC 6901) of at least one part."""
    document: Any = value
    for part in reversed(pointer.split("/")[1:]):
        document = {part.replace("~1", "/").replace("~0", "~"): document}
    return document if isinstance(document, dict) else {}


def _basic(request: Request) -> tuple[str, str] | None:
    """Give the client id and secret of HTTP Basic, which are form-encoded (RFC 6749 section 2.3.1)."""
    scheme, _, text = (request.get("authorization") or "").partition(" ")
    try:
        client_id, _, secret = b64decode(text, validate=True).decode().partition(":")
    except ValueError:
        return None
    return (unquote_plus(client_id), unquote_plus(secret)) if scheme.lower() == "basic" else None
