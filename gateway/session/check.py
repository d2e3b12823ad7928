"""What a check comes to: the verdict of the auth service, the identity in it, the check as its caller gets it, and what that means.

Pure. None of the values shows a customer id or a credential when it is printed.
"""

from typing import Final, Literal

from msgspec import Struct

from gateway.errors import GatewayError

Outcome = Literal["valid", "denied", "forbidden", "unavailable", "missing"]
Source = Literal["call", "cache", "shared", "none"]
Work = Literal["sdk", "api"]
"""What a check is for. Where many wait for the auth service, each kind of work has half of what that can do, if it needs it."""


class Identity(Struct, frozen=True, gc=False):
    """Who the caller is: the customer id, and the answer's `forward_headers` (names as configured, values decoded as latin-1)."""

    customer_id: str
    headers: tuple[tuple[str, str], ...] = ()

    def __repr__(self) -> str:
        return "Identity(***)"


class Check(Struct, frozen=True, gc=False):
    """The outcome of one check and where it comes from.

    `identity` is there if and only if the outcome is valid. `www_authenticate` are the values for a 401. `reason` is a short fixed
    text for the log: never a peer's or a client's words. `status` is that of the auth service's answer, if this check was answered.
    """

    outcome: Outcome
    source: Source
    identity: Identity | None = None
    www_authenticate: tuple[str, ...] = ()
    reason: str = ""
    status: int | None = None


class Verdict(Struct, frozen=True, gc=False):
    """What the auth service says of one credential; `expires_at`, if it says so: the wall-clock time after which it is not to be kept."""

    outcome: Outcome
    identity: Identity | None = None
    www_authenticate: tuple[str, ...] = ()
    reason: str = ""
    expires_at: float | None = None

    def check(self, source: Source, status: int | None = None) -> Check:
        """Return this verdict as one caller's check."""
        return Check(self.outcome, source, self.identity, self.www_authenticate, self.reason, status)


FORBIDDEN: Final = Verdict("forbidden", reason="the auth service says that this login may not do this")


def valid(customer_id: str, headers: tuple[tuple[str, str], ...] = (), *, expires_at: float | None = None) -> Verdict:
    """Return the verdict on a valid login."""
    return Verdict("valid", Identity(customer_id, headers), expires_at=expires_at)


def denied(*www_authenticate: str) -> Verdict:
    """Return the verdict on an invalid login."""
    return Verdict("denied", www_authenticate=www_authenticate, reason="the auth service does not know this login")


def unavailable(reason: str) -> Verdict:
    """Return that no verdict could be had (fail closed, and never mistaken for denied)."""
    return Verdict("unavailable", reason=reason)


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
