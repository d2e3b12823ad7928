"""What the outcome of a check means for a request that needs a login."""

from typing import Final

from gateway.errors import GatewayError
from gateway.session.check import Check, Identity

_CODES: Final = {
    "missing": "SESSION_REQUIRED",
    "denied": "SESSION_REQUIRED",
    "forbidden": "SESSION_FORBIDDEN",
    "unavailable": "SESSION_UNAVAILABLE",
}


def identity_or_refusal(check: Check) -> Identity:
    """Return whose login it is, or raise the failure that this check means."""
    if check.identity is not None:
        return check.identity
    headers = tuple(("WWW-Authenticate", value) for value in check.www_authenticate)
    raise GatewayError(_CODES[check.outcome], check.reason, headers=headers)
