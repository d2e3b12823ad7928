"""Which answers are believed: a verification core without I/O (protocol section 3, architecture decision 2).

It takes an answer of HTTP status 200 as it came and gives what may be used of it, or refuses it. Fetching the answer is the
client's part, and so is every other HTTP status.
"""

from collections.abc import Sequence

from gateway.alipayplus.errors import SignatureInvalid
from gateway.alipayplus.keys import KeyRing
from gateway.alipayplus.messages import Response, decode_response
from gateway.alipayplus.results import UNSIGNED_FAILURES
from gateway.alipayplus.signature import SignatureError


def verify_answer(
    keyring: KeyRing,
    uri: str,
    body: bytes,
    *,
    signature: Sequence[str],
    response_time: Sequence[str],
    client_id: Sequence[str],
    allow_unsigned_failures: bool,
) -> Response:
    """Verify an answer to a call of `uri` over its exact bytes and read it.

    `signature`, `response_time` and `client_id` are all values of the headers of these names, in ISO-8859-1. An answer that has a
    signature or a response time is signed and is verified before its JSON is looked at. Raises SignatureInvalid and ResponseInvalid.
    """
    if client_id and (len(client_id) > 1 or client_id[0] != keyring.client_id):
        raise SignatureInvalid("the answer is for another client id")
    if not signature and not response_time:
        return _unsigned(decode_response(body), allow_unsigned_failures=allow_unsigned_failures)
    if len(signature) != 1 or len(response_time) != 1:
        raise SignatureInvalid("the answer has not exactly one signature and one response time")
    try:
        keyring.verify(uri, response_time[0], body, signature[0])
    except SignatureError as error:
        raise SignatureInvalid(str(error)) from None
    return decode_response(body)


def _unsigned(response: Response, *, allow_unsigned_failures: bool) -> Response:
    """Take from an unsigned answer what it may say: an early failure or an unknown outcome, never the two strings."""
    result = response.result
    if result.status == "S":
        raise SignatureInvalid("a success that is not signed")
    if result.status == "F" and not (allow_unsigned_failures and result.code in UNSIGNED_FAILURES):
        raise SignatureInvalid("a failure that is not signed and proves nothing")
    return Response(result)
